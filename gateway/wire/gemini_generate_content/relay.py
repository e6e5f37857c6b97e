"""A stream from an upstream of this dialect to a caller of it. Pure.

No JSON is parsed for an ordinary chunk. The model's name and the key before it are learned from the first chunk; with
its quotes it can stand in no text, where they would be escaped, and what could hold such a key of its own (a call's
arguments) is read with care. From the first `finishReason` on the last event is kept back, for more may follow it: it
comes from `closing`. Usage is cumulative, so the last one counts if no output came after it, and every one says what
was delivered so far.
"""

import re

import msgspec

from gateway.wire import sse, top_level
from gateway.wire.canonical import Json
from gateway.wire.codec import Reply
from gateway.wire.fields import Asked, encode
from gateway.wire.gemini_generate_content.encoder import Framing, cut_short
from gateway.wire.gemini_generate_content.fieldnames import pick
from gateway.wire.gemini_generate_content.grounding import searches_of
from gateway.wire.gemini_generate_content.response import MODEL_KEY, usage_of, with_cost
from gateway.wire.gemini_generate_content.stream import UNSPECIFIED
from gateway.wire.usage import Tokens, count

# What marks a chunk that is more than some text: its end, an error, or objects with keys of their own.
SPECIAL = re.compile(rb'"(?:finish_?reason|block_?reason|error|args|response|web_?search_?queries)"', re.IGNORECASE)
USAGE = re.compile(rb'"usage_?metadata"', re.IGNORECASE)
BYTES_PER_TOKEN = 4
# Chunks after which something has certainly been said; of fewer each is looked at.
CHUNKS_LOOKED_AT = 4


class StreamRelay:
    """One stream on its way through: whole events in, whole events (or elements of an array) out."""

    def __init__(self, _asked: Asked, reply: Reply) -> None:
        self.reply = reply
        self.framing = Framing(array=reply.array)
        self.model = encode(reply.model)
        # `"modelVersion":"…"` as this upstream writes it, and as the caller gets it.
        self.named = self.renamed = b""
        self.pending = b""
        self.last = self.final = b""
        self.early: list[bytes] = []
        self.bytes_count = self.chunks_count = 0
        self.searches: dict[int, int] = {}
        self.failure: bytes | None = None
        self.ended = False
        self.has_finished = False

    @property
    def complete(self) -> bool:
        """Whether the answer came to its proper end."""
        return self.has_finished and self.failure is None

    def feed(self, block: bytes) -> bytes:
        """Return what the caller gets for a block of whole events."""
        if self.ended or not block:
            return b""
        if self.named and not self.has_finished and not self.reply.array and not SPECIAL.search(block):
            chunks = block.count(b"data:")
            if block.count(self.named) == chunks == block.count(MODEL_KEY):
                self._count(block, chunks)
                return block.replace(self.named, self.renamed)
        return b"".join(map(self._event, sse.split(block)))

    def _count(self, block: bytes, chunks: int) -> None:
        self.bytes_count += len(block)
        self.chunks_count += chunks
        self.last = block
        if len(self.early) < CHUNKS_LOOKED_AT:
            self.early.append(block)

    def _event(self, event: bytes) -> bytes:
        if self.ended:
            return b""
        data = sse.data_of(event).strip()
        if data == b"[DONE]":
            return b""
        if not data:
            # A comment keeps a connection open; in an array it would be none.
            return b"" if self.reply.array else event
        if SPECIAL.search(data) and self._is_failure(_object(data)):
            self.failure, self.ended = data, True
            return b""
        before_it = self.last
        self._count(event, 1)
        if self.has_finished:
            self._note_usage(data, before_it)
        event, data = self._rename(event), self._rename(data)
        before, self.pending = self.pending, b""
        if self.has_finished:
            self.pending = data if self.reply.array else event
            return self._out(before)
        return self._out(data if self.reply.array else event)

    def _out(self, kept: bytes) -> bytes:
        """Return an event, or in an array its data, as the caller gets it."""
        return self.framing.chunk(kept) if self.reply.array and kept else kept

    def _is_failure(self, chunk: Json) -> bool:
        """Tell whether a chunk is an error; note what else it says beside its text: an end, searches."""
        if chunk.get("error") is not None:
            return True
        feedback = pick(chunk, "promptFeedback")
        if type(feedback) is dict and pick(feedback, "blockReason"):
            self.has_finished = True
        candidates = chunk.get("candidates")
        for number, each in enumerate(candidates if type(candidates) is list else ()):
            if type(each) is not dict:
                continue
            if pick(each, "finishReason") not in (None, "", UNSPECIFIED):
                self.has_finished = True
            queries = searches_of(each)
            if queries:
                index = count(each.get("index")) or number
                self.searches[index] = max(queries, self.searches.get(index, 0))
        return False

    def _rename(self, event: bytes) -> bytes:
        start = event.find(b"{")
        span = top_level.string_value(event[start:], MODEL_KEY) if start >= 0 else None
        if span is None:
            return event
        first, last = start + span[0], start + span[1]
        key = event.rfind(MODEL_KEY, 0, first)
        self.named = event[key:last]
        self.renamed = event[key:first] + self.model
        return event[:first] + self.model + event[last:]

    def end(self) -> bytes:
        """Return what the caller gets once the upstream's connection has ended: nothing more."""
        return b""

    def _note_usage(self, data: bytes, before_it: bytes) -> None:
        """Keep the event with the whole answer's usage: the last one that tells it, if no output came after it."""
        if USAGE.search(data):
            self.final = b"data: " + data
        elif _output_bytes(data):
            self.final = b""
        else:
            self.final = self.final or before_it

    def delivered_tokens(self) -> int:
        """Return about how many tokens of output came through: as the last chunk says, or as its bytes do."""
        usage = pick(_last(self.last), "usageMetadata")
        usage = usage if type(usage) is dict else {}
        told = (count(pick(usage, name)) or 0 for name in ("candidatesTokenCount", "thoughtsTokenCount"))
        whole, output, chunks = 0, 0, 0
        for event in sse.split(b"".join(self.early)):
            data = sse.data_of(event).strip()
            whole, output, chunks = whole + len(event), output + _output_bytes(data), chunks + bool(data)
        envelopes = (whole - output) * self.chunks_count // max(chunks, 1)
        return max(sum(told), (self.bytes_count - envelopes) // BYTES_PER_TOKEN, int(self.produced()))

    def produced(self) -> bool:
        """Tell whether any output came through."""
        if self.chunks_count >= CHUNKS_LOOKED_AT:
            return True
        return any(_output_bytes(sse.data_of(event).strip()) for event in sse.split(b"".join(self.early)))

    def final_usage(self) -> Tokens | None:
        """Return the whole answer's usage, None where its last chunk told none that can be true."""
        if not self.complete:
            return None
        tokens: Tokens | None = usage_of(_last(self.final), sum(self.searches.values()))
        return tokens

    def closing(self, cost: bytes) -> bytes:
        """Return the event that was kept back, with the cost in its usage where the caller asked for it."""
        kept = self.pending
        if kept and cost and self.reply.wants_cost:
            data = kept if self.reply.array else sse.data_of(kept)
            kept = with_cost(data, cost) if self.reply.array else b"data: " + with_cost(data, cost) + b"\n\n"
        return self._out(kept) + self.framing.end()

    def broken(self, error: bytes, *, cut: bool) -> bytes:
        """Return how a broken stream ends."""
        kept, self.pending = self._out(self.pending), b""
        if cut:
            tail = b',"modelVersion":' + self.model + b',"responseId":' + encode(self.reply.request_id) + b"}"
            kept += self.framing.chunk(cut_short(tail))
        return kept + self.framing.chunk(error) + self.framing.end()


def _last(block: bytes) -> Json:
    """Return the last chunk of a block of events."""
    found = [data for event in sse.split(block) if (data := sse.data_of(event).strip())]
    return _object(found[-1]) if found else {}


def _object(data: bytes) -> Json:
    try:
        found = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return {}
    if type(found) is list and found:
        found = found[0]
    return found if type(found) is dict else {}


def _output_bytes(data: bytes) -> int:
    """Return how many bytes of output a chunk holds."""
    candidates = _object(data).get("candidates")
    size = 0
    for each in candidates if type(candidates) is list else ():
        content = each.get("content") if type(each) is dict else None
        parts = content.get("parts") if type(content) is dict else None
        for part in parts if type(parts) is list else ():
            if type(part) is dict:
                text = part.get("text")
                size += len(encode(text)) - len(b'""') if type(text) is str else len(encode(part))
    return size
