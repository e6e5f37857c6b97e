"""A request's items as messages, and messages as items. Pure.

https://platform.openai.com/docs/api-reference/responses/create#responses-create-input

What a round trip changes: a text in place of a list becomes a list; `system` becomes `developer`; ids and statuses of
messages, calls and their outputs are left out; of the instructions that come first, the first text becomes
`instructions` (from another dialect: all of them).
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gateway.wire import marks
from gateway.wire.canonical import (
    Audio,
    Cache,
    Document,
    FileId,
    Image,
    Inline,
    Json,
    Message,
    Native,
    Part,
    Refusal,
    Request,
    Role,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from gateway.wire.codec import Unsupported
from gateway.wire.fields import InvalidRequest
from gateway.wire.openai_responses import items as shared
from gateway.wire.openai_responses.items import NAME, TEXTS, text_of

ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
# Items that another side than the model contributes, beside those whose type ends in `_output`.
OURS = frozenset({"mcp_approval_response", "item_reference", "compaction_trigger", "additional_tools"})
CONTENT = "content."
# Of a call's id, as OpenAI says when it is longer.
ID_CHARS_MAX = 64
AUDIO_FORMATS = {"mp3": "audio/mpeg", "wav": "audio/wav"}
AUDIO_NAMES = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav"}
# What no model takes as a file, by how the media type begins.
NO_FILES = ("audio/", "video/")
# What base64 of a PDF begins with.
PDF = "JVBERi"
BREAKPOINTS: dict[Cache, Json] = {"5m": {"mode": "explicit"}, "1h": {"mode": "explicit", "ttl": "12h"}}
# Words in the kinds of parts in which a vendor tells of searches and code that it ran by itself.
RUN_BY_VENDOR = ("search", "fetch", "code", "server_tool", "mcp", "grounding", "url_context", "computer", "shell")


# --- Facing the client --------------------------------------------------------------------------------------------
def parse(given: Any, instructions: str) -> tuple[Message, ...]:
    """Return a request's instructions and input as messages in normal form; raise InvalidRequest."""
    told: list[tuple[Role, Part]] = [("system", Text(instructions))] if instructions else []
    if type(given) is str:
        told.append(("user", Text(given)))
    elif type(given) is list:
        for number, item in enumerate(given):
            told += _item(item, f"input[{number}]")
    elif given is not None:
        raise InvalidRequest("invalid_parameter", "input is neither a text nor a list of items.", "input")
    groups = itertools.groupby(told, lambda each: each[0])
    return tuple(Message(role, tuple(part for _, part in group)) for role, group in groups)


def _item(item: Any, where: str) -> list[tuple[Role, Part]]:
    if type(item) is not dict:
        raise InvalidRequest("invalid_parameter", f"{where} is not an object.", where)
    kind = item.get("type") or ("message" if "role" in item else "item_reference")
    if type(kind) is not str:
        raise InvalidRequest("invalid_parameter", f"{where}.type is not a text.", f"{where}.type")
    if kind == "message":
        role = ROLES.get(text_of(item.get("role")))
        if role is None:
            message = f"{where}.role is none of {', '.join(ROLES)}."
            raise InvalidRequest("invalid_parameter", message, f"{where}.role")
        return [(role, part) for part in _contents(item.get("content"), f"{where}.content")]
    reader = READERS.get(kind)
    if reader is not None:
        return reader(item, where)
    side: Role = "user" if kind in OURS or kind.endswith("_output") else "assistant"
    return [(side, Native(NAME, kind, item))]


def _contents(given: Any, where: str) -> Iterator[Part]:
    if given is None:
        return
    if type(given) is str:
        yield Text(given)
        return
    if type(given) is not list:
        raise InvalidRequest("invalid_parameter", f"{where} is neither a text nor a list of parts.", where)
    for number, part in enumerate(given):
        if type(part) is not dict:
            raise InvalidRequest("invalid_parameter", f"{where}[{number}] is not an object.", f"{where}[{number}]")
        yield _content(part, f"{where}[{number}]")


def _content(part: Json, where: str) -> Part:
    kind = part.get("type")
    if type(kind) is not str:
        raise InvalidRequest("invalid_parameter", f"{where}.type is not a text.", f"{where}.type")
    cached = part.get("prompt_cache_breakpoint")
    cache: Cache = ("1h" if cached.get("ttl") == "12h" else "5m") if type(cached) is dict else ""
    if kind in TEXTS:
        return Text(_text(part, "text", where), shared.citations(part.get("annotations")), cache)
    if kind == "refusal":
        return Refusal(_text(part, "refusal", where))
    if kind == "input_image":
        given = part.get("image_url")
        url = given.get("url") if type(given) is dict else given
        return Image(_source(url, part.get("file_id"), where, "image_url"), text_of(part.get("detail")), cache)
    if kind == "input_file":
        return _document(part, where, cache)
    if kind == "input_audio":
        sound = part.get("input_audio")
        if type(sound) is not dict:
            raise InvalidRequest("invalid_parameter", f"{where}.input_audio is not an object.", f"{where}.input_audio")
        media_type = AUDIO_FORMATS.get(text_of(sound.get("format")), f"audio/{text_of(sound.get('format'))}")
        return Audio(Inline(media_type, _text(sound, "data", f"{where}.input_audio")))
    return Native(NAME, CONTENT + kind, part)


def _text(holder: Json, name: str, where: str) -> str:
    value = holder.get(name)
    if value is None or type(value) is str:
        return value or ""
    raise InvalidRequest("invalid_parameter", f"{where}.{name} is not a text.", f"{where}.{name}")


def _source(url: Any, file_id: Any, where: str, name: str) -> Source:
    if type(url) is str and url:
        head, comma, data = url.partition(",")
        if comma and head.startswith("data:") and head.endswith(";base64"):
            return Inline(head[len("data:") : -len(";base64")], data)
        return Url(url)
    if url is None and type(file_id) is str and file_id:
        return FileId(NAME, file_id)
    raise InvalidRequest("invalid_parameter", f"{where} has neither {name} nor file_id as a text.", f"{where}.{name}")


def _document(part: Json, where: str, cache: Cache) -> Document:
    name, data = text_of(part.get("filename")), part.get("file_data")
    if type(data) is str and not data.startswith("data:"):
        return Document(Inline("application/pdf" if data.startswith(PDF) else "", data), name, cache=cache)
    given = part.get("file_url") if data is None else data
    return Document(_source(given, part.get("file_id"), where, "file_data"), name, cache=cache)


def _call(item: Json, where: str) -> list[tuple[Role, Part]]:
    _text(item, "name", where)
    if type(item.get("arguments")) not in (dict, list):
        _text(item, "arguments", where)
    _text(item, "input", where)
    call = shared.call(item)
    id, signature, origin = marks.unsigned_id(call.id)
    return [("assistant", msgspec.structs.replace(call, id=id, signature=signature, origin=origin))]


def _result(item: Json, where: str) -> list[tuple[Role, Part]]:
    parts: list[Text | Image | Document | Audio] = []
    for number, part in enumerate(_contents(item.get("output"), f"{where}.output")):
        if not isinstance(part, Text | Image | Document | Audio):
            path = f"{where}.output[{number}]"
            raise InvalidRequest("invalid_parameter", f"{path} is no text, image, file or audio.", path)
        parts.append(part)
    id, _, _ = marks.unsigned_id(text_of(item.get("call_id")) or text_of(item.get("id")))
    custom = item["type"] == "custom_tool_call_output"
    return [("tool", ToolResult(id, tuple(parts), text_of(item.get("name")), custom=custom))]


def _reasoning(item: Json, where: str) -> list[tuple[Role, Part]]:
    for name in ("summary", "content"):
        if type(item.get(name)) not in (list, type(None)):
            raise InvalidRequest("invalid_parameter", f"{where}.{name} is not a list.", f"{where}.{name}")
    found = [piece for _, piece in shared.thoughts(item)] or [Thinking("", id=text_of(item.get("id")))]
    return [("assistant", piece) for piece in shared.unsealed(found, item)]


def _picture(item: Json, _: str) -> list[tuple[Role, Part]]:
    """Return a picture that another dialect's model made; those of this one are known by their ids."""
    result = text_of(item.get("result"))
    if result and marks.ID_MARK in text_of(item.get("id")):
        media_type = f"image/{text_of(item.get('output_format')) or 'png'}"
        return [("assistant", Image(Inline(media_type, result)))]
    return [("assistant", Native(NAME, "image_generation_call", item))]


READERS: dict[str, Callable[[Json, str], list[tuple[Role, Part]]]] = {
    "function_call": _call,
    "custom_tool_call": _call,
    "function_call_output": _result,
    "custom_tool_call_output": _result,
    "reasoning": _reasoning,
    "image_generation_call": _picture,
}


# --- Facing the upstream ------------------------------------------------------------------------------------------
class Items:
    """A request's messages as they are written into items; `dropped` names what is left out."""

    def __init__(self, request: Request) -> None:
        self.is_own = request.dialect == NAME
        self.instructions = ""
        self.items: list[Json] = []
        self.dropped: set[str] = set()
        self.custom_ids = {
            part.id
            for message in request.messages
            for part in message.parts
            if isinstance(part, ToolCall) and part.custom
        }
        # The reasoning item that more pieces of its thought may be added to.
        self.thought: Json | None = None
        for number, message in enumerate(request.messages):
            self._message(message, f"messages[{number}]", first=number == 0)

    def _message(self, message: Message, where: str, *, first: bool) -> None:
        if message.name:
            self.dropped.add("name")
        parts = message.parts
        if first and message.role == "system":
            count = 1 if self.is_own else len(parts)
            texts = [part.text for part in parts[:count] if isinstance(part, Text)]
            if len(texts) == count:
                self.instructions = "\n\n".join(texts)
                parts = parts[count:]
        contents: list[Json] = []
        for part in parts:
            content = self._content(part, message.role, where)
            if content is not None:
                contents.append(content)
                continue
            self._flush(message.role, contents)
            contents = []
            self._item(part, where)
        self._flush(message.role, contents)

    def _flush(self, role: Role, contents: list[Json]) -> None:
        if contents:
            self.thought = None
            told = ("developer" if self.is_own else "system") if role == "system" else role
            self.items.append({"type": "message", "role": told, "content": contents})

    def _content(self, part: Part, role: Role, where: str) -> Json | None:
        """Return a part of a message's content; None for what is an item of its own."""
        match part:
            case Text() if role == "assistant":
                annotations = [shared.annotation(each, len(part.text)) for each in part.citations if each.url]
                told = {"type": "output_text", "text": part.text}
                return self._cached(told | ({"annotations": annotations} if annotations else {}), part.cache)
            case Refusal():
                return {"type": "refusal", "refusal": part.text}
            case Text() | Image() | Document() | Audio() if role != "assistant":
                return self._input(part, where)
            case Audio() if part.transcript:
                return {"type": "output_text", "text": part.transcript}
            case Native() if part.origin == NAME and part.kind.startswith(CONTENT):
                return part.value
            case _:
                return None

    def _input(self, part: Text | Image | Document | Audio, where: str) -> Json:
        told: Json
        match part:
            case Text():
                return self._cached({"type": "input_text", "text": part.text}, part.cache)
            case Image(source=source):
                told = {"type": "input_image"} | ({"detail": part.detail} if part.detail else {})
                told |= {"file_id": source.id} if isinstance(source, FileId) else {"image_url": _address(source)}
                self._known(source, where, "Send the image itself or its address.")
                return self._cached(told, part.cache)
            case Document(source=Inline(media_type=media_type)) if media_type.startswith(NO_FILES) and not self.is_own:
                raise Unsupported(f"{where} is {media_type[:64]}, which this model cannot take as a file.", where)
            case Document(source=source):
                self._known(source, where, "Send the file itself or its address.")
                self.dropped |= {f"document.{name}" for name in ("context", "cites") if getattr(part, name)}
                return self._cached({"type": "input_file"} | _file(source, part.name), part.cache)
            case Audio(source=Inline(media_type=media_type, data=data)) if media_type in AUDIO_NAMES:
                return {"type": "input_audio", "input_audio": {"data": data, "format": AUDIO_NAMES[media_type]}}
            case _:
                raise Unsupported(f"{where} has audio that this model cannot take: send MP3 or WAV data.", where)

    def _known(self, source: Source, where: str, advice: str) -> None:
        if isinstance(source, FileId) and source.origin != NAME:
            raise Unsupported(f"{where} names a file that only another vendor has. {advice}", where)

    def _cached(self, told: Json, cache: Cache) -> Json:
        if not cache:
            return told
        if not self.is_own:
            self.dropped.add("cache_control")
            return told
        return told | {"prompt_cache_breakpoint": BREAKPOINTS[cache]}

    def _item(self, part: Part, where: str) -> None:
        match part:
            case Thinking():
                self._thinking(part)
                return
            case ToolCall():
                self.items.append(self._call(part))
            case ToolResult():
                self.items.append(self._result(part, where))
            case Native() if part.origin == NAME:
                self.items.append(part.value)
            case Native() if any(word in part.kind.lower() for word in RUN_BY_VENDOR):
                self.dropped.add(part.kind)
            case _:
                kind = part.kind if isinstance(part, Native) else type(part).__name__.lower()
                message = f"{where} has a part ({kind}) that this model cannot take there: leave it out."
                raise Unsupported(message, where)
        self.thought = None

    def _thinking(self, part: Thinking) -> None:
        if part.origin != NAME:
            self.dropped.add("thinking")
            return
        item = self.thought
        if item is None or item.get("id", "") != part.id:
            item = {"type": "reasoning"} | ({"id": part.id} if part.id else {}) | {"summary": []}
            self.items.append(item)
        # Not every dialect tells which of the two it was, and OpenAI's own models take no `content` back: a 400.
        if part.text and (part.is_summary or not self.is_own):
            item["summary"].append({"type": "summary_text", "text": part.text})
        elif part.text:
            item.setdefault("content", []).append({"type": "reasoning_text", "text": part.text})
        if part.signature:
            item["encrypted_content"] = part.signature
        self.thought = None if part.signature else item

    def _call(self, part: ToolCall) -> Json:
        if part.signature and part.origin != NAME:
            self.dropped.add("tool_call.signature")
        if part.cache:
            self.dropped.add("cache_control")
        id = marks.fitting_id(part.id, ID_CHARS_MAX)
        name = {"name": part.name} | ({"namespace": part.namespace} if part.namespace else {})
        if part.custom:
            return {"type": "custom_tool_call", "call_id": id, **name, "input": part.arguments}
        return {"type": "function_call", "call_id": id, **name, "arguments": part.arguments or "{}"}

    def _result(self, part: ToolResult, where: str) -> Json:
        self.dropped |= {"tool_result.is_error"} if part.is_error else set()
        self.dropped |= {"cache_control"} if part.cache else set()
        custom = part.custom or part.call_id in self.custom_ids
        output: str | list[Json]
        if not part.parts or (len(part.parts) == 1 and isinstance(part.parts[0], Text) and not part.parts[0].cache):
            output = part.parts[0].text if part.parts and isinstance(part.parts[0], Text) else ""
        else:
            output = [self._input(each, where) for each in part.parts]
        kind = "custom_tool_call_output" if custom else "function_call_output"
        return {"type": kind, "call_id": marks.fitting_id(part.call_id, ID_CHARS_MAX), "output": output}


def _address(source: Url | Inline) -> str:
    if isinstance(source, Url):
        return source.url
    return f"data:{source.media_type or 'application/octet-stream'};base64,{source.data}"


def _file(source: Source, name: str) -> Json:
    named = {"filename": name} if name else {}
    if isinstance(source, FileId):
        return {"file_id": source.id}
    if isinstance(source, Url):
        return {"file_url": source.url, **named}
    # A name is demanded of what comes as data.
    if not source.media_type:
        return {"file_data": source.data, **(named or {"filename": "file"})}
    ending = source.media_type.rpartition("/")[2]
    return {"file_data": _address(source), **(named or {"filename": f"file.{ending}"})}
