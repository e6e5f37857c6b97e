"""uvicorn's server with what it lacks: bounds of time and size for a request, and an orderly early close.

uvicorn calls the application at the head and has back-pressure in both directions. Added here: 431, 413, 408 and 400
in our own shape, no framing that could be read in two ways, `send` that fails once the client is gone, an end for a
client that stops reading, and for a body that is still coming when the answer is complete. As in `daphne`, a body that
may not come in is refused when the application asks for it.
"""

import asyncio
import logging
import math
import socket
import ssl
from collections.abc import Callable
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from aperture_site import reception
from aperture_site.reception import Bounds, ClientDisconnectedError
from aperture_site.sockets import WebSocket, scope_of, stop
from gateway.body import DISCONNECT

logger = logging.getLogger(__name__)


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol for one connection."""

    bounds: Bounds
    sockets: set[WebSocket]
    _running: RequestResponseCycle | None = None
    _writer: "Writer"

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.access_log = False
        self._in_head = self._in_body = False
        self._head_bytes = self._body_bytes = self._framing_bytes = 0
        self._refused_as = "invalid_request"
        self._ended = False
        self._deadline = reception.Deadline(self.loop, self.bounds.receive_timeout_s, self._late)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clocks."""
        super().connection_made(transport)
        self._watch = reception.WriteWatch(self.loop, transport, self.bounds.write_timeout_s)
        self._deadline.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks, and tell every request of the connection, not the last one alone."""
        self._ended = True
        self._deadline.stop()
        self._watch.stop()
        for cycle, _ in self.pipeline:
            cycle.disconnected = True
        super().connection_lost(exc)
        # A pipelined request hides the running one behind itself.
        self._lose_running()

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse a head, or framing around a body, that grows beyond its bound before it is complete."""
        if self._ended:
            return
        if self._in_head:
            self._head_bytes += len(data)
        self._framing_bytes += len(data)
        super().data_received(data)
        too_large = self._in_head and self._head_bytes > self.bounds.header_bytes
        too_large = too_large or (self._in_body and self._framing_bytes > self.bounds.header_bytes)
        if too_large and not self._ended:
            self._refuse("headers_too_large")

    def on_message_begin(self) -> None:
        """Start the deadline of a head."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._deadline.start()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the head; a trailer, which nobody reads, must not become one."""
        if self._in_head:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Judge the head, then let uvicorn call the application."""
        self._in_head = False
        size_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size_bytes > self.bounds.header_bytes:
            self._refused_as = "headers_too_large"
            raise ValueError(self._refused_as)
        if reception.ambiguous(self.headers, self.parser.get_http_version()) or not self.url.isascii():
            raise ValueError(self._refused_as)
        self._in_body = True
        self._body_bytes = self._framing_bytes = 0
        self._deadline.start()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count, and refuse a body that outgrows its bound."""
        self._body_bytes += len(body)
        # The parser keeps a trailer until it is complete, so what brings no byte of a body is bounded as a head is.
        self._framing_bytes = 0
        if self._body_bytes > self.bounds.body_bytes:
            self._refused_as = "request_too_large"
            raise ValueError(self._refused_as)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request's deadline."""
        self._in_body = False
        self._deadline.clear()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, in our own shape."""
        self._refuse(self._refused_as)

    def on_response_complete(self) -> None:
        """Wait for the connection's next request, for as long as a head may take."""
        super().on_response_complete()
        if not self._in_head and not self._answering():
            self._deadline.start()

    def pause_writing(self) -> None:
        """Make `send` wait, and watch that the client goes on reading."""
        super().pause_writing()
        self._watch.start()

    def resume_writing(self) -> None:
        """Let `send` go on."""
        super().resume_writing()
        self._watch.clear()

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection, and its clocks, to the WebSocket protocol."""
        if not reception.opens_socket(self.parser.get_method(), self.headers):
            self._refuse("invalid_request")
            return
        self._deadline.stop()
        self._watch.stop()
        self._ended = True
        self.connections.discard(self)
        url = httptools.parse_url(self.url)
        secure = self.scheme == "https"
        scope = scope_of(url.path, url.query or b"", self.headers, self.client, self.server, secure=secure)
        WebSocket(self.transport, self.app, scope, self.bounds, self.sockets)
        # It knows us, and a socket is open for long: only so do we go before the collector comes.
        self.parser = None  # type: ignore[assignment]

    def _should_upgrade_to_ws(self) -> bool:
        return True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        writer = self._writer = Writer(cycle, self._end)
        if cycle.disconnected:
            writer.departure.happened()

        async def receive() -> Any:
            self._refuse("request_too_large")
            return {"type": "http.disconnect"}

        async def answer(scope: Any, uvicorns_receive: Any, _send: Any) -> None:
            scope["extensions"] = {DISCONNECT: {"call": writer.departure.call}}
            try:
                await app(scope, receive if self._declares_too_much(scope) else uvicorns_receive, writer.send)
            except ClientDisconnectedError:
                cycle.disconnected = True
            except Exception:
                logger.exception("The application failed.")
            if not cycle.response_complete and not cycle.disconnected:
                cycle.disconnected = True
                self._fail(writer.answering)

        super()._start_asgi_task(cycle, answer)

    def _declares_too_much(self, scope: Any) -> bool:
        return any(
            name == b"content-length" and int(value) > self.bounds.body_bytes for name, value in scope["headers"]
        )

    def _answering(self) -> bool:
        return self._running is not None and not (self._running.response_complete or self._running.disconnected)

    def _late(self) -> None:
        waits_for_us = self.flow.read_paused or (self.cycle is not None and self.cycle.waiting_for_100_continue)
        if self._in_body and self._running is self.cycle and not waits_for_us:
            self._refuse("request_timeout")
        elif self._answering():
            # What comes next waits for the end of this answer, or the client waits for the application.
            self._deadline.start()
        elif self._in_head:
            self._refuse("request_timeout")
        else:
            self.transport.close()

    def _refuse(self, code: str) -> None:
        # Inside an answer, a second one would be read as its body.
        self._fail(self._answering() and self._writer.answering, code)

    def _lose_running(self) -> None:
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
            self._writer.departure.happened()

    def _fail(self, started: bool, code: str = "internal_error") -> None:
        self._lose_running()
        if started:
            # The answer's end never comes: its reader must see a cut, not an end.
            self._ended = True
            self._deadline.stop()
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write(self.bounds.refuse(code, self._method()))
            self._end()

    def _method(self) -> bytes:
        """Return the method of the request that a refusal would answer; nothing where none was read."""
        if self._running is not None and not self._running.response_complete:
            return self._running.scope["method"].encode("ascii")
        return bytes(self.parser.get_method()) if getattr(self, "url", b"") else b""

    def _end(self) -> None:
        self._ended = True
        self._deadline.stop()
        self._unset_keepalive_if_required()
        reception.close_after_answer(self.loop, self.transport, self)


class Writer:
    """One answer on its way out: uvicorn's `send`, at a third of its cost.

    A head that announces its body's length waits for the body, so that both are one write; a stream's head goes at
    once. Headers are checked together: a line break or a NUL inside one would show in the count.
    """

    __slots__ = ("cycle", "departure", "end_early", "ends_early", "head", "left_bytes")

    def __init__(self, cycle: RequestResponseCycle, end_early: Callable[[], None]) -> None:
        self.cycle = cycle
        self.end_early = end_early
        self.ends_early = False
        self.head = b""
        self.left_bytes = 0
        self.departure = reception.Departure()

    @property
    def answering(self) -> bool:
        """Whether a byte of the answer has been written."""
        return self.cycle.response_started and not self.head

    async def send(self, message: Any) -> None:
        """Write one message of an answer; raise ClientDisconnectedError once the client is gone."""
        cycle = self.cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        # A closing transport swallows what is written: a sender that noticed nothing would never yield to the loop.
        if cycle.disconnected or cycle.transport.is_closing():
            raise ClientDisconnectedError
        if not cycle.response_started:
            self._start(message)
        elif cycle.response_complete:
            raise RuntimeError(f"{message['type']} was sent after the answer's end.")
        else:
            self._body(message.get("body", b""), message.get("more_body", False))

    def _start(self, message: Any) -> None:
        cycle = self.cycle
        if message["type"] != "http.response.start":
            raise RuntimeError(f"An answer begins with http.response.start, not with {message['type']}.")
        # uvicorn would go on reading, unbounded, a body that nobody wants.
        self.ends_early = cycle.more_body
        headers = [*cycle.default_headers, *message.get("headers", ())]
        names = {name.lower(): value for name, value in headers}
        if self.ends_early or b"close" in names.get(b"connection", b"").lower():
            cycle.keep_alive = False
        if not cycle.keep_alive and b"close" not in names.get(b"connection", b"").lower():
            headers.append((b"connection", b"close"))
        length = names.get(b"content-length")
        cycle.chunked_encoding = False
        if length is not None:
            self.left_bytes = int(length)
        elif cycle.scope["method"] != "HEAD" and message["status"] not in (204, 304):
            cycle.chunked_encoding = True
            if b"transfer-encoding" not in names:
                headers.append((b"transfer-encoding", b"chunked"))
        head = b"".join([b"%b: %b\r\n" % header for header in headers])
        if not head.count(b"\r") == head.count(b"\n") == len(headers) or b"\0" in head:
            raise RuntimeError("A header holds a line break or a NUL.")
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        self.head = STATUS_LINE[message["status"]] + head + b"\r\n"
        if length is None:
            cycle.transport.write(self.head)
            self.head = b""

    def _body(self, body: bytes, more_body: bool) -> None:
        cycle = self.cycle
        if cycle.scope["method"] == "HEAD":
            body = b""
            self.left_bytes = 0
        elif cycle.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more_body:
                body += b"0\r\n\r\n"
        else:
            self.left_bytes -= len(body)
            if self.left_bytes < 0 or (self.left_bytes and not more_body):
                raise RuntimeError("The body is not as long as its Content-Length.")
        if self.head or body:
            cycle.transport.write(self.head + body)
            self.head = b""
        if not more_body:
            self._complete()

    def _complete(self) -> None:
        cycle = self.cycle
        cycle.response_complete = True
        cycle.message_event.set()
        self.departure.forget()
        if self.ends_early:
            # uvicorn's own close would reset the connection before the client has read the answer.
            cycle.on_response()
            self.end_early()
            return
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


class Server:
    """Serves one application on one listening socket, inside a running event loop."""

    def __init__(self, application: Any, bounds: Bounds, tls: ssl.SSLContext | None = None) -> None:
        self._sockets: set[WebSocket] = set()
        self._tls = tls
        protocol = type("BoundProtocol", (Protocol,), {"bounds": bounds, "sockets": self._sockets})
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
                http=protocol,
                # WebSockets are taken over by `sockets`, the same behind both servers.
                ws="none",
                lifespan="off",
                interface="asgi3",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=math.ceil(bounds.receive_timeout_s),
            )
        )
        self._ticking: asyncio.Task[None] | None = None
        # A warning for each malformed request would let a client fill the log.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)

    async def start(self, listening: socket.socket) -> None:
        """Accept connections from LISTENING, a socket that is bound and listens already."""
        self._server.config.load()
        self._server.config.ssl = self._tls
        self._server.lifespan = self._server.config.lifespan_class(self._server.config)
        await self._server.on_tick(0)
        await self._server.startup(sockets=[listening])
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self, timeout_s: float) -> None:
        """Close the listener and every connection, at most TIMEOUT_S seconds for what is still being written."""
        state = self._server.server_state
        if self._ticking is not None:
            self._ticking.cancel()
        for server in self._server.servers:
            server.close()
        for connection in list(state.connections):
            connection.shutdown()
        await asyncio.gather(
            stop(self._sockets, timeout_s),
            reception.until(lambda: not state.connections and not state.tasks, timeout_s),
        )
        for connection in list(state.connections):
            connection.transport.abort()
        for task in state.tasks:
            task.cancel()
        await reception.until(lambda: not state.tasks, timeout_s)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            # The Date header, once a second.
            await self._server.on_tick(0)
