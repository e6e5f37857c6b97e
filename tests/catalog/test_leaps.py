"""A price of the data is believed unless a rate, as it is charged, moves to or from zero or by more than four times."""

import pytest

from catalog import leaps
from catalog.price_list import Tariff

DOLLAR = 10**9
BEFORE = {"input": 4 * DOLLAR, "output": 8 * DOLLAR}


def rates(**dollars: float) -> dict[str, int]:
    """Return rates in nano-dollars."""
    return {part: int(each * DOLLAR) for part, each in dollars.items()}


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (rates(input=4, output=8), ""),
        (rates(input=16, output=2), ""),
        (rates(input=16.01, output=8), "input $4.00 to $16.01"),
        (rates(input=4, output=1.99), "output $8.00 to $1.99"),
        (rates(input=4, output=0), "output $8.00 to $0.00"),
        (rates(input=4, output=8, cache_read=1), ""),
        (rates(input=4, output=8, cache_read=0.4), "cache read $4.00 to $0.40"),
        (rates(input=4, output=8, cache_write_5m=5, cache_write_1h=20.01), "cache write 1h $4.00 to $20.01"),
        (rates(input=4, output=8, web_search=10), ""),
    ],
)
def test_a_leap_is_told_by_the_rate_as_it_is_charged(after: dict[str, int], reason: str) -> None:
    found = leaps.leap(Tariff(BEFORE), Tariff(after))
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_a_rate_that_is_left_out_falls_back_to_its_parents() -> None:
    cached = BEFORE | rates(cache_read=0.4)
    assert leaps.leap(Tariff(cached), Tariff(BEFORE)) == "cache read $0.40 to $4.00"
    assert leaps.leap(Tariff(BEFORE | rates(web_search=10)), Tariff(BEFORE)) == "web search $10.00 to $0.00"


def test_what_was_free_is_not_sold_unseen() -> None:
    assert leaps.leap(Tariff(rates(input=0, output=0)), Tariff(rates(input=0, output=0))) == ""
    assert leaps.leap(Tariff(rates(input=0, output=0)), Tariff(rates(input=0.01, output=0))).startswith(
        "input $0.00 to"
    )


def test_tiers_are_compared_by_the_size_that_they_are_for() -> None:
    long = {200_000: rates(input=8, output=12)}
    assert leaps.leap(Tariff(BEFORE, long), Tariff(BEFORE)) == ""
    assert leaps.leap(Tariff(BEFORE), Tariff(BEFORE, long)) == ""
    found = leaps.leap(Tariff(BEFORE, long), Tariff(BEFORE, {100_000: rates(input=4, output=90)}))
    assert found.startswith("output above 100,000 tokens $8.00 to $90.00")
    assert "output above 200,000 tokens $12.00 to $90.00" in found
