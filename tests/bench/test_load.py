"""What wrk prints, and what our own generator counts."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import load
from bench.entrant import fault, mock
from bench.load import Address
from bench.mock import MESSAGES_STREAM, STREAM
from bench.process import BenchError
from gateway.wire.accumulate import fold
from gateway.wire.registry import DIALECTS

WRK = """Running 2s test @ http://127.0.0.1:4242/v1/chat/completions
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     5.20ms    2.10ms  60.11ms   95.10%
    Req/Sec     6.01k   380.11     6.60k    75.00%
  Latency Distribution
     50%  850.00us
     75%    5.60ms
     90%    6.40ms
     99%    1.02s\x20
  12000 requests in 2.01s, 14.60MB read
"""
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def test_wrk_s_units_become_seconds_and_milliseconds() -> None:
    assert load.parsed(WRK) == load.Result(requests=12_000, seconds=2.01, p50_ms=0.85, p99_ms=1020.0, errors=0)


def test_answers_that_wrk_calls_refused_and_lost_are_errors_and_not_answers() -> None:
    faulty = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 500\n"
    seen = load.parsed(WRK + faulty)
    assert (seen.requests, seen.errors) == (11_500, 510)


def test_a_wrk_without_a_result_is_an_error() -> None:
    with pytest.raises(BenchError, match="unable to connect"):
        load.parsed("unable to connect to 127.0.0.1:1")


@pytest.mark.server
def test_the_mock_answers_both_kinds_whole(tmp_path: Path) -> None:
    with mock(tmp_path) as upstream:
        assert fault(upstream.address, False) == ""
        assert fault(upstream.address, True) == ""


def test_the_mock_s_streams_have_as_many_events_in_either_dialect() -> None:
    assert len(STREAM) == len(MESSAGES_STREAM) == 103


@pytest.mark.server
def test_the_mock_streams_messages_where_they_are_asked_for(tmp_path: Path) -> None:
    with mock(tmp_path) as upstream:
        connection = http.client.HTTPConnection("127.0.0.1", upstream.address.port, timeout=30)
        for _ in range(2):
            connection.request("POST", "/v1/messages?beta=true", "{}", {"Content-Type": "application/json"})
            body = connection.getresponse().read()
            assert body.startswith(b"event: message_start\n")
            assert body.count(b"\n\n") == 103
            decoder = DIALECTS["anthropic_messages"].stream_decoder()
            answer = fold([*decoder.feed(body), *decoder.finish()])
            assert answer.usage is not None
            assert (answer.usage.input, answer.usage.output, answer.choices[0].finish) == (20, 130, "stop")
        connection.close()


@pytest.mark.server
def test_our_generator_makes_exactly_the_requests_it_was_told_to(tmp_path: Path) -> None:
    with mock(tmp_path) as upstream:
        seen = load.fixed_count(upstream.address, 1000)
    assert (seen.requests, seen.errors) == (1000, 0)
    assert 0 < seen.p50_ms <= seen.p99_ms


@pytest.mark.server
def test_without_wrk_our_generator_loads_as_far_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.shutil.which", lambda _name: None)
    with mock(tmp_path) as upstream:
        seen = load.full(upstream.address, True, 1, tmp_path)
    assert seen.requests > 32
    assert seen.errors == 0
    assert 0.9 < seen.seconds < 10


@pytest.mark.server
def test_at_a_fixed_rate_a_stall_counts_for_every_request_that_was_due_meanwhile() -> None:
    with stalling(after_s=0.5, for_s=0.5) as port:
        seen = load.fixed_rate(Address(port), rate=200, seconds=2)
    assert (seen.requests, seen.errors) == (400, 0)
    # A quarter of the time stood still: who asks only after an answer would have seen that once in a hundred requests.
    assert seen.p99_ms > 350
    assert seen.p50_ms < 100


@pytest.mark.server
def test_a_stream_without_its_closing_mark_is_an_error() -> None:
    cut = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 10\r\n\r\ndata: {}\n\n"
    with stalling(after_s=0, for_s=0, answer=cut) as port:
        seen = load.fixed_rate(Address(port), rate=50, seconds=1)
    assert (seen.requests, seen.errors) == (0, 50)


@contextmanager
def stalling(*, after_s: float, for_s: float, answer: bytes = WHOLE) -> Iterator[int]:
    """Serve on a port; every request that comes in a window of time is answered when that window ends."""
    begins_at: list[float] = []

    def serve(client: socket.socket) -> None:
        with client:
            while request := client.recv(65_536):
                begins_at.append(time.monotonic())
                since_s = time.monotonic() - begins_at[0]
                if after_s <= since_s < after_s + for_s:
                    time.sleep(after_s + for_s - since_s)
                assert request.startswith(b"POST ")
                client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        accepting = threading.Thread(target=accept, args=(listening, serve))
        accepting.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join()


def accept(listening: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Serve each client in a thread until the listener is shut down; then wait for them."""
    threads = []
    with contextlib.suppress(OSError):
        while True:
            threads.append(threading.Thread(target=serve, args=(listening.accept()[0],)))
            threads[-1].start()
    for thread in threads:
        thread.join()
