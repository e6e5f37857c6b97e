"""Proposals: what a provider's listing or the price data suggests, and what becomes of it.

Invariants: an id is proposed once for each kind, so what was accepted or ignored is not proposed again (what was
published and then deleted by the operator stays away, too); nothing is ever deleted but proposals; accepting a vanished
model switches its targets at this provider off; accepting a price begins the very one that was shown. A price that was
decided is proposed again when it is another one (`catalog.leaps`).
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from catalog import leaps, seeding
from catalog.models import Proposal, Provider, Target
from catalog.seeding import Find, Offer, Seeded


def propose(provider: Provider, finds: Iterable[Find], now: datetime) -> list[Proposal]:
    """Put finds before the operator; return the proposals that are new."""
    made = []
    for find in finds:
        offer, rates = find.offer, find.tariff.rates
        row, is_new = Proposal.objects.get_or_create(
            provider=provider,
            kind=Proposal.NEW,
            upstream_id=offer.upstream_id,
            defaults={
                "public_id": offer.public_id,
                "model_kind": offer.columns.get("kind", "chat"),
                "name": offer.columns.get("name", ""),
                "context_tokens": offer.columns.get("context_tokens"),
                "input": rates["input"],
                "output": rates["output"],
                "created_at": now,
            },
        )
        if is_new:
            made.append(row)
    return made


def flag_vanished(targets: Iterable[Target], now: datetime) -> int:
    """Put vanished targets before the operator; return how many are new."""
    made = 0
    for target in targets:
        _, is_new = Proposal.objects.get_or_create(
            provider_id=target.provider_id,
            kind=Proposal.VANISHED,
            upstream_id=target.upstream_id,
            defaults={
                "public_id": target.model.public_id,
                "model_kind": target.model.kind,
                "name": target.model.name,
                "created_at": now,
            },
        )
        made += is_new
    return made


def withdraw(provider: Provider, names: frozenset[str]) -> None:
    """Take back what a listing of these NAMES has overtaken: vanished models that are back, new ones that left or
    that somebody serves already.
    """
    rows = Proposal.objects.filter(provider=provider)
    rows.filter(kind=Proposal.VANISHED, upstream_id__in=names).delete()
    fresh = rows.filter(kind=Proposal.NEW, state=Proposal.OPEN)
    fresh.exclude(upstream_id__in=names).delete()
    fresh.filter(upstream_id__in=provider.targets.values("upstream_id")).delete()


def accept(rows: Iterable[Proposal], now: datetime, *, state: str = Proposal.ACCEPTED) -> str:
    """Do what is proposed, as far as it is open; return what was done, in words. Raise PriceListError."""
    made, off = Seeded(), 0
    with transaction.atomic():
        fresh: dict[Provider, list[Offer]] = defaultdict(list)
        for row in rows:
            if not _decide(row, state, now):
                continue
            if row.kind == Proposal.VANISHED:
                served = Target.objects.filter(provider=row.provider, upstream_id=row.upstream_id, enabled=True)
                off += served.update(enabled=False)
            elif row.kind == Proposal.PRICE:
                begun = seeding.believe(row.provider, row.upstream_id, leaps.tariff_in(row), now=now)
                made = Seeded(prices=made.prices + begun)
            else:
                fresh[row.provider].append(_offer(row))
        for provider, offered in fresh.items():
            done = seeding.publish(provider, offered, now=now)
            made = Seeded(made.models + done.models, made.targets + done.targets, made.prices + done.prices)
    return f"{made} made; {off} targets switched off"


def _offer(row: Proposal) -> Offer:
    return seeding.offer(row.public_id, row.upstream_id, row.model_kind, row.name, row.context_tokens)


def ignore(rows: Iterable[Proposal], now: datetime) -> int:
    """Leave things as they are, for good; return how many were open."""
    return sum(_decide(row, Proposal.IGNORED, now) for row in rows)


def _decide(proposal: Proposal, state: str, now: datetime) -> bool:
    """Note a decision; False where it was made already, or what is proposed became something else since it was read."""
    still = Proposal.objects.filter(pk=proposal.pk, state=Proposal.OPEN, created_at=proposal.created_at)
    return still.update(state=state, decided_at=now) == 1
