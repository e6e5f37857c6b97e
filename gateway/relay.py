"""Relay a stream: bytes from the upstream, whole events to the client, with back-pressure and a watch on silence.

Invariants: events are sent as they arrive and never wait for one another; `send` is awaited, so a slow client slows
the upstream; a silence is filled with comments and, when it lasts too long, ends the stream with a fault.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import msgspec
from django.conf import settings

from gateway import rejection, upstream
from gateway.admission import Budget
from gateway.body import Send
from gateway.errors import Fault
from gateway.snapshot import Target
from gateway.wire.codec import Relay, Unreadable
from gateway.wire.sse import EventTooLarge, Framer

COMMENT = b": keep-alive\n\n"
# What an array of JSON may hold anywhere.
BLANK = b"\n"

Begin = Callable[[], Awaitable[None]]


class Watch:
    """Looks at a stream's silence with one timer: keep-alive comments first, then the upstream is given up.

    A comment is sent only while the relay waits for the upstream, so two sends never meet.
    """

    def __init__(self, answer: upstream.Answer, reader: "Reader") -> None:
        self.answer = answer
        self.begin: Begin | None = reader.begin
        self.send = reader.send
        self.filler = reader.filler
        self.loop = asyncio.get_running_loop()
        self.heard_at = self.spoke_at = time.monotonic()
        self.sending = False
        self.timed_out = False
        self.comment: asyncio.Task[None] | None = None
        self.timer = self.loop.call_later(min(settings.KEEP_ALIVE_S, settings.IDLE_TIMEOUT_S), self._look)

    def _look(self) -> None:
        now = time.monotonic()
        idle_in = self.heard_at + settings.IDLE_TIMEOUT_S - now
        if idle_in <= 0 and not self.sending:
            self.timed_out = True
            self.answer.close()
            return
        comment_in = max(self.spoke_at, self.heard_at) + settings.KEEP_ALIVE_S - now
        if comment_in <= 0:
            comment_in = settings.KEEP_ALIVE_S
            self.spoke_at = now
            if not self.sending and (self.comment is None or self.comment.done()):
                self.comment = self.loop.create_task(self._comment())
        self.timer = self.loop.call_later(max(0.01, min(idle_in, comment_in)), self._look)

    async def _comment(self) -> None:
        # A client that has gone is noticed by the relay itself.
        with contextlib.suppress(OSError):
            if self.begin is not None:
                await self._start(self.begin)
            await self.send({"type": "http.response.body", "body": self.filler, "more_body": True})

    async def forward(self, piece: bytes, data: bytes) -> None:
        """Send DATA, what the client gets for an upstream's PIECE, after a comment that is on its way.

        A piece without data (an upstream's own comments) is no sign of life.
        """
        received_at = time.monotonic()
        if b"data" in piece or b"data" in data:
            self.heard_at = received_at
        if not data:
            return
        self.sending = True
        if self.comment is not None and not self.comment.done():
            await self.comment
        if self.begin is not None:
            await self._start(self.begin)
        await self.send({"type": "http.response.body", "body": data, "more_body": True})
        self.sending = False
        self.spoke_at = time.monotonic()
        # The time that the client took is not the upstream's silence.
        self.heard_at += self.spoke_at - received_at

    async def _start(self, begin: Begin) -> None:
        self.begin = None
        await begin()

    async def close(self) -> None:
        """Stop looking."""
        self.timer.cancel()
        if self.comment is not None and not self.comment.done():
            self.comment.cancel()
            await asyncio.wait([self.comment])


class Reader(msgspec.Struct, frozen=True):
    """The client of a stream: BEGIN is called once, before its first byte, and FILLER is sent into a silence."""

    begin: Begin
    send: Send
    filler: bytes = COMMENT


async def relay(
    answer: upstream.Answer, stream: Relay, framer: Framer, target: Target, budget: Budget, reader: Reader
) -> Fault | None:
    """Pass the stream on until it ends; return None if it came to its proper end, else the fault that ended it.

    Until the reader's first byte it can still be told of a failure by the status. What was delivered never goes far
    beyond the BUDGET: it is extended, or the stream ends.
    """
    watch = Watch(answer, reader)
    try:
        async for piece in upstream.pieces(answer, settings.MAX_ANSWER_BYTES):
            await watch.forward(piece, stream.feed(framer.feed(piece)))
            if stream.ended:
                break
            if stream.delivered_tokens() > budget.tokens and (fault := await budget.extend()) is not None:
                answer.close()
                return fault
        else:
            await watch.forward(b"", stream.feed(framer.flush()) + stream.end())
    except EventTooLarge:
        return aborted(target, "sent an event that is too large")
    except (upstream.Unreadable, Unreadable) as error:
        answer.close()
        return aborted(target, str(error))
    except upstream.Broken:
        if watch.timed_out:
            return Fault("upstream_timeout", f"{target.provider.slug} fell silent for {settings.IDLE_TIMEOUT_S:g} s.")
        return None if stream.complete else aborted(target, "broke off its stream")
    finally:
        await watch.close()
    if stream.failure is not None:
        return aborted(target, "reported an error", stream.failure)
    return None if stream.complete else aborted(target, "ended its stream before its answer was complete")


def aborted(target: Target, why: str, detail: bytes = b"") -> Fault:
    """Return the fault of a stream that broke after its first byte; DETAIL is the upstream's own error event."""
    if not detail:
        return Fault("stream_aborted", f"{target.provider.slug} {why}.")
    fault = rejection.of_rubbish(target, 200, detail, why)
    return Fault("stream_aborted", fault.message, upstream=fault.upstream)
