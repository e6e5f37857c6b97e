"""Whole answers of OpenAI's chat format, as they pass through and as canonical ones. Pure.

https://platform.openai.com/docs/api-reference/chat/object. What upstreams do otherwise is mended as it is in streams:
tool arguments as objects, ids that are missing, reasoning under three names or in `<think>` tags, `stop` after calls.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gateway.wire import codec, marks, top_level
from gateway.wire.canonical import (
    Audio,
    Choice,
    FileId,
    Finish,
    Image,
    Inline,
    Json,
    Logprob,
    Part,
    Refusal,
    Response,
    Text,
    Thinking,
    ToolCall,
    as_input,
    custom_names,
    flat_name,
)
from gateway.wire.codec import Reply, Said, Unreadable, json_object
from gateway.wire.fields import InvalidRequest, encode, present
from gateway.wire.openai_chat import usage as usages
from gateway.wire.openai_chat.assistant import (
    annotation,
    beside,
    calls_of,
    citations_of,
    detail,
    signed_call,
    thoughts,
    written_call,
)
from gateway.wire.openai_chat.parts import pieces_of, write_image
from gateway.wire.openai_chat.relay import with_cost
from gateway.wire.openai_chat.tables import FINISHES, NAME, NO_REASONS, REASONS
from gateway.wire.usage import Tokens

OPEN, CLOSE = "<think>", "</think>"
# Before the tag.
SPACE_MAX = 64
SAID_CHARS_MAX = 2_000


# --- What passes through --------------------------------------------------------------------------------------------
class Answer(msgspec.Struct):
    """The parts of a JSON answer that the gateway reads."""

    usage: msgspec.Raw = msgspec.Raw(b"")
    service_tier: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


decode_answer = msgspec.json.Decoder(Answer).decode


def read_answer(data: bytes) -> codec.Answer:
    """Return what the gateway has to know of an answer; raise Unreadable."""
    try:
        if not data.isascii():
            data.decode()
        found = decode_answer(data)
    except (ValueError, RecursionError):
        raise Unreadable("sent an answer that is no JSON") from None
    tokens = usages.parse(bytes(found.usage), bytes(found.service_tier)) if present(found.usage) else None
    return codec.Answer(tokens, is_error=present(found.error))


def rename(data: bytes, model: bytes) -> bytes:
    """Return a JSON answer with `model` (a JSON string) as its model; every other byte stays."""
    return top_level.replace_string(data, b'"model"', model)


def renamed(data: bytes, model: str, cost: bytes | None) -> bytes:
    """Return a JSON answer with the caller's name for the model, and with its cost if there is one to show."""
    body = rename(data, encode(model))
    return body if cost is None else with_cost(body, cost)


# --- Read -----------------------------------------------------------------------------------------------------------
def parse_response(data: bytes) -> Response:
    """Return an upstream's answer; raise Unreadable."""
    found = json_object(data, "an answer")
    choices = found.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise Unreadable("sent an answer without a list of choices")
    id, model, created = (found.get(name) for name in ("id", "model", "created"))
    id = id if isinstance(id, str) else ""
    try:
        read = [(_number(choice, at), _choice(choice, id)) for at, choice in enumerate(choices)]
    except InvalidRequest as error:
        raise Unreadable(f"sent an answer that cannot be read: {error}") from None
    return Response(
        id,
        model if isinstance(model, str) else "",
        tuple(choice for _, choice in sorted(read, key=lambda each: each[0])),
        tokens_of(found),
        created if type(created) is int else 0,
    )


def _number(choice: Json, at: int) -> int:
    index = choice.get("index")
    return index if type(index) is int else at


def tokens_of(found: Json) -> Tokens | None:
    """Return the usage that an answer or a chunk holds; Groq's once stood in a field of its own."""
    counted = found.get("usage")
    if counted is None and isinstance(groq := found.get("x_groq"), dict):
        counted = groq.get("usage")
    if not isinstance(counted, dict):
        return None
    return usages.parse(encode(counted), encode(found.get("service_tier")))


def _choice(choice: Json, base: str) -> Choice:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise InvalidRequest("invalid_parameter", "a choice has no message")
    parts: list[Part] = list(thoughts(message, marked=False))
    parts += spoken(message, tagged=not parts)
    parts += beside(message, "message")
    calls = list(calls_of(message, base, "message", marked=False))
    refused = any(isinstance(part, Refusal) for part in parts)
    reason = choice.get("stop_reason")
    finish = finish_of(choice.get("finish_reason"), called=bool(calls), refused=refused, sequence=reason)
    return Choice((*parts, *calls), finish[0], finish[1], tuple(logprobs_of(choice.get("logprobs"))))


def spoken(message: Json, *, tagged: bool) -> list[Part]:
    """Return a message's text with what it cites; TAGGED: it may begin with a thought in tags."""
    parts: list[Part] = []
    for is_thought, said in pieces_of(message.get("content")):
        thought, text = untagged(said) if tagged and not is_thought and not parts else ("", said)
        _append(parts, Thinking, thought)
        _append(parts, Thinking if is_thought else Text, text)
    cited = tuple(citations_of(message.get("annotations")))
    if cited:
        for at in reversed(range(len(parts))):
            if isinstance(part := parts[at], Text):
                parts[at] = Text(part.text, cited)
                break
    return parts


def _append(parts: list[Part], kind: type[Text] | type[Thinking], text: str) -> None:
    if not text:
        return
    last = parts[-1] if parts else None
    if isinstance(last, Text | Thinking) and type(last) is kind:
        parts[-1] = kind(last.text + text)
    else:
        parts.append(kind(text))


def untagged(text: str) -> tuple[str, str]:
    """Return (thought, answer) of a text that begins with a thought in tags, ("", text) of any other."""
    bare = text.lstrip()
    if not bare.startswith(OPEN) or len(text) - len(bare) > SPACE_MAX:
        return "", text
    thought, closed, answer = bare[len(OPEN) :].partition(CLOSE)
    return thought.lstrip(), answer.lstrip() if closed else ""


def finish_of(reason: Any, *, called: bool, refused: bool, sequence: Any = None) -> tuple[Finish, str]:
    """Return why an answer ended, and the stop sequence that ended it where it is told."""
    finish = FINISHES.get(reason.lower(), "stop") if isinstance(reason, str) else "stop"
    if finish == "stop":
        if called:
            return "tool_calls", ""
        if refused:
            return "refusal", ""
        if isinstance(sequence, str) and sequence and reason not in NO_REASONS:
            return "stop_sequence", sequence
    return finish, ""


def logprobs_of(found: Any) -> Iterator[Logprob]:
    """Yield how likely an answer's tokens were."""
    for name in ("content", "refusal"):
        listed = found.get(name) if isinstance(found, dict) else None
        for each in listed if isinstance(listed, list) else ():
            if (read := _logprob(each)) is not None:
                yield read


def _logprob(found: Any, *, nested: bool = False) -> Logprob | None:
    if not isinstance(found, dict) or not isinstance(found.get("token"), str):
        return None
    likely, units, top = (found.get(name) for name in ("logprob", "bytes", "top_logprobs"))
    if not isinstance(likely, int | float):
        return None
    others = [] if nested or not isinstance(top, list) else [_logprob(each, nested=True) for each in top]
    whole = isinstance(units, list) and all(type(unit) is int for unit in units)
    return Logprob(
        found["token"],
        float(likely),
        tuple(units) if whole and units is not None else None,
        tuple(each for each in others if each is not None),
    )


def parse_error(body: bytes) -> Said:
    """Return what an upstream says of a request that it refuses."""
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return Said()
    if isinstance(found, list) and found:
        # Google's endpoint of this format.
        found = found[0]
    error = found.get("error", found) if isinstance(found, dict) else None
    if isinstance(error, str):
        return Said(error[:SAID_CHARS_MAX])
    if not isinstance(error, dict):
        return Said()
    message, code, kind, param = (
        text[:SAID_CHARS_MAX] if isinstance(text := error.get(name), str) else ""
        for name in ("message", "code", "type", "param")
    )
    return Said(message, code or kind, param)


# --- Written --------------------------------------------------------------------------------------------------------
def render_response(response: Response, reply: Reply, cost: bytes | None) -> bytes:
    """Return an answer for a caller; COST is a JSON number of dollars."""
    body: Json = {
        "id": response.id or f"chatcmpl-{reply.request_id}",
        "object": "chat.completion",
        "created": response.created or reply.created,
        "model": reply.model,
        "choices": [_written(choice, number, reply) for number, choice in enumerate(response.choices)],
    }
    if response.usage is not None:
        body |= write_usage(response.usage, cost)
    return encode(body)


def write_usage(tokens: Tokens, cost: bytes | None) -> Json:
    """Return the fields of an answer that say what it used."""
    counted = usages.render(tokens)
    if cost is not None:
        counted["cost"] = msgspec.Raw(cost)
    return {"usage": counted} | ({"service_tier": tokens.service_tier} if tokens.service_tier else {})


def _written(choice: Choice, number: int, reply: Reply) -> Json:
    written: Json = {
        "index": number,
        "message": _message(choice.parts, number, reply),
        "logprobs": {"content": [write_logprob(each) for each in choice.logprobs]} if choice.logprobs else None,
    }
    refused = any(isinstance(part, Refusal) for part in choice.parts)
    return written | ending(choice.finish, choice.stop_sequence, refused=refused)


def ending(finish: Finish, stop_sequence: str, *, refused: bool) -> Json:
    """Return the fields of a choice that say why it ended; `stop_reason` is vLLM's."""
    reason = "stop" if finish == "refusal" and refused else REASONS[finish]
    return {"finish_reason": reason} | ({"stop_reason": stop_sequence} if stop_sequence else {})


def _message(parts: Sequence[Part], choice: int, reply: Reply) -> Json:
    texts = [part for part in parts if isinstance(part, Text)]
    thinking = [part for part in parts if isinstance(part, Thinking)]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    images = [part for part in parts if isinstance(part, Image) and not isinstance(part.source, FileId)]
    refusals = [part.text for part in parts if isinstance(part, Refusal)]
    sounds = [part for part in parts if isinstance(part, Audio)]
    message: Json = {
        "role": "assistant",
        "content": "".join(text.text for text in texts) if texts or len(parts) == len(thinking) else None,
        "refusal": "".join(refusals) or None,
    }
    if thinking:
        message["reasoning_content"] = "\n\n".join(thought.text for thought in thinking if thought.text)
        message["reasoning_details"] = [detail(thought, number) for number, thought in enumerate(thinking)]
    if annotations := list(_annotations(texts)):
        message["annotations"] = annotations
    if images:
        message["images"] = [write_image(image, "images") | {"index": number} for number, image in enumerate(images)]
    for sound in sounds:
        message["audio"] = write_audio(sound)
    if calls:
        custom = custom_names(reply.tools)
        message["tool_calls"] = [
            write_call(call, custom, marks.made_id(reply.request_id, choice, number))
            for number, call in enumerate(calls)
        ]
    return message


def _annotations(texts: Sequence[Text]) -> Iterator[Json]:
    offset = 0
    for text in texts:
        for citation in text.citations:
            yield annotation(citation, offset, len(text.text))
        offset += len(text.text)


def write_call(call: ToolCall, custom: frozenset[str], made_id: str) -> Json:
    """Return a call for a caller, with another vendor's signature in its id; MADE_ID is for one without."""
    name = flat_name(call.namespace, call.name)
    id, more = call.id or made_id, {}
    if call.signature and call.origin == NAME:
        more = signed_call(call.signature)
    elif call.signature:
        id = marks.signed_id(id, call.signature, call.origin)
    is_custom = call.custom or name in custom
    text = as_input(call.arguments) if is_custom and not call.custom else call.arguments
    return written_call(id, name, text, custom=is_custom) | more


def write_audio(sound: Audio) -> Json:
    """Return what was spoken; it is not kept here to be named again, so it has expired already."""
    data = sound.source.data if isinstance(sound.source, Inline) else ""
    return {"id": sound.id, "data": data, "transcript": sound.transcript, "expires_at": 0}


def write_logprob(likely: Logprob, *, nested: bool = False) -> Json:
    """Return how likely a token was."""
    written: Json = {"token": likely.token, "logprob": likely.logprob, "bytes": likely.bytes}
    return written if nested else written | {"top_logprobs": [write_logprob(each, nested=True) for each in likely.top]}
