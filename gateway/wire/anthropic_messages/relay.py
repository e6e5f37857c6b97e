"""A stream that stays in Anthropic's dialect, on its way through. Pure.

The bytes are the upstream's but for the model's name in `message_start`. `message_stop`, and with the cost wanted the
last `message_delta`, are kept back until the charge is durable.
"""

import re
from typing import Any

import msgspec

from gateway.wire import sse, top_level
from gateway.wire.anthropic_messages.response import with_cost
from gateway.wire.anthropic_messages.stream import MESSAGE_STOP, block_stop, message_delta
from gateway.wire.anthropic_messages.usage import Counts, render_usage
from gateway.wire.codec import Reply
from gateway.wire.fields import encode
from gateway.wire.usage import Tokens

# How an ordinary event begins. It is three lines: no text can hold a line's end or an unescaped quote.
DELTA = b"event: content_block_delta\n"
DELTA_LINES = 3
SIGNATURE = b'"signature_delta"'
# A delta's text as it stands in its event, which Anthropic fills up with blanks of a random number.
TEXT = re.compile(rb'_delta" ?, ?"(?:text|thinking|partial_json)" ?: ?"((?:[^"\\]++|\\.)*+)"')
BYTES_PER_TOKEN = 4
# Blocks that only say what is coming.
OPENING = ("text", "thinking", "redacted_thinking")
# What of a delta is output.
DELTAS = ("text", "thinking", "partial_json", "citation")


class Event(msgspec.Struct):
    """What is looked at of an event that is no delta."""

    type: Any = None
    message: msgspec.Raw = msgspec.Raw(b"")
    usage: Any = None
    delta: Any = None
    content_block: Any = None
    index: Any = None
    error: Any = None


class Message(msgspec.Struct):
    """What is looked at of a message's beginning."""

    usage: Any = None


decode_event = msgspec.json.Decoder(Event).decode
decode_message = msgspec.json.Decoder(Message).decode
UNKNOWN = Event()


class StreamRelay:
    """One stream on its way through; no JSON is parsed for an ordinary delta."""

    def __init__(self, reply: Reply) -> None:
        self.asked = encode(reply.model)
        self.wants_cost = reply.wants_cost
        self.failure: bytes | None = None
        self.ended = False
        self.stop = b""
        self.pending = b""
        self.counts = Counts()
        self.has_usage = self.has_reason = self.has_output = False
        self.deltas_count = self.output_bytes = 0
        self.open_index: int | None = None

    @property
    def complete(self) -> bool:
        """Whether the answer came to its proper end, or said at least why it ended."""
        return self.failure is None and (bool(self.stop) or self.has_reason)

    def feed(self, block: bytes) -> bytes:
        """Return what the caller gets for a block of whole events."""
        if self.ended or not block:
            return b""
        count = block.count(DELTA)
        # With no output yet the first delta is looked at; a signature is none.
        if self.has_output and block.count(b"\n") == DELTA_LINES * count and SIGNATURE not in block:
            self.deltas_count += count
            self.output_bytes += sum(map(len, TEXT.findall(block)))
            return self._released(block)
        return b"".join(map(self._event, sse.split(block)))

    def end(self) -> bytes:
        """Return what the caller gets once the upstream's connection has ended: nothing is held for it."""
        return b""

    def delivered_tokens(self) -> int:
        """Return about how many tokens of output came through: deltas, or what is in them."""
        return max(self.deltas_count, self.output_bytes // BYTES_PER_TOKEN, int(self.has_output))

    def produced(self) -> bool:
        """Tell whether any output came through; that a block begins is none."""
        return self.has_output

    def final_usage(self) -> Tokens | None:
        """Return the answer's usage, None where its end did not tell one."""
        return self.counts.tokens() if self.complete and self.has_usage else None

    def closing(self, cost: bytes) -> bytes:
        """Return the stream's end."""
        before = b""
        if self.pending:
            before = b"event: message_delta\ndata: " + with_cost(sse.data_of(self.pending), cost) + b"\n\n"
        return before + (self.stop or MESSAGE_STOP)

    def broken(self, error: bytes, *, cut: bool) -> bytes:
        """Return how a broken stream ends; one that is cut says so before the error that tells why."""
        event = b"event: error\ndata: " + error + b"\n\n"
        if not cut or self.has_reason:
            return self.pending + event
        closed = b"" if self.open_index is None else block_stop(self.open_index)
        return closed + message_delta("max_tokens", "", render_usage(self.counts.tokens())) + event

    def _released(self, event: bytes) -> bytes:
        """Return an event after what was kept back, which was not the last of its kind after all."""
        if not self.pending:
            return event
        before, self.pending = self.pending, b""
        return before + event

    def _event(self, event: bytes) -> bytes:
        if self.ended:
            return b""
        if self.has_output and event.startswith(DELTA) and SIGNATURE not in event:
            self.deltas_count += 1
            self.output_bytes += sum(map(len, TEXT.findall(event)))
            return self._released(event)
        data = sse.data_of(event)
        if not data:
            return event
        try:
            found = decode_event(data)
        except (ValueError, RecursionError):
            found = UNKNOWN
        return self._one(found, event, data)

    def _one(self, found: Event, event: bytes, data: bytes) -> bytes:
        kind = found.type
        if kind == "message_stop":
            self.stop, self.ended = event, True
            return b""
        if kind == "error" or (kind is None and found.error is not None):
            self.failure, self.ended = data, True
            return b""
        if kind == "message_delta":
            return self._message_delta(found, event)
        if kind == "message_start":
            event = self._renamed(found.message, event, data)
        elif kind == "content_block_start":
            self.open_index = found.index if type(found.index) is int else None
            block = found.content_block if type(found.content_block) is dict else {}
            # A call is output by its name already, and so is what a vendor's own tool found.
            self.has_output = self.has_output or block.get("type") not in OPENING or any(map(block.get, OPENING))
        elif kind == "content_block_delta":
            self._delta(found.delta, event)
        elif kind == "content_block_stop":
            self.open_index = None
        return self._released(event)

    def _delta(self, delta: Any, event: bytes) -> None:
        if type(delta) is dict and any(map(delta.get, DELTAS)):
            self.has_output = True
            self.deltas_count += 1
            self.output_bytes += sum(map(len, TEXT.findall(event)))

    def _message_delta(self, found: Event, event: bytes) -> bytes:
        self.has_usage = self.counts.add(found.usage) or self.has_usage
        if type(found.delta) is dict and found.delta.get("stop_reason"):
            self.has_reason = True
        out = self._released(b"")
        if not self.wants_cost:
            return out + event
        self.pending = event
        return out

    def _renamed(self, message: msgspec.Raw, event: bytes, data: bytes) -> bytes:
        """Return the stream's beginning with the caller's name for the model."""
        raw = bytes(message)
        try:
            self.counts.add(decode_message(raw).usage)
        except ValueError:
            return event
        renamed = top_level.replace_string(raw, b'"model"', self.asked)
        if raw in event:
            return event.replace(raw, renamed, 1)
        return b"event: message_start\ndata: " + data.replace(raw, renamed, 1).replace(b"\n", b"") + b"\n\n"
