"""Usage as disjoint parts: nothing twice, nothing negative, and what cannot be true is told apart."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import pricing
from billing.pricing import Parts
from gateway.realtime import usage
from gateway.wire.usage import Tokens
from tests.gateway.scenery import RATES

WHOLE: dict[str, Any] = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "image_tokens": 0,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}


def test_a_response_is_split_into_its_parts() -> None:
    assert usage.of_response(WHOLE) == Tokens(input=59, cache_read=64, audio_input=9, output=30, audio_output=91)


def test_sound_that_was_cached_costs_what_the_price_has_for_cached_input() -> None:
    inner = {"audio_tokens": 100, "cached_tokens": 90, "cached_tokens_details": {"audio_tokens": 90}}
    tokens = usage.of_response({"input_tokens": 100, "output_tokens": 0, "input_token_details": inner})
    assert tokens == Tokens(cache_read=90, audio_input=10)
    parts = Parts(cache_read=90, audio_input=10)
    assert pricing.cost(parts, RATES) == (90 * RATES.cache_read + 10 * RATES.audio_input) // 1_000_000


def test_without_their_kinds_cached_tokens_are_taken_from_text_first() -> None:
    inner = {"text_tokens": 50, "audio_tokens": 50, "cached_tokens": 60}
    tokens = usage.of_response({"input_tokens": 100, "output_tokens": 1, "input_token_details": inner})
    assert tokens == Tokens(cache_read=60, audio_input=40, output=1)


def test_without_details_everything_is_text() -> None:
    assert usage.of_response({"input_tokens": 7, "output_tokens": 3}) == Tokens(input=7, output=3)


@pytest.mark.parametrize("found", [None, [], "7", {}, {"input_tokens": 5}, {"input_tokens": -1, "output_tokens": 1}])
def test_what_tells_nothing_is_none(found: Any) -> None:
    assert usage.of_response(found) is None


@pytest.mark.parametrize(
    "change",
    [
        {"total_tokens": 99},
        {"input_token_details": {"audio_tokens": 133}},
        {"input_token_details": {"text_tokens": 1}},
        {"input_token_details": {"cached_tokens": 133}},
        {"input_token_details": {"cached_tokens": 5, "cached_tokens_details": {"text_tokens": 4}}},
        {"output_token_details": {"audio_tokens": 122}},
        {"output_token_details": {"audio_tokens": -1}},
    ],
)
def test_numbers_that_contradict_each_other_are_told_apart(change: dict[str, Any]) -> None:
    found = usage.of_response(WHOLE | change)
    assert found is not None
    assert not found.sound


COUNTS = st.one_of(st.integers(-5, 200), st.none(), st.just("x"), st.floats(allow_nan=True))
KINDS = st.dictionaries(st.sampled_from(["text_tokens", "audio_tokens", "image_tokens", "cached_tokens"]), COUNTS)


@given(COUNTS, COUNTS, KINDS, KINDS, KINDS)
def test_no_part_is_negative_and_the_parts_are_the_whole(
    into: Any, out: Any, details: dict[str, Any], cached: dict[str, Any], made: dict[str, Any]
) -> None:
    told = {"input_tokens": into, "output_tokens": out, "output_token_details": made}
    tokens = usage.of_response(told | {"input_token_details": details | {"cached_tokens_details": cached}})
    if tokens is None:
        return
    given_parts = (tokens.input, tokens.cache_read, tokens.audio_input, tokens.image_input)
    made_parts = (tokens.output, tokens.reasoning, tokens.audio_output)
    assert min(given_parts + made_parts) >= 0
    assert (sum(given_parts), sum(made_parts)) == (into, out)


@pytest.mark.parametrize(
    ("told", "tokens"),
    [
        ({"type": "duration", "seconds": 3.01}, Tokens(audio_input=31)),
        ({"type": "duration", "seconds": 0}, Tokens()),
        ({"type": "duration", "seconds": -1}, None),
        ({"type": "duration", "seconds": float("nan")}, None),
        ({"type": "duration", "seconds": True}, None),
        ({"type": "duration"}, None),
        ({"type": "tokens", "input_tokens": 9, "output_tokens": 2}, Tokens(audio_input=9, output=2)),
        (
            {"type": "tokens", "input_tokens": 9, "output_tokens": 2, "input_token_details": {"text_tokens": 4}},
            Tokens(input=4, audio_input=5, output=2),
        ),
        ({"type": "tokens", "input_tokens": 9}, None),
        (None, None),
    ],
)
def test_a_transcription_is_counted_in_tokens_or_by_its_length(told: Any, tokens: Tokens | None) -> None:
    assert usage.of_transcription(told) == tokens
