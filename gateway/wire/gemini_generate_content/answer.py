"""Parts of an answer as a caller of Gemini's dialect gets them, whole or in a stream. Pure."""

import contextlib

from gateway.wire import marks
from gateway.wire.canonical import (
    Audio,
    Document,
    Finish,
    Image,
    Json,
    Native,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    flat_name,
)
from gateway.wire.codec import Unsupported
from gateway.wire.gemini_generate_content import media, signatures
from gateway.wire.gemini_generate_content.calls import args_of
from gateway.wire.gemini_generate_content.fieldnames import NAME

REASONS: dict[Finish, str] = {
    "stop": "STOP",
    "stop_sequence": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
    "pause": "OTHER",
    "error": "OTHER",
}


def call_id(request_id: str, choice: int, index: int) -> str:
    """Return the id of a call that its model gave none."""
    return marks.made_id(request_id, choice, index)


def is_beside(part: Part) -> bool:
    """Tell whether a part is what Gemini signed beside a thought; it belongs to the part before it."""
    return isinstance(part, Thinking) and part.origin == NAME and not part.text and not part.is_summary


def part_of(part: Part, made_id: str) -> Json | None:
    """Return a part as the caller gets it, None where there is nothing to give. MADE_ID is for a call without an id."""
    match part:
        case Text(text=text) | Refusal(text=text):
            return {"text": text} if text else None
        case Thinking():
            return _thinking(part)
        case ToolCall(id=id, name=name, namespace=namespace):
            call = {"id": id or made_id, "name": flat_name(namespace, name), "args": args_of(part)}
            return {"functionCall": call} | _signed(signatures.write(part.signature, part.origin))
        case Image() | Audio() | Document():
            return _media(part)
        case Native(origin=origin, value=value):
            return value if origin == NAME else None
        case _:
            return None


def _thinking(part: Thinking) -> Json:
    signature = signatures.write(
        part.signature, part.origin, part.id, is_summary=part.is_summary, redacted=part.redacted
    )
    if is_beside(part):
        return {"text": ""} | _signed(signature)
    return {"text": part.text, "thought": True} | _signed(signature)


def _signed(signature: str) -> Json:
    return {"thoughtSignature": signature} if signature else {}


def _media(part: Image | Audio | Document) -> Json | None:
    if part.source is not None:
        # Another vendor's file is of no use to a caller of this dialect.
        with contextlib.suppress(Unsupported):
            return media.rendered(part.source, "content")
    text = part.transcript if isinstance(part, Audio) else ""
    return {"text": text} if text else None


def parts_of(parts: tuple[Part, ...], request_id: str, choice: int) -> list[Json]:
    """Return a whole answer's parts."""
    made: list[Json] = []
    for index, part in enumerate(parts):
        found = part_of(part, call_id(request_id, choice, index))
        if found is None:
            continue
        if is_beside(part) and made and "thoughtSignature" not in made[-1] and "functionCall" not in made[-1]:
            made[-1]["thoughtSignature"] = found["thoughtSignature"]
        else:
            made.append(found)
    return made
