"""Errors as the callers of each front expect them: before an answer, within a stream, and for want of money."""

import json
from typing import Any

import pytest

from gateway.errors import TABLE
from tests.gateway import fronts, http
from tests.gateway.conftest import BODY_BYTES_MAX, Gateway
from tests.gateway.fronts import FRONTS, ask, body_of, error_of, path_of
from tests.gateway.installation import CREDENTIAL

pytestmark = pytest.mark.server

JSON = {"Content-Type": "application/json"}
EACH_FRONT = pytest.mark.parametrize("front", FRONTS)
PAIRS = [(front, vendor) for front in FRONTS for vendor in FRONTS]


@pytest.fixture(scope="module", autouse=True)
def vendors(gateway: Gateway) -> None:
    """Four providers of one dialect each, and people who lack something."""
    fronts.install(gateway)
    fronts.payer(gateway, "poor", 0)
    fronts.payer(gateway, "free", 10**9, plan="free")
    fronts.payer(gateway, "payer", 10**9)


# --- Before an answer -------------------------------------------------------------------------------------------------
def sent(front: str, model: str = "{}/ok", **options: Any) -> Any:
    """Return a request to a front, changed by OPTIONS."""

    def call(gateway: Gateway) -> http.Answer:
        model_of_front = model.format(front)
        given = {"body": body_of(front, model_of_front)} | options
        key = given.pop("key", "alice")
        given["key"] = gateway.installed.keys.get(str(key), key)
        return gateway.call("POST", path_of(front, model_of_front), **given)

    return call


# The scripted chat upstream says of its limit nothing but that it is reached.
RETRY_AFTER_S = {"chat": 1}
CASES: dict[str, tuple[int, str, dict[str, Any]]] = {
    "no key": (401, "invalid_api_key", {"key": ""}),
    "unknown key": (401, "invalid_api_key", {"key": "unknown"}),
    "revoked key": (401, "invalid_api_key", {"key": "revoked"}),
    "expired key": (401, "api_key_expired", {"key": "expired"}),
    "address": (403, "ip_restricted", {"key": "elsewhere"}),
    "no role": (403, "no_role_granted", {"key": "charlie"}),
    "outside the key": (403, "model_not_allowed", {"key": "limited"}),
    "unknown model": (404, "model_not_found", {"model": "none/such"}),
    "too large": (413, "request_too_large", {"body": b" " * (BODY_BYTES_MAX + 1), "headers": JSON}),
    "compressed": (415, "unsupported_media_type", {"headers": {"Content-Encoding": "gzip"}}),
    "no JSON": (400, "invalid_json", {"body": b"{", "headers": JSON}),
    "the caller erred": (400, "", {"model": "{}/status-400-json"}),
    "upstream limit": (429, "", {"model": "{}/status-429-json"}),
    "our credential": (502, "upstream_credential", {"model": "{}/status-401-json"}),
    "upstream failed": (502, "upstream_failed", {"model": "{}/status-500-json"}),
    "unreachable": (502, "upstream_unreachable", {"model": "refused/ok"}),
    "no money": (402, "insufficient_credits", {"key": "poor"}),
    "no first byte": (504, "upstream_timeout", {"model": "chaos/silent"}),
}


@EACH_FRONT
@pytest.mark.parametrize("name", CASES)
def test_an_error_comes_in_the_fronts_own_envelope(gateway: Gateway, front: str, name: str) -> None:
    status, code, options = CASES[name]
    answer = sent(front, **options)(gateway)

    assert answer.status == status, answer.body[:500]
    found, message = error_of(front, answer)
    assert found == code or not code
    assert len(message) > 10
    assert answer.header("x-aperture-region") == "test-1"
    assert CREDENTIAL.encode() not in answer.body
    if code and front in ("messages", "gemini"):
        row, error = TABLE[code], answer.json["error"]
        assert error["type" if front == "messages" else "status"] == (
            row.anthropic if front == "messages" else row.google
        )
    if status == 429:
        assert int(answer.header("retry-after")) == RETRY_AFTER_S.get(front, 5)
    if status == 502:
        assert set(answer.json["error"]["upstream"]) == {"provider", "status", "body"}


@pytest.mark.parametrize(("front", "vendor"), PAIRS)
def test_what_an_upstream_says_of_the_callers_mistake_is_told_in_the_callers_envelope(
    gateway: Gateway, front: str, vendor: str
) -> None:
    for stream in (False, True):
        answer = ask(gateway, front, f"{vendor}/status-400-json", stream=stream)
        assert answer.status == 400
        assert "scripted 400" in error_of(front, answer)[1]
        assert CREDENTIAL.encode() not in answer.body
        limited = ask(gateway, front, f"{vendor}/status-429-json", stream=stream)
        assert (limited.status, int(limited.header("retry-after"))) == (429, RETRY_AFTER_S.get(vendor, 5))
        error_of(front, limited)


PATHS = {
    "chat": ("/v1/chat/nothing", "/v1/chat/completions"),
    "responses": ("/v1/response", "/v1/responses"),
    "messages": ("/v1/messages/nothing", "/v1/messages"),
    "gemini": ("/v1beta/nothing", "/v1beta/models/chat/ok:generateContent"),
}


@EACH_FRONT
def test_a_path_or_method_that_is_not_there_is_told_in_the_fronts_envelope(gateway: Gateway, front: str) -> None:
    unknown, known = PATHS[front]
    assert error_of(front, gateway.call("GET", unknown))[0] == "not_found"
    answer = gateway.call("PUT", known)
    assert (answer.status, error_of(front, answer)[0]) == (405, "method_not_allowed")
    assert "POST" in answer.header("allow")


def test_anthropics_endpoint_is_for_plans_that_have_it(gateway: Gateway) -> None:
    key, before = gateway.installed.keys["free"], len(gateway.upstream.exchanges)
    answer = ask(gateway, "messages", "messages/ok", key=key)

    assert answer.status == 403
    code, message = error_of("messages", answer)
    assert (code, answer.json["error"]["type"]) == ("plan_required", "permission_error")
    assert "Pro" in message
    assert "Enterprise" in message
    assert len(gateway.upstream.exchanges) == before
    counted = gateway.call("POST", "/v1/messages/count_tokens", key=key, body=body_of("messages", "messages/ok"))
    assert (counted.status, error_of("messages", counted)[0]) == (403, "plan_required")
    # The model itself is on sale, and who is not metered has every route.
    for front in ("chat", "responses", "gemini"):
        assert ask(gateway, front, "messages/ok", key=key).status == 200
    assert ask(gateway, "messages", "messages/ok").status == 200


KEPT: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
    "responses": {"input": [{"type": "item_reference", "id": "msg_1"}]},
    "messages": {"container": "container_1"},
    "gemini": {"cachedContent": "cachedContents/1"},
}


@pytest.mark.parametrize("front", KEPT)
def test_no_customer_reaches_what_is_kept_in_the_operators_account(gateway: Gateway, front: str) -> None:
    """As Portkey's and LiteLLM's callers could: files and threads of other customers, by their ids."""
    key, upstream = gateway.installed.keys["payer"], f"{front}/ok"
    before = len(gateway.upstream.exchanges)
    body = body_of(front, upstream) | KEPT[front]
    refused = gateway.call("POST", path_of(front, upstream), key=key, body=body)
    assert (refused.status, error_of(front, refused)[0]) == (400, "unsupported_content")
    assert len(gateway.upstream.exchanges) == before
    # The team whose account it is may name what it likes.
    assert gateway.call("POST", path_of(front, upstream), body=body).status == 200


# --- Within a stream --------------------------------------------------------------------------------------------------
def ending_of(front: str, body: bytes) -> dict[str, Any]:
    """Return the error with which a stream ends; fail where it claims to be complete, or is another front's."""
    assert b"[DONE]" not in body
    last = json.loads(http.events(body)[-1])
    if front == "responses":
        assert last["type"] in ("error", "response.failed")
        found = last["response"]["error"] if last["type"] == "response.failed" else last
    else:
        if front == "messages":
            assert last["type"] == "error"
            assert b"event: error\n" in body
        found = last["error"]
    assert b"message_stop" not in body
    assert b"response.completed" not in body
    assert found["message"]
    return dict(found)


BROKEN = ("reset-mid-3", "cut-json", "cut-well", "error-mid-stream", "rubbish-mid-stream")


# Gemini's answer is whole after three events.
WHOLE_BY_THEN = ("gemini", ("reset-mid-3", "rubbish-mid-stream"))
BREAKS = [
    (*pair, scenario)
    for pair in PAIRS
    for scenario in BROKEN
    if pair[1] != WHOLE_BY_THEN[0] or scenario not in WHOLE_BY_THEN[1]
]


@pytest.mark.parametrize(("front", "vendor", "scenario"), BREAKS)
def test_a_stream_that_breaks_ends_with_an_error_of_the_front(
    gateway: Gateway, front: str, vendor: str, scenario: str
) -> None:
    answer = ask(gateway, front, f"{vendor}/{scenario}", stream=True)

    [row] = gateway.installed.usage(answer.request_id)
    assert CREDENTIAL.encode() not in answer.body
    if front == vendor and scenario == "rubbish-mid-stream":
        # Of its own dialect whatever is there passes.
        assert fronts.is_complete(front, answer.body)
        assert row["status"] == 200
        return
    if answer.status != 200:
        # The client had nothing yet.
        assert (answer.status, error_of(front, answer)[0]) == (502, "upstream_failed")
        assert (row["status"], row["cost_nanos"]) == (502, 0)
        return
    ending_of(front, answer.body)
    assert b"stream_aborted" in answer.body
    assert (row["status"], row["error_code"]) == (502, "stream_aborted")
    assert row["usage_source"] in ("partial", "none")
    assert (row["cost_nanos"] > 0) == (row["usage_source"] == "partial")


@pytest.mark.parametrize(("front", "vendor"), PAIRS)
def test_an_error_in_place_of_a_stream_is_an_http_error_and_costs_nothing(
    gateway: Gateway, front: str, vendor: str
) -> None:
    answer = ask(gateway, front, f"{vendor}/error-first-event", stream=True)

    assert (answer.status, error_of(front, answer)[0]) == (502, "upstream_failed")
    assert CREDENTIAL.encode() not in answer.body
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["status"], row["cost_nanos"]) == (502, 0)


@pytest.mark.parametrize(("front", "vendor"), [*zip(FRONTS, FRONTS, strict=True), ("messages", "chat")])
def test_a_stream_that_falls_silent_is_kept_alive_and_then_given_up(gateway: Gateway, front: str, vendor: str) -> None:
    answer = ask(gateway, front, f"{vendor}/stall-mid-stream", stream=True)

    assert answer.status == 200
    assert b": keep-alive\n\n" in answer.body
    assert "fell silent" in ending_of(front, answer.body)["message"]
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["status"], row["error_code"]) == (504, "upstream_timeout")


# --- For want of money ------------------------------------------------------------------------------------------------
CUTS = {
    "chat": b'"finish_reason":"length"',
    "responses": b'"reason":"max_output_tokens"',
    "messages": b'"stop_reason":"max_tokens"',
    "gemini": b'"finishReason":"MAX_TOKENS"',
}


@EACH_FRONT
def test_a_stream_whose_wallet_is_empty_ends_for_its_length_and_says_why(gateway: Gateway, front: str) -> None:
    """The model never ends, whatever it was asked for: it is cut at twice what the balance pays."""
    fronts.payer(gateway, f"short-{front}", 500_000)
    key = gateway.installed.keys[f"short-{front}"]
    limit: dict[str, Any] = {"max_tokens": 20} if front == "messages" else {}
    answer = ask(gateway, front, "chaos/endless", stream=True, key=key, **limit)

    assert answer.status == 200, answer.body
    assert b"insufficient_credits" in answer.body
    assert CUTS[front] in answer.body
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["status"], row["error_code"], row["usage_source"]) == (402, "insufficient_credits", "partial")
    posted, held = gateway.installed.balance(row["organization_id"])
    assert held == 0
    assert posted < 500_000


CAPS = {
    "chat": lambda body: body["max_tokens"],
    "responses": lambda body: body["max_output_tokens"],
    "gemini": lambda body: body["generationConfig"]["maxOutputTokens"],
    "messages": lambda body: body["max_tokens"],
}


@pytest.mark.parametrize(("front", "vendor"), [pair for pair in PAIRS if pair[0] != "messages"])
def test_without_a_limit_a_small_balance_caps_the_answer_under_the_upstreams_own_name(
    gateway: Gateway, front: str, vendor: str
) -> None:
    name = f"small-{front}-{vendor}"
    fronts.payer(gateway, name, 2_000_000)
    answer = ask(gateway, front, f"{vendor}/agent", key=gateway.installed.keys[name])

    assert answer.status == 200, answer.body
    capped = int(answer.header("x-aperture-max-tokens"))
    assert 16 <= capped <= 200
    assert CAPS[vendor](fronts.sent_to(gateway, vendor, "agent").json) == capped


def test_a_limit_that_the_balance_does_not_pay_is_a_402_in_anthropics_envelope(gateway: Gateway) -> None:
    fronts.payer(gateway, "limit", 1_000_000)
    answer = ask(gateway, "messages", "chat/agent", key=gateway.installed.keys["limit"])
    assert (answer.status, answer.json["error"]["type"]) == (402, "billing_error")
    assert "tokens" in error_of("messages", answer)[1]


@EACH_FRONT
def test_an_idempotency_key_answers_and_charges_once_on_every_front(gateway: Gateway, front: str) -> None:
    headers, key = {"Idempotency-Key": f"once-{front}"}, gateway.installed.keys["payer"]
    first = ask(gateway, front, f"{front}/agent", headers=headers, key=key)
    again = ask(gateway, front, f"{front}/agent", headers=headers, key=key)
    other = ask(gateway, front, f"{front}/agent", "another", headers=headers, key=key)

    assert first.status == 200
    assert (again.status, error_of(front, again)[0]) == (409, "idempotency_conflict")
    assert (other.status, error_of(front, other)[0]) == (422, "idempotency_mismatch")


@pytest.mark.parametrize("vendor", FRONTS)
def test_an_array_stays_json_while_its_upstream_is_silent(gateway: Gateway, vendor: str) -> None:
    path = f"/v1beta/models/{vendor}/stall-mid-stream:streamGenerateContent"
    answer = gateway.call("POST", path, body=body_of("gemini", ""))

    assert answer.status == 200
    *_, error = answer.json
    assert "fell silent" in error["error"]["message"]
    assert b"\n\n\n" in answer.body
