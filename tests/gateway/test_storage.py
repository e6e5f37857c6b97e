"""What callers get while the database is away, and what of it is written down when it is back."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway import http
from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.server

CHAT = "/v1/chat/completions"


def recovered(gateway: Gateway) -> None:
    """Wait until requests are served again."""
    gateway.upstream.wait(lambda: gateway.chat("ok").status == 200, timeout_s=10)


def test_requests_are_refused_before_the_upstream_is_called(gateway: Gateway) -> None:
    assert gateway.chat("ok").status == 200
    with gateway.installed.database_away():
        gateway.upstream.wait(lambda: gateway.chat("repeats").status == 503)
        calls = len(gateway.upstream.exchanges)
        for answer in (gateway.chat("ok"), gateway.stream("ok"), gateway.call("GET", "/v1/models")):
            assert answer.status == 503
            assert (answer.error["type"], answer.error["code"]) == ("service_unavailable", "storage_unavailable")
            assert int(answer.header("retry-after")) >= 1
        assert len(gateway.upstream.exchanges) == calls
        assert gateway.call("GET", "/health", key="").status == 200
        assert gateway.call("GET", "/health?verbose=1", key="").json["engines"]["postgresql"] == "down"
    recovered(gateway)


def test_a_request_that_cannot_be_held_is_refused_before_the_upstream_is_called(gateway: Gateway) -> None:
    assert gateway.chat("ok").status == 200
    calls = len(gateway.upstream.exchanges)
    with gateway.installed.database_away():
        # The first one in is still admitted from memory.
        answer = gateway.chat("repeats")
        assert (answer.status, answer.error["code"]) == (503, "storage_unavailable")
        assert len(gateway.upstream.exchanges) == calls
    recovered(gateway)
    assert gateway.installed.usage(answer.request_id) == []


def test_an_answer_that_cannot_be_settled_is_withheld_and_free(gateway: Gateway) -> None:
    calls = len(gateway.upstream.exchanges)
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(gateway.chat, "slow-first-byte-0.3")
        gateway.upstream.wait(lambda: len(gateway.upstream.exchanges) > calls)
        with gateway.installed.database_away():
            answer = asking.result()
    assert (answer.status, answer.error["code"]) == (503, "storage_unavailable")
    recovered(gateway)

    [row] = gateway.installed.usage(answer.request_id)
    assert (row["status"], row["error_code"], row["charge_nanos"]) == (503, "storage_unavailable", 0)
    # The house pays for what it asked for.
    assert row["cost_nanos"] > 0


def test_a_stream_that_cannot_be_settled_ends_with_an_error_and_is_charged_later(gateway: Gateway) -> None:
    body = http.chat("chaos/drip-0.1", stream=True)
    with http.opened(gateway.port, "POST", CHAT, key=gateway.installed.key, body=body) as response:
        received = response.read1(65_536)
        with gateway.installed.database_away():
            received += response.read()
        request_id = response.getheader("x-aperture-request-id") or ""
    recovered(gateway)

    *_, last = http.events(received)
    assert json.loads(last)["error"]["code"] == "storage_unavailable"
    assert b"[DONE]" not in received
    assert received.count(b'"content":"piece') == 5
    [row] = gateway.installed.usage(request_id)
    assert (row["output_tokens"], row["usage_source"]) == (7, "provider")
    assert row["cost_nanos"] > 0
