"""Anthropic's Messages: POST /v1/messages and /v1/messages/count_tokens. Pure.

https://docs.anthropic.com/en/api/messages, https://docs.anthropic.com/en/docs/build-with-claude/streaming.

Invariants beside those of every dialect (`gateway.wire.codec`):

* A thought of Anthropic's goes back byte for byte, text and signature, or not at all.
* A caller's stream has one block open at a time, numbered from 0, and ends in `message_delta` and `message_stop`.
* Usage is cumulative: the latest count of each field is the answer's.

Instructions go on top wherever they stood; an own message of role `system` would keep its place with the newest models
alone. `max_tokens` is chosen where the caller names none (`models`).
"""

from gateway.wire.anthropic_messages.relay import StreamRelay
from gateway.wire.anthropic_messages.rendering import render_request
from gateway.wire.anthropic_messages.request import (
    parse_request,
    passed,
    read,
)
from gateway.wire.anthropic_messages.response import (
    parse_error,
    parse_response,
    read_answer,
    renamed,
    render_response,
)
from gateway.wire.anthropic_messages.stream import Decoder, Encoder
from gateway.wire.anthropic_messages.tables import NAME
from gateway.wire.codec import Dialect

__all__ = ["DIALECT"]
DIALECT = Dialect(
    name=NAME,
    envelope="anthropic",
    read=read,
    passed=passed,
    unmarks=True,
    read_answer=read_answer,
    renamed=renamed,
    relay=lambda _asked, reply: StreamRelay(reply),
    parse_request=parse_request,
    render_response=render_response,
    stream_encoder=Encoder,
    render_request=render_request,
    parse_response=parse_response,
    stream_decoder=Decoder,
    parse_error=parse_error,
)
