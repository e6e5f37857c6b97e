"""What only Daphne could get wrong: requests behind a slow one, and the hand-over to a WebSocket."""

from collections.abc import Iterator

import pytest

from tests.aperture_site.test_web import APP, GET, HANDSHAKE, LIMITS, ask, read_until, refused, send_until_refused
from tests.servers import WebProcess, start_web

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    with start_web("daphne", APP, tmp_path_factory.mktemp("daphne"), **LIMITS) as process:
        yield process


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    limits = LIMITS | {"APERTURE_MAX_BODY": "100000000"}
    with start_web("daphne", APP, tmp_path_factory.mktemp("wide"), **limits) as process:
        yield process


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


def test_what_a_websocket_s_client_sends_right_behind_its_handshake_is_not_lost(web: WebProcess) -> None:
    fields = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    masked_hello = b"\x81\x85\x00\x00\x00\x00hello"
    with web.connect() as client:
        client.sendall(HANDSHAKE % fields + masked_hello)
        assert read_until(client, b"\x81\x05hello").endswith(b"\x81\x05hello")
