"""Check providers: which are due, one look with each credential, and what it makes of their standings.

Invariants: of several workers one checks, by an update that names what it read; a provider's budget of the day, in
requests and in money, is never passed but by a person who asks for a check; the demo is not checked, for it is this
installation itself. What a tiny request costs is counted in its row (`Check.cost_nanos`) and against the budget; the
ledger has no place for it, since nobody called.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.db.models import Max, Sum
from django.utils import timezone

from billing import pricing
from billing.models import Usage
from billing.pricing import Parts
from billing.usage import first_id
from catalog import health, standings
from catalog.credentials import UnreadableSecret
from catalog.health import Signal
from catalog.models import Check, Credential, Model, Provider, Standing, Target
from gateway import catalog_rows, connection, networks, settlement, soundings
from gateway.soundings import Sounding

logger = logging.getLogger(__name__)

AT_ONCE_MAX = 16
# A worker that died with a check in its hands is replaced after this.
CLAIM = timedelta(minutes=5)
# Half of the pause between two looks for what is due (aperture_site.celery).
EARLY = timedelta(seconds=2.5)
LOOK_S = 5.0
LOOKING_S = 60.0
# Of a tiny request whose usage nobody tells.
PROMPT_TOKENS = 16
GUESS = Parts(input=PROMPT_TOKENS, output=connection.TOKENS_MAX)


@dataclass(frozen=True, slots=True)
class Plan:
    """A check that is to be made: of a model (TARGET) or, without one, of the listing."""

    provider: Provider
    credentials: tuple[Credential | None, ...]
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What a provider's checks used of a day's budget."""

    requests: int
    nanos: int


# --- When -------------------------------------------------------------------------------------------------------------
def run_due(now: datetime) -> int:
    """Check every provider that is due and within its budget; return how many checks were made."""
    return async_to_sync(_make)(due(now), looking_s=LOOKING_S)


def due(now: datetime) -> list[Plan]:
    """Claim the providers that are due; return the checks that are to be made of them."""
    known = {row.provider_id: row for row in Standing.objects.filter(credential=None, target=None)}
    plans = []
    for provider in checkable():
        if not _claim(provider, known.get(provider.pk) or standing_of(provider), now):
            continue
        plan = plan_of(provider)
        if affordable(plan, now):
            plans.append(plan)
        else:
            _look_at(provider, _tomorrow(now))
    return plans


def check(provider: Provider) -> Standing:
    """Check one provider now, whatever its budget; return its standing."""
    async_to_sync(_make)([plan_of(provider)])
    return standing_of(provider)


def checkable() -> Iterable[Provider]:
    """Return the providers that are checked at all."""
    return Provider.objects.filter(enabled=True).exclude(check_by=Provider.OFF).exclude(source=Provider.DEMO)


def standing_of(provider: Provider) -> Standing:
    """Return a provider's own standing, made where there is none yet."""
    row, _ = Standing.objects.get_or_create(
        provider=provider, credential=None, target=None, defaults={"basis": standings.basis_of(provider)}
    )
    return row


def _claim(provider: Provider, row: Standing, now: datetime) -> bool:
    # Who is due before the next look is due with this one, so that no interval gets longer by it.
    early = min(EARLY, timedelta(seconds=provider.check_interval_s / 4))
    # Further away than anybody puts it is what a clock wrote that was ahead.
    latest = now + max(timedelta(days=1), timedelta(seconds=provider.check_interval_s)) + CLAIM
    if row.next_at is not None and now + early < row.next_at <= latest:
        return False
    return bool(Standing.objects.filter(pk=row.pk, next_at=row.next_at).update(next_at=now + CLAIM))


def _look_at(provider: Provider, at: datetime) -> None:
    Standing.objects.filter(provider=provider, credential=None, target=None).update(next_at=at)


def spent(provider: Provider, now: datetime) -> Spent:
    """Return what a provider's checks used since midnight, UTC."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    used = Check.objects.filter(provider=provider, at__gte=midnight).aggregate(
        requests=Sum("requests"), nanos=Sum("cost_nanos")
    )
    return Spent(int(used["requests"] or 0), int(used["nanos"] or 0))


def affordable(plan: Plan, now: datetime) -> bool:
    """Tell whether a check fits into what the day's budget has left."""
    provider, used, looks = plan.provider, spent(plan.provider, now), len(plan.credentials)
    most = provider.check_requests_per_day
    # A model may have to be asked again in other words.
    if most is not None and used.requests + looks * (1 if plan.target is None else soundings.TINY_MAX) > most:
        return False
    nanos = cost(plan.target, GUESS, now) * looks if plan.target else 0
    return not nanos or used.nanos + nanos <= provider.check_nanos_per_day


def _tomorrow(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


# --- What -------------------------------------------------------------------------------------------------------------
def plan_of(provider: Provider) -> Plan:
    """Return the check that a provider's settings ask for."""
    target = next_target(provider) if provider.check_by == Provider.REQUEST else None
    return Plan(provider, credentials_of(provider), target)


def credentials_of(provider: Provider) -> tuple[Credential | None, ...]:
    """Return a provider's usable credentials, by name; None alone where it is called without any."""
    if provider.auth_mode == Provider.NONE:
        return (None,)
    rows = provider.credentials.filter(enabled=True, host=provider.host).select_related("provider").order_by("name")
    return tuple(rows) or (None,)


def next_target(provider: Provider) -> Target | None:
    """Return the target to ask: the one that was not asked for the longest time.

    Every other time it is one that does not work, so that its return is seen soon, however many there are.
    """
    kinds = (Model.CHAT, Model.EMBEDDING)
    targets = list(
        provider.targets.filter(enabled=True, model__enabled=True, model__kind__in=kinds)
        .select_related("model", "provider", "standing")
        .order_by("pk")
    )
    asked = dict(Check.objects.filter(provider=provider).exclude(model="").values_list("model").annotate(Max("at")))
    latest = max(asked, key=lambda name: asked[name], default="")
    failing = [
        target for target in targets if target.upstream_id != latest and _state(target) in (health.FAILING, health.DOWN)
    ]
    never = timezone.now() - 2 * standings.CHECKS_KEPT
    return min(failing or targets, key=lambda target: asked.get(target.upstream_id, never), default=None)


def _state(target: Target) -> str:
    standing = getattr(target, "standing", None)
    return standing.state if standing else health.UNKNOWN


def cost(target: Target | None, parts: Parts, now: datetime) -> int:
    """Return what such a request to a target costs the house at its base price, in nano-dollars."""
    columns = (
        target.prices.filter(above_context_tokens=None, service_tier="", effective_at__lte=now)
        .order_by("-effective_at", "-pk")
        .values()
        .first()
        if target
        else None
    )
    if columns is None:
        return 0
    return pricing.cost(parts, catalog_rows.rates({**columns, "effective": columns["effective_at"].timestamp()}))


# --- The looks --------------------------------------------------------------------------------------------------------
async def _make(plans: Iterable[Plan], *, looking_s: float = 0) -> int:
    """Make these checks side by side, and note each as soon as it is there; return how many were made.

    For so long, what becomes due while others are still waited for is checked too: a silent upstream keeps none of
    the others from being looked at in time.
    """
    policy = networks.operator_policy(settings.PRIVATE_UPSTREAMS)
    room = asyncio.Semaphore(AT_ONCE_MAX)

    async def one(plan: Plan) -> None:
        async with room:
            found = await asyncio.gather(*(_look(plan, credential, policy) for credential in plan.credentials))
        await sync_to_async(note)(plan, found, timezone.now())

    running = {asyncio.create_task(one(plan)) for plan in plans}
    count, ends_at = len(running), time.monotonic() + looking_s
    while running:
        done, running = await asyncio.wait(running, timeout=LOOK_S)
        for task in done:
            if error := task.exception():
                logger.error("a check could not be noted", exc_info=error)
        if running and time.monotonic() < ends_at:
            more = {asyncio.create_task(one(plan)) for plan in await sync_to_async(due)(timezone.now())}
            running, count = running | more, count + len(more)
    return count


async def _look(plan: Plan, credential: Credential | None, policy: networks.Policy) -> Sounding:
    try:
        there = soundings.way(plan.provider, credential)
    except UnreadableSecret as error:
        return Sounding(health.REFUSED, f"The credential does not open: {error} Enter it again.", 0, 0)
    if plan.target is not None:
        is_embedding = plan.target.model.kind == Model.EMBEDDING
        return await soundings.tiny(there, plan.target.upstream_id, is_embedding=is_embedding, policy=policy)
    if there.check_path and credential is not None:
        return await soundings.reading(there, policy=policy)
    return await soundings.listing(there, policy=policy)


# --- What it means ----------------------------------------------------------------------------------------------------
def note(plan: Plan, found: list[Sounding], at: datetime) -> Standing:
    """Write the looks of one check down, and what they make of the provider, its credentials and its target."""
    provider, pairs = plan.provider, list(zip(plan.credentials, found, strict=True))
    trusted_s = health.trusted_s(provider.check_interval_s)
    Check.objects.bulk_create(_row(plan, credential, sounding, at) for credential, sounding in pairs)
    for credential, sounding in pairs:
        # What does not come through says nothing of a credential.
        if credential is not None and (sounding.outcome in (health.OK, health.REFUSED) or sounding.of_model):
            standings.apply(credential, Signal(_of_provider(sounding), at, sounding.reason), trusted_s=trusted_s)
    if plan.target is not None:
        _note_target(plan, found, at)
    whole = next((each for each in found if each.whole and each.models), None)
    if whole is not None and whole.models:
        standings.note_listing(provider, frozenset(whole.models), at, trusted_s=trusted_s)
    signal = health.together(Signal(_of_provider(each), at, each.reason) for each in found)
    signal = against_traffic(standing_of(provider), signal or Signal(health.ALIVE, at))
    # What was found with credentials that were replaced meanwhile says nothing of those that are there now.
    replaced = _fingerprints(credentials_of(provider)) != _fingerprints(plan.credentials)
    if replaced:
        signal = Signal(health.ALIVE, at)
    row = standings.apply(provider, signal, trusted_s=trusted_s)
    best = min((each.latency_ms for each in found if each.outcome == health.OK), default=None)
    row.latency_ms = best if best is not None else row.latency_ms
    pause_s = health.pause_s(standings.condition(row), provider.check_interval_s)
    if replaced or signal.source == health.TRAFFIC:
        pause_s = 0.0 if replaced else provider.check_interval_s
    row.next_at = at + timedelta(seconds=pause_s)
    row.save(update_fields=["latency_ms", "next_at"])
    return row


def _fingerprints(rows: Iterable[Credential | None]) -> list[str]:
    return [row.fingerprint if row else "" for row in rows]


def against_traffic(row: Standing, signal: Signal) -> Signal:
    """Return a provider's signal or, where the newest request since the last check succeeded, what that says.

    A listing may be shut to those whose requests are answered. The first failure is taken as it is, for it takes nobody
    out; what is out comes back, and what is in stays as it was.
    """
    doubted = signal.outcome == health.REFUSED or row.state in (health.FAILING, health.DOWN)
    if signal.outcome not in (health.FAILED, health.REFUSED) or not doubted or row.checked_at is None:
        return signal
    rows = Usage.objects.filter(provider_id=row.provider_id, request_id__gte=first_id(row.checked_at))
    newest = rows.order_by("-request_id").values_list("status", flat=True).first()
    if newest is None or newest >= HTTPStatus.BAD_REQUEST:
        return signal
    reason = f"Requests succeed, though its check does not: {signal.reason}"
    return Signal(health.OK if row.state in health.OUT else health.ALIVE, signal.at, reason, health.TRAFFIC)


def _of_provider(sounding: Sounding) -> str:
    """Return what a look says of the provider: one that refuses a single model works."""
    return health.OK if sounding.of_model else sounding.outcome


def _note_target(plan: Plan, found: list[Sounding], at: datetime) -> None:
    if plan.target is None:
        return
    best = next((each for each in found if each.outcome == health.OK), None) or next(
        (each for each in found if each.of_model), None
    )
    if best is not None:
        # Its turn comes again once all have had theirs.
        turns_s = plan.provider.check_interval_s * (1 + plan.provider.targets.count())
        signal = Signal(best.outcome, at, best.reason)
        standings.apply(plan.target, signal, trusted_s=health.trusted_s(turns_s))


def _row(plan: Plan, credential: Credential | None, sounding: Sounding, at: datetime) -> Check:
    nanos = 0
    if plan.target is not None and sounding.outcome == health.OK:
        parts = settlement.parts_of(sounding.tokens) if sounding.tokens else GUESS
        nanos = cost(plan.target, parts, at)
    return Check(
        provider=plan.provider,
        credential=credential.name if credential else "",
        model=plan.target.upstream_id if plan.target else "",
        at=at,
        latency_ms=sounding.latency_ms,
        outcome=sounding.outcome,
        reason=sounding.reason[: health.REASON_CHARS_MAX],
        requests=sounding.requests,
        cost_nanos=nanos,
    )
