"""What each dialect does not carry, for the matrix: literal tables, and nothing else may change on the way.

LOSSES: canonical path of a request → the name in `Rendered.dropped`, "" where the meaning is kept in another form.
ANSWER_LOSSES: canonical paths of an answer. REFUSED: scenarios that raise Unsupported → what its `param` holds.
"""

UPSTREAM_IDS = {
    "openai_chat": "gpt-5.2",
    "openai_responses": "gpt-5.2",
    "anthropic_messages": "claude-sonnet-4-5",
    "gemini_generate_content": "gemini-3-flash",
}

LOSSES: dict[str, dict[str, str]] = {
    "openai_chat": {},
    "openai_responses": {},
    "anthropic_messages": {},
    "gemini_generate_content": {},
}

REFUSED: dict[str, dict[str, str]] = {
    "openai_chat": {},
    "openai_responses": {},
    "anthropic_messages": {},
    "gemini_generate_content": {},
}

ANSWER_LOSSES: dict[str, set[str]] = {
    "openai_chat": set(),
    "openai_responses": set(),
    "anthropic_messages": set(),
    "gemini_generate_content": set(),
}

KNOWN: dict[tuple[str, ...], str] = {}
