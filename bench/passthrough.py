"""The limit of Python: an ASGI application that forwards a POST and relays the answer, and does nothing else.

No authentication, no routing, no accounting. UPSTREAM, an address, comes from the environment.
"""

import os
from typing import Any

import aiohttp

UPSTREAM = os.environ["UPSTREAM"]
HEADERS = {"content-type": "application/json", "authorization": "Bearer upstream"}
opened: list[aiohttp.ClientSession] = []


def session() -> aiohttp.ClientSession:
    """Return the process's client, made in its event loop by the first request."""
    if not opened:
        opened.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False))
    return opened[0]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Forward one request."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    async with session().post(UPSTREAM + scope["path"], data=body, headers=HEADERS) as answer:
        headers = [(b"content-type", answer.headers["content-type"].encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        async for piece in answer.content.iter_any():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
