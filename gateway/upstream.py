"""The way to the upstreams: the only module of the hot path that imports an HTTP client.

Invariants: HTTP/1.1 over pooled connections; no proxy from the environment, no redirect, no cookie, no decompression
that is not bounded; only listed headers cross, in either direction; the credential is the target's own and goes to
the target's own host. One silent retry, and only where a reused connection closed before a byte of an answer.
"""

import contextvars
import weakref
import zlib
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from django.conf import settings
from multidict import CIMultiDict
from yarl import URL

from catalog.addresses import endpoint
from gateway.errors import Fault
from gateway.snapshot import Target

ERROR_BODY_BYTES_MAX = 64 * 1024
POOL_IDLE_S = 30.0
USER_AGENT = "aperture"

# What a caller's request may carry on to the upstream, apart from its body.
FORWARDED = frozenset({b"openai-beta", b"openai-organization", b"openai-project", b"anthropic-beta"})
# What an upstream's answer may carry back.
RETURNED = ("content-type", "openai-processing-ms", "openai-version")

_reused: contextvars.ContextVar[bool] = contextvars.ContextVar("reused", default=False)


class Connector(aiohttp.TCPConnector):
    """A pool that tells whether the connection it gave had been used before."""

    def __init__(self) -> None:
        super().__init__(limit=0, keepalive_timeout=POOL_IDLE_S, ttl_dns_cache=30)
        self.seen: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Get a connection, from the pool or new."""
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        if protocol is not None:
            _reused.set(protocol in self.seen)
            self.seen.add(protocol)
        return connection


class Upstream:
    """One process's client; opened lazily in its event loop."""

    def __init__(self) -> None:
        self.session = aiohttp.ClientSession(
            connector=Connector(),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.CONNECT_TIMEOUT_S),
            trust_env=False,
            read_bufsize=64 * 1024,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self.session.close()

    async def post(self, target: Target, path: str, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Send a request and return the answer once its head is in; raise Fault when none can come.

        The caller bounds the time.
        """
        url = _url(target.provider.base_url, path)
        try:
            try:
                return await self._send(url, body, headers)
            except aiohttp.ServerDisconnectedError:
                if not _reused.get():
                    raise
                return await self._send(url, body, headers)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise unreachable(target, error) from None

    async def _send(self, url: URL, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        return await self.session.post(url, data=body, headers=headers, allow_redirects=False)


def unreachable(target: Target, error: BaseException) -> Fault:
    """Return the fault of a connection that failed; the error's own text may hold addresses, so it stays out."""
    return Fault(
        "upstream_unreachable",
        f"{target.provider.slug} could not be reached ({type(error).__name__}); try again later.",
        upstream={"provider": target.provider.slug, "status": None, "body": None},
    )


@lru_cache(maxsize=4096)
def _url(base_url: str, path: str) -> URL:
    return URL(endpoint(base_url, path))


def request_headers(target: Target, incoming: Mapping[bytes, bytes], granted: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers of an upstream request: ours, the provider's, the grant's, and the listed ones of the caller.

    The provider's come last, so that nothing a caller or a grant says replaces its credential.
    """
    headers: CIMultiDict[str] = CIMultiDict(BASE_HEADERS)
    for name in FORWARDED & incoming.keys():
        headers[name.decode("latin-1")] = incoming[name].decode("latin-1")
    headers.update(granted)
    headers.update(target.provider.headers)
    return headers


BASE_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "User-Agent": USER_AGENT,
}


def returned_headers(answer: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """Return the listed headers of an upstream's answer."""
    found = answer.headers
    return [(name.encode(), found[name].encode("latin-1", "replace")) for name in RETURNED if name in found]


async def pieces(answer: aiohttp.ClientResponse, bytes_max: int) -> AsyncIterator[bytes]:
    """Yield an answer's body as it comes, inflated if it was compressed all the same; raise TooLarge past the cap."""
    inflate = _inflater(answer.headers.get("Content-Encoding", ""))
    size = 0
    while piece := await answer.content.readany():
        while piece:
            if inflate is None:
                whole, piece = piece, b""
            else:
                whole = inflate.decompress(piece, 64 * 1024)
                piece = inflate.unconsumed_tail
            size += len(whole)
            if size > bytes_max:
                raise AnswerTooLarge
            if whole:
                yield whole


async def read(answer: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """Return an answer's whole body; raise AnswerTooLarge past the cap, and aiohttp.ClientError when it breaks off."""
    if (answer.content_length or 0) > bytes_max:
        raise AnswerTooLarge
    return b"".join([piece async for piece in pieces(answer, bytes_max)])


class AnswerTooLarge(Exception):  # noqa: N818
    """The upstream sent more than is ever kept of an answer."""


class UnknownEncoding(Exception):  # noqa: N818
    """The upstream compressed its answer in a way that was never asked for."""


def _inflater(encoding: str) -> "zlib._Decompress | None":
    kind = encoding.strip().lower()
    if kind in ("", "identity"):
        return None
    if kind in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)
    raise UnknownEncoding(kind[:32])
