"""The leases of open holds: this process renews its own, and closes those that nobody renews any more.

A hold whose lease has ended belongs to a process that was killed. It is settled from the mark that its process left
with the last renewal: what was delivered by then is charged, and nothing if nothing was. No hold outlives its lease by
more than a minute.
"""

import asyncio
import logging
import time

import psycopg
from django.conf import settings

from billing.connection import Connection
from billing.holds import Expire, Renew
from billing.journal import Journal

logger = logging.getLogger(__name__)

QUERY_TIMEOUT_S = 5.0
# More than a process leaves behind at its full speed with answers of a second.
SWEEP_MAX = 5_000
FIND_EXPIRED = """
SELECT request_id::text, organization_id, bucket_ids FROM billing_hold
 WHERE lease_until < now() AND request_id <> ALL(%s::uuid[]) ORDER BY request_id LIMIT %s
"""


class Leases:
    """Renews and sweeps, beside the requests."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.connection = Connection("aperture-leases")
        self.task: asyncio.Task[None] | None = None
        self.connected_at: float | None = None

    def start(self) -> None:
        """Start in the running event loop."""
        self.task = asyncio.get_running_loop().create_task(self._run(), name="leases")

    async def stop(self) -> None:
        """Stop renewing and sweeping."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        await self.connection.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(settings.HOLD_LEASE_S / 8)
            try:
                self.renew()
                await self.sweep()
            except (psycopg.Error, OSError, TimeoutError):
                self.connected_at = None
            except Exception:
                logger.exception("open holds could not be looked after; it is tried again")

    def renew(self) -> None:
        """Queue the renewal of every hold of this process that is due, with its mark."""
        now = time.monotonic()
        for held in list(self.journal.running.values()):
            if now - held.renewed_at >= settings.HOLD_LEASE_S / 3:
                held.renewed_at = now
                if held.renewal is not None:
                    # While the database is away one is enough, with the newest mark.
                    held.renewal.row = held.mark()
                else:
                    held.renewal = Renew(held, held.mark())
                    self.journal.submit(held.renewal)

    async def sweep(self) -> None:
        """Queue the end of every hold that outlived its lease.

        After the database was away, those who serve get time to renew before anybody sweeps.
        """
        async with self.connection.using(QUERY_TIMEOUT_S) as raw:
            now = time.monotonic()
            if self.connected_at is None:
                self.connected_at = now
            cursor = await raw.execute(FIND_EXPIRED, (list(self.journal.running), SWEEP_MAX), prepare=True)
            rows = await cursor.fetchall()
        if now - self.connected_at < settings.HOLD_LEASE_S / 4:
            return
        if rows:
            logger.warning("%d holds outlived their leases; they are settled from their last marks", len(rows))
        for row in rows:
            self.journal.submit(Expire(*row))
