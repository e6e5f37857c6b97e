"""An answer's events as a stream of this dialect. Pure.

https://platform.openai.com/docs/api-reference/responses-streaming. The order is what OpenAI's stream helpers demand:
`response.created` first, an item before its parts, a part before its text, everything done before the end.

Neighbouring texts and refusals are one message, neighbouring pieces of one thought one reasoning item; so these are
done only when something else begins. Thoughts are shown as summaries, but for those that this dialect itself had in
full. A call of a custom tool that went through a dialect with functions alone is written when it is whole.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.wire import marks
from gateway.wire.canonical import (
    Audio,
    Finish,
    Image,
    Inline,
    Json,
    Logprob,
    Native,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    as_input,
    custom_names,
    flat_name,
)
from gateway.wire.codec import Reply
from gateway.wire.events import Event, Finished, Likely, PartCited, PartDelta, PartEnded, PartSigned, PartStarted, Used
from gateway.wire.fields import encode
from gateway.wire.openai_responses import usage
from gateway.wire.openai_responses.items import NAME, annotation, is_own, likely, sealed
from gateway.wire.openai_responses.tools import namespaced
from gateway.wire.usage import Tokens

replace = msgspec.structs.replace

# What a response repeats of its request, with what holds where the request says nothing.
ECHO: Json = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
# How an answer is incomplete that ended like this; everything else is complete.
INCOMPLETE: dict[Finish, str] = {
    "length": "max_output_tokens",
    "pause": "max_output_tokens",
    "content_filter": "content_filter",
}
FAILED: Json = {"code": "server_error", "message": "The model ended its answer with an error."}
CUT = {"reason": "max_output_tokens"}


class Piece:
    """The part NUMBER, being written. `texts` is what came of it, `prefix` what its deltas begin with."""

    __slots__ = (
        "annotations",
        "ended",
        "index",
        "is_done",
        "item",
        "kind",
        "length",
        "logprobs",
        "number",
        "prefix",
        "texts",
    )

    def __init__(self, item: "Item", kind: str, index: int, number: int) -> None:
        self.item = item
        self.kind = kind
        self.index = index
        self.number = number
        self.texts: list[str] = []
        self.prefix = b""
        self.annotations: list[Json] = []
        self.logprobs: list[Json] = []
        self.length = 0
        self.ended = self.is_done = False


class Item:
    """An item of the output that is being written: `value` is what it will be."""

    __slots__ = ("counts", "index", "is_done", "pieces", "thought", "value")

    def __init__(self, index: int, value: Json) -> None:
        self.index = index
        self.value = value
        self.pieces: list[Piece] = []
        # How many pieces stand in each of its lists.
        self.counts: dict[str, int] = {}
        self.thought: Thinking | None = None
        self.is_done = False


# A piece's kind: what its events are called, where it stands among its item's, and the field of its last event.
EVENTS: dict[str, tuple[str, str, str]] = {
    "output_text": ("response.output_text", "content_index", "text"),
    "refusal": ("response.refusal", "content_index", "refusal"),
    "summary_text": ("response.reasoning_summary_text", "summary_index", "text"),
    "reasoning_text": ("response.reasoning_text", "content_index", "text"),
    "arguments": ("response.function_call_arguments", "", "arguments"),
    "input": ("response.custom_tool_call_input", "", "input"),
}


class Encoder:
    """One answer."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.customs, self.spaces = custom_names(reply.tools), namespaced(reply.tools)
        self.items: list[Item] = []
        self.pieces: dict[int, Piece] = {}
        # The item that may still get more pieces.
        self.last: Item | None = None
        # The text that came last, and logprobs belong to.
        self.said: Piece | None = None
        self.tokens: Tokens | None = None
        self.finished: Finish = "stop"
        self.has_refusal = False
        self.sequence = 0
        self.out: list[bytes] = []

    # --- What a stream sends ----------------------------------------------------------------------------------------
    def encode(self, events: Sequence[Event]) -> bytes:
        """Return what the caller gets for these events."""
        if not self.sequence:
            self._begin()
        taken: Event | None = None
        for number, event in enumerate(events):
            if getattr(event, "choice", 0):
                continue
            match event:
                case PartDelta(index=index, text=text):
                    after = events[number + 1] if number + 1 < len(events) else None
                    found = after.logprobs if isinstance(after, Likely) else ()
                    if self._delta(index, text, found):
                        taken = after
                case Likely(logprobs=found):
                    if event is not taken:
                        self._likely(found)
                case PartStarted():
                    self._start(event, itertools.islice(events, number + 1, None))
                case _:
                    self._take(event)
        return self._sent()

    def _take(self, event: Event) -> None:
        match event:
            case PartEnded(index=index):
                self._ended(index)
            case PartCited():
                self._cited(event)
            case PartSigned():
                self._signed(event)
            case Used(tokens=tokens):
                self.tokens = tokens
            case Finished(finish=finish):
                self._finished(finish)
            case _:
                pass

    def finish(self, cost: bytes) -> bytes:
        """Return the stream's end."""
        if not self.sequence:
            self._begin()
        status, _, _ = self._state()
        self._emit(f"response.{status}", response=self.response(cost if self.reply.wants_cost else None))
        return self._sent()

    def fail(self, error: bytes, *, cut: bool) -> bytes:
        """Return how a broken stream ends.

        Where it was cut, an `error` event says why before the answer ends as incomplete: readers that know no such
        event pass it over, and those that stop at the end have seen it.
        """
        if not self.sequence:
            self._begin()
        said = fault(error)
        if cut:
            self._emit("error", **said)
            told = {"status": "incomplete", "incomplete_details": CUT}
        else:
            told = {"status": "failed", "error": {name: said[name] for name in ("code", "message")}}
        output = [self._written(item, "incomplete") for item in self.items]
        self._emit(f"response.{told['status']}", response=self._object(output) | told)
        return self._sent()

    def response(self, cost: bytes | None) -> Json:
        """Return the whole response object, with COST in its usage if there is one to show."""
        status, error, details = self._state()
        told = self._object([item.value for item in self.items])
        told |= {"status": status, "error": error, "incomplete_details": details}
        if self.tokens is not None:
            told |= {"usage": usage.render(self.tokens, cost)} | usage.beside(self.tokens)
        return told

    def _state(self) -> tuple[str, Json | None, Json | None]:
        """Return the answer's status, its error and why it is incomplete."""
        if self.finished == "error":
            return "failed", FAILED, None
        reason = INCOMPLETE.get(self.finished)
        if self.finished == "refusal" and not self.has_refusal:
            reason = "content_filter"
        return ("incomplete", None, {"reason": reason}) if reason else ("completed", None, None)

    def _object(self, output: list[Json]) -> Json:
        reply = self.reply
        echo = {name: value if reply.fields.get(name) is None else reply.fields[name] for name, value in ECHO.items()}
        told: Json = {
            "id": f"resp_{reply.request_id}",
            "object": "response",
            "created_at": reply.created,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": reply.model,
            "output": output,
            "usage": None,
        }
        return told | echo

    def _begin(self) -> None:
        told = self._object([])
        self._emit("response.created", response=told)
        self._emit("response.in_progress", response=told)

    def _emit(self, kind: str, **told: Any) -> None:
        data = encode({"type": kind, "sequence_number": self.sequence} | told)
        self.sequence += 1
        self.out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))

    def _sent(self) -> bytes:
        sent = b"".join(self.out)
        self.out.clear()
        return sent

    # --- Items ----------------------------------------------------------------------------------------------------
    def _start(self, event: PartStarted, rest: Iterable[Event]) -> None:
        part = event.part
        match part:
            case Text() | Refusal():
                kind = "output_text" if isinstance(part, Text) else "refusal"
                self._content(event.index, kind, part)
            case Audio() if part.transcript:
                self._content(event.index, "output_text", Text(part.transcript))
                # What follows is sound.
                self.pieces.pop(event.index).ended = True
            case Thinking():
                self._thinking(event.index, part)
            case ToolCall():
                self._call(event.index, part, rest)
            case Native() if part.origin == NAME:
                self._whole(part.value)
            case Image(source=Inline(media_type=media_type, data=data)):
                # The mark tells it from a picture that a vendor of this dialect has kept.
                told = {"id": self._id("ig") + marks.ID_MARK, "type": "image_generation_call", "status": "completed"}
                self._whole(told | {"output_format": media_type.rpartition("/")[2] or "png", "result": data})
            case _:
                pass

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self.reply.request_id}_{len(self.items)}"

    def _open(self, value: Json) -> Item:
        self._settle()
        item = self.last = Item(len(self.items), value)
        self.items.append(item)
        self._emit("response.output_item.added", output_index=item.index, item=value)
        return item

    def _whole(self, value: Json) -> None:
        self._close(self._open(value), "completed")
        self.last = None

    def _settle(self) -> None:
        """End the item that might have got more pieces, unless one of its pieces goes on."""
        item, self.last = self.last, None
        if item is not None and not item.is_done and all(piece.ended for piece in item.pieces):
            self._close(item, "completed")

    def _content(self, index: int, kind: str, part: Text | Refusal) -> None:
        item = self.last
        if item is None or item.value["type"] != "message":
            value = {"id": self._id("msg"), "type": "message", "status": "in_progress"}
            item = self._open(value | {"role": "assistant", "content": []})
        piece = self._piece(index, item, kind)
        if kind == "output_text":
            self.said = piece
        else:
            self.has_refusal = True
        self._emit(
            "response.content_part.added",
            item_id=item.value["id"],
            output_index=item.index,
            content_index=piece.index,
            part=_content(piece),
        )
        if part.text:
            self._delta(index, part.text, ())

    def _piece(self, index: int, item: Item, kind: str) -> Piece:
        """Return a new piece of an item; its place is among those of its kind of place."""
        name, place, _ = EVENTS[kind]
        if item.pieces and item.pieces[-1].ended:
            self._piece_done(item.pieces[-1])
        number = item.counts.get(place, 0)
        item.counts[place] = number + 1
        piece = self.pieces[index] = Piece(item, kind, number, index)
        item.pieces.append(piece)
        where = {"type": f"{name}.delta", "item_id": item.value["id"], "output_index": item.index}
        data = encode(where | ({place: number} if place else {}))
        piece.prefix = b'event: %b.delta\ndata: %b,"delta":' % (name.encode(), data[:-1])
        return piece

    def _thinking(self, index: int, part: Thinking) -> None:
        item = self.last
        kind = "summary_text" if part.is_summary or not is_own(part) else "reasoning_text"
        thought = None if item is None else item.thought
        if item is None or thought is None or thought.signature or thought.id != part.id:
            id = part.id if is_own(part) else self._id("rs")
            item = self._open({"id": id, "type": "reasoning", "summary": []})
        item.thought = replace(part, text="")
        # What has no text has no place in the item: it is begun with its first.
        self._piece(index, item, kind)
        if part.text:
            self._delta(index, part.text, ())

    def _call(self, index: int, part: ToolCall, rest: Iterable[Event]) -> None:
        """Begin a call; its id has to hold its signature from the first on."""
        for event in rest:
            if isinstance(event, PartSigned) and event.index == index:
                part = replace(part, signature=event.signature, origin=event.origin)
            elif isinstance(event, PartEnded) and event.index == index:
                break
        id = part.id or marks.made_id(self.reply.request_id, len(self.items))
        namespace, name = part.namespace, part.name
        if not namespace:
            namespace, name = self.spaces.get(name, ("", name))
        custom = part.custom or flat_name(namespace, name) in self.customs
        told: Json = {"id": self._id("ctc" if custom else "fc")}
        told |= {"type": "custom_tool_call" if custom else "function_call", "status": "in_progress"}
        told |= {"call_id": marks.signed_id(id, part.signature, part.origin), "name": name}
        told |= {"namespace": namespace} if namespace else {}
        kind = "input" if custom else "arguments"
        item = self._open(told | {kind: ""})
        piece = self._piece(index, item, kind)
        if custom and not part.custom:
            piece.prefix = b""
        if part.arguments:
            self._delta(index, part.arguments, ())

    # --- What is added to them --------------------------------------------------------------------------------------
    def _delta(self, index: int, text: str, found: Sequence[Logprob]) -> bool:
        """Add to a piece; return whether it took the logprobs too."""
        piece = self.pieces.get(index)
        if piece is None:
            return False
        if not piece.texts and piece.kind in ("summary_text", "reasoning_text"):
            self._shown(piece)
        piece.texts.append(text)
        piece.length += len(text)
        if not piece.prefix:
            return False
        tail = b"}\n\n"
        if piece.kind == "output_text":
            told = likely(found)
            piece.logprobs += told
            tail = b',"logprobs":%b}\n\n' % (encode(told) if told else b"[]")
        self.out.append(b'%b%b,"sequence_number":%d%b' % (piece.prefix, encode(text), self.sequence, tail))
        self.sequence += 1
        return piece.kind == "output_text"

    def _shown(self, piece: Piece) -> None:
        """Begin a piece of a thought, now that it has a text."""
        item = piece.item
        if piece.kind == "summary_text":
            told: Json = {"type": "summary_text", "text": ""}
            where = {"item_id": item.value["id"], "output_index": item.index, "summary_index": piece.index}
            self._emit("response.reasoning_summary_part.added", **where, part=told)
        else:
            told = {"type": "reasoning_text", "text": ""}
            where = {"item_id": item.value["id"], "output_index": item.index, "content_index": piece.index}
            self._emit("response.content_part.added", **where, part=told)

    def _likely(self, found: Sequence[Logprob]) -> None:
        """Add logprobs that come without a text of their own to the text that came last."""
        piece = self.said
        if piece is None:
            return
        told = likely(found)
        if piece.item.is_done:
            piece.item.value["content"][piece.index]["logprobs"] += told
            return
        piece.logprobs += told
        if piece.is_done:
            return
        tail = (piece.prefix, self.sequence, encode(told))
        self.out.append(b'%b"","sequence_number":%d,"logprobs":%b}\n\n' % tail)
        self.sequence += 1

    def _cited(self, event: PartCited) -> None:
        piece = self.pieces.get(event.index)
        if piece is None or piece.kind != "output_text":
            return
        told = annotation(event.citation, piece.length)
        self._emit(
            "response.output_text.annotation.added",
            item_id=piece.item.value["id"],
            output_index=piece.item.index,
            content_index=piece.index,
            annotation_index=len(piece.annotations),
            annotation=told,
        )
        piece.annotations.append(told)

    def _signed(self, event: PartSigned) -> None:
        piece = self.pieces.get(event.index)
        if piece is not None and piece.item.thought is not None:
            piece.item.thought = replace(piece.item.thought, signature=event.signature, origin=event.origin)

    def _ended(self, index: int) -> None:
        piece = self.pieces.get(index)
        if piece is None:
            return
        piece.ended = True
        item = piece.item
        # A call gets no more pieces; nor does what something else has come after.
        if item is not self.last or piece.kind in ("arguments", "input"):
            self.last = None if item is self.last else self.last
            if not item.is_done and all(each.ended for each in item.pieces):
                self._close(item, "completed")

    def _finished(self, finish: Finish) -> None:
        self.finished = finish
        is_short = self._state()[0] != "completed"
        for item in self.items:
            if not item.is_done:
                self._close(item, "incomplete" if is_short and item is self.items[-1] else "completed")
        self.last = None

    # --- Ends -----------------------------------------------------------------------------------------------------
    def _close(self, item: Item, status: str) -> None:
        for piece in item.pieces:
            self._piece_done(piece)
        item.value = self._written(item, status)
        item.is_done = True
        for piece in item.pieces:
            self.pieces.pop(piece.number, None)
        item.pieces = []
        self._emit("response.output_item.done", output_index=item.index, item=item.value)

    def _piece_done(self, piece: Piece) -> None:
        is_hidden = not piece.texts and piece.kind in ("summary_text", "reasoning_text")
        if piece.is_done or is_hidden:
            return
        piece.is_done = True
        item = piece.item
        name, place, field = EVENTS[piece.kind]
        where = {"item_id": item.value["id"], "output_index": item.index} | ({place: piece.index} if place else {})
        if piece.kind == "input" and not piece.prefix:
            piece.texts = [as_input("".join(piece.texts))]
            self._emit(f"{name}.delta", **where, delta=piece.texts[0])
        text = "".join(piece.texts)
        more = {"logprobs": piece.logprobs} if piece.kind == "output_text" else {}
        self._emit(f"{name}.done", **where, **{field: text}, **more)
        if piece.kind == "summary_text":
            self._emit("response.reasoning_summary_part.done", **where, part={"type": "summary_text", "text": text})
        elif place:
            self._emit("response.content_part.done", **where, part=_content(piece))

    def _written(self, item: Item, status: str) -> Json:
        """Return an item with all that has come of it."""
        if item.is_done or not item.pieces:
            return item.value
        value = item.value | ({"status": status} if "status" in item.value else {})
        if value["type"] == "message":
            return value | {"content": [_content(piece) for piece in item.pieces]}
        if item.thought is None:
            piece = item.pieces[0]
            return value | {piece.kind: "".join(piece.texts)}
        for name, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
            shown = [_content(piece) for piece in item.pieces if piece.kind == kind and piece.texts]
            value |= {name: shown} if shown else {}
        seal = sealed(item.thought)
        return value | ({"encrypted_content": seal} if seal else {})


def _content(piece: Piece) -> Json:
    text = "".join(piece.texts)
    if piece.kind == "output_text":
        told = {"type": "output_text", "text": text}
        return told | {"annotations": piece.annotations[:], "logprobs": piece.logprobs[:]}
    return {"type": piece.kind, EVENTS[piece.kind][2]: text}


def fault(error: bytes) -> Json:
    """Return code, message and param of the caller's envelope (JSON)."""
    told = msgspec.json.decode(error)
    inner = told.get("error") if type(told) is dict else None
    inner = inner if type(inner) is dict else {}
    message, code = inner.get("message"), inner.get("code") or inner.get("type")
    return {
        "code": code if type(code) is str else "server_error",
        "message": message if type(message) is str else "The answer was broken off.",
        "param": inner.get("param"),
    }
