"""An upstream's stream of this dialect as events. Pure.

https://platform.openai.com/docs/api-reference/responses-streaming. Mended on the way: events without `output_index`
(llama.cpp's, found by their item's id), items whose id changes from event to event (found by their index), items and
texts that only come when they are done, an answer that only its end holds. Kept of a part is where it stands and
whether it had any text, never the text.
"""

from typing import Any

import msgspec

from gateway.wire import sse
from gateway.wire.canonical import Json, Part, Refusal, Text, Thinking, ToolCall
from gateway.wire.codec import Unreadable
from gateway.wire.events import (
    Ended,
    Event,
    Failed,
    Finished,
    Likely,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    Used,
)
from gateway.wire.openai_responses import usage
from gateway.wire.openai_responses.items import (
    CALLS,
    Key,
    call,
    citation,
    item_logprobs,
    list_of,
    logprobs,
    pieces,
    text_of,
)
from gateway.wire.openai_responses.response import created, finish

replace = msgspec.structs.replace

BEGINNINGS = frozenset({"response.created", "response.in_progress", "response.queued"})
ENDINGS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


class Wire(msgspec.Struct):
    """An event as it comes; whatever type a field has is no error."""

    type: Any = None
    output_index: Any = None
    item_id: Any = None
    content_index: Any = None
    summary_index: Any = None
    delta: Any = None
    logprobs: Any = None
    text: Any = None
    refusal: Any = None
    item: Any = None
    annotation: Any = None
    response: Any = None
    error: Any = None
    code: Any = None
    message: Any = None
    param: Any = None


decode = msgspec.json.Decoder(Wire).decode


class Place:
    """A part that was begun: its number, and what came of it."""

    __slots__ = ("cited", "ended", "filled", "index", "likely")

    def __init__(self, index: int) -> None:
        self.index = index
        self.filled = self.likely = self.ended = False
        self.cited = 0


class Item:
    """An item that is under way: what it is known by, and its parts by their place in it."""

    __slots__ = ("id", "keys", "open", "places")

    def __init__(self, id: str, keys: tuple[int | str, ...] = ()) -> None:
        self.id = id
        self.keys = keys
        # The part that was begun last: a new one ends it.
        self.open: Place | None = None
        self.places: dict[Key, Place] = {}


# Texts that come in deltas, and the field of their last event that repeats the whole of it.
TEXTS = {
    "response.output_text": "text",
    "response.refusal": "refusal",
    "response.reasoning_summary_text": "text",
    "response.reasoning_text": "text",
}
DELTAS = {f"{name}.delta": name for name in TEXTS}
DONE = {f"{name}.done": name for name in TEXTS}
ARGUMENTS = frozenset({"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"})


class Decoder:
    """One stream."""

    def __init__(self) -> None:
        self.items: dict[int | str, Item] = {}
        self.last: Item | None = None
        self.count = 0
        self.kinds: set[type[Part]] = set()
        self.has_started = self.is_over = False

    def feed(self, block: bytes) -> list[Event]:
        """Return the events of a block of whole server-sent events; raise Unreadable."""
        out: list[Event] = []
        for event in sse.split(block):
            data = sse.data_of(event)
            if not data or self.is_over or data.startswith(b"[DONE]"):
                continue
            try:
                told = decode(data)
            except (ValueError, RecursionError):
                raise Unreadable("sent an event that is no JSON object") from None
            self._take(told, event, out)
        return out

    def finish(self) -> list[Event]:
        """Return nothing: an answer of this dialect is complete when it says so."""
        return []

    def _take(self, told: Wire, event: bytes, out: list[Event]) -> None:
        kind = told.type
        if type(kind) is not str:
            kind = "error" if told.error is not None else named(event)
        if kind in DELTAS:
            self._text(told, DELTAS[kind], out)
        elif kind in ARGUMENTS:
            item = self._item(told)
            place = item.places.get(("call", 0)) if item else None
            if place is not None and text_of(told.delta):
                place.filled = True
                out.append(PartDelta(place.index, told.delta))
        elif kind == "response.output_item.added":
            self._added(told, out)
        elif kind == "response.output_item.done":
            if type(told.item) is dict:
                self._done(self._item(told, drop=True), told.item, out)
        elif kind == "response.output_text.annotation.added":
            self._cited(told, out)
        elif kind in DONE:
            self._text_done(told, DONE[kind], out)
        elif kind in BEGINNINGS:
            self._begun(told.response, out)
        elif kind in ENDINGS:
            self._over(told.response if type(told.response) is dict else {}, kind, out)
        elif kind == "error":
            self.is_over = True
            out.append(Failed(_error(told)))

    def _begun(self, response: Any, out: list[Event]) -> None:
        if not self.has_started:
            told = response if type(response) is dict else {}
            self.has_started = True
            out.append(Started(text_of(told.get("id")), text_of(told.get("model")), created(told)))

    # --- Items ----------------------------------------------------------------------------------------------------
    def _item(self, told: Wire, *, drop: bool = False) -> Item | None:
        """Return the item of an event, by its index, its id, or because it is the only one that it can be."""
        id = told.item.get("id") if type(told.item) is dict else told.item_id
        for key in (told.output_index, id):
            if type(key) in (int, str) and key in self.items:
                item = self.items[key]
                if drop:
                    for each in item.keys:
                        self.items.pop(each, None)
                return item
        if type(told.output_index) is int or type(id) is str:
            return None
        return self.last

    def _opened(self, told: Wire, id: str) -> Item:
        keys = (told.output_index,) if type(told.output_index) is int else ()
        item = self.last = Item(id, (*keys, id) if id else keys)
        self.items |= dict.fromkeys(item.keys, item)
        return item

    def _added(self, told: Wire, out: list[Event]) -> None:
        if type(told.item) is not dict:
            return
        kind = text_of(told.item.get("type"))
        item = self._opened(told, text_of(told.item.get("id")))
        if kind in CALLS:
            # Where the arguments are all there already, they come again when it is done.
            self._start(item, ("call", 0), replace(call(told.item), arguments=""), out)

    def _start(self, item: Item, key: Key, part: Part, out: list[Event]) -> Place:
        if item.open is not None:
            self._end(item.open, out)
        self._begun(None, out)
        place = item.open = item.places[key] = Place(self.count)
        self.count += 1
        self.kinds.add(type(part))
        out.append(PartStarted(place.index, part))
        return place

    def _end(self, place: Place, out: list[Event]) -> None:
        if not place.ended:
            place.ended = True
            out.append(PartEnded(place.index))

    def _done(self, item: Item | None, value: Json, out: list[Event]) -> None:
        """End an item, and make up for what did not come before."""
        item = item or Item("")
        if item is self.last:
            self.last = None
        found = pieces(value)
        likely = () if any(place.likely for place in item.places.values()) else item_logprobs(value)
        for key, part in found:
            place = item.places.get(key) or self._start(item, key, _bare(part), out)
            if not place.ended:
                self._fill(place, part, out)
        if likely and found:
            out.append(Likely(likely))
        for place in item.places.values():
            self._end(place, out)

    def _fill(self, place: Place, part: Part, out: list[Event]) -> None:
        text = _said(part)
        if text and not place.filled:
            out.append(PartDelta(place.index, text))
        if isinstance(part, Thinking) and part.signature:
            out.append(PartSigned(place.index, part.signature, part.origin))
        if isinstance(part, Text):
            out += [PartCited(place.index, each) for each in part.citations[place.cited :]]

    # --- Texts ----------------------------------------------------------------------------------------------------
    def _place(self, told: Wire, name: str, out: list[Event]) -> Place | None:
        """Return the part of an event, begun where it was not; None where it is over."""
        item = self._item(told) or self._opened(told, text_of(told.item_id))
        is_summary = name == "response.reasoning_summary_text"
        number = told.summary_index if is_summary else told.content_index
        key = ("summary" if is_summary else "content", number if type(number) is int else 0)
        place = item.places.get(key)
        if place is None:
            place = self._start(item, key, _begun(name, item.id), out)
        return None if place.ended else place

    def _text(self, told: Wire, name: str, out: list[Event]) -> None:
        text = text_of(told.delta)
        if not text and (name.startswith("response.reasoning") or not told.logprobs):
            return
        place = self._place(told, name, out)
        if place is None:
            return
        if text:
            place.filled = True
            out.append(PartDelta(place.index, text))
        if told.logprobs and (likely := logprobs(told.logprobs)):
            place.likely = True
            out.append(Likely(likely))

    def _text_done(self, told: Wire, name: str, out: list[Event]) -> None:
        text = text_of(getattr(told, TEXTS[name]))
        if not text:
            return
        place = self._place(told, name, out)
        if place is not None and not place.filled:
            place.filled = True
            out.append(PartDelta(place.index, text))

    def _cited(self, told: Wire, out: list[Event]) -> None:
        place = self._place(told, "response.output_text", out)
        cited = citation(told.annotation) if type(told.annotation) is dict else None
        if place is not None and cited is not None:
            place.cited += 1
            out.append(PartCited(place.index, cited))

    # --- The end --------------------------------------------------------------------------------------------------
    def _over(self, response: Json, kind: str, out: list[Event]) -> None:
        self._begun(response, out)
        self.is_over = True
        if kind == "response.failed" or response.get("status") == "failed":
            error = response.get("error")
            out.append(Failed({"error": error if type(error) is dict else {"message": text_of(error)}}))
            return
        left = {id(item): item for item in self.items.values()}
        for item in left.values():
            for place in item.places.values():
                self._end(place, out)
        if not self.count:
            for value in list_of(response.get("output")):
                self._done(None, value, out)
        tokens = usage.parse(response)
        if tokens is not None:
            out.append(Used(tokens))
        told = response if "status" in response else {**response, "status": kind.removeprefix("response.")}
        out += (Finished(finish(told, self.kinds)), Ended())


def named(event: bytes) -> str:
    """Return an event's kind where only its own line says it."""
    for line in sse.LINE.split(event):
        if line.startswith(b"event:"):
            return line[6:].strip().decode(errors="replace")
    return ""


def _error(told: Wire) -> Json:
    if type(told.error) is dict:
        return {"error": told.error}
    message = text_of(told.error) or text_of(told.message)
    return {"error": {"code": told.code, "message": message, "param": told.param}}


def _begun(name: str, id: str) -> Part:
    if name == "response.output_text":
        return Text("")
    if name == "response.refusal":
        return Refusal("")
    return Thinking("", id=id, is_summary=name == "response.reasoning_summary_text")


def _bare(part: Part) -> Part:
    """Return a part as it begins."""
    match part:
        case Text():
            return Text("")
        case Refusal():
            return Refusal("")
        case Thinking():
            return replace(part, text="", signature="", origin="")
        case ToolCall():
            return replace(part, arguments="")
        case _:
            return part


def _said(part: Part) -> str:
    match part:
        case Text(text=text) | Refusal(text=text) | Thinking(text=text):
            return text
        case ToolCall(arguments=arguments):
            return arguments
        case _:
            return ""
