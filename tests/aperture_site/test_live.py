"""The socket of live pages at its door and at its end: who is let in, who is put out, and who does not read."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.db import connection
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from accounts.models import Membership, Organization, User
from aperture_site.audience import CLOSED_WITHIN_S, QUEUE_MESSAGES_MAX, Page
from aperture_site.audience import SIGNED_OUT as CLOSED
from aperture_site.live import is_own, session_of, write
from aperture_site.viewers import Ticket, Viewer
from tests.gateway import conftest as gateway_tests
from tests.gateway.conftest import APPLICATION, BOUNDS, Gateway
from tests.gateway.watching import headers_of, signed_in, watching
from tests.servers import start_web

pytestmark = pytest.mark.server

# The same installation as the gateway's tests have.
upstream, untrusted_upstream, blackhole = (
    gateway_tests.upstream,
    gateway_tests.untrusted_upstream,
    gateway_tests.blackhole,
)
migrated, installation, gateway, bounds = (
    gateway_tests.migrated,
    gateway_tests.installation,
    gateway_tests.gateway,
    gateway_tests.bounds,
)

SIGNED_OUT, CHANGED, UNEXPECTED, RESTARTING, TRY_LATER = 4401, 4403, 4400, 4503, 4504
# A look every two seconds, and what the machine needs.
USUALLY_CLOSED_WITHIN_S = 4.0


@pytest.fixture(scope="module", params=["daphne", pytest.param("uvicorn", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def user(gateway: Gateway) -> User:
    # A test may have ended everybody's connections.
    connection.close()
    return User.objects.create_user(f"viewer-{time.monotonic_ns()}@example.com", "a viewer's long password")


def refusal(port: int, headers: dict[str, str], query: str = "") -> InvalidStatus:
    """Return how a handshake is refused."""
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(f"ws://127.0.0.1:{port}/live{query}", additional_headers=headers),
    ):
        raise AssertionError("it was accepted")
    return refused.value


# --- At the door ------------------------------------------------------------------------------------------------------


def test_nobody_is_let_in_without_a_session(gateway: Gateway) -> None:
    refused = refusal(gateway.port, {"Origin": f"http://127.0.0.1:{gateway.port}"})

    assert refused.response.status_code == 401
    assert refused.response.body == b"Sign in first.\n"


@pytest.mark.parametrize("cookie", ["sessionid=", "sessionid=made-up", "sessionid=../../x", "; ;=", "sessionid"])
def test_a_session_that_there_is_not_lets_nobody_in(gateway: Gateway, cookie: str) -> None:
    headers = {"Origin": f"http://127.0.0.1:{gateway.port}", "Cookie": cookie}

    assert refusal(gateway.port, headers).response.status_code == 401


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://127.0.0.1:1",
        "http://localhost:3000",
        "null",
        "http://127.0.0.1.evil.example",
    ],
)
def test_a_page_of_somebody_else_is_not_let_in_with_the_users_cookie(gateway: Gateway, user: User, origin: str) -> None:
    """Cross-site WebSocket hijacking: the browser sends the cookie along, whoever's page it is."""
    refused = refusal(gateway.port, headers_of(gateway.port, signed_in(user), origin))

    assert refused.response.status_code == 403


def test_a_client_that_names_no_origin_is_not_let_in(gateway: Gateway, user: User) -> None:
    headers = headers_of(gateway.port, signed_in(user))
    del headers["Origin"]

    assert refusal(gateway.port, headers).response.status_code == 403


def test_a_key_is_no_session(gateway: Gateway) -> None:
    headers = {"Origin": f"http://127.0.0.1:{gateway.port}", "Authorization": f"Bearer {gateway.installed.key}"}

    assert refusal(gateway.port, headers).response.status_code == 401


def test_the_operators_view_is_for_operators_only(gateway: Gateway, user: User) -> None:
    session = signed_in(user)

    assert refusal(gateway.port, headers_of(gateway.port, session), "?as=operator").response.status_code == 403
    User.objects.filter(pk=user.pk).update(is_staff=True)
    assert refusal(gateway.port, headers_of(gateway.port, session), "?as=operator").response.status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_usage"))
    with watching(gateway.port, session, "?as=operator") as page:
        page.kind("live")


def test_somebody_who_was_switched_off_is_not_let_in(gateway: Gateway, user: User) -> None:
    session = signed_in(user)
    User.objects.filter(pk=user.pk).update(is_active=False)

    assert refusal(gateway.port, headers_of(gateway.port, session)).response.status_code == 401


@pytest.mark.slow
def test_one_user_opens_so_many_pages_and_no_more(gateway: Gateway, user: User) -> None:
    session = signed_in(user)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(watching(gateway.port, session))
        refused = refusal(gateway.port, headers_of(gateway.port, session))

    assert refused.response.status_code == 429
    assert refused.response.headers["Retry-After"] == "10"


def test_a_plain_request_finds_no_page_there(gateway: Gateway) -> None:
    assert gateway.call("GET", "/live").status == 404


# --- Put out ----------------------------------------------------------------------------------------------------------


def test_signing_out_closes_the_page(gateway: Gateway, user: User) -> None:
    session = signed_in(user)
    with watching(gateway.port, session) as page:
        page.kind("live")
        Session.objects.filter(pk=session).delete()

        assert page.closed(USUALLY_CLOSED_WITHIN_S) == SIGNED_OUT


def test_switching_somebody_off_closes_the_page(gateway: Gateway, user: User) -> None:
    with watching(gateway.port, signed_in(user)) as page:
        page.kind("live")
        User.objects.filter(pk=user.pk).update(is_active=False)

        assert page.closed(USUALLY_CLOSED_WITHIN_S) == SIGNED_OUT


def test_a_changed_password_closes_the_pages_of_other_sessions(gateway: Gateway, user: User) -> None:
    with watching(gateway.port, signed_in(user)) as page:
        page.kind("live")
        user.set_password("another long password")
        user.save()

        assert page.closed(USUALLY_CLOSED_WITHIN_S) == SIGNED_OUT


def test_leaving_an_organization_closes_the_page(gateway: Gateway, user: User) -> None:
    organization = Organization.objects.create(name="Left")
    membership = Membership.objects.create(organization=organization, user=user)
    with watching(gateway.port, signed_in(user)) as page:
        page.kind("live")
        membership.delete()

        assert page.closed(USUALLY_CLOSED_WITHIN_S) == CHANGED


def test_an_operator_who_is_none_any_more_is_put_out(gateway: Gateway, user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_staff=True, is_superuser=True)
    with watching(gateway.port, signed_in(user), "?as=operator") as page:
        page.kind("live")
        User.objects.filter(pk=user.pk).update(is_superuser=False)

        assert page.closed(USUALLY_CLOSED_WITHIN_S) == SIGNED_OUT


def test_a_page_is_closed_also_when_the_database_cannot_be_asked(gateway: Gateway, user: User) -> None:
    with watching(gateway.port, signed_in(user)) as page:
        page.kind("live")
        time.sleep(1)
        with gateway.installed.database_away():
            code = page.closed(CLOSED_WITHIN_S + 2)
            refused = refusal(gateway.port, headers_of(gateway.port, "some-session"))
    connection.close()

    assert (code, refused.response.status_code) == (TRY_LATER, 503)


def test_a_page_that_says_something_is_closed(gateway: Gateway, user: User) -> None:
    with watching(gateway.port, signed_in(user)) as page:
        page.kind("live")
        page.socket.send("hello")

        assert page.closed(3) == UNEXPECTED


def test_a_server_that_stops_sends_the_pages_away_and_waits_for_none(
    gateway: Gateway, server: str, user: User, engines: Path
) -> None:
    environment = BOUNDS | {"DATABASE_URL": gateway.installed.database_url, "APERTURE_DRAIN_SECONDS": "20"}
    with (
        start_web(server, APPLICATION, engines, **environment) as web,
        watching(web.port, signed_in(user)) as page,
    ):
        page.kind("live")
        told_at = time.monotonic()
        web.signal()
        code = page.closed(5)
        assert web.wait(10) == 0

    assert code == RESTARTING
    assert time.monotonic() - told_at < 6


# --- Not reading ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def deaf(port: int, session: str, query: str = "") -> Iterator[socket.socket]:
    """Open a page by hand that reads the handshake's answer, and nothing after it."""
    lines = {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **headers_of(port, session),
    }
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(5)
        client.connect(("127.0.0.1", port))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        client.sendall(f"GET /live{query} HTTP/1.1\r\n{head}\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 101"
        yield client


@pytest.mark.slow
def test_a_page_that_does_not_read_loses_events_and_costs_no_memory(gateway: Gateway, user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_staff=True, is_superuser=True)
    session = signed_in(user)
    with deaf(gateway.port, session, "?as=operator"), watching(gateway.port, session, "?as=operator") as reader:
        reader.kind("live")
        reader.read_for(1)
        for _ in range(30):
            gateway.chat("ok")
        before = gateway.web.rss_bytes
        answers = [gateway.chat("ok") for _ in range(400)]
        seen = reader.event(answers[-1].request_id)
        grown = gateway.web.rss_bytes - before

    assert seen["status"] == 200
    assert grown < 8 * 1024 * 1024


async def test_a_page_whose_client_takes_nothing_is_closed_all_the_same() -> None:
    page = Page(Ticket("session", as_operator=False), Viewer(1, frozenset()))
    taken: list[Any] = []

    async def send(message: Any) -> None:
        taken.append(message)
        await asyncio.Event().wait()

    leaving = asyncio.create_task(asyncio.sleep(60))
    writing = asyncio.create_task(write(page, send, leaving))
    for number in range(1000):
        page.offer(str(number))
        await asyncio.sleep(0)
    waiting = len(page.waiting)
    page.end(CLOSED)
    async with asyncio.timeout(1):
        await writing
    leaving.cancel()

    assert waiting == QUEUE_MESSAGES_MAX
    assert page.missed >= 1000 - QUEUE_MESSAGES_MAX - 1
    assert len(taken) == 1


def test_a_page_keeps_the_newest_messages_and_tells_how_many_were_lost() -> None:
    page = Page(Ticket("session", as_operator=False), Viewer(1, frozenset()))
    for number in range(QUEUE_MESSAGES_MAX + 5):
        page.offer(str(number))

    async def read() -> list[Any]:
        return [await page.next() for _ in range(3)]

    missed, first, second = asyncio.run(read())
    assert json.loads(missed) == {"type": "missed", "messages": 5}
    assert (first, second) == ("5", "6")
    assert len(page.waiting) == QUEUE_MESSAGES_MAX - 2


# --- Pure -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://localhost:8000", "127.0.0.1:8000", True),  # the public address, whatever was called
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://127.0.0.1:8001", "127.0.0.1:8000", False),
        ("http://evil.example", "evil.example", False),  # a name that was rebound to this machine
        ("ftp://127.0.0.1:8000", "127.0.0.1:8000", False),
        ("", "127.0.0.1:8000", False),
        ("file://", "", False),
        ("http://[", "127.0.0.1:8000", False),
        ("http://127.0.0.1:8000@evil.example", "127.0.0.1:8000", False),
    ],
)
def test_whose_page_it_is(settings: Any, origin: str, host: str, own: bool) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["http://localhost:8000"]
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

    assert is_own(origin, host) is own


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("https://ai.example.com", "ai.example.com", True),
        ("http://ai.example.com", "ai.example.com", False),  # whoever is on the way can write such a page
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
    ],
)
def test_a_page_without_tls_is_not_that_of_an_address_with_it(settings: Any, origin: str, host: str, own: bool) -> None:
    settings.PUBLIC_URL = "https://ai.example.com"
    settings.CSRF_TRUSTED_ORIGINS = [settings.PUBLIC_URL]
    settings.ALLOWED_HOSTS = ["ai.example.com", "127.0.0.1"]

    assert is_own(origin, host) is own


def test_the_session_is_found_among_other_cookies() -> None:
    assert session_of("theme=dark; sessionid=abc; csrftoken=x") == "abc"
    assert session_of("") == ""
