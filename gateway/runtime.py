"""What one process holds for its API traffic: the snapshot, the callers, the journal, the way upstream.

Made lazily in the event loop that serves, for an ASGI server need not speak lifespan; `start` and `stop` are called
by the web process where it is ours.
"""

import asyncio
import contextlib
import logging
import time
from typing import Any

import psycopg
from django.conf import settings

from accounts.client_address import Network
from billing.connection import Connection
from billing.journal import Journal
from billing.leases import Leases
from gateway import background, drain
from gateway.callers import Callers
from gateway.failed_keys import FailedKeys
from gateway.freshness import Freshness
from gateway.limiter import Limiter
from gateway.live import Live
from gateway.open_sockets import OpenSockets
from gateway.upstream import Upstream

logger = logging.getLogger(__name__)

LAST_USED_EVERY_S = 30.0
# By what is shown of a secret too, so that of a key in its overlap each secret has its own time; to the minute, so that
# many processes write no more than one does. Keys are locked first and in order, as whatever locks many of them does.
LAST_USED = """
WITH used AS (
    SELECT used.* FROM unnest(%s::bigint[], %s::text[]) AS used(key_id, display)
      JOIN accounts_apikey k ON k.id = used.key_id
     WHERE k.display <> used.display OR k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute'
     ORDER BY k.id FOR NO KEY UPDATE OF k
),
former AS (
    UPDATE accounts_retiredsecret s SET last_used_at = now() FROM used
     WHERE s.key_id = used.key_id AND s.display = used.display AND s.accepted_until IS NOT NULL
)
UPDATE accounts_apikey k SET last_used_at = now() FROM used WHERE k.id = used.key_id AND k.display = used.display
"""


class Runtime:
    """One process's state; everything in it belongs to one event loop."""

    def __init__(self) -> None:
        self.callers = Callers()
        self.freshness = Freshness(self.callers)
        self.sockets = OpenSockets(self.callers, self.freshness)
        self.journal = Journal()
        self.leases = Leases(self.journal)
        self.upstream = Upstream()
        self.live = Live(settings.REDIS_URL, self.journal, self.callers)
        self.limiter = Limiter(settings.REDIS_URL)
        self.failed_keys = FailedKeys(self.limiter, settings.SECRET_KEY, settings.FAILED_KEYS_PER_MINUTE)
        self.trusted_proxies: list[Network] = settings.TRUSTED_PROXIES
        self.used_keys: set[tuple[int, str]] = set()
        self.connection = Connection("aperture-last-used")
        self.reads = Connection("aperture-reads")
        # What `gateway.upstreams` read last, and when.
        self.upstream_rows: tuple[float, list[dict[str, Any]] | None] = (float("-inf"), None)
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start what runs beside the requests."""
        self.freshness.start()
        self.journal.start()
        self.leases.start()
        self.live.start()
        self.task = asyncio.get_running_loop().create_task(self._note_used_keys(), name="last used")

    async def stop(self) -> None:
        """Write what is queued and close everything."""
        await self.sockets.stop()
        await background.stop()
        await drain.wait(settings.SETTLE_TIMEOUT_S)
        await self.live.stop()
        await self.leases.stop()
        await self.journal.stop(settings.SETTLE_TIMEOUT_S)
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        await self.freshness.stop()
        await self.callers.close()
        await self.connection.close()
        await self.reads.close()
        await self.upstream.close()
        await self.limiter.close()

    async def _note_used_keys(self) -> None:
        while True:
            await asyncio.sleep(LAST_USED_EVERY_S)
            await self.note_used_keys()

    async def note_used_keys(self) -> None:
        """Note each secret's last use: a convenience for people, which no request waits for."""
        used, self.used_keys = sorted(self.used_keys), set()
        if used:
            with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
                async with self.connection.using(5.0) as raw:
                    await raw.execute(LAST_USED, ([each[0] for each in used], [each[1] for each in used]))


class Lifecycle:
    """The process's one runtime."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None

    def current(self) -> Runtime:
        """Return the runtime, made and started on the first call in the serving event loop."""
        if self.runtime is None:
            self.runtime = Runtime()
            self.runtime.start()
        return self.runtime

    async def start(self) -> None:
        """Make the runtime and wait until the catalog is in memory, or for two seconds."""
        began_at = time.monotonic()
        confirmed = await self.current().freshness.wait(2.0)
        logger.debug("catalog read: %s after %.3f s", confirmed, time.monotonic() - began_at)

    async def stop(self) -> None:
        """End the runtime."""
        runtime, self.runtime = self.runtime, None
        if runtime is not None:
            await runtime.stop()


lifecycle = Lifecycle()
