"""The dialects, by the name that they have among a provider's flags.

A dialect is a package of this folder and a line here; docs/adding-a-dialect.md shows the way.
"""

from gateway.wire import anthropic_messages, gemini_generate_content, openai_chat, openai_responses
from gateway.wire.codec import Dialect

DIALECTS: dict[str, Dialect] = {
    each.name: each
    for each in (
        openai_chat.DIALECT,
        openai_responses.DIALECT,
        anthropic_messages.DIALECT,
        gemini_generate_content.DIALECT,
    )
}
