"""The scripted upstream as a server: in a thread of a test's own process, or alone."""

import asyncio
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.upstream import connection
from tests.upstream.connection import Exchange
from tests.upstream.scenarios import SCENARIOS, route


class ScriptedUpstream:
    """A running upstream. `exchanges` holds every request it received, in order."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.exchanges: list[Exchange] = []
        self.connections_open = 0
        self.tls = tls
        self._ids = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-upstream", daemon=True)

    @property
    def base_url(self) -> str:
        """The address to give a provider."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def of(self, scenario: str) -> list[Exchange]:
        """The exchanges that named this scenario."""
        return [exchange for exchange in list(self.exchanges) if exchange.model == scenario]

    def last(self, scenario: str) -> Exchange:
        """The newest exchange that named this scenario."""
        return self.of(scenario)[-1]

    def wait(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait until CONDITION holds; raise TimeoutError otherwise."""
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(f"not within {timeout_s} s; {len(self.exchanges)} requests were received")
            time.sleep(0.005)

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(self._protocol, sock=self._socket, ssl=self.tls)

    async def _stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _protocol(self) -> asyncio.BaseProtocol:
        reader = asyncio.StreamReader(limit=connection.HEAD_BYTES_MAX)
        protocol: connection.WatchedProtocol

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._serve(reader, writer, protocol))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        protocol = connection.WatchedProtocol(reader, connected)
        return protocol

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: connection.WatchedProtocol
    ) -> None:
        connection_id, reused = next(self._ids), False
        self.connections_open += 1
        try:
            while exchange := await connection.read_request(
                reader, protocol, connection_id=connection_id, reused=reused
            ):
                self.exchanges.append(exchange)
                wire = connection.Wire(exchange, writer, protocol)
                await self._answer(exchange, wire)
                if not wire.kept:
                    return
                reused = True
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            return
        finally:
            self.connections_open -= 1
            writer.close()

    async def _answer(self, exchange: Exchange, wire: connection.Wire) -> None:
        scenario = route(exchange) or SCENARIOS.get(exchange.model)
        if scenario is None:
            await wire.whole(404, b'{"error":{"message":"no such scenario","type":"invalid_request_error"}}')
            return
        try:
            await scenario(exchange, wire)
        except ConnectionError:
            await wire.hang()
