"""Which headers of a caller an upstream gets, how it is shown its credential, and where callers show their key."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.gateway import fronts, http
from tests.gateway.conftest import Gateway
from tests.gateway.fronts import FRONTS, ask, body_of, path_of
from tests.gateway.installation import CREDENTIAL

pytestmark = pytest.mark.server

VENDORS_OWN = {
    "openai-beta": "assistants=v2",
    "anthropic-beta": "context-1m-2025-08-07,interleaved-thinking-2025-05-14",
    "anthropic-version": "2023-01-01",
}
NEVER = {
    "x-forwarded-for": "198.51.100.7",
    "cookie": "session=1",
    "x-api-key": "sk-mine",
    "x-goog-api-key": "mine",
    "openai-organization": "org-1",
    "traceparent": "00-1-1-01",
    "x-stainless-lang": "python",
    "accept-encoding": "gzip",
    "user-agent": "somebody/1.0",
}


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest) -> str:
    """Headers and upgrades are each server's own affair: both."""
    return str(request.param)


@pytest.fixture(scope="module", autouse=True)
def vendors(gateway: Gateway) -> None:
    """Four providers of one dialect each."""
    fronts.install(gateway)


@contextmanager
def forwarding(gateway: Gateway, slug: str, *entries: str) -> Iterator[None]:
    """Let an operator edit a provider's list for the length of the block."""
    statement = "UPDATE catalog_provider SET forward_headers = %s WHERE slug = %s RETURNING 1"
    [before] = gateway.installed.query("SELECT forward_headers AS found FROM catalog_provider WHERE slug = %s", slug)
    gateway.installed.query(statement, list(entries), slug)
    gateway.follow()
    try:
        yield
    finally:
        gateway.installed.query(statement, before["found"], slug)
        gateway.follow()


@pytest.mark.parametrize("front", FRONTS)
def test_the_listed_headers_go_to_an_upstream_of_the_same_dialect_and_no_others(gateway: Gateway, front: str) -> None:
    answer = ask(gateway, front, f"{front}/ok", headers=VENDORS_OWN | NEVER)

    assert answer.status == 200, answer.body
    sent = gateway.upstream.last("ok")
    for name, value in VENDORS_OWN.items():
        assert sent.header(name) == value
    for name, value in NEVER.items():
        assert sent.header(name) != value
    assert gateway.installed.key not in str(sent.headers)


@pytest.mark.parametrize("front", FRONTS)
def test_none_of_them_goes_to_another_dialects_upstream(gateway: Gateway, front: str) -> None:
    for vendor in FRONTS:
        if vendor == front:
            continue
        ask(gateway, front, f"{vendor}/agent", headers=VENDORS_OWN | NEVER)
        sent = fronts.sent_to(gateway, vendor, "agent")
        assert sent.header("openai-beta") == ""
        assert sent.header("anthropic-beta") == ""
        assert sent.header("anthropic-version") == ("2023-06-01" if vendor == "messages" else "")


def test_an_upstream_of_anthropics_dialect_always_gets_a_version(gateway: Gateway) -> None:
    ask(gateway, "messages", "messages/ok")
    assert gateway.upstream.last("ok").header("anthropic-version") == "2023-06-01"


def test_an_operators_list_is_what_counts(gateway: Gateway) -> None:
    with forwarding(gateway, "messages", "X-Own", "anthropic-beta: context-* files-api-*"):
        beta = "context-1m-2025-08-07, interleaved-thinking-2025-05-14,files-api-2025-04-14"
        ask(gateway, "messages", "messages/ok", headers={"x-own": "1", "anthropic-beta": beta})
        sent = gateway.upstream.last("ok")
        assert sent.header("x-own") == "1"
        assert sent.header("anthropic-beta").replace(" ", "") == "context-1m-2025-08-07,files-api-2025-04-14"
        ask(gateway, "messages", "messages/ok", headers={"anthropic-beta": "interleaved-thinking-2025-05-14"})
        assert "anthropic-beta" not in dict(gateway.upstream.last("ok").headers)
    with forwarding(gateway, "chat"):
        ask(gateway, "chat", "chat/ok", headers=VENDORS_OWN)
        assert gateway.upstream.last("ok").header("openai-beta") == ""


def test_each_upstream_is_shown_its_credential_once(gateway: Gateway) -> None:
    for front in FRONTS:
        ask(gateway, front, f"{front}/ok")
        sent = gateway.upstream.last("ok")
        assert str(sent.headers).count(CREDENTIAL) == 1
        assert CREDENTIAL not in sent.path


# --- A caller's key ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("front", FRONTS)
def test_a_key_is_taken_wherever_a_vendors_client_puts_it(gateway: Gateway, front: str) -> None:
    path, body, key = path_of(front, f"{front}/ok"), body_of(front, f"{front}/ok"), gateway.installed.key
    shown: list[dict[str, str]] = [{"Authorization": f"Bearer {key}"}, {"x-api-key": key}, {"x-goog-api-key": key}]
    for headers in shown:
        assert gateway.call("POST", path, key="", body=body, headers=headers).status == 200
    assert gateway.call("POST", f"{path}?key={key}", key="", body=body).status == 200
    assert key not in gateway.web.log
    assert key not in gateway.upstream.last("ok").path
    assert gateway.call("POST", f"{path}?key=sg-wrong", key="", body=body).status == 401


@pytest.mark.parametrize("path", ["/v1/models", "/v1beta/models", "/v1/auth/me", "/v1/responses/resp_unknown"])
def test_so_it_is_on_every_other_route(gateway: Gateway, path: str) -> None:
    key = gateway.installed.key
    wanted = 404 if "unknown" in path else 200
    for headers in ({"x-api-key": key}, {"x-goog-api-key": key}):
        assert gateway.call("GET", path, key="", headers=headers).status == wanted
    assert gateway.call("GET", f"{path}?key={key}", key="").status == wanted
    assert gateway.call("GET", path, key="").status == 401


# --- What clients look for --------------------------------------------------------------------------------------------
def test_the_list_of_models_has_the_shape_of_who_asks(gateway: Gateway) -> None:
    openai = gateway.call("GET", "/v1/models").json
    assert (openai["object"], openai["data"][0]["object"]) == ("list", "model")
    anthropic = gateway.call("GET", "/v1/models", headers={"anthropic-version": "2023-06-01"}).json
    assert {"data", "has_more", "first_id", "last_id"} == set(anthropic)
    one = next(model for model in anthropic["data"] if model["id"] == "messages/ok")
    assert (one["type"], one["display_name"], one["created_at"][-1]) == ("model", "messages/ok", "Z")
    google = gateway.call("GET", "/v1beta/models").json["models"]
    assert {len(google)} == {len(openai["data"])} == {len(anthropic["data"])}
    assert "models/gemini/ok" in {model["name"] for model in google}


def test_one_model_has_the_shape_of_who_asks(gateway: Gateway) -> None:
    assert gateway.call("GET", "/v1/models/messages/ok").json["object"] == "model"
    anthropic = gateway.call("GET", "/v1/models/messages/ok", headers={"anthropic-version": "2023-06-01"}).json
    assert (anthropic["type"], anthropic["id"]) == ("model", "messages/ok")
    google = gateway.call("GET", "/v1beta/models/gemini/ok").json
    assert google["name"] == "models/gemini/ok"
    assert "generateContent" in google["supportedGenerationMethods"]
    unknown = gateway.call("GET", "/v1beta/models/none/such")
    assert (unknown.status, fronts.error_of("gemini", unknown)[0]) == (404, "model_not_found")


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/"), ("HEAD", "/api/hello"), ("GET", "/api/hello")])
def test_claude_codes_probes_find_somebody(gateway: Gateway, method: str, path: str) -> None:
    answer = gateway.call(method, path, key="")
    assert answer.status == 200
    assert answer.header("x-aperture-request-id")
    assert (answer.body == b"") == (method == "HEAD")


def test_claude_codes_first_request_is_answered(gateway: Gateway) -> None:
    """What it asks before anything else: one token about "quota", with its beta flags."""
    answer = gateway.call(
        "POST",
        "/v1/messages?beta=true",
        key="",
        body={"model": "messages/agent", "max_tokens": 1, "messages": [{"role": "user", "content": "quota"}],
              "metadata": {"user_id": "user_1"}},
        headers={
            "Authorization": f"Bearer {gateway.installed.key}",
            "anthropic-version": "2023-06-01",
            "anthropic-beta": "claude-code-20250219,oauth-2025-04-20",
            "anthropic-dangerous-direct-browser-access": "true",
            "x-app": "cli",
            "user-agent": "claude-cli/2.0.0 (external, cli)",
        },
    )  # fmt: skip
    assert answer.status == 200, answer.body
    assert answer.json["type"] == "message"


@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
def test_every_front_is_below_both_bases(gateway: Gateway, base: str) -> None:
    for front in ("chat", "responses", "messages"):
        path = path_of(front, "chat/agent", base=base)
        assert gateway.call("POST", path, body=body_of(front, "chat/agent")).status == 200
    path = f"{base}/models/chat/agent"
    assert gateway.call("POST", f"{path}:generateContent", body=body_of("gemini", "")).status == 200
    streamed = gateway.call("POST", f"{path}:streamGenerateContent", body=body_of("gemini", ""))
    assert streamed.header("content-type").startswith("application/json")
    assert "".join(fronts.said_whole("gemini", chunk) for chunk in streamed.json) == fronts.TEXT


@pytest.mark.parametrize("vendor", FRONTS)
def test_geminis_stream_without_sse_is_one_json_array(gateway: Gateway, vendor: str) -> None:
    path = f"/v1beta/models/{vendor}/agent:streamGenerateContent"
    answer = gateway.call("POST", path, body=body_of("gemini", ""))
    assert answer.status == 200
    assert "".join(fronts.said_whole("gemini", chunk) for chunk in answer.json) == fronts.TEXT
    broken = gateway.call("POST", path.replace("agent", "error-mid-stream"), body=body_of("gemini", ""))
    # Until a vendor has said something the client can still be told by the status.
    found = broken.json if broken.status == 502 else broken.json[-1]
    assert found["error"]["code"] == 502
    assert (broken.status == 502) == (vendor in ("responses", "messages"))


# --- WebSockets -------------------------------------------------------------------------------------------------------
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
)


@pytest.mark.parametrize(("path", "status"), [("/v1/messages", 426), ("/api/v1/embeddings", 426), ("/v1/none", 404)])
def test_a_websocket_at_a_path_of_http_is_refused_at_once(gateway: Gateway, path: str, status: int) -> None:
    more = f"Authorization: Bearer {gateway.installed.key}\r\n"
    answer = http.parse(http.raw(gateway.port, UPGRADE.format(path=path, more=more).encode()))
    assert answer.status == status
    assert answer.error["code"] == ("websocket_upgrade_required" if status == 426 else "not_found")


def test_a_plain_get_is_told_what_to_do_instead(gateway: Gateway) -> None:
    answer = gateway.call("GET", "/v1/responses")
    assert (answer.status, answer.error["code"]) == (426, "websocket_upgrade_required")
    assert "POST" in answer.error["message"]
