"""A request costs its parts times the rates in force, rounded up once; its charge is the exact cost times the markup.

The worked examples are the vendors' published prices and are worked out by hand to the nano-dollar.
"""

from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import pricing
from billing.pricing import Parts, Rates

NAMES = Parts.__struct_fields__
# Parts → the rates that price them, and how many of them that rate buys.
RATE_OF = {name: (name, 10**6) for name in NAMES} | {"web_searches": ("web_search", 1000)}
RATE_NAMES = [rate for rate, _ in RATE_OF.values()]
PARTS = st.builds(Parts, **dict.fromkeys(NAMES, st.integers(0, 10**9)))
MARKUPS = st.integers(0, 5_000_000)


def rates(price_id: int = 1, effective_at: float = 0.0, **fields: Any) -> Rates:
    above, tier = fields.pop("above", None), fields.pop("tier", "")
    given = dict.fromkeys(RATE_NAMES, 0) | fields
    return Rates(price_id=price_id, effective_at=effective_at, above_context_tokens=above, service_tier=tier, **given)


def published(**dollars: str) -> Rates:
    """Return rates as a vendor writes them; what it leaves out costs what its parent does."""
    nanos = {name: int(Decimal(rate) * 10**9) for name, rate in dollars.items()}
    into, out = nanos["input"], nanos["output"]
    parents = dict.fromkeys(("cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image_input"), into)
    return rates(**parents | {"reasoning": out, "audio_output": out} | nanos)


RATES = st.fixed_dictionaries({name: st.integers(0, 10**12) for name in RATE_NAMES}).map(lambda drawn: rates(**drawn))


def exact(parts: Parts, price: Rates) -> Fraction:
    return sum(
        (Fraction(getattr(parts, part) * getattr(price, rate), per) for part, (rate, per) in RATE_OF.items()),
        Fraction(),
    )


# --- Worked examples ------------------------------------------------------------------------------------------------

GPT_4O = published(input="2.50", cache_read="1.25", output="10")
GPT_4O_AUDIO = published(input="2.50", output="10", audio_input="40", audio_output="80")
GPT_5 = published(input="1.25", cache_read="0.125", output="10")
SONNET = published(input="3", cache_read="0.30", cache_write_5m="3.75", cache_write_1h="6", output="15")
GEMINI_PRO = published(input="1.25", cache_read="0.31", output="10")
GEMINI_PRO_LONG = published(input="2.50", cache_read="0.625", output="15")
DEEPSEEK = published(input="0.28", cache_read="0.028", output="0.42")
GROK_3_MINI = published(input="0.30", cache_read="0.075", output="0.50", web_search="25")
SONAR_DEEP_RESEARCH = published(input="2", output="8", reasoning="3", web_search="5")
EMBEDDING = published(input="0.02", output="0")


@pytest.mark.parametrize(
    ("price", "parts", "nanos"),
    [
        # 800 x 2,500 + 200 x 1,250 + 20 x 10,000
        (GPT_4O, Parts(input=800, cache_read=200, output=20), 2_450_000),
        # 10 x 2,500 + 90 x 40,000 + 5 x 10,000 + 110 x 80,000
        (GPT_4O_AUDIO, Parts(input=10, audio_input=90, output=5, audio_output=110), 12_475_000),
        # 86 x 1,250 + 1,920 x 125 + (300 + 1,024) x 10,000
        (GPT_5, Parts(input=86, cache_read=1920, output=300, reasoning=1024), 13_587_500),
        # 50 x 3,000 + 100,000 x 300 + 248 x 3,750 + 1,000 x 6,000 + 393 x 15,000
        (
            SONNET,
            Parts(input=50, cache_read=100_000, cache_write_5m=248, cache_write_1h=1000, output=393),
            42_975_000,
        ),
        # 20 x 1,250 + (198 + 405) x 10,000
        (GEMINI_PRO, Parts(input=20, output=198, reasoning=405), 6_055_000),
        # 200,001 x 2,500 + 10 x 15,000
        (GEMINI_PRO_LONG, Parts(input=200_001, output=10), 500_152_500),
        # 17 x 280 + 64 x 28 + 301 x 420
        (DEEPSEEK, Parts(input=17, cache_read=64, output=301), 132_972),
        # 32 x 300 + (9 + 233) x 500 + 3 sources at $25 a thousand
        (GROK_3_MINI, Parts(input=32, output=9, reasoning=233, web_searches=3), 75_130_600),
        # (33 + 20,016) x 2,000 + 7,163 x 8,000 + 73,997 x 3,000 + 18 searches at $5 a thousand: $0.409 on its page
        (
            SONAR_DEEP_RESEARCH,
            Parts(input=33 + 20_016, output=7163, reasoning=73_997, web_searches=18),
            409_393_000,
        ),
        # 7 x 20
        (EMBEDDING, Parts(input=7), 140),
    ],
)
def test_a_vendor_s_published_prices_to_the_nano_dollar(price: Rates, parts: Parts, nanos: int) -> None:
    assert pricing.cost(parts, price) == nanos
    assert pricing.charge(parts, price, 1_000_000) == nanos
    assert pricing.charge(parts, price, 1_200_000) == ceil(Fraction(nanos * 12, 10))


def test_a_markup_of_a_round_cost_is_exact() -> None:
    # $0.010000000 times 1.2.
    assert pricing.charge(Parts(output=1000), GPT_4O, 1_200_000) == 12_000_000


def test_the_charge_is_rounded_from_the_exact_product_and_not_from_the_rounded_cost() -> None:
    # A third of a nano-dollar costs one; five times a third are two and not five.
    third = rates(input=333_333)
    assert (pricing.cost(Parts(input=1), third), pricing.charge(Parts(input=1), third, 5_000_000)) == (1, 2)


def test_without_a_price_nothing_is_charged() -> None:
    everything = Parts(*[10**9] * len(NAMES))
    assert (pricing.cost(everything, None), pricing.charge(everything, None, 1_200_000)) == (0, 0)
    assert (pricing.cost(pricing.NOTHING, GPT_4O), pricing.charge(pricing.NOTHING, GPT_4O, 1_200_000)) == (0, 0)


# --- For all usage and prices -----------------------------------------------------------------------------------------


@given(PARTS, RATES)
def test_the_cost_is_the_exact_sum_rounded_up_once(parts: Parts, price: Rates) -> None:
    assert pricing.cost(parts, price) == ceil(exact(parts, price)) >= 0


@given(PARTS, RATES, MARKUPS)
def test_the_charge_is_the_exact_cost_times_the_markup_rounded_up_once(parts: Parts, price: Rates, ppm: int) -> None:
    assert pricing.charge(parts, price, ppm) == ceil(exact(parts, price) * ppm / 10**6) >= 0


@given(PARTS, RATES, MARKUPS, st.sampled_from(NAMES), st.integers(0, 10**6))
def test_more_of_any_part_never_costs_less(parts: Parts, price: Rates, ppm: int, name: str, more: int) -> None:
    larger = msgspec.structs.replace(parts, **{name: getattr(parts, name) + more})
    assert pricing.cost(larger, price) >= pricing.cost(parts, price)
    assert pricing.charge(larger, price, ppm) >= pricing.charge(parts, price, ppm)


@given(PARTS)
def test_the_context_is_all_that_goes_in(parts: Parts) -> None:
    outside = {"output", "reasoning", "audio_output", "web_searches"}
    assert parts.context_tokens == sum(getattr(parts, name) for name in NAMES if name not in outside)
    assert parts.cache_write == parts.cache_write_5m + parts.cache_write_1h


def test_the_dearest_usage_at_the_dearest_rates_fits_its_column() -> None:
    everything = msgspec.structs.replace(Parts(*[10**9] * len(NAMES)), web_searches=32_767)
    dearest = rates(**dict.fromkeys(RATE_NAMES, 10**14))
    assert pricing.cost(everything, dearest) * 2 < 2**63


# --- Which price ----------------------------------------------------------------------------------------------------


def chosen(prices: tuple[Rates, ...], now: float = 50.0, *, context: int = 0, tier: str = "") -> int | None:
    found = pricing.in_force(prices, now, context_tokens=context, service_tier=tier)
    return None if found is None else found.price_id


def test_the_newest_price_that_has_begun_is_in_force() -> None:
    prices = (rates(3, 30.0), rates(2, 20.0), rates(1, 10.0))
    assert [chosen(prices, now) for now in (9.9, 10.0, 20.0, 29.9, 31.0)] == [None, 1, 2, 2, 3]
    assert chosen(()) is None


def test_above_a_context_size_the_whole_request_costs_the_tier() -> None:
    prices = (rates(3, above=400_000), rates(2, above=200_000), rates(1))
    sizes = (0, 200_000, 200_001, 400_000, 400_001)
    assert [chosen(prices, context=size) for size in sizes] == [1, 1, 2, 2, 3]
    assert [chosen((prices[1], prices[0], prices[2]), context=size) for size in sizes] == [1, 1, 2, 2, 3]
    long, short = (
        msgspec.structs.replace(price, above_context_tokens=above)
        for price, above in ((GEMINI_PRO_LONG, 200_000), (GEMINI_PRO, None))
    )
    costs = [
        pricing.cost(parts, pricing.in_force((long, short), 1.0, context_tokens=parts.context_tokens))
        for parts in (Parts(input=1, cache_read=199_999), Parts(input=1, cache_read=200_000))
    ]
    # 1 x 1,250 + 199,999 x 310; 1 x 2,500 + 200,000 x 625.
    assert costs == [62_000_940, 125_002_500]


def test_the_service_tier_of_the_answer_decides_and_an_unknown_one_is_standard() -> None:
    prices = (rates(4, above=200_000, tier="flex"), rates(3, tier="flex"), rates(2, above=200_000), rates(1))
    assert [chosen(prices, tier=tier) for tier in ("", "flex", "priority")] == [1, 3, 1]
    assert [chosen(prices, tier=tier, context=300_000) for tier in ("", "flex", "priority")] == [2, 4, 2]
    # A service tier without a price for this size has one for any.
    assert chosen((prices[1], prices[2], prices[3]), tier="flex", context=300_000) == 3


def test_a_new_price_retires_the_tiers_of_the_one_before() -> None:
    old = (rates(2, 10.0, above=200_000), rates(1, 10.0))
    assert chosen((rates(3, 20.0), *old), now=20.0, context=300_000) == 3
    assert chosen((rates(3, 20.0), *old), now=19.9, context=300_000) == 2
    # A tier that is added later stands beside the price; of two such the newer counts.
    assert chosen((rates(5, 40.0, tier="flex"), rates(4, 30.0, tier="flex"), *old), tier="flex") == 5
    assert chosen((rates(4, 30.0, tier="flex"), *old), context=300_000) == 2


@given(
    st.lists(
        st.builds(
            rates,
            st.integers(1, 99),
            st.integers(0, 5).map(float),
            above=st.sampled_from([None, 100, 200]),
            tier=st.sampled_from(["", "flex"]),
        ),
        max_size=8,
    ),
    st.integers(0, 6),
    st.sampled_from([0, 100, 101, 201]),
    st.sampled_from(["", "flex", "other"]),
)
def test_the_choice_is_what_the_rule_says(drawn: list[Rates], now: int, context: int, tier: str) -> None:
    def is_base(price: Rates) -> bool:
        return price.above_context_tokens is None and not price.service_tier

    prices = tuple(sorted(drawn, key=lambda price: (-price.effective_at, is_base(price))))
    begun = [price for price in prices if price.effective_at <= now]
    base = next((price for price in begun if is_base(price)), None)
    alive = [price for price in begun if base is None or price.effective_at >= base.effective_at]
    fitting = [
        price
        for price in alive
        if price.service_tier in ("", tier)
        and (price.above_context_tokens is None or context > price.above_context_tokens)
    ]
    best = max(
        (((bool(price.service_tier), price.above_context_tokens or -1), price.effective_at) for price in fitting),
        default=None,
    )
    found = pricing.in_force(prices, float(now), context_tokens=context, service_tier=tier)
    if best is None or found is None:
        assert found is None and best is None
    else:
        assert ((bool(found.service_tier), found.above_context_tokens or -1), found.effective_at) == best


# --- For an estimate --------------------------------------------------------------------------------------------------


def held(price: Rates, *, caching: bool = False, audio: bool = False) -> Rates:
    found = pricing.dearest((price,), 1.0, context_tokens=0, caching=caching, audio=audio)
    assert found is not None
    return found


def test_a_hold_counts_cache_writes_only_where_they_are_asked_for() -> None:
    assert held(SONNET).input == SONNET.input
    assert held(SONNET, caching=True).input == SONNET.cache_write_1h
    assert held(GPT_4O, caching=True).input == GPT_4O.input


def test_a_hold_counts_sound_only_where_it_may_come() -> None:
    assert (held(GPT_4O_AUDIO).input, held(GPT_4O_AUDIO).output) == (2_500_000_000, 10_000_000_000)
    loud = held(GPT_4O_AUDIO, audio=True)
    assert (loud.input, loud.output) == (40_000_000_000, 80_000_000_000)


def test_a_hold_is_made_at_the_tier_of_its_size_and_service() -> None:
    prices = (rates(3, tier="priority", input=3), rates(2, above=200_000, input=2), rates(1, input=1))
    sizes = [pricing.dearest(prices, 1.0, context_tokens=size) for size in (200_000, 200_001)]
    assert [size and size.price_id for size in sizes] == [1, 2]
    priority = pricing.dearest(prices, 1.0, context_tokens=0, service_tier="priority")
    assert priority is not None and priority.input == 3
    assert pricing.dearest((), 1.0, context_tokens=0) is None


@given(RATES, st.booleans(), st.booleans())
def test_no_part_of_a_hold_is_cheaper_than_its_parent_or_its_price(price: Rates, caching: bool, audio: bool) -> None:
    found = held(price, caching=caching, audio=audio)
    into = ("cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image_input")
    assert all(getattr(found, name) >= found.input for name in into)
    assert found.reasoning >= found.output and found.audio_output >= found.output
    assert all(getattr(found, name) >= getattr(price, name) for name in RATE_NAMES)
