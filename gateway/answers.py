"""Answers that are whole: status, headers with the body's length, body; and what every answer carries."""

from collections.abc import Sequence
from typing import Any

import msgspec
from django.conf import settings

from gateway.body import Send
from gateway.exchange import Exchange

Header = tuple[bytes, bytes]

JSON = (b"content-type", b"application/json")
REQUEST_ID = b"x-aperture-request-id"
# Where the packages of OpenAI and of Anthropic look for an answer's id, which they show with an error.
VENDORS_REQUEST_IDS = (b"x-request-id", b"request-id")
REGION = (b"x-aperture-region", settings.REGION.encode("latin-1", "replace"))
CORS = [
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        b"x-request-id, request-id, x-aperture-request-id, x-aperture-region, "
        b"x-aperture-upstream, x-aperture-cost, x-aperture-max-tokens, "
        b"x-aperture-dropped, x-aperture-estimate, "
        b"retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
        b"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens",
    ),
]


def request_ids(request_id: str) -> list[Header]:
    """Return the headers that name an answer."""
    named_by = request_id.encode()
    return [(name, named_by) for name in (REQUEST_ID, *VENDORS_REQUEST_IDS)]


def common_headers(request_id: str) -> list[Header]:
    """Return what every answer carries."""
    return [*request_ids(request_id), REGION, *CORS]


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
