"""Each vendor's usage becomes disjoint parts; what cannot be true is flagged, never negative and never for nothing."""

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import pricing
from gateway import settlement
from gateway.wire import openai_chat
from gateway.wire.openai_chat import StreamRelay, parse_usage
from gateway.wire.openai_chat import usage as usages
from gateway.wire.usage import Tokens
from tests.gateway.scenery import RATES

USAGES = sorted((Path(__file__).parent / "usages").glob("*.json"))
COUNTED = [name for name in Tokens.__struct_fields__ if name not in ("service_tier", "sound")]


def parsed(usage: Any, tier: Any = None) -> Tokens | None:
    return parse_usage(json.dumps(usage).encode(), json.dumps(tier).encode())


def read(usage: Any) -> Tokens:
    tokens = parsed(usage)
    assert tokens is not None
    return tokens


@pytest.mark.parametrize("path", USAGES, ids=[path.stem for path in USAGES])
def test_a_vendor_s_documented_usage(path: Path) -> None:
    recorded = json.loads(path.read_bytes())
    answer = openai_chat.decode_answer(json.dumps(recorded["answer"]).encode())
    assert parse_usage(bytes(answer.usage), bytes(answer.service_tier)) == Tokens(**recorded["tokens"])


@pytest.mark.parametrize("path", USAGES, ids=[path.stem for path in USAGES])
def test_a_stream_s_last_event_says_the_same(path: Path) -> None:
    recorded = json.loads(path.read_bytes())
    relay = StreamRelay("m", wants_usage=False)
    relay.feed(b'data: {"model":"up","choices":[{}]}\n\n' * 3)
    relay.feed(b"data: " + json.dumps({"model": "up", "choices": [], **recorded["answer"]}).encode() + b"\n\n")
    assert parse_usage(relay.usage or b"", relay.service_tier) == Tokens(**recorded["tokens"])


# --- What went wrong elsewhere --------------------------------------------------------------------------------------

BOTH = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


def test_new_api_5003_cached_input_subtracted_twice_credits_nobody() -> None:
    tokens = read({"prompt_tokens": 40, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 900}})
    assert (tokens.input, tokens.cache_read, tokens.sound) == (0, 40, False)


def test_new_api_6353_cache_writes_without_a_split_are_not_free() -> None:
    tokens = read(BOTH | {"cache_creation_input_tokens": 2000})
    assert (tokens.input, tokens.cache_write_5m, tokens.cache_write_1h, tokens.sound) == (100, 2000, 0, True)


def test_a_split_without_its_sum_is_not_free_either() -> None:
    split = {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 7}
    tokens = read(BOTH | {"cache_creation": split})
    assert (tokens.cache_write_5m, tokens.cache_write_1h, tokens.sound) == (5, 7, True)


def test_a_split_that_contradicts_its_sum_is_flagged_and_the_sum_counts() -> None:
    split = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 50}
    tokens = read(BOTH | {"cache_creation_input_tokens": 20, "cache_creation": split})
    assert (tokens.cache_write_5m, tokens.cache_write_1h, tokens.sound) == (0, 20, False)


def test_litellm_9812_cache_writes_are_charged_once() -> None:
    # Named twice, inside the prompt and beside it, they are still the same tokens.
    twice = {"cached_tokens": 0, "cache_creation_tokens": 60}
    tokens = read(
        BOTH | {"prompt_tokens_details": twice, "cache_creation_input_tokens": 60, "cache_read_input_tokens": 0}
    )
    assert (tokens.input, tokens.cache_write_5m) == (40, 60)


def test_a_total_settles_whether_the_cache_is_on_top() -> None:
    cache = {"prompt_tokens_details": {"cached_tokens": 60}, "cache_read_input_tokens": 60}
    assert read(BOTH | cache).input == 40
    on_top = read(BOTH | cache | {"total_tokens": 170})
    assert (on_top.input, on_top.cache_read, on_top.reasoning, on_top.sound) == (100, 60, 0, True)


def test_a_cache_that_is_named_twice_and_differently_is_flagged() -> None:
    tokens = read(BOTH | {"prompt_tokens_details": {"cached_tokens": 5}, "cache_read_input_tokens": 60})
    assert (tokens.input, tokens.cache_read, tokens.sound) == (100, 60, False)


@pytest.mark.parametrize(
    "tokens",
    [
        Tokens(),
        Tokens(input=1, cache_read=2, cache_write_5m=3, cache_write_1h=4, audio_input=5, image_input=6, output=7),
        Tokens(input=1, output=2, reasoning=3, audio_output=4, web_searches=5),
        Tokens(cache_write_1h=9),
    ],
)
def test_what_is_written_is_read_the_same(tokens: Tokens) -> None:
    assert parsed(usages.render(tokens)) == tokens


def test_new_api_1103_gemini_s_thoughts_are_billed() -> None:
    tokens = read({"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623})
    assert tokens.output + tokens.reasoning == 603


def test_litellm_18599_reasoning_inside_the_completion_is_counted_once() -> None:
    tokens = read(BOTH | {"completion_tokens_details": {"reasoning_tokens": 8}})
    assert (tokens.output, tokens.reasoning) == (2, 8)
    on_top = read(BOTH | {"total_tokens": 118, "completion_tokens_details": {"reasoning_tokens": 8}})
    assert (on_top.output, on_top.reasoning, on_top.sound) == (10, 8, True)


def test_reasoning_that_the_total_contradicts_is_flagged_and_the_total_counts() -> None:
    tokens = read(BOTH | {"total_tokens": 118, "completion_tokens_details": {"reasoning_tokens": 5}})
    assert (tokens.output + tokens.reasoning, tokens.sound) == (18, False)


def test_litellm_37992_an_explicit_zero_stays_zero() -> None:
    assert parsed({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}) == Tokens()


@pytest.mark.parametrize("bad", [-1, -(2**63), 10**9 + 1, 2**64 - 5, 1.5, "9", True, [], {}])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_a_main_number_that_is_none_leaves_the_whole_to_an_estimate(name: str, bad: Any) -> None:
    assert parsed(BOTH | {name: bad}) is None


@pytest.mark.parametrize("bad", [-1, 10**9 + 1, 2**64 - 5, 1.5, "9", True])
@pytest.mark.parametrize(
    "path",
    [
        ("total_tokens",),
        ("prompt_tokens_details", "cached_tokens"),
        ("prompt_tokens_details", "cache_write_tokens"),
        ("prompt_tokens_details", "audio_tokens"),
        ("prompt_tokens_details", "image_tokens"),
        ("completion_tokens_details", "reasoning_tokens"),
        ("completion_tokens_details", "audio_tokens"),
        ("prompt_cache_hit_tokens",),
        ("cache_read_input_tokens",),
        ("cache_creation_input_tokens",),
        ("cache_creation", "ephemeral_1h_input_tokens"),
        ("citation_tokens",),
        ("num_search_queries",),
        ("server_tool_use", "web_search_requests"),
    ],
)
def test_a_part_that_is_no_count_flags_the_usage_and_its_whole_is_paid(path: tuple[str, ...], bad: Any) -> None:
    usage: dict[str, Any] = json.loads(json.dumps(BOTH))
    holder = usage
    for name in path[:-1]:
        holder = holder.setdefault(name, {})
    holder[path[-1]] = bad
    assert read(usage) == Tokens(input=100, output=10, sound=False)


def test_null_details_are_no_contradiction() -> None:
    nothing = dict.fromkeys(("prompt_tokens_details", "completion_tokens_details", "cache_creation", "server_tool_use"))
    assert read(BOTH | nothing | {"citation_tokens": None, "cached_tokens": None}) == Tokens(input=100, output=10)


def test_a_total_below_its_parts_is_flagged_and_the_parts_count() -> None:
    assert read(BOTH | {"total_tokens": 5}) == Tokens(input=100, output=10, sound=False)


def test_more_searches_than_a_column_holds_are_none() -> None:
    assert read(BOTH | {"num_search_queries": 32_768}) == Tokens(input=100, output=10, sound=False)
    assert read(BOTH | {"num_search_queries": 32_767}).web_searches == 32_767


# --- Service tiers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inner", "outer", "tier"),
    [
        (None, "flex", "flex"),
        (None, "Priority", "priority"),
        ("batch", None, "batch"),
        ("batch", "default", "batch"),
        (None, "default", ""),
        (None, "on_demand", ""),
        ("standard", None, ""),
        (None, None, ""),
        (None, 7, ""),
        (None, ["flex"], ""),
        (None, "x" * 17, ""),
        (None, "fl\u0000ex", ""),
        (None, "flex\n", ""),
    ],
)
def test_the_service_tier_is_the_answer_s_own(inner: Any, outer: Any, tier: str) -> None:
    tokens = parsed(BOTH | {"service_tier": inner}, outer)
    assert tokens is not None and tokens.service_tier == tier


@pytest.mark.parametrize("raw", [b"", b"flex", b'"fl', b"[" * 9999, b'"\xff"'])
def test_a_service_tier_that_is_no_json_is_standard(raw: bytes) -> None:
    tokens = parse_usage(json.dumps(BOTH).encode(), raw)
    assert tokens is not None and tokens.service_tier == ""


def test_litellm_34850_what_the_answer_says_decides_the_price_and_not_the_request() -> None:
    flex, standard = (
        msgspec.structs.replace(RATES, price_id=number, service_tier=tier) for number, tier in enumerate(("flex", ""))
    )
    chosen = pricing.in_force((flex, standard), 1.0, service_tier=read(BOTH | {"service_tier": "flex"}).service_tier)
    assert chosen is flex
    assert pricing.in_force((flex, standard), 1.0, service_tier=read(BOTH).service_tier) is standard


# --- Whatever comes -------------------------------------------------------------------------------------------------

ODD = st.none() | st.integers(-2, 40) | st.floats() | st.text(max_size=2) | st.sampled_from([10**9, 2**64, True])
SPLIT = st.dictionaries(st.sampled_from(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]), ODD)
DETAILS = ODD | st.dictionaries(
    st.sampled_from(
        [
            "cached_tokens",
            "cache_write_tokens",
            "audio_tokens",
            "image_tokens",
            "reasoning_tokens",
            "cache_creation_tokens",
        ]
    ),
    ODD,
)
ANYTHING = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("prompt_tokens", "completion_tokens"), st.integers(0, 40) | ODD
    )
    | dict.fromkeys(
        (
            "total_tokens", "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens", "reasoning_tokens",
            "cache_creation_input_tokens", "citation_tokens", "num_search_queries", "num_sources_used", "service_tier",
        ),
        ODD,
    )
    | {"prompt_tokens_details": DETAILS, "completion_tokens_details": DETAILS, "cache_creation": SPLIT | ODD},
)  # fmt: skip


@given(ANYTHING)
def test_no_part_is_negative_and_no_main_number_is_lost(usage: dict[str, Any]) -> None:
    tokens = parsed(usage)
    if tokens is None:
        return
    assert min(getattr(tokens, name) for name in COUNTED) >= 0
    into = tokens.input + tokens.cache_read + tokens.cache_write_5m + tokens.cache_write_1h
    into += tokens.audio_input + tokens.image_input
    assert into >= (usage.get("prompt_tokens") or 0)
    assert tokens.output + tokens.reasoning + tokens.audio_output >= (usage.get("completion_tokens") or 0)
    parts = settlement.parts_of(tokens)
    assert parts.context_tokens == into
    assert max(getattr(tokens, name) for name in COUNTED) < 2**31


@pytest.mark.quiet
def test_reading_a_usage_takes_microseconds() -> None:
    raw = msgspec.json.encode(json.loads(USAGES[0].read_bytes())["answer"]["usage"])
    began_at = time.perf_counter()
    for _ in range(1000):
        parse_usage(raw)
    assert time.perf_counter() - began_at < 0.1
