"""A stream from one dialect into another: an upstream's decoder, a caller's encoder. Pure.

Invariant: as every `codec.Relay` it keeps the answer's end back until it is asked for it.
"""

from gateway.wire.canonical import Audio, Image, Native, Refusal, Text, Thinking, ToolCall
from gateway.wire.codec import Decoder, Encoder
from gateway.wire.events import Ended, Event, Failed, Finished, PartDelta, PartStarted, Used
from gateway.wire.fields import encode
from gateway.wire.usage import Tokens

BYTES_PER_TOKEN = 4
# Parts that are output as soon as they begin.
OUTPUT = (ToolCall, Image, Audio, Native)


class Translation:
    """One stream on its way through."""

    def __init__(self, decoder: Decoder, encoder: Encoder) -> None:
        self.decoder = decoder
        self.encoder = encoder
        self.failure: bytes | None = None
        self.ended = False
        self.finished = False
        # Choices that have begun and are not complete.
        self.open: set[int] = set()
        self.usage: Tokens | None = None
        self.deltas_count = 0
        self.bytes_count = 0
        self.has_output = False

    @property
    def complete(self) -> bool:
        """Whether the answer came to its proper end."""
        return (self.finished and not self.open) or (self.ended and self.failure is None)

    def feed(self, block: bytes) -> bytes:
        """Return what the caller gets for a block of whole events."""
        if self.ended or not block:
            return b""
        return self._pass(self.decoder.feed(block))

    def end(self) -> bytes:
        """Return what the caller gets once the upstream's connection has ended."""
        return b"" if self.ended else self._pass(self.decoder.finish())

    def _pass(self, events: list[Event]) -> bytes:
        for number, event in enumerate(events):
            if isinstance(event, PartDelta):
                self.deltas_count += 1
                self.bytes_count += len(event.text.encode("utf-8", "surrogatepass"))
            elif isinstance(event, Used):
                self.usage = event.tokens
            elif isinstance(event, PartStarted):
                self._begun(event)
            elif isinstance(event, Finished):
                self.finished = True
                self.open.discard(event.choice)
            elif isinstance(event, Failed):
                self.ended, self.failure, self.finished = True, encode(event.error), False
                return self._encoded(events[:number])
            elif isinstance(event, Ended):
                self.ended = True
                return self._encoded(events[:number])
        return self._encoded(events)

    def _encoded(self, events: list[Event]) -> bytes:
        # Some encoders begin their stream with whatever they get, and an upstream that begins with an error has none.
        return self.encoder.encode(events) if events else b""

    def _begun(self, event: PartStarted) -> None:
        part = event.part
        self.open.add(event.choice)
        if isinstance(part, OUTPUT):
            self.has_output = True
        elif isinstance(part, Text | Thinking | Refusal):
            self.bytes_count += len(part.text.encode("utf-8", "surrogatepass"))

    def delivered_tokens(self) -> int:
        """Return about how many tokens of output came through: deltas, or what is in them."""
        return max(self.deltas_count, self.bytes_count // BYTES_PER_TOKEN, int(self.has_output))

    def produced(self) -> bool:
        """Tell whether any output came through."""
        return self.has_output or self.bytes_count > 0

    def final_usage(self) -> Tokens | None:
        """Return the whole answer's usage, None where the upstream did not come to its end with one."""
        return self.usage if self.complete else None

    def closing(self, cost: bytes) -> bytes:
        """Return the stream's end."""
        return self.encoder.finish(cost)

    def broken(self, error: bytes, *, cut: bool) -> bytes:
        """Return how a broken stream ends."""
        return self.encoder.fail(error, cut=cut)
