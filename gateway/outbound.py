"""The one HTTP client for everything off the hot path, such as connection tests.

It resolves a host itself, connects to an address that the policy of `networks` allows and to no other (so a name that
changes its mind between check and connection gains nothing), follows no redirect, reads no proxy from the
environment, asks for no compression, and bounds the answer's size and the whole exchange's time.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx

from gateway import networks

ANSWER_BYTES_MAX = 4 * 1024 * 1024
TIMEOUT_S = 30.0
PORT_MAX = 65_535
Resolver = Callable[[str, int, networks.Policy], Any]


class OutboundError(Exception):
    """An exchange that gave no answer; the message says why and names the host, never the path, query or headers."""


class Forbidden(OutboundError):
    """The URL, or every address of its host, is not allowed."""


class Unreachable(OutboundError):
    """No connection, or one that broke."""


class TimedOut(OutboundError):
    """No whole answer within the time."""


class BadAnswer(OutboundError):
    """An answer that is too large or compressed though nobody asked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status; a redirect is an answer like any other."""

    status: int
    headers: httpx.Headers
    body: bytes

    def json(self) -> Any:
        """Return the parsed body, or raise ValueError."""
        return httpx.Response(200, content=self.body).json()


class PinnedTransport(httpx.AsyncBaseTransport):
    """Connects to checked addresses, one after the other; certificates and Host stay those of the name."""

    def __init__(self, policy: networks.Policy, resolve: Resolver = networks.resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        # A pool is keyed by address: a kept connection could serve another name behind the same address.
        limits = httpx.Limits(max_connections=10, max_keepalive_connections=0)
        self._inner = httpx.AsyncHTTPTransport(verify=_trust(), trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        try:
            addresses = await self._resolve(host, port, self._policy)
        except (socket.gaierror, UnicodeError) as error:
            raise httpx.ConnectError(f"the name does not resolve ({error})", request=request) from None
        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(_pinned(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._inner.handle_async_request(_pinned(request, addresses[-1]))

    async def aclose(self) -> None:
        await self._inner.aclose()


async def fetch(
    method: str,
    url: str,
    *,
    policy: networks.Policy,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    timeout_s: float = TIMEOUT_S,
    bytes_max: int = ANSWER_BYTES_MAX,
) -> Answer:
    """Send one request (BODY as JSON) and return its whole answer, or raise OutboundError.

    POLICY is `networks.PUBLIC_ONLY` for every URL that a user can influence.
    """
    target = _checked(url)
    try:
        request = httpx.Request(method, target, headers={**(headers or {}), "accept-encoding": "identity"}, json=body)
    except UnicodeError:
        raise Forbidden("A header holds characters that cannot be sent; use ASCII.") from None
    return await _fetch(PinnedTransport(policy), request, timeout_s=timeout_s, bytes_max=bytes_max)


async def _fetch(
    transport: httpx.AsyncBaseTransport, request: httpx.Request, *, timeout_s: float, bytes_max: int
) -> Answer:
    where = request.url.netloc.decode("ascii", "replace")
    client = httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=timeout_s)
    request.extensions["timeout"] = httpx.Timeout(timeout_s).as_dict()
    with _named_errors(where, timeout_s):
        async with asyncio.timeout(timeout_s), client:
            response = await client.send(request, stream=True)
            try:
                return Answer(response.status_code, response.headers, await _bounded(response, where, bytes_max))
            finally:
                await response.aclose()


async def _bounded(response: httpx.Response, where: str, bytes_max: int) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadAnswer(f"{where} answered compressed though plain bytes were asked for.")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > bytes_max:
            raise BadAnswer(f"{where} answered more than {bytes_max} bytes.")
    return bytes(body)


@contextmanager
def _named_errors(where: str, timeout_s: float) -> Iterator[None]:
    try:
        yield
    except networks.ForbiddenAddress as error:
        raise Forbidden(str(error)) from None
    except (httpx.TimeoutException, TimeoutError):
        raise TimedOut(f"{where} gave no whole answer within {timeout_s:g} s.") from None
    except httpx.LocalProtocolError:
        # Its text quotes the header.
        raise Forbidden("A header holds characters that cannot be sent, such as line breaks.") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        raise Unreachable(f"{where} could not be reached: {error or type(error).__name__}.") from None


def _checked(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise Forbidden("The URL cannot be read; write one such as https://example.com/path.") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Forbidden("The URL must begin with http:// or https:// and name a host.")
    if parsed.port is not None and not 0 < parsed.port <= PORT_MAX:
        raise Forbidden(f"The URL's port must be from 1 to {PORT_MAX}.")
    if parsed.userinfo:
        raise Forbidden("The URL holds a user name; send credentials in a header.")
    return parsed


def _pinned(request: httpx.Request, address: str) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers.raw,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


@cache
def _trust() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
