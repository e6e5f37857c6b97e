"""Embeddings: OpenAI's body and list, and Gemini's. Pure.

https://platform.openai.com/docs/api-reference/embeddings and https://ai.google.dev/api/embeddings. The canonical form
has no embeddings: there is nothing to it but texts in and vectors out.
"""

import base64
import struct
from typing import Any

from gateway.wire import fields
from gateway.wire.canonical import Json
from gateway.wire.codec import Rendered, Unreadable, Unsupported, json_object
from gateway.wire.fields import Asked, Fields, InvalidRequest, encode
from gateway.wire.gemini_generate_content.fieldnames import WHOLE_MAX, a_list, a_text, a_whole, an_object, pick
from gateway.wire.gemini_generate_content.names import COLLECTIONS, model_path
from gateway.wire.usage import count

# What `batchEmbedContents` takes at once.
INPUTS_MAX = 100
CARRIED = {"input", "model", "dimensions", "encoding_format"}
ONE_CARRIED = {"model", "content", "outputDimensionality", "output_dimensionality"}


def render_request(asked: Asked, upstream_id: str) -> Rendered:
    """Return an OpenAI embeddings request as `batchEmbedContents`; raise InvalidRequest or Unsupported."""
    given = fields.value(asked.fields, "input")
    texts = given if isinstance(given, list) else [given]
    if not texts or len(texts) > INPUTS_MAX:
        raise InvalidRequest("invalid_parameter", f"input holds no text, or more than {INPUTS_MAX}.", "input")
    if not all(isinstance(text, str) for text in texts):
        raise Unsupported("input: Gemini embeds texts, not tokens. Send text.", "input")
    model = upstream_id if upstream_id.startswith(COLLECTIONS) else f"models/{upstream_id}"
    size = a_whole(fields.value(asked.fields, "dimensions"), "dimensions")
    extra = {} if size is None else {"outputDimensionality": size}
    requests = [{"model": model, "content": {"parts": [{"text": text}]}} | extra for text in texts]
    dropped = sorted(name for name in asked.fields if name not in CARRIED and fields.present(asked.fields[name]))
    return Rendered(model_path(upstream_id, "batchEmbedContents"), encode({"requests": requests}), tuple(dropped))


def render_list(data: bytes, model: str, prompt_tokens: int, *, in_base64: bool) -> bytes:
    """Return Gemini's answer as OpenAI's list; raise Unreadable.

    MODEL is the caller's name for it; PROMPT_TOKENS are an estimate for where Gemini tells none. IN_BASE64: vectors
    as base64 of little-endian 32-bit floats, which OpenAI's clients ask for.
    """
    found = json_object(data, "embeddings")
    usage = pick(found, "usageMetadata")
    told = count(pick(usage, "promptTokenCount")) if type(usage) is dict else None
    tokens = prompt_tokens if told is None else told
    vectors = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if in_base64 else vector}
        for index, vector in enumerate(_vectors(found))
    ]
    return encode(
        {
            "object": "list",
            "data": vectors,
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _vectors(found: Json) -> list[list[float]]:
    one = found.get("embedding")
    listed = [one] if one is not None else found.get("embeddings")
    if type(listed) is not list:
        raise Unreadable("sent no embeddings")
    return [_vector(each.get("values") if type(each) is dict else None) for each in listed]


def _vector(values: Any) -> list[float]:
    if type(values) is not list or not all(type(each) is float or _is_whole(each) for each in values):
        raise Unreadable("sent an embedding that is no list of numbers")
    return values


def _is_whole(found: Any) -> bool:
    return type(found) is int and abs(found) <= WHOLE_MAX


def _packed(vector: list[float]) -> str:
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (OverflowError, struct.error):
        raise Unreadable("sent an embedding that is beyond 32-bit floats") from None


def parse_request(found: Fields, model: str) -> tuple[Json, tuple[str, ...]]:
    """Return an `embedContent` or `batchEmbedContents` body as OpenAI's, and what is lost; raise InvalidRequest.

    Of a batch the first request's size is taken for all.
    """
    listed = fields.value(found, "requests")
    if listed is None:
        requests = [{name: fields.value(found, name) for name in found}]
    else:
        requests = [an_object(each, f"requests[{number}]") for number, each in enumerate(a_list(listed, "requests"))]
    if not requests:
        raise InvalidRequest("invalid_parameter", "requests is empty.", "requests")
    body: Json = {
        "model": model,
        "input": [_text_of(request, number) for number, request in enumerate(requests)],
        "encoding_format": "float",
    }
    size = a_whole(pick(requests[0], "outputDimensionality"), "outputDimensionality")
    if size is not None:
        body["dimensions"] = size
    lost = {name for request in requests for name in request if name not in ONE_CARRIED and request[name] is not None}
    return body, tuple(sorted(lost))


def _text_of(request: Json, number: int) -> str:
    path = f"requests[{number}].content"
    content = request.get("content")
    if isinstance(content, str):
        return content
    texts = []
    for part in a_list(an_object(content, path).get("parts"), f"{path}.parts"):
        piece = part if isinstance(part, str) else an_object(part, f"{path}.parts").get("text")
        if not isinstance(piece, str):
            raise InvalidRequest("unsupported_content", f"{path}.parts: only texts are embedded.", f"{path}.parts")
        texts.append(a_text(piece, path))
    if not texts:
        raise InvalidRequest("invalid_parameter", f"{path} holds no text.", path)
    return "\n".join(texts)


def render_embeddings(data: bytes, *, batch: bool) -> bytes:
    """Return OpenAI's list, with vectors as floats, as Gemini's answer; raise Unreadable."""
    listed = json_object(data, "embeddings").get("data")
    if type(listed) is not list or not listed:
        raise Unreadable("sent no embeddings")
    vectors = [{"values": _vector(each.get("embedding") if type(each) is dict else None)} for each in listed]
    return encode({"embeddings": vectors} if batch else {"embedding": vectors[0]})
