"""A stream in OpenAI's chat format on its way from an upstream to a caller of the same dialect. Pure.

Usage is latest-wins: the last chunk that carries it has the whole request's.
"""

import re
from collections import deque

import msgspec

from gateway.wire import sse, top_level
from gateway.wire.fields import decode_fields, encode, present
from gateway.wire.openai_chat import usage
from gateway.wire.usage import Tokens

DONE = b"data: [DONE]\n\n"


def with_cost(data: bytes, cost: bytes) -> bytes:
    """Return a JSON answer or chunk with COST, a JSON number of dollars, in its usage."""
    try:
        fields = decode_fields(data)
        # One level deep: a number that Python cannot hold is no reason to fail what has been charged.
        counted = decode_fields(fields.get("usage", b""))
    except ValueError:
        return data
    return encode(fields | {"usage": msgspec.Raw(encode(counted | {"cost": msgspec.Raw(cost)}))})


def cut_short(request_id: str, model: str, created: int) -> bytes:
    """Return the event that tells a stream's readers that it ends here for its length."""
    chunk = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}],
    }
    return b"data: " + encode(chunk) + b"\n\n"


class Chunk(msgspec.Struct):
    """The parts of a stream's chunk that the gateway reads."""

    usage: msgspec.Raw = msgspec.Raw(b"")
    service_tier: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    choices: list[msgspec.Raw] | None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
NO_CHUNK = Chunk()


# An empty reason is what some upstreams send while there is none yet.
FINISH = re.compile(rb'"finish_reason" ?: ?"[^"]')
# A stream that ended badly after this many chunks has certainly produced something; of fewer each is looked at.
CHUNKS_LOOKED_AT = 4
BYTES_PER_TOKEN = 4
# Where a finish reason is looked for, once the stream has ended: it comes with the last chunk or soon before it.
RECENT_BLOCKS = 8


def has_usage(block: bytes) -> bool:
    """Tell whether a block holds a usage that is not null."""
    count = block.count(b'"usage"')
    return bool(count) and count != block.count(b'"usage":null') + block.count(b'"usage": null')


class StreamRelay:
    """One stream on its way through: whole events in, whole events out, usage read from the last ones only.

    No JSON is parsed for an ordinary event. Chunks of one stream begin with the same bytes up to their model's name:
    these are learned from one and replaced in the rest, several events at a time. What looks otherwise is halved
    until the odd event stands alone, and that is read with care. `[DONE]` is taken out: it is sent when the charge is
    durable. An error event is taken out too and becomes `failure`; what came before it is still returned, whatever
    block it came in. Nothing is relayed after either.
    """

    def __init__(
        self, model: str, *, wants_usage: bool, wants_cost: bool = False, request_id: str = "", created: int = 0
    ) -> None:
        self.model = model
        self.request_id = request_id
        self.created = created
        self.asked = encode(model)
        self.wants_usage = wants_usage
        self.wants_cost = wants_cost
        # The event with the usage, kept back until the cost is known.
        self.pending = b""
        self.bytes_count = 0
        self.measure: Measure | None = None
        self.early: list[bytes] = []
        self.beginning = self.renamed_beginning = b""
        self.usage: bytes | None = None
        # As JSON, of the event that carried the usage.
        self.service_tier = b""
        self.failure: bytes | None = None
        self.done = False
        self.ended = False
        self.chunks_count = 0
        # How many chunks there were when the last usage came.
        self.usage_chunks = 0
        self.recent: deque[bytes] = deque(maxlen=RECENT_BLOCKS)

    @property
    def complete(self) -> bool:
        """Whether the stream came to its proper end: `[DONE]`, or a finish reason for want of it."""
        return self.done or FINISH.search(b"".join(self.recent)) is not None

    def feed(self, block: bytes) -> bytes:
        """Return what the client gets for a block of whole events."""
        if self.ended or not block:
            return b""
        self.recent.append(block)
        self.bytes_count += len(block)
        if self.chunks_count < CHUNKS_LOOKED_AT:
            self.early.append(block)
        if self.wants_cost:
            return b"".join(map(self._event, sse.split(block)))
        return self._relay(block)

    def delivered_tokens(self) -> int:
        """Return about how many tokens of output came through: chunks, or what is in them beside their envelopes."""
        if self.measure is None or self.chunks_count < CHUNKS_LOOKED_AT:
            self.measure = measured(self.early)
        seen = self.measure
        later_bytes = self.bytes_count - seen.bytes - (self.chunks_count - seen.chunks) * seen.envelope_bytes
        return max(self.chunks_count, (seen.output_bytes + later_bytes) // BYTES_PER_TOKEN)

    def final_usage(self) -> Tokens | None:
        """Return the last usage, or None where there is none, or where so much came after it that it is old."""
        if self.usage is None or self.chunks_count - self.usage_chunks >= CHUNKS_LOOKED_AT:
            return None
        return usage.parse(self.usage, self.service_tier)

    def end(self) -> bytes:
        """Return nothing more: whole events go on as they come."""
        return b""

    def closing(self, cost: bytes) -> bytes:
        """Return the stream's end: what was kept back, with the cost (a JSON number of dollars), and `[DONE]`."""
        data = sse.data_of(self.pending)
        return (b"data: " + with_cost(data, cost) + b"\n\n" if data else b"") + DONE

    def broken(self, error: bytes, *, cut: bool) -> bytes:
        """Return how a broken stream ends: what was kept back, that it ends for its length, and the error."""
        short = cut_short(self.request_id, self.model, self.created) if cut else b""
        return self.pending + short + b"data: " + error + b"\n\n"

    def produced(self) -> bool:
        """Tell whether any output came through; a chunk that only says who speaks is none."""
        if self.chunks_count >= CHUNKS_LOOKED_AT:
            return True
        return any(_output_bytes(sse.data_of(event)) for event in sse.split(b"".join(self.early)))

    def _relay(self, block: bytes) -> bytes:
        if self.beginning and not self.ended:
            # The beginning can only stand at a chunk's beginning: inside a text its quotes would be escaped. A chunk
            # is one line and an empty one, so twice as many lines as beginnings leave no room for anything else.
            tails = block.split(self.beginning)
            count = len(tails) - 1
            if count and block.count(b"\n") == 2 * count and b'"error"' not in block and not has_usage(block):
                self.chunks_count += count
                return self.renamed_beginning.join(tails)
        if b"\r" in block:
            return b"".join(map(self._event, sse.split(block)))
        # With nothing learned the first event alone, for the rest may be plain once it is read.
        cut = block.find(b"\n\n", len(block) // 2 if self.beginning else 0) + 2
        if cut in (1, len(block)):
            cut = block.rfind(b"\n\n", 0, len(block) - 2) + 2
        if cut < 2:
            return b"".join(map(self._event, sse.split(block)))
        return self._relay(block[:cut]) + self._relay(block[cut:])

    def _event(self, event: bytes) -> bytes:
        if self.ended:
            return b""
        before, self.pending = self.pending, b""
        out = self._one(event)
        if self.done or self.failure is not None:
            self.pending = before
            return out
        # What was kept back was not the last usage after all.
        return before + out

    def _one(self, event: bytes) -> bytes:
        data = sse.data_of(event)
        if data.strip() == b"[DONE]":
            self.done = self.ended = True
            return b""
        if not data:
            return event
        if b'"error"' in data or b'"usage"' in data:
            try:
                chunk = decode_chunk(data)
            except (ValueError, RecursionError):
                chunk = NO_CHUNK
            if present(chunk.error):
                self.failure = data
                self.ended = True
                return b""
            if present(chunk.usage):
                self.usage, self.usage_chunks = bytes(chunk.usage), self.chunks_count + 1
                self.service_tier = bytes(chunk.service_tier) or self.service_tier
                if not chunk.choices and not self.wants_usage:
                    return b""
                if self.wants_cost:
                    self.chunks_count += 1
                    self.pending = self._rename(event)
                    return b""
        self.chunks_count += 1
        return self._rename(event)

    def _rename(self, event: bytes) -> bytes:
        start = event.find(b"{", max(0, event.find(b"data:")))
        span = top_level.string_value(event[start:], b'"model"') if start >= 0 else None
        if span is None:
            return event
        first, last = start + span[0], start + span[1]
        self.beginning = event[:last]
        self.renamed_beginning = event[:first] + self.asked
        return event[:first] + self.asked + event[last:]


class Delta(msgspec.Struct):
    """One choice of a chunk."""

    delta: dict[str, msgspec.Raw] | None = None


decode_deltas = msgspec.json.Decoder(list[Delta]).decode
EMPTY = (b"", b"null", b'""', b"[]", b"{}")


def _output_bytes(data: bytes) -> int:
    """Return how many bytes of output a chunk holds: text, reasoning, calls of tools; not who speaks."""
    try:
        choices = decode_chunk(data).choices or []
        deltas = [choice.delta or {} for raw in choices for choice in decode_deltas(b"[" + bytes(raw) + b"]")]
    except (ValueError, RecursionError):
        return 0
    found = [bytes(value) for delta in deltas for name, value in delta.items() if name != "role"]
    return sum(len(value) for value in found if value not in EMPTY)


class Measure(msgspec.Struct, frozen=True):
    """What a stream's first events show: their bytes, how many of these are output, and a chunk's other bytes."""

    bytes: int
    chunks: int
    output_bytes: int
    envelope_bytes: int


def measured(blocks: list[bytes]) -> Measure:
    """Return the measure of a stream by its first blocks of events; the leanest chunk shows the envelope."""
    whole = b"".join(blocks)
    found = [(len(event), _output_bytes(data)) for event in sse.split(whole) if (data := sse.data_of(event))]
    return Measure(
        bytes=len(whole),
        chunks=len(found),
        output_bytes=sum(output for _, output in found),
        envelope_bytes=min((size - output for size, output in found), default=0),
    )
