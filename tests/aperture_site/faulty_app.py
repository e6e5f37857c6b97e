"""A small ASGI application whose paths misbehave on purpose, for the tests of the two web servers.

What it saw, it writes to standard error: `event <name> <monotonic seconds>`, comparable with the test's own clock.
"""

import asyncio
import gc
import hashlib
import json
import sys
import time
from typing import Any
from urllib.parse import parse_qs

from gateway.body import DISCONNECT
from gateway.draining import draining

PIECE = b"x" * 65_536


def note(event: str) -> None:
    print(f"event {event} {time.monotonic():.3f}", file=sys.stderr, flush=True)


class Lifecycle:
    """Notes that the web process calls it."""

    async def start(self) -> None:
        note("started")

    async def stop(self) -> None:
        note("stopped")


lifecycle = Lifecycle()


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await SOCKETS[scope["path"]](receive, send)
    elif draining.active:
        await answer(send, 503, {"code": "draining"}, [(b"retry-after", b"1")])
    else:
        query = parse_qs(scope["query_string"].decode())
        options = {name: float(query[name][0]) for name in ("count", "pause") if name in query}
        note("called:" + scope["path"])
        await PATHS.get(scope["path"], hello)(scope, receive, send, options)


async def answer(send: Any, status: int, document: Any, headers: Any = ()) -> None:
    body = json.dumps(document).encode()
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def hello(scope: Any, receive: Any, send: Any, options: Any) -> None:
    document = {key: scope[key] for key in ("method", "path", "http_version", "scheme", "root_path")}
    document["query"] = scope["query_string"].decode()
    document["headers"] = [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]
    await answer(send, 200, document)


async def echo(scope: Any, receive: Any, send: Any, options: Any) -> None:
    """Read the whole body, waiting `pause` seconds before each piece, and say what it was."""
    digest, size, pieces, more = hashlib.sha256(), 0, 0, True
    while more:
        await asyncio.sleep(options.get("pause", 0))
        message = await receive()
        if message["type"] == "http.disconnect":
            note("echo-disconnected")
            return
        digest.update(message["body"])
        size += len(message["body"])
        pieces += 1
        more = message["more_body"]
    await answer(send, 200, {"bytes": size, "sha256": digest.hexdigest(), "pieces": pieces})


async def refuse(scope: Any, receive: Any, send: Any, options: Any) -> None:
    """Answer without a look at the body."""
    await answer(send, 401, {"code": "invalid_api_key"})


async def endless(scope: Any, receive: Any, send: Any, options: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while True:
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    except OSError:
        note("endless-ended")
        raise


async def wait(scope: Any, receive: Any, send: Any, options: Any) -> None:
    """Begin an answer, then wait for the client to go."""
    while (await receive())["type"] != "http.disconnect":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
    note("wait-disconnected")


async def stream(scope: Any, receive: Any, send: Any, options: Any) -> None:
    """Send `count` events, `pause` seconds apart."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for number in range(int(options["count"])):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await asyncio.sleep(options["pause"])
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


class Watcher:
    """Holds a request's scope and is called at the client's departure, as the gateway's exchange does."""

    def __init__(self, scope: Any) -> None:
        self.scope = scope
        scope["extensions"][DISCONNECT]["call"](self.gone)

    def gone(self) -> None:
        """Do nothing."""


async def watched(scope: Any, receive: Any, send: Any, options: Any) -> None:
    """Watch the client, and tell how many objects only the garbage collector could free since the last time."""
    Watcher(scope)
    await answer(send, 200, {"garbage": gc.collect()})
    gc.disable()


async def fail(scope: Any, receive: Any, send: Any, options: Any) -> None:
    raise RuntimeError("the application's own fault")


async def fail_late(scope: Any, receive: Any, send: Any, options: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise RuntimeError("the application's own fault")


async def empty(scope: Any, receive: Any, send: Any, options: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def socket_echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
    note("socket-disconnected")


async def socket_deaf(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.sleep(3)


async def socket_flood(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while True:
            await send({"type": "websocket.send", "bytes": PIECE})
    finally:
        note("flood-ended")


async def socket_refuse(receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"content-type", b"application/json"), (b"x-why", b"no plan")]
    await send({"type": "websocket.http.response.start", "status": 402, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b'{"code":', "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b'"budget_exceeded"}'})


async def socket_close(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close"})


PATHS = {
    "/echo": echo,
    "/refuse": refuse,
    "/endless": endless,
    "/wait": wait,
    "/stream": stream,
    "/watched": watched,
    "/fail": fail,
    "/fail-late": fail_late,
    "/empty": empty,
}
SOCKETS = {
    "/echo": socket_echo,
    "/flood": socket_flood,
    "/deaf": socket_deaf,
    "/refuse": socket_refuse,
    "/close": socket_close,
}
