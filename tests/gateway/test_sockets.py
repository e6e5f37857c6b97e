"""WebSockets through real processes on both servers: who may open one, and everything that ends one."""

import json
import socket as sockets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from django.db import connections
from django.utils import timezone
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from accounts import keys, rotation
from accounts.models import APIKey, Grant
from tests.gateway import http
from tests.gateway.conftest import BOUNDS, Gateway
from tests.gateway.installation import Installation
from tests.gateway.own_valkey import own_valkey
from tests.servers import WebProcess, start_web, start_worker, wait_until_it_answers
from tests.upstream.server import ScriptedUpstream

pytestmark = pytest.mark.server

APP = "tests.gateway.socket_app:application"
PROMISED_S = 1.0
KEY_ITEM = "openai-insecure-api-key."
SMALL = BOUNDS | {"APERTURE_SOCKET_FRAME": "65536", "APERTURE_SOCKETS_PER_KEY": "8"}


@pytest.fixture(scope="module", params=["daphne", pytest.param("uvicorn", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> str:
    """Both."""
    return str(request.param)


@pytest.fixture(scope="module")
def gateway(server: str, installation: Installation, upstream: ScriptedUpstream, engines: Path) -> Iterator[Gateway]:
    """A web process whose realtime route is the tests' own."""
    with start_web(server, APP, engines, DATABASE_URL=installation.database_url, **SMALL) as web:
        yield Gateway(web, upstream, installation, server)


def dial(port: int, key: str = "", path: str = "/v1/realtime", does: str = "echo", **options: Any) -> ClientConnection:
    """Open a socket with KEY in the Authorization header, unless it is empty."""
    headers = dict(options.pop("headers", {}))
    if key:
        headers["Authorization"] = f"Bearer {key}"
    joint = "&" if "?" in path else "?"
    url = f"ws://127.0.0.1:{port}{path}{joint}do={does}"
    client: ClientConnection = connect(
        url, additional_headers=headers, compression=None, proxy=None, legacy=True, **options
    )
    return client


def refusal(port: int, key: str = "", **options: Any) -> tuple[int, dict[str, Any], Any]:
    """Return status, error and headers of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        dial(port, key, **options)
    response = refused.value.response
    content = json.loads(response.body or b"")
    assert content["request_id"] == response.headers["x-aperture-request-id"]
    return response.status_code, content["error"], response.headers


def closed(client: ClientConnection, timeout_s: float = 5.0) -> tuple[int, str, float]:
    """Return the code and the reason with which the server closes, and after how many seconds."""
    began_at = time.monotonic()
    with pytest.raises(ConnectionClosed) as ended:
        while True:
            client.recv(timeout=timeout_s)
    received = ended.value.rcvd
    return (received.code, received.reason, time.monotonic() - began_at) if received else (1006, "", 0.0)


def minted(installed: Installation, **options: Any) -> str:
    """Return a new key of Alice's."""
    return keys.mint(user=installed.users["alice"], **options)[1]


def row_of(key: str) -> APIKey:
    """Return the row of a key in clear text."""
    return APIKey.objects.get(digest=keys.digests(key)[0])


def until(true: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- Opening ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/v1/realtime", "/api/v1/realtime"])
def test_a_key_in_a_header_opens_a_socket(gateway: Gateway, path: str) -> None:
    with dial(gateway.port, gateway.installed.key, path) as client:
        client.send("text \u00e9")
        assert client.recv(timeout=5) == "text \u00e9"
        client.send(b"")
        assert client.recv(timeout=5) == b""
        client.send("")
        assert client.recv(timeout=5) == ""
        assert client.response is not None
        headers = client.response.headers
        assert headers["x-aperture-region"] == "test-1"
        assert headers["x-aperture-upstream"] == "nobody"
        assert len(headers["x-aperture-request-id"]) == 36
        assert client.subprotocol is None
        assert "sec-websocket-extensions" not in headers


def test_a_key_may_be_an_x_api_key(gateway: Gateway) -> None:
    with dial(gateway.port, headers={"x-api-key": gateway.installed.key}) as client:
        client.send("hello")
        assert client.recv(timeout=5) == "hello"


def test_a_page_s_key_comes_as_a_subprotocol_and_is_not_echoed(gateway: Gateway) -> None:
    key = gateway.installed.key
    offered = ["realtime", KEY_ITEM + key, "openai-beta.realtime-v1"]
    options: dict[str, Any] = {
        "subprotocols": offered,
        "origin": "https://anybody.example",
        "headers": {"Cookie": "sessionid=abc"},
    }
    with dial(gateway.port, does="seen", path="/v1/realtime?model=gpt-x&model=y&key=z", **options) as client:
        seen = json.loads(client.recv(timeout=5))
        assert client.subprotocol == "realtime"
        assert client.response is not None
        assert key not in str(client.response.headers)
    assert seen["subprotocols"] == ["realtime", "openai-beta.realtime-v1"]
    assert seen["query"] == {"model": "gpt-x", "do": "seen"}
    assert seen["caller"] == "alice@example.com"
    assert key not in json.dumps(seen)
    assert "sessionid" not in json.dumps(seen)
    assert "key=" not in seen["raw query"]


def test_no_subprotocol_is_chosen_that_was_not_offered(gateway: Gateway) -> None:
    with dial(gateway.port, subprotocols=[KEY_ITEM + gateway.installed.key], does="seen") as client:
        assert client.subprotocol is None


@pytest.mark.parametrize("origin", ["null", "file://", "chrome-extension://abcdef", "http://[::1]:3000"])
def test_any_origin_may_open_one_with_a_key(gateway: Gateway, origin: str) -> None:
    with dial(gateway.port, gateway.installed.key, origin=origin) as client:
        client.send("hello")
        assert client.recv(timeout=5) == "hello"


# --- Refusals, before the upgrade -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("whose", "status", "code"),
    [
        ("", 401, "invalid_api_key"),
        ("sg-nothing", 401, "invalid_api_key"),
        ("revoked", 401, "invalid_api_key"),
        ("expired", 401, "api_key_expired"),
        ("elsewhere", 403, "ip_restricted"),
        ("charlie", 403, "no_role_granted"),
    ],
)
def test_who_may_not_come_in_is_refused(gateway: Gateway, whose: str, status: int, code: str) -> None:
    found, error, headers = refusal(gateway.port, gateway.installed.keys.get(whose, whose))
    assert (found, error["code"]) == (status, code)
    assert headers["x-aperture-region"] == "test-1"
    assert headers["access-control-allow-origin"] == "*"


def test_a_bad_key_of_a_page_is_refused_alike(gateway: Gateway) -> None:
    found, error, headers = refusal(gateway.port, subprotocols=["realtime", KEY_ITEM + "sg-nothing"])
    assert (found, error["code"]) == (401, "invalid_api_key")
    assert "sec-websocket-protocol" not in headers


def test_the_handler_refuses_in_the_envelope(gateway: Gateway) -> None:
    found, error, _ = refusal(gateway.port, gateway.installed.key, does="refuse")
    assert (found, error["code"], error["type"]) == (402, "insufficient_credits", "insufficient_credits")


@pytest.mark.parametrize("does", ["crash", "forget"])
def test_a_handler_that_fails_is_an_internal_error(gateway: Gateway, does: str) -> None:
    found, error, _ = refusal(gateway.port, gateway.installed.key, does=does)
    assert (found, error["code"]) == (500, "internal_error")


def test_an_unknown_path_is_not_found_and_http_s_routes_are_told(gateway: Gateway) -> None:
    assert refusal(gateway.port, gateway.installed.key, path="/v1/none")[0] == 404
    assert refusal(gateway.port, gateway.installed.key, path="/v1beta/realtime")[0] == 404
    status, error, headers = refusal(gateway.port, gateway.installed.key, path="/v1/models")
    assert (status, error["code"], headers["upgrade"]) == (426, "websocket_upgrade_required", "websocket")
    assert "upgrade" in headers["connection"].lower()


@pytest.mark.parametrize("path", ["/v1/realtime", "/api/v1/realtime", "/v1/responses"])
def test_a_plain_get_is_told_to_upgrade(gateway: Gateway, path: str) -> None:
    answer = gateway.call("GET", path)
    assert (answer.status, answer.error["code"]) == (426, "websocket_upgrade_required")
    assert answer.header("upgrade") == "websocket"
    assert "upgrade" in answer.header("connection").lower()


def test_a_key_has_so_many_sockets_and_gets_a_place_back(gateway: Gateway) -> None:
    key = minted(gateway.installed)
    opened = [dial(gateway.port, key) for _ in range(8)]
    status, error, headers = refusal(gateway.port, key)
    assert (status, error["code"], headers["retry-after"]) == (429, "concurrency", "1")
    opened.pop().close()

    def again() -> bool:
        try:
            opened.append(dial(gateway.port, key))
        except InvalidStatus:
            return False
        return True

    until(again)
    for client in opened:
        client.close()


def test_an_address_that_guesses_keys_is_held_off(server: str, installation: Installation, engines: Path) -> None:
    limits = SMALL | {"APERTURE_FAILED_KEYS_PER_MINUTE": "3", "DATABASE_URL": installation.database_url}
    with own_valkey() as redis, start_web(server, APP, engines, **limits, REDIS_URL=redis.url) as web:
        guesses = [refusal(web.port, subprotocols=["realtime", KEY_ITEM + "ek_guess"])[0] for _ in range(2)]
        guesses += [refusal(web.port, "sg-guess")[0] for _ in range(2)]
        assert guesses == [401, 401, 401, 429]


# --- Bounds -----------------------------------------------------------------------------------------------------------
def test_a_frame_over_the_bound_closes_with_1009(gateway: Gateway) -> None:
    with dial(gateway.port, gateway.installed.key) as client:
        client.send("x" * 65_536)
        assert len(client.recv(timeout=5)) == 65_536
        client.send("x" * 65_537)
        assert closed(client)[0] == 1009


def test_a_message_in_fragments_is_bounded_as_a_whole(gateway: Gateway) -> None:
    with dial(gateway.port, gateway.installed.key) as client:
        client.send(["a" * 30_000, "b" * 30_000])
        assert len(client.recv(timeout=5)) == 60_000
        with pytest.raises(ConnectionClosed) as ended:
            client.send(["x" * 30_000] * 4)
            client.recv(timeout=5)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1009


def test_text_that_is_no_utf_8_closes_with_1007(gateway: Gateway) -> None:
    with dial(gateway.port, gateway.installed.key) as client:
        client.send(b"\xff\xfe", text=True)
        assert closed(client)[0] == 1007


def test_an_idle_socket_and_a_long_session_end(server: str, installation: Installation, engines: Path) -> None:
    limits = SMALL | {"DATABASE_URL": installation.database_url}
    limits |= {"APERTURE_SOCKET_IDLE_SECONDS": "0.6", "APERTURE_SOCKET_SECONDS": "1.5"}
    with start_web(server, APP, engines, **limits) as web:
        with dial(web.port, installation.key) as idle:
            code, reason, after_s = closed(idle)
            assert (code, "0.6 s" in reason) == (1001, True)
            assert 0.4 < after_s < 1.2
        with dial(web.port, installation.key) as lively:
            began_at = time.monotonic()
            with pytest.raises(ConnectionClosed) as ended:
                while time.monotonic() - began_at < 5:
                    lively.send("hello")
                    lively.recv(timeout=5)
                    time.sleep(0.1)
            assert ended.value.rcvd is not None
            assert (ended.value.rcvd.code, "1.5 s" in ended.value.rcvd.reason) == (1001, True)
            assert 1.3 < time.monotonic() - began_at < 2.5


def test_a_client_that_never_reads_costs_no_memory(gateway: Gateway) -> None:
    before_bytes = gateway.web.rss_bytes
    client = dial(gateway.port, gateway.installed.key, does="flood", max_queue=1)
    time.sleep(1)
    assert gateway.web.rss_bytes - before_bytes < 20_000_000
    client.socket.shutdown(sockets.SHUT_RDWR)
    until(lambda: "flooded" in gateway.web.log)
    client.close()


def test_a_client_whose_frames_nobody_takes_has_to_wait(gateway: Gateway) -> None:
    before_bytes, sent = gateway.web.rss_bytes, 0
    client = dial(gateway.port, gateway.installed.key, does="deaf", close_timeout=0.1)
    client.socket.settimeout(1)
    with pytest.raises((TimeoutError, ConnectionError, ConnectionClosed)):
        while sent < 200_000_000:
            client.send(b"x" * 60_000)
            sent += 60_000
    assert sent < 50_000_000
    assert gateway.web.rss_bytes - before_bytes < 20_000_000


def test_tiny_frames_that_nobody_takes_cost_little(gateway: Gateway) -> None:
    before_bytes = gateway.web.rss_bytes
    client = dial(gateway.port, gateway.installed.key, does="deaf", close_timeout=0.1)
    client.socket.settimeout(1)
    tiny = b"\x81\x81\x00\x00\x00\x00x" * 10_000
    with pytest.raises(TimeoutError):
        for _ in range(2000):
            client.socket.sendall(tiny)
    assert gateway.web.rss_bytes - before_bytes < 20_000_000
    client.socket.close()


def test_a_message_of_countless_fragments_costs_no_more_than_what_it_holds(
    server: str, installation: Installation, engines: Path
) -> None:
    limits = SMALL | {"APERTURE_SOCKET_FRAME": "16777216", "DATABASE_URL": installation.database_url}
    with start_web(server, APP, engines, **limits) as web, dial(web.port, installation.key, max_size=None) as client:
        before_bytes = web.rss_bytes
        client.socket.sendall(b"\x01\x80\x00\x00\x00\x00")
        for _ in range(30):
            client.socket.sendall(b"\x00\x84\x00\x00\x00\x00abcd" * 10_000)
            client.socket.sendall(b"\x00\x80\x00\x00\x00\x00" * 10_000)
        assert client.ping().wait(30)
        assert web.rss_bytes - before_bytes < 8_000_000
        client.socket.sendall(b"\x80\x81\x00\x00\x00\x00!")
        assert client.recv(timeout=30) == "abcd" * 300_000 + "!"


def test_pings_are_answered_and_a_client_that_answers_none_is_lost(
    server: str, installation: Installation, engines: Path
) -> None:
    limits = SMALL | {"APERTURE_SOCKET_PING_SECONDS": "0.4", "DATABASE_URL": installation.database_url}
    with start_web(server, APP, engines, **limits) as web:
        with dial(web.port, installation.key) as client:
            assert client.ping().wait(2)
            time.sleep(1.5)
            client.send("still here")
            assert client.recv(timeout=5) == "still here"
        handshake = (
            f"GET /v1/realtime HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {installation.key}\r\n\r\n"
        )
        with web.connect(timeout_s=3) as silent:
            silent.sendall(handshake.encode())
            with pytest.raises(ConnectionError):
                while silent.recv(1000):
                    pass
                raise ConnectionResetError
        until(lambda: "closed echo 1006" in web.log)


# --- Ends -------------------------------------------------------------------------------------------------------------
def test_the_client_s_close_is_told_and_answered(gateway: Gateway) -> None:
    client = dial(gateway.port, gateway.installed.key)
    client.close(4321, "because")
    assert client.close_code == 4321
    until(lambda: "closed echo 4321" in gateway.web.log)


@pytest.mark.parametrize(
    ("does", "reason"), [("late-fault", "The credit is used up."), ("late-crash", "The gateway failed")]
)
def test_a_handler_that_fails_after_the_upgrade_closes_with_1011(gateway: Gateway, does: str, reason: str) -> None:
    with dial(gateway.port, gateway.installed.key, does=does) as client:
        code, said, _ = closed(client)
        assert (code, said.startswith(reason)) == (1011, True)


CHANGES: dict[str, Callable[[str], object]] = {
    "revoked": lambda key: row_of(key).revoke(timezone.now()),
    "reset": lambda key: rotation.reset(row_of(key)),
    "deleted": lambda key: row_of(key).delete(),
    "expired": lambda key: APIKey.objects.filter(pk=row_of(key).pk).update(expires_at=timezone.now()),
    "bound to another address": lambda key: APIKey.objects.filter(pk=row_of(key).pk).update(
        ip_allowlist=["10.0.0.0/8"]
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_key_s_end_closes_its_sockets_in_a_second(gateway: Gateway, change: str) -> None:
    key = minted(gateway.installed)
    with dial(gateway.port, key) as client, dial(gateway.port, gateway.installed.key) as another:
        client.send("hello")
        client.recv(timeout=5)
        CHANGES[change](key)
        code, reason, after_s = closed(client)
        assert (code, after_s < PROMISED_S) == (1008, True)
        assert reason
        another.send("still here")
        assert another.recv(timeout=5) == "still here"


def test_a_role_s_end_closes_sockets_in_a_second(gateway: Gateway) -> None:
    grant = Grant.objects.create(name="for a moment", subjects=["user:charlie@example.com"], role=Grant.USER)
    gateway.follow()
    with dial(gateway.port, gateway.installed.keys["charlie"]) as client:
        grant.delete()
        code, _, after_s = closed(client)
        assert (code, after_s < PROMISED_S) == (1008, True)


def test_a_socket_whose_client_does_not_read_ends_with_its_key_too(gateway: Gateway) -> None:
    key = minted(gateway.installed)
    before = gateway.web.log.count("flooded")
    client = dial(gateway.port, key, does="flood", max_queue=1)
    time.sleep(0.3)
    row_of(key).revoke(timezone.now())
    until(lambda: gateway.web.log.count("flooded") > before, PROMISED_S)
    assert gateway.web.log.count("flooded") == before + 1
    client.socket.shutdown(sockets.SHUT_RDWR)
    client.close()


def test_both_of_two_processes_close_in_a_second_also_without_redis(
    server: str, installation: Installation, engines: Path
) -> None:
    with own_valkey() as redis:
        environment = SMALL | {"DATABASE_URL": installation.database_url, "REDIS_URL": redis.url}
        with (
            start_web(server, APP, engines, **environment) as one,
            start_web(server, APP, engines, **environment) as two,
        ):
            for stopped in (False, True):
                if stopped:
                    redis.kill()
                key = minted(installation)
                clients = [dial(web.port, key) for web in (one, two)]
                row_of(key).revoke(timezone.now())
                changed_at = time.monotonic()
                for client in clients:
                    assert closed(client)[0] == 1008
                assert time.monotonic() - changed_at < PROMISED_S


# --- The server stops -------------------------------------------------------------------------------------------------
@pytest.fixture
def fresh(server: str, installation: Installation, engines: Path) -> Iterator[WebProcess]:
    """A process to stop, on a socket of its own."""
    environment = SMALL | {"DATABASE_URL": installation.database_url, "APERTURE_DRAIN_SECONDS": "5"}
    with sockets.create_server(("127.0.0.1", 0)) as listening:
        web = start_worker(server, APP, engines, listening, **environment)
    try:
        wait_until_it_answers(web)
        yield web
    finally:
        web.stop()


def test_a_server_that_stops_closes_its_sockets_in_order(fresh: WebProcess, installation: Installation) -> None:
    with (
        dial(fresh.port, installation.key) as idle,
        dial(fresh.port, installation.key, does="busy", path="/v1/realtime?seconds=1") as busy,
    ):
        began_at = time.monotonic()
        fresh.signal()
        code, reason, after_s = closed(idle)
        assert (code, after_s < 1) == (1001, True)
        assert "restarting" in reason
        status, error, headers = refusal(fresh.port, installation.key)
        assert (status, error["code"], headers["retry-after"]) == (503, "draining", "1")
        assert busy.recv(timeout=5) == "done"
        assert closed(busy)[0] == 1001
        assert fresh.wait() == 0
        assert 0.8 < time.monotonic() - began_at < 3


def test_work_that_takes_too_long_is_closed_before_the_server_goes(
    fresh: WebProcess, installation: Installation
) -> None:
    with dial(fresh.port, installation.key, does="busy", path="/v1/realtime?seconds=60") as busy:
        fresh.signal()
        code, _, after_s = closed(busy, 10)
        assert code == 1001
        assert after_s < 3
    fresh.wait(10)


# --- Nothing is told --------------------------------------------------------------------------------------------------
def test_no_key_reaches_a_log(gateway: Gateway) -> None:
    key = minted(gateway.installed)
    for options in ({"subprotocols": ["realtime", KEY_ITEM + key]}, {"headers": {"x-api-key": key}}):
        with dial(gateway.port, does="seen", **options) as client:
            client.recv(timeout=5)
    with dial(gateway.port, path=f"/v1/realtime?key={key}") as client:
        client.send("a canary in a frame")
        client.recv(timeout=5)
    refusal(gateway.port, subprotocols=["realtime", KEY_ITEM + key], path="/v1/none")
    for path in ("", "api/keys/", "api/billing/", "v1/"):
        with pytest.raises(HTTPError):
            urlopen(f"http://127.0.0.1:{gateway.port}/{path}{key}")
    assert key not in gateway.web.log
    assert "a canary" not in gateway.web.log
    assert "Traceback" in gateway.web.log
    assert http.call(gateway.port, "GET", "/health", key="").status == 200


# --- The database is away: last, for it takes every connection along --------------------------------------------------
def test_frames_wait_while_keys_cannot_be_checked(fresh: WebProcess, installation: Installation) -> None:
    with dial(fresh.port, installation.key) as client:
        with installation.database_away():
            time.sleep(1.6)
            client.send("later")
            with pytest.raises(TimeoutError):
                client.recv(timeout=0.5)
        assert client.recv(timeout=8) == "later"
    connections.close_all()
