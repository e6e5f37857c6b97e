"""Requests of the Responses API that are posted to the chat's address, by callers who read the chat's answers. Pure.

Cursor does so for OpenAI's models once its base URL is overridden:
https://forum.cursor.com/t/override-openai-base-url-sends-responses-api-payload-to-chat-completions-but-expects-chat-completions-output/159298.
What a request of Responses may refer to elsewhere is not looked up here.

Invariant: this is nobody's dialect, so such a request is always translated, and never passes through.
"""

import msgspec

from gateway.wire import fields
from gateway.wire.codec import Front
from gateway.wire.fields import Asked, InvalidRequest
from gateway.wire.registry import DIALECTS

CHAT = DIALECTS["openai_chat"]
RESPONSES = DIALECTS["openai_responses"]


def read(body: bytes, model: str | None, stream: bool | None) -> Asked:
    """Return what the gateway needs to know of a request; raise InvalidRequest."""
    asked = RESPONSES.read(body, model, stream)
    if fields.value(asked.fields, "previous_response_id"):
        raise InvalidRequest(
            "unsupported_parameter",
            "previous_response_id is for POST /v1/responses; send the whole conversation here.",
            "previous_response_id",
        )
    wants_usage = CHAT.read(body, model, stream).wants_usage
    asked.fields.pop("stream_options", None)
    return msgspec.structs.replace(asked, wants_usage=wants_usage)


FRONT = Front(
    name="openai_responses_in_chat",
    envelope=CHAT.envelope,
    read=read,
    parse_request=RESPONSES.parse_request,
    render_response=CHAT.render_response,
    stream_encoder=CHAT.stream_encoder,
)
