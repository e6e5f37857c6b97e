"""Nano-dollars add up exactly and round up once."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from billing import money


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
