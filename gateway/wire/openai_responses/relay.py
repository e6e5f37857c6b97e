"""A stream of this dialect on its way through. Pure.

No JSON is parsed for an ordinary event. Only events that hold a response object name the model; the last of them, with
the usage, is what tells the caller that the answer is complete, and is kept back.
"""

import re

import msgspec

from gateway.wire import sse, top_level
from gateway.wire.codec import Reply, Unreadable
from gateway.wire.fields import Asked, encode
from gateway.wire.openai_responses.decoder import named
from gateway.wire.openai_responses.encoder import CUT, fault
from gateway.wire.openai_responses.items import text_of
from gateway.wire.openai_responses.response import tokens_in, with_cost
from gateway.wire.usage import Tokens

# What an event that is no ordinary one holds; inside a text the quotes would be escaped.
MARKS = (b'"response"', b'"error"', b"event: error", b"event:error", b"[DONE]")
DELTA = b'.delta"'
DONE = b'"response.output_item.done"'
SEQUENCE = re.compile(rb'"sequence_number"\s*+:\s*+(\d{1,18})')
COMPLETE = frozenset({"response.completed", "response.incomplete"})
FAILED = frozenset({"response.failed", "response.cancelled"})
# A stream's first deltas show how many bytes of each are no output.
DELTAS_LOOKED_AT = 4
BYTES_PER_TOKEN = 4
# With which some vendors hide the lengths of texts: bytes say nothing then.
PADDING = b'"obfuscation"'
EMPTY = (b"", b"null", b'""')


class Head(msgspec.Struct):
    """The parts of an event that the relay reads."""

    type: msgspec.Raw = msgspec.Raw(b"")
    response: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    delta: msgspec.Raw = msgspec.Raw(b"")


decode_head = msgspec.json.Decoder(Head).decode
decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def relay(asked: Asked, reply: Reply) -> "StreamRelay":
    """Return the relay of one stream."""
    return StreamRelay(reply.model, wants_cost=asked.wants_cost)


class StreamRelay:
    """One stream: whole events in, whole events out."""

    def __init__(self, model: str, *, wants_cost: bool = False) -> None:
        self.asked = encode(model)
        self.wants_cost = wants_cost
        self.failure: bytes | None = None
        self.ended = False
        self.is_complete = False
        # The last response object that was sent, for an end that has to be made here.
        self.snapshot = b""
        # The end, kept back until the charge is durable, and its response object within it.
        self.pending = self.pending_response = b""
        self.usage: Tokens | None = None
        self.latest = b""
        self.deltas_count = 0
        self.deltas_bytes = 0
        self.measured_count = 0
        self.envelope_bytes = 0
        self.has_output = self.is_padded = False

    @property
    def complete(self) -> bool:
        """Whether the answer came to its proper end."""
        return self.is_complete

    def feed(self, block: bytes) -> bytes:
        """Return what the caller gets for a block of whole events."""
        if self.ended or not block:
            return b""
        if not any(map(block.__contains__, MARKS)):
            self._measure(block)
            self.latest = block
            return block
        return b"".join(map(self._event, sse.split(block)))

    def end(self) -> bytes:
        """Return nothing: all that may be sent was."""
        return b""

    def delivered_tokens(self) -> int:
        """Return about how many tokens of output came through: deltas, or what is in them beside their envelopes."""
        # Numbers grow on the way.
        envelope_bytes = self.envelope_bytes + len(self._number())
        output_bytes = 0 if self.is_padded else self.deltas_bytes - self.deltas_count * envelope_bytes
        return max(self.deltas_count, output_bytes // BYTES_PER_TOKEN, int(self.has_output))

    def produced(self) -> bool:
        """Tell whether any output came through."""
        return self.has_output

    def final_usage(self) -> Tokens | None:
        """Return the usage that the answer's end told."""
        return self.usage

    def closing(self, cost: bytes) -> bytes:
        """Return the end that was kept back."""
        if not self.wants_cost or not self.pending:
            return self.pending
        return _replaced(self.pending, self.pending_response, with_cost(self.pending_response, cost))

    def broken(self, error: bytes, *, cut: bool) -> bytes:
        """Return how a broken stream ends, as `Encoder.fail`; an end that was kept back is not the end then."""
        told, said = decode_fields(self.snapshot or b"{}"), fault(error)
        number = int(self._number() or b"-1") + 1
        out = []
        if cut:
            out.append(("error", said))
            told |= _raw(status="incomplete", incomplete_details=CUT)
        else:
            told |= _raw(status="failed", error={name: said[name] for name in ("code", "message")})
        kind = "response.incomplete" if cut else "response.failed"
        out.append((kind, {"response": told}))
        return b"".join(
            b"event: %b\ndata: %b\n\n" % (name.encode(), encode({"type": name, "sequence_number": number + at} | each))
            for at, (name, each) in enumerate(out)
        )

    def _event(self, event: bytes) -> bytes:
        if self.ended:
            return b""
        data = sse.data_of(event)
        if data.strip() == b"[DONE]":
            return b""
        try:
            head = decode_head(data)
            kind = text_of(msgspec.json.decode(head.type)) if head.type else named(event)
        except (ValueError, RecursionError):
            head, kind = Head(), named(event)
        if kind == "error" or (not head.type and bytes(head.error) not in EMPTY):
            self.failure, self.ended = data, True
            return b""
        if not head.response:
            self._measure(event)
            self.latest = event
            return event
        response = bytes(head.response)
        if kind in FAILED:
            self.failure, self.ended = _failure(response), True
            return b""
        mine = self._renamed(response)
        event = _replaced(event, response, mine)
        if kind in COMPLETE:
            self._over(mine, event)
            return b""
        self.latest = event
        if mine.startswith(b"{"):
            self.snapshot = mine
        return event

    def _over(self, response: bytes, event: bytes) -> None:
        self.ended = self.is_complete = True
        self.pending, self.pending_response = event, response
        try:
            self.usage, _ = tokens_in(response)
        except Unreadable:
            self.usage = None

    def _renamed(self, response: bytes) -> bytes:
        """Return a response object with the caller's name for the model; every other byte stays."""
        try:
            model = bytes(decode_fields(response).get("model", b""))
        except (ValueError, RecursionError):
            return response
        # With one place only that it can stand at, nothing else has to be looked at.
        pieces = re.split(rb'("model"\s*+:\s*+)' + re.escape(model), response, maxsplit=2) if model else [response]
        if len(pieces) == 3:
            return pieces[0] + pieces[1] + self.asked + pieces[2]
        return top_level.replace_string(response, b'"model"', self.asked)

    def _number(self) -> bytes:
        """Return the last event's number, b"" where it has none."""
        numbers = SEQUENCE.findall(self.latest)
        return numbers[-1] if numbers else b""

    def _measure(self, block: bytes) -> None:
        """Count a block's deltas and their bytes."""
        count = block.count(DELTA)
        if not count:
            self.has_output = self.has_output or DONE in block
            return
        if self.measured_count < DELTAS_LOOKED_AT or block.count(b"data:") != count:
            for event in sse.split(block):
                self._measure_one(event)
            return
        self.deltas_count += count
        self.deltas_bytes += len(block)

    def _measure_one(self, event: bytes) -> None:
        if DELTA not in event:
            self.has_output = self.has_output or DONE in event
            return
        self.deltas_count += 1
        self.deltas_bytes += len(event)
        if self.measured_count < DELTAS_LOOKED_AT or not self.has_output:
            self.is_padded = self.is_padded or PADDING in event
            try:
                delta = bytes(decode_head(sse.data_of(event)).delta)
            except (ValueError, RecursionError):
                return
            self.has_output = self.has_output or delta not in EMPTY
            size = len(event) - len(delta.strip(b'"')) - sum(map(len, SEQUENCE.findall(event)))
            self.envelope_bytes = min(self.envelope_bytes, size) if self.measured_count else size
            self.measured_count += 1


def _raw(**told: object) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(encode(value)) for name, value in told.items()}


def _failure(response: bytes) -> bytes:
    try:
        error = decode_fields(response).get("error", msgspec.Raw(b"null"))
    except (ValueError, RecursionError):
        error = msgspec.Raw(b"null")
    return encode({"error": error})


def _replaced(event: bytes, old: bytes, new: bytes) -> bytes:
    """Return an event with one JSON value in place of another; where it stands on several lines, on one."""
    if old in event:
        return event.replace(old, new, 1)
    return b"data: " + sse.data_of(event).replace(old, new, 1).replace(b"\r", b"").replace(b"\n", b" ") + b"\n\n"
