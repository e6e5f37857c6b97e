"""Rates as people write them (dollars) and as they are kept (integer nano-dollars). Pure; nothing is ever rounded."""

from decimal import Context, Decimal, Inexact, InvalidOperation

DECIMALS = 9
NANOS = 1_000_000_000
# $100,000 for a million tokens: a thousand times what anyone asks, and no cost outgrows its column.
RATE_NANOS_MAX = 100_000 * NANOS
TEXT_LENGTH_MAX = 40
EXACT = Context(prec=2 * TEXT_LENGTH_MAX, traps=[Inexact])


def to_nanos(text: str) -> int:
    """Return dollars such as `0.075` in nano-dollars; raise ValueError where they are no amount or finer than that."""
    try:
        dollars = Decimal(text.strip().removeprefix("$").strip()[: TEXT_LENGTH_MAX + 1])
    except InvalidOperation:
        raise ValueError(f"{text!r} is not an amount of dollars: write 3 or 0.075.") from None
    if len(text) > TEXT_LENGTH_MAX:
        raise ValueError(f"An amount of dollars has at most {TEXT_LENGTH_MAX} characters.")
    if not dollars.is_finite() or dollars < 0 or dollars > RATE_NANOS_MAX // NANOS:
        raise ValueError(f"{text!r} is not an amount of dollars from 0 to {RATE_NANOS_MAX // NANOS:,}.")
    exponent = dollars.normalize(EXACT).as_tuple().exponent
    if isinstance(exponent, int) and exponent < -DECIMALS:
        raise ValueError(f"{text!r} is finer than a billionth of a dollar: at most nine decimals can be kept.")
    return int(dollars.scaleb(DECIMALS, EXACT))


def to_dollars(nanos: int) -> str:
    """Return nano-dollars as dollars with at least two decimals and no more than are needed."""
    whole, rest = divmod(nanos, NANOS)
    return f"{whole}.{f'{rest:09}'.rstrip('0').ljust(2, '0')}"
