"""A caller's `contents` and `systemInstruction` as messages. Pure.

Signatures: a Thinking without text carries what Gemini signed beside a thought, right after the part that it came
with. An empty text without a signature says nothing and is left out.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.wire.canonical import (
    Json,
    Message,
    Native,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    alternate,
    by_role,
)
from gateway.wire.fields import InvalidRequest, encode
from gateway.wire.gemini_generate_content import media, signatures
from gateway.wire.gemini_generate_content.calls import Calls
from gateway.wire.gemini_generate_content.fieldnames import (
    NAME,
    a_flag,
    a_list,
    a_text,
    an_object,
    camel,
    pick,
)

replace = msgspec.structs.replace
USER_ROLES = ("user", "function", "")
# What may stand in a part beside what the part is.
BESIDE = {"thought", "thoughtSignature", "videoMetadata", "mediaResolution", "partMetadata"}


def messages(contents: Any) -> Iterator[Message]:
    """Yield the messages of `contents`, not yet in normal form; raise InvalidRequest."""
    calls = Calls()
    for number, found in enumerate(a_list(contents, "contents")):
        path = f"contents[{number}]"
        if isinstance(found, str):
            yield Message("user", (Text(found),))
            continue
        content = an_object(found, path)
        if "parts" not in content and "role" not in content:
            # One part instead of a content that holds it, as SDKs take it.
            content = {"parts": [content]}
        role = a_text(content.get("role"), f"{path}.role")
        parts = _parts(content, path, calls)
        if role in USER_ROLES:
            yield from by_role(parts)
        elif role == "model":
            yield Message("assistant", tuple(parts))
        elif role == "system":
            yield Message("system", tuple(part for part in parts if isinstance(part, Text)))
        else:
            raise InvalidRequest("invalid_parameter", f"{path}.role is neither user nor model.", f"{path}.role")


def conversation(system: Any, contents: Any) -> tuple[Message, ...]:
    """Return all messages in normal form; raise InvalidRequest."""
    found = alternate([*_instructions(system), *messages(contents)])
    # Neighbours are joined by now: a client that streams keeps a content for each chunk.
    return tuple(
        replace(message, parts=tuple(_joined(message.parts))) if message.role == "assistant" else message
        for message in found
    )


def _instructions(system: Any) -> Iterator[Message]:
    path = "systemInstruction"
    for found in a_list(system, path):
        if isinstance(found, str):
            yield Message("system", (Text(found),))
            continue
        content = an_object(found, path)
        for part in _parts(content if "parts" in content else {"parts": [content]}, path, Calls()):
            if not isinstance(part, Text):
                raise InvalidRequest("invalid_parameter", f"{path} takes texts only.", f"{path}.parts")
            yield Message("system", (part,))


def _joined(parts: tuple[Part, ...]) -> Iterator[Part]:
    """Yield an answer's parts as they were before it was streamed: clients send back what each chunk brought."""
    last, *others = parts
    for part in others:
        whole = _together(last, part)
        if whole is None:
            yield last
        last = whole or part
    yield last


def _together(last: Part, part: Part) -> Part | None:
    """Return two neighbours as one part, None where they are two."""
    if isinstance(last, Text) and isinstance(part, Text):
        return Text(last.text + part.text)
    if not isinstance(last, Thinking) or not isinstance(part, Thinking) or last.signature:
        return None
    if not part.signature:
        return replace(last, text=last.text + part.text)
    # Another vendor's signature comes after all of its thought.
    if part.origin != NAME and not part.text and not part.redacted:
        return replace(part, text=last.text)
    return None


def _parts(content: Json, path: str, calls: Calls) -> Iterator[Part]:
    for number, found in enumerate(a_list(content.get("parts"), f"{path}.parts")):
        where = f"{path}.parts[{number}]"
        part = {"text": found} if isinstance(found, str) else an_object(found, where)
        yield from _part(part, where, calls)


def _part(part: Json, path: str, calls: Calls) -> Iterator[Part]:
    signed = signatures.read(a_text(pick(part, "thoughtSignature"), f"{path}.thoughtSignature"))
    text = part.get("text")
    if text is not None:
        yield from _said(a_text(text, f"{path}.text"), a_flag(part.get("thought"), f"{path}.thought"), signed)
        return
    call = pick(part, "functionCall")
    if call is not None:
        yield _call(an_object(call, f"{path}.functionCall"), f"{path}.functionCall", calls, signed)
        return
    answer = pick(part, "functionResponse")
    if answer is not None:
        yield _answer(an_object(answer, f"{path}.functionResponse"), f"{path}.functionResponse", calls)
        return
    blob, file = pick(part, "inlineData"), pick(part, "fileData")
    if blob is not None:
        yield media.inline_part(an_object(blob, f"{path}.inlineData"), f"{path}.inlineData")
    elif file is not None:
        yield media.file_part(an_object(file, f"{path}.fileData"), f"{path}.fileData")
    else:
        kind = kind_of(part)
        if kind:
            yield Native(NAME, kind, part)
        return
    if signed.text:
        yield Thinking("", signed.text, signed.origin, signed.id)


def kind_of(part: Json) -> str:
    """Return what a part is by the name of its field, "" where it is nothing."""
    return next((camel(name) for name, value in part.items() if value is not None and camel(name) not in BESIDE), "")


def _said(text: str, thought: bool, signed: signatures.Signature) -> Iterator[Part]:
    if thought and signed.origin in (NAME, ""):
        if text or signed.text:
            # A thought that nobody signed is taken for Gemini's, which alone has a use for it.
            yield Thinking(text, signed.text, NAME, signed.id, is_summary=True)
    elif thought:
        yield Thinking(
            text, signed.text, signed.origin, signed.id, is_summary=signed.is_summary, redacted=signed.redacted
        )
    else:
        if text:
            yield Text(text)
        if signed.text:
            yield Thinking("", signed.text, signed.origin, signed.id)


def _call(call: Json, path: str, calls: Calls, signed: signatures.Signature) -> ToolCall:
    name = a_text(call.get("name"), f"{path}.name")
    if not name:
        raise InvalidRequest("invalid_parameter", f"{path}.name is missing.", f"{path}.name")
    arguments = encode(an_object(call.get("args"), f"{path}.args")).decode()
    id = calls.called(a_text(call.get("id"), f"{path}.id"), name)
    return ToolCall(id, name, arguments, signature=signed.text, origin=signed.origin)


def _answer(answer: Json, path: str, calls: Calls) -> ToolResult:
    name = a_text(answer.get("name"), f"{path}.name")
    said = an_object(answer.get("response"), f"{path}.response")
    text, is_error = _text_of(said)
    parts: list[Text | media.Media] = [Text(text)] if text else []
    for number, found in enumerate(a_list(answer.get("parts"), f"{path}.parts")):
        where = f"{path}.parts[{number}]"
        part = an_object(found, where)
        blob, file = pick(part, "inlineData"), pick(part, "fileData")
        if blob is not None:
            parts.append(media.inline_part(an_object(blob, f"{where}.inlineData"), f"{where}.inlineData"))
        elif file is not None:
            parts.append(media.file_part(an_object(file, f"{where}.fileData"), f"{where}.fileData"))
    id = calls.answered(a_text(answer.get("id"), f"{path}.id"), name)
    return ToolResult(id, tuple(parts), name, is_error)


def _text_of(response: Json) -> tuple[str, bool]:
    """Return what a function said, and whether it is an error; an object of its own is its JSON."""
    if len(response) == 1:
        (key, value), *_ = response.items()
        if key in ("result", "output") and isinstance(value, str):
            return value, False
        if key == "error" and value is not None:
            return value if isinstance(value, str) else encode(value).decode(), True
    return (encode(response).decode() if response else ""), False
