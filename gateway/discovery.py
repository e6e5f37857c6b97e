"""Compare what providers list with what is served from them: new models, and those that have vanished.

Once a day for each provider that wants it; of several workers one does it. A listing counts only if it was read to its
last page and names something. New models with a known price are proposed or published, as the provider's setting says;
a target that two listings in a row do not name, though one did, is flagged, never deleted.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from catalog import health, proposals, seeding, standings
from catalog.credentials import UnreadableSecret
from catalog.models import Check, Proposal, Provider, Standing
from catalog.price_list import PriceListError
from gateway import checks, networks, soundings

logger = logging.getLogger(__name__)

EVERY = timedelta(hours=23)
PAGES_MAX = 20
# Between two looks at a target that is missing.
TRUSTED_S = 3 * 86_400.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one comparison brought, or why there was none."""

    listed: int = 0
    new: int = 0
    published: int = 0
    vanished: int = 0
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        new = f"{self.new} new ones proposed, {self.published} published"
        return f"{self.listed} models listed: {new}, {self.vanished} vanished"


def run_due(now: datetime) -> None:
    """Compare every provider that was not compared for a day."""
    for provider in Provider.objects.filter(enabled=True).exclude(discovery=Provider.OFF).exclude(source=Provider.DEMO):
        row = checks.standing_of(provider)
        due = Standing.objects.filter(Q(discovered_at=None) | Q(discovered_at__lte=now - EVERY), pk=row.pk)
        if due.update(discovered_at=now):
            outcome = compare(provider, now)
            logger.info("models of %s: %s", provider.slug, outcome)


def compare(provider: Provider, now: datetime) -> Outcome:
    """Compare one provider's listing now; every failure is an Outcome, none raises."""
    credential = checks.credentials_of(provider)[0]
    policy = networks.operator_policy(settings.PRIVATE_UPSTREAMS)
    try:
        there = soundings.way(provider, credential)
    except UnreadableSecret as error:
        return Outcome(problem=f"The credential does not open: {error}")
    sounding = async_to_sync(soundings.listing)(there, policy=policy, pages=PAGES_MAX)
    Check.objects.create(
        provider=provider,
        credential=credential.name if credential else "",
        at=now,
        latency_ms=sounding.latency_ms,
        outcome=sounding.outcome,
        reason=f"Models compared. {sounding.reason}"[: health.REASON_CHARS_MAX],
        requests=sounding.requests,
    )
    if not sounding.models or not sounding.whole:
        return Outcome(problem=f"No whole list of models: {sounding.reason}")
    try:
        return _compared(provider, sounding.models, now)
    except PriceListError as error:
        return Outcome(problem=str(error))


def _compared(provider: Provider, models: tuple[str, ...], now: datetime) -> Outcome:
    names = frozenset(models)
    proposals.withdraw(provider, names)
    vanished = standings.note_listing(provider, names, now, trusted_s=TRUSTED_S)
    flagged = proposals.flag_vanished(vanished, now)
    finds = seeding.unserved(provider, models, now=now)
    published = 0
    # Both or neither: what was proposed once is not new the next day.
    with transaction.atomic():
        made = proposals.propose(provider, finds, now)
        if provider.discovery == Provider.PUBLISH and made:
            proposals.accept(made, now, state=Proposal.PUBLISHED)
            published = len(made)
    return Outcome(len(names), len(made) - published, published, flagged)
