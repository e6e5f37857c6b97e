"""The WebSocket of live pages, at /live: what happens now to the requests that the signed-in user may see.

    /live                what is the user's own
    /live?as=operator    every request, for operators

Who comes is known by Django's session cookie, which a browser sends along whichever page opens the socket. So the page
must be one of ours: its Origin is this installation's public address, or the very host that was called. It is refused
before it is accepted otherwise (RFC 6455, section 10.2). A page has nothing to say: what it sends ends its socket.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http.cookies import CookieError
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.db import Error as DatabaseError
from django.http import parse_cookie
from django.http.request import validate_host

from aperture_site import viewers
from aperture_site.audience import Page, audience
from aperture_site.viewers import NotPermitted, Ticket, Viewer
from gateway.answers import head_of
from gateway.body import Receive, Scope, Send
from gateway.draining import draining

logger = logging.getLogger(__name__)

PATH = "/live"
ADMIT_TIMEOUT_S = 3.0
# A page that takes nothing for so long is closed: its browser is gone, or its network.
SEND_TIMEOUT_S = 30.0
UNEXPECTED = (4400, "this socket takes no messages")

TEXT = (b"content-type", b"text/plain; charset=utf-8")

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Refused(Exception):
    """A handshake that is answered with an HTTP status and a line of text."""

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


def routed(otherwise: Application) -> Application:
    """Return an application that serves /live and leaves every other socket to OTHERWISE."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        await (application if scope["path"] == PATH else otherwise)(scope, receive, send)

    return route


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one live page, from its handshake to its end."""
    await receive()
    try:
        ticket, viewer = await admitted(scope)
    except Refused as refused:
        await refuse(send, refused)
        return
    page = Page(ticket, viewer)
    await send({"type": "websocket.accept"})
    audience.join(page)
    leaving = asyncio.create_task(left(receive, page))
    try:
        await write(page, send, leaving)
    finally:
        audience.leave(page)
        leaving.cancel()


async def admitted(scope: Scope) -> tuple[Ticket, Viewer]:
    """Return who opens a page; raise Refused 401, 403, 429 or 503."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    if draining.active:
        raise Refused(503, "The server is restarting; try again.", retry_after_s=1)
    if not is_own(headers.get(b"origin", ""), headers.get(b"host", "")):
        raise Refused(403, f"Live pages open from {settings.PUBLIC_URL} only.")
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    ticket = Ticket(session_of(headers.get(b"cookie", "")), as_operator=query.get("as") == ["operator"])
    try:
        async with asyncio.timeout(ADMIT_TIMEOUT_S):
            viewer = await viewers.admit(ticket)
    except NotPermitted:
        raise Refused(403, "This view is for operators.") from None
    except (DatabaseError, OSError, TimeoutError):
        raise Refused(503, "The database does not answer; try again.", retry_after_s=1) from None
    if viewer is None:
        raise Refused(401, "Sign in first.")
    if not audience.has_room(viewer.user_id):
        raise Refused(429, "Too many live pages are open; close some of them.", retry_after_s=10)
    return ticket, viewer


def is_own(origin: str, host: str) -> bool:
    """Tell whether a page of this ORIGIN is this installation's, where it was called as HOST. Pure.

    The rule is that of Django's check of forms: the public address, or the same host, which is then an allowed one.
    """
    try:
        parts = urlsplit(origin)
        name = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not name:
        return False
    if origin.lower() in (own.lower() for own in settings.CSRF_TRUSTED_ORIGINS):
        return True
    public = urlsplit(settings.PUBLIC_URL)
    if (parts.scheme, public.scheme, name) == ("http", "https", public.hostname):
        # Whoever is on the way can write such a page; the session is not its.
        return False
    name = f"[{name}]" if ":" in name else name
    return parts.netloc.lower() == host.lower() and validate_host(name, settings.ALLOWED_HOSTS)


def session_of(cookie: str) -> str:
    """Return the key of the session that a Cookie header names, or an empty text."""
    try:
        return parse_cookie(cookie).get(settings.SESSION_COOKIE_NAME, "")
    except CookieError:
        return ""


async def left(receive: Receive, page: Page) -> None:
    """Return once the page has left; one that says something is closed."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        page.end(UNEXPECTED)


async def write(page: Page, send: Send, leaving: "asyncio.Task[None]") -> None:
    """Send what is queued, until the page leaves or is to be closed."""
    waits: set[asyncio.Future[Any]]
    ended = asyncio.create_task(page.ended.wait())
    try:
        while not leaving.done():
            following = asyncio.create_task(page.next())
            waits = {following, leaving}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                following.cancel()
                return
            text = following.result()
            if text is None:
                break
            sending = asyncio.create_task(pass_on(send, text))
            waits = {sending, leaving, ended}
            await asyncio.wait(waits, timeout=SEND_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                # It does not read, and so would not read the reason either.
                sending.cancel()
                await asyncio.wait({sending})
                return
            sending.result()
    except OSError:
        return
    finally:
        ended.cancel()
    code, reason = page.closing or (1000, "")
    await send({"type": "websocket.close", "code": code, "reason": reason})


async def pass_on(send: Send, text: str) -> None:
    """Send one message."""
    await send({"type": "websocket.send", "text": text})


async def refuse(send: Send, refused: Refused) -> None:
    """Answer a handshake with an HTTP error (ASGI's websocket.http.response)."""
    body = f"{refused}\n".encode()
    retry = [] if refused.retry_after_s is None else [(b"retry-after", b"%d" % refused.retry_after_s)]
    headers = head_of(body, TEXT, *retry)
    await send({"type": "websocket.http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
