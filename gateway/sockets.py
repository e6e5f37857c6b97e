"""WebSockets of the API: who may open one, what it may use, and how it ends.

A handler gets an `Opening`, a handshake that is not answered yet, and makes a `Socket` of it. Both hide the server.

Invariants: a refusal comes before the upgrade, as HTTP in the envelope; the client's key is in nothing that a handler
sees; `send` waits for a client that does not read, `receive` takes no more than is wanted; a socket ends when its key
does, when its bounds are reached and when the server stops, whether or not its handler listens.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import parse_qsl, urlencode

from django.conf import settings

from accounts import keys
from gateway import client_secrets, pipeline
from gateway.answers import JSON, REGION, common_headers, head_of, request_ids
from gateway.authentication import address_of, authenticate, authenticate_secret, key_of
from gateway.body import ClientGone, Message, Receive, Scope, Send
from gateway.client_secrets import ClientSecret
from gateway.draining import draining
from gateway.errors import OPENAI, Fault, render
from gateway.exchange import Exchange
from gateway.limiter import Ticket
from gateway.limits import Bound, Namer
from gateway.open_sockets import TRY_AGAIN, Holder, Times
from gateway.runtime import Runtime
from gateway.snapshot import Caller

logger = logging.getLogger(__name__)

PROTOCOL = "realtime"
# How pages in browsers, which can set no header, send a key (OpenAI's realtime API).
KEY_ITEM = "openai-insecure-api-key."
# What may hold a key, or somebody's session at one of our pages.
PRIVATE = {b"authorization", b"x-api-key", b"x-goog-api-key", b"cookie", b"sec-websocket-protocol"}
FAILED, LOST = 1011, 1006
# How long a frame of the client waits for a process that cannot learn of revocations.
FRESH_WAIT_S = 10.0
INTERNAL = "The gateway failed; the request id tells the operator where."


class Socket:
    """An accepted WebSocket; text frames are str, binary ones bytes.

    `caller` is kept as it was last looked up. A handler sets `busy` while it works on an answer: a server that stops
    lets that finish, within its time, and closes all others at once; and a busy socket is not idle. `close_code` is
    what the socket was closed with, by either side: None while it is open, 1006 where the connection was lost.
    """

    def __init__(self, runtime: Runtime, receive: Receive, send: Send, holder: Holder) -> None:
        self.busy = False
        self.close_code: int | None = None
        self.close_reason = ""
        self.holder = holder
        self.times = Times(settings.SOCKET_IDLE_S, settings.SOCKET_LENGTH_S)
        self._runtime = runtime
        self._receive = receive
        self._send = send
        self._frame: str | bytes | None = None
        self._closed = asyncio.Event()

    @property
    def caller(self) -> Caller:
        """Return whose it is, as last looked up."""
        return self.holder.caller

    async def receive(self) -> str | bytes | None:
        """Return the next frame; None once the client has closed or is lost, or the bounds ended it.

        It may be cancelled: no frame is lost.
        """
        if self._frame is None and self.close_code is None:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._end(message.get("code") or LOST, message.get("reason") or "")
            else:
                text = message.get("text")
                self._frame = message["bytes"] if text is None else text
        freshness = self._runtime.freshness
        if self.close_code is None and freshness.stale() and not await freshness.wait(FRESH_WAIT_S):
            await self.close(TRY_AGAIN, "The database does not answer, so keys cannot be checked; try again shortly.")
        if self.close_code is not None:
            return None
        self.times.frame_at = time.monotonic()
        frame, self._frame = self._frame, None
        return frame

    async def send(self, frame: str | bytes) -> None:
        """Send one frame; wait while the client does not read; raise ClientGone once it is lost or closed."""
        if self.close_code is not None:
            raise ClientGone
        kind = "text" if isinstance(frame, str) else "bytes"
        try:
            await self._send({"type": "websocket.send", kind: frame})
        except OSError:
            self._end(LOST)
            raise ClientGone from None
        self.times.frame_at = time.monotonic()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; REASON is cut to the 123 bytes that a close frame has room for. Nothing happens where it is closed."""
        if self.close_code is not None:
            return
        self._end(code, reason)
        reason = reason.encode()[:123].decode(errors="ignore")
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except OSError:
            logger.debug("a client had gone before its socket was closed")

    async def ended(self) -> None:
        """Wait until the socket is closed, by whomever; for handlers that are busy elsewhere.

        A client's own close is seen by `receive` alone.
        """
        await self._closed.wait()

    def _end(self, code: int, reason: str = "") -> None:
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason
            self._closed.set()


class Opening:
    """A handshake that is not answered yet: a Fault raised before `accept` becomes an HTTP refusal in the envelope.

    `query` has the query's parameters (the first of each name) without `key`; with a client secret that is bound to a
    model its `model` is that one. `subprotocols` are the offered ones, without the item that holds a key. `secret` is
    the client secret (`ek_`) that the socket is opened with, or None: `secret.session` is the session's configuration
    as the JSON object that its maker sent (bytes), which the handler has to apply before the client's first frame.
    """

    def __init__(self, runtime: Runtime, exchange: Exchange, secret: ClientSecret | None, holder: Holder) -> None:
        self.query: Mapping[str, str] = query_of(exchange.scope, secret)
        self.subprotocols: tuple[str, ...] = tuple(exchange.scope["subprotocols"])
        self.secret = secret
        self.socket: Socket | None = None
        self._runtime = runtime
        self._exchange = exchange
        self._holder = holder

    async def accept(self, headers: Sequence[tuple[bytes, bytes]] = ()) -> Socket:
        """Answer 101 with HEADERS, and with `realtime` where that was offered; raise ClientGone where nobody waits."""
        exchange = self._exchange
        message: Message = {
            "type": "websocket.accept",
            "subprotocol": PROTOCOL if PROTOCOL in self.subprotocols else None,
            "headers": [*request_ids(exchange.request_id), REGION, *headers],
        }
        try:
            await exchange.send(message)
        except OSError:
            raise ClientGone from None
        exchange.answered = True
        self.socket = Socket(self._runtime, exchange.receive, exchange.send, self._holder)
        self._runtime.sockets.add(self.socket)
        return self.socket


# The exchange is admitted already: caller, access, snapshot.
Handler = Callable[[Runtime, Exchange, Opening], Awaitable[None]]


async def serve(
    runtime: Runtime, handler: Handler, scope: Scope, receive: Receive, send: Send, *, secrets: bool
) -> None:
    """Admit one handshake and have HANDLER serve it; SECRETS tells whether client secrets (`ek_`) open it."""
    await receive()
    scope, key = without_key(scope)
    exchange = Exchange(scope, receive, send, dict(scope["headers"]), runtime.journal.loop)
    opening: Opening | None = None
    place: Ticket | None = None
    try:
        if draining.active:
            raise Fault("draining", "The server is restarting; try again.", retry_after_s=1)
        secret, holder = await admit(runtime, exchange, key, secrets=secrets)
        del key
        place = await take_place(runtime, holder.caller)
        opening = Opening(runtime, exchange, secret, holder)
        await handler(runtime, exchange, opening)
        await end(exchange, opening.socket, Fault("internal_error", INTERNAL), 1000)
    except Fault as fault:
        await end(exchange, opening.socket if opening else None, fault, FAILED)
    except (ClientGone, OSError):
        logger.debug("the client of socket %s has gone", exchange.request_id)
    except Exception:
        logger.exception("socket %s failed", exchange.request_id)
        await end(exchange, opening.socket if opening else None, Fault("internal_error", INTERNAL), FAILED)
    finally:
        exchange.close()
        if opening is not None and opening.socket is not None:
            runtime.sockets.discard(opening.socket)
        if place is not None:
            runtime.limiter.finish(place, None)


async def admit(runtime: Runtime, exchange: Exchange, key: str, *, secrets: bool) -> tuple[ClientSecret | None, Holder]:
    """Find who opens the socket, and enter it in EXCHANGE; raise Fault 401, 403, 429 or 503."""
    generation = runtime.callers.generation
    secret: ClientSecret | None = None
    if secrets and key.startswith(client_secrets.PREFIX):
        secret = client_secrets.unseal(key, time.time())
        caller = await authenticate_secret(runtime, exchange.scope, secret.digest if secret else None)
    else:
        bearer = {b"authorization": f"Bearer {key}".encode("latin-1", "replace")}
        caller = await authenticate(runtime, exchange.scope, bearer)
    pipeline.enter(runtime, exchange, caller)
    digest = secret.digest if secret else await runtime.callers.digest_of(key)
    holder = Holder(
        digest or keys.digests(key)[0],
        address_of(exchange.scope, runtime.trusted_proxies),
        caller,
        generation,
        exchange.snapshot,
    )
    return secret, holder


async def take_place(runtime: Runtime, caller: Caller) -> Ticket | None:
    """Count one more open socket of the key, in all processes; raise Fault 429 where it has as many as it may."""
    amount = settings.SOCKETS_PER_KEY
    if not amount:
        return None
    name = Namer(settings.SECRET_KEY)("sockets", caller.key_id)
    ticket = await runtime.limiter.admit((Bound(name, "concurrency", amount, "this key", False),), 0)
    if not ticket.admitted:
        raise Fault(
            "concurrency", f"This key has {amount} WebSockets open, the most that it may; close one.", retry_after_s=1
        )
    return ticket


async def end(exchange: Exchange, socket: Socket | None, fault: Fault, code: int) -> None:
    """Close the socket, or refuse the handshake with FAULT where there is none yet."""
    if socket is not None:
        await socket.close(code, "" if code == 1000 else fault.message)
    elif not exchange.answered:
        limited = await exchange.limited.headers() if exchange.limited else []
        await refuse(exchange.send, fault, exchange.request_id, limited)


async def refuse(send: Send, fault: Fault, request_id: str, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Answer a handshake by HTTP, in the envelope (ASGI's extension websocket.http.response)."""
    body = render(fault, OPENAI, request_id)
    headers = head_of(body, JSON, *fault.headers(), *common_headers(request_id), *more)
    try:
        await send({"type": "websocket.http.response.start", "status": fault.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    except OSError:
        logger.debug("the client of socket %s has gone", request_id)


def without_key(scope: Scope) -> tuple[Scope, str]:
    """Return SCOPE without anything that is private, and the key that it carries, or an empty text.

    The subprotocols' item comes first, then the places where any request's key is looked for. What remains of the
    offered subprotocols is in `subprotocols`.
    """
    offered: list[str] = scope.get("subprotocols", [])
    items = [item[len(KEY_ITEM) :] for item in offered if item.startswith(KEY_ITEM)]
    query: bytes = scope.get("query_string", b"")
    key = items[0] if items else key_of(dict(scope["headers"]), query)
    if b"key=" in query:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        query = urlencode([pair for pair in pairs if pair[0] != "key"]).encode()
    cleaned = {
        **scope,
        "headers": [field for field in scope["headers"] if field[0] not in PRIVATE],
        "subprotocols": [item for item in offered if not item.startswith(KEY_ITEM)],
        "query_string": query,
    }
    return cleaned, key.strip()


def query_of(scope: Scope, secret: ClientSecret | None) -> dict[str, str]:
    """Return the query's parameters; raise Fault 403 where they name another model than the client secret's."""
    query: dict[str, str] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        query.setdefault(name, value)
    if secret is not None and secret.model:
        asked = query.setdefault("model", secret.model)
        if asked != secret.model:
            raise Fault(
                "model_not_allowed", f"This client secret is for {secret.model} alone; make another.", param="model"
            )
    return query
