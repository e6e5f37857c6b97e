"""A request costs its parts times the rates in force, rounded up once."""

from hypothesis import given
from hypothesis import strategies as st

from billing import pricing
from billing.pricing import Parts, Rates

NAMES = Parts.__struct_fields__


def rates(price_id: int = 1, effective_at: float = 0.0, **parts: int) -> Rates:
    return Rates(price_id=price_id, effective_at=effective_at, **dict.fromkeys(NAMES, 0) | parts)


@given(
    st.fixed_dictionaries({name: st.integers(0, 10**9) for name in NAMES}),
    st.fixed_dictionaries({name: st.integers(0, 10**12) for name in NAMES}),
)
def test_the_cost_is_the_exact_sum_rounded_up_once(tokens: dict[str, int], prices: dict[str, int]) -> None:
    exact = sum(tokens[name] * prices[name] for name in NAMES)
    assert 0 <= pricing.cost(Parts(**tokens), rates(**prices)) * 10**6 - exact < 10**6


def test_a_worked_example() -> None:
    # 1000 in at $2.50, 200 of them cached at $1.25, 20 out at $10 a million.
    parts = Parts(input=800, cache_read=200, output=20)
    dear = rates(input=2_500_000_000, cache_read=1_250_000_000, output=10_000_000_000)
    assert pricing.cost(parts, dear) == 2_000_000 + 250_000 + 200_000


def test_without_a_price_nothing_is_charged() -> None:
    assert pricing.cost(Parts(input=10**9), None) == 0


def test_the_newest_price_that_has_begun_is_in_force() -> None:
    prices = (rates(3, 30.0), rates(2, 20.0), rates(1, 10.0))
    found = [pricing.in_force(prices, now) for now in (9.9, 10.0, 20.0, 29.9, 31.0)]
    assert [price and price.price_id for price in found] == [None, 1, 2, 2, 3]
    assert pricing.in_force((), 5.0) is None
