"""OpenAI's Responses (`POST /v1/responses`), facing callers and facing upstreams. Pure.

https://platform.openai.com/docs/api-reference/responses and, for streams, …/responses-streaming.

Invariants:

* Usage is latest-wins: the event that ends a stream has the whole answer's. Input holds what was cached, output what
  was thought.
* A response that is made here has ids that begin with its kind and end with the request's id and the item's index.
* What a vendor of another dialect signed stands behind a mark in a reasoning item's `encrypted_content` or in a call's
  id; what this one sealed is passed on as it came.
"""

from gateway.wire.codec import Dialect
from gateway.wire.openai_responses.decoder import Decoder
from gateway.wire.openai_responses.encoder import Encoder
from gateway.wire.openai_responses.items import NAME
from gateway.wire.openai_responses.mending import mended
from gateway.wire.openai_responses.relay import relay
from gateway.wire.openai_responses.request import parse_request, passed, read, render_request
from gateway.wire.openai_responses.response import parse_error, parse_response, read_answer, renamed, render_response

__all__ = ["DIALECT"]

DIALECT = Dialect(
    name=NAME,
    envelope="openai",
    read=read,
    passed=passed,
    read_answer=read_answer,
    renamed=renamed,
    relay=relay,
    mended=mended,
    parse_request=parse_request,
    render_response=render_response,
    stream_encoder=Encoder,
    repeats=True,
    render_request=render_request,
    parse_response=parse_response,
    stream_decoder=Decoder,
    parse_error=parse_error,
)
