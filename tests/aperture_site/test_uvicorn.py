"""What our uvicorn adds that Daphne needs not: pipelining without cross-talk, bodies nobody wants left unread."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.aperture_site.test_web import APP, GET, LIMITS, answer_on, event_at, post, read_until, rest_of
from tests.servers import WebProcess, start_web

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    with start_web("uvicorn", APP, tmp_path_factory.mktemp("uvicorn"), **LIMITS) as process:
        yield process


def test_the_body_of_a_refused_request_is_not_read_for_ever(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(b"POST /refuse HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert answer_on(client)[0] == 401
        began_at = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - began_at < 8:
                client.sendall(b"5\r\nhello\r\n")
                time.sleep(0.02)
        assert 1 < time.monotonic() - began_at < 4


def test_rubbish_behind_a_running_answer_does_not_get_into_it(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(GET % b"/stream?count=3&pause=0.1")
        read_until(client, b"data: 0")
        client.sendall(b"\x00rubbish\r\n\r\n")
        with suppress(ConnectionResetError):
            assert b"invalid_request" not in rest_of(client)


def test_a_head_behind_a_running_answer_is_not_timed_out(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall((GET % b"/stream?count=15&pause=0.1") + b"GET /next HTTP/1.1\r\n")
        read_until(client, b"[DONE]")
        client.sendall(b"Host: test\r\n\r\n")
        assert b"408" not in read_until(client, b'"path": "/next"')


@pytest.mark.quiet
def test_a_client_that_leaves_with_a_request_waiting_ends_the_running_one(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall((GET % b"/wait") + post("/echo", b"x"))
        read_until(client, b"first")
        client.shutdown(socket.SHUT_RDWR)
    gone_at = time.monotonic()
    assert event_at(web, "wait-disconnected", gone_at, timeout_s=2) - gone_at < 0.1
