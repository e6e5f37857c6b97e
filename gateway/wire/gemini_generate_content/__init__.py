"""Google's `generateContent` and `streamGenerateContent`, both faces, whole and streamed. Pure.

https://ai.google.dev/api/generate-content; what an upstream is asked for is relative to the API's version, as
`https://generativelanguage.googleapis.com/v1beta`.

Invariants:

* The path says model and whether to stream, so a request that passes keeps its body; of an answer only
  `modelVersion` is the gateway's to change. Every field is read under both of its names.
* Usage is cumulative (the last one counts), and thoughts are beside the candidates' tokens.
* A signature of Gemini's own goes back byte for byte with the part that it came with; another vendor's is written as
  the base64 of its mark.
* The last chunk is the only end that a stream has, so it is what is kept back.

What is not the same after a request or an answer went through the canonical form: neighbouring texts of an answer are
one, a signature in an empty text moves onto the text before it, empty texts are gone, `Schema` is JSON schema, one
spelling is left of each field, `output` in a function's answer is `result`, and VALIDATED without names is AUTO.
"""

from gateway.wire.codec import Dialect
from gateway.wire.gemini_generate_content.encoder import Encoder
from gateway.wire.gemini_generate_content.fieldnames import NAME
from gateway.wire.gemini_generate_content.relay import StreamRelay
from gateway.wire.gemini_generate_content.rendering import render_request
from gateway.wire.gemini_generate_content.request import parse_request, passed, read
from gateway.wire.gemini_generate_content.response import (
    parse_error,
    parse_response,
    read_answer,
    renamed,
    render_response,
)
from gateway.wire.gemini_generate_content.stream import Decoder

__all__ = ["DIALECT"]

DIALECT = Dialect(
    name=NAME,
    envelope="google",
    read=read,
    passed=passed,
    read_answer=read_answer,
    renamed=renamed,
    relay=StreamRelay,
    parse_request=parse_request,
    render_response=render_response,
    stream_encoder=Encoder,
    render_request=render_request,
    parse_response=parse_response,
    stream_decoder=Decoder,
    parse_error=parse_error,
)
