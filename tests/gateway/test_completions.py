"""The old completions: a text in, a text out, on every upstream."""

import json
from typing import Any

import pytest

from tests.gateway import fronts, http
from tests.gateway.conftest import Gateway
from tests.gateway.fronts import COST_NANOS, FRONTS, TEXT
from tests.gateway.installation import CREDENTIAL

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def vendors(gateway: Gateway) -> None:
    """Four providers of one dialect each."""
    fronts.install(gateway)


def complete(gateway: Gateway, model: str, **fields: Any) -> http.Answer:
    """Ask for a completion."""
    return gateway.call("POST", "/v1/completions", body={"model": model, "prompt": "hello", **fields})


@pytest.mark.parametrize("vendor", FRONTS)
def test_a_text_is_completed_and_charged(gateway: Gateway, vendor: str) -> None:
    answer = complete(gateway, f"{vendor}/agent", max_tokens=50)

    assert answer.status == 200, answer.body
    found = answer.json
    assert (found["object"], found["model"]) == ("text_completion", f"{vendor}/agent")
    assert (found["choices"][0]["text"], found["choices"][0]["finish_reason"]) == (TEXT, "stop")
    assert found["usage"]["completion_tokens"] == 7
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["dialect"], row["cost_nanos"]) == ("openai_completions", COST_NANOS)


@pytest.mark.parametrize("vendor", FRONTS)
def test_a_stream_of_it(gateway: Gateway, vendor: str) -> None:
    answer = complete(gateway, f"{vendor}/agent", stream=True, stream_options={"include_usage": True})

    *events, done = http.events(answer.body)
    assert done == b"[DONE]"
    chunks = [json.loads(event) for event in events]
    assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]) == TEXT
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert chunks[-1]["usage"]["completion_tokens"] == 7
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["status"], row["cost_nanos"]) == (200, COST_NANOS)


def test_without_a_wish_for_usage_a_stream_has_none(gateway: Gateway) -> None:
    assert b'"completion_tokens"' not in complete(gateway, "chat/agent", stream=True).body


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"model": 1}, "model"),
    ],
)
def test_what_no_chat_can_complete_is_refused(gateway: Gateway, fields: dict[str, Any], param: str) -> None:
    before = len(gateway.upstream.exchanges)
    answer = gateway.call("POST", "/v1/completions", body={"model": "chat/agent", "prompt": "hello", **fields})
    assert (answer.status, answer.error["param"]) == (400, param)
    assert len(gateway.upstream.exchanges) == before


@pytest.mark.parametrize("vendor", FRONTS)
def test_a_stream_of_it_that_breaks_has_no_end(gateway: Gateway, vendor: str) -> None:
    answer = complete(gateway, f"{vendor}/cut-well", stream=True)
    assert b"[DONE]" not in answer.body
    assert b"stream_aborted" in answer.body or answer.status == 502
    assert CREDENTIAL.encode() not in answer.body


def test_an_upstreams_refusal_is_told(gateway: Gateway) -> None:
    answer = complete(gateway, "messages/status-400-json")
    assert (answer.status, answer.error["type"]) == (400, "upstream_error")
    assert complete(gateway, "chat/status-500-json").error["code"] == "upstream_failed"
