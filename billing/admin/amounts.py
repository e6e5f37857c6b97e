"""Form fields and cells of money: people read and write dollars and factors, the database holds integers."""

from decimal import Decimal, DecimalException
from typing import Any

from django.utils.html import format_html

from accounts.integers import IntegerAsText
from billing import money


def dollars_field(**kwargs: Any) -> IntegerAsText:
    """Return a field with dollars on the page and nano-dollars, 0 or more, in the database."""
    return IntegerAsText(money.shown, read_dollars, "$", **kwargs)


def factor_field(**kwargs: Any) -> IntegerAsText:
    """Return a field with a factor such as 1.2 on the page and parts per million in the database."""
    return IntegerAsText(money.factor, read_factor, "1.2", **kwargs)


def read_dollars(text: str) -> int:
    """Return the nano-dollars of what was typed; raise ValueError."""
    nanos = money.of_dollars(text.removeprefix("$").replace(",", "")).nanos
    if nanos < 0:
        raise ValueError("Write an amount of 0 or more.")
    return nanos


def read_factor(text: str) -> int:
    """Return the parts per million of what was typed; raise ValueError."""
    try:
        parts = money.EXACT.multiply(Decimal(text), money.PARTS_PER_MILLION)
    except DecimalException:
        raise ValueError(f"{text!r} is no factor; write one such as 1.2.") from None
    if not parts.is_finite() or parts != parts.to_integral_value() or not 0 <= parts <= 2**31 - 1:
        raise ValueError("Write a factor from 0 to 2147, with at most six decimal places.")
    return int(parts)


def rounded(nanos: int) -> str:
    """Return dollars for a headline: cents, or six places where that would say nothing."""
    places = 2 if abs(nanos) >= money.NANOS_PER_DOLLAR // 10 or not nanos else 6
    sign = "-" if nanos < 0 else ""
    return f"{sign}${Decimal(abs(nanos)) / money.NANOS_PER_DOLLAR:,.{places}f}"


def cell(nanos: int, *, plain: bool = False) -> str:
    """Return dollars for a table's cell: never broken over lines, and unless PLAIN, negative ones in red."""
    text = money.shown(abs(nanos))
    whole, _, rest = text.partition(".")
    text = f"{int(whole):,}.{rest}"
    if nanos >= 0:
        return format_html('<span class="whitespace-nowrap">${}</span>', text)
    tone = "" if plain else "text-red-600 dark:text-red-500"
    return format_html('<span class="whitespace-nowrap {}">-${}</span>', tone, text)
