"""Every row of the error table that can be provoked through the real server: status, type, code, envelope, headers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import TABLE
from tests.gateway import http
from tests.gateway.conftest import BODY_BYTES_MAX, BOUNDS, Gateway
from tests.gateway.installation import CREDENTIAL, Installation
from tests.servers import start_web

pytestmark = pytest.mark.server

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
GOOD = http.chat("chaos/ok")
UNCARRIED = {
    "model": "chaos/ok",
    "input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]}],
}
WAITED_FOR = {"model": "chaos/ok", "input": "hello", "background": True}


def posted(**options: Any) -> Callable[[Gateway], http.Answer]:
    """Return a request to the chat route: the good one, changed by OPTIONS."""
    return lambda gateway: gateway.call("POST", CHAT, **{"body": GOOD, **options})


def with_key(name: str) -> Callable[[Gateway], http.Answer]:
    """Return the good request with another of the installation's keys."""
    return lambda gateway: gateway.call("POST", CHAT, body=GOOD, key=gateway.installed.keys[name])


def scripted(scenario: str, provider: str = "chaos") -> Callable[[Gateway], http.Answer]:
    """Return a request for a scenario of the upstream."""
    return lambda gateway: gateway.chat(scenario, provider=provider)


def half_sent(gateway: Gateway) -> http.Answer:
    """Send half of a body, and wait."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {gateway.installed.key}\r\nContent-Length: 100"
    return http.parse(http.raw(gateway.port, head.encode() + b"\r\nContent-Type: application/json\r\n\r\n{"))


ROWS: dict[str, tuple[int, str, str, str, Callable[[Gateway], http.Answer]]] = {
    "unknown path": (404, "invalid_request_error", "not_found", "not_found_error",
                     lambda gateway: gateway.call("GET", "/v1/nothing")),
    "wrong method": (405, "invalid_request_error", "method_not_allowed", "invalid_request_error",
                     lambda gateway: gateway.call("DELETE", CHAT)),
    "no key": (401, "invalid_api_key", "invalid_api_key", "authentication_error", posted(key="")),
    "malformed key": (401, "invalid_api_key", "invalid_api_key", "authentication_error", posted(key="sg-x y")),
    "unknown key": (401, "invalid_api_key", "invalid_api_key", "authentication_error", with_key("unknown")),
    "revoked key": (401, "invalid_api_key", "invalid_api_key", "authentication_error", with_key("revoked")),
    "expired key": (401, "invalid_api_key", "api_key_expired", "authentication_error", with_key("expired")),
    "address": (403, "permission_denied", "ip_restricted", "permission_error", with_key("elsewhere")),
    "no role": (403, "permission_denied", "no_role_granted", "permission_error", with_key("charlie")),
    "outside the key": (403, "permission_denied", "model_not_allowed", "permission_error",
                        lambda gateway: gateway.chat("repeats", key=gateway.installed.keys["limited"])),
    "unknown model": (404, "model_not_found", "model_not_found", "not_found_error", posted(body=http.chat("none"))),
    "not granted": (404, "model_not_found", "model_not_found", "not_found_error",
                    lambda gateway: gateway.chat("repeats", key=gateway.installed.keys["bob"])),
    "no content that it takes": (400, "invalid_request_error", "unsupported_content", "invalid_request_error",
                                 lambda gateway: gateway.call("POST", "/v1/responses", body=UNCARRIED)),
    "no such parameter": (400, "invalid_request_error", "unsupported_parameter", "invalid_request_error",
                          lambda gateway: gateway.call("POST", "/v1/responses", body=WAITED_FOR)),
    "a socket's route": (426, "invalid_request_error", "websocket_upgrade_required", "invalid_request_error",
                         lambda gateway: gateway.call("GET", "/v1/responses")),
    "body too large": (413, "invalid_request_error", "request_too_large", "request_too_large",
                       posted(body=b" " * (BODY_BYTES_MAX + 1), headers=JSON)),
    "headers too large": (431, "invalid_request_error", "headers_too_large", "invalid_request_error",
                          posted(headers={"X-Long": "a" * 33_000})),
    "body too slow": (408, "invalid_request_error", "request_timeout", "invalid_request_error", half_sent),
    "compressed": (415, "invalid_request_error", "unsupported_media_type", "invalid_request_error",
                   posted(headers={"Content-Encoding": "gzip"})),
    "content type": (415, "invalid_request_error", "unsupported_media_type", "invalid_request_error",
                     posted(body=b"model=x", headers={"Content-Type": "application/x-www-form-urlencoded"})),
    "no JSON": (400, "invalid_request_error", "invalid_json", "invalid_request_error",
                posted(body=b"{", headers=JSON)),
    "too deep": (400, "invalid_request_error", "invalid_json", "invalid_request_error",
                 posted(body=b'{"model":"chaos/ok","messages":' + b"[" * 100_000, headers=JSON)),
    "parameter": (400, "invalid_request_error", "invalid_parameter", "invalid_request_error",
                  posted(body={**GOOD, "stream": "yes"})),
    "the caller erred": (400, "upstream_error", "upstream_400", "invalid_request_error", scripted("status-400-json")),
    "upstream limit": (429, "upstream_error", "upstream_429", "rate_limit_error", scripted("status-429-json")),
    "our credential": (502, "upstream_error", "upstream_credential", "api_error", scripted("status-401-json")),
    "upstream failed": (502, "upstream_error", "upstream_failed", "api_error", scripted("status-500-html")),
    "unreachable": (502, "upstream_error", "upstream_unreachable", "api_error", scripted("ok", "refused")),
    "no first byte": (504, "timeout", "upstream_timeout", "timeout_error", scripted("silent")),
}  # fmt: skip
# Provoked in test_requests, test_envelopes, test_streams, test_draining, test_storage and test_limiting, and below.
ELSEWHERE = {"invalid_request", "plan_required", "stream_aborted", "draining", "storage_unavailable"} | {
    "internal_error",
    "requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day", "concurrency", "sandbox_limit",
    "limits_unavailable", "insufficient_credits", "quota_exceeded", "budget_exceeded", "idempotency_conflict",
    "idempotency_mismatch", "thread_unsupported_request", "previous_response_not_found", "invalid_stream_id",
    "websocket_stream_limit_reached",
}  # fmt: skip
# Codes that the upstream chose.
OF_THE_UPSTREAM = {"upstream_400", "upstream_429"}


def test_every_code_of_the_table_is_provoked_here_or_named_as_provoked_elsewhere() -> None:
    assert {row[2] for row in ROWS.values()} - OF_THE_UPSTREAM | {"upstream_rejected"} | ELSEWHERE >= set(TABLE)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_its_status_type_and_code(gateway: Gateway, name: str) -> None:
    status, kind, code, _, request = ROWS[name]
    answer = request(gateway)

    assert answer.status == status, answer.body[:300]
    assert (answer.error["type"], answer.error["code"]) == (kind, code)
    assert len(answer.error["message"]) > 10
    assert set(answer.error) <= {"message", "type", "code", "param", "upstream"}
    assert answer.header("x-aperture-region") == "test-1"
    assert answer.header("x-aperture-cost") == ("0.000000000" if answer.header("x-aperture-upstream") else "")
    assert len(answer.request_id) > 10
    assert answer.header("content-type") == "application/json"
    assert int(answer.header("content-length")) == len(answer.body)
    if status == 502:
        assert set(answer.error["upstream"]) == {"provider", "status", "body"}
    if status in (429, 503):
        assert int(answer.header("retry-after")) >= 1
    assert CREDENTIAL.encode() not in answer.body


ANTHROPIC = [name for name in ROWS if name not in ("headers too large", "body too slow")]


@pytest.mark.parametrize("name", ANTHROPIC)
def test_a_request_that_speaks_anthropics_dialect_gets_its_envelope(gateway: Gateway, name: str) -> None:
    status, _, _, kind, request = ROWS[name]
    answer = request(Speaking(gateway))  # type: ignore[arg-type]

    assert answer.status == status
    document = json.loads(answer.body)
    assert (document["type"], document["error"]["type"]) == ("error", kind)
    assert document["error"]["message"]
    assert document["request_id"] == answer.request_id


class Speaking:
    """A gateway as a client sees it that always sends `anthropic-version`."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.installed, self.port = gateway.installed, gateway.port

    def call(self, method: str, path: str, **options: Any) -> http.Answer:
        """Make one request."""
        headers = {"anthropic-version": "2023-06-01", **(options.pop("headers", None) or {})}
        return self.gateway.call(method, path, headers=headers, **options)

    def chat(self, scenario: str, *, key: str | None = None, provider: str = "chaos") -> http.Answer:
        """Ask for a chat completion."""
        return self.call("POST", CHAT, key=key, body=http.chat(f"{provider}/{scenario}"))


# `connection` tells whether the request's body was in when it was refused.
VARYING = ("date", "connection", "x-aperture-request-id", "x-request-id", "request-id")


def scrubbed(answer: http.Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return an answer without what differs from request to request."""
    headers = [(name, value) for name, value in answer.headers if name not in VARYING]
    return answer.status, headers, answer.body.replace(answer.request_id.encode(), b"ID")


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/v1/models", "/v1/auth/me"])
def test_keys_that_are_not_good_cannot_be_told_apart(gateway: Gateway, path: str) -> None:
    method = "GET" if path in ("/v1/models", "/v1/auth/me") else "POST"
    keys = [
        "", "x", "sg-", "sk-proj-1234567890", "sg-" + "a" * 36, "sg-" + "a" * 5000, "a key with spaces",
        gateway.installed.keys["unknown"], gateway.installed.keys["revoked"], gateway.installed.key[:-1],
        gateway.installed.key + "x", gateway.installed.key.upper(), "\u00e9\u00fc",
    ]  # fmt: skip
    answers = [gateway.call(method, path, key=key, body=GOOD if method == "POST" else None) for key in keys]

    assert {answer.status for answer in answers} == {401}
    for answer in answers:
        assert scrubbed(answer) == scrubbed(answers[0])
    assert len({answer.request_id for answer in answers}) == len(answers)


def test_models_that_are_unknown_or_not_granted_cannot_be_told_apart(gateway: Gateway) -> None:
    bob = gateway.installed.keys["bob"]
    not_granted = gateway.chat("repeats", key=bob)
    unknown = gateway.chat("rapeets", key=bob)

    assert not_granted.status == unknown.status == 404
    assert not_granted.error["message"].replace("repeats", "rapeets") == unknown.error["message"]
    assert "chaos/ok" in unknown.error["message"] or "Did you mean" not in unknown.error["message"]


def test_the_nearest_model_that_the_key_sees_is_offered(gateway: Gateway) -> None:
    assert "chaos/tool-call" in gateway.chat("tool-cal").error["message"]
    assert "chaos/tool-call" not in gateway.chat("tool-cal", key=gateway.installed.keys["bob"]).error["message"]


ORDER = [
    ("unknown path before method and key", "PUT", "/v1/nothing", "", 404),
    ("method before key", "PUT", CHAT, "", 405),
    ("key before content type, size and JSON", "POST", CHAT, "", 401),
    ("role before JSON", "POST", CHAT, "charlie", 403),
    ("JSON before model", "POST", CHAT, "bob", 400),
]


@pytest.mark.parametrize(("name", "method", "path", "key", "status"), ORDER, ids=[row[0] for row in ORDER])
def test_refusals_come_in_one_order(gateway: Gateway, name: str, method: str, path: str, key: str, status: int) -> None:
    clear = gateway.installed.keys[key] if key else ""
    answer = gateway.call(method, path, key=clear, body=b"{not json", headers=JSON)

    assert answer.status == status
    assert answer.error["code"]


def test_a_body_is_not_read_for_a_key_that_is_not_good(gateway: Gateway) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\nContent-Type: application/json\r\n\r\n"
    answer = http.parse(http.raw(gateway.port, head.encode() + b"{"))

    assert answer.status == 401
    assert answer.error["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("key", "model", "code"),
    [
        ("alice", "chaos/unknown-one", "model_not_found"),
        ("bob", "chaos/gzip", "model_not_found"),
        ("limited", "chaos/gzip", "model_not_allowed"),
        ("alice", "chaos/ok", "invalid_parameter"),
    ],
)
@pytest.mark.parametrize("fields", [{"stream": 5}, {"stream": True, "stream_options": 7}], ids=["stream", "options"])
def test_whether_a_model_may_be_called_comes_before_its_parameters(
    gateway: Gateway, key: str, model: str, code: str, fields: dict[str, object]
) -> None:
    answer = gateway.call("POST", CHAT, key=gateway.installed.keys[key], body={**http.chat(model), **fields})
    assert answer.error["code"] == code


@pytest.mark.parametrize(("key", "status"), [("elsewhere", 403), ("charlie", 403), ("alice", 413)])
def test_address_and_role_come_before_size(gateway: Gateway, key: str, status: int) -> None:
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: 900000000\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {gateway.installed.keys[key]}\r\n\r\n"
    )
    assert http.parse(http.raw(gateway.port, head.encode())).status == status


def test_405_names_the_methods_that_are_allowed(gateway: Gateway) -> None:
    assert gateway.call("GET", CHAT).header("allow") == "POST, OPTIONS"
    assert gateway.call("POST", "/v1/models").header("allow") == "GET, HEAD, OPTIONS"
    assert gateway.call("PATCH", "/v1/models/chaos/ok").header("allow") == "GET, HEAD, POST, OPTIONS"
    assert gateway.call("PUT", "/v1/responses/resp_1").header("allow") == "GET, HEAD, DELETE, POST, OPTIONS"


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_a_fault_of_our_own_is_a_500_that_tells_nothing_but_its_id(
    server: str, installation: Installation, engines: Path
) -> None:
    application = "tests.gateway.broken_app:application"
    with start_web(server, application, engines, DATABASE_URL=installation.database_url, **BOUNDS) as web:
        answer = http.call(web.port, "GET", "/v1/targets")
        assert http.call(web.port, "GET", "/v1/models", key=installation.key).status == 200
        log = web.log

    assert answer.status == 500
    assert (answer.error["type"], answer.error["code"]) == ("server_error", "internal_error")
    assert b"ZeroDivisionError" not in answer.body
    assert b"sk-inside" not in answer.body
    assert answer.header("x-aperture-region") == "test-1"
    assert answer.request_id in log
