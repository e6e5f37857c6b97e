"""A stream that passes through: its bytes, its end, what is known of it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import sse
from gateway.wire.codec import Relay, Reply
from gateway.wire.gemini_generate_content import DIALECT
from gateway.wire.usage import Tokens
from tests.gateway.wire.gemini_generate_content import scenarios

encode = msgspec.json.encode
ASKED = DIALECT.read(b"{}", "acme/big", True)
ERROR = b'{"error":{"code":503}}'


def relay(**fields: Any) -> Relay:
    return DIALECT.relay(ASKED, Reply("req1", "acme/big", 0, **fields))


def event(text: str = "word ", made: int | None = None, **candidate: Any) -> bytes:
    chunk: dict[str, Any] = {"candidates": [{"content": {"parts": [{"text": text}]}, **candidate}]}
    if made is not None:
        chunk["usageMetadata"] = {"promptTokenCount": 3, "candidatesTokenCount": made, "totalTokenCount": 3 + made}
    return b"data: " + encode(chunk | {"modelVersion": "up"}) + b"\r\n\r\n"


LAST = event("", 9, finishReason="STOP")


def through(stream: bytes, found: Relay, size: int) -> bytes:
    framer = sse.Framer(10**6)
    out = b"".join(found.feed(framer.feed(stream[at : at + size])) for at in range(0, len(stream), size))
    return out + found.feed(framer.flush()) + found.end()


@pytest.mark.parametrize("scenario", scenarios.having("response.json"))
@pytest.mark.parametrize("size", [1, 100, 10**6])
def test_only_the_models_name_changes(scenario: str, size: int) -> None:
    stream = scenarios.data(scenario, "stream.sse")
    found = relay()
    out = through(stream, found, size)
    assert found.complete
    assert b"finishReason" not in out or scenario == "choices"
    assert out + found.closing(b"0.5") == stream.replace(b'"gemini-2.5-flash"', b'"acme/big"')
    assert found.final_usage() == DIALECT.parse_response(scenarios.data(scenario, "response.json")).usage


def test_many_events_at_once_are_renamed_without_being_read() -> None:
    found = relay()
    assert found.feed(event()) == event().replace(b'"up"', b'"acme/big"')
    assert found.feed(event() * 5) == event().replace(b'"up"', b'"acme/big"') * 5
    assert found.delivered_tokens() == 7
    assert found.produced()


def test_a_text_that_looks_like_an_events_beginning_is_only_a_text() -> None:
    found = relay()
    odd = event('data: "modelVersion":"up"')
    assert found.feed(event() + odd) == (event() + odd).replace(b'"modelVersion":"up"', b'"modelVersion":"acme/big"')
    assert found.feed(odd) == odd.replace(b'"modelVersion":"up"', b'"modelVersion":"acme/big"')


def test_a_key_of_that_name_in_a_calls_arguments_stays() -> None:
    call = {"candidates": [{"content": {"parts": [{"functionCall": {"args": {"modelVersion": "up"}}}]}}]}
    data = b"data: " + encode(call | {"modelVersion": "up"}) + b"\n\n"
    found = relay()
    found.feed(event())
    assert found.feed(data) == data.replace(b'}],"modelVersion":"up"', b'}],"modelVersion":"acme/big"')


def test_a_stream_without_names_of_models_passes_as_it_is() -> None:
    found = relay()
    data = b'data: {"candidates":[]}\n\n: ping\n\ndata: odd\n\ndata: [DONE]\n\n'
    assert found.feed(data) == b'data: {"candidates":[]}\n\n: ping\n\ndata: odd\n\n'
    assert found.feed(b"") == b""
    assert found.final_usage() is None
    assert not found.complete


def test_what_follows_the_end_takes_its_place() -> None:
    found = relay()
    first = event("a", 1, finishReason="STOP")
    assert found.feed(first) == b""
    assert found.feed(event("b", 2)) == first.replace(b'"up"', b'"acme/big"')
    assert found.closing(b"0.5") == event("b", 2).replace(b'"up"', b'"acme/big"')
    assert found.final_usage() == Tokens(input=3, output=2)


def test_a_usage_before_the_end_is_no_final_one() -> None:
    found = relay()
    found.feed(event("a", 1) + event("b", finishReason="STOP"))
    assert (found.complete, found.final_usage()) == (True, None)


def test_a_usage_that_only_silence_follows_is_the_final_one() -> None:
    for chunks in (
        [event("a", 1), event("", finishReason="STOP")],
        [event("a", 1, finishReason="STOP"), event("")],
        [event("a", 9, finishReason="STOP"), event("", 1)],
    ):
        found = relay()
        for chunk in chunks:
            found.feed(chunk)
        assert found.final_usage() == Tokens(input=3, output=1)


@pytest.mark.parametrize("reason", ["", "FINISH_REASON_UNSPECIFIED"])
def test_an_unspecified_reason_is_no_end(reason: str) -> None:
    found = relay()
    assert found.feed(event("a", finishReason=reason)) != b""
    assert not found.complete


def test_a_blocked_prompt_is_an_end() -> None:
    found = relay()
    data = b'data: {"promptFeedback":{"blockReason":"SAFETY"}}\n\n'
    assert (found.feed(data), found.complete, found.produced()) == (b"", True, False)
    assert found.closing(b"") == data
    assert relay().feed(b'data: {"promptFeedback":{"x":"blockReason"}}\n\n') != b""


def test_searches_are_counted_wherever_they_are_told() -> None:
    found = relay()
    found.feed(event("a", groundingMetadata={"webSearchQueries": ["x", "y"]}))
    found.feed(b'data: {"candidates":["odd"],"x":{"error":null}}\n\n')
    found.feed(LAST)
    assert found.final_usage() == Tokens(input=3, output=9, web_searches=2)


def test_an_error_ends_it() -> None:
    found = relay()
    data = b'data: {"error":{"code":503}}\r\n\r\n'
    assert found.feed(event() + data + event()) == event().replace(b'"up"', b'"acme/big"')
    assert (found.failure, found.ended, found.complete) == (ERROR, True, False)
    assert found.feed(event()) == b""


def test_the_cost_stands_in_the_last_usage_where_it_was_asked_for() -> None:
    found = relay(wants_cost=True)
    found.feed(LAST)
    closing = found.closing(b"0.25")
    assert closing.endswith(b"}\n\n")
    assert msgspec.json.decode(closing[6:])["usageMetadata"]["cost"] == 0.25
    assert relay(wants_cost=True).closing(b"0.25") == b""


def test_an_array_is_one_json_value() -> None:
    found = relay(array=True, wants_cost=True)
    out = through(event() + b": ping\n\n" + event() + LAST, found, 50) + found.closing(b"0.25")
    values = msgspec.json.decode(out)
    assert [each["modelVersion"] for each in values] == ["acme/big"] * 3
    assert values[-1]["usageMetadata"]["cost"] == 0.25
    assert msgspec.json.decode(relay(array=True).closing(b"")) == []


def test_a_broken_stream_gives_what_was_kept_and_the_error() -> None:
    found = relay()
    found.feed(LAST)
    assert found.broken(ERROR, cut=False) == LAST.replace(b'"up"', b'"acme/big"') + b"data: " + ERROR + b"\n\n"
    cut = relay(array=True)
    out = cut.feed(event()) + cut.broken(ERROR, cut=True)
    values = msgspec.json.decode(out)
    assert values[1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert values[2] == {"error": {"code": 503}}


@pytest.mark.parametrize(
    ("events", "tokens", "produced"),
    [
        ([], 0, False),
        ([event("")], 0, False),
        ([b'data: {"candidates":[{"content":{"parts":["odd"]}},{"content":1},3]}\n\n'], 0, False),
        ([b'data: {"candidates":"odd","usageMetadata":"odd"}\n\n'], 0, False),
        ([event("Hi")], 1, True),
        ([event("x" * 400)], 100, True),
        ([event("Hi", 7)], 7, True),
        ([event("x" * 40)] * 12, 120, True),
    ],
)
def test_what_was_delivered(events: list[bytes], tokens: int, produced: bool) -> None:
    found = relay()
    for each in events:
        found.feed(each)
    assert (found.delivered_tokens(), found.produced()) == (tokens, produced)


def test_rubbish_is_no_chunk() -> None:
    found = relay()
    found.feed(b'data: ["error"]\n\n')
    assert (found.delivered_tokens(), found.failure) == (0, None)
    found.feed(b'data: [{"error":{"code":1}}]\n\n')
    assert found.failure == b'[{"error":{"code":1}}]'
    odd = relay()
    odd.feed(b'data: {"error":\n\n')
    assert odd.failure is None


PIECES = [
    event(),
    event("", 1),
    LAST,
    b"data: {",
    b"\n\n",
    b"\r\n\r\n",
    b'"error":',
    b'"modelVersion":"up"',
    b": x\n\n",
]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20)), st.booleans())
def test_hostile_bytes_raise_nothing(pieces: list[bytes], array: bool) -> None:
    found = relay(array=array)
    for piece in pieces:
        found.feed(piece)
    found.end()
    assert found.delivered_tokens() >= found.produced()
    assert found.final_usage() is None or found.complete
    assert isinstance(found.closing(b"0.5"), bytes)
