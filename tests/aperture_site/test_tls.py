"""TLS of the web processes' own, on both servers: requests, refusals of what is still coming, sockets, the end."""

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.aperture_site.test_web import APP, LIMITS
from tests.gateway.conftest import self_signed
from tests.servers import WebProcess, start_web

pytestmark = pytest.mark.server

# A handshake of TLS takes its client a while where others compute.
PATIENCE = {"APERTURE_RECEIVE_TIMEOUT_SECONDS": "20"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key in one file."""
    folder = tmp_path_factory.mktemp("tls")
    self_signed(folder)
    return folder / "server.pem"


@pytest.fixture(scope="module")
def trusting(certificate: Path) -> ssl.SSLContext:
    """A client's context that trusts it."""
    return ssl.create_default_context(cafile=str(certificate))


@pytest.fixture(params=["daphne", pytest.param("uvicorn", marks=pytest.mark.slow)])
def web(request: pytest.FixtureRequest, certificate: Path, tmp_path: Path) -> Iterator[WebProcess]:
    """A web process with TLS."""
    tls = {"APERTURE_TLS_CERT": str(certificate), "APERTURE_TLS_KEY": str(certificate)}
    with start_web(str(request.param), APP, tmp_path, **LIMITS | PATIENCE | tls) as process:
        yield process


def test_requests_and_sockets_pass_and_the_scheme_is_known(web: WebProcess, trusting: ssl.SSLContext) -> None:
    connection = http.client.HTTPSConnection("127.0.0.1", web.port, timeout=5, context=trusting)
    for _ in range(2):
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 200
        assert b'"scheme": "https"' in answer.read()
    connection.close()
    with connect(f"wss://127.0.0.1:{web.port}/echo", ssl=trusting, proxy=None) as client:
        for text in ("hello", "x" * 300_000):
            client.send(text)
            assert client.recv(timeout=5) == text


def test_a_client_without_tls_or_without_trust_gets_nothing(web: WebProcess) -> None:
    with web.connect(timeout_s=5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        try:
            assert not plain.recv(1000).startswith(b"HTTP/")
        except ConnectionError:
            assert plain.fileno() >= 0
    with web.connect(timeout_s=5) as raw, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(raw, server_hostname="127.0.0.1")


def test_an_answer_that_comes_before_the_body_is_read(web: WebProcess, trusting: ssl.SSLContext) -> None:
    with web.connect(timeout_s=5) as raw, trusting.wrap_socket(raw, server_hostname="127.0.0.1") as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 900000000\r\n\r\n" + b"x" * 100_000)
        received = b""
        while b"\r\n\r\n" not in received:
            received += client.recv(65_536)
    assert received.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_does_not_read_costs_no_memory(web: WebProcess, trusting: ssl.SSLContext) -> None:
    before_bytes = web.rss_bytes
    with web.connect() as raw, trusting.wrap_socket(raw, server_hostname="127.0.0.1") as client:
        client.sendall(
            b"GET /flood HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        client.recv(100)
        time.sleep(1)
        assert web.rss_bytes - before_bytes < 20_000_000
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_a_stop_closes_what_is_open(web: WebProcess, trusting: ssl.SSLContext) -> None:
    with connect(f"wss://127.0.0.1:{web.port}/echo", ssl=trusting, proxy=None) as client:
        client.send("hello")
        assert client.recv(timeout=5) == "hello"
        web.signal()
        with pytest.raises(ConnectionClosed) as ended:
            client.recv(timeout=10)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1001
    assert web.wait() == 0
