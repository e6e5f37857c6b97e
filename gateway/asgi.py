"""The raw ASGI application of the API: request ids, routes, methods, draining, envelopes.

Django's request handler, middleware and ORM are never in it. Every answer, errors included, carries
`x-aperture-request-id` and `x-aperture-region`; any origin may call, for keys are sent by hand and cookies ignored. The
demo upstream, below /demo, is no part of the API: no key of ours opens it, and no other origin may call it.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from urllib.parse import parse_qs

from django.conf import settings

from gateway import (
    client_secrets,
    demo,
    fronts,
    generation,
    health,
    listing,
    pipeline,
    realtime,
    response_sockets,
    responses,
    routes,
    sockets,
)
from gateway.answers import JSON, REGION, REQUEST_ID, answer, common_headers, head_of, write
from gateway.authentication import key_of
from gateway.body import ClientGone, Message, Receive, Scope, Send
from gateway.draining import draining
from gateway.errors import ANTHROPIC, GOOGLE, OPENAI, Fault, render
from gateway.exchange import Exchange, new_request_id
from gateway.runtime import Runtime, lifecycle
from gateway.snapshot import Access

__all__ = ["application", "lifecycle"]

logger = logging.getLogger(__name__)

DEMO_BASE = "/demo/"

TEXT = (b"content-type", b"text/plain; charset=utf-8")
UNAVAILABLE = 503
RETRY = (b"retry-after", b"1")
PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE, OPTIONS"),
    (b"access-control-max-age", b"86400"),
    (b"content-length", b"0"),
]

Handler = Callable[[Runtime, Exchange, str], Awaitable[None]]


async def models(runtime: Runtime, exchange: Exchange, name: str) -> None:
    """GET /models and /models/{id}; an id may hold slashes."""
    if is_google(exchange.headers):
        await gemini_models(runtime, exchange, name)
        return
    await pipeline.admit(runtime, exchange)
    anthropic = b"anthropic-version" in exchange.headers
    if name:
        model = routes.plan(exchange.snapshot, exchange.access, name).model
        shape = listing.anthropic_model if anthropic else listing.openai_model
        await answer(exchange, 200, shape(model, name))
    else:
        seen = routes.visible(exchange.snapshot, exchange.access)
        await answer(exchange, 200, listing.anthropic_list(seen) if anthropic else listing.openai_list(seen))


async def gemini_models(runtime: Runtime, exchange: Exchange, name: str) -> None:
    """GET /v1beta/models and /v1beta/models/{id}, in Google's shape."""
    await pipeline.admit(runtime, exchange)
    if name:
        model = routes.plan(exchange.snapshot, exchange.access, name).model
        await answer(exchange, 200, listing.google_model(model, name))
    else:
        await answer(exchange, 200, listing.google_list(routes.visible(exchange.snapshot, exchange.access)))


async def health_check(runtime: Runtime, exchange: Exchange, _rest: str) -> None:
    """GET /health: alive; with ?verbose=1, the state of each engine."""
    verbose = b"verbose=1" in exchange.scope.get("query_string", b"")
    access = await reader(runtime, exchange) if verbose else None
    status, content = await health.report(runtime, verbose=verbose, access=access)
    await answer(exchange, status, content, [RETRY] if status == UNAVAILABLE else [])


async def reader(runtime: Runtime, exchange: Exchange) -> Access | None:
    """Return what the sender of a good key may do; None for everybody else, for health is answered without a key."""
    if not key_of(exchange.headers, exchange.scope.get("query_string", b"")):
        return None
    try:
        await pipeline.admit(runtime, exchange)
    except Fault:
        return None
    return exchange.access


async def targets(_runtime: Runtime, exchange: Exchange, _rest: str) -> None:
    """GET /targets: what this installation offers, without a key."""
    await answer(exchange, 200, health.targets())


async def me(runtime: Runtime, exchange: Exchange, _rest: str) -> None:
    """GET /auth/me: validate the key and say what it is."""
    await pipeline.admit(runtime, exchange)
    balance = await generation.balance(runtime.reads, exchange.caller)
    await answer(exchange, 200, health.caller(exchange.caller, exchange.access, balance))


async def finished(runtime: Runtime, exchange: Exchange, _rest: str) -> None:
    """GET /generation?id=: what a finished request used and cost."""
    await pipeline.admit(runtime, exchange)
    query = parse_qs(exchange.scope.get("query_string", b"").decode("latin-1"))
    await answer(exchange, 200, await generation.find(runtime.reads, exchange.caller, query.get("id", [""])[0]))


async def root(_runtime: Runtime, exchange: Exchange, _rest: str) -> None:
    """HEAD /: what clients probe to see whether anybody is there."""
    await answer(exchange, 200, {})


async def realtime_only(_runtime: Runtime, _exchange: Exchange, _rest: str) -> None:
    """GET /realtime: what opens a WebSocket, and nothing else."""
    raise Fault("websocket_upgrade_required", "Realtime sessions are WebSockets: connect with wss:// or ws://.")


# A path's methods and who answers them. HEAD is answered wherever GET is.
Methods = Mapping[str, Handler]

ROUTES: dict[str, Methods] = {
    "/chat/completions": {"POST": fronts.chat},
    "/completions": {"POST": fronts.completions},
    "/responses": {"POST": responses.create, "GET": responses.socket_only},
    "/messages": {"POST": fronts.messages},
    "/messages/count_tokens": {"POST": fronts.count_messages},
    "/embeddings": {"POST": fronts.vectors},
    "/models": {"GET": models},
    "/realtime": {"GET": realtime_only},
    "/realtime/client_secrets": {"POST": client_secrets.create},
    "/generation": {"GET": finished},
    "/health": {"GET": health_check},
    "/targets": {"GET": targets},
    "/auth/me": {"GET": me},
}
# What stands below a path, as in /models/openai/gpt-5.
NESTED: dict[str, Methods] = {
    "/models/": {"GET": models, "POST": fronts.gemini},
    "/responses/": {"GET": responses.get, "DELETE": responses.delete, "POST": responses.cancel},
}
GEMINI_ROUTES: dict[str, Methods] = {"/models": {"GET": gemini_models}}
GEMINI_NESTED: dict[str, Methods] = {"/models/": {"GET": gemini_models, "POST": fronts.gemini}}
BASES = {"/api/v1": (ROUTES, NESTED), "/v1": (ROUTES, NESTED), "/v1beta": (GEMINI_ROUTES, GEMINI_NESTED)}
REALTIME = "/realtime"
# WebSockets, below these two.
SOCKET_BASES = ("/api/v1", "/v1")
SOCKETS: dict[str, sockets.Handler] = {"/realtime": realtime.serve, "/responses": response_sockets.serve}
ROOT_ROUTES: dict[str, Methods] = {
    **{path: ROUTES[path] for path in ("/health", "/targets", "/auth/me")},
    "/": {"HEAD": root},
    "/api/hello": {"HEAD": root, "GET": root},
}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one HTTP request of the API."""
    path: str = scope["path"]
    if settings.DEMO and path.startswith(DEMO_BASE):
        await demo.app(scope, receive, named(send))
        return
    runtime = lifecycle.current()
    exchange = Exchange(scope, receive, send, dict(scope["headers"]), runtime.journal.loop)
    exchange.send = dressed(send, exchange.request_id, head=scope["method"] == "HEAD")
    try:
        await dispatch(runtime, exchange, path, scope["method"])
    except Fault as fault:
        await refuse(exchange, fault)
    except (ClientGone, OSError):
        # An OSError is what `send` raises once the client is gone (ASGI HTTP specification, 2.4).
        logger.debug("the client of request %s has gone", exchange.request_id)
    except Exception:
        logger.exception("request %s failed", exchange.request_id)
        await refuse(exchange, Fault("internal_error", "The gateway failed; the request id tells the operator where."))


async def open_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one WebSocket handshake of the API.

    Where the route is one of HTTP it is told so with 426, on which clients such as Codex fall back at once.
    """
    path: str = scope["path"]
    base = next((base for base in SOCKET_BASES if path.startswith(f"{base}/")), None)
    inner = "" if base is None else path[len(base) :]
    handler = SOCKETS.get(inner)
    if handler is not None:
        await sockets.serve(lifecycle.current(), handler, scope, receive, send, secrets=inner == REALTIME)
        return
    await receive()
    if find_route(path)[0] is not None:
        fault = Fault("websocket_upgrade_required", f"{path[:200]!r} takes no WebSocket; use HTTP.")
    else:
        fault = Fault("not_found", f"There is no WebSocket at {path[:200]!r}; use HTTP.")
    await sockets.refuse(send, fault, new_request_id())


async def dispatch(runtime: Runtime, exchange: Exchange, path: str, method: str) -> None:
    """Find the route and run it; raise Fault 404, 405 or 503, in this order, or what the route raises."""
    route, rest = find_route(path)
    # A browser shows a page the 404 of an unknown path only where the preflight succeeded.
    if method == "OPTIONS" and (route is not None or b"access-control-request-method" in exchange.headers):
        wanted = exchange.headers.get(b"access-control-request-headers", b"*")
        headers = [*PREFLIGHT, (b"access-control-allow-headers", wanted)]
        await write(exchange.send, 204, b"", headers)
        return
    if route is None:
        raise Fault("not_found", f"There is no {path[:200]!r} here; the API's paths are below /v1 and /api/v1.")
    handler = route.get(method) or (route.get("GET") if method == "HEAD" else None)
    if handler is None:
        raise NotAllowed(method, route)
    if draining.active and handler is not health_check:
        raise Fault("draining", "The server is restarting; try again.", retry_after_s=1)
    await handler(runtime, exchange, rest)


class NotAllowed(Fault):
    """405, with the methods that are allowed."""

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        allowed = list(allowed)
        super().__init__("method_not_allowed", f"{method[:16]} is not allowed here; use {' or '.join(allowed)}.")
        if "GET" in allowed and "HEAD" not in allowed:
            allowed.insert(allowed.index("GET") + 1, "HEAD")
        self.allowed = ", ".join([*allowed, "OPTIONS"])

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the Allow header (RFC 9110, section 10.2.1)."""
        return [(b"allow", self.allowed.encode())]


def find_route(path: str) -> tuple[Methods | None, str]:
    """Return the methods of a path and what follows it, as in `/v1/models/openai/gpt-5`."""
    for base, (routes_here, nested_here) in BASES.items():
        if path.startswith(f"{base}/"):
            inner = path[len(base) :]
            route = routes_here.get(inner)
            if route is not None:
                return route, ""
            for prefix, nested in nested_here.items():
                if inner.startswith(prefix) and len(inner) > len(prefix):
                    return nested, inner[len(prefix) :]
    return ROOT_ROUTES.get(path), ""


def named(send: Send) -> Send:
    """Return a `send` that gives an answer its request id and region, without CORS: for pages and the demo upstream.

    An answer that tells its request id in its body has named itself.
    """

    async def name(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message["headers"], REGION]
            if not any(header == REQUEST_ID for header, _ in headers):
                headers.append((REQUEST_ID, new_request_id().encode()))
            message["headers"] = headers
        await send(message)

    return name


async def refuse_page(scope: Scope, send: Send) -> None:
    """Answer a page's request while the server drains: its browser or proxy comes again."""
    body = b"" if scope["method"] == "HEAD" else b"The server is restarting; try again.\n"
    await write(send, UNAVAILABLE, body, head_of(body, TEXT, RETRY))


def dressed(send: Send, request_id: str, *, head: bool) -> Send:
    """Return a `send` that adds what every answer carries and, for HEAD, leaves the body out."""
    common = common_headers(request_id)

    async def dress(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *common]
        elif head:
            message["body"] = b""
        await send(message)

    return dress


async def refuse(exchange: Exchange, fault: Fault) -> None:
    """Send a fault in the envelope of the route; nothing can be said any more once an answer has begun."""
    if exchange.answered or exchange.client_gone:
        return
    body = render(fault, envelope(exchange.scope["path"], exchange.headers), exchange.request_id)
    await write(exchange.send, fault.status, body, head_of(body, JSON, *fault.headers()))


def envelope(path: str, headers: Mapping[bytes, bytes]) -> str:
    """Return whose error envelope a request expects."""
    if path.startswith("/v1beta") or (path.partition("/models/")[2] and ":" in path.rpartition("/")[2]):
        return GOOGLE
    if is_google(headers) and path.partition("/v1")[2].startswith("/models"):
        return GOOGLE
    return ANTHROPIC if path.partition("/v1")[2].startswith("/messages") else by_headers(headers)


def is_google(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether a request comes from Google's packages, which ask below /v1 as well as below /v1beta."""
    return b"x-goog-api-key" in headers or b"x-goog-api-client" in headers


def by_headers(headers: Mapping[bytes, bytes]) -> str:
    """Return in whose words a request is answered where its path does not say."""
    return ANTHROPIC if b"anthropic-version" in headers else OPENAI
