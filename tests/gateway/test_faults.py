"""What a caller gets when an upstream fails before its answer has begun, and what of it is written down.

Each row is provoked for a JSON answer and, where it makes a difference, for a stream.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.installation import CREDENTIAL

pytestmark = pytest.mark.server

FAILED = ("upstream_error", "upstream_failed")
UNREACHABLE = ("upstream_error", "upstream_unreachable")
CREDENTIALS = ("upstream_error", "upstream_credential")
UPSTREAM_BODY_CHARS_MAX = 4096


def assert_502(answer, kind: tuple[str, str], provider: str, status: int | None) -> None:  # type: ignore[no-untyped-def]
    assert answer.status == 502, answer.body[:500]
    error = answer.error
    assert (error["type"], error["code"]) == kind
    assert (error["upstream"]["provider"], error["upstream"]["status"]) == (provider, status)
    assert set(error["upstream"]) == {"provider", "status", "body"}
    assert len(str(error["upstream"]["body"])) <= UPSTREAM_BODY_CHARS_MAX + 200
    assert provider in error["message"]
    assert CREDENTIAL.encode() not in answer.body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", ["refused", "blackhole", "nowhere", "untrusted", "handshake"])
def test_an_upstream_that_cannot_be_connected_to(gateway: Gateway, provider: str, stream: bool) -> None:
    answer = gateway.chat("ok", provider=provider, stream=stream)

    assert_502(answer, UNREACHABLE, provider, None)
    assert "127.0.0.1" not in answer.body.decode()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "scenario", ["reset-before-head", "empty-reply", "garbage-status", "half-head", "huge-head", "switching-101"]
)
def test_an_upstream_that_breaks_before_its_answer(gateway: Gateway, scenario: str, stream: bool) -> None:
    answer = gateway.chat(scenario, stream=stream)

    assert answer.status == 502, answer.body[:300]
    assert answer.error["code"] in ("upstream_unreachable", "upstream_failed")
    assert answer.error["upstream"]["provider"] == "chaos"


@pytest.mark.parametrize("stream", [False, True])
def test_a_silent_upstream_is_given_up(gateway: Gateway, stream: bool) -> None:
    began_at = time.monotonic()
    answer = gateway.chat("silent", stream=stream)

    assert (answer.status, answer.error["type"], answer.error["code"]) == (504, "timeout", "upstream_timeout")
    assert 0.5 < time.monotonic() - began_at < 3
    gateway.upstream.wait(lambda: gateway.upstream.last("silent").closed_at is not None)


def test_a_slow_upstream_within_its_time_is_waited_for(gateway: Gateway) -> None:
    assert gateway.chat("slow-first-byte-0.3").status == 200
    assert gateway.chat("slow-first-byte-2").status == 504


def test_a_json_answer_that_stalls_is_given_up(gateway: Gateway) -> None:
    answer = gateway.chat("slow-body")

    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")


def test_a_json_answer_that_comes_slowly_is_waited_for(gateway: Gateway) -> None:
    # Longer in all than the idle limit, but never silent for as long.
    answer = gateway.chat("patient-body")

    assert answer.status == 200
    assert answer.json["model"] == "chaos/patient-body"


class TestReusedConnections:
    def test_all_idle_connections_may_have_gone_stale_at_once(self, gateway: Gateway) -> None:
        with ThreadPoolExecutor(4) as pool:
            assert {each.status for each in pool.map(gateway.chat, ["slow-first-byte-0.3"] * 4)} == {200}

        assert gateway.chat("stale").status == 200
        assert gateway.chat("stale").status == 200

    def test_a_connection_gone_stale_is_replaced_once_and_silently(self, gateway: Gateway) -> None:
        for _ in range(3):
            assert gateway.chat("ok").status == 200
        before = len(gateway.upstream.of("stale"))

        for _ in range(4):
            assert gateway.chat("stale").status == 200

        served = gateway.upstream.of("stale")[before:]
        assert sum(not exchange.reused for exchange in served) == 4

    def test_a_request_is_never_sent_twice_on_a_new_connection(self, gateway: Gateway) -> None:
        before = len(gateway.upstream.of("empty-reply"))
        assert gateway.chat("empty-reply").status == 502

        tried = [exchange.reused for exchange in gateway.upstream.of("empty-reply")[before:]]
        assert tried in ([False], [True, False])

    @pytest.mark.parametrize("scenario", ["reset-after-head", "half-head", "garbage-status", "status-500-json"])
    def test_a_request_is_never_sent_twice_once_a_byte_came_back(self, gateway: Gateway, scenario: str) -> None:
        assert gateway.chat("ok").status == 200
        before = len(gateway.upstream.of(scenario))
        assert gateway.chat(scenario).status == 502

        assert len(gateway.upstream.of(scenario)) == before + 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", ["json", "html", "empty"])
@pytest.mark.parametrize("status", [405, 418, 500, 502, 503, 504, 529])
def test_any_other_error_status_is_a_502(gateway: Gateway, status: int, body: str, stream: bool) -> None:
    assert_502(gateway.chat(f"status-{status}-{body}", stream=stream), FAILED, "chaos", status)


@pytest.mark.parametrize("body", ["json", "html", "empty"])
@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refusal_of_our_own_credential_is_not_the_callers(gateway: Gateway, status: int, body: str) -> None:
    answer = gateway.chat(f"status-{status}-{body}")

    assert_502(answer, CREDENTIALS, "chaos", status)
    assert answer.header("www-authenticate") == ""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", ["json", "html", "empty"])
@pytest.mark.parametrize("status", [400, 404, 408, 409, 413, 415, 422, 429])
def test_a_mistake_of_the_callers_keeps_its_status(gateway: Gateway, status: int, body: str, stream: bool) -> None:
    answer = gateway.chat(f"status-{status}-{body}", stream=stream)

    assert answer.status == status
    assert answer.error["type"] == "upstream_error"
    if body == "json":
        assert answer.error["code"] == f"upstream_{status}"
        assert answer.error["message"] == f"scripted {status}; you sent Bearer [redacted]"
        assert answer.error["param"] == "temperature"
    else:
        assert re.fullmatch("[a-z_]+", answer.error["code"])
        assert answer.error["message"]
    assert CREDENTIAL.encode() not in answer.body


@pytest.mark.parametrize("scenario", ["status-500-huge", "status-400-huge", "status-200-huge"])
def test_a_body_of_a_gigabyte_is_cut_off(gateway: Gateway, scenario: str) -> None:
    rss_bytes = gateway.web.rss_bytes
    answer = gateway.chat(scenario)

    assert answer.status == (400 if "400" in scenario else 502)
    assert len(answer.body) < 8192
    gateway.upstream.wait(lambda: gateway.upstream.last(scenario).closed_at is not None)
    assert gateway.web.rss_bytes - rss_bytes < 200 * 1024 * 1024


@pytest.mark.parametrize(
    ("scenario", "seconds"),
    [("5", (5, 5)), ("date", (5, 7)), ("absurd", (60, 86_400)), ("negative", (1, 1)), ("garbage", (1, 60))],
)
def test_retry_after_is_handed_on_within_bounds(gateway: Gateway, scenario: str, seconds: tuple[int, int]) -> None:
    answer = gateway.chat(f"retry-after-{scenario}")

    assert answer.status == 429
    assert answer.error["code"] == "rate_limit_exceeded"
    assert seconds[0] <= int(answer.header("retry-after")) <= seconds[1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_refused(gateway: Gateway, status: int, stream: bool) -> None:
    answer = gateway.chat(f"redirect-{status}", stream=stream)

    assert_502(answer, FAILED, "chaos", status)
    assert answer.header("location") == ""
    assert not [exchange for exchange in gateway.upstream.exchanges if exchange.path == "/v1/redirected"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("scenario", ["error-in-200", "html-200", "empty-200", "list-200", "null-200", "latin1-200"])
def test_rubbish_under_a_good_status(gateway: Gateway, scenario: str, stream: bool) -> None:
    assert_502(gateway.chat(scenario, stream=stream), FAILED, "chaos", 200)


@pytest.mark.parametrize("scenario", ["truncated-json", "stream-for-json", "gzip-bomb", "gzip-cut", "coding-unknown"])
def test_a_json_answer_that_cannot_be_read(gateway: Gateway, scenario: str) -> None:
    rss_bytes = gateway.web.rss_bytes
    assert_502(gateway.chat(scenario), FAILED, "chaos", 200)
    assert gateway.web.rss_bytes - rss_bytes < 250 * 1024 * 1024


@pytest.mark.parametrize("scenario", ["reset-after-head", "bad-chunk", "short-body", "gzip-lying"])
def test_a_json_answer_that_breaks_off(gateway: Gateway, scenario: str) -> None:
    answer = gateway.chat(scenario)

    assert answer.status == 502
    assert answer.error["type"] == "upstream_error"
    assert answer.error["upstream"]["provider"] == "chaos"


@pytest.mark.parametrize("scenario", ["json-for-stream", "wrong-type", "error-first-event", "reset-after-head"])
def test_a_stream_that_fails_before_its_first_event_is_an_error_status(gateway: Gateway, scenario: str) -> None:
    """Nothing was told to the client yet, so it can still be told the truth in the status."""
    answer = gateway.stream(scenario)

    assert_502(answer, FAILED, "chaos", 200)
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["status"], row["error_code"], row["cost_nanos"]) == (502, "upstream_failed", 0)


@pytest.mark.parametrize(
    "scenario",
    ["gzip", "continue-100", "early-hints-103", "chunk-extensions", "trailers", "http10-close", "wrong-type"],
)
def test_unusual_and_yet_good_answers(gateway: Gateway, scenario: str) -> None:
    answer = gateway.chat(scenario)

    payload = bytes(gateway.upstream.last(scenario).payload)
    assert answer.status == 200, answer.body[:300]
    assert answer.body == payload.replace(f'"model":"{scenario}"'.encode(), f'"model":"chaos/{scenario}"'.encode())
    assert answer.header("content-encoding") == ""
    assert answer.header("set-cookie") == ""


def test_headers_of_the_upstream_that_are_not_listed_stay_behind(gateway: Gateway) -> None:
    answer = gateway.chat("vendor-headers")

    names = {name.lower() for name, _ in answer.headers}
    assert not names & {"set-cookie", "openai-organization", "x-hop", "x-ratelimit-remaining-requests"}
    assert answer.header("server") != "upstream-server"
    assert answer.request_id != "forged"
    assert answer.header("x-aperture-upstream") == "chaos"


@pytest.mark.parametrize("scenario", ["status-500-json", "status-429-json", "silent", "reset-before-head"])
def test_a_failure_names_the_provider_that_was_called(gateway: Gateway, scenario: str) -> None:
    answer = gateway.chat(scenario)

    assert answer.header("x-aperture-upstream") == "chaos"


class TestTheRequestThatGoesOut:
    def test_carries_our_credential_and_nothing_of_the_callers(self, gateway: Gateway) -> None:
        sent = {
            "Cookie": "sessionid=alice",
            "X-Forwarded-For": "1.2.3.4",
            "X-Api-Key": "sk-of-the-caller",
            "Forwarded": "for=1.2.3.4",
            "Connection": "keep-alive, x-private",
            "X-Private": "1",
            "Accept-Encoding": "gzip, br",
            "OpenAI-Beta": "assistants=v2",
            "Proxy-Authorization": "Basic eDp5",
        }
        body = {
            "model": "chaos/repeats",
            "messages": [{"role": "user", "content": "hi"}],
            "x_unknown": {"kept": [1.50]},
        }
        assert gateway.call("POST", "/v1/chat/completions", body=body, headers=sent).status == 200

        exchange = gateway.upstream.last("repeats")
        assert exchange.header("authorization") == f"Bearer {CREDENTIAL}"
        assert exchange.header("accept-encoding") == "identity"
        assert exchange.header("openai-beta") == "assistants=v2"
        assert exchange.header("host") == f"127.0.0.1:{gateway.upstream.port}"
        names = [name for name, _ in exchange.headers]
        assert len(names) == len(set(names))
        assert not set(names) & {name.lower() for name in sent} - {"accept-encoding", "openai-beta", "connection"}
        assert gateway.installed.key not in str(exchange.headers)

    def test_differs_from_the_callers_in_the_model_alone(self, gateway: Gateway) -> None:
        body = (
            b'{ "model" : "chaos/repeats", "messages":[{"role":"user","content":"\\u00fc\\ud83d\\udc4b"}],"seed":1.50}'
        )
        answer = gateway.call("POST", "/v1/chat/completions", body=body, headers={"Content-Type": "application/json"})

        assert answer.json["choices"][0]["message"]["content"] == "ü👋"
        received = gateway.upstream.last("repeats").body
        assert b'"seed":1.50' in received
        assert b'"\\u00fc\\ud83d\\udc4b"' in received
        assert gateway.upstream.last("repeats").json["model"] == "repeats"

    def test_always_asks_a_stream_for_its_usage(self, gateway: Gateway) -> None:
        for options in (None, {"include_usage": False}, {"include_usage": True, "x_other": 1}, {}):
            extra = {} if options is None else {"stream_options": options}
            assert gateway.stream("ok", **extra).status == 200
            sent = gateway.upstream.last("ok").json["stream_options"]
            assert sent == {**(options or {}), "include_usage": True}


class TestUsageRows:
    @pytest.mark.parametrize(
        ("scenario", "stream", "status", "code"),
        [
            ("status-500-json", False, 502, "upstream_failed"),
            ("status-401-json", True, 502, "upstream_credential"),
            ("status-429-json", False, 429, "upstream_429"),
            ("silent", True, 504, "upstream_timeout"),
            ("reset-before-head", False, 502, "upstream_unreachable"),
            ("truncated-json", False, 502, "upstream_failed"),
        ],
    )
    def test_a_failure_leaves_one_row_and_costs_nothing(
        self, gateway: Gateway, scenario: str, stream: bool, status: int, code: str
    ) -> None:
        answer = gateway.chat(scenario, stream=stream)

        [row] = gateway.installed.usage(answer.request_id)
        assert (row["status"], row["error_code"], row["streamed"]) == (status, code, stream)
        assert (row["cost_nanos"], row["input_tokens"], row["output_tokens"]) == (0, 0, 0)
        assert row["provider_id"] == gateway.installed.providers["chaos"].pk
        assert row["user_id"] == gateway.installed.users["alice"].pk

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_success_leaves_one_row_with_all_that_is_known(self, gateway: Gateway, stream: bool) -> None:
        headers = {"User-Agent": "test-client/1.0", "x-session-id": "session-7"}
        body = {"model": "nickname", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        answer = gateway.call("POST", "/v1/chat/completions", body=body, headers=headers)

        [row] = gateway.installed.usage(answer.request_id)
        alice = gateway.installed.users["alice"]
        assert (row["user_id"], row["organization_id"]) == (alice.pk, alice.personal_organization.pk)
        assert (row["model"], row["dialect"], row["streamed"]) == ("nickname", "openai_chat", stream)
        assert (row["status"], row["error_code"], row["usage_source"]) == (200, "", "provider")
        assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (8, 3, 7)
        # 8 at $2 and 7 at $10 a million; cache reads are free here.
        assert row["cost_nanos"] == 8 * 2_000 + 7 * 10_000
        assert (row["client"], row["session_id"]) == ("test-client/1.0", "session-7")
        assert row["price_id"] is not None
        assert 0 <= row["first_byte_ms"] <= row["duration_ms"] < 5000
        if not stream:
            assert float(answer.header("x-aperture-cost")) == row["cost_nanos"] / 1e9

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("scenario", ["null", "negative", "string", "nan", "absurd", "list"])
    def test_numbers_that_cannot_be_true_are_estimated(self, gateway: Gateway, scenario: str, stream: bool) -> None:
        answer = gateway.chat(f"usage-{scenario}", stream=stream)

        if answer.status == 502:
            assert scenario == "nan", "NaN alone is no JSON"
            return
        assert answer.status == 200
        [row] = gateway.installed.usage(answer.request_id)
        assert row["usage_source"] == "estimate"
        assert 0 < row["input_tokens"] < 1000
        assert 0 < row["output_tokens"] < 1000
        assert 0 < row["cost_nanos"] < 10**8

    @pytest.mark.parametrize("scenario", ["usage-twice", "usage-with-choices", "usage-each", "usage-sum"])
    def test_the_last_usage_of_a_stream_counts(self, gateway: Gateway, scenario: str) -> None:
        answer = gateway.stream(scenario)

        [row] = gateway.installed.usage(answer.request_id)
        assert row["input_tokens"] + row["cache_read_tokens"] == 11
        assert row["output_tokens"] == 7

    def test_a_refusal_leaves_none(self, gateway: Gateway) -> None:
        before = gateway.installed.usage_count()
        assert gateway.chat("ok", key="").status == 401
        assert gateway.chat("ok", key=gateway.installed.keys["revoked"]).status == 401
        assert gateway.chat("ok", key=gateway.installed.keys["charlie"]).status == 403
        assert gateway.chat("no-such-scenario").status == 404

        assert gateway.installed.usage_count() == before

    def test_a_stream_without_usage_is_estimated_by_what_was_delivered(self, gateway: Gateway) -> None:
        answer = gateway.stream("usage-missing")

        [row] = gateway.installed.usage(answer.request_id)
        assert (row["status"], row["usage_source"]) == (200, "estimate")
        assert 0 < row["input_tokens"] < 100
        assert 2 <= row["output_tokens"] <= 10

    def test_a_stream_that_broke_off_costs_what_was_delivered(self, gateway: Gateway) -> None:
        answer = gateway.stream("reset-mid-3")

        [row] = gateway.installed.usage(answer.request_id)
        assert (row["status"], row["error_code"], row["usage_source"]) == (502, "stream_aborted", "partial")
        assert 1 <= row["output_tokens"] <= 5
        assert row["cost_nanos"] == row["input_tokens"] * 2_000 + row["output_tokens"] * 10_000
