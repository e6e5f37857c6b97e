"""Keep how providers, credentials and targets do: feed `health.decide`, and write each change down with its reason.

Invariants: a signal is applied under the lock of its subject's row, so that of two at once each sees the other's; a
state that was found with another address, secret or upstream id is forgotten; a change is written in the transaction
of its state.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from catalog import health
from catalog.health import Condition, Signal
from catalog.models import Check, Credential, Provider, Standing, StandingChange, Target

CHECKS_KEPT = timedelta(days=7)

Subject = Provider | Credential | Target


def apply(
    subject: Subject, signal: Signal, *, trusted_s: float, thresholds: health.Thresholds = health.USUAL
) -> Standing:
    """Return a subject's standing after a signal; a state that is bad counts for TRUSTED_S unless it is renewed."""
    with transaction.atomic():
        row = _locked(subject)
        if row.basis != basis_of(subject):
            _enter(row, Condition(), Signal(health.ALIVE, signal.at, "It was changed.", signal.source))
            row.basis, row.listed, row.told = basis_of(subject), False, ""
        _enter(row, health.decide(condition(row), signal, thresholds), signal)
        row.checked_at = signal.at
        row.trusted_until_at = signal.at + timedelta(seconds=trusted_s)
        row.save()
    return row


def basis_of(subject: Subject) -> str:
    """Return what a subject's state is found with: change it, and the state says nothing."""
    if isinstance(subject, Credential):
        return subject.fingerprint
    return subject.upstream_id if isinstance(subject, Target) else subject.base_url


def condition(row: Standing) -> Condition:
    """Return a row's condition."""
    return Condition(row.state, row.since_at, row.reason, row.failures)


def _locked(subject: Subject) -> Standing:
    if isinstance(subject, Provider):
        place: dict[str, Any] = {"provider": subject, "credential": None, "target": None}
    elif isinstance(subject, Credential):
        place = {"provider_id": subject.provider_id, "credential": subject}
    else:
        place = {"provider_id": subject.provider_id, "target": subject}
    row, _ = Standing.objects.select_for_update().get_or_create(**place, defaults={"basis": basis_of(subject)})
    return row


def _enter(row: Standing, after: Condition, signal: Signal) -> None:
    if after.state != row.state:
        StandingChange.objects.create(
            standing=row,
            at=signal.at,
            before=row.state,
            after=after.state,
            reason=after.reason or signal.reason,
            source=signal.source,
        )
    row.state, row.since_at, row.reason, row.failures = after.state, after.since_at, after.reason, after.failures


def note_listing(provider: Provider, names: frozenset[str], at: datetime, *, trusted_s: float) -> list[Target]:
    """Note which of a provider's targets a whole listing names; return those that have vanished from it.

    Only a target that a listing named before can vanish: vendors serve names, such as aliases, that they do not list.
    Rows are written where something is new, so a listing that says what the last one said costs two queries.
    """
    vanished = []
    known = {row.target_id: row for row in Standing.objects.filter(provider=provider, target__isnull=False)}
    for target in provider.targets.filter(enabled=True).select_related("provider"):
        row = known.get(target.pk)
        fits = row is not None and row.basis == target.upstream_id
        if target.upstream_id in names:
            if row is None or not fits or not row.listed or row.reason.startswith(VANISHED):
                standing = apply(target, Signal(health.OK, at, "It is listed."), trusted_s=trusted_s)
                Standing.objects.filter(pk=standing.pk).update(listed=True)
        elif row is not None and fits and row.listed:
            reason = f"{VANISHED} of the provider's models any more."
            if apply(target, Signal(health.FAILED, at, reason), trusted_s=trusted_s).state == health.DOWN:
                vanished.append(target)
    return vanished


VANISHED = "It is not in the list"


def uptimes(standing: Standing, now: datetime) -> dict[str, float | None]:
    """Return a subject's uptime of a day, a week and a month, from 0 to 1; None where nothing is known."""
    kept = standing.changes.filter(at__gte=now - health.CHANGES_KEPT).order_by("at", "pk")
    changes = kept.values_list("at", "before", "after")
    return health.uptimes(health.spans(changes, condition(standing), now), now)


def look_soon(provider: Provider) -> None:
    """Have a provider checked with the next look for those that are due."""
    Standing.objects.filter(provider=provider, credential=None, target=None).update(next_at=None)


def prune(now: datetime) -> None:
    """Forget old checks and changes."""
    Check.objects.filter(at__lt=now - CHECKS_KEPT).delete()
    StandingChange.objects.filter(at__lt=now - health.CHANGES_KEPT).delete()
