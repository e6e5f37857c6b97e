"""A bound on a body before Django reads it: Django itself receives a whole request before any view is asked.

For addresses that anybody can call and whose bodies are small. Pure ASGI; nothing here knows what a body means.
"""

from collections.abc import Iterable

from gateway.body import Message, Receive, Scope, Send


class TooLarge(Exception):
    """The body is over the bound; nothing more of it was taken."""


async def read(scope: Scope, receive: Receive, bytes_max: int) -> Message:
    """Return one message with the whole body, or the client's departure; raise TooLarge past BYTES_MAX."""
    declared = dict(scope["headers"]).get(b"content-length", b"")
    if declared.isdigit() and (len(declared) > 20 or int(declared) > bytes_max):
        raise TooLarge
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > bytes_max:
            raise TooLarge
        pieces.append(piece)
        if not message.get("more_body", False):
            return {"type": "http.request", "body": b"".join(pieces), "more_body": False}


def replay(message: Message, receive: Receive) -> Receive:
    """Return a `receive` that gives MESSAGE first and then what comes after it."""
    waiting = [message]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


async def refuse(send: Send, bytes_max: int) -> None:
    """Answer 413; the server ends the connection, for the rest of the body was not read."""
    await say(send, 413, f"The body is larger than {bytes_max} bytes.")


async def say(send: Send, status: int, sentence: str, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Answer a request whose body was not read with one sentence, and end the connection."""
    body = f"{sentence}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
