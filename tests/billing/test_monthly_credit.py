"""The monthly credit: once a month, adding up, and nothing ever takes it away."""

from datetime import UTC, datetime, timedelta

import pytest
from django.apps import apps
from django.db import connection
from django.utils import timezone

from accounts.models import Organization
from billing import idempotency, ledger, money, monthly_credit, partitions, plans, reconcile
from billing.models import House, Kind, Plan, Transfer, Wallet

pytestmark = pytest.mark.django_db
BEGIN = datetime(2026, 11, 20, 12, tzinfo=UTC)
DOLLAR = 1_000_000_000


def organization(plan: str = Plan.PRO, mode: str = Wallet.PREPAID) -> int:
    made = Organization.objects.create(name="Acme")
    return int(Wallet.objects.create(organization=made, mode=mode, plan=Plan.objects.get(slug=plan)).pk)


def posted(organization_id: int) -> int:
    return int(Wallet.objects.get(pk=organization_id).posted_nanos)


def test_it_comes_once_in_a_calendar_month_and_adds_up() -> None:
    acme = organization()
    assert [monthly_credit.post_due(BEGIN), monthly_credit.post_due(BEGIN + timedelta(hours=1))] == [1, 0]
    assert posted(acme) == 20 * DOLLAR
    assert monthly_credit.post_due(datetime(2026, 11, 30, 23, 59, tzinfo=UTC)) == 0
    assert monthly_credit.post_due(datetime(2026, 12, 1, tzinfo=UTC)) == 1
    assert posted(acme) == 40 * DOLLAR
    transfer = Transfer.objects.latest("pk")
    assert (transfer.reference, transfer.kind) == (f"plan:{acme}:2026-12", Kind.PLAN_CREDIT)
    assert (transfer.debit_id, transfer.reason) == (House.PROMOTIONS, "Pro, 2026-12")


def test_leaving_and_joining_a_plan_again_gives_nothing_twice() -> None:
    acme = organization()
    monthly_credit.post_due(BEGIN)
    for slug in (Plan.FREE, Plan.PRO):
        ledger.set_plan(acme, Plan.objects.get(slug=slug))
        assert monthly_credit.post_due(BEGIN) == 0
    assert posted(acme) == 20 * DOLLAR


def test_who_gets_none() -> None:
    organization(plan=Plan.FREE)
    team = organization(mode=Wallet.UNMETERED)
    frozen, closed = organization(), organization()
    Wallet.objects.filter(pk=frozen).update(frozen_at=timezone.now())
    Organization.objects.filter(pk=closed).update(is_active=False)
    assert monthly_credit.post_due(BEGIN) == 0
    assert Wallet.objects.get(pk=team).mode == Wallet.UNMETERED
    Wallet.objects.filter(pk=frozen).update(frozen_at=None)
    assert monthly_credit.post_due(BEGIN) == 1


def test_a_live_subscription_brings_its_credit_by_invoice_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    by_card, cancelled, by_hand = organization(), organization(), organization()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE billing_subscription (organization_id bigint, status text)")
        cursor.execute("INSERT INTO billing_subscription VALUES (%s, 'active'), (%s, 'canceled')", [by_card, cancelled])
    monkeypatch.setitem(apps.all_models["billing"], "subscription", Plan)
    assert monthly_credit.post_due(BEGIN) == 2
    assert [posted(each) for each in (by_card, cancelled, by_hand)] == [0, 20 * DOLLAR, 20 * DOLLAR]


def test_in_ten_years_nothing_removes_posted_credit() -> None:
    acme, left = organization(), organization()
    ledger.credit(left, money.of_dollars(7), Kind.TOP_UP, House.CLEARING, reference="cs_1")
    ledger.credit(left, money.of_dollars(3), Kind.PLAN_CREDIT, House.PROMOTIONS, reference=f"plan:{left}:2026-10")
    ledger.set_plan(left, Plan.objects.get(slug=Plan.FREE))
    Organization.objects.filter(pk=left).update(is_active=False)
    balance = posted(acme)
    for month in range(120):
        now = BEGIN + timedelta(days=30.44 * month)
        monthly_credit.post_due(now)
        partitions.ensure(now)
        partitions.retire(now, 3)
        idempotency.prune(now)
        plans.seed()
        reconcile.run(now)
        assert posted(acme) >= balance
        assert posted(left) == 10 * DOLLAR
        balance = posted(acme)
    assert posted(acme) == 120 * 20 * DOLLAR
    assert Transfer.objects.filter(credit_id=acme, kind=Kind.PLAN_CREDIT).count() == 120
    assert not Transfer.objects.filter(debit_id__in=[acme, left]).exists()
