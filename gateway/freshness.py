"""Keep what is in memory no older than a second, or say that it is.

Each process polls the one version row every 0.4 s, on a connection that also listens for its changes. A change of the
catalog rebuilds the snapshot, and so does the moment at which a price begins or a bad state is not trusted any more; a
change of keys forgets the callers.

Invariant: `confirmed_at` is a moment at which everything in memory was true. A process for which that is more than a
second ago answers 503 until it has asked again.
"""

import asyncio
import logging
import time
from typing import Any

import psycopg

from billing.connection import Connection
from gateway import catalog_rows
from gateway.callers import Callers
from gateway.snapshot import Snapshot, build

logger = logging.getLogger(__name__)

POLL_S = 0.4
STALE_S = 1.0
QUERY_TIMEOUT_S = 5.0
# Those who ask while the database is away wait together for the next try.
RETRY_DELAY_S = 0.1
EMPTY = build(-1, [], [])


class Freshness:
    """The poller, and the snapshot that it keeps."""

    def __init__(self, callers: Callers) -> None:
        self.callers = callers
        self.snapshot: Snapshot = EMPTY
        self.keys_version = -1
        self.next_turn_at = float("inf")
        self.confirmed_at = float("-inf")
        self.connection = Connection("aperture-freshness")
        self.listening: psycopg.AsyncConnection | None = None
        self.asked = asyncio.Event()
        self.confirmed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start polling in the running event loop."""
        self.task = asyncio.get_running_loop().create_task(self._run(), name="freshness")

    async def stop(self) -> None:
        """Stop polling."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        await self.connection.close()

    def stale(self) -> bool:
        """Tell whether what is in memory may be more than a second old."""
        return time.monotonic() - self.confirmed_at > STALE_S

    async def wait(self, timeout_s: float = STALE_S) -> bool:
        """Wait until memory is confirmed, at most TIMEOUT_S; return whether it was."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.stale():
                    self.confirmed.clear()
                    self.asked.set()
                    await self.confirmed.wait()
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        while True:
            try:
                await self._confirm()
            except (psycopg.Error, OSError, TimeoutError) as error:
                logger.warning("the database does not answer, API requests get 503: %s", type(error).__name__)
                await self.connection.close()
                await asyncio.sleep(RETRY_DELAY_S)
            except Exception:
                logger.exception("the catalog could not be read; API requests get 503 until it can")
                await asyncio.sleep(RETRY_DELAY_S)
            await self._pause()

    async def _confirm(self) -> None:
        began_at = time.monotonic()
        async with self.connection.using(QUERY_TIMEOUT_S) as raw:
            if raw is not self.listening:
                await raw.execute("LISTEN aperture_version")
                self.listening = raw
            cursor = await raw.execute("SELECT catalog, keys FROM accounts_version", prepare=True)
            row = await cursor.fetchone()
            if row is None:
                raise psycopg.OperationalError("accounts_version holds no row; run the migrations")
            catalog_version, keys_version = row
            if keys_version != self.keys_version:
                self.callers.forget()
                self.keys_version = keys_version
            if catalog_version != self.snapshot.version or time.time() >= self.next_turn_at:
                read_version, rows = await catalog_rows.read(raw)
                now = time.time()
                self.snapshot = catalog_rows.assemble(read_version, rows, now)
                self.next_turn_at = catalog_rows.next_turn_at(rows, now)
        self.confirmed_at = began_at
        self.confirmed.set()

    async def _pause(self) -> None:
        """Wait for a notification, for somebody who asks, or for the next poll, whichever comes first."""
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self.asked.wait())]
        if self.connection.raw is not None and not self.connection.raw.closed:
            waits.append(asyncio.create_task(_notified(self.connection.raw)))
        try:
            await asyncio.wait(waits, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self.asked.clear()


async def _notified(raw: psycopg.AsyncConnection) -> None:
    # Ends with the poll, notification or not: the next poll then finds out whether the connection still stands.
    async for _ in raw.notifies(timeout=POLL_S, stop_after=1):
        return
