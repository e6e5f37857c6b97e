"""One WebSocket on an asyncio transport, the same behind both servers (RFC 6455; ASGI WebSocket specification 2.4).

Frames are parsed and made by the sans-I/O half of the `websockets` package. Each server hands a connection over whose
head it has read and found to be an opening handshake; what follows is here: the answer to it, which may be a refusal
of the application's own (ASGI's extension `websocket.http.response`), messages, pings, the closing handshake.

Invariants: at most QUEUED_MESSAGES or QUEUED_BYTES, one message and one read of the transport wait in memory for the
application, and the client is not read meanwhile; `send` waits while the client does not read, and a client that takes
no byte for the write timeout is cut; nothing is compressed; nothing of what is said reaches a log.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, Protocol, State
from websockets.utils import accept_key

from aperture_site import reception
from aperture_site.reception import Bounds, ClientDisconnectedError, Headers, Message, check_header, status_line
from gateway.body import Receive, Scope, Send

logger = logging.getLogger(__name__)
# The package tells every frame at DEBUG, and every end at INFO.
FRAMES_LOGGER = logging.getLogger("aperture.frames")
FRAMES_LOGGER.setLevel(logging.ERROR)

QUEUED_MESSAGES = 8
QUEUED_BYTES = 256 * 1024
# What one step of the parser may see: a read of tiny frames would become thousands of messages at once.
SLICE_BYTES = 16 * 1024
CLOSE_TIMEOUT_S = 5.0
REASON_BYTES_MAX = 123
LOST, REFUSED = 1006, 1006
CONNECTING, ANSWERING, OPEN, OVER = range(4)
DATE = reception.Date()

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def scope_of(
    path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], client: Any, server: Any, *, secure: bool
) -> Message:
    """Return the ASGI scope of an opening handshake; HEADERS have lower-case names."""
    offered = [
        item.strip()
        for name, value in headers
        if name == b"sec-websocket-protocol"
        for item in value.decode("latin-1").split(",")
    ]
    text = path.decode("ascii")
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss" if secure else "ws",
        "path": unquote(text) if "%" in text else text,
        "raw_path": path,
        "root_path": "",
        "query_string": query,
        "headers": headers,
        "subprotocols": offered,
        "client": client,
        "server": server,
        "extensions": {"websocket.http.response": {}},
    }


class WebSocket(asyncio.Protocol):
    """One connection after its head, and the task of the application that serves it."""

    def __init__(
        self,
        stream: asyncio.Transport,
        application: Application,
        scope: Message,
        bounds: Bounds,
        every: "set[WebSocket]",
    ) -> None:
        """Take STREAM over and call APPLICATION; this object is in EVERY until the application has ended."""
        self.stream = stream
        self._loop = asyncio.get_running_loop()
        self._application = application
        self._scope = scope
        self._bounds = bounds
        self._every = every
        self._phase = CONNECTING
        self._frames = Protocol(SERVER, max_size=bounds.frame_bytes, logger=FRAMES_LOGGER)
        self._messages: deque[Message] = deque([{"type": "websocket.connect"}])
        self._queued_bytes = 0
        self._unread = b""
        # One buffer, for a fragment may be empty and a list of fragments would have no bound.
        self._begun = bytearray()
        self._is_text = False
        self._disconnect: Message | None = None
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._watch = reception.WriteWatch(self._loop, stream, bounds.write_timeout_s)
        self._timer: asyncio.TimerHandle | None = None
        self._heard = True
        every.add(self)
        stream.set_protocol(self)
        self.task = self._loop.create_task(self._run())
        self.task.add_done_callback(lambda _: every.discard(self))

    # --- The transport's side -----------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        """Parse what the client sent, as far as the application has room for it."""
        self._heard = True
        self._unread = self._unread + data if self._unread else data
        self._feed()

    def eof_received(self) -> None:
        """Give up a client that hung up without a word: what still waits to be written has no reader."""
        if self._phase != OVER:
            self._end(LOST)
            self.stream.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application, unless it knows of an end already."""
        self._watch.stop()
        self._end(LOST)
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """Make `send` wait, and watch that the client goes on reading."""
        if self._phase != OVER:
            self._writable.clear()
        self._watch.start()

    def resume_writing(self) -> None:
        """Let `send` go on."""
        self._writable.set()
        self._watch.clear()

    def _feed(self) -> None:
        """Parse slice by slice; stop reading the client where the application has enough, or is not asked yet."""
        start = 0
        while self._phase == OPEN and start < len(self._unread) and not self._full():
            self._frames.receive_data(self._unread[start : start + SLICE_BYTES])
            start += SLICE_BYTES
            for frame in self._frames.events_received():
                if isinstance(frame, Frame):
                    self._take(frame)
            self._flush(replying=True)
        self._unread = b"" if self._phase == OVER else self._unread[start:]
        if self.stream.is_closing():
            return
        if self._unread and self.stream.is_reading():
            self.stream.pause_reading()
        elif not self._unread and not self.stream.is_reading():
            self._heard = True
            self.stream.resume_reading()

    def _full(self) -> bool:
        return len(self._messages) >= QUEUED_MESSAGES or self._queued_bytes >= QUEUED_BYTES

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            received = self._frames.close_rcvd
            self._end(received.code if received else LOST, received.reason if received else "")
            return
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        if not frame.fin:
            self._begun += frame.data
            return
        data: Any = frame.data
        if self._begun:
            data, self._begun = self._begun + data, bytearray()
        try:
            content = {"text": str(data, "utf-8")} if self._is_text else {"bytes": bytes(data)}
        except UnicodeDecodeError:
            self._frames.fail(1007, "A text frame is not UTF-8.")
            return
        self._queued_bytes += len(data)
        self._messages.append({"type": "websocket.receive", "size": len(data), **content})
        self._changed.set()

    def _flush(self, *, replying: bool = False) -> None:
        """Write what the frames' state machine has to say; close where it says so."""
        pieces = self._frames.data_to_send()
        if replying and not self._writable.is_set() and self._frames.state is State.OPEN:
            # Pongs for a client that does not read would pile up; an older ping needs none (RFC 6455, section 5.5.3).
            return
        data = b"".join(pieces)
        if data and not self.stream.is_closing():
            self.stream.write(data)
        if b"" in pieces:
            self._hang_up()

    def _hang_up(self) -> None:
        """Close the connection after its last frame; a client that is still sending gets to read that frame."""
        sent = self._frames.close_sent
        self._end(sent.code if sent else LOST, sent.reason if sent else "")
        if self._frames.parser_exc is not None or self._frames.close_rcvd is None:
            reception.close_after_answer(self._loop, self.stream, self)
        elif not self.stream.is_closing():
            if self.stream.get_write_buffer_size():
                self._watch.start()
            self.stream.close()

    def _end(self, code: int, reason: str = "") -> None:
        """Note how the socket ended, once; whoever waits is told."""
        self._phase = OVER
        if self._disconnect is None:
            self._disconnect = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._changed.set()
        self._writable.set()

    # --- Pings --------------------------------------------------------------------------------------------------------
    def _beat(self) -> None:
        """Ask whether the client is there; one that said nothing since the last time, though it was read, is lost."""
        if self._phase != OPEN:
            return
        if not self._heard and self.stream.is_reading():
            self._end(LOST)
            self.stream.abort()
            return
        self._heard = False
        if self._writable.is_set():
            self._frames.send_ping(b"")
            self._flush()
        self._timer = self._loop.call_later(self._bounds.ping_interval_s, self._beat)

    # --- The application's side ---------------------------------------------------------------------------------------
    async def receive(self) -> Message:
        """Give the next message; at the end, again and again, how the socket ended."""
        while not self._messages:
            if self._disconnect is not None:
                return dict(self._disconnect)
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        self._queued_bytes -= message.pop("size", 0)
        if self._unread and not self._messages:
            self._feed()
        return message

    async def send(self, message: Message) -> None:
        """Write one message; wait while the client does not read; raise ClientDisconnectedError once it is gone."""
        kind = message["type"]
        # A close does not wait: a client that never reads would keep its socket.
        if kind != "websocket.close" and not self._writable.is_set():
            await self._writable.wait()
        if self._disconnect is not None or self.stream.is_closing():
            if kind == "websocket.close":
                return
            raise ClientDisconnectedError
        if self._phase == OPEN and kind == "websocket.send":
            self._write(message)
        elif self._phase == OPEN and kind == "websocket.close":
            self._close(message.get("code") or 1000, message.get("reason") or "")
        elif self._phase == CONNECTING and kind == "websocket.accept":
            self._accept(message.get("subprotocol"), message.get("headers", ()))
        elif self._phase == CONNECTING and kind == "websocket.close":
            self._refuse_start(403, [(b"content-length", b"0")])
            self._refuse_end()
        elif self._phase == CONNECTING and kind == "websocket.http.response.start":
            self._refuse_start(message["status"], message.get("headers", ()))
        elif self._phase == ANSWERING and kind == "websocket.http.response.body":
            self.stream.write(message.get("body", b""))
            if not message.get("more_body", False):
                self._refuse_end()
        else:
            raise RuntimeError(f"The application sent {kind!r} out of order.")

    def _accept(self, subprotocol: str | None, headers: Headers) -> None:
        if subprotocol is not None and subprotocol not in self._scope["subprotocols"]:
            raise RuntimeError("The application chose a subprotocol that was not offered.")
        key = next(value for name, value in self._scope["headers"] if name == b"sec-websocket-key")
        lines = [status_line(101), b"upgrade: websocket\r\nconnection: Upgrade\r\n"]
        lines.append(b"sec-websocket-accept: " + accept_key(key.decode("ascii")).encode() + b"\r\n")
        if subprotocol is not None:
            lines.append(b"sec-websocket-protocol: " + subprotocol.encode("latin-1") + b"\r\n")
        self.stream.write(b"".join([*lines, *_fields(headers), b"\r\n"]))
        self._phase = OPEN
        self._timer = self._loop.call_later(self._bounds.ping_interval_s, self._beat)
        self._feed()

    def _refuse_start(self, status: int, headers: Headers) -> None:
        kept = [(name, value) for name, value in headers if name.lower() not in (b"connection", b"transfer-encoding")]
        # RFC 9110, section 7.8: who sends Upgrade names it as a connection option.
        options = b"upgrade, close" if any(name.lower() == b"upgrade" for name, _ in kept) else b"close"
        lines = [status_line(status), DATE.line(), *_fields(kept), b"connection: " + options + b"\r\n\r\n"]
        self.stream.write(b"".join(lines))
        self._phase = ANSWERING

    def _refuse_end(self) -> None:
        self._end(REFUSED)
        reception.close_after_answer(self._loop, self.stream, self)

    def _write(self, message: Message) -> None:
        text = message.get("text")
        if text is not None:
            self._frames.send_text(text.encode())
        else:
            self._frames.send_binary(message["bytes"])
        self._flush()

    def _close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; the client has a few seconds for its part."""
        reason = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
        self._frames.send_close(code, reason)
        self._flush()
        # From here on what the client sends is parsed for its close frame alone.
        self._messages.clear()
        self._end(code, reason)
        self._drop_until_closed()

    def _drop_until_closed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(CLOSE_TIMEOUT_S, self.stream.abort)
        self._unread = b""
        self.stream.set_protocol(Closing(self._frames, self.stream, self))
        if not self.stream.is_reading() and not self.stream.is_closing():
            self.stream.resume_reading()

    async def _run(self) -> None:
        code = 1000
        try:
            await self._application(self._scope, self.receive, self.send)
        except ClientDisconnectedError:
            return
        except Exception:
            code = 1011
            logger.exception("The application failed.")
        if self.stream.is_closing() or self._phase == OVER:
            return
        if self._phase == OPEN:
            self._close(code, "")
        elif self._phase == CONNECTING:
            self.stream.write(self._bounds.refuse("internal_error", b"GET"))
            self._refuse_end()
        else:
            self.stream.close()

    # --- The server's side --------------------------------------------------------------------------------------------
    def shutdown(self) -> None:
        """Close a socket that is still open when the server stops."""
        if self._phase == OPEN:
            self._close(1001, "The server stops.")
        elif not self.stream.is_closing():
            self.stream.close()


class Closing(asyncio.Protocol):
    """The client's half of a closing handshake that we began: everything but its close frame is thrown away."""

    def __init__(self, frames: Protocol, stream: asyncio.Transport, owner: WebSocket) -> None:
        self._frames = frames
        self._stream = stream
        self._owner = owner

    def data_received(self, data: bytes) -> None:
        """Look for the close frame, and close when it has come."""
        self._frames.receive_data(data)
        self._frames.events_received()
        if b"" in self._frames.data_to_send():
            self._stream.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the socket."""
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Nothing is written any more."""

    def resume_writing(self) -> None:
        """Nothing is written any more."""


async def stop(every: set[WebSocket], timeout_s: float) -> None:
    """Close every socket, at most TIMEOUT_S seconds for what its client and its application still have to do."""
    for socket in list(every):
        socket.shutdown()
    await reception.until(lambda: not every, timeout_s)
    for socket in list(every):
        socket.stream.abort()
        socket.task.cancel()
    await reception.until(lambda: not every, timeout_s)


def _fields(headers: Headers) -> list[bytes]:
    lines = []
    for name, value in headers:
        check_header(name, value)
        lines.append(name + b": " + value + b"\r\n")
    return lines
