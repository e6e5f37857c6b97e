"""Money is an integer number of nano-dollars (1e-9 $), in one frozen type; prices are nano-dollars per million tokens.

One rounding rule, used once for each amount: what is charged or held is rounded up to the next nano-dollar, so that
nothing is ever sold below its cost. Everything else is exact or raises. Columns and wire formats hold the integer.
"""

from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow

import msgspec

NANOS_PER_DOLLAR = 1_000_000_000
NANOS_PER_CENT = NANOS_PER_DOLLAR // 100
TOKENS_PER_PRICE = 1_000_000
# Markups are in parts per million.
PARTS_PER_MILLION = 1_000_000
# What a bigint column holds.
NANOS_MAX = 2**63 - 1
# What one request may cost, $10 million: more is a mistake in a price, and hundreds at once must fit into a column.
REQUEST_NANOS_MAX = 10**16

# Python's own context rounds to 28 digits without a word.
EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, Overflow])


class LossyAmount(ValueError):
    """An amount that nano-dollars cannot express exactly, or that no column holds."""


class Money(msgspec.Struct, frozen=True, order=True):
    """An exact amount; it adds, subtracts, compares, and multiplies by integers, and by nothing else."""

    nanos: int

    def __post_init__(self) -> None:
        if type(self.nanos) is not int:
            raise TypeError(f"Money is a whole number of nano-dollars, not {self.nanos!r}.")
        if not -NANOS_MAX <= self.nanos <= NANOS_MAX:
            raise LossyAmount(f"{self.nanos} nano-dollars are more than a column holds.")

    def __add__(self, other: "Money") -> "Money":
        return Money(self.nanos + other.nanos) if isinstance(other, Money) else NotImplemented

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.nanos - other.nanos) if isinstance(other, Money) else NotImplemented

    def __neg__(self) -> "Money":
        return Money(-self.nanos)

    def __mul__(self, times: int) -> "Money":
        return Money(self.nanos * times) if type(times) is int else NotImplemented

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        return self.nanos != 0

    def __str__(self) -> str:
        return dollars(self.nanos)


ZERO = Money(0)


def ratio(numerator: int, denominator: int) -> int:
    """Return NUMERATOR / DENOMINATOR rounded up: the one rounding rule."""
    return -(-numerator // denominator)


def charge(amount_per_million: int) -> int:
    """Return the nano-dollars of a sum of tokens x price, rounded up."""
    return ratio(amount_per_million, TOKENS_PER_PRICE)


def of_dollars(text: str | int | Decimal) -> Money:
    """Return the amount that a decimal text of dollars means, exactly; raise LossyAmount for anything else."""
    if isinstance(text, bool | float):
        raise LossyAmount(f"Write dollars as a text such as 5.00, not as {text!r}.")
    try:
        nanos = EXACT.multiply(Decimal(text), NANOS_PER_DOLLAR)
    except DecimalException:
        raise LossyAmount(f"{text!r} is no amount of dollars; write one such as 5.00.") from None
    if not nanos.is_finite() or nanos != nanos.to_integral_value():
        raise LossyAmount(f"${text} is not a whole number of nano-dollars.")
    return Money(int(nanos))


def of_cents(cents: int) -> Money:
    """Return the amount of a payment provider's cents."""
    return Money(cents * NANOS_PER_CENT)


def dollars(nanos: int) -> str:
    """Return an exact decimal text, nine places: 1_500 is `0.000001500`."""
    sign = "-" if nanos < 0 else ""
    whole, rest = divmod(abs(nanos), NANOS_PER_DOLLAR)
    return f"{sign}{whole}.{rest:09d}"


def factor(parts_per_million: int) -> str:
    """Return a markup as a decimal text: 1_200_000 is `1.2`."""
    whole, rest = divmod(parts_per_million, PARTS_PER_MILLION)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")


def shown(nanos: int) -> str:
    """Return dollars as people read them: at least cents, more places only where they say something."""
    text = dollars(nanos)
    whole, _, rest = text.rpartition(".")
    return f"{whole}.{rest.rstrip('0'):0<2}"
