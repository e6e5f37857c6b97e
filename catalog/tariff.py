"""A target's tariff: the base price in force and the tiers that live beside it. Pure.

The rule is `billing.pricing`'s, told of rows: a base price retires every price that began before it.
"""

from collections.abc import Iterable
from datetime import datetime

from catalog.models import Price


def in_force(prices: Iterable[Price], now: datetime) -> list[Price]:
    """Return the rows of one target's tariff at NOW, the base price first; empty where no base price has begun."""
    begun = sorted(
        (price for price in prices if price.effective_at <= now),
        key=lambda price: (price.effective_at, price.pk),
        reverse=True,
    )
    base = next((price for price in begun if price.is_base), None)
    if base is None:
        return []
    tiers: dict[tuple[str, int], Price] = {}
    for price in begun:
        if not price.is_base and price.effective_at >= base.effective_at:
            above = price.above_context_tokens
            tiers.setdefault((price.service_tier, -1 if above is None else above), price)
    return [base, *(tiers[key] for key in sorted(tiers))]
