"""What both web servers owe a connection before and after the application: bounds, refusals, an orderly close.

Invariants: nothing here reads a body or knows a route. A refusal is one whole HTTP answer that ends its connection,
and the client can read it even while it is still sending. A timer is set and cleared by assigning a number.
"""

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple

Headers = Iterable[tuple[bytes, bytes]]
Message = MutableMapping[str, Any]

# The key of a WebSocket's opening handshake: 16 bytes in base64 (RFC 6455, section 4.2.1).
SOCKET_KEY = re.compile(rb"[0-9A-Za-z+/]{22}==")

# What an answer's header may look like (RFC 9110, section 5), and the first lines of answers.
ANSWER_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
ANSWER_VALUE_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

# How long a connection that was answered early may go on sending without being cut.
LINGER_S = 2.0


class Departure:
    """The client's departure from one request, and the one callback that wants to know of it.

    It knows neither the request nor the connection, and forgets the callback at the answer's end: else each request
    would be a cycle for the garbage collector, whose pauses are what a percentile of latency shows.
    """

    __slots__ = ("_callback", "_gone")

    def __init__(self) -> None:
        self._callback: Callable[[], None] | None = None
        self._gone = False

    def call(self, callback: Callable[[], None]) -> None:
        """Have CALLBACK called once when the client goes, or now where it has gone (`gateway.body.DISCONNECT`)."""
        if self._gone:
            callback()
        else:
            self._callback = callback

    def happened(self) -> None:
        """Tell of it, once."""
        self._gone = True
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def forget(self) -> None:
        """Drop the callback: the answer is complete."""
        self._callback = None


class ClientDisconnectedError(OSError):
    """Raised by `send` once the client is gone (ASGI HTTP specification 2.4: an OSError)."""


@dataclass(frozen=True)
class Bounds:
    """What a connection may use, in bytes and seconds, and who renders the answer when it uses more.

    `render` takes a code of REFUSALS, these bounds and a request id, and returns a whole HTTP/1.1 answer. A WebSocket's
    message may have `frame_bytes`, and its client is asked every `ping_interval_s` whether it is there.
    """

    body_bytes: int
    header_bytes: int
    receive_timeout_s: float
    write_timeout_s: float
    region: str
    render: "Callable[[str, Bounds, str], bytes]"
    frame_bytes: int = 16 * 1024 * 1024
    ping_interval_s: float = 20.0

    def refuse(self, code: str, method: bytes) -> bytes:
        """Return the answer to a request that never reached the application; METHOD is empty where none was read."""
        head, end, body = self.render(code, self, new_request_id()).partition(b"\r\n\r\n")
        return head + end + (b"" if method == b"HEAD" else body)


class Refusal(NamedTuple):
    """One answer that the protocol gives by itself."""

    status: int
    reason: str
    type: str
    message: str


REFUSALS = {
    "invalid_request": Refusal(
        400,
        "Bad Request",
        "invalid_request_error",
        "The request is not valid HTTP/1.1, or opens no WebSocket of version 13; send one unambiguous head and body.",
    ),
    "request_timeout": Refusal(
        408,
        "Request Timeout",
        "invalid_request_error",
        "The request did not arrive within {receive_timeout_s:g} s; send it faster, or in smaller parts.",
    ),
    "request_too_large": Refusal(
        413,
        "Content Too Large",
        "invalid_request_error",
        "The request body is larger than {body_bytes} bytes; send a smaller one.",
    ),
    "headers_too_large": Refusal(
        431,
        "Request Header Fields Too Large",
        "invalid_request_error",
        "The request line and headers together are larger than {header_bytes} bytes; send fewer or shorter ones.",
    ),
    "internal_error": Refusal(
        500, "Internal Server Error", "server_error", "The server failed to answer; the fault is ours. Try again."
    ),
}


def new_request_id() -> str:
    """Return an identifier for a request that never reached the application."""
    return "req_" + secrets.token_hex(12)


def refusal(code: str, bounds: Bounds, request_id: str) -> bytes:
    """Return the whole HTTP/1.1 answer for one row of REFUSALS; the connection ends with it."""
    row = REFUSALS[code]
    error = {"message": row.message.format_map(vars(bounds)), "type": row.type, "code": code}
    body = json.dumps({"error": error, "request_id": request_id}).encode()
    head = (
        f"HTTP/1.1 {row.status} {row.reason}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        f"x-aperture-request-id: {request_id}\r\n"
        f"x-aperture-region: {bounds.region}\r\n"
        # Without it a browser hides the answer from the page that asked; nothing here is anybody's.
        "access-control-allow-origin: *\r\n"
        "access-control-expose-headers: x-aperture-request-id, x-aperture-region\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode("latin-1", "replace") + body


def ambiguous(headers: Headers, http_version: str) -> bool:
    """Say whether two readers could disagree on where this request ends or whom it is for (RFC 9112 sections 3.2, 6).

    HEADERS holds lower-case names. Refused: several Content-Length fields or one that is no plain number, any
    Transfer-Encoding but a lone `chunked`, both together, chunked in HTTP/1.0, a Host that is missing or repeated, and
    a version other than 1.0 and 1.1.
    """
    if http_version not in ("1.0", "1.1"):
        return True
    lengths = codings = hosts = 0
    for name, value in headers:
        if name == b"content-length":
            lengths += 1
            if not value.isdigit():
                return True
        elif name == b"transfer-encoding":
            codings += 1
            if value.lower() != b"chunked":
                return True
        elif name == b"host":
            hosts += 1
    if lengths + codings > 1 or hosts > 1:
        return True
    return codings > 0 if http_version == "1.0" else hosts != 1


def opens_socket(method: bytes, headers: Headers) -> bool:
    """Say whether a head that asks for a WebSocket opens one (RFC 6455, section 4.2.1): version 13, and one key.

    HEADERS holds lower-case names. What else may be wrong is for the WebSocket's own protocol to say.
    """
    versions = [value for name, value in headers if name == b"sec-websocket-version"]
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    return method == b"GET" and versions == [b"13"] and len(keys) == 1 and SOCKET_KEY.fullmatch(keys[0]) is not None


def status_line(status: int) -> bytes:
    """Return the first line of an answer, with its line break."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def check_header(name: bytes, value: bytes) -> None:
    """Raise RuntimeError for a header that would not stay one line of an answer's head; the value is not told."""
    if not ANSWER_NAME.fullmatch(name) or ANSWER_VALUE_FORBIDDEN.search(value):
        raise RuntimeError(f"The application sent an invalid header named {name!r}.")


class Date:
    """The Date header, rendered once a second at most."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """Return the whole header line with its line break."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = b"date: " + formatdate(second, usegmt=True).encode() + b"\r\n"
        return self._line


def _nobody() -> None:
    """Be told, and do nothing."""


class Deadline:
    """A timer whose setting and clearing cost an assignment; the loop's own timer is armed at most once a period.

    Every `start` of one Deadline must use the same period, else a shorter one could be noticed late.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, period_s: float, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._period_s = period_s
        self._expired = expired
        self._at: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Expire one period from now, whatever was set before."""
        self._at = self._loop.time() + self._period_s
        if self._handle is None:
            self._handle = self._loop.call_at(self._at, self._fire)

    def clear(self) -> None:
        """Do not expire; `start` may follow."""
        self._at = None

    def stop(self) -> None:
        """Forget everything, whom to tell too, who knows us: the connection is gone."""
        self._at = None
        self._expired = _nobody
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        if self._at is None:
            return
        if self._at > self._loop.time():
            self._handle = self._loop.call_at(self._at, self._fire)
            return
        self._at = None
        self._expired()


class WriteWatch:
    """Abort a connection whose client takes no byte of a waiting answer for the write timeout."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, timeout_s: float) -> None:
        self._transport = transport
        self._waiting_bytes = 0
        self._deadline = Deadline(loop, timeout_s, self._look)

    def start(self) -> None:
        """Begin to watch: bytes wait in the transport."""
        self._waiting_bytes = self._transport.get_write_buffer_size()
        self._deadline.start()

    def clear(self) -> None:
        """Stop watching: the client reads."""
        self._deadline.clear()

    def stop(self) -> None:
        """Forget everything: the connection is gone."""
        self._deadline.stop()

    def _look(self) -> None:
        waiting_bytes = self._transport.get_write_buffer_size()
        if 0 < waiting_bytes < self._waiting_bytes:
            self.start()
        elif waiting_bytes:
            self._transport.abort()


async def until(true: Callable[[], bool], timeout_s: float) -> bool:
    """Look every 10 ms, at most TIMEOUT_S seconds; return whether the condition came true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while not true():
        if loop.time() >= end:
            return False
        await asyncio.sleep(0.01)
    return True


class Lingering(asyncio.Protocol):
    """The end of a connection that was answered before it had sent everything.

    Closing at once would reset it, and the client would lose the answer (RFC 9112 section 9.6): so our side is
    closed, and what still comes is thrown away until the client closes too, or stops making progress.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, owner: asyncio.Protocol) -> None:
        self._loop = loop
        self._transport = transport
        self._owner = owner
        self._waiting_bytes = transport.get_write_buffer_size()
        self._handle = loop.call_later(LINGER_S, self._look)

    def data_received(self, data: bytes) -> None:
        """Throw away what the client sends after its answer."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol that the connection belonged to."""
        self._handle.cancel()
        self._owner.connection_lost(exc)

    def _look(self) -> None:
        waiting_bytes = self._transport.get_write_buffer_size()
        if 0 < waiting_bytes < self._waiting_bytes:
            self._waiting_bytes = waiting_bytes
            self._handle = self._loop.call_later(LINGER_S, self._look)
        else:
            self._transport.abort()


def close_after_answer(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, owner: asyncio.Protocol) -> None:
    """Close a connection whose client may still be sending, so that it can read what was written to it."""
    if transport.is_closing():
        return
    transport.set_protocol(Lingering(loop, transport, owner))
    # Over TLS only both directions can be closed; there a client knows the end by the length.
    if transport.can_write_eof():
        transport.write_eof()
    if not transport.is_reading():
        transport.resume_reading()
