"""The whole installation's application, whose `/v1/realtime` does what the query's `do` says."""

import asyncio
import json
import sys

from aperture_site import asgi
from gateway import asgi as gateway
from gateway.body import ClientGone
from gateway.errors import Fault
from gateway.exchange import Exchange
from gateway.runtime import Runtime
from gateway.sockets import Opening, Socket

application, lifecycle = asgi.application, asgi.lifecycle
PIECE = "x" * 65_536


async def serve(runtime: Runtime, exchange: Exchange, opening: Opening) -> None:
    """Do what the query asks for."""
    does = opening.query.get("do", "echo")
    if does == "refuse":
        raise Fault("insufficient_credits", "There is no credit; top up.")
    if does == "crash":
        raise ZeroDivisionError("as asked")
    if does == "forget":
        return
    socket = await opening.accept([(b"x-aperture-upstream", b"nobody")])
    if does == "seen":
        await socket.send(json.dumps(seen(exchange, opening)))
    elif does == "flood":
        await flood(socket)
    elif does == "deaf":
        await socket.ended()
    elif does == "busy":
        socket.busy = True
        await asyncio.sleep(float(opening.query["seconds"]))
        await socket.send("done")
        socket.busy = False
    elif does == "late-fault":
        raise Fault("insufficient_credits", "The credit is used up.")
    elif does == "late-crash":
        raise ZeroDivisionError("as asked")
    if does not in ("echo", "seen", "busy", "deaf"):
        return
    while (frame := await socket.receive()) is not None:
        await socket.send(frame)
    print(f"closed {does} {socket.close_code}", file=sys.stderr, flush=True)


def seen(exchange: Exchange, opening: Opening) -> dict[str, object]:
    """Return everything that a handler sees of a handshake."""
    secret = opening.secret
    return {
        "query": dict(opening.query),
        "subprotocols": opening.subprotocols,
        "headers": [[name.decode(), value.decode("latin-1")] for name, value in exchange.scope["headers"]],
        "of the exchange": {name.decode(): value.decode("latin-1") for name, value in exchange.headers.items()},
        "raw query": exchange.scope["query_string"].decode(),
        "caller": exchange.caller.email,
        "session": None if secret is None else json.loads(secret.session),
    }


async def flood(socket: Socket) -> None:
    """Send without end."""
    sent = 0
    try:
        while True:
            await socket.send(PIECE)
            sent += 1
    except ClientGone:
        print(f"flooded {sent}", file=sys.stderr, flush=True)


gateway.SOCKETS["/realtime"] = serve
