"""Parts of a message as a request's content blocks. Pure.

Anthropic refuses what it has no use for: empty texts, thoughts that it did not sign, media types that it does not know.
What stands for nothing is left out, tuning and foreign thoughts are left out and named, other content is Unsupported.
"""

import base64
import binascii
import re
from typing import Any

import msgspec

from gateway.wire import marks
from gateway.wire.anthropic_messages.tables import NAME
from gateway.wire.canonical import (
    Audio,
    Cache,
    Document,
    Image,
    Inline,
    Json,
    Native,
    Part,
    Refusal,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
    as_arguments,
    flat_name,
)
from gateway.wire.codec import Unsupported

# What a vendor ran by itself; nothing of it can go on elsewhere.
RUN = re.compile(r"search|fetch|code|execut|mcp|shell|computer|ground|generat", re.IGNORECASE)
IMAGE_TYPES = {
    "image/jpeg": "image/jpeg",
    "image/jpg": "image/jpeg",
    "image/png": "image/png",
    "image/gif": "image/gif",
    "image/webp": "image/webp",
}
# How the base64 of a file begins, where no media type was told.
BEGINNINGS = {
    "/9j/": "image/jpeg",
    "iVBORw0KGgo": "image/png",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
    "JVBERi": "application/pdf",
}
TEXT_TYPES = ("text/", "application/json", "application/xml", "application/yaml", "application/x-yaml")
FAILED = "The tool failed."
CACHES: dict[Cache, Json] = {"5m": {"type": "ephemeral"}, "1h": {"type": "ephemeral", "ttl": "1h"}}


def unsupported(what: str, instead: str) -> Unsupported:
    """Return the refusal of content that no block can hold."""
    return Unsupported(f"{what} cannot be sent to this model: {instead}.", "messages")


def cached(block: Json, cache: Cache) -> Json:
    """Return a block with its hint for the prompt cache."""
    if cache:
        block["cache_control"] = CACHES[cache]
    return block


def block_of(part: Part, role: str, dropped: set[str]) -> Json | None:
    """Return a part as a block, None where nothing of it goes out; raise Unsupported."""
    match part:
        case Text():
            if part.citations:
                dropped.add("citations")
            return _text(part.text, part.cache)
        case Refusal():
            return _text(part.text, "")
        case Thinking():
            return _thinking(part, dropped)
        case ToolCall():
            return _call(part, dropped)
        case ToolResult():
            return _result(part, role, dropped)
        case Native():
            return _native(part, dropped)
        case Image() | Document() if role == "assistant":
            raise unsupported("A picture or file of the assistant's", "send it as the user's")
        case Image():
            return _image(part, dropped)
        case Document():
            return _document(part)
        case _:
            return _audio(part, dropped)


def _text(text: str, cache: Cache) -> Json | None:
    return cached({"type": "text", "text": text}, cache) if text and not text.isspace() else None


def _thinking(part: Thinking, dropped: set[str]) -> Json | None:
    if part.origin != NAME or not part.signature:
        dropped.add("thinking")
        return None
    if part.redacted:
        return {"type": "redacted_thinking", "data": part.signature}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def input_of(arguments: str, *, custom: bool = False) -> Json:
    """Return a call's arguments as the object that Anthropic demands; what is none becomes its only field."""
    if custom:
        arguments = as_arguments(arguments)
    if not arguments.strip():
        return {}
    try:
        found = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else msgspec.json.decode(as_arguments(arguments))


def _call(part: ToolCall, dropped: set[str]) -> Json:
    if part.signature:
        dropped.add("tool_call.signature")
    block = {
        "type": "tool_use",
        "id": marks.safe_id(part.id),
        "name": flat_name(part.namespace, part.name),
        "input": input_of(part.arguments, custom=part.custom),
    }
    return cached(block, part.cache)


def _result(part: ToolResult, role: str, dropped: set[str]) -> Json:
    block: Json = {"type": "tool_result", "tool_use_id": marks.safe_id(part.call_id)}
    content = [found for each in part.parts if (found := block_of(each, role, dropped)) is not None]
    if part.is_error:
        block["is_error"] = True
        # Anthropic refuses an error that says nothing.
        content = content or [{"type": "text", "text": FAILED}]
    if content:
        block["content"] = collapsed(content)
    return cached(block, part.cache)


def collapsed(content: list[Json]) -> str | list[Json]:
    """Return content that is one plain text as that text."""
    if len(content) == 1 and content[0].keys() == {"type", "text"}:
        text: str = content[0]["text"]
        return text
    return content


def _native(part: Native, dropped: set[str]) -> Json | None:
    if part.origin == NAME:
        return part.value
    if not RUN.search(part.kind):
        raise unsupported(f"A part of the kind {part.kind!r}", "it belongs to another vendor, leave it out")
    dropped.add(part.kind)
    return None


def _image(part: Image, dropped: set[str]) -> Json:
    if part.detail not in ("", "auto"):
        dropped.add("image.detail")
    source = part.source
    if isinstance(source, Inline):
        told = source.media_type or _seen(source.data)
        media_type = IMAGE_TYPES.get(told.lower())
        if media_type is None:
            raise unsupported(f"An image of the type {told!r}", "use JPEG, PNG, GIF or WebP")
        source = Inline(media_type, source.data)
    return cached({"type": "image", "source": _source(source)}, part.cache)


def _seen(data: str) -> str:
    return next((found for start, found in BEGINNINGS.items() if data.startswith(start)), "")


def _source(source: Source) -> Json:
    match source:
        case Url(url):
            return {"type": "url", "url": url}
        case Inline(media_type, data):
            return {"type": "base64", "media_type": media_type, "data": data}
        case _:
            if source.origin != NAME:
                raise unsupported("A file that another vendor keeps", "send its content, or its URL")
            return {"type": "file", "file_id": source.id}


def _document(part: Document) -> Json:
    source = part.source
    if isinstance(source, Inline):
        told = (source.media_type or _seen(source.data)).partition(";")[0].lower()
        if told in IMAGE_TYPES:
            return _image(Image(source, cache=part.cache), set())
        pdf = told == "application/pdf"
        found = _source(Inline(told, source.data)) if pdf else _text_source(source.data, told)
    else:
        found = _source(source)
    block: Json = {"type": "document", "source": found}
    if part.name:
        block["title"] = part.name
    if part.context:
        block["context"] = part.context
    if part.cites:
        block["citations"] = {"enabled": True}
    return cached(block, part.cache)


def _text_source(data: str, media_type: str) -> Json:
    """Return a text's source; without a media type whatever is UTF-8 is one."""
    text: Any = None
    if not media_type or media_type.startswith(TEXT_TYPES):
        try:
            text = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, ValueError):
            text = None
    if text is None:
        raise unsupported(f"A file of the type {media_type!r}", "use PDF or text in UTF-8")
    return {"type": "text", "media_type": "text/plain", "data": text}


def _audio(part: Audio, dropped: set[str]) -> Json | None:
    if not part.transcript:
        raise unsupported("Audio", "send what is said in it as text")
    dropped.add("audio")
    return _text(part.transcript, "")
