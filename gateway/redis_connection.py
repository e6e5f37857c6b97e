"""One connection to Redis for an event loop: commands go out as they come, answers are matched in order.

A quarter of the cost of redis-py's asyncio client for a call, for it is one write and one callback. Whatever goes
wrong, an answer that cannot be read included, ends the connection and fails everything that waits for it.
"""

import asyncio
import ssl
from collections import deque
from typing import Any, cast

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url

Reply = Any


class RedisLost(ConnectionError):
    """The connection has ended, or could not be made."""


class RedisConnection(asyncio.Protocol):
    """An open connection; made by `connect`."""

    def __init__(self) -> None:
        self.reader = hiredis.Reader()
        self.waiting: deque[asyncio.Future[Reply]] = deque()
        self.transport: asyncio.Transport | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.transport is None or self.transport.is_closing()

    def call(self, *command: str | bytes | int) -> "asyncio.Future[Reply]":
        """Send a command; the future is its answer, hiredis.ReplyError for an error of Redis, or RedisLost."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if self.transport is None or self.closed:
            future.set_exception(RedisLost("the connection is closed"))
            return future
        self.waiting.append(future)
        self.transport.write(hiredis.pack_command(cast(Any, command)))
        return future

    def close(self) -> None:
        """End the connection at once; whoever waits gets RedisLost."""
        if self.transport is not None:
            self.transport.abort()
        self.connection_lost(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where to write."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand on every answer that is complete."""
        try:
            self.reader.feed(data)
            while self.waiting and (reply := self.reader.gets()) is not False:
                future = self.waiting.popleft()
                if future.done():
                    continue
                if isinstance(reply, hiredis.ReplyError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except hiredis.ProtocolError:
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """Fail everything that waits."""
        waiting, self.waiting = self.waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(RedisLost("the connection has ended"))
                future.exception()  # somebody who stopped waiting shall not be warned of it


async def connect(url: str, timeout_s: float) -> RedisConnection:
    """Open a connection to URL (redis, rediss or unix), signed in and answering.

    Raises OSError, TimeoutError or hiredis.ReplyError.
    """
    options: dict[str, Any] = dict(parse_url(url))
    loop = asyncio.get_running_loop()
    connection = RedisConnection()
    try:
        async with asyncio.timeout(timeout_s):
            if "path" in options:
                await loop.create_unix_connection(lambda: connection, options["path"])
            else:
                host, port = options.get("host", "localhost"), options.get("port", 6379)
                await loop.create_connection(lambda: connection, host, port, ssl=_tls(options))
            if "password" in options:
                name = [options["username"]] if "username" in options else []
                await connection.call("AUTH", *name, options["password"])
            if options.get("db"):
                await connection.call("SELECT", int(options["db"]))
            await connection.call("PING")
    except BaseException:
        connection.close()
        raise
    return connection


def _tls(options: dict[str, Any]) -> ssl.SSLContext | None:
    """Return the TLS context that redis-py's options ask for."""
    if options.get("connection_class") is not SSLConnection:
        return None
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path"))
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    if options.get("ssl_cert_reqs") in ("none", ssl.CERT_NONE):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
