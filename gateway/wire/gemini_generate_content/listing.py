"""Models and counts of tokens as Gemini's clients read them. Pure.

https://ai.google.dev/api/models and https://ai.google.dev/api/tokens.
"""

import msgspec

from gateway.wire import fields
from gateway.wire.canonical import Json
from gateway.wire.codec import json_object
from gateway.wire.fields import Asked, InvalidRequest, encode
from gateway.wire.gemini_generate_content.fieldnames import pick, snake
from gateway.wire.gemini_generate_content.request import read
from gateway.wire.usage import count

GENERATION_METHODS = ("generateContent", "streamGenerateContent", "countTokens")
EMBEDDING_METHODS = ("embedContent", "batchEmbedContents", "countTokens")
INNER = "generateContentRequest"


class Model(msgspec.Struct, frozen=True):
    """A model as a caller sees it; limits are in tokens, None where nobody knows them."""

    name: str
    display_name: str = ""
    input_token_limit: int | None = None
    output_token_limit: int | None = None
    embeds: bool = False


def model(entry: Model) -> Json:
    """Return one model, as `GET /v1beta/models/{model}` answers it."""
    methods = EMBEDDING_METHODS if entry.embeds else GENERATION_METHODS
    made: Json = {
        "name": f"models/{entry.name}",
        "displayName": entry.display_name or entry.name,
        "inputTokenLimit": entry.input_token_limit,
        "outputTokenLimit": entry.output_token_limit,
        "supportedGenerationMethods": methods,
    }
    return {name: value for name, value in made.items() if value is not None}


def models(entries: list[Model]) -> Json:
    """Return all models, as `GET /v1beta/models` answers them."""
    return {"models": [model(entry) for entry in entries]}


def read_count(body: bytes, name: str) -> Asked:
    """Return what a `countTokens` request asks to be counted; raise InvalidRequest.

    It holds contents, or a whole request of `generateContent`, never both.
    """
    found = fields.read(body)
    inner = found.get(INNER) or found.get(snake(INNER))
    if inner is None or not fields.present(inner):
        return read(body, name, False)
    if "contents" in found:
        raise InvalidRequest("invalid_parameter", f"contents and {INNER} exclude each other.", INNER)
    return read(bytes(inner), name, False)


def count_answer(tokens: int) -> bytes:
    """Return the answer of `countTokens`."""
    return encode({"totalTokens": tokens})


def counted(data: bytes) -> int | None:
    """Return how many tokens an upstream's `countTokens` answers, None where it tells none; raise Unreadable."""
    return count(pick(json_object(data, "a count"), "totalTokens"))
