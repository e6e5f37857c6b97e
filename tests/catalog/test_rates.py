"""Dollars in and out of integer nano-dollars."""

import pytest

from catalog import rates


@pytest.mark.parametrize(
    ("text", "nanos", "shown"),
    [
        ("3", 3_000_000_000, "3.00"),
        ("$0.075", 75_000_000, "0.075"),
        (" 0.000000001 ", 1, "0.000000001"),
        ("0", 0, "0.00"),
        ("1e-3", 1_000_000, "0.001"),
        ("12.50", 12_500_000_000, "12.50"),
        ("3.0000000000000", 3_000_000_000, "3.00"),
        ("100000", 100_000_000_000_000, "100000.00"),
    ],
)
def test_dollars_are_kept_exactly_and_shown_shortly(text: str, nanos: int, shown: str) -> None:
    assert rates.to_nanos(text) == nanos
    assert rates.to_dollars(nanos) == shown
    assert rates.to_nanos(shown) == nanos


@pytest.mark.parametrize(
    "text",
    ["", "three", "-1", "NaN", "Infinity", "0.0000000001", "0.1234567891", "100001", "1e30", "1e-999999", "1,5",
     "1" * 41, "0." + "1" * 38],
)  # fmt: skip
def test_what_would_be_lost_or_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"dollar"):
        rates.to_nanos(text)
