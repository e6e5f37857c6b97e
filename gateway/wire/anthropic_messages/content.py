"""A request's content blocks, as parts of a message. Pure.

https://docs.anthropic.com/en/api/messages. A block that is not known is kept as it came (`Native`). What of a
block only Anthropic knows (the index of a citation, who called a tool) is not kept: a request that stays in the dialect
is passed on as bytes.
"""

import base64
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from gateway.wire import marks
from gateway.wire.anthropic_messages.tables import NAME
from gateway.wire.canonical import (
    Audio,
    Cache,
    Citation,
    Document,
    FileId,
    Image,
    Inline,
    Json,
    Native,
    Part,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from gateway.wire.fields import InvalidRequest, encode

TEXT_TYPE = "text/plain"
DATA_URL = re.compile(r"data:([^;,]*)[^,]*?;base64,", re.IGNORECASE)


class Calls:
    """The calls of tools so far: one that came without an id gets one, and so does the result that belongs to it."""

    __slots__ = ("count", "unanswered")

    def __init__(self) -> None:
        self.count = 0
        self.unanswered: OrderedDict[str, None] = OrderedDict()

    def called(self, id: str) -> str:
        """Return a call's id."""
        self.count += 1
        id = id or f"toolu_{self.count}"
        self.unanswered[id] = None
        return id

    def answered(self, id: str) -> str:
        """Return the id of the call that a result belongs to: the first that has none, where it does not say."""
        id = id or next(iter(self.unanswered), f"toolu_{self.count}")
        self.unanswered.pop(id, None)
        return id


def wrong(path: str, what: str) -> InvalidRequest:
    """Return the refusal of a field of the wrong type; WHAT goes on after its path."""
    return InvalidRequest("invalid_parameter", f"{path} {what}.", path)


def parts_of(content: Any, path: str, calls: Calls) -> tuple[Part, ...]:
    """Return the parts of a message's content; raise InvalidRequest."""
    if content is None or content == "":
        return ()
    if isinstance(content, str):
        return (Text(content),)
    if not isinstance(content, list):
        raise wrong(path, "is neither a text nor a list of blocks")
    return tuple(part for number, block in enumerate(content) for part in _block(block, f"{path}.{number}", calls))


def _block(block: Any, path: str, calls: Calls) -> tuple[Part, ...]:
    if isinstance(block, str):
        return (Text(block),)
    if not isinstance(block, dict):
        raise wrong(path, "is no content block: an object with a type")
    kind = block.get("type")
    if not isinstance(kind, str):
        if not isinstance(block.get("text"), str):
            raise wrong(f"{path}.type", "is missing")
        kind = "text"
    read = BLOCKS.get(kind)
    return (Native(NAME, kind, block),) if read is None else read(block, path, calls)


def text_of(block: Json, name: str, path: str) -> str:
    """Return a field that is a text, "" where it is absent or null; raise InvalidRequest."""
    value = block.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong(f"{path}.{name}", "is not a text")
    return value


def cache_of(block: Json) -> Cache:
    """Return how long the prompt is to be cached from a block on."""
    control = block.get("cache_control")
    if not isinstance(control, dict):
        return ""
    return "1h" if control.get("ttl") == "1h" else "5m"


def citation_of(value: Any) -> Citation | None:
    """Return a citation of any kind, None where it is none."""
    if not isinstance(value, dict):
        return None
    found = [value.get(name) for name in ("url", "source", "title", "document_title", "cited_text")]
    url, source, title, document, quote = (each if isinstance(each, str) else "" for each in found)
    return Citation(url=url or source, title=title or document, quote=quote)


def _text(block: Json, path: str, _calls: Calls) -> tuple[Part, ...]:
    found = block.get("citations")
    citations = [citation_of(each) for each in found] if isinstance(found, list) else []
    return (Text(text_of(block, "text", path), tuple(each for each in citations if each), cache_of(block)),)


def _source(block: Json, path: str) -> Source:
    source = block.get("source")
    if not isinstance(source, dict):
        raise wrong(f"{path}.source", "is missing: an object with a type")
    path = f"{path}.source"
    kind = source.get("type")
    if kind == "file":
        return FileId(NAME, text_of(source, "file_id", path))
    if kind == "url":
        url = text_of(source, "url", path)
        data = DATA_URL.match(url)
        return Inline(data[1].lower(), url[data.end() :]) if data else Url(url)
    if kind == "text":
        return _inline_text(text_of(source, "data", path))
    if kind not in ("base64", None):
        raise wrong(f"{path}.type", "is not known: use base64, url, file, text or content")
    return Inline(text_of(source, "media_type", path), text_of(source, "data", path))


def _inline_text(text: str) -> Inline:
    return Inline(TEXT_TYPE, base64.b64encode(text.encode("utf-8", "surrogatepass")).decode())


def _image(block: Json, path: str, _calls: Calls) -> tuple[Part, ...]:
    return (Image(_source(block, path), cache=cache_of(block)),)


def _document(block: Json, path: str, calls: Calls) -> tuple[Part, ...]:
    name, source = text_of(block, "title", path), block.get("source")
    if isinstance(source, dict) and source.get("type") == "content":
        parts = parts_of(source.get("content"), f"{path}.source.content", calls)
        texts = [part.text for part in parts if isinstance(part, Text)]
        if len(texts) < len(parts):
            # Pictures among the chunks: each stands for itself.
            return (*((Text(name),) if name else ()), *parts)
        found: Source = _inline_text("\n\n".join(texts))
    else:
        found = _source(block, path)
    return (Document(found, name, text_of(block, "context", path), _cites(block), cache_of(block)),)


def _cites(block: Json) -> bool:
    citations = block.get("citations")
    return isinstance(citations, dict) and citations.get("enabled") is True


def _search_result(block: Json, path: str, calls: Calls) -> tuple[Part, ...]:
    parts = parts_of(block.get("content"), f"{path}.content", calls)
    text = "\n\n".join(part.text for part in parts if isinstance(part, Text))
    title, address = text_of(block, "title", path), text_of(block, "source", path)
    return (Document(_inline_text(text), title, address, _cites(block), cache_of(block)),)


def _thinking(block: Json, path: str, _calls: Calls) -> tuple[Part, ...]:
    signature, origin, id = marks.unmark(text_of(block, "signature", path), NAME)
    unsigned = not signature and origin == NAME
    return (Thinking(text_of(block, "thinking", path), signature, "" if unsigned else origin, id),)


def _redacted(block: Json, path: str, _calls: Calls) -> tuple[Part, ...]:
    data, origin, id = marks.unmark(text_of(block, "data", path), NAME)
    return (Thinking("", data, origin, id, redacted=True),)


def _tool_use(block: Json, path: str, calls: Calls) -> tuple[Part, ...]:
    given = block.get("input")
    arguments = given if isinstance(given, str) else encode({} if given is None else given).decode()
    id, signature, origin = marks.unsigned_id(text_of(block, "id", path))
    name = text_of(block, "name", path)
    call = ToolCall(
        calls.called(id), name, arguments or "{}", signature=signature, origin=origin, cache=cache_of(block)
    )
    return (call,)


def _tool_result(block: Json, path: str, calls: Calls) -> tuple[Part, ...]:
    id = calls.answered(marks.unsigned_id(text_of(block, "tool_use_id", path))[0])
    content, path = block.get("content"), f"{path}.content"
    if isinstance(content, list):
        parts = [part for number, each in enumerate(content) for part in _shown(each, f"{path}.{number}", calls)]
    else:
        parts = [part for part in parts_of(content, path, calls) if isinstance(part, SHOWN)]
    return (ToolResult(id, tuple(parts), is_error=block.get("is_error") is True, cache=cache_of(block)),)


def _shown(block: Any, path: str, calls: Calls) -> Iterator[Text | Image | Document | Audio]:
    """Yield a block's parts as a tool's result holds them: what nobody else knows is told as it stands."""
    kind = block.get("type") if isinstance(block, dict) else None
    if isinstance(kind, str) and kind not in RESULTS:
        yield Text(encode(block).decode())
        return
    for part in _block(block, path, calls):
        if isinstance(part, Native):
            yield Text(encode(part.value).decode())
        elif isinstance(part, SHOWN):
            yield part


SHOWN = (Text, Image, Document)
RESULTS = ("text", "image", "document", "search_result")
BLOCKS: dict[str, Callable[[Json, str, Calls], tuple[Part, ...]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
}
