"""What another vendor's answers left in a conversation that goes to Anthropic's dialect as bytes. Pure.

Only blocks that hold a mark are touched: a marked thought goes, a call's signature is taken out of its id. Every other
block stays byte for byte, above all Anthropic's own thoughts, whose signature covers their text.
"""

import msgspec

from gateway.wire import fields as top
from gateway.wire import marks, top_level
from gateway.wire.anthropic_messages.tables import NAME
from gateway.wire.canonical import Message, Thinking
from gateway.wire.fields import encode

RAW = msgspec.Raw
decode_list = msgspec.json.Decoder(list[RAW]).decode
THOUGHTS = {"thinking": "signature", "redacted_thinking": "data"}
IDS = {"tool_use": "id", "tool_result": "tool_use_id", "server_tool_use": "id"}


class Marked(msgspec.Struct):
    """What is looked at of a block that holds a mark."""

    type: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    tool_use_id: str = ""


decode_marked = msgspec.json.Decoder(Marked).decode


def cleaned(messages: RAW) -> tuple[RAW, list[str]]:
    """Return a request's messages without what is marked, and what that was; messages that are none stay."""
    if not marks.has_marks(bytes(messages)):
        return messages, []
    lost: list[str] = []
    try:
        kept = [_message(message, lost) for message in decode_list(messages)]
    except ValueError:
        return messages, []
    if not lost:
        return messages, []
    return RAW(encode([message for message in kept if message is not None])), sorted({*lost} - {""})


def _message(message: RAW, lost: list[str]) -> RAW | None:
    if not marks.has_marks(bytes(message)):
        return message
    fields = top.decode_fields(message)
    content = fields.get("content", RAW(b"null"))
    if not bytes(content).lstrip().startswith(b"["):
        return message
    blocks = decode_list(content)
    kept = [block for each in blocks if (block := _block(each, lost)) is not None]
    if not kept:
        return None
    return RAW(encode(fields | {"content": RAW(encode(kept))}))


def _block(block: RAW, lost: list[str]) -> RAW | None:
    data = bytes(block)
    if not marks.has_marks(data):
        return block
    try:
        found = decode_marked(data)
    except ValueError:
        return block
    field = THOUGHTS.get(found.type)
    if field is not None and getattr(found, field).startswith(marks.MARK):
        lost.append("thinking")
        return None
    field = IDS.get(found.type)
    if field is None:
        return block
    given = getattr(found, field)
    id, signature, _ = marks.unsigned_id(given)
    if id == given:
        return block
    lost.append("tool_call.signature" if signature else "")
    return RAW(top_level.replace_string(data, encode(field), encode(marks.safe_id(id))))


def begins_with_thought(messages: tuple[Message, ...]) -> bool:
    """Tell whether the assistant's turn that goes on, if one does, begins with a thought of Anthropic's own.

    With a budget Anthropic refuses every other turn. It goes on where its last words are a prefill, or calls of tools
    whose results come now; what a user says along with results begins no turn.
    """
    first: Message | None = None
    for number in range(len(messages) - 1, -1, -1):
        role = messages[number].role
        if role == "assistant":
            first = messages[number]
        elif role == "user" and (number == 0 or messages[number - 1].role != "tool"):
            break
    if first is None:
        return True
    start = first.parts[0]
    return isinstance(start, Thinking) and start.origin == NAME and bool(start.signature)
