"""Money is an integer number of nano-dollars (1e-9 $). Prices are nano-dollars per million tokens.

One rounding rule, used once for each request: a charge is rounded up to the next nano-dollar, so that nothing is ever
sold below its cost.
"""

NANOS_PER_DOLLAR = 1_000_000_000
TOKENS_PER_PRICE = 1_000_000


def charge(amount_per_million: int) -> int:
    """Return the nano-dollars of a sum of tokens x price, rounded up."""
    return -(-amount_per_million // TOKENS_PER_PRICE)


def dollars(nanos: int) -> str:
    """Return an exact decimal text, nine places: 1_500 is `0.000001500`."""
    sign = "-" if nanos < 0 else ""
    whole, rest = divmod(abs(nanos), NANOS_PER_DOLLAR)
    return f"{sign}{whole}.{rest:09d}"
