"""The way to the upstreams: the only module of the hot path that imports an HTTP client.

Invariants: HTTP/1.1 over pooled connections; no proxy from the environment, no redirect, no cookie, no decompression
that is not bounded; only listed headers cross, in either direction; the credential is the target's own and goes to
the target's own host. One silent retry, and only where a reused connection closed before a byte of an answer. A
WebSocket goes the same way, over a connection of its own, uncompressed.
"""

import asyncio
import contextlib
import contextvars
import functools
import socket
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp
from aiohttp import WSMsgType
from aiohttp.client_proto import ResponseHandler
from django.conf import settings
from multidict import CIMultiDict
from yarl import URL

from catalog.addresses import endpoint
from gateway import networks
from gateway.errors import Fault
from gateway.snapshot import Provider, Target
from gateway.wire.codec import Rendered

# An upstream's answer: `status`, `headers`, `content_type`, `release()` and `close()` are what others use of it.
Answer = aiohttp.ClientResponse

ERROR_BODY_BYTES_MAX = 64 * 1024
URLS_MAX = 4096
INFLATE_STEP_BYTES = 64 * 1024
POOL_IDLE_S = 30.0
# How often an upstream's WebSocket is asked for a sign of life, and how long it may take to close.
PING_EVERY_S, CLOSE_TIMEOUT_S = 20.0, 2.0
USER_AGENT = "aperture"

# What an upstream's answer may carry back.
RETURNED = ("content-type", "openai-processing-ms", "openai-version")

# The connection that a task's last request went over, and whether its next one must go over a new one.
_connection: "contextvars.ContextVar[Connection | None]" = contextvars.ContextVar("connection", default=None)
_fresh: contextvars.ContextVar[bool] = contextvars.ContextVar("fresh", default=False)


class Connection(ResponseHandler):
    """A connection that knows whether it was used before, and whether it brought a byte since it was taken."""

    used = False
    reused = False
    heard = False

    def take(self) -> None:
        """Begin a request."""
        self.reused, self.used, self.heard = self.used, True, False

    def data_received(self, data: bytes) -> None:
        """Note that the upstream has begun to answer."""
        self.heard = True
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of the WebSocket that it carried, which knows it too: the collector looks too seldom for that."""
        super().connection_lost(exc)
        self._data_received_cb = None

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """End an unfinished body too: of broken framing within it, aiohttp tells whoever waits for a head alone."""
        super().set_exception(exc, *cause)
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError("The body's framing is broken."))


class Connector(aiohttp.TCPConnector):
    """A pool of such connections."""

    def __init__(self, resolver: aiohttp.abc.AbstractResolver) -> None:
        super().__init__(limit=0, keepalive_timeout=POOL_IDLE_S, ttl_dns_cache=30, resolver=resolver)
        self._factory = functools.partial(Connection, loop=self._loop)  # type: ignore[assignment]

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Get a connection, from the pool or new."""
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        if isinstance(protocol, Connection):
            protocol.take()
            _connection.set(protocol)
        return connection

    async def _get(self, key: Any, traces: list[Any]) -> aiohttp.connector.Connection | None:
        return None if _fresh.get() else await super()._get(key, traces)


class Resolver(aiohttp.abc.AbstractResolver):
    """Resolve names to the addresses that the policy allows, so that what is connected to is what was checked."""

    def __init__(self, policy: networks.Policy) -> None:
        self.policy = policy

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002
    ) -> list[aiohttp.abc.ResolveResult]:
        """Return the allowed addresses of a host; raise OSError where there are none."""
        try:
            found = await networks.resolve(host, port, self.policy)
        except networks.ForbiddenAddress as error:
            raise OSError(str(error)) from None
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            }
            for address in found
        ]

    async def close(self) -> None:
        """Hold nothing."""


class Upstream:
    """One process's client; opened lazily in its event loop."""

    def __init__(self) -> None:
        self.policy = networks.operator_policy(settings.PRIVATE_UPSTREAMS)
        self.session = aiohttp.ClientSession(
            connector=Connector(Resolver(self.policy)),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.CONNECT_TIMEOUT_S),
            trust_env=False,
            read_bufsize=64 * 1024,
        )
        # The same pool and policy; it is apart because a handshake's redirect must not be followed either, and because
        # aiohttp keeps nothing of a refused one's body.
        self.sockets = aiohttp.ClientSession(
            connector=self.session.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.CONNECT_TIMEOUT_S),
            trust_env=False,
            middlewares=(_upgraded,),
        )
        self.urls: dict[tuple[str, str, str], URL] = {}

    async def close(self) -> None:
        """Close every connection."""
        await self.sockets.close()
        await self.session.close()

    async def post(self, target: Target, request: Rendered, headers: Mapping[str, str]) -> Answer:
        """Send a request and return the answer once its head is in; raise Fault when none can come.

        The caller bounds the time.
        """
        try:
            place = (target.provider.base_url, request.path, request.query)
            url, body = self.urls.get(place) or self._url(target.provider, request.path, request.query), request.body
            # The built-in one is this installation over loopback, whose certificate is for its public name.
            verified = not target.provider.builtin
            try:
                return await self.session.post(url, data=body, headers=headers, allow_redirects=False, ssl=verified)
            except aiohttp.ServerDisconnectedError:
                connection = _connection.get()
                if connection is None or not connection.reused or connection.heard:
                    raise
                # The other idle ones may be just as stale: an upstream that restarts closes them all.
                _fresh.set(True)
                return await self.session.post(url, data=body, headers=headers, allow_redirects=False, ssl=verified)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise unreachable(target, error) from None

    async def connect(
        self, target: Target, path: str, query: str, headers: Mapping[str, str], *, subprotocol: str, bytes_max: int
    ) -> "Socket":
        """Open a WebSocket to a target; raise SocketRefused for an answer in its place, Fault where none can come.

        Of the HEADERS those that describe a body are left out. Frames over BYTES_MAX end the connection. The caller
        bounds the time.
        """
        offered = CIMultiDict(headers)
        for name in ("Content-Type", "Accept", "Accept-Encoding"):
            offered.popall(name, None)
        # A connection that has been idle may be stale, and a handshake is nothing to send twice.
        fresh = _fresh.set(True)
        try:
            url = self._url(target.provider, path, query)
            return Socket(
                await self.sockets.ws_connect(
                    url,
                    headers=offered,
                    protocols=(subprotocol,),
                    max_msg_size=bytes_max,
                    heartbeat=PING_EVERY_S,
                    ssl=not target.provider.builtin,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
                )
            )
        except aiohttp.WSServerHandshakeError as error:
            raise SocketRefused(error.status, {}, b"") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise unreachable(target, error) from None
        finally:
            _fresh.reset(fresh)

    def _url(self, provider: Provider, path: str, query: str) -> URL:
        """Return the URL of a request at a provider; a literal address is checked here, for no resolver sees it."""
        url = URL(endpoint(provider.base_url, path)).with_query(query or None)
        if url.host and networks.is_literal(url.host) and not provider.builtin:
            networks.screen(url.host, [url.host], self.policy)
        if len(self.urls) >= URLS_MAX:
            self.urls.clear()
        self.urls[provider.base_url, path, query] = url
        return url


class SocketRefused(Exception):
    """An upstream answered a WebSocket's handshake with something else: status, headers, and the body's beginning."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


async def _upgraded(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> Answer:
    answer = await handler(request)
    if answer.status == 101:
        return answer
    try:
        body = await answer.content.read(ERROR_BODY_BYTES_MAX)
    except (aiohttp.ClientError, OSError):
        body = b""
    answer.close()
    raise SocketRefused(answer.status, answer.headers, body)


class Socket:
    """An open WebSocket to an upstream; text frames are str, binary ones bytes.

    `close_code` is what the upstream closed it with: None before it did, and where it was lost without a close.
    """

    def __init__(self, connection: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        self._connection = connection
        self.close_code: int | None = None

    async def receive(self) -> str | bytes | None:
        """Return the next frame, None once there is no more; what is not received in time keeps the upstream waiting.

        Pings are answered without being shown.
        """
        message = await self._connection.receive()
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            frame: str | bytes = message.data
            return frame
        if message.type is WSMsgType.CLOSE:
            # 1005 and 1006 are never sent: they stand for a close without a code, and for none.
            self.close_code = message.data or 1005
        return None

    async def send(self, frame: str | bytes) -> None:
        """Send a frame, and wait while the upstream takes none; raise Broken once it is lost."""
        try:
            if isinstance(frame, str):
                await self._connection.send_str(frame)
            else:
                await self._connection.send_bytes(frame)
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(type(error).__name__) from None

    async def close(self, code: int = 1000) -> None:
        """Close it, and wait a moment for the upstream to do the same; one that reads nothing is hung up on."""
        # The upstream's own close would begin the heartbeat anew, whose timer keeps all of it for half a minute.
        self._connection._heartbeat = None
        # Cancelled by the time, it closes the connection beneath.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._connection.close(code=code)


def unreachable(target: Target, error: BaseException) -> Fault:
    """Return the fault of a connection that failed; the error's own text may hold addresses, so it stays out."""
    return Fault(
        "upstream_unreachable",
        f"{target.provider.slug} could not be reached ({type(error).__name__}); try again later.",
        upstream={"provider": target.provider.slug, "status": None, "body": None},
    )


def request_headers(
    target: Target, dialect: str, incoming: Mapping[bytes, bytes], granted: Mapping[str, str]
) -> CIMultiDict[str]:
    """Return the headers of an upstream request: ours, the provider's, the grant's, and the listed ones of the caller.

    The provider's come last, so that nothing a caller or a grant says replaces its credential, which a vendor may want
    shown in another way for each DIALECT.
    """
    headers: CIMultiDict[str] = CIMultiDict(BASE_HEADERS)
    provider = target.provider
    if dialect == "anthropic_messages":
        headers["anthropic-version"] = ANTHROPIC_VERSION
    for name in provider.forwarded.keys() & incoming.keys():
        value = provider.forwarded[name].of(incoming[name].decode("latin-1"))
        if value:
            headers[name.decode("latin-1")] = value
    headers.update(granted)
    headers.update(provider.headers[dialect])
    return headers


# https://docs.anthropic.com/en/api/versioning: the one that every feature of today is of.
ANTHROPIC_VERSION = "2023-06-01"
BASE_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "User-Agent": USER_AGENT,
}


def returned_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    """Return the listed headers of an upstream's answer."""
    found = answer.headers
    return [(name.encode(), found[name].encode("latin-1", "replace")) for name in RETURNED if name in found]


class Broken(Exception):
    """The connection failed before the answer was complete."""


class Unreadable(Exception):
    """The answer is too large, or compressed in a way that was not asked for; the message says which."""


async def pieces(answer: Answer, bytes_max: int) -> AsyncIterator[bytes]:
    """Yield an answer's body as it comes, inflated if it was compressed all the same; raise Broken or Unreadable."""
    encoding = answer.headers.get("Content-Encoding")
    inflate = _inflater(encoding) if encoding else None
    size = 0
    try:
        while piece := await answer.content.readany():
            for whole in (piece,) if inflate is None else _inflated(inflate, piece):
                size += len(whole)
                if size > bytes_max:
                    raise Unreadable("sent an answer that is too large")
                yield whole
    except (aiohttp.ClientError, OSError) as error:
        raise Broken(type(error).__name__) from None
    except zlib.error:
        raise Unreadable("sent an answer whose compression is broken") from None


async def read(answer: Answer, bytes_max: int) -> bytes:
    """Return an answer's whole body; raise Broken or Unreadable."""
    if (answer.content_length or 0) > bytes_max:
        raise Unreadable("sent an answer that is too large")
    return b"".join([piece async for piece in pieces(answer, bytes_max)])


def _inflated(inflate: "zlib._Decompress", piece: bytes) -> Iterator[bytes]:
    """Yield a compressed piece in bounded steps, so that no bomb is ever held whole."""
    while piece:
        yield inflate.decompress(piece, INFLATE_STEP_BYTES)
        piece = inflate.unconsumed_tail


def _inflater(encoding: str) -> "zlib._Decompress | None":
    kind = encoding.strip().lower()
    if kind in ("", "identity"):
        return None
    if kind in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)
    raise Unreadable("compressed its answer in a way that was not asked for")
