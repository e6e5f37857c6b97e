"""What our Daphne mends of the plain one: the reception of bodies, seen through raw sockets on a real process."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.aperture_site.test_web import APP, GET, LIMITS, answer_on, ask, event_at, post, read_until, refused
from tests.servers import WebProcess, start_web

pytestmark = pytest.mark.server

CHUNKED = b"POST %s HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    with start_web("daphne", APP, tmp_path_factory.mktemp("daphne"), **LIMITS) as process:
        yield process


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    limits = LIMITS | {"APERTURE_MAX_BODY": "100000000"}
    with start_web("daphne", APP, tmp_path_factory.mktemp("wide"), **limits) as process:
        yield process


def send_until_refused(client: socket.socket, piece: bytes, limit_bytes: int) -> int:
    """Send PIECE again and again until the server stops it; return how many bytes went out."""
    sent = 0
    with suppress(ConnectionError, TimeoutError):
        while sent < limit_bytes:
            client.sendall(piece)
            sent += len(piece)
    return sent


def test_a_declared_body_over_the_cap_is_refused_before_it_is_sent(web: WebProcess) -> None:
    began_at = time.monotonic()
    head = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1000001\r\n\r\n"
    assert refused(ask(web, head)) == (413, "request_too_large")
    assert time.monotonic() - began_at < 0.5
    assert event_at(web, "echo-disconnected", began_at)


def test_a_body_of_exactly_the_cap_is_taken(web: WebProcess) -> None:
    assert json.loads(ask(web, post("/echo", b"x" * 1_000_000))[2])["bytes"] == 1_000_000


def test_the_applications_own_refusal_comes_before_the_bodys(web: WebProcess) -> None:
    assert ask(web, b"POST /refuse HTTP/1.1\r\nHost: test\r\nContent-Length: 1000001\r\n\r\n")[0] == 401


def test_a_counted_body_over_the_cap_is_refused_and_not_kept(web: WebProcess) -> None:
    before_bytes = web.rss_bytes
    with web.connect() as client:
        client.sendall(CHUNKED % b"/echo")
        send_until_refused(client, b"10000\r\n" + b"x" * 65_536 + b"\r\n", 40_000_000)
        assert refused(answer_on(client)) == (413, "request_too_large")
    assert web.rss_bytes - before_bytes < 10_000_000


def test_a_body_that_stalls_is_timed_out(web: WebProcess) -> None:
    with web.connect() as client:
        began_at = time.monotonic()
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n")
        for _ in range(6):
            # Dripping bytes must not move the deadline.
            time.sleep(0.15)
            client.sendall(b"x")
        assert refused(answer_on(client)) == (408, "request_timeout")
        assert 0.8 < time.monotonic() - began_at < 1.6
    assert event_at(web, "echo-disconnected", began_at)


def test_the_deadline_begins_when_the_client_is_told_to_continue(web: WebProcess) -> None:
    head = b"POST /echo?pause=1.3 HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    with web.connect() as client:
        client.sendall(head)
        read_until(client, b"100 Continue\r\n\r\n")
        client.sendall(b"ok")
        assert answer_on(client)[0] == 200


def test_a_slow_application_is_not_the_clients_slowness(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(post("/echo?pause=1.2", b"x" * 900_000))
        status, _, body = answer_on(client)
    assert (status, json.loads(body)["bytes"]) == (200, 900_000)


def test_a_body_that_nobody_takes_waits_at_the_client(wide: WebProcess) -> None:
    with wide.connect(timeout_s=0.5) as client:
        client.sendall(b"POST /echo?pause=2 HTTP/1.1\r\nHost: test\r\nContent-Length: 90000000\r\n\r\n")
        before_bytes = wide.rss_bytes
        sent = send_until_refused(client, b"x" * 65_536, 60_000_000)
        assert sent < 20_000_000
        assert wide.rss_bytes - before_bytes < 10_000_000


def test_requests_behind_a_slow_one_wait_at_the_client(wide: WebProcess) -> None:
    with wide.connect(timeout_s=0.5) as client:
        client.sendall(GET % b"/stream?count=20&pause=0.1")
        before_bytes = wide.rss_bytes
        sent = send_until_refused(client, (GET % b"/next") * 1000, 60_000_000)
        assert sent < 20_000_000
        assert wide.rss_bytes - before_bytes < 10_000_000
        client.settimeout(10)
        read_until(client, b'"path": "/next"')


def test_a_websocket_with_a_body_is_no_websocket(web: WebProcess) -> None:
    head = (
        b"GET /echo HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc"
    )
    assert refused(ask(web, head)) == (400, "invalid_request")


def test_a_bare_upgrade_is_refused_by_the_websocket_protocol(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(b"GET /echo HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
