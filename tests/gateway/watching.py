"""Open a live page as a browser would: a session's cookie, our own Origin, and what comes kept as it came."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from accounts.models import User

Message = dict[str, Any]


def signed_in(user: User) -> str:
    """Return the key of a new session of this user."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


def headers_of(port: int, session_key: str, origin: str | None = None) -> dict[str, str]:
    """Return what a browser sends along; ORIGIN is the page's, else our own."""
    return {
        "Cookie": f"{settings.SESSION_COOKIE_NAME}={session_key}",
        "Origin": f"http://127.0.0.1:{port}" if origin is None else origin,
    }


class LivePage:
    """An open page, and all that it was sent."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[Message] = []

    def wait(self, wanted: Callable[[Message], bool], timeout_s: float = 5.0) -> Message:
        """Return the first message from now on that is WANTED; raise TimeoutError or ConnectionClosed."""
        until = time.monotonic() + timeout_s
        while True:
            message: Message = json.loads(self.socket.recv(max(0.0, until - time.monotonic())))
            self.messages.append(message)
            if wanted(message):
                return message

    def kind(self, name: str, timeout_s: float = 5.0) -> Message:
        """Return the next message of a type."""
        return self.wait(lambda message: message["type"] == name, timeout_s)

    def event(self, request_id: str, name: str = "finished", timeout_s: float = 5.0) -> Message:
        """Return what is told of a request."""
        found = [event for event in self.events() if event["id"] == request_id and event["event"] == name]
        if not found:
            self.wait(
                lambda message: any(
                    event["id"] == request_id and event["event"] == name for event in message.get("events", ())
                ),
                timeout_s,
            )
            return self.event(request_id, name)
        return found[0]

    def read_for(self, seconds: float) -> None:
        """Take what comes in this time."""
        with suppress(TimeoutError):
            self.wait(lambda _message: False, seconds)

    def events(self) -> list[Message]:
        """Return the events of all messages so far."""
        return [event for message in self.messages for event in message.get("events", ())]

    def closed(self, timeout_s: float) -> int:
        """Read until the server closes; return its code."""
        try:
            self.wait(lambda _message: False, timeout_s)
        except ConnectionClosed as end:
            assert end.rcvd is not None
            return end.rcvd.code
        raise AssertionError("unreachable")


@contextmanager
def watching(port: int, session_key: str, query: str = "", **options: Any) -> Iterator[LivePage]:
    """Open a page on a port."""
    headers = headers_of(port, session_key)
    with connect(f"ws://127.0.0.1:{port}/live{query}", additional_headers=headers, **options) as socket:
        yield LivePage(socket)
