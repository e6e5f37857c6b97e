"""An upstream's stream as events, and events as a caller's stream. Pure.

https://docs.anthropic.com/en/docs/build-with-claude/streaming. Blocks come strictly one after the other, numbered
from 0; usage is cumulative. `message_delta` and `message_stop` tell that the answer is complete: they come from
`finish` alone.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.wire import marks, sse
from gateway.wire.anthropic_messages.content import citation_of
from gateway.wire.anthropic_messages.tables import FINISHES, NAME, stop_reason
from gateway.wire.anthropic_messages.usage import Counts, render_usage
from gateway.wire.anthropic_messages.words import citation_block, said_as_text, thought
from gateway.wire.canonical import (
    Json,
    Native,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    as_arguments,
    flat_name,
)
from gateway.wire.codec import Reply, Unreadable
from gateway.wire.events import (
    Ended,
    Event,
    Failed,
    Finished,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    Used,
)
from gateway.wire.fields import encode
from gateway.wire.usage import Tokens

decode = msgspec.json.decode
replace = msgspec.structs.replace
# What a delta belongs to, and where its text stands.
DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("tool_use", "partial_json"),
}


def _said(holder: Json, name: str) -> str:
    value = holder.get(name)
    return value if type(value) is str else ""


# --- From an upstream ---------------------------------------------------------------------------------------------
class Open:
    """A block that is still coming."""

    __slots__ = ("has_input", "index", "kind", "pieces", "value", "wire_index")

    def __init__(self, wire_index: Any, kind: str, value: Json, index: int) -> None:
        self.wire_index = wire_index
        self.kind = kind
        self.value = value
        self.index = index
        self.has_input = False
        self.pieces: list[str] = []


class Decoder:
    """An upstream's stream as events; vendors that leave out the start or end of a block are forgiven."""

    def __init__(self) -> None:
        self.open: Open | None = None
        self.parts_count = 0
        self.counts = Counts()
        self.id = ""
        self.started = self.called = self.finished = self.ended = False

    def feed(self, block: bytes) -> list[Event]:
        """Return the events of a block of whole server-sent events; raise Unreadable."""
        events: list[Event] = []
        for event in sse.split(block):
            data = sse.data_of(event)
            if not data or self.ended or data == b"[DONE]":
                continue
            try:
                found = decode(data)
            except (ValueError, RecursionError):
                raise Unreadable("sent an event that is no JSON") from None
            if type(found) is not dict:
                raise Unreadable("sent an event that is no JSON object")
            self._take(found, events)
        return events

    def take(self, found: Json) -> list[Event]:
        """Return the events of one of the vendor's, read from its JSON."""
        events: list[Event] = []
        self._take(found, events)
        return events

    def finish(self) -> list[Event]:
        """Return what is left once the connection has ended: an answer that said why it ended is complete."""
        if self.ended or not self.finished:
            return []
        self.ended = True
        return [Ended()]

    def _take(self, found: Json, out: list[Event]) -> None:
        kind = found.get("type")
        if self.finished and isinstance(kind, str) and kind.startswith("content_block"):
            # It said already why the answer ended: nothing can follow.
            return
        match kind:
            case "content_block_delta":
                delta = found.get("delta")
                if type(delta) is dict:
                    self._delta(found.get("index"), delta, out)
            case "content_block_start":
                block = found.get("content_block")
                if type(block) is dict:
                    self._begin(found.get("index"), block, out)
            case "content_block_stop":
                if self.open is not None and self.open.wire_index == found.get("index"):
                    self._end(out)
            case "message_start":
                self._start(found.get("message"), out)
            case "message_delta":
                self._message_delta(found, out)
            case "message_stop":
                self._finish("end_turn", "", out)
                out.append(Ended())
                self.ended = True
            case kind if kind == "error" or (kind is None and found.get("error") is not None):
                out.append(Failed(found))
                self.ended = True

    def _start(self, message: Any, out: list[Event]) -> None:
        if self.started:
            return
        self.started = True
        message = message if type(message) is dict else {}
        self.id = _said(message, "id")
        out.append(Started(self.id, _said(message, "model")))
        self._count(message.get("usage"), out)

    def _count(self, usage: Any, out: list[Event]) -> None:
        if self.counts.add(usage) and (tokens := self.counts.tokens()) is not None:
            out.append(Used(tokens))

    def _message_delta(self, found: Json, out: list[Event]) -> None:
        self._count(found.get("usage"), out)
        delta = found.get("delta")
        if type(delta) is dict and (reason := _said(delta, "stop_reason")):
            self._finish(reason, _said(delta, "stop_sequence"), out)

    def _finish(self, reason: str, stop_sequence: str, out: list[Event]) -> None:
        if self.finished:
            return
        self._start(None, out)
        self._end(out)
        self.finished = True
        finish = FINISHES.get(reason, "stop")
        # Some vendors call tools and say that they are done.
        out.append(Finished("tool_calls" if finish == "stop" and self.called else finish, stop_sequence))

    def _begin(self, wire_index: Any, block: Json, out: list[Event]) -> Open:
        self._start(None, out)
        self._end(out)
        kind = _said(block, "type")
        opened = self.open = Open(wire_index, kind, block, self.parts_count)
        self.parts_count += 1
        index = opened.index
        match kind:
            case "text":
                out.append(PartStarted(index, Text("")))
                if text := _said(block, "text"):
                    out.append(PartDelta(index, text))
                citations = block.get("citations")
                for each in citations if type(citations) is list else ():
                    self._cite(index, each, out)
            case "thinking":
                out.append(PartStarted(index, Thinking("")))
                if text := _said(block, "thinking"):
                    out.append(PartDelta(index, text))
                self._sign(index, _said(block, "signature"), out)
            case "redacted_thinking":
                out.append(PartStarted(index, Thinking("", redacted=True)))
                self._sign(index, _said(block, "data"), out)
            case "tool_use":
                self.called = True
                id = _said(block, "id") or f"toolu_{self.id.removeprefix('msg_')}_{index}"
                out.append(PartStarted(index, ToolCall(id, _said(block, "name"), "")))
        return opened

    def _sign(self, index: int, signature: str, out: list[Event]) -> None:
        if signature:
            out.append(PartSigned(index, signature, NAME))

    def _cite(self, index: int, citation: Any, out: list[Event]) -> None:
        found = citation_of(citation)
        if found is not None:
            out.append(PartCited(index, found))

    def _delta(self, wire_index: Any, delta: Json, out: list[Event]) -> None:
        kind = delta.get("type")
        opened = self.open
        wanted = DELTAS.get(kind) if type(kind) is str else None
        if opened is None or opened.wire_index != wire_index:
            if wanted is None:
                return
            opened = self._begin(wire_index, {"type": wanted[0]}, out)
        if wanted is not None and opened.kind == wanted[0]:
            if text := _said(delta, wanted[1]):
                opened.has_input = True
                out.append(PartDelta(opened.index, text))
        elif kind == "signature_delta" and opened.kind == "thinking":
            self._sign(opened.index, _said(delta, "signature"), out)
        elif kind == "citations_delta" and opened.kind == "text":
            self._cite(opened.index, delta.get("citation"), out)
        elif kind == "input_json_delta":
            opened.pieces.append(_said(delta, "partial_json"))
        elif kind == "compaction_delta":
            opened.value["content"] = delta.get("content")

    def _end(self, out: list[Event]) -> None:
        opened, self.open = self.open, None
        if opened is None:
            return
        if opened.kind == "tool_use":
            if not opened.has_input:
                out.append(PartDelta(opened.index, _whole_input(opened.value.get("input"))))
        elif opened.kind not in ("text", "thinking", "redacted_thinking"):
            # Nobody else's deltas could tell what such a block is: it begins when it is whole.
            out.append(PartStarted(opened.index, Native(NAME, opened.kind, _with_input(opened))))
        out.append(PartEnded(opened.index))


def _whole_input(given: Any) -> str:
    """Return the arguments of a call that came in one piece, as an object or as text."""
    if type(given) is str:
        return given or "{}"
    return encode(given or {}).decode()


def _with_input(opened: Open) -> Json:
    text = "".join(opened.pieces)
    if not text:
        return opened.value
    try:
        return opened.value | {"input": decode(text)}
    except (ValueError, RecursionError):
        return opened.value


# --- For a caller -------------------------------------------------------------------------------------------------
def event_of(kind: str, fields: Json) -> bytes:
    """Return one of the stream's events."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), encode({"type": kind} | fields))


def message_delta(reason: str, stop_sequence: str, usage: Json) -> bytes:
    """Return the event that tells why an answer ended."""
    delta = {"stop_reason": reason, "stop_sequence": stop_sequence or None}
    return event_of("message_delta", {"delta": delta, "usage": usage})


def block_stop(index: int) -> bytes:
    """Return the event that ends a block."""
    return event_of("content_block_stop", {"index": index})


MESSAGE_STOP = event_of("message_stop", {})
PING = event_of("ping", {})
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%s","%s":'


PartEvent = PartDelta | PartStarted | PartEnded | PartSigned | PartCited
# By part: the signature, and the dialect it is of.
Signatures = dict[int, tuple[str, str]]
UNSIGNED = ("", "")


class Writing:
    """The part that is being written; `head` is how its deltas begin, `begun` whether its block was opened."""

    __slots__ = ("begun", "head", "index", "part", "pieces", "signature")

    def __init__(self, index: int, part: Part) -> None:
        self.index = index
        self.part = part
        self.begun = False
        self.head = b""
        self.pieces: list[str] = []
        self.signature = UNSIGNED


class Encoder:
    """One answer as a stream for Anthropic's clients. Of several answers only the first is one here."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.begun = self.refused = self.called = False
        self.usage: Tokens | None = None
        self.finished = Finished("stop")
        self.writing: Writing | None = None
        # What comes of other parts while one is open, by part, in the order in which they began.
        self.waiting: OrderedDict[int, tuple[PartStarted, list[PartEvent]]] = OrderedDict()
        self.blocks_count = 0

    def encode(self, events: Sequence[Event]) -> bytes:
        """Return what the caller gets for these events."""
        out: list[bytes] = []
        if not self.begun and events:
            for event in events:
                if isinstance(event, Used):
                    self.usage = event.tokens
            self._begin(out)
        signatures = _signatures(events)
        for event in events:
            match event:
                case PartDelta() | PartStarted() | PartEnded() | PartSigned() | PartCited():
                    if event.choice == 0:
                        self._part(event, signatures, out)
                case Used(tokens):
                    self.usage = tokens
                case Finished() if event.choice == 0:
                    self._close_all(out)
                    self.finished = event
        return b"".join(out)

    def finish(self, cost: bytes) -> bytes:
        """Return the stream's end."""
        usage = render_usage(self.usage)
        if self.reply.wants_cost:
            usage["cost"] = msgspec.Raw(cost)
        reason = stop_reason(self.finished.finish, refused=self.refused, called=self.called)
        return self._ending() + message_delta(reason, self.finished.stop_sequence, usage) + MESSAGE_STOP

    def fail(self, error: bytes, *, cut: bool) -> bytes:
        """Return how a broken stream ends; one that is cut says so before the error that tells why."""
        event = b"event: error\ndata: %s\n\n" % error
        if not cut:
            return event
        return self._ending() + message_delta("max_tokens", "", render_usage(self.usage)) + event

    def _ending(self) -> bytes:
        out: list[bytes] = []
        if not self.begun:
            self._begin(out)
        self._close_all(out)
        return b"".join(out)

    def _begin(self, out: list[bytes]) -> None:
        self.begun = True
        message: Json = {
            "id": f"msg_{self.reply.request_id}",
            "type": "message",
            "role": "assistant",
            "model": self.reply.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": render_usage(self.usage),
        }
        out.append(event_of("message_start", {"message": message}))
        out.append(PING)

    def _part(self, event: PartEvent, signatures: Signatures, out: list[bytes]) -> None:
        writing = self.writing
        if writing is not None and writing.index == event.index:
            self._write(writing, event, out)
            if self.writing is None:
                self._next(out)
        elif event.index in self.waiting:
            self.waiting[event.index][1].append(event)
        elif isinstance(event, PartStarted):
            if writing is None:
                self._open(event, signatures.get(event.index, UNSIGNED), out)
            else:
                self.waiting[event.index] = (event, [])

    def _open(self, event: PartStarted, signature: tuple[str, str], out: list[bytes]) -> Writing:
        """Begin a part; a text's block begins with its first words, for an empty one could not be sent back."""
        part = event.part
        writing = self.writing = Writing(event.index, part)
        match part:
            case Text(text) | Refusal(text):
                self.refused = self.refused or isinstance(part, Refusal)
                self._say(writing, text, out)
                for citation in part.citations if isinstance(part, Text) else ():
                    self._write(writing, PartCited(event.index, citation), out)
            case Thinking():
                writing.signature = (part.signature, part.origin)
                if not part.redacted:
                    self._start(writing, {"type": "thinking", "thinking": "", "signature": ""}, "thinking", out)
                    self._say(writing, part.text, out)
            case ToolCall():
                self.called = True
                id = part.id or marks.made_id(self.reply.request_id, event.index)
                id = marks.signed_id(id, *(signature if signature[0] else (part.signature, part.origin)))
                block = {"type": "tool_use", "id": id, "name": flat_name(part.namespace, part.name), "input": {}}
                self._start(writing, block, "input_json", out)
                self._say(writing, part.arguments, out)
            case Native(origin, _, value):
                if origin == NAME:
                    self._native(writing, value, out)
            case _:
                self._say(writing, said_as_text(part), out)
        return writing

    def _native(self, writing: Writing, value: Json, out: list[bytes]) -> None:
        given = value.get("input")
        if type(given) is not dict:
            self._start(writing, value, "", out)
            return
        # As Anthropic sends it: clients that gather the input from deltas alone would find none.
        self._start(writing, value | {"input": {}}, "input_json", out)
        self._say(writing, encode(given).decode(), out)

    def _start(self, writing: Writing, block: Json, kind: str, out: list[bytes]) -> None:
        writing.begun = True
        field = b"partial_json" if kind == "input_json" else kind.encode()
        writing.head = DELTA % (self.blocks_count, kind.encode() + b"_delta", field)
        out.append(event_of("content_block_start", {"index": self.blocks_count, "content_block": block}))
        self.blocks_count += 1

    def _say(self, writing: Writing, text: str, out: list[bytes]) -> None:
        if not text:
            return
        if not writing.begun:
            self._start(writing, {"type": "text", "text": ""}, "text", out)
        if isinstance(writing.part, ToolCall):
            if writing.part.custom:
                # What a text is as a function's argument is known when it is whole.
                writing.pieces.append(text)
                return
            writing.pieces = ["{"]
        out.append(writing.head + encode(text) + b"}}\n\n")

    def _write(self, writing: Writing, event: PartEvent, out: list[bytes]) -> None:
        match event:
            case PartDelta(text=text) if isinstance(writing.part, Text | Thinking | Refusal | ToolCall):
                self._say(writing, text, out)
            case PartSigned(signature=signature, origin=origin):
                writing.signature = (signature, origin)
            case PartCited(citation=citation) if citation.url:
                if not writing.begun:
                    self._start(writing, {"type": "text", "text": ""}, "text", out)
                delta = {"type": "citations_delta", "citation": citation_block(citation)}
                out.append(event_of("content_block_delta", {"index": self.blocks_count - 1, "delta": delta}))
            case PartEnded():
                self._close(writing, out)

    def _close(self, writing: Writing, out: list[bytes]) -> None:
        self.writing = None
        part = writing.part
        if isinstance(part, Thinking):
            signature, origin = writing.signature
            block = thought(replace(part, signature=signature, origin=origin))
            if part.redacted:
                self._start(writing, block, "", out)
            else:
                delta = {"type": "signature_delta", "signature": block["signature"]}
                out.append(event_of("content_block_delta", {"index": self.blocks_count - 1, "delta": delta}))
        elif isinstance(part, ToolCall):
            if part.custom:
                out.append(writing.head + encode(as_arguments("".join(writing.pieces))) + b"}}\n\n")
            elif not writing.pieces:
                out.append(writing.head + b'"{}"}}\n\n')
        if writing.begun:
            out.append(block_stop(self.blocks_count - 1))

    def _next(self, out: list[bytes]) -> None:
        """Write what waited, until a part is open again."""
        while self.waiting and self.writing is None:
            _, (started, events) = self.waiting.popitem(last=False)
            writing = self._open(started, _signatures(events).get(started.index, UNSIGNED), out)
            for event in events:
                self._write(writing, event, out)
                if isinstance(event, PartEnded):
                    break

    def _close_all(self, out: list[bytes]) -> None:
        while self.writing is not None:
            self._close(self.writing, out)
            self._next(out)


def _signatures(events: Sequence[Event]) -> Signatures:
    """Return the signatures that come at once, by part: a call's id, which begins it, is the only place for its own."""
    return {
        event.index: (event.signature, event.origin)
        for event in events
        if isinstance(event, PartSigned) and event.choice == 0
    }
