"""An asyncio connection in the shape of a Twisted transport, so that Daphne's protocols run on it without the reactor.

The reactor's own transport costs a poll and a loop turn for each write, and has no time limit for a client that does
not read. Invariant: once `lost`, or closing, nothing is written any more, and whoever waits in `writable` is told.
"""

import asyncio
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from aperture_site import reception
from aperture_site.reception import ClientDisconnectedError


class Connection(asyncio.Protocol):
    """One connection: `protocol` is the Twisted protocol that reads and writes it, until a WebSocket takes it over."""

    disconnecting = False
    write_paused = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: Any,
        write_timeout_s: float,
        every: "set[Connection]",
    ) -> None:
        self.loop = loop
        self.protocol = protocol
        self.lost = False
        self.producer: Any = None
        self._write_timeout_s = write_timeout_s
        self._every = every
        self._writable = asyncio.Event()

    # asyncio's side
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join every other open connection, and start the protocol."""
        self.stream = cast(asyncio.Transport, transport)
        self.peer = _address(self.stream.get_extra_info("peername"))
        self.host = _address(self.stream.get_extra_info("sockname"))
        self.watch = reception.WriteWatch(self.loop, self.stream, self._write_timeout_s)
        self._every.add(self)
        self.protocol.makeConnection(self)

    def data_received(self, data: bytes) -> None:
        """Pass on what the client sent."""
        self.protocol.dataReceived(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake who waits to write, and tell the channel or the WebSocket."""
        self.lost = True
        self._every.discard(self)
        self.watch.stop()
        self._writable.set()
        self.protocol.connectionLost(Failure(ConnectionLost() if exc else ConnectionDone()))

    def pause_writing(self) -> None:
        """Make `send` wait, and watch that the client goes on reading."""
        self.write_paused = True
        self._writable.clear()
        self.watch.start()
        if self.producer is not None:
            self.producer.pauseProducing()

    def resume_writing(self) -> None:
        """Let `send` go on."""
        self.write_paused = False
        self._writable.set()
        self.watch.clear()
        if self.producer is not None:
            self.producer.resumeProducing()

    async def writable(self) -> None:
        """Wait until the client has read enough; raise ClientDisconnectedError when it is gone."""
        if self.write_paused and not self.lost:
            await self._writable.wait()
        if self.lost or self.stream.is_closing():
            raise ClientDisconnectedError

    def hand_over(self) -> asyncio.Transport:
        """Return the transport for another protocol, and forget it."""
        self._every.discard(self)
        self.watch.stop()
        return self.stream

    def close_after_answer(self) -> None:
        """Close, but let the client read its answer while it may still be sending."""
        self.disconnecting = True
        reception.close_after_answer(self.loop, self.stream, self)

    # Twisted's side
    def write(self, data: bytes) -> None:
        """Write, unless the connection is closing."""
        if not self.stream.is_closing():
            self.stream.write(data)

    def writeSequence(self, pieces: list[bytes]) -> None:
        """Write several pieces at once."""
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        """Close once everything is written."""
        self.disconnecting = True
        if self.stream.get_write_buffer_size():
            self.watch.start()
        self.stream.close()

    def abortConnection(self) -> None:
        """Close now."""
        self.disconnecting = True
        self.stream.abort()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell PRODUCER from now on when the client does not read."""
        self.producer = producer

    def unregisterProducer(self) -> None:
        """Tell nobody any more."""
        self.producer = None

    def pauseProducing(self) -> None:
        """Stop reading from the client."""
        if not self.stream.is_closing() and self.stream.is_reading():
            self.stream.pause_reading()

    def resumeProducing(self) -> None:
        """Read from the client again."""
        if not self.stream.is_closing() and not self.stream.is_reading():
            self.stream.resume_reading()

    def getPeer(self) -> Any:
        """Return the client's address."""
        return self.peer

    def getHost(self) -> Any:
        """Return our own address."""
        return self.host


def _address(name: Any) -> Any:
    if not isinstance(name, tuple):
        return UNIXAddress(None)
    return (IPv6Address if ":" in name[0] else IPv4Address)("TCP", name[0], name[1])
