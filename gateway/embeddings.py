"""Embeddings: how vectors are asked for at an upstream of one kind, and told to callers of another. Pure.

There is nothing to them but texts in and vectors out, so they have no canonical form: each of OpenAI's endpoint and
Gemini's two has a line for each kind of upstream. An answer is made of no tokens; where no upstream counts the input
(Gemini's batch does not) it is estimated.

https://platform.openai.com/docs/api-reference/embeddings and https://ai.google.dev/api/embeddings
"""

import functools

import msgspec

from gateway.calls import Route, Way
from gateway.wire import fields, openai_chat
from gateway.wire.codec import Answer, Rendered, json_object
from gateway.wire.fields import Asked, InvalidRequest, encode
from gateway.wire.gemini_generate_content import embeddings as gemini
from gateway.wire.gemini_generate_content.names import COLLECTIONS, model_path
from gateway.wire.gemini_generate_content.usage import tokens_of
from gateway.wire.registry import DIALECTS

PATH = "/v1/embeddings"
ONE, MANY = "embedContent", "batchEmbedContents"
CHAT, GEMINI = DIALECTS["openai_chat"], DIALECTS["gemini_generate_content"]


# --- Asked by OpenAI's callers ----------------------------------------------------------------------------------------
def _passed(asked: Asked, upstream_id: str) -> Rendered:
    return msgspec.structs.replace(CHAT.passed(asked, upstream_id, None), path=PATH)


def _renamed(data: bytes, asked: Asked, _input_tokens: int, cost: bytes | None) -> bytes:
    return CHAT.renamed(data, asked.model, cost)


def _listed(data: bytes, asked: Asked, input_tokens: int, cost: bytes | None) -> bytes:
    in_base64 = fields.value(asked.fields, "encoding_format") == "base64"
    listed = gemini.render_list(data, asked.model, input_tokens, in_base64=in_base64)
    return listed if cost is None else openai_chat.with_cost(listed, cost)


def _read_gemini(data: bytes) -> Answer:
    found = json_object(data, "embeddings")
    return Answer(tokens_of(found.get("usageMetadata")), is_error="error" in found)


# --- Asked by Gemini's callers ----------------------------------------------------------------------------------------
def _own(verb: str, asked: Asked, upstream_id: str) -> Rendered:
    """Return a Gemini caller's own request with the upstream's name for the model, which Google wants repeated."""
    model = upstream_id if upstream_id.startswith(COLLECTIONS) else f"models/{upstream_id}"
    if verb == ONE:
        body = encode(asked.fields | {"model": msgspec.Raw(encode(model))})
    else:
        requests = fields.value(asked.fields, "requests")
        if not isinstance(requests, list) or not all(isinstance(each, dict) for each in requests):
            raise InvalidRequest("invalid_parameter", "requests is no list of objects.", "requests")
        named = [each | {"model": model} for each in requests]
        body = encode(asked.fields | {"requests": msgspec.Raw(encode(named))})
    return Rendered(model_path(upstream_id, verb), body)


def _asked_of_openai(asked: Asked, upstream_id: str) -> Rendered:
    body, lost = gemini.parse_request(asked.fields, upstream_id)
    return Rendered(PATH, encode(body), lost)


def _as_it_is(data: bytes, _asked: Asked, _input_tokens: int, _cost: bytes | None) -> bytes:
    return data


def _vectors(verb: str, data: bytes, _asked: Asked, _input_tokens: int, _cost: bytes | None) -> bytes:
    return gemini.render_embeddings(data, batch=verb == MANY)


def _gemini_route(verb: str) -> Route:
    ways = {
        GEMINI.name: Way(functools.partial(_own, verb), _read_gemini, _as_it_is, passes=True),
        CHAT.name: Way(_asked_of_openai, CHAT.read_answer, functools.partial(_vectors, verb)),
    }
    return Route("gemini_embeddings", GEMINI, ways)


OPENAI_ROUTE = Route(
    "openai_embeddings",
    CHAT,
    {
        CHAT.name: Way(_passed, CHAT.read_answer, _renamed, passes=True),
        GEMINI.name: Way(gemini.render_request, _read_gemini, _listed),
    },
)
GEMINI_ROUTES = {verb: _gemini_route(verb) for verb in (ONE, MANY)}
