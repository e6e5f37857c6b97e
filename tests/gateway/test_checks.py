"""Checks of upstreams over real sockets: what they make of the rows, their budget, and what the operator is told."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core import mail
from django.db import connection as database
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User, Version
from billing.models import Usage
from billing.usage import first_id
from catalog import credentials, health, standings
from catalog.health import Signal
from catalog.models import Check, Credential, Model, Price, Provider, Standing, StandingChange, Target
from gateway import alarms, checks
from tests.local_server import Asked, LocalServer, Reply, serving
from tests.races import at_once

SECRET = "up-canary-5f1e0d"
MODELS = Reply(body={"object": "list", "data": [{"id": "small"}, {"id": "large"}]})
BROKEN = Reply(503, {"error": {"message": "Overloaded"}})
REFUSAL = Reply(401, {"error": {"message": f"Incorrect API key: {SECRET}"}})
CHAT = Reply(body={"choices": [{"message": {"content": "OK"}}], "usage": {"prompt_tokens": 10, "completion_tokens": 2}})
MINUTE = timedelta(minutes=1)


class Scripted:
    """An upstream that answers what it is told to, by default well; by secret where that is told."""

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self.by_secret: dict[str, Reply] = {}
        self.by_model: dict[str, Reply] = {}
        self.server: LocalServer

    def answer(self, asked: Asked) -> Reply:
        if self.reply is not None:
            return self.reply
        secret = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if secret in self.by_secret:
            return self.by_secret[secret]
        if asked.method == "POST":
            return self.by_model.get(asked.json()["model"], CHAT)
        return MODELS


@contextmanager
def scripted() -> Iterator[Scripted]:
    upstream = Scripted()
    with serving(upstream.answer) as upstream.server:
        yield upstream


@pytest.fixture
def upstream() -> Iterator[Scripted]:
    with scripted() as running:
        yield running


@pytest.fixture
def provider(upstream: Scripted, db: None) -> Provider:
    return a_provider(upstream)


def a_provider(upstream: Scripted, **fields: Any) -> Provider:
    row = Provider.objects.create(slug=fields.pop("slug", "chaos"), base_url=upstream.server.url, **fields)
    credentials.store(row, SECRET)
    return row


def a_target(provider: Provider, upstream_id: str, price_nanos: int | None = None) -> Target:
    model = Model.objects.create(public_id=f"x/{upstream_id}")
    target = Target.objects.create(model=model, provider=provider, upstream_id=upstream_id)
    if price_nanos is not None:
        since = timezone.now() - timedelta(days=1)
        Price.objects.create(target=target, effective_at=since, input=price_nanos, output=price_nanos)
    return target


def state_of(**place: Any) -> tuple[str, str]:
    row = Standing.objects.get(**{"credential": None, "target": None} | place)
    return row.state, row.reason


def version() -> int:
    with database.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    return Version.objects.get().catalog


# --- States -----------------------------------------------------------------------------------------------------------
def test_a_provider_goes_down_after_two_failures_and_comes_back_with_the_first_success(
    provider: Provider, upstream: Scripted
) -> None:
    assert checks.check(provider).state == health.UP
    upstream.reply = BROKEN
    assert [checks.check(provider).state for _ in range(3)] == [health.FAILING, health.DOWN, health.DOWN]
    upstream.reply = None
    assert checks.check(provider).state == health.UP
    changes = StandingChange.objects.filter(standing__credential=None, standing__target=None).order_by("pk")
    assert list(changes.values_list("before", "after")) == [
        ("unknown", "up"),
        ("up", "failing"),
        ("failing", "down"),
        ("down", "up"),
    ]
    assert [change.reason for change in changes][1:3] == ["GET /v1/models answered 503: Overloaded"] * 2
    assert {change.source for change in changes} == {health.CHECK}
    latencies = Check.objects.order_by("pk").values_list("outcome", "latency_ms")
    assert [outcome for outcome, _ in latencies] == ["ok", "failed", "failed", "failed", "ok"]
    assert all(0 <= latency_ms < 5000 for _, latency_ms in latencies)


def test_a_refused_credential_is_told_from_an_upstream_that_fails(provider: Provider, upstream: Scripted) -> None:
    second = credentials.store(provider, "another-secret", name="second")
    upstream.by_secret = {SECRET: REFUSAL}
    assert checks.check(provider).state == health.UP
    first = Credential.objects.get(name="default")
    assert state_of(credential=first) == ("refused", "GET /v1/models answered 401: Incorrect API key: [redacted]")
    assert state_of(credential=second)[0] == health.UP
    upstream.by_secret |= {"another-secret": REFUSAL}
    assert checks.check(provider).state == health.REFUSED
    # A new secret is another credential: nothing is known of it.
    credentials.store(provider, "third-secret")
    assert checks.check(provider).state == health.UP
    assert state_of(credential=first)[0] == health.UP


def test_each_credential_goes_to_its_own_host_only(provider: Provider, upstream: Scripted) -> None:
    with scripted() as other:
        a_provider(other, slug="other")
        checks.run_due(timezone.now())
        Provider.objects.filter(slug="chaos").update(base_url=other.server.url)
        checks.check(Provider.objects.get(slug="chaos"))
        authorizations = [asked.headers.get("authorization") for asked in other.server.asked]
    assert len(upstream.server.asked) == 1
    assert authorizations == [f"Bearer {SECRET}", None]


def test_a_state_of_another_address_is_forgotten(provider: Provider, upstream: Scripted) -> None:
    upstream.reply = BROKEN
    checks.check(provider)
    checks.check(provider)
    assert state_of()[0] == health.DOWN
    with scripted() as other:
        Provider.objects.update(base_url=other.server.url)
        other.reply = BROKEN
        assert checks.check(Provider.objects.get()).state == health.FAILING


def test_private_addresses_are_checked_by_policy_only(
    provider: Provider, upstream: Scripted, settings: Settings
) -> None:
    settings.PRIVATE_UPSTREAMS = ["forbid"]
    assert checks.check(provider).state == health.FAILING
    assert upstream.server.asked == []


def test_an_unreadable_credential_is_refused_without_a_request(provider: Provider, upstream: Scripted) -> None:
    Credential.objects.update(encrypted=b"rubbish")
    row = checks.check(provider)
    assert row.state == health.REFUSED
    assert "Enter it again" in row.reason
    assert upstream.server.asked == []


def a_request(provider: Provider, status: int = 200) -> None:
    """Note a request to a provider that begins and ends now."""
    about = {"model": "m", "dialect": "openai_chat", "usage_source": "provider", "duration_ms": 1, "status": status}
    request_id = uuid.UUID(int=first_id(timezone.now()).int | uuid.uuid4().int >> 64)
    whose = {"organization_id": 1, "key_id": 1, "user_id": 1, "provider_id": provider.pk}
    Usage.objects.create(request_id=request_id, **whose, **about)


def test_a_check_that_fails_takes_no_provider_out_whose_requests_succeed(
    provider: Provider, upstream: Scripted
) -> None:
    a_request(provider)
    upstream.reply = BROKEN
    assert checks.check(provider).state == health.FAILING
    time.sleep(0.002)
    a_request(provider)
    row = checks.check(provider)
    assert row.state == health.FAILING
    assert row.next_at and row.checked_at and row.next_at - row.checked_at == timedelta(seconds=60)
    # What succeeded before the last check, or was followed by a failure, says nothing.
    assert checks.check(provider).state == health.DOWN
    time.sleep(0.002)
    a_request(provider)
    time.sleep(0.002)
    a_request(provider, 502)
    assert checks.check(provider).state == health.DOWN
    time.sleep(0.002)
    a_request(provider)
    assert checks.check(provider).state == health.UP
    newest = StandingChange.objects.latest("pk")
    assert (newest.source, newest.before) == (health.TRAFFIC, health.DOWN)


def test_a_listing_that_is_shut_to_a_credential_whose_requests_succeed_takes_no_provider_out(
    provider: Provider, upstream: Scripted
) -> None:
    checks.check(provider)
    upstream.reply = REFUSAL
    time.sleep(0.002)
    a_request(provider)
    assert checks.check(provider).state == health.UP
    assert state_of(credential=Credential.objects.get())[0] == health.REFUSED
    assert checks.check(provider).state == health.REFUSED


def test_a_credential_that_is_replaced_during_a_check_is_judged_by_the_next(
    provider: Provider, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.by_secret = {SECRET: REFUSAL}
    look = checks._look

    async def replace(plan: checks.Plan, *rest: Any) -> Any:
        found = await look(plan, *rest)
        await sync_to_async(credentials.store)(provider, "new-secret")
        return found

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(checks, "_look", replace)
        row = checks.check(provider)
    assert (row.state, row.next_at) == (health.UNKNOWN, row.checked_at)
    assert checks.check(provider).state == health.UP


# --- Targets ----------------------------------------------------------------------------------------------------------
def test_a_target_that_left_the_listing_is_out_after_two_and_one_that_was_never_in_it_is_not(
    provider: Provider, upstream: Scripted
) -> None:
    small, alias = a_target(provider, "small"), a_target(provider, "alias")
    checks.check(provider)
    upstream.reply = Reply(body={"data": [{"id": "large"}]})
    checks.check(provider)
    assert state_of(target=small)[0] == health.FAILING
    checks.check(provider)
    assert state_of(target=small) == ("down", "It is not in the list of the provider's models any more.")
    assert not Standing.objects.filter(target=alias).exists()
    assert state_of()[0] == health.UP
    upstream.reply = Reply(body={"data": []})
    checks.check(provider)
    assert state_of(target=small)[0] == health.DOWN
    upstream.reply = None
    checks.check(provider)
    assert state_of(target=small)[0] == health.UP


def test_tiny_requests_ask_one_model_after_the_other_and_what_fails_every_other_time(
    provider: Provider, upstream: Scripted
) -> None:
    targets = {name: a_target(provider, name) for name in ("a", "b", "c", "d")}
    Provider.objects.update(check_by=Provider.REQUEST)
    provider.refresh_from_db()
    upstream.by_model = {"b": Reply(404, {"error": {"message": "No model b"}})}
    for _ in range(8):
        assert checks.check(provider).state == health.UP
    assert [asked.json()["model"] for asked in upstream.server.asked] == ["a", "b", "c", "b", "d", "b", "a", "b"]
    assert state_of(target=targets["b"])[0] == health.DOWN
    assert state_of(target=targets["a"])[0] == health.UP
    upstream.by_model = {}
    checks.check(provider)
    checks.check(provider)
    assert state_of(target=targets["b"])[0] == health.UP


# --- When and how much ------------------------------------------------------------------------------------------------
def test_a_provider_is_checked_when_it_is_due_and_sooner_while_it_fails(provider: Provider, upstream: Scripted) -> None:
    def due_after() -> float:
        row = Standing.objects.get(credential=None, target=None)
        assert row.next_at is not None
        assert row.checked_at is not None
        return (row.next_at - row.checked_at).total_seconds()

    now = timezone.now()
    assert (checks.run_due(now), checks.run_due(now + timedelta(seconds=57))) == (1, 0)
    assert due_after() == 60
    upstream.reply = BROKEN
    seen = []
    for _ in range(5):
        now += timedelta(hours=1)
        checks.run_due(now)
        seen.append(due_after())
    assert seen == [5, 10, 20, 40, 60]


def test_what_is_off_disabled_or_the_demo_is_not_checked(provider: Provider, upstream: Scripted) -> None:
    for change in ({"check_by": Provider.OFF}, {"enabled": False}, {"source": Provider.DEMO}):
        Provider.objects.update(**{"check_by": Provider.LISTING, "enabled": True, "source": "admin"} | change)
        assert checks.run_due(timezone.now()) == 0
    assert upstream.server.asked == []


def test_the_day_s_requests_are_a_budget_that_begins_anew_at_midnight(provider: Provider, upstream: Scripted) -> None:
    Provider.objects.update(check_requests_per_day=2)
    now = timezone.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    made = []
    for _ in range(4):
        Standing.objects.update(next_at=None)
        made.append(checks.run_due(now))
    assert made == [1, 1, 0, 0]
    assert Standing.objects.get(credential=None).next_at == midnight + timedelta(days=1)
    assert len(upstream.server.asked) == 2
    assert checks.run_due(midnight + timedelta(days=1)) == 1


def test_the_day_s_money_is_a_budget_and_what_a_request_cost_is_in_its_row(
    provider: Provider, upstream: Scripted
) -> None:
    a_target(provider, "small", price_nanos=10**9)
    # What a request of 16 and 16 tokens may cost is $0.000032; one of 10 and 2 does cost $0.000012.
    Provider.objects.update(check_by=Provider.REQUEST, check_nanos_per_day=50_000)
    made = []
    for _ in range(4):
        Standing.objects.update(next_at=None)
        made.append(checks.run_due(timezone.now()))
    assert made == [1, 1, 0, 0]
    assert list(Check.objects.values_list("cost_nanos", flat=True)) == [12_000, 12_000]
    assert checks.spent(provider, timezone.now()) == checks.Spent(2, 24_000)
    # A person may ask whatever the budget.
    assert checks.check(Provider.objects.get()).state == health.UP


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_at_once_one_checks(upstream: Scripted) -> None:
    a_provider(upstream)
    now = timezone.now()
    assert sorted(at_once(*[lambda: checks.run_due(now)] * 4)) == [0, 0, 0, 1]
    assert len(upstream.server.asked) == 1


def test_a_check_that_cannot_be_noted_keeps_no_other_from_it(
    provider: Provider, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Provider.objects.create(slug="bad", base_url=upstream.server.url)
    note = checks.note

    def fail_for_one(plan: checks.Plan, *rest: Any) -> Standing:
        if plan.provider == broken:
            raise RuntimeError("cannot be noted")
        return note(plan, *rest)

    monkeypatch.setattr(checks, "note", fail_for_one)
    checks.run_due(timezone.now())
    assert state_of(provider=provider)[0] == health.UP
    assert state_of(provider=broken)[0] == health.UNKNOWN


def test_a_silent_upstream_keeps_the_others_from_nothing(
    provider: Provider, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "LOOK_S", 0.1)
    Provider.objects.update(check_interval_s=1)

    def silent(_asked: Asked) -> Reply:
        time.sleep(2.5)
        return MODELS

    with serving(silent) as slow:
        row = Provider.objects.create(slug="slow", base_url=slow.url)
        for name in ("one", "two", "three"):
            credentials.store(row, SECRET + name, name=name)
        began_at = time.monotonic()
        made = checks.run_due(timezone.now())
        assert time.monotonic() - began_at < 6
    assert len(slow.asked) == 3
    assert made == 1 + len(upstream.server.asked)
    assert len(upstream.server.asked) >= 2
    assert state_of(provider=row)[0] == health.UP


def test_a_time_that_a_clock_which_was_ahead_left_behind_keeps_no_provider_unchecked(
    provider: Provider, upstream: Scripted
) -> None:
    now = timezone.now()
    assert checks.run_due(now + timedelta(days=365)) == 1
    Standing.objects.update(next_at=now + timedelta(days=365))
    assert checks.run_due(now) == 1
    # An interval or a spent budget is kept all the same.
    for kept in (timedelta(seconds=59), timedelta(hours=23, minutes=59)):
        Standing.objects.update(next_at=now + kept)
        assert checks.run_due(now) == 0


def test_a_model_that_wants_its_bound_by_another_name_is_within_the_day_s_requests_too(
    provider: Provider, upstream: Scripted
) -> None:
    a_target(provider, "small")
    upstream.by_model = {"small": Reply(400, {"error": {"message": "Use max_completion_tokens"}})}
    Provider.objects.update(check_by=Provider.REQUEST, check_requests_per_day=3)
    for _ in range(5):
        Standing.objects.update(next_at=None)
        checks.run_due(timezone.now())
    assert len(upstream.server.asked) <= 3


def test_an_intervals_length_of_several_days_is_kept(provider: Provider, upstream: Scripted) -> None:
    Provider.objects.update(check_interval_s=3 * 86_400)
    now = timezone.now()
    Standing.objects.create(provider=provider, basis=provider.base_url, next_at=now + timedelta(days=3))
    assert checks.run_due(now) == 0


@pytest.mark.django_db(transaction=True)
def test_a_provider_that_is_deleted_while_it_is_checked_keeps_no_other_from_it(
    upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = a_provider(upstream)
    gone = a_provider(upstream, slug="gone")
    look = checks._look

    async def delete(plan: checks.Plan, *rest: Any) -> Any:
        found = await look(plan, *rest)
        if plan.provider == gone:
            await sync_to_async(Provider.objects.filter(pk=gone.pk).delete)()
        return found

    monkeypatch.setattr(checks, "_look", delete)
    checks.run_due(timezone.now())
    assert state_of(provider=provider)[0] == health.UP


# --- The version ------------------------------------------------------------------------------------------------------
def test_only_what_leaves_or_comes_back_bumps_the_version(provider: Provider, upstream: Scripted) -> None:
    def bumps(*outcomes: str) -> list[int]:
        seen = []
        for outcome in outcomes:
            before = version()
            standings.apply(provider, Signal(outcome, timezone.now()), trusted_s=300)
            # A transaction bumps once; a test's is one transaction.
            with database.cursor() as cursor:
                cursor.execute("SELECT set_config('aperture.bumped_catalog', '', true)")
            seen.append(version() - before)
            with database.cursor() as cursor:
                cursor.execute("SELECT set_config('aperture.bumped_catalog', '', true)")
        return seen

    version()
    with database.cursor() as cursor:
        cursor.execute("SELECT set_config('aperture.bumped_catalog', '', true)")
    assert bumps(health.OK, health.OK, health.FAILED) == [0, 0, 0]
    assert bumps(health.FAILED, health.FAILED, health.FAILED) == [1, 0, 0]
    assert bumps(health.OK, health.OK, health.REFUSED, health.REFUSED, health.OK) == [1, 0, 1, 0, 1]


def test_a_state_that_lapsed_and_is_renewed_bumps_the_version_too(provider: Provider) -> None:
    at = timezone.now() - timedelta(hours=1)
    for _ in range(2):
        standings.apply(provider, Signal(health.FAILED, at), trusted_s=300)
    version()
    with database.cursor() as cursor:
        cursor.execute("SELECT set_config('aperture.bumped_catalog', '', true)")
    before = version()
    standings.apply(provider, Signal(health.FAILED, timezone.now()), trusted_s=300)
    assert version() == before + 1


# --- Mail -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def staff(db: None) -> User:
    return User.objects.create_user("operator@example.com", is_staff=True)


def go(provider: Provider, outcome: str, at: datetime, times: int = 1) -> None:
    for _ in range(times):
        standings.apply(provider, Signal(outcome, at, f"because {outcome}"), trusted_s=300)


def test_the_operator_is_told_once_that_a_provider_is_down_and_once_that_it_is_back(
    provider: Provider, staff: User
) -> None:
    now = timezone.now()
    go(provider, health.OK, now)
    go(provider, health.FAILED, now, 2)
    told = [alarms.tell(now + number * MINUTE) for number in range(3)]
    go(provider, health.OK, now + 3 * MINUTE)
    told += [alarms.tell(now + number * MINUTE) for number in range(3, 8)]
    assert told == [1, 0, 0, 0, 0, 1, 0, 0]
    down, back = mail.outbox
    assert (down.to, down.subject) == (["operator@example.com"], "Aperture: chaos is down")
    assert f"* chaos is down since {now:%Y-%m-%d %H:%M:%S} UTC: because failed" in down.body
    assert back.subject == "Aperture: chaos is back"


def test_flapping_is_told_once(provider: Provider, staff: User) -> None:
    now = timezone.now()
    for number in range(0, 30, 3):
        at = now + number * MINUTE
        go(provider, health.FAILED, at, 2)
        alarms.tell(at)
        go(provider, health.OK, at + MINUTE)
        alarms.tell(at + 2.9 * MINUTE)
    assert [message.subject for message in mail.outbox] == ["Aperture: chaos is down"]
    alarms.tell(now + 91 * MINUTE)
    assert [message.subject for message in mail.outbox][1:] == ["Aperture: chaos is back"]


def test_a_refused_credential_is_told_at_once_with_its_provider_in_one_mail(
    provider: Provider, upstream: Scripted, staff: User
) -> None:
    upstream.reply = REFUSAL
    checks.run_due(timezone.now())
    assert alarms.tell(timezone.now()) == 2
    [message] = mail.outbox
    assert message.subject == "Aperture: chaos is refused and 1 more"
    assert "* chaos, credential default is refused since" in message.body
    assert SECRET not in message.body


def test_named_addresses_are_told_instead_of_the_staff(provider: Provider, staff: User, settings: Settings) -> None:
    settings.ALERT_EMAILS = ["pager@example.com", "team@example.com"]
    go(provider, health.REFUSED, timezone.now())
    alarms.tell(timezone.now())
    assert [message.to for message in mail.outbox] == [["pager@example.com"], ["team@example.com"]]


def test_a_mail_that_could_not_be_sent_is_tried_again(
    provider: Provider, staff: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(provider, health.REFUSED, timezone.now())
    with monkeypatch.context() as patch:
        patch.setattr("django.core.mail.EmailMessage.send", lambda self: 1 / 0)
        assert alarms.tell(timezone.now()) == 0
    assert alarms.tell(timezone.now()) == 1
    assert len(mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_at_once_one_tells(upstream: Scripted) -> None:
    User.objects.create_user("operator@example.com", is_staff=True)
    go(a_provider(upstream), health.REFUSED, timezone.now())
    now = timezone.now()
    assert sorted(at_once(*[lambda: alarms.tell(now)] * 4)) == [0, 0, 0, 1]
    assert len(mail.outbox) == 1


# --- Keeping ----------------------------------------------------------------------------------------------------------
def test_checks_and_changes_are_kept_for_a_time_and_uptime_is_told_from_them(provider: Provider) -> None:
    now = timezone.now()
    go(provider, health.OK, now - timedelta(days=200))
    go(provider, health.FAILED, now - timedelta(hours=13), 2)
    go(provider, health.OK, now - timedelta(hours=12))
    for days in (1, 8):
        Check.objects.create(provider=provider, at=now - timedelta(days=days), latency_ms=1, outcome=health.OK)
    standings.prune(now)
    assert Check.objects.count() == 1
    assert StandingChange.objects.count() == 3
    found = standings.uptimes(Standing.objects.get(), now)
    assert found["24 h"] == pytest.approx(23 / 24)
    assert found["30 d"] == pytest.approx(1 - 1 / 720)
