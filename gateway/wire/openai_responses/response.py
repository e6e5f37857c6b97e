"""Whole answers of this dialect. Pure.

https://platform.openai.com/docs/api-reference/responses/object

What a round trip through the canonical form changes: thoughts without text or signature are left out; of annotations
those that cite an address or a file stay; neighbouring messages become one.
"""

from collections.abc import Set

import msgspec

from gateway.wire import top_level
from gateway.wire.accumulate import unfold
from gateway.wire.canonical import Choice, Finish, Json, Part, Refusal, Response, ToolCall
from gateway.wire.codec import Answer, Reply, Said, Unreadable, json_object
from gateway.wire.fields import decode_fields, encode, present
from gateway.wire.openai_responses import usage
from gateway.wire.openai_responses.encoder import Encoder
from gateway.wire.openai_responses.items import item_logprobs, list_of, pieces, text_of
from gateway.wire.usage import Tokens

# Why an answer is incomplete; whatever else a vendor names, it could have gone on.
INCOMPLETE: dict[str, Finish] = {"max_output_tokens": "length", "content_filter": "content_filter"}


# --- What passes --------------------------------------------------------------------------------------------------
class Read(msgspec.Struct):
    """The parts of an answer that the gateway reads; `output` only where searches are counted in it."""

    usage: msgspec.Raw = msgspec.Raw(b"")
    service_tier: msgspec.Raw = msgspec.Raw(b"")
    tool_usage: msgspec.Raw = msgspec.Raw(b"")
    output: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


decode_read = msgspec.json.Decoder(Read).decode
SEARCH = b"web_search_call"


def tokens_in(data: bytes) -> tuple[Tokens | None, Read]:
    """Return the usage of a response object's JSON, and what was read of it; raise Unreadable."""
    try:
        found = decode_read(data)
        told = {name: msgspec.json.decode(raw) for name in SHALLOW if (raw := getattr(found, name))}
        if SEARCH in data and found.output:
            told["output"] = msgspec.json.decode(found.output)
    except (ValueError, RecursionError):
        raise Unreadable("sent an answer that is no JSON object") from None
    return usage.parse(told), found


SHALLOW = ("usage", "service_tier", "tool_usage")


def read_answer(data: bytes) -> Answer:
    """Return what the gateway has to know of a whole answer that passes; raise Unreadable."""
    tokens, found = tokens_in(data)
    return Answer(tokens, is_error=present(found.error))


def renamed(data: bytes, model: str, cost: bytes | None) -> bytes:
    """Return a whole answer with the caller's name for the model, and COST in its usage if there is one to show."""
    data = top_level.replace_string(data, b'"model"', encode(model))
    return data if cost is None else with_cost(data, cost)


def with_cost(data: bytes, cost: bytes) -> bytes:
    """Return a response object's JSON with COST, a JSON number of dollars, in its usage."""
    try:
        # One level deep: a number that Python cannot hold is no reason to fail what has been charged.
        told = decode_fields(data)
        inner = decode_fields(told.get("usage", b""))
    except (ValueError, RecursionError):
        return data
    return encode(told | {"usage": msgspec.Raw(encode(inner | {"cost": msgspec.Raw(cost)}))})


# --- Facing the upstream ------------------------------------------------------------------------------------------
def parse_response(data: bytes) -> Response:
    """Return a whole answer in canonical form; raise Unreadable."""
    told = json_object(data, "an answer")
    output = list_of(told.get("output"))
    parts = tuple(part for item in output for _, part in pieces(item))
    likely = tuple(each for item in output for each in item_logprobs(item))
    return Response(
        id=text_of(told.get("id")),
        model=text_of(told.get("model")),
        choices=(Choice(parts, finish(told, {type(part) for part in parts}), logprobs=likely),),
        usage=usage.parse(told),
        created=created(told),
    )


def created(told: Json) -> int:
    """Return when a response object was made, in seconds since 1970; some write a fraction."""
    number = told.get("created_at")
    return int(number) if isinstance(number, int | float) and abs(number) < 2**53 else 0


def finish(told: Json, kinds: Set[type[Part]]) -> Finish:
    """Return why an answer ended, by its response object and the kinds of its parts."""
    status = told.get("status")
    if status == "incomplete":
        details = told.get("incomplete_details")
        return INCOMPLETE.get(text_of(details.get("reason")) if type(details) is dict else "", "pause")
    if status in ("failed", "cancelled"):
        return "error"
    return "tool_calls" if ToolCall in kinds else "refusal" if Refusal in kinds else "stop"


def parse_error(data: bytes) -> Said:
    """Return what an upstream says of a request that it refuses, or of a stream that it broke off."""
    try:
        told = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return Said()
    if type(told) is not dict:
        return Said()
    inner = told.get("error")
    if type(inner) is str:
        return Said(message=inner)
    source = inner if type(inner) is dict else told
    message = text_of(source.get("message")) or text_of(source.get("detail"))
    code = source.get("code")
    kind = text_of(source.get("type"))
    # A number is a status, which says less than the kind.
    said = code if type(code) is str and code else kind if kind != "error" else ""
    return Said(message, said, text_of(source.get("param")))


# --- Facing the client --------------------------------------------------------------------------------------------
def render_response(response: Response, reply: Reply, cost: bytes | None) -> bytes:
    """Return a whole answer for a caller: what a stream of it would end with."""
    encoder = Encoder(reply)
    encoder.encode(list(unfold(response)))
    return encode(encoder.response(cost))
