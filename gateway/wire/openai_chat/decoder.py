"""A stream of chat chunks as events. Pure.

https://platform.openai.com/docs/api-reference/chat-streaming. What upstreams do otherwise is mended: deltas of calls
without an index or an id, several calls under one index, calls in one piece, arguments as objects; thoughts under
three names, in a list, or in `<think>` tags at the very beginning of the text; usage in any chunk; no `[DONE]`.

Usage is latest-wins. What is held is the arguments of calls until each is whole, sound, and what may become a tag.
"""

from typing import Any

import msgspec

from gateway.wire import marks, sse
from gateway.wire.canonical import Audio, Inline, Json, Refusal, Text, Thinking, ToolCall
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
from gateway.wire.fields import CHOICES_MAX, InvalidRequest, encode
from gateway.wire.openai_chat.assistant import (
    NO_ARGUMENTS,
    PLAIN,
    Key,
    call_signature,
    citations_of,
    continues,
    details_of,
)
from gateway.wire.openai_chat.parts import pieces_of, read_image
from gateway.wire.openai_chat.response import CLOSE, OPEN, SPACE_MAX, finish_of, logprobs_of, tokens_of
from gateway.wire.openai_chat.tables import NO_REASONS

# How often a call's arguments are looked at for being whole, and how many calls one answer may hold.
LOOKS_MAX = 16
CALLS_MAX = 512
PLAIN_KEY: Key = ("", None)
TAGGED_KEY: Key = ("<think>", None)
BEFORE, INSIDE, BEHIND, PAST = range(4)
# The place of the old `function_call` among the calls, beside every index.
OLD_CALL = -1


class Delta(msgspec.Struct):
    """What one chunk brings for one choice."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    tool_calls: Any = None
    function_call: Any = None
    refusal: Any = None
    annotations: Any = None
    images: Any = None
    audio: Any = None


class Chosen(msgspec.Struct):
    """One choice of a chunk; some upstreams call the last delta a message."""

    delta: Delta | None = None
    message: Delta | None = None
    index: Any = 0
    finish_reason: Any = None
    stop_reason: Any = None
    logprobs: Any = None


class Chunk(msgspec.Struct):
    """One event's data."""

    id: Any = None
    model: Any = None
    created: Any = None
    object: Any = None
    choices: list[Chosen] | None = None
    usage: Any = None
    x_groq: Any = None
    service_tier: Any = None
    error: Any = None


decode_chunk = msgspec.json.Decoder(Chunk).decode


def _whole_error(data: bytes) -> Json:
    try:
        found: Json = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return {"error": None}
    return found


class Decoder:
    """One upstream's stream."""

    def __init__(self) -> None:
        self.started = False
        self.over = False
        self.id = ""
        self.choices: dict[int, Voice] = {}

    def feed(self, block: bytes) -> list[Event]:
        """Return the events of a block of whole server-sent events; raise Unreadable."""
        out: list[Event] = []
        for event in sse.split(block):
            if self.over:
                break
            if event[:6] == b"data: " and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
                data = event[6:-2]
            else:
                data = sse.data_of(event)
            if data:
                self._take(data, out)
        return out

    def finish(self) -> list[Event]:
        """Return what is left; `Ended` where every choice came to its end, for want of `[DONE]`."""
        if self.over:
            return []
        self.over = True
        out: list[Event] = []
        open_choices = [voice for voice in self.choices.values() if not voice.finished]
        for voice in open_choices:
            voice.release(out)
        if self.choices and not open_choices:
            out.append(Ended())
        return out

    def _take(self, data: bytes, out: list[Event]) -> None:
        if data[:1] == b"[" and data.strip() == b"[DONE]":
            self._done(out)
            return
        try:
            chunk = decode_chunk(data)
        except msgspec.ValidationError:
            # Nothing that is known.
            return
        except (ValueError, RecursionError):
            raise Unreadable("sent an event that is no JSON") from None
        if chunk.error is not None or chunk.object == "error":
            self.over = True
            out.append(Failed(_whole_error(data)))
            return
        choices = chunk.choices
        if not self.started:
            # An empty first chunk (Azure's, about its filters) names neither the answer nor the model.
            if not choices and not chunk.id and chunk.usage is None:
                return
            self._start(chunk, out)
        if choices:
            for chosen in choices:
                self._choose(chosen, out)
        if chunk.usage is not None or chunk.x_groq is not None:
            found = {"usage": chunk.usage, "x_groq": chunk.x_groq, "service_tier": chunk.service_tier}
            tokens = tokens_of(found)
            if tokens is not None:
                out.append(Used(tokens))

    def _done(self, out: list[Event]) -> None:
        self.over = True
        for voice in self.choices.values():
            if not voice.finished:
                voice.finish(None, None, out)
        if self.started:
            out.append(Ended())

    def _start(self, chunk: Chunk, out: list[Event]) -> None:
        self.started = True
        self.id = chunk.id if isinstance(chunk.id, str) else ""
        model = chunk.model if isinstance(chunk.model, str) else ""
        out.append(Started(self.id, model, chunk.created if type(chunk.created) is int else 0))

    def _choose(self, chosen: Chosen, out: list[Event]) -> None:
        number = chosen.index if type(chosen.index) is int and 0 <= chosen.index < CHOICES_MAX else 0
        voice = self.choices.get(number)
        if voice is None:
            voice = self.choices[number] = Voice(number, self.id)
        if voice.finished:
            return
        delta = chosen.delta or chosen.message
        if delta is not None:
            voice.take(delta, out)
        if chosen.logprobs is not None and (likely := tuple(logprobs_of(chosen.logprobs))):
            out.append(Likely(likely, number))
        if chosen.finish_reason not in NO_REASONS:
            voice.finish(chosen.finish_reason, chosen.stop_reason, out)


class Call:
    """A call of a tool that is being written."""

    __slots__ = ("custom", "ended", "id", "index", "looks", "name", "pieces", "signature")

    def __init__(self, id: str, *, custom: bool) -> None:
        self.id = id
        self.custom = custom
        self.name = ""
        # Of its part, once its name is known.
        self.index: int | None = None
        self.pieces: list[str] = []
        self.signature = ("", "")
        self.looks = 0
        self.ended = False

    def is_whole(self) -> bool:
        """Tell whether the arguments are complete; a custom tool's input never says so."""
        if self.custom or self.looks >= LOOKS_MAX:
            return False
        self.looks += 1
        try:
            return type(msgspec.json.decode("".join(self.pieces))) is dict
        except (ValueError, RecursionError):
            return False


class Voice:
    """One choice that is being written."""

    __slots__ = (
        "base",
        "by_id",
        "by_index",
        "calls_count",
        "count",
        "finished",
        "held",
        "key",
        "kind",
        "last_call",
        "live",
        "number",
        "open",
        "refused",
        "signed",
        "sound",
        "tags",
    )

    def __init__(self, number: int, base: str) -> None:
        self.number = number
        # What ids are made of.
        self.base = base
        # How many parts have begun, and the one that is open beside calls.
        self.count = 0
        self.open = -1
        self.kind: type[Text | Thinking | Refusal] | None = None
        self.key: Key | None = None
        self.signed = False
        self.tags = BEFORE
        self.held = ""
        self.by_index: dict[int, Call] = {}
        self.by_id: dict[str, Call] = {}
        # Calls that have not ended, in their order.
        self.live: list[Call] = []
        self.last_call: Call | None = None
        self.calls_count = 0
        self.sound: dict[str, list[str]] = {}
        self.refused = False
        self.finished = False

    def take(self, delta: Delta, out: list[Event]) -> None:
        """Add the events of a delta."""
        content = delta.content
        if delta.reasoning_details or delta.reasoning_content or delta.reasoning:
            self._thoughts(delta, out)
        if type(content) is not str:
            self._pieces(content, out)
        elif self.tags == PAST and self.kind is Text and content:
            out.append(PartDelta(self.open, content, self.number))
        elif content:
            self._say(content, out)
        if delta.annotations and self.kind is Text:
            out += [PartCited(self.open, citation, self.number) for citation in citations_of(delta.annotations)]
        if delta.images or delta.audio or delta.refusal:
            self._beside(delta, out)
        if delta.tool_calls or delta.function_call:
            self._calls(delta, out)

    def finish(self, reason: Any, sequence: Any, out: list[Event]) -> None:
        """Add the events that end the choice."""
        self.release(out)
        self._close(out)
        if self.sound:
            data, transcript, id = ("".join(self.sound[name]) for name in ("data", "transcript", "id"))
            self._whole(Audio(Inline("", ""), transcript, id), data, out)
        for call in list(self.live):
            self._end_call(call, out)
        self.finished = True
        finish, stop_sequence = finish_of(
            reason, called=self.last_call is not None, refused=self.refused, sequence=sequence
        )
        out.append(Finished(finish, stop_sequence, self.number))

    def release(self, out: list[Event]) -> None:
        """Add what was held back for a tag that did not come."""
        held, self.held = self.held, ""
        if held and self.tags == INSIDE:
            self._think(TAGGED_KEY, Thinking(held), out)
        elif held:
            self.tags = PAST
            self._text(held, out)

    # --- Text and thoughts
    def _start(self, kind: type[Text | Thinking | Refusal], part: Text | Thinking | Refusal, out: list[Event]) -> None:
        self._close(out)
        self.kind, self.open = kind, self.count
        self.count += 1
        out.append(PartStarted(self.open, part, self.number))

    def _close(self, out: list[Event]) -> None:
        """End the open part, and every call that is whole."""
        if self.kind is not None:
            out.append(PartEnded(self.open, self.number))
            self.kind = self.key = None
        for call in [call for call in self.live if call.index is not None and call.is_whole()]:
            self._end_call(call, out)

    def _pieces(self, content: Any, out: list[Event]) -> None:
        for is_thought, text in pieces_of(content):
            if is_thought:
                self._think(PLAIN_KEY, Thinking(text), out)
            else:
                self._say(text, out)

    def _text(self, text: str, out: list[Event]) -> None:
        if self.kind is not Text:
            self._start(Text, Text(""), out)
        out.append(PartDelta(self.open, text, self.number))

    def _thoughts(self, delta: Delta, out: list[Event]) -> None:
        pieces = list(details_of(delta.reasoning_details, marked=False))
        for key, piece in pieces:
            self._think(key, piece, out)
        for name in () if pieces else PLAIN:
            text = getattr(delta, name)
            if isinstance(text, str) and text:
                self._think(PLAIN_KEY, Thinking(text), out)
                break

    def _think(self, key: Key, piece: Thinking, out: list[Event]) -> None:
        if self.tags == BEFORE:
            self.tags = PAST
            self.release(out)
        if self.kind is not Thinking or not continues(key, piece, self.key, is_signed=self.signed):
            begun = Thinking("", id=piece.id, is_summary=piece.is_summary, redacted=piece.redacted)
            self._start(Thinking, begun, out)
            self.key, self.signed = key, False
        if piece.text:
            out.append(PartDelta(self.open, piece.text, self.number))
        if piece.signature:
            self.signed = True
            out.append(PartSigned(self.open, piece.signature, piece.origin, self.number))

    def _say(self, text: str, out: list[Event]) -> None:
        """Add a text, of which the beginning may be a thought in tags."""
        if self.tags == PAST:
            self._text(text, out)
            return
        self.held += text
        if self.tags == BEFORE:
            bare = self.held.lstrip()
            if len(self.held) - len(bare) > SPACE_MAX or not OPEN.startswith(bare[: len(OPEN)]):
                self.tags = PAST
                self.release(out)
                return
            if len(bare) < len(OPEN):
                return
            self.tags, self.held = INSIDE, bare[len(OPEN) :]
        if self.tags == INSIDE:
            self._inside(out)
        if self.tags == BEHIND:
            self.held = self.held.lstrip()
            if self.held:
                self.release(out)

    def _inside(self, out: list[Event]) -> None:
        thought, closed, rest = self.held.partition(CLOSE)
        if not closed:
            kept = next((size for size in range(len(CLOSE) - 1, 0, -1) if thought.endswith(CLOSE[:size])), 0)
            thought, rest = thought[: len(thought) - kept], thought[len(thought) - kept :]
        if self.kind is not Thinking:
            thought = thought.lstrip()
        if thought:
            self._think(TAGGED_KEY, Thinking(thought), out)
        self.held = rest
        if closed:
            self.tags = BEHIND

    # --- What stands beside the text
    def _beside(self, delta: Delta, out: list[Event]) -> None:
        for image in delta.images if isinstance(delta.images, list) else ():
            try:
                picture = read_image(image if isinstance(image, dict) else {}, "")
            except InvalidRequest:
                continue
            self._close(out)
            self._whole(picture, "", out)
        if isinstance(delta.audio, dict):
            if not self.sound:
                self.sound = {"data": [], "transcript": [], "id": []}
            for name, pieces in self.sound.items():
                if isinstance(piece := delta.audio.get(name), str) and (name != "id" or not pieces):
                    pieces.append(piece)
        if isinstance(delta.refusal, str) and delta.refusal:
            self.refused = True
            if self.tags == BEFORE:
                self.tags = PAST
                self.release(out)
            if self.kind is not Refusal:
                self._start(Refusal, Refusal(""), out)
            out.append(PartDelta(self.open, delta.refusal, self.number))

    def _whole(self, part: Any, text: str, out: list[Event]) -> None:
        out.append(PartStarted(self.count, part, self.number))
        if text:
            out.append(PartDelta(self.count, text, self.number))
        out.append(PartEnded(self.count, self.number))
        self.count += 1

    # --- Calls
    def _calls(self, delta: Delta, out: list[Event]) -> None:
        for found in delta.tool_calls if isinstance(delta.tool_calls, list) else ():
            if isinstance(found, dict):
                self._call(found, out)
        if isinstance(delta.function_call, dict):
            self._call({"index": OLD_CALL, "function": delta.function_call}, out)

    def _call(self, found: Json, out: list[Event]) -> None:
        custom = found.get("custom")
        inner = custom if isinstance(custom, dict) else found.get("function")
        inner = inner if isinstance(inner, dict) else {}
        id, name = (each if isinstance(each, str) else "" for each in (found.get("id"), inner.get("name")))
        call = self._which(found.get("index"), id, name, custom=isinstance(custom, dict))
        if call.ended:
            return
        signature = call_signature(found, marked=False)
        if signature[0]:
            call.signature = signature
        text = inner.get("input" if call.custom else "arguments")
        if text is not None and not isinstance(text, str):
            text = encode(text).decode()
        if text and not call.pieces and not call.custom:
            text = text.lstrip()
        if name and call.index is None:
            call.name = name
            self._start_call(call, out)
        if text:
            call.pieces.append(text)
            if call.index is not None:
                out.append(PartDelta(call.index, text, self.number))

    def _which(self, index: Any, id: str, name: str, *, custom: bool) -> Call:
        """Return the call that a delta goes on with, or a new one."""
        known: Call | None
        if type(index) is int:
            known = self.by_index.get(index)
            # Several calls under one index, each in one piece.
            if known is not None and not (id and name and id != known.id and known.is_whole()):
                return known
        elif id:
            known = self.by_id.get(id)
            if known is not None:
                return known
        elif self.last_call is not None and not (name and self.last_call.is_whole()):
            return self.last_call
        if self.calls_count >= CALLS_MAX:
            raise Unreadable("sent too many calls of tools")
        call = Call(id or marks.made_id(self.base, self.calls_count), custom=custom)
        self.calls_count += 1
        self.last_call = self.by_id[call.id] = call
        self.live.append(call)
        if type(index) is int:
            self.by_index[index] = call
        return call

    def _start_call(self, call: Call, out: list[Event]) -> int:
        self.release(out)
        self._close(out)
        index = call.index = self.count
        self.count += 1
        out.append(PartStarted(index, ToolCall(call.id, call.name, "", custom=call.custom), self.number))
        if call.pieces:
            out.append(PartDelta(index, "".join(call.pieces), self.number))
        return index

    def _end_call(self, call: Call, out: list[Event]) -> None:
        index = self._start_call(call, out) if call.index is None else call.index
        if not call.pieces and not call.custom:
            out.append(PartDelta(index, NO_ARGUMENTS, self.number))
        signature, origin = call.signature
        if signature:
            out.append(PartSigned(index, signature, origin, self.number))
        self.live.remove(call)
        call.ended = True
        call.pieces.clear()
        out.append(PartEnded(index, self.number))
