"""Prices come from the package's data exactly, and never into this process."""

import sys
from datetime import date, time
from decimal import Decimal
from types import SimpleNamespace

import pytest

from catalog import price_list

DAY = date(2026, 11, 1)


@pytest.mark.parametrize(
    ("dollars", "nanos"),
    [("2.5", 2_500_000_000), ("0.075", 75_000_000), ("0", 0), ("0.000000001", 1), ("0.0000000011", 2)],
)
def test_dollars_become_nanos_exactly_or_rounded_up(dollars: str, nanos: int) -> None:
    assert price_list.nanos(Decimal(dollars)) == nanos


def test_tiers_are_kept_and_of_the_hours_the_dearest() -> None:
    tiered = SimpleNamespace(base=Decimal(3), tiers=[SimpleNamespace(start=200_000, price=Decimal(6))])
    night = {"input_mtok": Decimal("0.1"), "output_mtok": Decimal(1)}
    day = {"input_mtok": tiered, "output_mtok": Decimal("0.5"), "cache_read_mtok": None}
    found = price_list.tariff_of([night, day])
    assert found.rates == {"input": 3_000_000_000, "output": 1_000_000_000}
    assert found.tiers == {200_000: {"input": 6_000_000_000, "output": 1_000_000_000}}


def test_what_is_not_priced_per_token_has_no_rates() -> None:
    assert price_list.rates_of([{"audio_hours": Decimal(1)}]) == {}
    assert price_list.rates_of([{"input_mtok": Decimal(1)}]) == {}


def test_a_rate_without_a_tier_of_its_own_is_the_same_in_all_of_them() -> None:
    def stepped(base: int, **steps: int) -> SimpleNamespace:
        tiers = [SimpleNamespace(start=int(name[1:]), price=Decimal(rate)) for name, rate in steps.items()]
        return SimpleNamespace(base=Decimal(base), tiers=tiers)

    price = {"input_mtok": stepped(1, _200=4, _100=2), "output_mtok": stepped(5, _100=6), "cache_read_mtok": Decimal(1)}
    found = price_list.tariff_of([price])
    assert found.tiers == {
        100: {"input": 2 * 10**9, "output": 6 * 10**9, "cache_read": 10**9},
        200: {"input": 4 * 10**9, "output": 6 * 10**9, "cache_read": 10**9},
    }
    assert found.scaled(Decimal("0.5")).tiers[200] == {"input": 2 * 10**9, "output": 3 * 10**9, "cache_read": 5 * 10**8}


def test_a_tier_of_the_data_begins_above_the_size_that_the_vendor_names() -> None:
    long = price_list.load("google", ["gemini-2.5-pro"], DAY).tariff("gemini-2.5-pro")
    assert (long.rates["input"], long.rates["output"]) == (1_250_000_000, 10_000_000_000)
    assert {above: (rates["input"], rates["output"]) for above, rates in long.tiers.items()} == {
        200_000: (2_500_000_000, 15_000_000_000)
    }


def test_embeddings_cost_nothing_for_output() -> None:
    assert price_list.rates_of([{"input_mtok": Decimal("0.02")}], embedding=True) == {"input": 20_000_000, "output": 0}


def test_the_prices_of_a_day_are_the_newest_that_began_and_all_hours_after_it() -> None:
    def at(price: str, **constraint: object) -> SimpleNamespace:
        return SimpleNamespace(
            constraint=SimpleNamespace(**constraint) if constraint else None,
            prices=SimpleNamespace(input_mtok=Decimal(price)),
        )

    prices = [
        at("1"),
        at("2", start_date=date(2026, 1, 1)),
        at("3", start_time=time(0), end_time=time(8)),
        at("9", start_date=date(2027, 1, 1)),
    ]
    assert [price["input_mtok"] for price in price_list.active(prices, DAY)] == [2, 3]
    assert [price["input_mtok"] for price in price_list.active(prices[1:2], date(2025, 1, 1))] == [2]


def test_a_list_is_read_in_a_child_and_other_spellings_are_matched() -> None:
    listing = price_list.load("anthropic", ["claude-sonnet-4-6-20260101", "nobody-knows-this"], DAY)
    assert listing.tariff("claude-sonnet-4-6-20260101") == listing.tariff("claude-sonnet-4-6") != price_list.UNKNOWN
    assert listing.tariff("claude-sonnet-4-6").rates["input"] == 3_000_000_000
    assert listing.tariff("nobody-knows-this") == price_list.UNKNOWN
    assert "genai_prices" not in sys.modules


def test_a_list_that_does_not_exist_is_empty() -> None:
    assert price_list.load("no such list", ["gpt-4o"], DAY) == price_list.PriceList()


def test_a_child_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(price_list.PriceListError, match=r"'openai' could not be read: .*nonexistent"):
        price_list.load("openai", ["asked for here alone"], DAY)
