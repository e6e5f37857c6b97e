"""A whole answer of `generateContent`: as it passes through, as it is understood, and as it is made. Pure.

https://ai.google.dev/api/generate-content#GenerateContentResponse. A prompt that is refused gets no candidate but a
`promptFeedback`; here that is a choice without parts, cut by a filter, and it is rendered as such a candidate.
"""

from typing import Any

import msgspec

from gateway.wire import top_level
from gateway.wire.accumulate import fold
from gateway.wire.canonical import Choice, Json, Response, Text
from gateway.wire.codec import Answer, Reply, Said, Unreadable, json_object
from gateway.wire.events import Event
from gateway.wire.fields import decode_fields, encode
from gateway.wire.gemini_generate_content import grounding
from gateway.wire.gemini_generate_content.answer import REASONS, parts_of
from gateway.wire.gemini_generate_content.fieldnames import pick
from gateway.wire.gemini_generate_content.stream import Decoder, likelihoods
from gateway.wire.gemini_generate_content.usage import metadata_of, tokens_of

MODEL_KEY = b'"modelVersion"'


def read_answer(data: bytes) -> Answer:
    """Return what the gateway has to know of an answer that passes through; raise Unreadable."""
    found = json_object(data, "an answer")
    return Answer(usage_of(found), found.get("error") is not None)


def usage_of(found: Json, searches: int | None = None) -> Any:
    """Return the tokens of an answer or a chunk; SEARCHES where they are known from elsewhere."""
    if searches is None:
        candidates = found.get("candidates")
        listed = candidates if type(candidates) is list else []
        searches = sum(grounding.searches_of(each) for each in listed if type(each) is dict)
    return tokens_of(pick(found, "usageMetadata"), searches)


def renamed(data: bytes, model: str, cost: bytes | None) -> bytes:
    """Return an answer with the caller's name for the model where it names one, and with the cost."""
    data = top_level.replace_string(data, MODEL_KEY, encode(model))
    return with_cost(data, cost) if cost else data


def with_cost(data: bytes, cost: bytes) -> bytes:
    """Return an answer or chunk with COST, a JSON number of dollars, in its usage."""
    try:
        found = decode_fields(data)
        # One level deep: a number that Python cannot hold is no reason to fail what has been charged.
        usage = decode_fields(found.get("usageMetadata", b"{}"))
    except ValueError:
        return data
    return encode(found | {"usageMetadata": msgspec.Raw(encode(usage | {"cost": msgspec.Raw(cost)}))})


def parse_response(data: bytes) -> Response:
    """Return an upstream's answer; raise Unreadable."""
    found = json_object(data, "an answer")
    if found.get("error") is not None:
        raise Unreadable("sent an error as an answer")
    decoder = Decoder()
    events: list[Event] = []
    decoder.take(found, events)
    if not decoder.candidates:
        raise Unreadable("sent an answer with no candidate")
    for candidate in decoder.candidates.values():
        # A whole answer is over, whether it says why or not.
        candidate.finish = candidate.finish or "stop"
    return fold(events + decoder.finish())


def render_response(response: Response, reply: Reply, cost: bytes | None) -> bytes:
    """Return an answer for the caller; COST is a JSON number of dollars."""
    made: Json = {
        "candidates": [_candidate(choice, number, reply) for number, choice in enumerate(response.choices)],
    }
    if response.usage is not None:
        made["usageMetadata"] = metadata_of(response.usage)
    if cost:
        made["usageMetadata"] = made.get("usageMetadata", {}) | {"cost": msgspec.Raw(cost)}
    made["modelVersion"] = reply.model
    made["responseId"] = response.id or reply.request_id
    return encode(made)


def _candidate(choice: Choice, number: int, reply: Reply) -> Json:
    parts = parts_of(choice.parts, reply.request_id, number)
    made: Json = {"content": {"parts": parts, "role": "model"}, "finishReason": REASONS[choice.finish], "index": number}
    texts = [part for part in choice.parts if isinstance(part, Text)]
    cited: list[grounding.Cited] = []
    before = 0
    for text in texts:
        cited += [grounding.cited(each, text.text, before) for each in text.citations]
        before += grounding.bytes_count(text.text)
    if cited:
        made["groundingMetadata"] = grounding.metadata_of(cited, len(texts))
    if choice.logprobs:
        made["logprobsResult"] = likelihoods(choice.logprobs)
    return made


def parse_error(data: bytes) -> Said:
    """Return what an upstream says in Google's envelope (https://google.aip.dev/193), as far as it says anything."""
    try:
        found = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return Said()
    if type(found) is list and found:
        found = found[0]
    error = found.get("error") if type(found) is dict else None
    if type(error) is not dict:
        return Said()
    message, status = error.get("message"), error.get("status")
    return Said(
        message=message if type(message) is str else "",
        code=status if type(status) is str else "",
        param=_violated(error.get("details")),
    )


def _violated(details: Any) -> str:
    """Return the first field that an error's details name."""
    for detail in details if type(details) is list else ():
        violations = pick(detail, "fieldViolations") if type(detail) is dict else None
        for each in violations if type(violations) is list else ():
            field = each.get("field") if type(each) is dict else None
            if type(field) is str and field:
                return field
    return ""
