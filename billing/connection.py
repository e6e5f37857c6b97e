"""One PostgreSQL connection of an event loop, outside the ORM, that comes back after a failure.

Invariants: one statement runs at a time; a connection that failed is closed and never used again; before the next one
is used, what the failed one may still be doing in the database has ended, so that whoever reads there what became of a
statement reads the last word; waiting for the database never lasts longer than the timeout that the caller gave.
"""

import asyncio
import contextlib
import os
import socket
from types import TracebackType
from typing import Any

import psycopg
from django.conf import settings

CONNECT_TIMEOUT_S = 5
# A transaction is one round trip or two. One that stands still belongs to a process that was paused or cut off there,
# and its locks would stop every other node until the network gives the connection up, which may take hours.
IDLE_TRANSACTION_S = 10.0
# A statement of a connection that broke may still be on its way to its backend, or wait there for a lock.
LOOK_AGAIN_S = 0.005
END_BACKENDS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE pid = ANY(%s) AND application_name = %s AND usename = current_user
"""


def parameters() -> dict[str, Any]:
    """Return psycopg's connection parameters for the installation's database."""
    database = settings.DATABASES["default"]
    named = {
        "dbname": database["NAME"],
        "user": database["USER"],
        "password": database["PASSWORD"],
        "host": database["HOST"],
        "port": database["PORT"],
    }
    return {name: value for name, value in named.items() if value} | {
        name: value for name, value in database["OPTIONS"].items() if isinstance(value, str | int)
    }


class Connection:
    """A lazily opened, autocommitting connection; use it as `async with connection.using(timeout_s) as raw`."""

    def __init__(self, application_name: str) -> None:
        self.application_name = application_name
        self.raw: psycopg.AsyncConnection | None = None
        # Whether it was opened and is still to be set up.
        self.fresh = False
        # The backends of this connection and of those before it that are not known to have ended.
        self.backends: list[int] = []
        self.lock = asyncio.Lock()

    def using(self, timeout_s: float) -> "Use":
        """Return a context that yields the raw connection and closes it when anything goes wrong inside."""
        return Use(self, timeout_s)

    async def opened(self) -> psycopg.AsyncConnection:
        """Return the open connection, opening it when needed; raise psycopg.OperationalError."""
        if self.raw is None or self.raw.closed:
            self.raw = await psycopg.AsyncConnection.connect(
                **parameters(),
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name=self.application_name,
            )
            self.fresh = True
            self.backends.append(self.raw.info.backend_pid)
        return self.raw

    async def close(self) -> None:
        """Close the connection; a later use opens a new one."""
        raw, self.raw = self.raw, None
        if raw is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await raw.close()


class Use:
    """One use of a connection: exclusive, bounded in time, and the connection's end when it fails.

    When the time is over, the socket is shut and the statement fails with psycopg.OperationalError. Cancelling it
    instead would ask the server to cancel it, and wait ten seconds more for one that does not answer.
    """

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self.connection = connection
        self.timeout_s = timeout_s
        self.timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> psycopg.AsyncConnection:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self.timeout_s
        async with asyncio.timeout_at(ends_at):
            await self.connection.lock.acquire()
            try:
                raw = await self.connection.opened()
            except BaseException:
                self.connection.lock.release()
                raise
        self.timer = loop.call_at(ends_at, _shut, raw)
        if self.connection.fresh:
            await self._set_up(raw)
        return raw

    async def _set_up(self, raw: psycopg.AsyncConnection) -> None:
        try:
            await raw.execute(f"SET idle_in_transaction_session_timeout = {round(IDLE_TRANSACTION_S * 1000)}".encode())
            await self._end_former(raw)
            self.connection.fresh = False
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise

    async def _end_former(self, raw: psycopg.AsyncConnection) -> None:
        """Return when the former backends are gone. One that stays uses up the time, and the next use tries again."""
        *former, current = self.connection.backends
        while former:
            there = await raw.execute(END_BACKENDS, (former, self.connection.application_name))
            if not await there.fetchall():
                break
            await asyncio.sleep(LOOK_AGAIN_S)
        self.connection.backends = [current]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.timer is not None:
            self.timer.cancel()
        try:
            if error is not None:
                await self.connection.close()
        finally:
            self.connection.lock.release()


def _shut(raw: psycopg.AsyncConnection) -> None:
    with contextlib.suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(raw.fileno())) as own:
        own.shutdown(socket.SHUT_RDWR)
