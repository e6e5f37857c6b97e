"""What a message's `content` holds, read and written. Pure.

https://platform.openai.com/docs/api-reference/chat/create#chat_create-messages. `cache_control` inside parts is
Anthropic's, which OpenRouter and others take in this format too (https://openrouter.ai/docs/features/prompt-caching).
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from gateway.wire.canonical import (
    Audio,
    Cache,
    Document,
    FileId,
    Image,
    Inline,
    Json,
    Native,
    Part,
    Refusal,
    Source,
    Text,
    Thinking,
    Url,
)
from gateway.wire.codec import Unsupported
from gateway.wire.fields import InvalidRequest
from gateway.wire.openai_chat.tables import AUDIO_FORMATS, AUDIO_TYPES, NAME, NO_FILES, SERVER_RUNS

TEXTS = ("text", "input_text", "output_text")
BASE64 = ";base64"


def wrong(path: str, what: str) -> InvalidRequest:
    """Return the refusal of a field whose type is not what it has to be."""
    return InvalidRequest("invalid_parameter", f"{path} is not {what}.", path)


def text_of(holder: Json, name: str, path: str) -> str:
    """Return a field that has to be a text; raise InvalidRequest."""
    found = holder.get(name)
    if isinstance(found, str):
        return found
    raise wrong(f"{path}.{name}", "a text")


def cache_of(holder: Json) -> Cache:
    """Return for how long a cache is asked to keep the prompt up to here."""
    asked = holder.get("cache_control")
    if not isinstance(asked, dict):
        return ""
    return "1h" if asked.get("ttl") == "1h" else "5m"


def cache_control(cache: Cache) -> Json:
    """Return the same as it is written."""
    return {"type": "ephemeral", "ttl": "1h"} if cache == "1h" else {"type": "ephemeral"}


# --- Read -----------------------------------------------------------------------------------------------------------
def read_content(content: Any, path: str) -> tuple[Part, ...]:
    """Return the parts of a content: a text, a list of parts, or nothing; raise InvalidRequest."""
    if isinstance(content, str):
        return (Text(content),) if content else ()
    if content is None:
        return ()
    if isinstance(content, dict):
        return (_read_part(content, path),)
    if not isinstance(content, list):
        raise wrong(path, "a text or a list of parts")
    return tuple(_read_part(part, f"{path}[{number}]") for number, part in enumerate(content))


def _read_part(part: Any, path: str) -> Part:
    if isinstance(part, str):
        return Text(part)
    if not isinstance(part, dict):
        raise wrong(path, "an object")
    kind = part.get("type", "text" if "text" in part else None)
    if not isinstance(kind, str):
        raise InvalidRequest("invalid_parameter", f"{path}.type is missing: say what the part is.", f"{path}.type")
    if kind in TEXTS:
        return Text(text_of(part, "text", path), cache=cache_of(part))
    if kind == "image_url":
        return read_image(part, path)
    if kind == "input_audio":
        sound = _object(part, "input_audio", path)
        named = sound.get("format")
        media_type = AUDIO_TYPES.get(named, f"audio/{named}") if isinstance(named, str) and named else ""
        return Audio(Inline(media_type, text_of(sound, "data", f"{path}.input_audio")))
    if kind == "file":
        return _read_file(_object(part, "file", path), cache_of(part), f"{path}.file")
    if kind == "refusal":
        return Refusal(text_of(part, "refusal", path))
    if kind == "thinking":
        # Mistral's, as its answers have it.
        return Thinking("".join(text for _, text in pieces_of([part])))
    return Native(NAME, kind, part)


def _object(holder: Json, name: str, path: str) -> Json:
    found = holder.get(name)
    if isinstance(found, dict):
        return found
    raise wrong(f"{path}.{name}", "an object")


def read_image(part: Json, path: str) -> Image:
    """Return a picture; its address may stand alone or in an object."""
    image = part.get("image_url")
    if isinstance(image, str):
        image = {"url": image}
    if not isinstance(image, dict):
        raise wrong(f"{path}.image_url", "an object")
    detail = image.get("detail")
    source = read_source(text_of(image, "url", f"{path}.image_url"), f"{path}.image_url.url")
    return Image(source, detail if isinstance(detail, str) else "", cache_of(part))


def _read_file(file: Json, cache: Cache, path: str) -> Document:
    name = file.get("filename")
    name = name if isinstance(name, str) else ""
    if isinstance(file.get("file_id"), str):
        return Document(FileId(NAME, file["file_id"]), name, cache=cache)
    data = text_of(file, "file_data", path)
    if data.startswith(("data:", "https://", "http://")):
        return Document(read_source(data, f"{path}.file_data"), name, cache=cache)
    return Document(Inline("", data), name, cache=cache)


def read_source(url: str, path: str) -> Source:
    """Return where an address leads: elsewhere, or to the bytes inside it (https://www.rfc-editor.org/rfc/rfc2397)."""
    if not url.startswith("data:"):
        return Url(url)
    head, comma, data = url[5:].partition(",")
    if not comma:
        raise wrong(path, "a data URL: it has no comma")
    if head.endswith(BASE64):
        return Inline(head[: -len(BASE64)].partition(";")[0], data)
    media_type = head.partition(";")[0] or "text/plain"
    return Inline(media_type, base64.b64encode(unquote_to_bytes(data)).decode())


def pieces_of(content: Any) -> Iterator[tuple[bool, str]]:
    """Yield (whether it is a thought, text) of an answer's content, which some upstreams write as a list of parts."""
    if isinstance(content, str):
        yield False, content
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        thinking, text = part.get("thinking"), part.get("text")
        if isinstance(thinking, list):
            for piece in thinking:
                if isinstance(piece, dict) and isinstance(piece.get("text"), str):
                    yield True, piece["text"]
        elif isinstance(thinking, str):
            yield True, thinking
        elif isinstance(text, str):
            yield False, text


# --- Written --------------------------------------------------------------------------------------------------------
class Losses:
    """What a request that is being written loses. `own` says that it came in this dialect itself."""

    __slots__ = ("names", "own")

    def __init__(self, *, own: bool) -> None:
        self.own = own
        self.names: set[str] = set()

    def add(self, name: str) -> None:
        """Name something that is not carried."""
        self.names.add(name)

    def cached(self, written: Json, cache: Cache) -> Json:
        """Return what was written with its cache hint; upstreams that were not addressed in it refuse it."""
        if cache and self.own:
            return written | {"cache_control": cache_control(cache)}
        if cache:
            self.add("cache_control")
        return written

    def native(self, part: Native, path: str) -> Json | None:
        """Return a part that only its own vendor knows, None where it may be left out; raise Unsupported."""
        if part.origin == NAME:
            return part.value
        if any(word in part.kind.lower() for word in SERVER_RUNS):
            self.add(part.kind)
            return None
        raise Unsupported(
            f"{path} is of type {part.kind[:64]}, which this model's upstream does not know: leave it out.", path
        )


def write_content(parts: Iterable[Part], losses: Losses, path: str) -> str | list[Json]:
    """Return a content: a text where it is nothing else, for small upstreams know no other; raise Unsupported."""
    written: list[Json] = []
    plain = True
    for part in parts:
        each = write_part(part, losses, path)
        if each is not None:
            written.append(each)
            plain = plain and len(each) == 2 and each["type"] == "text"
    return "\n".join(each["text"] for each in written) if plain else written


def write_part(part: Part, losses: Losses, path: str) -> Json | None:
    """Return a part, None where it is left out; raise Unsupported."""
    match part:
        case Text():
            if part.citations:
                losses.add("citations")
            return losses.cached({"type": "text", "text": part.text}, part.cache)
        case Image():
            return losses.cached(write_image(part, path), part.cache)
        case Document():
            return losses.cached(_write_document(part, losses, path), part.cache)
        case Audio(source=Inline(media_type=media_type, data=data)):
            named = AUDIO_FORMATS.get(media_type) or media_type.removeprefix("audio/")
            return {"type": "input_audio", "input_audio": {"data": data, "format": named}}
        case Audio():
            raise Unsupported(f"{path} holds sound without its data: send it as base64.", path)
        case Refusal():
            return {"type": "refusal", "refusal": part.text}
        case Native():
            return losses.native(part, path)
        case _:
            raise Unsupported(f"{path} holds what only an assistant says: send it with that role.", path)


def write_image(image: Image, path: str) -> Json:
    """Return a picture; raise Unsupported where it is kept by another vendor."""
    named: Json = {"url": write_source(image.source, path)}
    if image.detail:
        named["detail"] = image.detail
    return {"type": "image_url", "image_url": named}


def write_source(source: Source, path: str) -> str:
    """Return an address; raise Unsupported."""
    if isinstance(source, Url):
        return source.url
    if isinstance(source, Inline):
        return f"data:{source.media_type}{BASE64},{source.data}"
    raise Unsupported(f"{path} names a file by its id: send its address or its bytes.", path)


def _write_document(document: Document, losses: Losses, path: str) -> Json:
    if document.context:
        losses.add("document.context")
    if document.cites:
        losses.add("citations")
    source = document.source
    if isinstance(source, FileId) and source.origin == NAME:
        file: Json = {"file_id": source.id}
    elif isinstance(source, Inline):
        if source.media_type.startswith(NO_FILES) and not losses.own:
            raise Unsupported(f"{path} is {source.media_type[:64]}, which this model cannot take as a file.", path)
        text = None if losses.own else _plain_text(source)
        if text is not None:
            return {"type": "text", "text": f"{document.name}\n{text}" if document.name else text}
        file = {"file_data": write_source(source, path) if source.media_type else source.data}
    elif isinstance(source, Url) and losses.own:
        file = {"file_data": source.url}
    else:
        raise Unsupported(f"{path} names a file that this model's upstream cannot fetch: send its bytes.", path)
    name = document.name or ("" if losses.own else "document.pdf")
    return {"type": "file", "file": file | ({"filename": name} if name else {})}


def _plain_text(source: Inline) -> str | None:
    """Return the text of a file that is one: what takes files here takes PDFs alone."""
    if not source.media_type.startswith("text/"):
        return None
    try:
        return base64.b64decode(source.data).decode()
    except (binascii.Error, ValueError):
        return None
