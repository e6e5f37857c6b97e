"""Leaps: prices of the data that moved too far from the newest price of a target to be believed unseen.

A feed that is broken or poisoned sells for nothing, or empties wallets. So a rate that falls to zero, rises from it, or
moves by more than four times either way begins no price by itself: the whole tariff waits for the operator, as a
proposal. A target's first price has nothing to be compared with, and begins.

Rates are compared as they are charged: a part without one costs what its parent part does, and a size without a tier
what the tier below it does.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from catalog import rates
from catalog.models import Price, Proposal, Target
from catalog.price_list import Tariff

FACTOR_MAX = 4
REASON_CHARS_MAX = 500
PARENTS = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "audio_input": "input",
    "image_input": "input",
    "reasoning": "output",
    "audio_output": "output",
}


def tariff_of(newest: Iterable[Price]) -> Tariff:
    """Return the tariff of rows of one target, the base price and its tiers by size."""
    sizes = {
        price.above_context_tokens: {
            part: rate for part in Price.PARTS if (rate := getattr(price, part, None)) is not None
        }
        for price in newest
    }
    base = sizes.pop(None, {})
    return Tariff(base, {above: each for above, each in sizes.items() if above is not None})


def leap(before: Tariff, after: Tariff) -> str:
    """Return which rates move too far, in words; empty where none does."""
    found = []
    for above in [None, *sorted(before.tiers.keys() | after.tiers.keys())]:
        old, new = _at(before, above), _at(after, above)
        for part in Price.PARTS:
            was, becomes = _charged(old, part), _charged(new, part)
            # Searches have no parent: without a rate they were not known to cost anything.
            if was is not None and _too_far(was, becomes or 0):
                size = f" above {above:,} tokens" if above is not None else ""
                name = part.replace("_", " ")
                found.append(f"{name}{size} ${rates.to_dollars(was)} to ${rates.to_dollars(becomes or 0)}")
    return ", ".join(found)[:REASON_CHARS_MAX]


def _at(tariff: Tariff, above: int | None) -> Mapping[str, int]:
    """Return the rates of requests just above a size (None: of small ones)."""
    starts = [start for start in tariff.tiers if above is not None and start <= above]
    return tariff.tiers[max(starts)] if starts else tariff.rates


def _charged(each: Mapping[str, int], part: str) -> int | None:
    found = each.get(part)
    return _charged(each, PARENTS[part]) if found is None and part in PARENTS else found


def _too_far(was: int, becomes: int) -> bool:
    return max(was, becomes) > FACTOR_MAX * min(was, becomes)


def queue(target: Target, wanted: Tariff, reason: str, now: datetime) -> None:
    """Put a leap before the operator, unless the same one waits or was ignored."""
    row, is_new = Proposal.objects.get_or_create(
        provider_id=target.provider_id,
        kind=Proposal.PRICE,
        upstream_id=target.upstream_id,
        defaults=_columns(target, wanted, reason, now),
    )
    if not is_new and (row.state == Proposal.ACCEPTED or tariff_in(row) != wanted):
        Proposal.objects.filter(pk=row.pk).update(
            **_columns(target, wanted, reason, now), state=Proposal.OPEN, decided_at=None, told_at=None
        )


def withdraw(provider_id: int, upstream_ids: Iterable[str]) -> None:
    """Take back what waits and is no leap any more: all of a provider's but these."""
    rows = Proposal.objects.filter(provider_id=provider_id, kind=Proposal.PRICE, state=Proposal.OPEN)
    rows.exclude(upstream_id__in=list(upstream_ids)).delete()


def tariff_in(row: Proposal) -> Tariff:
    """Return the tariff that waits in a proposal."""
    # JSON has no numbers for keys.
    return msgspec.convert(row.tariff, Tariff, strict=False)


def _columns(target: Target, wanted: Tariff, reason: str, now: datetime) -> dict[str, object]:
    return {
        "public_id": target.model.public_id,
        "model_kind": target.model.kind,
        "name": target.model.name,
        "input": wanted.rates["input"],
        "output": wanted.rates["output"],
        "tariff": msgspec.to_builtins(wanted, str_keys=True),
        "reason": reason,
        "created_at": now,
    }
