"""Answers that are whole: status, headers with the body's length, body."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.body import Send
from gateway.exchange import Exchange

Header = tuple[bytes, bytes]

JSON = (b"content-type", b"application/json")


async def answer(exchange: Exchange, status: int, content: Any, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Send a JSON answer; MORE are further headers."""
    body = msgspec.json.encode(content)
    exchange.answered = True
    await write(exchange.send, status, body, head_of(body, JSON, *more))


def head_of(body: bytes, *headers: Header) -> list[Header]:
    """Return an answer's headers with the length of its body."""
    return [*headers, (b"content-length", b"%d" % len(body))]


async def write(send: Send, status: int, body: bytes, headers: list[Header]) -> None:
    """Send an answer that is whole."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
