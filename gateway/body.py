"""Receive a request's body: bounded in bytes and in time."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gateway.deadline import Deadline
from gateway.errors import Fault

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]

# The key of an ASGI extension of our web servers: `{"call": register}`, where `register(callback)` has a callback
# called once when the client goes. It costs a request nothing, where waiting in `receive` costs a task.
DISCONNECT = "aperture.disconnect"


class ClientGone(Exception):
    """The client closed its connection; there is nobody to answer."""


async def read(
    receive: Receive, declared: bytes | None, deadline: Deadline, *, bytes_max: int, timeout_s: float
) -> bytes:
    """Return the body.

    DECLARED is the Content-Length header. Raises Fault (413 past the cap, 408 past the deadline) or ClientGone.
    """
    # Python refuses to read numbers of thousands of digits.
    if declared is not None and declared.isdigit() and (len(declared) > 20 or int(declared) > bytes_max):
        raise too_large(bytes_max)
    try:
        with deadline.within(timeout_s):
            message = await receive()
            body: bytes = message.get("body", b"")
            if message["type"] == "http.request" and not message.get("more_body", False):
                return _bounded(body, bytes_max)
            return await _rest(receive, message, bytes_max)
    except TimeoutError:
        raise Fault(
            "request_timeout", f"The body was not complete within {timeout_s:g} s; send it faster or in one piece."
        ) from None


def too_large(bytes_max: int) -> Fault:
    """Return the refusal of a body over the cap."""
    return Fault("request_too_large", f"The body is larger than {bytes_max} bytes, the most that this route takes.")


def _bounded(body: bytes, bytes_max: int) -> bytes:
    if len(body) > bytes_max:
        raise too_large(bytes_max)
    return body


async def _rest(receive: Receive, message: Message, bytes_max: int) -> bytes:
    pieces = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > bytes_max:
            raise too_large(bytes_max)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)
        message = await receive()
