"""What a client of a stream sees, byte by byte: however it was cut, whatever it holds, and however it ends."""

import itertools
import json
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import psutil
import pytest

from tests.gateway import http
from tests.gateway.conftest import Gateway
from tests.gateway.installation import CREDENTIAL
from tests.upstream import streams
from tests.upstream.answers import pieces

pytestmark = pytest.mark.server

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


@pytest.fixture(scope="module", params=["daphne", pytest.param("uvicorn", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> str:
    """Bytes on the wire: both servers."""
    return str(request.param)


def renamed(payload: bytes, scenario: str) -> bytes:
    """Return what the upstream sent under the caller's name for the model."""
    return payload.replace(f'"model":"{scenario}"'.encode(), f'"model":"chaos/{scenario}"'.encode())


def without_usage(payload: bytes) -> bytes:
    """Return a stream without the chunk that holds usage alone."""
    return b"".join(part + b"\n\n" for part in payload.split(b"\n\n") if part and b'"choices":[],"usage"' not in part)


def text_of(answer: http.Answer) -> str:
    """Return the text that a stream's events spell."""
    found = [json.loads(data) for data in http.events(answer.body) if data != b"[DONE]"]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in found if event.get("choices"))


def assert_ended_well(answer: http.Answer) -> None:
    assert answer.status == 200, answer.body[:300]
    assert http.events(answer.body).count(b"[DONE]") == 1
    assert answer.body.endswith(DONE)
    assert b'"error"' not in answer.body


def assert_broken_off(answer: http.Answer, code: str) -> None:
    """One error event, at the end, and no [DONE]."""
    assert answer.status == 200, answer.body[:300]
    *events, last = http.events(answer.body)
    assert b"[DONE]" not in [*events, last]
    assert not [event for event in events if b'"error"' in event]
    error = json.loads(last)
    assert error["error"]["code"] == code
    assert error["error"]["type"] == ("timeout" if code == "upstream_timeout" else "upstream_error")
    assert error["error"]["message"]
    assert error["request_id"] == answer.request_id
    assert CREDENTIAL.encode() not in answer.body


# --- Bytes ----------------------------------------------------------------------------------------------------------
SAME_BYTES = [
    "ok", "cut-1", "cut-2", "cut-3", "cut-7", "one-write", "separators", "injection", "nul", "model-in-text",
    "other-fields", "reasoning", "drip-0.1", "early-hints-103", "continue-100", "gzip",
    # An event that is no JSON is the upstream's own affair: it passes as it came.
    "rubbish-mid-stream",
]  # fmt: skip


@pytest.mark.parametrize("scenario", SAME_BYTES)
def test_the_bytes_are_the_upstreams_but_for_the_model_and_the_usage(gateway: Gateway, scenario: str) -> None:
    answer = gateway.stream(scenario)

    sent = bytes(gateway.upstream.last(scenario).payload)
    assert answer.body.replace(KEEP_ALIVE, b"") == without_usage(renamed(sent, scenario))
    assert_ended_well(answer)


@pytest.mark.parametrize("scenario", SAME_BYTES)
def test_a_client_that_asks_for_usage_gets_every_byte(gateway: Gateway, scenario: str) -> None:
    answer = gateway.stream(scenario, stream_options={"include_usage": True})

    sent = bytes(gateway.upstream.last(scenario).payload)
    assert answer.body.replace(KEEP_ALIVE, b"") == renamed(sent, scenario)


@pytest.mark.parametrize("scenario", ["cut-line-end", "bare-cr", "crlf", "no-space", "byte-order-mark", "http10-close"])
def test_every_framing_that_the_standard_allows_is_understood(gateway: Gateway, scenario: str) -> None:
    answer = gateway.stream(scenario)

    assert text_of(answer) == "one two"
    assert_ended_well(answer)
    models = {json.loads(data)["model"] for data in http.events(answer.body) if data != b"[DONE]"}
    assert models == {f"chaos/{scenario}"}
    assert b'"usage":{' not in answer.body
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["output_tokens"], row["usage_source"]) == (7, "provider")


def test_data_over_several_lines_stays_whole(gateway: Gateway) -> None:
    answer = gateway.stream("many-lines")

    assert text_of(answer) == "one two"
    assert_ended_well(answer)


def test_separators_of_other_standards_end_no_line(gateway: Gateway) -> None:
    assert text_of(gateway.stream("separators")) == streams.SEPARATORS


def test_text_that_looks_like_an_event_stays_text(gateway: Gateway) -> None:
    assert text_of(gateway.stream("injection")) == streams.INJECTION


def test_only_the_field_model_is_renamed(gateway: Gateway) -> None:
    answer = gateway.stream("model-in-text")

    assert text_of(answer) == '{"model":"model-in-text"}model: model-in-textmodel-in-text'
    named = [json.loads(data)["model"] for data in http.events(answer.body) if data != b"[DONE]"]
    assert set(named) == {"chaos/model-in-text"}


def test_a_model_that_changes_on_the_way_always_becomes_the_callers(gateway: Gateway) -> None:
    answer = gateway.stream("model-varies")

    events = [json.loads(data) for data in http.events(answer.body) if data != b"[DONE]"]
    assert {event["model"] for event in events if "model" in event} == {"chaos/model-varies"}
    assert "model" not in events[0]
    assert_ended_well(answer)


def test_a_stream_says_how_it_wants_to_be_treated(gateway: Gateway) -> None:
    answer = gateway.stream("ok")

    assert answer.header("content-type").startswith("text/event-stream")
    assert answer.header("cache-control") == "no-cache"
    assert answer.header("x-accel-buffering") == "no"
    assert answer.header("x-aperture-upstream") == "chaos"
    assert answer.header("x-aperture-region") == "test-1"


def test_a_tool_call_passes(gateway: Gateway) -> None:
    answer = gateway.stream("tool-call")

    assert without_usage(renamed(bytes(gateway.upstream.last("tool-call").payload), "tool-call")) == answer.body


# --- Ends -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scenario", ["done-missing", "done-double", "data-after-done", "open-after-done", "ok"])
def test_a_finished_answer_ends_with_exactly_one_done(gateway: Gateway, scenario: str) -> None:
    began_at = time.monotonic()
    answer = gateway.stream(scenario)

    assert_ended_well(answer)
    assert b"late" not in answer.body
    assert len(gateway.installed.usage(answer.request_id)) == 1
    assert time.monotonic() - began_at < 1.2


def test_a_reset_behind_done_harms_nobody(gateway: Gateway) -> None:
    assert_ended_well(gateway.stream("reset-after-done"))


@pytest.mark.parametrize(
    ("scenario", "code", "pieces"),
    [
        ("reset-mid-1", "stream_aborted", 0),
        ("reset-mid-3", "stream_aborted", 2),
        ("cut-json", "stream_aborted", 2),
        ("cut-well", "stream_aborted", 2),
        ("bad-chunk", "stream_aborted", 0),
        ("error-mid-stream", "stream_aborted", 2),
        ("stall-mid-stream", "upstream_timeout", 2),
        ("comments-later", "upstream_timeout", 2),
        ("silent-after-head", "upstream_timeout", 0),
    ],
)
def test_an_abnormal_end_is_an_error_event_and_no_done(gateway: Gateway, scenario: str, code: str, pieces: int) -> None:
    answer = gateway.stream(scenario)

    assert_broken_off(answer, code)
    assert answer.body.count(b'"content":"piece') == pieces
    [row] = gateway.installed.usage(answer.request_id)
    assert row["error_code"] == code
    assert row["status"] == (504 if code == "upstream_timeout" else 502)
    assert row["usage_source"] != "provider"
    if scenario not in ("cut-well", "error-mid-stream"):  # their bodies end well, and their connections are kept
        gateway.upstream.wait(lambda: gateway.upstream.last(scenario).closed_at is not None)


def test_the_upstreams_own_words_about_its_failure_are_scrubbed(gateway: Gateway) -> None:
    error = json.loads(http.events(gateway.stream("error-mid-stream").body)[-1])["error"]

    assert "scripted error" in json.dumps(error)
    assert CREDENTIAL not in json.dumps(error)


@pytest.mark.parametrize("scenario", ["huge-event", "endless-event"])
def test_an_event_without_bounds_is_cut_off(gateway: Gateway, scenario: str) -> None:
    rss_bytes = gateway.web.rss_bytes
    answer = gateway.stream(scenario)

    assert_broken_off(answer, "stream_aborted")
    assert len(answer.body) < 10_000
    assert gateway.web.rss_bytes - rss_bytes < 120 * 1024 * 1024


@pytest.mark.parametrize("scenario", ["gzip-bomb", "gzip-cut", "coding-unknown"])
def test_a_compressed_stream_that_cannot_be_read(gateway: Gateway, scenario: str) -> None:
    rss_bytes = gateway.web.rss_bytes
    answer = gateway.stream(scenario)

    assert answer.status == 502 or http.events(answer.body)
    assert b"[DONE]" not in answer.body
    assert b'"error"' in answer.body
    assert gateway.web.rss_bytes - rss_bytes < 120 * 1024 * 1024


def test_many_tiny_events_all_arrive(gateway: Gateway) -> None:
    answer = gateway.stream("tiny-events")

    assert answer.body.count(b'"content":"."') == streams.TINY_EVENTS
    assert_ended_well(answer)


@pytest.mark.quiet
# --- Time -----------------------------------------------------------------------------------------------------------
def test_each_event_is_sent_as_it_arrives(gateway: Gateway) -> None:
    arrivals = []
    body = http.chat("chaos/drip-0.1", stream=True)
    with http.opened(gateway.port, "POST", "/v1/chat/completions", key=gateway.installed.key, body=body) as response:
        while piece := response.read1(65_536):
            arrivals.append((time.monotonic(), piece))

    assert len(arrivals) >= 6
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(arrivals[:6])]
    assert 0.05 < statistics.median(gaps) < 0.2


def test_a_silence_is_filled_with_comments(gateway: Gateway) -> None:
    answer = gateway.stream("drip-0.7")

    assert_ended_well(answer)
    assert 4 <= answer.body.count(KEEP_ALIVE) <= 20
    assert all(part.startswith((b"data: ", b": keep-alive")) for part in answer.body.split(b"\n\n") if part)


def test_comments_of_the_upstream_are_no_answer(gateway: Gateway) -> None:
    began_at = time.monotonic()
    answer = gateway.stream("comments-only")

    assert 1.2 < time.monotonic() - began_at < 4
    assert b"[DONE]" not in answer.body
    assert b"upstream_timeout" in answer.body


# --- Clients that go away -------------------------------------------------------------------------------------------
def leave(gateway: Gateway, scenario: str, *, after_first_byte: bool, stream: bool = True) -> float:
    """Ask for SCENARIO, go away, and return how many seconds later the upstream saw its own end."""
    before = len(gateway.upstream.of(scenario))
    body = http.chat(f"chaos/{scenario}", stream=stream)
    client = HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    client.request("POST", "/v1/chat/completions", json.dumps(body), {
        "Authorization": f"Bearer {gateway.installed.key}", "Content-Type": "application/json"
    })  # fmt: skip
    if after_first_byte:
        assert client.getresponse().read1(100)
    gateway.upstream.wait(lambda: len(gateway.upstream.of(scenario)) > before)
    time.sleep(0.02)
    assert client.sock is not None or after_first_byte
    left_at = time.monotonic()
    client.close()
    gateway.upstream.wait(lambda: gateway.upstream.last(scenario).closed_at is not None)
    return (gateway.upstream.last(scenario).closed_at or 0) - left_at


@pytest.mark.quiet
@pytest.mark.parametrize(
    ("scenario", "after_first_byte", "stream"),
    [("endless", True, True), ("silent-after-head", False, True), ("silent", False, False)],
)
def test_a_client_that_leaves_ends_the_upstream_at_once(
    gateway: Gateway, scenario: str, after_first_byte: bool, stream: bool
) -> None:
    before = gateway.installed.usage_count()
    delays_s = [leave(gateway, scenario, after_first_byte=after_first_byte, stream=stream) for _ in range(10)]

    assert statistics.median(delays_s) < 0.1, delays_s
    gateway.upstream.wait(lambda: gateway.installed.usage_count() == before + 10)
    rows = gateway.installed.query("SELECT * FROM billing_usage ORDER BY created_at DESC LIMIT 10")
    assert {(row["status"], row["error_code"]) for row in rows} == {(499, "client_closed")}
    assert all((row["output_tokens"] > 0) is after_first_byte for row in rows)


@pytest.mark.parametrize("scenario", ["drip-0.1", "slow-first-byte-0.3"])
def test_a_client_that_closes_its_half_is_answered_or_let_go_and_settled_once(gateway: Gateway, scenario: str) -> None:
    before = gateway.installed.usage_count()
    body = json.dumps(http.chat(f"chaos/{scenario}", stream=scenario.startswith("drip"))).encode()
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {gateway.installed.key}\r\n"
        f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with gateway.web.connect() as client:
        client.sendall(request.encode() + body)
        time.sleep(0.15)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while piece := client.recv(65_536):
            received += piece

    gateway.upstream.wait(lambda: gateway.installed.usage_count() == before + 1)
    time.sleep(0.3)
    assert gateway.installed.usage_count() == before + 1
    [row] = gateway.installed.query("SELECT status FROM billing_usage ORDER BY created_at DESC LIMIT 1")
    answered = b"[DONE]" in received or b'"chat.completion"' in received
    assert row["status"] == (200 if answered else 499)


def test_hundreds_of_streams_at_once_all_arrive_whole(gateway: Gateway) -> None:
    with ThreadPoolExecutor(150) as pool:
        answers = list(pool.map(lambda _: gateway.stream("drip-0.1"), range(150)))

    assert {text_of(answer) for answer in answers} == {"".join(pieces(5))}
    for answer in answers:
        assert_ended_well(answer)


def test_a_client_that_never_reads_takes_bounded_memory(gateway: Gateway) -> None:
    rss_bytes = gateway.web.rss_bytes
    body = http.chat("chaos/flood", stream=True)
    with http.opened(gateway.port, "POST", "/v1/chat/completions", key=gateway.installed.key, body=body):
        grown = []
        for _ in range(10):
            time.sleep(0.1)
            grown.append(gateway.web.rss_bytes - rss_bytes)
        # Nothing moves any more: neither the memory nor the upstream's sending.
        sent = len(gateway.upstream.last("flood").payload)
        assert max(grown) < 30 * 1024 * 1024
        assert sent <= 2 * 1024 * 1024 + 8192
    gateway.upstream.wait(lambda: gateway.upstream.last("flood").closed_at is not None)


def test_a_slow_reader_slows_the_upstream_and_gets_everything(gateway: Gateway) -> None:
    body = http.chat("chaos/tiny-events", stream=True)
    received = bytearray()
    with http.opened(gateway.port, "POST", "/v1/chat/completions", key=gateway.installed.key, body=body) as response:
        while piece := response.read1(256 * 1024):
            received += piece
            time.sleep(0.002)

    assert received.count(b'"content":"."') == streams.TINY_EVENTS
    assert received.endswith(DONE)


def test_after_all_this_no_connection_is_left_behind(gateway: Gateway) -> None:
    process = psutil.Process(gateway.web.pid)

    def upstream_connections() -> int:
        here = [each for each in process.net_connections() if each.raddr and each.raddr.port == gateway.upstream.port]
        return len(here)

    assert gateway.stream("ok").status == 200
    gateway.upstream.wait(lambda: upstream_connections() <= 3)
    assert gateway.call("GET", "/v1/models").status == 200
