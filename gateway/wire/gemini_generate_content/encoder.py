"""Events as a stream for a caller of Gemini's dialect: server-sent events, or the elements of one JSON array. Pure.

Texts go out as they come, a call when it is whole. The last chunk, with the reasons why each choice ended and the
usage, is `finish`'s: it is what tells the caller that the answer is complete, for Gemini has no other end.
"""

from collections.abc import Sequence

import msgspec

from gateway.wire.canonical import (
    Audio,
    Inline,
    Json,
    Logprob,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
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
from gateway.wire.gemini_generate_content import grounding
from gateway.wire.gemini_generate_content.answer import REASONS, call_id, is_beside, part_of
from gateway.wire.gemini_generate_content.stream import likelihoods
from gateway.wire.gemini_generate_content.usage import metadata_of

replace = msgspec.structs.replace
Key = tuple[int, int]
# Clients read the first part of every chunk, and take an answer with a chunk that has none for broken.
SILENCE: Json = {"parts": [{"text": ""}], "role": "model"}


class Framing:
    """How chunks stand in a stream."""

    def __init__(self, *, array: bool) -> None:
        self.array = array
        self.is_open = False

    def chunk(self, data: bytes) -> bytes:
        """Return a chunk (JSON) as the next of the stream."""
        if not self.array:
            return b"data: " + data + b"\n\n"
        before, self.is_open = (b"\n,\n" if self.is_open else b"["), True
        return before + data

    def end(self) -> bytes:
        """Return what closes the stream."""
        if not self.array:
            return b""
        return b"\n]" if self.is_open else b"[\n]"


class Open(msgspec.Struct):
    """A part that is being written."""

    part: Part
    pieces: list[str]
    citations: list[grounding.Cited]
    signature: str = ""
    origin: str = ""


class Encoder:
    """One answer on its way to a caller."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.framing = Framing(array=reply.array)
        self.tail = self._tail(reply.request_id)
        self.open: dict[Key, Open] = {}
        self.texts: dict[int, int] = {}
        self.before_bytes: dict[int, int] = {}
        self.cited: dict[int, list[grounding.Cited]] = {}
        self.finished: dict[int, Finished] = {}
        self.used: Json | None = None

    def _tail(self, id: str) -> bytes:
        return b',"modelVersion":' + encode(self.reply.model) + b',"responseId":' + encode(id) + b"}"

    def encode(self, events: Sequence[Event]) -> bytes:
        """Return what the caller gets for these events."""
        out: list[bytes] = []
        for event in events:
            if isinstance(event, PartDelta):
                self._delta(event, out)
            elif isinstance(event, PartStarted):
                self._begin(event, out)
            elif isinstance(event, PartEnded):
                self._end(event, out)
            elif isinstance(event, PartSigned):
                open = self.open[event.choice, event.index]
                open.signature, open.origin = event.signature, event.origin
            elif isinstance(event, PartCited):
                self._cite(event)
            elif isinstance(event, Likely):
                out.append(self._likely(event.logprobs, event.choice))
            elif isinstance(event, Finished):
                self.finished[event.choice] = event
            elif isinstance(event, Used):
                self.used = metadata_of(event.tokens)
            elif isinstance(event, Started):
                self.tail = self._tail(event.id or self.reply.request_id)
        return b"".join(out)

    def _begin(self, event: PartStarted, out: list[bytes]) -> None:
        part, key = event.part, (event.choice, event.index)
        self.open[key] = Open(part, [], [])
        if isinstance(part, Text):
            self.texts[event.choice] = self.texts.get(event.choice, 0) + 1
        if isinstance(part, Text | Refusal | Thinking) and part.text:
            out.append(self._piece(part, part.text, event.choice))
            self.open[key].pieces.append(part.text)

    def _delta(self, event: PartDelta, out: list[bytes]) -> None:
        open = self.open[event.choice, event.index]
        open.pieces.append(event.text)
        if isinstance(open.part, Text | Refusal | Thinking):
            out.append(self._piece(open.part, event.text, event.choice))

    def _piece(self, part: Part, text: str, choice: int) -> bytes:
        thought = b',"thought":true' if isinstance(part, Thinking) else b""
        return self._parts(b'{"text":' + encode(text) + thought + b"}", choice)

    def _parts(self, parts: bytes, choice: int) -> bytes:
        """Return a chunk with parts (JSON, without brackets) of a choice."""
        return self.framing.chunk(
            b'{"candidates":[{"content":{"parts":[%b],"role":"model"},"index":%d}]%b' % (parts, choice, self.tail)
        )

    def _cite(self, event: PartCited) -> None:
        open = self.open[event.choice, event.index]
        before = self.before_bytes.get(event.choice, 0)
        # In one piece from now on, for there may be thousands of citations.
        open.pieces = ["".join(open.pieces)]
        open.citations.append(grounding.cited(event.citation, open.pieces[0], before))

    def _end(self, event: PartEnded, out: list[bytes]) -> None:
        open = self.open.pop((event.choice, event.index))
        part, text = open.part, "".join(open.pieces)
        made: Json | None = None
        if isinstance(part, Text):
            before = self.before_bytes.get(event.choice, 0)
            self.before_bytes[event.choice] = before + grounding.bytes_count(text)
            self.cited.setdefault(event.choice, []).extend(open.citations)
        elif isinstance(part, Thinking):
            signature, origin = open.signature or part.signature, open.origin or part.origin
            if signature:
                whole = replace(part, text=text, signature=signature, origin=origin)
                made = part_of(whole, "")
                # What was thought has gone out already.
                made = made if made is None or is_beside(whole) else made | {"text": ""}
        else:
            if isinstance(part, ToolCall):
                part = replace(
                    part,
                    arguments=part.arguments + text,
                    signature=open.signature or part.signature,
                    origin=open.origin or part.origin,
                )
            elif isinstance(part, Audio) and isinstance(part.source, Inline):
                part = replace(part, source=replace(part.source, data=part.source.data + text))
            made = (
                None
                if isinstance(part, Refusal)
                else part_of(part, call_id(self.reply.request_id, event.choice, event.index))
            )
        if made is not None:
            out.append(self._parts(encode(made), event.choice))

    def _likely(self, logprobs: tuple[Logprob, ...], choice: int) -> bytes:
        candidate = {"content": SILENCE, "index": choice, "logprobsResult": likelihoods(logprobs)}
        return self.framing.chunk(b'{"candidates":[' + encode(candidate) + b"]" + self.tail)

    def finish(self, cost: bytes) -> bytes:
        """Return the last chunk."""
        candidates = []
        for number in sorted(self.finished) or [0]:
            ended = self.finished.get(number, Finished("stop"))
            candidate: Json = {
                "content": SILENCE,
                "finishReason": REASONS[ended.finish],
                "index": number,
            }
            cited = self.cited.get(number)
            if cited:
                candidate["groundingMetadata"] = grounding.metadata_of(cited, self.texts[number])
            candidates.append(candidate)
        made: Json = {"candidates": candidates}
        if self.used is not None:
            made["usageMetadata"] = self.used
        if cost and self.reply.wants_cost:
            made["usageMetadata"] = made.get("usageMetadata", {}) | {"cost": msgspec.Raw(cost)}
        return self.framing.chunk(encode(made)[:-1] + self.tail) + self.framing.end()

    def fail(self, error: bytes, *, cut: bool) -> bytes:
        """Return how a broken stream ends: the caller's envelope, after a chunk that says so where it was cut."""
        before = self.framing.chunk(cut_short(self.tail)) if cut else b""
        return before + self.framing.chunk(error) + self.framing.end()


def cut_short(tail: bytes) -> bytes:
    """Return the chunk (JSON) that tells that a stream ends for its length; TAIL is what ends every chunk."""
    return b'{"candidates":[{"content":' + encode(SILENCE) + b',"finishReason":"MAX_TOKENS","index":0}]' + tail
