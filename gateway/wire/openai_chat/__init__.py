"""OpenAI's chat completions, which most upstreams speak and every one differently.

https://platform.openai.com/docs/api-reference/chat. What passes through is read one level deep (`request`, `relay`, the
beginning of `response`). What is translated goes through the canonical form: `parsed` and `rendered` are requests in
and out, `response` whole answers, `decoder` and `encoder` streams, `usage` counts; `parts` and `assistant` are what
these share, `tables` the words.

Invariants: what one upstream writes and another does not is read by what stands there, never by the vendor's name; what
is written to an upstream on behalf of another dialect's caller is what every upstream of this format knows.

Normalised on a way through the canonical form: `developer` to `system`; old names to those that took their place, and
every way to ask for reasoning to `reasoning_effort`; a list of texts to one text; messages of one speaker to one
message; `response_format: text`, `n: 1` and empty values to nothing; `safety_identifier` to `user`.
"""

from gateway.wire.codec import Decoder as AnyDecoder
from gateway.wire.codec import Dialect, Encoder, Relay, Reply
from gateway.wire.fields import MODEL_CHARS_MAX, Asked, Fields, InvalidRequest, encode, present
from gateway.wire.openai_chat import encoder, parsed, rendered
from gateway.wire.openai_chat.decoder import Decoder
from gateway.wire.openai_chat.relay import BYTES_PER_TOKEN, DONE, StreamRelay, cut_short, with_cost
from gateway.wire.openai_chat.rendered import LIMIT, with_limit_named
from gateway.wire.openai_chat.request import body_of as render_request
from gateway.wire.openai_chat.request import passed, texts
from gateway.wire.openai_chat.request import read_request as parse_request
from gateway.wire.openai_chat.response import (
    Answer,
    decode_answer,
    parse_error,
    parse_response,
    read_answer,
    rename,
    renamed,
    render_response,
)
from gateway.wire.openai_chat.tables import NAME, PATH
from gateway.wire.openai_chat.usage import parse as parse_usage

__all__ = [
    "BYTES_PER_TOKEN",
    "DIALECT",
    "DONE",
    "LIMIT",
    "MODEL_CHARS_MAX",
    "NAME",
    "PATH",
    "Answer",
    "Fields",
    "InvalidRequest",
    "Request",
    "StreamRelay",
    "cut_short",
    "decode_answer",
    "encode",
    "parse_request",
    "parse_usage",
    "present",
    "rename",
    "render_request",
    "texts",
    "with_cost",
    "with_limit_named",
]

# What passes through has these names; the contract's are in DIALECT.
Request = Asked


def _relay(_asked: Asked, reply: Reply) -> Relay:
    return StreamRelay(
        reply.model,
        wants_usage=reply.wants_usage,
        wants_cost=reply.wants_cost,
        request_id=reply.request_id,
        created=reply.created,
    )


def _stream_encoder(reply: Reply) -> Encoder:
    return encoder.Encoder(reply)


def _stream_decoder() -> AnyDecoder:
    return Decoder()


DIALECT = Dialect(
    name=NAME,
    envelope="openai",
    read=parse_request,
    passed=passed,
    read_answer=read_answer,
    renamed=renamed,
    relay=_relay,
    parse_request=parsed.parse_request,
    render_response=render_response,
    stream_encoder=_stream_encoder,
    render_request=rendered.render_request,
    parse_response=parse_response,
    stream_decoder=_stream_decoder,
    parse_error=parse_error,
)
