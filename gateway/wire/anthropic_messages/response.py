"""A whole answer: read, renamed, parsed, and made for a caller; and an upstream's refusal. Pure.

https://docs.anthropic.com/en/api/messages. An answer is parsed as the stream that would have made it, so that both are
the same.
"""

from typing import Any

import msgspec

from gateway.wire import marks, top_level
from gateway.wire.accumulate import fold
from gateway.wire.anthropic_messages.blocks import input_of
from gateway.wire.anthropic_messages.stream import Decoder
from gateway.wire.anthropic_messages.tables import NAME, stop_reason
from gateway.wire.anthropic_messages.usage import parse_usage, render_usage
from gateway.wire.anthropic_messages.words import citation_block, said_as_text, thought
from gateway.wire.canonical import Choice, Json, Native, Part, Refusal, Response, Text, Thinking, ToolCall, flat_name
from gateway.wire.codec import Answer, Reply, Said, Unreadable, json_object
from gateway.wire.fields import NULLS, decode_fields, encode


class Seen(msgspec.Struct):
    """What is looked at of an answer that passes through."""

    type: Any = None
    usage: Any = None
    error: msgspec.Raw = msgspec.Raw(b"")


decode_seen = msgspec.json.Decoder(Seen).decode


def read_answer(body: bytes) -> Answer:
    """Return what the gateway has to know of an answer; raise Unreadable."""
    try:
        seen = decode_seen(body)
    except (ValueError, RecursionError):
        raise Unreadable("sent an answer that is no JSON object") from None
    return Answer(parse_usage(seen.usage), seen.type == "error" or bytes(seen.error) not in NULLS)


def renamed(body: bytes, model: str, cost: bytes | None) -> bytes:
    """Return an answer with the caller's name for the model, and with COST in its usage; every other byte stays."""
    body = top_level.replace_string(body, b'"model"', encode(model))
    return body if cost is None else with_cost(body, cost)


def with_cost(data: bytes, cost: bytes) -> bytes:
    """Return an answer or event with COST, a JSON number of dollars, in its usage."""
    try:
        fields = decode_fields(data)
        usage = decode_fields(fields.get("usage", b""))
    except ValueError:
        return data
    return encode(fields | {"usage": msgspec.Raw(encode(usage | {"cost": msgspec.Raw(cost)}))})


def parse_response(body: bytes) -> Response:
    """Return an answer; raise Unreadable."""
    message = json_object(body, "an answer")
    if message.get("type") == "error" or message.get("error") is not None:
        raise Unreadable("sent an error as its answer")
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise Unreadable("sent an answer without content")
    decoder = Decoder()
    events = decoder.take({"type": "message_start", "message": message})
    for number, block in enumerate(content):
        events += decoder.take({"type": "content_block_start", "index": number, "content_block": block})
    delta = {"stop_reason": message.get("stop_reason") or "end_turn", "stop_sequence": message.get("stop_sequence")}
    events += decoder.take({"type": "message_delta", "delta": delta})
    return fold(events)


def render_response(response: Response, reply: Reply, cost: bytes | None) -> bytes:
    """Return an answer as Anthropic's clients read it."""
    choice = response.choices[0] if response.choices else Choice(())
    refused = any(isinstance(part, Refusal) for part in choice.parts)
    called = any(isinstance(part, ToolCall) for part in choice.parts)
    usage = render_usage(response.usage)
    if cost is not None:
        usage["cost"] = msgspec.Raw(cost)
    return encode(
        {
            "id": f"msg_{reply.request_id}",
            "type": "message",
            "role": "assistant",
            "model": reply.model,
            "content": [
                block
                for number, part in enumerate(choice.parts)
                if (block := _block(part, reply.request_id, number)) is not None
            ],
            "stop_reason": stop_reason(choice.finish, refused=refused, called=called),
            "stop_sequence": choice.stop_sequence or None,
            "usage": usage,
        }
    )


def _block(part: Part, request_id: str, number: int) -> Json | None:
    match part:
        case Text():
            block: Json = {"type": "text", "text": part.text}
            citations = [citation_block(each) for each in part.citations if each.url]
            return block | ({"citations": citations} if citations else {}) if part.text else None
        case Thinking():
            return thought(part)
        case ToolCall():
            id = part.id or marks.made_id(request_id, number)
            return {
                "type": "tool_use",
                "id": marks.signed_id(id, part.signature, part.origin),
                "name": flat_name(part.namespace, part.name),
                "input": input_of(part.arguments, custom=part.custom),
            }
        case Native():
            return part.value if part.origin == NAME else None
        case _:
            text = said_as_text(part)
            return {"type": "text", "text": text} if text else None


def parse_error(body: bytes) -> Said:
    """Return what an upstream says of a request that it refuses, in whatever way it says it."""
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return Said()
    if not isinstance(found, dict):
        return Said()
    error = found.get("error")
    if isinstance(error, str):
        return Said(error)
    held = error if isinstance(error, dict) else found
    message, code, param = (held.get(name) for name in ("message", "type", "param"))
    return Said(*(each if isinstance(each, str) else "" for each in (message, code, param)))
