"""A small load generator, a process of its own: it reads one JSON order on standard input and writes one JSON result.

    {"port": 8000, "requests": ["POST ..."], "connections": 32, "rate": null, "count": 50000, "seconds": null}

Without a rate the loop is closed: every connection asks as soon as it was answered. With one it is open: request N is
due at N / rate seconds whatever became of the others, and its latency counts from then, so that a server that stalls
cannot hide the requests that waited for it (coordinated omission).
Invariant: an answer counts only if it is a whole one with status 200; a stream only with its closing mark.
"""

import asyncio
import json
import selectors
import sys
import time
from itertools import count, cycle
from typing import Any

import httptools
import uvloop

DONE = b"data: [DONE]\n\n"
LATE_S = 30.0
# `select` takes no file descriptor above 1023; what is due beyond waits for a place, and its latency counts on.
CONNECTIONS_MAX = 256


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport: Any = transport
        self.answer: asyncio.Future[bool] | None = None
        self.begin()

    def begin(self) -> None:
        """Expect a new answer."""
        self.parser = httptools.HttpResponseParser(self)
        self.streamed = False
        self.tail = b""

    async def ask(self, request: bytes) -> bool:
        """Send a request; tell whether the answer came and is whole."""
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Notice a stream."""
        if name.lower() == b"content-type":
            self.streamed = value.startswith(b"text/event-stream")

    def on_body(self, body: bytes) -> None:
        """Keep the end of the body."""
        self.tail = (self.tail + body)[-len(DONE) :]

    def on_message_complete(self) -> None:
        """Judge the answer."""
        whole = self.parser.get_status_code() == 200 and (not self.streamed or self.tail == DONE)
        self.begin()
        self.resolve(whole)

    def connection_lost(self, _error: Exception | None) -> None:
        """A request that waits is answered by nothing any more."""
        self.resolve(False)

    def resolve(self, whole: bool) -> None:
        """Tell the one who asked."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(whole)


class Load:
    """One order, and what came of it."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.requests = cycle([request.encode() for request in order["requests"]])
        self.idle: list[Connection] = []
        self.latencies_s: list[float] = []
        self.errors = 0
        self.places = asyncio.Semaphore(CONNECTIONS_MAX)

    async def connection(self) -> Connection:
        """Return a connection that nobody uses."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.transport.is_closing():
                return connection
        return (await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.order["port"]))[1]

    async def one(self, due_at: float) -> None:
        """Make one request and record it; DUE_AT is what its latency counts from."""
        async with self.places:
            try:
                connection = await self.connection()
                whole = await connection.ask(next(self.requests))
            except OSError:
                whole = False
            else:
                self.idle.append(connection)
        if whole:
            self.latencies_s.append(time.perf_counter() - due_at)
        else:
            self.errors += 1

    async def closed(self) -> None:
        """Ask over so many connections until the count or the time is reached."""
        ends_at = time.perf_counter() + (self.order["seconds"] or 86_400)
        numbers = count()

        async def ask_on() -> None:
            while next(numbers) < (self.order["count"] or sys.maxsize) and time.perf_counter() < ends_at:
                await self.one(time.perf_counter())

        await asyncio.gather(*(ask_on() for _ in range(self.order["connections"])))

    async def open(self) -> None:
        """Ask at a fixed rate for so many seconds."""
        begins_at = time.perf_counter()
        asking = set()
        for number in range(int(self.order["rate"] * self.order["seconds"])):
            due_at = begins_at + number / self.order["rate"]
            if (early_s := due_at - time.perf_counter()) > 0:
                await asyncio.sleep(early_s)
            asking.add(asyncio.create_task(self.one(due_at)))
        _, late = await asyncio.wait(asking, timeout=LATE_S)
        self.errors += len(late)


def percentile_ms(ordered_s: list[float], share: float) -> float:
    """Return a percentile in milliseconds."""
    return ordered_s[min(int(len(ordered_s) * share), len(ordered_s) - 1)] * 1000 if ordered_s else 0.0


async def run(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out an order."""
    load = Load(order)
    began_at = time.perf_counter()
    await (load.open() if order["rate"] else load.closed())
    seconds = time.perf_counter() - began_at
    ordered = sorted(load.latencies_s)
    return {
        "requests": len(ordered),
        "seconds": seconds,
        "p50_ms": percentile_ms(ordered, 0.50),
        "p99_ms": percentile_ms(ordered, 0.99),
        "errors": load.errors,
    }


def precise_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that wakes to the microsecond; the timers of epoll and libuv count whole milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    """Read the order, write the result."""
    order = json.load(sys.stdin)
    with asyncio.Runner(loop_factory=precise_loop if order["rate"] else uvloop.new_event_loop) as runner:
        json.dump(runner.run(run(order)), sys.stdout)


if __name__ == "__main__":
    main()
