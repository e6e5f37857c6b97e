"""What both web servers must do alike, seen through raw sockets on a real process."""

import hashlib
import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.servers import WebProcess, start_web, start_worker, wait_until_it_answers

pytestmark = pytest.mark.server

APP = "tests.aperture_site.faulty_app:application"
SERVERS = ["daphne", "uvicorn"]
LIMITS = {
    "APERTURE_RECEIVE_TIMEOUT_SECONDS": "1",
    "APERTURE_WRITE_TIMEOUT_SECONDS": "1.5",
    "APERTURE_MAX_BODY": "1000000",
    "APERTURE_DRAIN_SECONDS": "1",
    "APERTURE_REGION": "test-1",
}
CHUNKED = b"POST %s HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture(scope="module", params=SERVERS)
def web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    with start_web(request.param, APP, tmp_path_factory.mktemp(request.param), **LIMITS) as process:
        yield process


@pytest.fixture(scope="module", params=SERVERS)
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    limits = LIMITS | {"APERTURE_MAX_BODY": "100000000"}
    with start_web(request.param, APP, tmp_path_factory.mktemp("wide"), **limits) as process:
        yield process


def answer_on(client: socket.socket, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    response = HTTPResponse(client, method=method)
    response.begin()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def ask(web: WebProcess, request: bytes) -> tuple[int, dict[str, str], bytes]:
    with web.connect() as client:
        client.sendall(request)
        return answer_on(client)


def rest_of(client: socket.socket) -> bytes:
    parts = []
    while part := client.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def read_until(client: socket.socket, wanted: bytes) -> bytes:
    raw = b""
    while wanted not in raw:
        part = client.recv(65_536)
        assert part, f"the connection ended after {raw!r}"
        raw += part
    return raw


def send_until_refused(client: socket.socket, piece: bytes, limit_bytes: int) -> int:
    """Send PIECE again and again until the server stops it; return how many bytes went out."""
    sent = 0
    with suppress(ConnectionError, TimeoutError):
        while sent < limit_bytes:
            client.sendall(piece)
            sent += len(piece)
    return sent


def post(path: str, body: bytes) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


def event_at(web: WebProcess, name: str, after: float = 0.0, timeout_s: float = 5.0) -> float:
    """Return when the application noted NAME, on the monotonic clock."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for line in re.findall(rf"event {re.escape(name)} ([\d.]+)", web.log):
            if float(line) > after - 0.002:
                return float(line)
        time.sleep(0.01)
    raise AssertionError(f"no event {name!r} in {web.log}")


def refused(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    """Check the shape of a refusal; return its status and code."""
    status, headers, body = answer
    document = json.loads(body)
    assert headers["content-type"] == "application/json"
    assert headers["x-aperture-region"] == "test-1"
    assert headers["x-aperture-request-id"] == document["request_id"]
    assert document["error"]["type"] == "invalid_request_error"
    assert document["error"]["message"].endswith(".")
    assert headers["connection"] == "close"
    return status, document["error"]["code"]


# --- Requests and answers ---------------------------------------------------------------------------------------------
def test_the_application_sees_path_query_and_headers(web: WebProcess) -> None:
    head = b"GET /a%20b/c?q=1&r=%32 HTTP/1.1\r\nHost: test\r\nX-Session_Id:  abc \t\r\nX-Two: 1\r\nX-Two: 2\r\n\r\n"
    status, headers, body = ask(web, head)
    seen = json.loads(body)
    assert status == 200
    assert (seen["path"], seen["query"], seen["method"], seen["http_version"]) == ("/a b/c", "q=1&r=%32", "GET", "1.1")
    assert seen["headers"] == [["host", "test"], ["x-session_id", "abc"], ["x-two", "1"], ["x-two", "2"]]
    assert (seen["scheme"], seen["root_path"]) == ("http", "")
    assert "server" not in headers
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", headers["date"])


def test_a_request_leaves_nothing_to_the_garbage_collector(web: WebProcess) -> None:
    # Its pauses would be the tail of every latency.
    with web.connect() as client:
        found = []
        for _ in range(6):
            client.sendall(GET % b"/watched")
            found.append(json.loads(answer_on(client)[2])["garbage"])
    assert found[3:] == [0, 0, 0], found


def test_a_client_cannot_choose_the_root_path(web: WebProcess) -> None:
    _, _, body = ask(web, b"GET / HTTP/1.1\r\nHost: test\r\nDaphne-Root-Path: /evil\r\n\r\n")
    assert json.loads(body)["root_path"] == ""


def test_an_absolute_target_is_a_path(web: WebProcess) -> None:
    _, _, body = ask(web, GET % b"http://elsewhere/v1/models?a=b")
    assert (json.loads(body)["path"], json.loads(body)["query"]) == ("/v1/models", "a=b")


@pytest.mark.parametrize("size", [0, 1, 65_536, 700_000])
def test_a_body_arrives_whole(web: WebProcess, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    _, _, answer = ask(web, post("/echo", body))
    assert json.loads(answer)["sha256"] == hashlib.sha256(body).hexdigest()


def test_a_chunked_body_arrives_whole_and_its_trailers_do_not(web: WebProcess) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    _, _, answer = ask(web, head + b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nAuthorization: late\r\n\r\n")
    assert json.loads(answer)["bytes"] == 11


def test_the_application_is_called_at_the_head_and_fed_as_the_body_arrives(web: WebProcess) -> None:
    began_at = time.monotonic()
    with web.connect() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n")
        assert event_at(web, "called:/echo", began_at) - began_at < 0.5
        client.sendall(b"12345")
        time.sleep(0.1)
        client.sendall(b"67890")
        _, _, body = answer_on(client)
    assert json.loads(body)["bytes"] == 10
    assert json.loads(body)["pieces"] >= 2


def test_continue_is_said_when_the_application_asks_for_the_body(web: WebProcess) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    with web.connect() as client:
        client.sendall(head % b"/echo")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert answer_on(client)[0] == 200
    assert ask(web, head % b"/refuse")[0] == 401


def test_a_connection_serves_many_requests(web: WebProcess) -> None:
    with web.connect() as client:
        for number in range(5):
            client.sendall(post("/echo", b"x" * number))
            assert json.loads(answer_on(client)[2])["bytes"] == number


def test_pipelined_requests_are_answered_in_order(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(b"".join(post("/echo?pause=0.02", b"x" * size) for size in (3, 1, 2)) + GET % b"/last")
        raw = read_until(client, b"/last")
    assert re.findall(rb'"bytes": (\d)', raw) == [b"3", b"1", b"2"]


def test_an_old_client_gets_a_plain_answer_and_the_end(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(b"GET /stream?count=2&pause=0 HTTP/1.0\r\n\r\n")
        answer = rest_of(client)
    assert answer.partition(b"\r\n\r\n")[2].endswith(b"data: [DONE]\n\n") or b"chunked" in answer
    assert b"connection: close" in answer.lower()


def test_head_and_no_content_have_no_body(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(b"HEAD /x HTTP/1.1\r\nHost: test\r\n\r\n")
        status, headers, body = answer_on(client, "HEAD")
        assert (status, body) == (200, b"")
        assert int(headers["content-length"]) > 0
        client.sendall(GET % b"/empty")
        assert answer_on(client)[::2] == (204, b"")
        client.sendall(GET % b"/next")
        assert answer_on(client)[0] == 200


@pytest.mark.parametrize(
    ("request_head", "status_line"),
    [
        (b"HEAD /fail HTTP/1.1\r\nHost: test\r\n\r\n", b"HTTP/1.1 500 "),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"HTTP/1.1 400 "),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"x" * 40_000), b"HTTP/1.1 431 "),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\nX", b"HTTP/1.1 408 "),
    ],
    ids=["500", "400", "431", "408"],
)
def test_a_refusal_of_head_has_no_body(web: WebProcess, request_head: bytes, status_line: bytes) -> None:
    with web.connect() as client:
        client.sendall(request_head)
        head, end, body = rest_of(client).partition(b"\r\n\r\n")
    assert head.startswith(status_line)
    assert b"content-type: application/json" in head
    assert (end, body) == (b"\r\n\r\n", b"")


def test_a_refusal_after_an_answered_head_has_its_body(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(b"HEAD /x HTTP/1.1\r\nHost: test\r\n\r\n")
        assert answer_on(client, "HEAD")[0] == 200
        client.sendall(b"nonsense\r\n\r\n")
        assert refused(answer_on(client)) == (400, "invalid_request")


def test_a_failing_application_is_answered_for(web: WebProcess) -> None:
    status, headers, body = ask(web, GET % b"/fail")
    assert (status, json.loads(body)["error"]["code"]) == (500, "internal_error")
    assert headers["x-aperture-request-id"] == json.loads(body)["request_id"]
    assert "the application's own fault" in web.log


def test_an_answer_that_broke_is_seen_to_be_broken(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(GET % b"/fail-late")
        answer = rest_of(client)
    assert b"half" in answer
    assert not answer.endswith(b"0\r\n\r\n")


def test_a_request_leaves_no_line_in_the_log(web: WebProcess) -> None:
    ask(web, GET % b"/x?key=canary-in-the-query")
    ask(web, b"GET /x?key=canary-in-the-query HTTP/1.1\r\nbroken canary-in-the-query\r\n\r\n")
    ask(web, b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: canary-in-the-query\r\nConnection: upgrade\r\n\r\n")
    assert "canary-in-the-query" not in web.log


# --- Bounds -----------------------------------------------------------------------------------------------------------
def test_headers_over_their_bound_are_refused(web: WebProcess) -> None:
    assert refused(ask(web, b"GET / HTTP/1.1\r\nHost: test\r\nX-Long: " + b"x" * 33_000 + b"\r\n\r\n")) == (
        431,
        "headers_too_large",
    )
    many = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 40) for number in range(800))
    assert refused(ask(web, b"GET / HTTP/1.1\r\nHost: test\r\n" + many + b"\r\n"))[0] == 431
    assert refused(ask(web, GET % (b"/" + b"x" * 33_000)))[0] == 431


def test_headers_within_their_bound_are_read(web: WebProcess) -> None:
    many = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 40) for number in range(600))
    assert ask(web, b"GET / HTTP/1.1\r\nHost: test\r\n" + many + b"\r\n")[0] == 200
    assert ask(web, b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 30_000 + b"\r\n\r\n")[0] == 200


def test_a_header_without_end_is_refused_while_it_grows(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nX-Long: ")
        time.sleep(0.05)
        with suppress(ConnectionError):
            for _ in range(64):
                client.sendall(b"x" * 16_384)
        assert refused(answer_on(client))[0] == 431


@pytest.mark.parametrize("framing", [b"0\r\nX-Trailer: ", b"5;extension="], ids=["trailer", "extension"])
def test_framing_around_a_body_is_refused_while_it_grows(web: WebProcess, framing: bytes) -> None:
    with web.connect() as client:
        client.sendall(CHUNKED % b"/echo" + b"1\r\na\r\n" + framing)
        send_until_refused(client, b"v" * 65_536, 1_000_000)
        status, code = refused(answer_on(client))
    assert (status, code) in [(400, "invalid_request"), (431, "headers_too_large")]


def test_a_head_that_does_not_end_is_timed_out(web: WebProcess) -> None:
    with web.connect() as client:
        began_at = time.monotonic()
        client.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(6):
            # Dripping bytes must not move the deadline.
            time.sleep(0.15)
            client.sendall(b"X: y\r\n")
        assert refused(answer_on(client)) == (408, "request_timeout")
        assert 0.8 < time.monotonic() - began_at < 1.6


@pytest.mark.parametrize("drip", [b"", b"\r\n"])
def test_an_idle_connection_is_closed_without_a_word(web: WebProcess, drip: bytes) -> None:
    with web.connect() as client:
        client.sendall(GET % b"/")
        answer_on(client)
        began_at = time.monotonic()
        time.sleep(0.5)
        client.sendall(drip)
        assert b"200" not in rest_of(client)
        assert 0.8 < time.monotonic() - began_at < 2.2


def test_an_early_answer_ends_the_connection_and_can_be_read(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(b"POST /refuse HTTP/1.1\r\nHost: test\r\nContent-Length: 900000\r\n\r\n")
        for _ in range(8):
            client.sendall(b"x" * 65_536)
            time.sleep(0.01)
        status, headers, _ = answer_on(client)
        assert (status, headers["connection"]) == (401, "close")
        began_at = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - began_at < 8:
                client.sendall(b"x" * 1024)
                time.sleep(0.02)
        assert time.monotonic() - began_at < 4


MALFORMED = {
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "two equal lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    "signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc",
    "length and chunked": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
    "gzip and chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc",
    "folded line": b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\n two\r\n\r\n",
    "folded length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 3\r\n\r\nabc",
    "space before name": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "bare line feed": b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\nX-Two: 2\r\n\r\n",
    "bare carriage return": b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\rX-Two: 2\r\n\r\n",
    "nul in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\x002\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: a\r\nX-One\r\n\r\n",
    "empty name": b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "unknown version": b"GET / HTTP/3.7\r\nHost: a\r\n\r\n",
    "no version": b"GET /\r\nHost: a\r\n\r\n",
    "raw bytes in the target": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "no target": b"GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("request_head", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_two_readers_could_read_differently_is_refused(web: WebProcess, request_head: bytes) -> None:
    with web.connect() as client:
        client.sendall(request_head + GET % b"/smuggled")
        assert refused(answer_on(client)) == (400, "invalid_request")
        with suppress(ConnectionResetError):
            assert rest_of(client) == b""
    assert "called:/smuggled" not in web.log


BAD_CHUNKS = {
    "no number": b"zz\r\nabc\r\n",
    "signed": b"-3\r\nabc\r\n",
    "prefixed": b"0x3\r\nabc\r\n",
    "wrong end": b"3\r\nabcde\r\n",
    "bare line feed": b"3\nabc\n0\n\n",
}


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_a_broken_chunk_ends_the_request(web: WebProcess, chunks: bytes) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert refused(ask(web, head + chunks + GET % b"/smuggled")) == (400, "invalid_request")
    assert "called:/smuggled" not in web.log


# --- Bodies ---------------------------------------------------------------------------------------------------------
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


# --- Back-pressure and clients that go away ---------------------------------------------------------------------------
def test_a_client_that_never_reads_costs_no_memory_and_is_cut(web: WebProcess) -> None:
    with web.connect() as client:
        before_bytes, began_at = web.rss_bytes, time.monotonic()
        client.sendall(GET % b"/endless")
        time.sleep(1)
        assert web.rss_bytes - before_bytes < 20_000_000
        assert "called:/endless" in web.log
        ended_at = event_at(web, "endless-ended", began_at, timeout_s=10)
        assert 1.0 < ended_at - began_at < 5


def test_a_slow_reader_is_not_cut(web: WebProcess) -> None:
    with web.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(GET % b"/endless")
        began_at = time.monotonic()
        while time.monotonic() - began_at < 4:
            assert client.recv(65_536)
            time.sleep(0.01)


def noticed_after_s(web: WebProcess, request: bytes, answer: bytes, event: str) -> float:
    """Leave once ANSWER has come, and return how long the application took to notice: the best of three."""
    delays = []
    for _ in range(3):
        with web.connect() as client:
            client.sendall(request)
            read_until(client, answer) if answer else time.sleep(0.05)
        gone_at = time.monotonic()
        delays.append(event_at(web, event, gone_at) - gone_at)
    return min(delays)


@pytest.mark.quiet
def test_send_fails_once_the_client_is_gone(web: WebProcess) -> None:
    assert noticed_after_s(web, GET % b"/endless", b"xxx", "endless-ended") < 0.1
    assert "The application failed" not in web.log.rpartition("called:/endless")[2]


@pytest.mark.quiet
def test_a_client_that_leaves_is_noticed_at_once(web: WebProcess) -> None:
    assert noticed_after_s(web, GET % b"/wait", b"first", "wait-disconnected") < 0.1


@pytest.mark.quiet
def test_a_client_that_leaves_within_its_body_is_noticed(web: WebProcess) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf"
    assert noticed_after_s(web, head, b"", "echo-disconnected") < 0.1


# --- WebSockets -------------------------------------------------------------------------------------------------------
def test_a_websocket_speaks(web: WebProcess) -> None:
    with connect(f"ws://127.0.0.1:{web.port}/echo") as client:
        client.send("hello")
        assert client.recv(timeout=5) == "hello"


def test_a_websocket_whose_application_does_not_read_makes_its_client_wait(web: WebProcess) -> None:
    before_bytes, sent = web.rss_bytes, 0
    with connect(f"ws://127.0.0.1:{web.port}/deaf", compression=None) as client:
        client.socket.settimeout(1)
        with suppress(TimeoutError, ConnectionError, ConnectionClosed):
            while sent < 200_000_000:
                client.send(b"x" * 500_000)
                sent += 500_000
        assert sent < 100_000_000
        assert web.rss_bytes - before_bytes < 60_000_000
        client.socket.close()


def test_a_websocket_is_refused_in_the_applications_own_words(web: WebProcess) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        connect(f"ws://127.0.0.1:{web.port}/refuse")
    response = refusal.value.response
    assert response.status_code == 402
    assert response.headers["x-why"] == "no plan"
    assert json.loads(response.body or b"")["code"] == "budget_exceeded"


HANDSHAKE = b"GET /echo HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%s\r\n"


@pytest.mark.parametrize(
    "fields",
    [
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 99\r\n",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        b"Sec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n",
        b"",
    ],
    ids=["another version", "no version", "a short key", "neither"],
)
def test_a_websocket_s_handshake_that_is_none_is_refused_in_our_envelope(web: WebProcess, fields: bytes) -> None:
    assert refused(ask(web, HANDSHAKE % fields)) == (400, "invalid_request")


def test_a_websocket_that_is_closed_unaccepted_gets_403(web: WebProcess) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        connect(f"ws://127.0.0.1:{web.port}/close")
    assert refusal.value.response.status_code == 403


def test_a_websocket_whose_client_never_reads_costs_no_memory(web: WebProcess) -> None:
    with web.connect() as client:
        client.sendall(
            b"GET /flood HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        read_until(client, b"101 ")
        before_bytes = web.rss_bytes
        time.sleep(1)
        assert web.rss_bytes - before_bytes < 20_000_000
    gone_at = time.monotonic()
    assert event_at(web, "flood-ended", gone_at) - gone_at < 0.5


# --- Drain ------------------------------------------------------------------------------------------------------------
@pytest.fixture(params=SERVERS)
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WebProcess]:
    with start_web(request.param, APP, tmp_path, APERTURE_DRAIN_SECONDS="2") as process:
        yield process


@pytest.mark.quiet
def test_an_idle_process_stops_at_once(fresh: WebProcess) -> None:
    with fresh.connect() as client:
        client.sendall(GET % b"/")
        assert answer_on(client)[0] == 200
        began_at = time.monotonic()
        fresh.signal()
        assert fresh.wait() == 0
        assert time.monotonic() - began_at < 0.6
        assert client.recv(10) == b""
    assert fresh.log.index("event started") < fresh.log.index("event stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_stream_finishes_while_new_requests_are_refused(fresh: WebProcess, number: int) -> None:
    with fresh.connect() as streaming, fresh.connect() as kept:
        kept.sendall(GET % b"/")
        assert answer_on(kept)[0] == 200
        streaming.sendall(GET % b"/stream?count=10&pause=0.1")
        read_until(streaming, b"data: 0")
        fresh.signal(number)
        time.sleep(0.2)
        status, headers, _ = ask(fresh, GET % b"/")
        assert (status, headers["retry-after"]) == (503, "1")
        kept.sendall(GET % b"/")
        assert answer_on(kept)[0] == 503
        assert rest_of(streaming).endswith(b"0\r\n\r\n")
    assert fresh.wait() == 0


def test_a_stream_longer_than_the_drain_is_cut(fresh: WebProcess) -> None:
    with fresh.connect() as client:
        client.sendall(GET % b"/stream?count=1000&pause=0.1")
        client.recv(1000)
        began_at = time.monotonic()
        fresh.signal()
        assert fresh.wait() == 0
        assert 1.9 < time.monotonic() - began_at < 5
        assert b"[DONE]" not in rest_of(client)


@pytest.mark.quiet
def test_a_second_signal_stops_at_once(fresh: WebProcess) -> None:
    with fresh.connect() as client:
        client.sendall(GET % b"/stream?count=1000&pause=0.1")
        client.recv(1000)
        fresh.signal()
        time.sleep(0.2)
        began_at = time.monotonic()
        fresh.signal()
        assert fresh.wait() == 128 + signal.SIGTERM
        assert time.monotonic() - began_at < 0.5


def test_with_nothing_left_the_port_is_free(fresh: WebProcess) -> None:
    assert fresh.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        fresh.connect()


@pytest.mark.parametrize("server", SERVERS)
def test_workers_share_the_socket_and_outlive_each_other(server: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        first = start_worker(server, APP, tmp_path / "first", listening)
        second = start_worker(server, APP, tmp_path / "second", listening)
        try:
            wait_until_it_answers(second)
            first.signal(signal.SIGKILL)
            first.wait()
            assert [ask(second, GET % b"/")[0] for _ in range(20)] == [200] * 20
        finally:
            first.stop()
            second.stop()


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = start_worker("uvicorn", "tests.aperture_site.faulty_app:absent", tmp_path, listening)
        assert process.wait() != 0
        assert "absent" in process.log
