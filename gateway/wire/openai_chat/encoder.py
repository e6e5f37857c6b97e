"""Events as a stream of chat chunks. Pure.

https://platform.openai.com/docs/api-reference/chat-streaming. The first chunk of a choice says who speaks; entries of
lists carry an index, by which OpenAI's own libraries join them. The reasons why choices ended, the usage and `[DONE]`
are kept back until `finish`. A thought is told twice, as `reasoning_content` and with its signature among the
`reasoning_details`, for some readers know only the one and only the other can be sent back.
"""

from collections.abc import Sequence

import msgspec

from gateway.wire import marks
from gateway.wire.canonical import (
    Audio,
    FileId,
    Image,
    Inline,
    Json,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    custom_names,
    flat_name,
)
from gateway.wire.codec import Reply
from gateway.wire.events import (
    Event,
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
from gateway.wire.fields import encode
from gateway.wire.openai_chat.assistant import annotation, detail, signed_call
from gateway.wire.openai_chat.parts import write_image
from gateway.wire.openai_chat.relay import DONE
from gateway.wire.openai_chat.response import ending, write_call, write_logprob, write_usage
from gateway.wire.openai_chat.tables import NAME
from gateway.wire.usage import Tokens

replace = msgspec.structs.replace

NO_REASON = b',"logprobs":null,"finish_reason":null}]}\n\n'
ROLE = b'{"role":"assistant"'
# How far behind a call's beginning its signature is looked for: begun, arguments, signed.
SIGNED_WITHIN = 3


class Open:
    """A part that is being written: `head` and `tail` stand around a delta's text."""

    __slots__ = ("head", "is_named", "is_signed", "number", "offset", "part", "pieces", "tail")

    def __init__(self, part: Part, number: int, offset: int = 0) -> None:
        self.part = part
        # Among the parts of its kind, and how many characters of text stood before it.
        self.number = number
        self.offset = offset
        self.head = self.tail = b""
        # Of a call that goes out when it is whole.
        self.pieces: list[str] | None = None
        self.is_signed = self.is_named = False


class Voice:
    """One choice that is being written."""

    __slots__ = ("chars_count", "counts", "finished", "has_thought", "head", "is_refused", "open")

    def __init__(self, head: bytes) -> None:
        # What every chunk of this choice begins with, until the first one is sent with who speaks.
        self.head = head
        self.open: dict[int, Open] = {}
        self.counts: dict[type, int] = {}
        self.chars_count = 0
        self.has_thought = self.is_refused = False
        self.finished: Finished | None = None

    def next(self, kind: type) -> int:
        """Return the number of a new part of this kind."""
        number = self.counts.get(kind, 0)
        self.counts[kind] = number + 1
        return number


class Encoder:
    """One answer on its way to its caller."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.custom = custom_names(reply.tools)
        self.beginning = b""
        self.voices: dict[int, Voice] = {}
        # Choices of which a chunk has been sent.
        self.begun: set[int] = set()
        self.usage: Tokens | None = None

    def encode(self, events: Sequence[Event]) -> bytes:
        """Return the chunks of these events."""
        out: list[bytes] = []
        for at, event in enumerate(events):
            if type(event) is PartDelta:
                voice = self.voices[event.choice]
                part = voice.open.get(event.index)
                if part is not None:
                    self._delta(voice, part, event.text, event.choice, out)
            elif isinstance(event, PartStarted):
                self._start(event, events[at + 1 : at + 1 + SIGNED_WITHIN], out)
            elif isinstance(event, PartEnded | PartSigned | PartCited):
                self._close(event, out)
            elif isinstance(event, Likely):
                likely = {"content": [write_logprob(each) for each in event.logprobs], "refusal": None}
                self._chunk(event.choice, {}, out, {"logprobs": likely, "finish_reason": None})
            elif isinstance(event, Finished):
                self._voice(event.choice).finished = event
            elif isinstance(event, Used):
                self.usage = event.tokens
            elif isinstance(event, Started):
                self._begin(event)
        return b"".join(out)

    def finish(self, cost: bytes) -> bytes:
        """Return why each choice ended, the usage where it is wanted, and `[DONE]`."""
        out: list[bytes] = []
        for number in sorted(self.voices):
            voice = self.voices[number]
            if voice.finished is not None:
                reason = ending(voice.finished.finish, voice.finished.stop_sequence, refused=voice.is_refused)
                self._chunk(number, {}, out, {"logprobs": None, **reason})
        if self.usage is not None and self.reply.wants_usage:
            counted = write_usage(self.usage, cost if self.reply.wants_cost else None)
            # The beginning goes up to the first choice's index.
            out.append(self._beginning().removesuffix(b'{"index":') + b"]," + encode(counted)[1:] + b"\n\n")
        out.append(DONE)
        return b"".join(out)

    def fail(self, error: bytes, *, cut: bool) -> bytes:
        """Return how a broken stream ends."""
        out: list[bytes] = []
        for number in (sorted(self.voices) or [0]) if cut else ():
            self._chunk(number, {}, out, {"logprobs": None, "finish_reason": "length"})
        out.append(b"data: " + error + b"\n\n")
        return b"".join(out)

    # --- Chunks
    def _begin(self, started: Started) -> None:
        head = {
            "id": started.id or f"chatcmpl-{self.reply.request_id}",
            "object": "chat.completion.chunk",
            "created": started.created or self.reply.created,
            "model": self.reply.model,
        }
        self.beginning = b"data: " + encode(head)[:-1] + b',"choices":[{"index":'

    def _beginning(self) -> bytes:
        if not self.beginning:
            self._begin(Started("", ""))
        return self.beginning

    def _voice(self, number: int) -> Voice:
        voice = self.voices.get(number)
        if voice is None:
            voice = self.voices[number] = Voice(self._beginning() + b'%d,"delta":' % number)
        return voice

    def _chunk(self, number: int, delta: Json, out: list[bytes], rest: Json | None = None) -> None:
        head = self._voice(number).head
        written = self._spoken(number, encode(delta))
        out.append(head + written + (NO_REASON if rest is None else b"," + encode(rest)[1:] + b"]}\n\n"))

    def _spoken(self, number: int, delta: bytes) -> bytes:
        """Return a delta, with who speaks if it is the first of its choice."""
        if number in self.begun:
            return delta
        self.begun.add(number)
        return ROLE + (b"}" if delta == b"{}" else b"," + delta[1:])

    # --- Parts
    def _start(self, event: PartStarted, behind: Sequence[Event], out: list[bytes]) -> None:
        voice, part = self._voice(event.choice), event.part
        number = voice.next(type(part))
        opened = Open(part, number, voice.chars_count)
        voice.open[event.index] = opened
        if isinstance(part, ToolCall):
            self._start_call(opened, part, event, behind, out)
            return
        if isinstance(part, Image):
            if not isinstance(part.source, FileId):
                image = write_image(part, "images") | {"index": number}
                self._chunk(event.choice, {"images": [image]}, out)
            return
        text = ""
        if isinstance(part, Text):
            opened.head, opened.tail, text = b'{"content":', b"}", part.text
        elif isinstance(part, Refusal):
            voice.is_refused = True
            opened.head, opened.tail, text = b'{"refusal":', b"}", part.text
        elif isinstance(part, Audio):
            opened.head, opened.tail = b'{"audio":{"data":', b"}}"
            spoken = {"id": part.id, "transcript": part.transcript, "expires_at": 0}
            self._chunk(event.choice, {"audio": spoken}, out)
            text = part.source.data if isinstance(part.source, Inline) else ""
        elif isinstance(part, Thinking):
            text = part.text
        if text:
            self._delta(voice, opened, text, event.choice, out)
        if isinstance(part, Thinking) and part.signature:
            self._sign(opened, part.signature, part.origin, event.choice, out)

    def _delta(self, voice: Voice, part: Open, text: str, choice: int, out: list[bytes]) -> None:
        if part.pieces is not None:
            part.pieces.append(text)
        elif part.head:
            if type(part.part) is Text:
                voice.chars_count += len(text)
            delta = part.head + encode(text) + part.tail
            out.append(voice.head + (delta if choice in self.begun else self._spoken(choice, delta)) + NO_REASON)
        elif isinstance(part.part, Thinking):
            # Thoughts of their own are apart where they are told as one text.
            gap = "\n\n" if voice.has_thought and not part.is_named else ""
            voice.has_thought = True
            piece = _detail(part, part.part, text)
            self._chunk(choice, {"reasoning_content": gap + text, "reasoning_details": [piece]}, out)

    def _sign(self, part: Open, signature: str, origin: str, choice: int, out: list[bytes]) -> None:
        if isinstance(part.part, Thinking):
            self._chunk(choice, {"reasoning_details": [_detail(part, part.part, "", signature, origin)]}, out)
        elif not part.is_signed:
            shown = signature if origin == NAME else marks.mark(signature, origin)
            self._chunk(choice, {"tool_calls": [{"index": part.number, **signed_call(shown)}]}, out)

    def _close(self, event: PartEnded | PartSigned | PartCited, out: list[bytes]) -> None:
        voice = self.voices[event.choice]
        part = voice.open.get(event.index)
        if part is None:
            return
        if isinstance(event, PartSigned):
            self._sign(part, event.signature, event.origin, event.choice, out)
        elif isinstance(event, PartCited):
            cited = annotation(event.citation, part.offset, voice.chars_count - part.offset)
            self._chunk(event.choice, {"annotations": [cited | {"index": voice.next(PartCited)}]}, out)
        else:
            del voice.open[event.index]
            if part.pieces is not None and isinstance(part.part, ToolCall):
                whole = replace(part.part, arguments="".join(part.pieces))
                call = {"index": part.number} | write_call(whole, self.custom, self._made_id(event, part))
                self._chunk(event.choice, {"tool_calls": [call]}, out)

    def _made_id(self, event: PartStarted | PartEnded, part: Open) -> str:
        return marks.made_id(self.reply.request_id, event.choice, part.number)

    def _start_call(
        self, opened: Open, call: ToolCall, event: PartStarted, behind: Sequence[Event], out: list[bytes]
    ) -> None:
        for each in behind:
            if isinstance(each, PartSigned) and (each.index, each.choice) == (event.index, event.choice):
                call = replace(call, signature=each.signature, origin=each.origin)
        opened.part, opened.is_signed = call, bool(call.signature)
        if not call.custom and flat_name(call.namespace, call.name) in self.custom:
            opened.pieces = [call.arguments]
            return
        key, field = ("custom", "input") if call.custom else ("function", "arguments")
        opened.head = b'{"tool_calls":[{"index":%d,"%s":{"%s":' % (opened.number, key.encode(), field.encode())
        opened.tail = b"}}]}"
        written = {"index": opened.number} | write_call(call, self.custom, self._made_id(event, opened))
        self._chunk(event.choice, {"tool_calls": [written]}, out)


def _detail(part: Open, thought: Thinking, text: str, signature: str = "", origin: str = "") -> Json:
    """Return a piece of a thought; its id is told once, for readers join texts."""
    written = detail(replace(thought, text=text, signature=signature, origin=origin), part.number)
    if part.is_named:
        written.pop("id", None)
    part.is_named = True
    return written
