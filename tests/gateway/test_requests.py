"""Requests as clients, careless ones and hostile ones send them: sizes, framing, headers, paths, methods, keys."""

import contextlib
import json
import socket
import time
from pathlib import Path

import pytest

from tests.gateway import http
from tests.gateway.conftest import BODY_BYTES_MAX, Gateway

pytestmark = pytest.mark.server

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest) -> str:
    """Bytes on the wire: both servers."""
    return str(request.param)


def head(gateway: Gateway, *headers: str, path: str = CHAT, method: str = "POST", host: str = "Host: a") -> bytes:
    """Return a request's head with Alice's key."""
    lines = [f"{method} {path} HTTP/1.1", host, f"Authorization: Bearer {gateway.installed.key}", *headers]
    return "\r\n".join([*(line for line in lines if line), "", ""]).encode("latin-1")


GOOD = json.dumps(http.chat("chaos/ok")).encode()


# --- Size and time --------------------------------------------------------------------------------------------------
def test_an_upload_of_a_gigabyte_is_refused_without_being_kept(gateway: Gateway, engines: Path) -> None:
    rss_bytes, used = gateway.web.rss_bytes, disk_bytes(engines)
    grown = 0
    answer = bytearray()
    chunk = b"%x\r\n%b\r\n" % (MEGABYTE, b" " * MEGABYTE)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(head(gateway, "Transfer-Encoding: chunked", "Content-Type: application/json"))
        try:
            for _ in range(1024):
                client.sendall(chunk)
                grown = max(grown, gateway.web.rss_bytes - rss_bytes)
        except OSError:
            grown = max(grown, gateway.web.rss_bytes - rss_bytes)
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(65_536):
                answer += piece

    assert http.parse(bytes(answer)).status == 413
    assert http.parse(bytes(answer)).error["code"] == "request_too_large"
    assert grown < 40 * MEGABYTE
    assert disk_bytes(engines) - used < 20 * MEGABYTE


def disk_bytes(folder: Path) -> int:
    """Return how much a folder holds."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # the engines remove files of their own all the time
    return total


def test_a_declared_size_over_the_cap_is_refused_at_once(gateway: Gateway) -> None:
    began_at = time.monotonic()
    answer = http.parse(
        http.raw(gateway.port, head(gateway, f"Content-Length: {10**12}", "Content-Type: application/json"))
    )

    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert time.monotonic() - began_at < 3


def test_a_body_as_large_as_the_cap_is_taken(gateway: Gateway) -> None:
    body = json.dumps(http.chat("chaos/ok", text="x" * (BODY_BYTES_MAX - 200))).encode()
    assert len(body) <= BODY_BYTES_MAX
    answer = gateway.call("POST", CHAT, body=body + b" " * (BODY_BYTES_MAX - len(body)), headers=JSON)

    assert answer.status == 200
    assert len(gateway.upstream.last("ok").body) > BODY_BYTES_MAX - 300


def test_a_body_that_dribbles_is_given_up(gateway: Gateway) -> None:
    began_at = time.monotonic()
    parts = [head(gateway, "Content-Length: 1000", "Content-Type: application/json"), *[b"x"] * 20]
    answer = http.parse(http.raw(gateway.port, *parts, pause_s=0.1))

    assert (answer.status, answer.error["code"]) == (408, "request_timeout")
    assert time.monotonic() - began_at < 6


def test_a_head_that_dribbles_is_given_up(gateway: Gateway) -> None:
    began_at = time.monotonic()
    received = http.raw(gateway.port, b"POST /v1/chat/completions HTTP/1.1\r\nHo", b"st: a\r\n", pause_s=0.2)

    assert not received or http.parse(received).status == 408
    assert time.monotonic() - began_at < 5


@pytest.mark.parametrize("headers", [["X-Long: " + "a" * 33_000], [f"X-{n}: {'b' * 300}" for n in range(120)]])
def test_headers_over_the_cap_are_refused(gateway: Gateway, headers: list[str]) -> None:
    answer = http.parse(http.raw(gateway.port, head(gateway, *headers, "Content-Length: 0")))

    assert (answer.status, answer.error["code"]) == (431, "headers_too_large")


def test_a_url_over_the_cap_is_refused(gateway: Gateway) -> None:
    received = http.raw(gateway.port, head(gateway, method="GET", path="/v1/models?" + "q" * 70_000))

    assert http.parse(received).status in (400, 414, 431)


# --- JSON -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe{}", b'{"model":"chaos/ok",}', b"{'model':'chaos/ok'}",
        b'{"model":"chaos/ok","messages":NaN}', b'{"model":"chaos/ok"} trailing', b'{"model":"\xff"}',
        b'{"model":"chaos/ok","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000, b'{"a":' * 100_000,
        b'{"model":"chaos/ok","stream_options":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(gateway: Gateway, body: bytes) -> None:
    calls = len(gateway.upstream.exchanges)
    answer = gateway.call("POST", CHAT, body=body, headers=JSON)

    assert answer.status == 400, answer.body[:200]
    assert answer.error["code"] in ("invalid_json", "invalid_parameter")
    assert len(gateway.upstream.exchanges) == calls
    assert gateway.chat("ok").status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None}, {"model": 7}, {"model": ""}, {"model": ["chaos/ok"]}, {"model": "x" * 257},
        {"stream": "true"}, {"stream": 1}, {"stream": True, "stream_options": 7},
    ],
)  # fmt: skip
def test_a_parameter_of_the_wrong_kind_is_named(gateway: Gateway, fields: dict[str, object]) -> None:
    answer = gateway.call("POST", CHAT, body=http.chat("chaos/ok") | fields)

    assert (answer.status, answer.error["code"]) == (400, "invalid_parameter")
    assert answer.error["param"] == list(fields)[-1]


def test_harmless_oddities_of_real_clients_are_taken(gateway: Gateway) -> None:
    odd: dict[str, object] = {
        "tools": [],
        "tool_choice": None,
        "n": 1,
        "logprobs": None,
        "x_unknown": {"a": [1]},
        "stream": None,
    }
    assert gateway.call("POST", CHAT, body=http.chat("chaos/ok") | odd).status == 200
    assert gateway.upstream.last("ok").json["x_unknown"] == {"a": [1]}
    assert (
        gateway.call("POST", CHAT, body=GOOD, headers={"Content-Type": "application/json; charset=utf-8"}).status == 200
    )
    assert gateway.call("POST", CHAT, body=GOOD + b"\r\n  ", headers=JSON).status == 200


def test_a_model_named_twice_means_one_model_everywhere(gateway: Gateway) -> None:
    """What is authorized is what the upstream is asked for."""
    body = b'{"model":"chaos/ok","model":"chaos/repeats","messages":[{"role":"user","content":"x"}]}'
    answer = gateway.call("POST", CHAT, body=body, headers=JSON, key=gateway.installed.keys["bob"])

    if answer.status == 200:
        assert gateway.upstream.last("ok").body.count(b'"model"') == 1
    else:
        assert answer.status in (400, 404)


@pytest.mark.parametrize(
    "name", ["chaos/ok\r\nX-Evil: 1", "chaos/ok\x00", "../../etc/passwd", "chaos/\u2028ok", "%0d%0a"]
)
def test_a_model_name_cannot_break_out_of_its_place(gateway: Gateway, name: str) -> None:
    answer = gateway.call("POST", CHAT, body=http.chat(name))

    assert answer.status in (400, 404)
    assert "x-evil" not in {key.lower() for key, _ in answer.headers}
    assert "\nX-Evil" not in gateway.web.log


# --- Encodings and framing ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity", "zstd", "x"])
def test_a_compressed_request_is_refused(gateway: Gateway, coding: str) -> None:
    answer = gateway.call("POST", CHAT, body=GOOD, headers=JSON | {"Content-Encoding": coding})

    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/xml"])
def test_another_content_type_is_refused(gateway: Gateway, kind: str) -> None:
    answer = gateway.call("POST", CHAT, body=GOOD, headers={"Content-Type": kind})

    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")


SMUGGLING = {
    "two lengths": ["Content-Length: 5", "Content-Length: 6"],
    "two equal lengths": ["Content-Length: 5", "Content-Length: 5"],
    "length and chunked": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "chunked in disguise": ["Transfer-Encoding: xchunked", "Content-Length: 5"],
    "chunked twice": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    "chunked, then identity": ["Transfer-Encoding: chunked, identity"],
    "a length with a sign": ["Content-Length: +5"],
    "a negative length": ["Content-Length: -1"],
    "a list of lengths": ["Content-Length: 5, 5"],
    "a folded header": ["Content-Length: 5", "X-Fold: a\r\n b"],
    "a space before the colon": ["Content-Length : 5"],
    "a control character": ["Content-Length: 5", "X-A: a\x00b"],
    "a bare CR": ["Content-Length: 5", "X-A: a\rb"],
    "a second host": ["Host: b", "Content-Length: 5"],
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_a_request_that_two_readers_could_read_differently_is_refused(gateway: Gateway, name: str) -> None:
    calls = len(gateway.upstream.exchanges)
    smuggled = b"hello" + head(gateway, f"Content-Length: {len(GOOD)}", "Content-Type: application/json") + GOOD
    received = http.raw(gateway.port, head(gateway, *SMUGGLING[name], "Content-Type: application/json") + smuggled)

    assert received.count(b"HTTP/1.1 ") <= 1, received[:500]
    assert not received or http.parse(received).status == 400, received[:300]
    assert len(gateway.upstream.exchanges) == calls


def test_bytes_that_are_no_http_are_refused(gateway: Gateway) -> None:
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ):
        received = http.raw(gateway.port, garbage + b"\r\n\r\n", timeout_s=4)
        assert not received or http.parse(received).status in (400, 505), received[:200]
    assert gateway.chat("ok").status == 200


def test_a_chunked_request_in_small_pieces_is_understood(gateway: Gateway) -> None:
    chunks = [b"%x;ext=1\r\n%b\r\n" % (len(GOOD[n : n + 7]), GOOD[n : n + 7]) for n in range(0, len(GOOD), 7)]
    first = head(gateway, "Transfer-Encoding: chunked", "Content-Type: application/json", "Connection: close")
    received = http.raw(gateway.port, first, *chunks, b"0\r\nX-Trailer: 1\r\n\r\n", pause_s=0.002)

    assert received.startswith(b"HTTP/1.1 200 ")


def test_a_client_that_awaits_100_continue_gets_it(gateway: Gateway) -> None:
    first = head(
        gateway, "Expect: 100-continue", f"Content-Length: {len(GOOD)}", "Content-Type: application/json",
        "Connection: close",
    )  # fmt: skip
    received = http.raw(gateway.port, first, GOOD, pause_s=0.2)

    assert received.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 200 " in received


def test_requests_follow_one_another_on_a_connection(gateway: Gateway) -> None:
    one = head(gateway, f"Content-Length: {len(GOOD)}", "Content-Type: application/json") + GOOD
    last = head(gateway, "Connection: close", method="GET", path="/v1/models/chaos/ok")
    received = http.raw(gateway.port, one + one + last)

    assert received.count(b"HTTP/1.1 200 ") == 3


def test_http_1_0_is_answered_and_closed(gateway: Gateway) -> None:
    received = http.raw(gateway.port, head(gateway, method="GET", path="/v1/models").replace(b"HTTP/1.1", b"HTTP/1.0"))

    assert b" 200 " in received.split(b"\r\n")[0]
    assert b"transfer-encoding" not in received.lower().split(b"\r\n\r\n")[0]


# --- Headers --------------------------------------------------------------------------------------------------------
def test_two_keys_in_one_request_cannot_be_used_to_confuse(gateway: Gateway) -> None:
    """Two Authorization headers: whichever counts, a key that is not good never becomes good by company."""
    bad = "Authorization: Bearer sg-" + "a" * 36
    received = http.raw(gateway.port, head(gateway, bad, "Connection: close", method="GET", path="/v1/auth/me"))
    assert http.parse(received).status in (200, 400, 401)

    both_bad = head(gateway, bad, "Connection: close", method="GET", path="/v1/auth/me", host="Host: a")
    both_bad = both_bad.replace(gateway.installed.key.encode(), b"sg-" + b"b" * 36)
    assert http.parse(http.raw(gateway.port, both_bad)).status in (400, 401)


@pytest.mark.parametrize(
    "header", ["Authorization: Bearer {}", "authorization: bearer {}", "X-Api-Key: {}", "x-goog-api-key: {}"]
)
def test_a_key_is_found_wherever_clients_put_it(gateway: Gateway, header: str) -> None:
    name, _, value = header.format(gateway.installed.key).partition(": ")
    answer = gateway.call("GET", "/v1/auth/me", key="", headers={name: value})

    assert answer.status == 200
    assert answer.json["user"]["email"] == "alice@example.com"


def test_a_key_in_the_query_is_taken_and_never_logged(gateway: Gateway) -> None:
    key = gateway.installed.key
    assert gateway.call("GET", f"/v1/models?key={key}", key="").status == 200
    assert gateway.call("POST", f"{CHAT}?key={key}&x=1", key="", body=http.chat("chaos/ok")).status == 200
    assert gateway.call("POST", f"{CHAT}?key={key}", key="", body=http.chat("chaos/status-500-json")).status == 502
    assert gateway.call("GET", f"/v1/nothing?key={key}", key="").status == 404
    assert gateway.call("GET", f"/nothing-of-ours?key={key}", key="").status == 404
    http.raw(gateway.port, f"GET /v1/models?key={key} HTTP/1.1\r\nBad Header: 1\r\n\r\n".encode())

    assert key not in gateway.web.log
    assert "key=" not in gateway.web.log


def test_cookies_open_nothing(gateway: Gateway) -> None:
    answer = gateway.call("GET", "/v1/models", key="", headers={"Cookie": "sessionid=x; csrftoken=y"})

    assert answer.status == 401
    assert answer.header("set-cookie") == ""


@pytest.mark.parametrize("header", ["X-Aperture-Request-Id", "X-Request-Id", "X-Aperture-Region"])
def test_what_the_gateway_says_cannot_be_dictated(gateway: Gateway, header: str) -> None:
    answer = gateway.call("GET", "/v1/models", headers={header: "forged"})

    assert answer.request_id != "forged"
    assert answer.header("x-aperture-region") == "test-1"


@pytest.mark.parametrize("path", ["/admin/login/", "/static/nothing.css", "/nothing", "/demo/v1/models", "/health"])
def test_every_answer_is_named(gateway: Gateway, path: str) -> None:
    answer = gateway.call("GET", path)

    assert len(answer.request_id) == 36
    assert answer.header("x-aperture-region") == "test-1"


# --- Paths and methods ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
def test_both_bases_answer_alike(gateway: Gateway, base: str) -> None:
    assert gateway.call("POST", f"{base}/chat/completions", body=http.chat("chaos/ok")).status == 200
    assert gateway.call("GET", f"{base}/models/chaos/ok").json["id"] == "chaos/ok"
    assert gateway.call("GET", f"{base}/models/nickname").json["id"] == "nickname"
    assert gateway.call("GET", f"{base}/models/no/such").status == 404
    assert gateway.call("GET", f"{base}/health", key="").status == 200


GETS = ["/v1/models", "/v1/models/chaos/ok", "/v1/auth/me", "/health", "/v1/health", "/targets", "/auth/me"]


@pytest.mark.parametrize("path", [*GETS, "/v1/models/unknown"])
def test_head_is_get_without_the_body(gateway: Gateway, path: str) -> None:
    got, headed = gateway.call("GET", path), gateway.call("HEAD", path)

    assert headed.status == got.status
    assert headed.body == b""
    varying = ("date", "x-aperture-request-id", "x-request-id", "request-id")
    assert [pair for pair in headed.headers if pair[0] not in varying] == [
        pair for pair in got.headers if pair[0] not in varying
    ]


def test_head_of_the_root_says_that_somebody_is_there(gateway: Gateway) -> None:
    answer = gateway.call("HEAD", "/", key="")

    assert answer.status == 200
    assert answer.request_id


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/api/v1/",
        "/v1/nothing",
        "/v1//models",
        "/v1/chat",
        "/v1/../v1/models",
        "/v1/models/%00",
        "/v1beta/x",
    ],
)
def test_an_unknown_path_is_a_404_in_the_envelope(gateway: Gateway, path: str) -> None:
    answer = gateway.call("GET", path)

    assert answer.status == 404, answer.body[:200]
    assert answer.header("content-type") == "application/json"
    assert answer.json["error"]["message"]


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/models/chaos/ok", "/health", "/v1/unknown"])
def test_a_preflight_is_answered_without_a_key(gateway: Gateway, path: str) -> None:
    answer = gateway.call(
        "OPTIONS", path, key="",
        headers={
            "Origin": "https://app.example", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
        },
    )  # fmt: skip

    assert answer.status in (200, 204)
    assert answer.body == b""
    assert answer.header("access-control-allow-origin") == "*"
    assert "POST" in answer.header("access-control-allow-methods")
    assert "authorization" in answer.header("access-control-allow-headers").lower()
    assert answer.header("access-control-allow-credentials") == ""


def test_options_of_an_unknown_path_that_is_no_preflight_is_a_404(gateway: Gateway) -> None:
    assert gateway.call("OPTIONS", "/v1/unknown").status == 404


def test_any_origin_may_read_answers_and_errors(gateway: Gateway) -> None:
    for answer in (gateway.chat("ok"), gateway.chat("ok", key=""), gateway.chat("none"), gateway.stream("ok")):
        assert answer.header("access-control-allow-origin") == "*"
        assert "x-aperture-request-id" in answer.header("access-control-expose-headers")


@pytest.mark.parametrize("key", ["bob", "limited"])
def test_the_list_of_models_is_what_the_key_may_call(gateway: Gateway, key: str) -> None:
    listed = gateway.call("GET", "/v1/models", key=gateway.installed.keys[key]).json["data"]

    assert [model["id"] for model in listed] == ["chaos/ok"]


def test_models_answer_in_anthropics_shape_where_it_is_spoken(gateway: Gateway) -> None:
    version = {"anthropic-version": "2023-06-01"}
    listed = gateway.call("GET", "/v1/models?limit=1000", headers=version).json

    assert listed["has_more"] is False
    assert (listed["first_id"], listed["last_id"]) == (listed["data"][0]["id"], listed["data"][-1]["id"])
    one = gateway.call("GET", "/v1/models/chaos/ok", headers=version).json
    assert (one["type"], one["id"]) == ("model", "chaos/ok")
    assert one["display_name"] and one["created_at"]


def test_models_answer_in_googles_shape_where_its_credential_is_shown(gateway: Gateway) -> None:
    """The Python SDK asks for them below /v1."""
    shown = {"x-goog-api-key": gateway.installed.key}
    listed = gateway.call("GET", "/v1/models", key="", headers=shown).json
    one = gateway.call("GET", "/v1/models/chaos/ok", key="", headers=shown).json
    unknown = gateway.call("GET", "/v1/models/none", key="", headers=shown).json

    assert one in listed["models"]
    assert (one["name"], "generateContent" in one["supportedGenerationMethods"]) == ("models/chaos/ok", True)
    assert unknown["error"]["status"] == "NOT_FOUND"


def test_embeddings_that_nobody_counted_are_no_output(gateway: Gateway) -> None:
    body = json.dumps({"model": "chaos/bill", "input": "hello", "metadata": {"team": "search"}}).encode()
    answer = gateway.call("POST", "/v1/embeddings", body=body)
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["usage_source"], row["output_tokens"]) == ("estimate", 0)


@pytest.mark.parametrize(("encoding", "kind"), [("float", list), ("base64", str), (None, list)])
def test_embeddings_pass_in_the_form_that_was_asked_for(gateway: Gateway, encoding: str | None, kind: type) -> None:
    body = {"model": "chaos/ok", "input": ["a", "b"]} | ({"encoding_format": encoding} if encoding else {})
    answer = gateway.call("POST", "/v1/embeddings", body=body)

    assert answer.status == 200
    assert answer.json["model"] == "chaos/ok"
    assert [type(each["embedding"]) for each in answer.json["data"]] == [kind, kind]
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["dialect"], row["input_tokens"], row["output_tokens"]) == ("openai_embeddings", 5, 0)
