"""Nano-dollars add up exactly and round up once."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import money
from billing.money import Money


@given(st.integers(0, 10**24))
def test_a_charge_is_never_below_its_cost_nor_a_nano_dollar_above(amount_per_million: int) -> None:
    charged = money.charge(amount_per_million)
    assert 0 <= charged * 10**6 - amount_per_million < 10**6


@given(st.integers(-(10**24), 10**24))
def test_dollars_are_exact(nanos: int) -> None:
    text = money.dollars(nanos)
    assert Decimal(text) * 10**9 == nanos
    assert len(text.split(".")[1]) == 9


def test_small_and_negative_amounts_read_as_people_write_them() -> None:
    assert [money.dollars(nanos) for nanos in (0, 1_500, -1, 12_345_678_901)] == [
        "0.000000000",
        "0.000001500",
        "-0.000000001",
        "12.345678901",
    ]


@given(st.integers(-(2**62), 2**62), st.integers(-(2**61), 2**61))
def test_money_adds_subtracts_and_compares_exactly(one: int, other: int) -> None:
    assert (Money(one) + Money(other)).nanos == one + other
    assert (Money(one) - Money(other)).nanos == one - other
    assert (Money(one) < Money(other)) == (one < other)
    assert (-Money(one)).nanos == -one
    assert bool(Money(one)) == bool(one)


@pytest.mark.parametrize("value", [1.5, True, "1", None, Decimal(1)])
def test_money_is_made_of_whole_nano_dollars_only(value: Any) -> None:
    with pytest.raises(TypeError):
        Money(value)


@pytest.mark.parametrize("lossy", [lambda m: m * 1.2, lambda m: m / 2, lambda m: m + 1, lambda m: m * Decimal("1.2")])
def test_arithmetic_that_could_lose_something_raises(lossy: Any) -> None:
    with pytest.raises(TypeError):
        lossy(Money(10))


def test_an_amount_that_no_column_holds_is_refused() -> None:
    """new-api 2608 and CVE-2026-71479: amounts were truncated, and wrapped around."""
    with pytest.raises(money.LossyAmount):
        Money(2**63 - 1) + Money(1)
    with pytest.raises(money.LossyAmount):
        Money(2**62) * 4


def test_money_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Money(1).nanos = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "nanos"), [("5.00", 5 * 10**9), ("0.000000001", 1), ("-1", -(10**9)), (3, 3 * 10**9), ("1e2", 10**11)]
)
def test_dollars_are_read_exactly(text: str | int, nanos: int) -> None:
    assert money.of_dollars(text).nanos == nanos


@pytest.mark.parametrize(
    "text", ["0.0000000001", f"1.{'0' * 30}1", "five", "", "NaN", "Infinity", "1e999999999", "10000000000", 1.5, True]
)
def test_dollars_that_nanos_cannot_express_are_refused(text: Any) -> None:
    with pytest.raises(money.LossyAmount):
        money.of_dollars(text)


def test_cents_are_whole_nano_dollars() -> None:
    assert money.of_cents(1) == Money(10_000_000)


def test_people_read_cents_and_more_places_only_where_they_say_something() -> None:
    assert [money.shown(nanos) for nanos in (0, 1_500_000_000, 1_234, -(10**7))] == [
        "0.00",
        "1.50",
        "0.000001234",
        "-0.01",
    ]


@pytest.mark.parametrize(
    ("ppm", "text"), [(1_200_000, "1.2"), (1_000_000, "1"), (0, "0"), (1, "0.000001"), (12_345_678, "12.345678")]
)
def test_a_markup_is_an_exact_text(ppm: int, text: str) -> None:
    assert money.factor(ppm) == text
