"""One request while it is being answered: what is known of it, its deadline, and how the client's departure ends it.

Invariant: the client's departure interrupts only what waits for the upstream or for the client, never a settlement.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from billing.holds import Held
from billing.usage import UsageRow
from gateway.body import DISCONNECT, Message, Receive, Scope, Send
from gateway.deadline import Deadline
from gateway.snapshot import Access, Caller, Snapshot

if TYPE_CHECKING:
    from gateway.limiting import Limited
    from gateway.responses import Storing


class Exchange:
    """The request's mutable state; made once for each request and passed along the pipeline."""

    __slots__ = (
        "access", "answered", "background", "caller", "cancelled", "capped_tokens", "client_gone", "deadline",
        "detached", "disconnect", "dropped", "first_byte_at", "headers", "held", "interruptible", "limited",
        "receive", "request_id", "row", "scope", "send", "settled", "snapshot", "started_at", "storing", "task",
        "used_tokens", "write",
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Mapping[bytes, bytes],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        # To be told the running loop is cheaper than to ask for it.
        self.scope = scope
        self.receive = receive
        # `send` is dressed by the application with what every answer carries; `write` is for what follows a head.
        self.send = self.write = send
        self.headers = headers
        self.request_id = new_request_id()
        self.started_at = time.monotonic()
        self.first_byte_at: float | None = None
        self.answered = False
        self.client_gone = False
        self.settled = False
        # Whether the upstream's answer goes on without us.
        self.detached = False
        self.held: Held | None = None
        self.capped_tokens: int | None = None
        # What of the request its upstream does not get.
        self.dropped: tuple[str, ...] = ()
        # What is to be kept of the request once it is answered, and whether its client waits for the answer.
        self.storing: Storing | None = None
        self.background = False
        self.interruptible = False
        self.cancelled = False
        self.disconnect: asyncio.Future[Message] | None = None
        self.task = running_task(loop)
        self.deadline = Deadline(self.task)
        self.caller: Caller
        self.access: Access
        self.snapshot: Snapshot
        self.row: UsageRow
        # What it counts in its limits, if it has any; and the tokens that it used, None unless it succeeded.
        self.limited: Limited | None = None
        self.used_tokens: int | None = None

    def watch_client(self) -> None:
        """From now on, until `settling`, the client's departure cancels this task."""
        self.interruptible = True
        extension = self.scope.get("extensions", {}).get(DISCONNECT)
        if extension is not None:
            extension["call"](self._gone)
            return
        self.disconnect = asyncio.ensure_future(self.receive())
        self.disconnect.add_done_callback(self._received)

    def _received(self, future: "asyncio.Future[Message]") -> None:
        if future.cancelled() or future.exception() is not None:
            return
        if future.result()["type"] == "http.disconnect":
            self._gone()
            return
        self.disconnect = asyncio.ensure_future(self.receive())
        self.disconnect.add_done_callback(self._received)

    def _gone(self) -> None:
        self.client_gone = True
        if self.interruptible:
            self.interruptible = False
            self.cancelled = True
            self.task.cancel()

    def left_by(self, error: BaseException) -> bool:
        """Tell whether the client has gone: ERROR is an OSError of `send`, or our own cancellation. Remember it."""
        self.client_gone = self.client_gone or isinstance(error, OSError)
        return self.client_gone

    def settling(self) -> None:
        """From now on nothing interrupts the task: what happened to the request is known and is to be written."""
        self.interruptible = False
        if self.cancelled:
            self.cancelled = False
            self.task.uncancel()

    def close(self) -> None:
        """Stop watching the client and the clock."""
        self.interruptible = False
        self.deadline.close()
        if self.disconnect is not None and not self.disconnect.done():
            self.disconnect.cancel()

    def first_byte(self) -> None:
        """Note when the upstream's answer began."""
        self.first_byte_at = time.monotonic()

    def first_byte_ms(self) -> int | None:
        """Milliseconds from the request's arrival to the upstream's first byte."""
        return None if self.first_byte_at is None else round((self.first_byte_at - self.started_at) * 1000)

    def duration_ms(self) -> int:
        """Milliseconds since the request's arrival."""
        return round((time.monotonic() - self.started_at) * 1000)


def running_task(loop: asyncio.AbstractEventLoop | None = None) -> "asyncio.Task[object]":
    """Return the task that runs now, in the loop that runs."""
    task = asyncio.current_task(loop)
    if task is None:
        raise RuntimeError("The gateway's application runs outside a task.")
    return task


def new_request_id() -> str:
    """Return a UUID version 7 (https://www.rfc-editor.org/rfc/rfc9562#section-5.7).

    Ordered by time, so that rows written together lie together. It names a request and opens nothing, so its random
    part needs no system call.
    """
    bits = random.getrandbits(74)
    millis = time.time_ns() // 1_000_000
    digits = f"{millis:012x}7{bits >> 62:03x}{0x8000_0000_0000_0000 | bits & 0x3FFF_FFFF_FFFF_FFFF:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
