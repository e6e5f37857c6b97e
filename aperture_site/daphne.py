"""Daphne's server with its faults mended: the application is called at the head, both directions have back-pressure.

What stays Daphne's and Twisted's: the parsing of heads and chunks. What is replaced: the transport (`transport`,
asyncio's own in place of the reactor's), the way a body reaches the application, the way an answer leaves, and
WebSockets (`sockets`). Importing this module needs Twisted's asyncio reactor to be installed already (`web` does it).

Invariants: at most QUEUED_BYTES and one read of a body wait in memory; `send` waits while the client does not read; one
request of a connection runs at a time, in order; a body that may not come in is refused when the application asks for
it, so a refusal that the application gives without the body comes first.
"""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import daphne.server
from daphne.http_protocol import WebRequest
from twisted.internet import reactor
from twisted.logger import globalLogBeginner
from twisted.protocols import basic
from twisted.web import http

from aperture_site import reception, sockets
from aperture_site.reception import Bounds, ClientDisconnectedError, Message, check_header, status_line
from aperture_site.transport import Connection
from gateway.body import DISCONNECT, Receive, Scope, Send

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

# Daphne makes a loop of its own when imported, and does not use it where a reactor is installed.
daphne.server.twisted_loop.close()

QUEUED_BYTES = 256 * 1024
# What a queued piece costs beside its bytes; else a body in tiny chunks would take many times its size.
PIECE_BYTES = 64
LINES_BYTES = 8 * 1024
FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
BODYLESS = {204, 304}


class Channel(http.HTTPChannel):
    """Twisted's HTTP/1.1 parser, strict about framing, which calls the application as soon as a head is in."""

    timeOut = None
    # Bytes alone bound a head; Twisted's own two bounds answer 400.
    totalHeadersSize = maxHeaders = 2**31
    requestFactory: Any
    requests: "list[Request]"
    _dataBuffer: list[bytes]

    def __init__(self, server: "Server") -> None:
        super().__init__()
        self.server = server
        self.requestFactory = Request
        self.MAX_LENGTH = server.bounds.header_bytes
        self.fields: list[tuple[bytes, bytes]] = []
        self.deadline = reception.Deadline(server.loop, server.bounds.receive_timeout_s, self._late)
        self._head_bytes = 0
        self._idle = True
        self._ended = False
        self._wants_websocket = False

    def connectionMade(self) -> None:
        """Start the clock for the first request."""
        self._networkProducer = self.transport
        self.deadline.start()

    def connectionLost(self, reason: Any) -> None:
        """Tell the running request that its client is gone."""
        self._ended = True
        self.deadline.stop()
        for request in self.requests:
            request.lost()
        self.requests = []

    def dataReceived(self, data: bytes) -> None:
        """Parse; the first byte of a request starts the deadline of its head."""
        if self._idle:
            self._idle = False
            self.deadline.start()
        start = 0
        # Twisted copies what is left for each line that it takes: a large read of short lines would cost a second.
        while self.line_mode and len(data) - start > LINES_BYTES:
            basic.LineReceiver.dataReceived(self, data[start : start + LINES_BYTES])
            start += LINES_BYTES
            if self._ended:
                return
        basic.LineReceiver.dataReceived(self, data[start:] if start else data)

    def lineReceived(self, line: bytes) -> None:
        """Count the head's bytes, and refuse folded lines (RFC 9112 section 5.2), which readers join differently."""
        self._head_bytes += len(line) + 2
        if self._head_bytes > self.server.bounds.header_bytes:
            self.refuse("headers_too_large")
        elif line.startswith((b" ", b"\t")):
            self.refuse("invalid_request")
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a single line that is longer than a whole head may be."""
        self.refuse("headers_too_large")

    def headerReceived(self, line: bytes) -> bool:
        """Keep one field; return whether the head may go on."""
        field = FIELD.fullmatch(line)
        if field is None:
            self.refuse("invalid_request")
            return False
        name, value = field[1].lower(), field[2]
        self.fields.append((name, value))
        if name == b"content-length":
            return bool(self._maybeChooseTransferDecoder(b"Content-Length", value))
        if name == b"transfer-encoding":
            return bool(self._maybeChooseTransferDecoder(b"Transfer-Encoding", value))
        return True

    def allHeadersReceived(self) -> None:
        """Judge the head, then call the application; the body follows while it runs."""
        request, fields = self.requests[-1], self.fields
        self.fields, self._head_bytes = [], 0
        request.http_version = self._version[-3:].decode("ascii")
        if reception.ambiguous(fields, request.http_version) or not request.accept_head(
            self._command, self._path, fields
        ):
            self.refuse("invalid_request")
            return
        options = {
            token.strip() for name, value in fields if name == b"connection" for token in value.lower().split(b",")
        }
        self.persistent = request.http_version == "1.1" and b"close" not in options
        if b"upgrade" in options and (b"upgrade", b"websocket") in ((n, v.lower()) for n, v in fields):
            if self.length != 0 or not reception.opens_socket(request.method, fields):
                self.refuse("invalid_request")
            self._wants_websocket = True
            return
        request.begin(self.length or 0)

    def allContentReceived(self) -> None:
        """End the body, or hand a WebSocket's connection over."""
        if self._ended:
            return
        self.deadline.clear()
        if self._wants_websocket:
            self._ended = True
            self.deadline.stop()
            self.requests.pop().become_websocket(self.clearLineBuffer())
        else:
            super().allContentReceived()

    def requestDone(self, request: "Request") -> None:
        """Go on to the connection's next request, or close."""
        self.requests.remove(request)
        if request.more_body:
            self._end()
            self.transport.close_after_answer()
        elif not self.persistent:
            self._end()
            self.transport.loseConnection()
        else:
            self._handlingRequest = False
            self._idle = True
            self.deadline.start()
            self.transport.resumeProducing()
            data = b"".join(self._dataBuffer)
            self._dataBuffer = []
            self.setLineMode(data)

    def refuse(self, code: str) -> None:
        """Answer by ourselves with one row of the refusals, and end the connection."""
        if self._ended:
            return
        self._end()
        started = False
        # Twisted forgets the method of a head with its request's end.
        method = (self.requests[0].method if self.requests else b"") or getattr(self, "_command", b"")
        for request in self.requests:
            started = started or request.answering
            request.lost()
        self.requests = []
        if started:
            # The answer's end never comes: its reader must see a cut, not an end.
            self.transport.loseConnection()
            return
        self.transport.write(self.server.bounds.refuse(code, method))
        self.transport.close_after_answer()

    def _end(self) -> None:
        self._ended = True
        self.deadline.stop()

    def _late(self) -> None:
        if self._idle:
            self._end()
            self.transport.loseConnection()
        else:
            self.refuse("request_timeout")

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse("invalid_request")


class Request(WebRequest):
    """One HTTP request: a body that arrives while the application runs, an answer that waits for the client.

    Neither parent's constructor runs: they register every request with Daphne's two once-a-second loops and build
    header objects that nobody reads.
    """

    def __init__(self, channel: Channel, queued: object = False) -> None:
        self.channel = channel
        self.connection: Connection = channel.transport
        self.transport = channel.transport
        self.server = channel.server
        self.method = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.http_version = "1.1"
        self.started = self.done = self.gone = False
        self.more_body = True
        self._pieces: list[bytes] = []
        self._queued_bytes = self._arrived_bytes = 0
        self._paused = self._too_large = self._delivered = False
        self._expects_continue = False
        self._changed = asyncio.Event()
        self._chunked = False
        self._left_bytes = 0
        self._bodyless = False
        self._held_head = b""
        self._departure = reception.Departure()

    @property
    def answering(self) -> bool:
        """Whether a byte of the answer has been written."""
        return self.started and not self._held_head

    # The head
    def accept_head(self, command: bytes, target: bytes, fields: list[tuple[bytes, bytes]]) -> bool:
        """Keep a head; return False where its target is none (RFC 9112 section 3.2)."""
        self.method, self.uri, self.headers = command, target, fields
        path, _, self.query_string = target.partition(b"?")
        if not path.startswith(b"/") and path != b"*":
            scheme, found, rest = path.partition(b"://")
            if not found or scheme.lower() not in (b"http", b"https"):
                return False
            path = b"/" + rest.partition(b"/")[2]
        self.path = path
        return target.isascii()

    def begin(self, declared_bytes: int) -> None:
        """Call the application; DECLARED_BYTES is the body's announced length, 0 where none is."""
        self._too_large = declared_bytes > self.server.bounds.body_bytes
        self._expects_continue = self.http_version == "1.1" and any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in self.headers
        )
        if self._expects_continue:
            # The client waits for us: its time begins when the application asks for the body.
            self.channel.deadline.clear()
        else:
            self.channel.deadline.start()
        peer, host = self.connection.peer, self.connection.host
        path = self.path.decode("ascii")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": self.http_version,
            "method": self.method.decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": self.path,
            "root_path": "",
            "scheme": "https" if self.server.tls else "http",
            "query_string": self.query_string,
            "headers": self.headers,
            "client": (peer.host, peer.port) if hasattr(peer, "port") else None,
            "server": (host.host, host.port) if hasattr(host, "port") else None,
            "extensions": {DISCONNECT: {"call": self._departure.call}},
        }
        self.server.run_task(self._run(scope))

    def become_websocket(self, rest: bytes) -> None:
        """Hand the connection over to a WebSocket; REST is what came after the head."""
        peer, host, server = self.connection.peer, self.connection.host, self.server
        scope = sockets.scope_of(
            self.path,
            self.query_string,
            self.headers,
            (peer.host, peer.port) if hasattr(peer, "port") else None,
            (host.host, host.port) if hasattr(host, "port") else None,
            secure=server.tls is not None,
        )
        stream = self.connection.hand_over()
        socket = sockets.WebSocket(stream, server.application, scope, server.bounds, server.sockets)
        if rest:
            socket.data_received(rest)

    # The body, as it arrives
    def handleContentChunk(self, data: bytes) -> None:
        """Queue one piece; stop reading while the application has enough."""
        if self.gone or not data:
            return
        self._arrived_bytes += len(data)
        if self._too_large or self._arrived_bytes > self.server.bounds.body_bytes:
            # What arrived before is dropped as well: the application will never see the whole.
            self._too_large, self._pieces, self._queued_bytes = True, [], 0
            self._pause()
        else:
            self._pieces.append(data)
            self._queued_bytes += len(data) + PIECE_BYTES
            if self._queued_bytes > QUEUED_BYTES:
                self._pause()
        self._changed.set()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Note that the body is complete."""
        self.more_body = False
        self._resume()
        self._changed.set()

    def lost(self) -> None:
        """Note that the client is gone, or that the connection ends without this request's answer."""
        self.gone = True
        self._pieces = []
        self._changed.set()
        self._departure.happened()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            # Waiting for the application is no slowness of the client's.
            self.channel.deadline.clear()
            self.connection.pauseProducing()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if self.more_body:
                self.channel.deadline.start()
            self.connection.resumeProducing()

    # The application's side
    async def receive(self) -> Message:
        """Give the body piece by piece, then wait for the client to go (ASGI HTTP specification)."""
        if self._expects_continue and not self.started and not self.gone and not self._too_large:
            self._expects_continue = False
            self.channel.deadline.start()
            self.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self._too_large and not self.done:
                self.channel.refuse("request_too_large")
            if self.gone or self.done:
                return {"type": "http.disconnect"}
            if self._pieces or not (self.more_body or self._delivered):
                break
            self._changed.clear()
            await self._changed.wait()
        pieces, self._pieces, self._queued_bytes = self._pieces, [], 0
        self._delivered = not self.more_body
        self._resume()
        return {"type": "http.request", "body": b"".join(pieces), "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """Write one message of the answer; wait while the client does not read; raise ClientDisconnectedError."""
        # A closing transport swallows what is written: a sender that noticed nothing would never yield to the loop.
        if self.gone or self.connection.stream.is_closing():
            raise ClientDisconnectedError
        if self.connection.write_paused:
            await self.connection.writable()
        kind = message["type"]
        if self.done:
            raise RuntimeError(f"The application sent {kind!r} after the end of its answer.")
        if kind == "http.response.start" and not self.started:
            self._write_head(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self.started:
            self._write_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"The application sent {kind!r} out of order.")

    def _write_head(self, status: int, headers: reception.Headers) -> None:
        lines = [status_line(status), self.server.date.line()]
        length = None
        closing, upgrade = not self.channel.persistent or self.more_body, False
        for name, value in headers:
            check_header(name, value)
            lowered = name.lower()
            if lowered == b"content-length":
                length = int(value)
            elif lowered == b"transfer-encoding":
                continue
            elif lowered == b"connection":
                closing = closing or b"close" in value.lower()
                upgrade = b"upgrade" in value.lower()
                continue
            lines += (lowered, b": ", value, b"\r\n")
        if closing:
            self.channel.persistent = False
            lines.append(b"connection: close, upgrade\r\n" if upgrade else b"connection: close\r\n")
        elif upgrade:
            lines.append(b"connection: upgrade\r\n")
        bodyless = self.method == b"HEAD" or status in BODYLESS
        if length is None and not bodyless and self.http_version == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        self._left_bytes = 0 if bodyless else -1 if length is None else length
        self._bodyless = bodyless
        self.started = True
        lines.append(b"\r\n")
        if self._left_bytes > 0:
            # The body follows at once: both are one write.
            self._held_head = b"".join(lines)
        else:
            self.connection.write(b"".join(lines))

    def _write_body(self, body: bytes, more_body: bool) -> None:
        if self._bodyless:
            body = b""
        elif self._left_bytes >= 0:
            self._left_bytes -= len(body)
            if self._left_bytes < 0:
                raise RuntimeError("The application sent more than its content-length.")
        if self._chunked:
            pieces = [b"%x\r\n" % len(body), body, b"\r\n"] if body else []
            if not more_body:
                pieces.append(b"0\r\n\r\n")
            body = b"".join(pieces)
        if self._held_head or body:
            self.connection.write(self._held_head + body)
            self._held_head = b""
        if not more_body:
            if self._left_bytes > 0:
                raise RuntimeError("The application sent less than its content-length.")
            self.done = True
            self._changed.set()
            self._departure.forget()
            self.channel.requestDone(self)

    async def _run(self, scope: Message) -> None:
        try:
            await self.server.application(scope, self.receive, self.send)
        except ClientDisconnectedError:
            return
        except Exception:
            logger.exception("The application failed.")
        if not self.done and not self.gone:
            self.channel.refuse("internal_error")


class Server(daphne.server.Server):
    """Serves one application on one listening socket, inside a running event loop."""

    def __init__(self, application: Application, bounds: Bounds, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(application, endpoints=["inherited socket"], signal_handlers=False, server_name="")
        self.bounds = bounds
        self.tls = tls
        self.loop = asyncio.get_running_loop()
        self.date = reception.Date()
        self.open: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.sockets: set[sockets.WebSocket] = set()

    async def start(self, listening: socket.socket) -> None:
        """Accept connections from LISTENING, a socket that is bound and listens already."""
        # Twisted would log peers and whole heads.
        globalLogBeginner.beginLoggingTo([lambda _: None], redirectStandardIO=False, discardBuffer=True)
        reactor.startRunning(installSignalHandlers=False)
        self.listener = await self.loop.create_server(self._connection, sock=listening, ssl=self.tls)

    async def stop(self, timeout_s: float) -> None:
        """Close the listener and every connection, at most TIMEOUT_S seconds for what is still being written."""
        self.listener.close()
        for connection in list(self.open):
            connection.loseConnection()
        await asyncio.gather(sockets.stop(self.sockets, timeout_s), reception.until(lambda: not self.open, timeout_s))
        for connection in list(self.open):
            connection.abortConnection()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=timeout_s)

    def _connection(self) -> Connection:
        return Connection(self.loop, Channel(self), self.bounds.write_timeout_s, self.open)

    def run_task(self, work: Any) -> None:
        """Run one request's application; the task is kept alive until it ends."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
