"""A wire to the test database that can fall silent or break, and connections of a test's own."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from django.db import connections

from billing import connection as billing_connection

T = TypeVar("T")


async def orm(function: Callable[[], T]) -> T:
    """Run ORM code beside the event loop, on a connection that is closed after it."""

    def run() -> T:
        try:
            return function()
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


@contextlib.asynccontextmanager
async def own_connection() -> AsyncIterator[psycopg.AsyncConnection]:
    """Yield an autocommitting connection to the test database that does not go through the wire."""
    raw = await psycopg.AsyncConnection.connect(**STRAIGHT(), autocommit=True)
    try:
        yield raw
    finally:
        await raw.close()


async def sql(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement and return its rows, if it has any."""
    async with own_connection() as raw:
        cursor = await raw.execute(statement.encode(), values or None)
        return await cursor.fetchall() if cursor.description else []


STRAIGHT = billing_connection.parameters


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 10.0) -> float:
    """Wait until the condition holds and return the seconds that it took; fail if it does not in time."""
    began_at = time.monotonic()
    while time.monotonic() - began_at < within_s:
        if await condition():
            return time.monotonic() - began_at
        await asyncio.sleep(0.005)
    raise AssertionError(f"not within {within_s} s")


class Wire:
    """A proxy on loopback: `frozen` wires say nothing in either direction, `mute` ones swallow the answers."""

    def __init__(self) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.mute = False
        self.refusing = False
        self.opened_count = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def freeze(self) -> None:
        """Say nothing from now on, and keep the connections."""
        self.flowing.clear()

    def thaw(self) -> None:
        """Go on."""
        self.flowing.set()

    def cut(self, *, refuse: bool = False) -> None:
        """Break every connection, and with REFUSE each new one."""
        self.refusing = refuse
        for writer in self.writers:
            writer.close()
        self.writers.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection."""
        if self.refusing:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.opened_count += 1
        straight = STRAIGHT()
        if str(straight["host"]).startswith("/"):
            path = f"{straight['host']}/.s.PGSQL.{straight.get('port', 5432)}"
            up_reader, up_writer = await asyncio.open_unix_connection(path)
        else:
            up_reader, up_writer = await asyncio.open_connection(straight["host"], straight["port"])
        self.writers += [writer, up_writer]
        await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer, answers=True))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self.flowing.wait()
                if not (answers and self.mute):
                    writer.write(data)
        writer.close()


@contextlib.asynccontextmanager
async def wired() -> AsyncIterator[Wire]:
    """Lead every connection that the product opens meanwhile through a wire."""
    wire = Wire()
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    billing_connection.parameters = lambda: STRAIGHT() | {"host": "127.0.0.1", "port": port, "sslmode": "disable"}
    try:
        yield wire
    finally:
        billing_connection.parameters = STRAIGHT
        wire.thaw()
        wire.cut(refuse=True)
        server.close()
        if wire.tasks:
            await asyncio.wait(wire.tasks, timeout=2)
