"""The one writer of holds and settlements in a process: group commit.

Requests queue what they ask; the writer takes all that is queued and decides it in one transaction, then wakes who
waits. That is one round trip where all of it is ordinary (`billing.shortcut`), otherwise two (`billing.group`); under
load one commit carries many requests.

Invariants: an answer is given only when it is durable; a request is settled once, whatever is retried, for settling
deletes its hold; a settlement that cannot be written now stays queued and is written when the database returns; an ask
that cannot is withdrawn, and what it may have left behind is deleted.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import psycopg

from billing import shortcut
from billing.connection import Connection
from billing.group import BucketGone, Group, Known
from billing.holds import Ask, Entry, Extend, Held, NotDurable, Refusal, Settle, Withdraw
from billing.usage import UsageRow

logger = logging.getLogger(__name__)

BATCH_ENTRIES_MAX = 500
WRITE_TIMEOUT_S = 3.0
RETRY_DELAY_S = 0.25
# An entry that the database will never take, or that cannot even be encoded. Anything else is the database's state
# (away, read-only, not migrated) and passes.
ROWS_FAULT = (
    psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError,
    ValueError, OverflowError, TypeError, LookupError,
)  # fmt: skip

T = TypeVar("T", bound=Entry)


class Journal:
    """Queue entries and write them in groups; `running` has the holds of this process's open requests."""

    def __init__(self) -> None:
        self.connection = Connection("aperture-journal")
        self.known = Known(set(), {})
        self.running: dict[str, Held] = {}
        self.queue: list[Entry] = []
        self.writing: list[Entry] = []
        self.wake = asyncio.Event()
        self.stopping = False
        self.task: asyncio.Task[None] | None = None
        # Known once it has started: asking for the running one is a system call, and every request would.
        self.loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Start the writer in the running event loop."""
        self.loop = asyncio.get_running_loop()
        self.task = self.loop.create_task(self._run(), name="journal")

    async def stop(self, timeout_s: float) -> None:
        """Write what is queued, at most this long, and stop; who still waits gets NotDurable."""
        self.stopping = True
        self.wake.set()
        if self.task is not None:
            await asyncio.wait([self.task], timeout=timeout_s)
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        waiting = self.writing + self.queue
        lost = sum(isinstance(entry, Settle) for entry in waiting)
        if lost:
            logger.error(
                "%d settlements were not written, for the database did not return in time; "
                "they are settled from their last mark when the leases of their holds have ended",
                lost,
            )
        for entry in waiting:
            entry.finish(NotDurable("The server has stopped."))
        await self.connection.close()

    async def hold(self, ask: Ask, timeout_s: float) -> Held:
        """Admit a request: return its hold once that is durable; raise Refusal, or NotDurable after TIMEOUT_S."""
        try:
            held: Held = await self._queued(ask, timeout_s)
        except asyncio.CancelledError:
            if ask in self.queue:
                self._withdraw(ask)
            elif ask.granted():
                # Granted in the very moment that the client left.
                self.submit(Withdraw(ask))
            raise
        held.renewed_at = time.monotonic()
        self.running[held.request_id] = held
        return held

    async def extend(self, held: Held, more_nanos: int, timeout_s: float) -> None:
        """Hold more for a running request; raise Refusal, or NotDurable after TIMEOUT_S."""
        held.amount_nanos = await self._queued(Extend(held, more_nanos), timeout_s)

    async def settle(self, held: Held, row: UsageRow, timeout_s: float) -> None:
        """Return when the request is settled as its row says; raise NotDurable after about TIMEOUT_S.

        The settlement stays queued then, and is written when the database returns.
        """
        self.running.pop(held.request_id, None)
        held.mark, held.renewal = (lambda: row), None
        await self._queued(Settle(held, row), timeout_s)

    def leave(self, held: Held) -> None:
        """Settle a request that was broken off, as its mark says; nobody waits for it."""
        row = held.mark()
        self.running.pop(held.request_id, None)
        held.mark, held.renewal = (lambda: row), None
        self.submit(Settle(held, row))

    def release(self, held: Held, ask: Ask) -> None:
        """Give back the hold of what never began: it leaves no row. ASK is what it was admitted with."""
        self.running.pop(held.request_id, None)
        held.renewal = None
        self.submit(Withdraw(ask))

    def revoke(self, held: Held, *, status: int, error_code: str) -> None:
        """Take a settlement back that was not durable in time, and whose answer nobody gets: it charges nothing."""
        for entry in (*self.writing, *self.queue):
            if isinstance(entry, Settle) and entry.held is held:
                row = msgspec.structs.replace(entry.row, status=status, error_code=error_code, charge_nanos=0)
                if entry in self.writing:
                    # It may be committed as it was, so its row stays as it was decided.
                    again = Settle(held, row)
                    again.revoked = True
                    self.submit(again)
                else:
                    entry.row, entry.revoked = row, True

    def submit(self, entry: Entry) -> None:
        """Queue an entry that nobody waits for."""
        self.queue.append(entry)
        self.wake.set()

    async def _queued(self, entry: Entry, timeout_s: float) -> Any:
        if self.task is not None and self.task.done():
            raise NotDurable("The server has stopped.")
        entry.give_up_at = time.monotonic() + timeout_s
        future = entry.future = self.loop.create_future()
        self.submit(entry)
        return await future

    async def _run(self) -> None:
        while not self.stopping:
            await self.wake.wait()
            self.wake.clear()
            while self.queue:
                self.writing, self.queue = self.queue[:BATCH_ENTRIES_MAX], self.queue[BATCH_ENTRIES_MAX:]
                try:
                    outcomes = await self._write(self.writing)
                except BucketGone:
                    self._put_back()
                except Exception as error:
                    # Whatever it is, the writer lives on: requests wait for it.
                    self._put_back()
                    logger.warning("%d entries wait for the database: %s", len(self.queue), describe(error))
                    await asyncio.sleep(RETRY_DELAY_S)
                    self._give_up_waiting()
                else:
                    self._finish(outcomes)

    def _put_back(self) -> None:
        self.queue[:0] = self.writing
        self.writing = []

    def _finish(self, outcomes: dict[Entry, Any]) -> None:
        written, self.writing = self.writing, []
        for entry in written:
            outcome = outcomes.get(entry)
            if isinstance(entry, Ask) and isinstance(outcome, Held) and entry.abandoned():
                self.submit(Withdraw(entry))
            entry.finish(outcome)

    def _give_up_waiting(self) -> None:
        """Tell those whose time is over. Settlements stay queued; what only had to be now is dropped."""
        now = time.monotonic()
        for entry in [entry for entry in self.queue if entry.give_up_at <= now]:
            entry.finish(NotDurable("The database does not answer."))
            if isinstance(entry, Ask):
                self._withdraw(entry)
            elif not isinstance(entry, Settle):
                self.queue.remove(entry)

    def _withdraw(self, ask: Ask) -> None:
        """Drop a queued ask that nobody waits for any more, and what it may have left in the database."""
        self.queue.remove(ask)
        if ask.attempted:
            self.submit(Withdraw(ask))

    async def _write(self, entries: Sequence[Entry]) -> dict[Entry, Any]:
        """Write the entries in one transaction; when one of them is at fault, in halves. Return what each is told."""
        ordinary = shortcut.ordinary(entries, self.known)
        try:
            async with self.connection.using(WRITE_TIMEOUT_S) as raw:
                outcomes = await shortcut.write(raw, entries, self.known) if ordinary else None
                if outcomes is not None:
                    return outcomes
                ordinary = False
                group = Group(entries, self.known)
                await group.write(raw)
        except ROWS_FAULT as error:
            if ordinary:
                # They were attempted now, so they are ordinary no more, and what is at fault is looked for.
                return await self._write(entries)
            if len(entries) == 1:
                logger.exception("the database refuses an entry of the journal: %s", type(entries[0]).__name__)
                if isinstance(entries[0], Ask):
                    # It may be refused for what an earlier try of its own has left.
                    self.submit(Withdraw(entries[0]))
                return {entries[0]: NotDurable(f"The database refuses the entry: {type(error).__name__}.")}
            middle = len(entries) // 2
            return await self._write(entries[:middle]) | await self._write(entries[middle:])
        return group.outcomes


def describe(error: Exception) -> str:
    """Return what a log may say of an error: never a row's values."""
    return f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()


__all__ = ["Ask", "Held", "Journal", "NotDurable", "Refusal"]
