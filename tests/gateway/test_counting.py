"""Tokens counted before they are spent: by the vendor where it counts, estimated and marked as such where not."""

from typing import Any

import pytest

from tests.gateway import fronts, http
from tests.gateway.conftest import Gateway
from tests.gateway.fronts import FRONTS, body_of, error_of
from tests.gateway.installation import CREDENTIAL

pytestmark = pytest.mark.server

ANTHROPIC = "/v1/messages/count_tokens"
TEXT = "The quick brown fox jumps over the lazy dog. " * 20


@pytest.fixture(scope="module", autouse=True)
def vendors(gateway: Gateway) -> int:
    """Four providers of one dialect each, and somebody with nothing."""
    fronts.install(gateway)
    return fronts.payer(gateway, "poor", 0)


def anthropic(gateway: Gateway, model: str, **options: Any) -> http.Answer:
    """Count as Anthropic's clients do: without `max_tokens`."""
    body = body_of("messages", model, TEXT)
    del body["max_tokens"]
    return gateway.call("POST", ANTHROPIC + "?beta=true", body=body, **options)


def google(gateway: Gateway, model: str, body: Any = None, **options: Any) -> http.Answer:
    """Count as Google's clients do."""
    return gateway.call(
        "POST", f"/v1beta/models/{model}:countTokens", body=body or body_of("gemini", model, TEXT), **options
    )


def test_anthropic_counts_for_its_own_callers(gateway: Gateway) -> None:
    rows = gateway.installed.usage_count()
    answer = anthropic(gateway, "messages/agent", headers={"anthropic-beta": "context-1m-2025-08-07"})

    sent = gateway.upstream.last("agent")
    assert sent.path.partition("?")[0] == "/v1/messages/count_tokens"
    assert sent.header("anthropic-version") == "2023-06-01"
    assert sent.header("anthropic-beta") == "context-1m-2025-08-07"
    assert answer.status == 200
    assert answer.body == bytes(sent.payload)
    assert answer.header("x-aperture-estimate") == ""
    assert answer.header("x-aperture-upstream") == "messages"
    assert gateway.installed.usage_count() == rows


def test_google_counts_for_its_own_callers(gateway: Gateway) -> None:
    answer = google(gateway, "gemini/agent")

    sent = fronts.sent_to(gateway, "gemini", "agent")
    assert sent.path.partition("?")[0] == "/v1beta/models/gemini-3-agent:countTokens"
    assert answer.body == bytes(sent.payload)
    assert answer.header("x-aperture-estimate") == ""
    inside = google(gateway, "gemini/agent", {"generateContentRequest": body_of("gemini", "", TEXT)})
    assert inside.json["totalTokens"] > 100


@pytest.mark.parametrize("vendor", FRONTS)
def test_others_are_estimated_and_it_says_so(gateway: Gateway, vendor: str) -> None:
    before = len(gateway.upstream.exchanges)
    counts = []
    if vendor != "messages":
        answer = anthropic(gateway, f"{vendor}/agent")
        assert answer.header("x-aperture-estimate") == "true"
        assert set(answer.json) == {"input_tokens"}
        counts.append(answer.json["input_tokens"])
    if vendor != "gemini":
        answer = google(gateway, f"{vendor}/agent")
        assert answer.header("x-aperture-estimate") == "true"
        assert set(answer.json) == {"totalTokens"}
        counts.append(answer.json["totalTokens"])
    assert len(gateway.upstream.exchanges) == before
    # 200 words, by OpenAI's tokenizers 201 tokens: never below, and not beyond twice.
    assert all(200 <= count <= 400 for count in counts)


def test_a_vendor_that_is_away_is_not_guessed_for(gateway: Gateway) -> None:
    """An estimate where the vendor's own count is wanted would be another number from one request to the next."""
    statement = "UPDATE catalog_provider SET flags = %s WHERE slug = 'refused' RETURNING 1"
    gateway.installed.query(statement, ["anthropic_messages"])
    gateway.follow()
    try:
        away = anthropic(gateway, "refused/ok")
        assert (away.status, error_of("messages", away)[0]) == (502, "upstream_unreachable")
        assert CREDENTIAL.encode() not in away.body
    finally:
        gateway.installed.query(statement, ["openai_chat"])
        gateway.follow()


def test_counting_costs_nothing_and_needs_no_credit(gateway: Gateway, vendors: int) -> None:
    key = gateway.installed.keys["poor"]
    assert anthropic(gateway, "messages/agent", key=key).status == 200
    assert google(gateway, "gemini/agent", key=key).status == 200
    assert gateway.installed.balance(vendors) == (0, 0)


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"key": ""}, 401, "invalid_api_key"),
        ({"body": b"{", "headers": {"Content-Type": "application/json"}}, 400, "invalid_json"),
        ({"body": {"model": "none/such", "messages": []}}, 404, "model_not_found"),
        ({"body": {"messages": []}}, 400, "invalid_parameter"),
    ],
    ids=["key", "json", "model", "no model"],
)
def test_what_is_refused_elsewhere_is_refused_here(
    gateway: Gateway, options: dict[str, Any], status: int, code: str
) -> None:
    answer = gateway.call("POST", ANTHROPIC, **{"body": body_of("messages", "messages/agent"), **options})
    assert (answer.status, error_of("messages", answer)[0]) == (status, code)


def test_google_is_refused_in_its_own_envelope(gateway: Gateway) -> None:
    answer = google(gateway, "none/such")
    assert (answer.status, error_of("gemini", answer)[0]) == (404, "model_not_found")
