"""One connection of the scripted upstream: reading requests, and writing any bytes at all.

`Exchange` is what came in and what went out, kept for assertions. `Wire` is what a scenario writes with.
"""

import asyncio
import json
import re
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

HEAD_BYTES_MAX = 256 * 1024
# What an exchange remembers of its answer; the endless ones would fill the memory otherwise.
PAYLOAD_BYTES_KEPT = 2 * 1024 * 1024
# Gemini's paths name the model, and what is wanted of it.
NAMED = re.compile(r"/models/(?P<model>[^/:?]+):(?P<verb>\w+)")


@dataclass(eq=False)
class Exchange:
    """One request as it arrived, and what became of it. Times are of `time.monotonic`, in seconds."""

    connection_id: int
    # Whether an earlier request was answered on the same connection.
    reused: bool
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    received_at: float
    protocol: "WatchedProtocol"
    # The answer's body, before transfer coding.
    payload: bytearray = field(default_factory=bytearray)
    # The tokens (in, out) that a whole answer of a scenario about money was billed for.
    billed: tuple[int, int] | None = None

    def header(self, name: str) -> str:
        """Return a header's value, or the empty string."""
        return next((value for key, value in self.headers if key == name.lower()), "")

    @property
    def closed_at(self) -> float | None:
        """When the connection ended, from whichever side."""
        return self.protocol.closed_at

    @property
    def json(self) -> Any:
        """The request's body, parsed; None where it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def model(self) -> str:
        """The model that the request names, in its path or body: the scenario."""
        found = NAMED.search(self.path)
        if found:
            return unquote(found["model"])
        return str(self.json.get("model", "")) if isinstance(self.json, dict) else ""

    @property
    def streams(self) -> bool:
        """Whether the request asks for a stream."""
        found = NAMED.search(self.path)
        if found:
            return found["verb"] == "streamGenerateContent"
        return isinstance(self.json, dict) and self.json.get("stream") is True


class WatchedProtocol(asyncio.StreamReaderProtocol):
    """A stream protocol that notes the moment at which the peer went away."""

    closed_at: float | None = None

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.gone = asyncio.Event()

    def _note(self) -> None:
        if self.closed_at is None:
            self.closed_at = time.monotonic()
        self.gone.set()

    def eof_received(self) -> bool:
        """Note a close by FIN."""
        self._note()
        return bool(super().eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """Note a close by RST, and our own."""
        self._note()
        super().connection_lost(exc)


class Wire:
    """The answering side of a connection. A scenario that leaves it open for the next request says `keep()`."""

    def __init__(self, exchange: Exchange, writer: asyncio.StreamWriter, protocol: WatchedProtocol) -> None:
        self.exchange = exchange
        self.writer = writer
        self.protocol = protocol
        self.kept = False

    async def raw(self, data: bytes) -> None:
        """Write DATA as it is and wait until the socket took it; raise ConnectionError when the peer has gone."""
        if self.writer.is_closing():
            raise ConnectionResetError("the peer has gone")
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int | str, *headers: str, reason: str = "Scripted") -> None:
        """Write a status line and headers."""
        await self.raw("\r\n".join([f"HTTP/1.1 {status} {reason}", *headers, "", ""]).encode("latin-1"))

    async def chunk(self, data: bytes) -> None:
        """Write one HTTP chunk, and remember it as part of the answer."""
        self.remember(data)
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    def remember(self, data: bytes) -> None:
        """Note DATA as part of the answer's body."""
        if len(self.exchange.payload) < PAYLOAD_BYTES_KEPT:
            self.exchange.payload += data

    async def end(self) -> None:
        """End a chunked body well, and keep the connection."""
        await self.raw(b"0\r\n\r\n")
        self.kept = True

    async def whole(self, status: int, body: bytes, *headers: str, content_type: str = "application/json") -> None:
        """Write a complete answer with its length, and keep the connection."""
        self.remember(body)
        await self.head(status, f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers)
        await self.raw(body)
        self.kept = True

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than the peer does."""
        try:
            async with asyncio.timeout(seconds):
                await self.protocol.gone.wait()
        except TimeoutError:
            return
        raise ConnectionResetError("the peer has gone")

    async def hang(self) -> None:
        """Do nothing until the peer goes away."""
        await self.protocol.gone.wait()

    def reset(self) -> None:
        """Close with RST."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def read_request(
    reader: asyncio.StreamReader, protocol: WatchedProtocol, *, connection_id: int, reused: bool
) -> Exchange | None:
    """Read one request; None at the connection's end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = request_line.split(" ", 2)
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]
    named = dict(headers)
    if named.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(named.get("content-length", "0")))
    return Exchange(connection_id, reused, method, path, headers, body, time.monotonic(), protocol)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():
        pass
    return bytes(body)
