"""Reconcile finds every kind of difference, and nothing where the books agree."""

import importlib
import uuid
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from accounts.models import Organization
from billing import ledger, money, partitions, reconcile, rollups
from billing.models import (
    Bucket,
    Difference,
    Hold,
    House,
    Kind,
    Plan,
    RolledUp,
    SpendingLimit,
    Transfer,
    Usage,
    UsageDay,
    UsageHour,
    Wallet,
)
from gateway.exchange import new_request_id
from tests.billing.scenery import a_settlement, an_ask, an_organization, balance, running, until_written
from tests.wire import orm
from tests.wire import sql as journal_sql

pytestmark = pytest.mark.django_db
# Of yesterday, for today's hours are not over.
REQUEST = uuid.UUID(int=uuid.UUID(new_request_id()).int - (86_400_000 << 80))


def sql(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


class Broken:
    """The tables without their triggers, until the test's transaction is rolled back."""

    def __init__(self, *tables: str) -> None:
        self.tables = tables

    def __enter__(self) -> None:
        sql("SET CONSTRAINTS ALL IMMEDIATE")
        for table in self.tables:
            sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")

    def __exit__(self, *_: object) -> None:
        for table in self.tables:
            sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")


@pytest.fixture
def wallet() -> Wallet:
    """Ten dollars, one settled request of 120 nano-dollars, and one that runs, held by a wallet and a bucket."""
    organization = Organization.objects.create(name="Alice's")
    ledger.credit(organization.pk, money.of_dollars(10), Kind.TOP_UP, House.CLEARING, reference="cs_1")
    settle(organization.pk, REQUEST)
    limit = SpendingLimit.objects.create(name="daily", capacity_nanos=1000)
    bucket = Bucket.objects.create(limit=limit, held_nanos=70)
    hold(organization.pk, bucket_ids=[bucket.pk])
    return Wallet.objects.get(pk=organization.pk)


def settle(organization_id: int, request_id: uuid.UUID) -> None:
    """What a settled request leaves: a usage row, which is added up, and two transfers."""
    who = {"organization_id": organization_id, "key_id": 1, "user_id": 2, "model": "openai/gpt-4o"}
    amounts = {"cost_nanos": 100, "charge_nanos": 120, "input_tokens": 7, "output_tokens": 3}
    Usage.objects.create(
        request_id=request_id, dialect="openai_chat", status=200, usage_source="provider", duration_ms=5, **who,
        **amounts,
    )  # fmt: skip
    add_up()
    Transfer.objects.create(
        amount_nanos=120, debit_id=organization_id, credit_id=House.REVENUE, kind=Kind.CHARGE, request_id=request_id
    )
    Transfer.objects.create(
        amount_nanos=100, debit_id=House.UPSTREAM_COST, credit_id=House.UPSTREAM_PAYABLE, kind=Kind.COST,
        request_id=request_id,
    )  # fmt: skip


def add_up() -> None:
    """Add all rows up, as if none was of this hour."""
    now = timezone.now()
    Usage.objects.update(created_at=now - timedelta(hours=1))
    RolledUp.objects.all().delete()
    rollups.run(now)


def hold(organization_id: int, **fields: Any) -> Hold:
    values: dict[str, Any] = {
        "request_id": uuid.uuid4(),
        "organization_id": organization_id,
        "amount_nanos": 70,
        "metered": True,
        "lease_until": timezone.now() + timedelta(seconds=30),
        "unfinished": {},
    }
    return Hold.objects.create(**values | fields)


def found(since: datetime | None = None) -> dict[str, str]:
    """The checks that found something, with the first sentence of each."""
    return {each.name: each.detail for each in reversed(reconcile.run(timezone.now(), since))}


def test_nothing_is_found_where_the_books_agree(wallet: Wallet) -> None:
    assert found() == {}
    assert found(timezone.now() - timedelta(days=1)) == {}


def test_a_balance_that_is_not_the_sum_of_its_transfers(wallet: Wallet) -> None:
    with Broken("billing_wallet"):
        Wallet.objects.filter(pk=wallet.pk).update(posted_nanos=F("posted_nanos") + 1)
    assert found() == {
        "wallet posted": "the wallet says 9999999881 nano-dollars posted, its transfers 9999999880",
        "books": "their balances add up to 1 nano-dollars instead of 0",
    }


def test_a_wallet_with_credit_that_is_not_called_funded(wallet: Wallet) -> None:
    with Broken("billing_wallet"):
        Wallet.objects.filter(pk=wallet.pk).update(funded=False)
    assert list(found()) == ["wallet funded"]


def test_a_transfer_that_moved_no_wallet(wallet: Wallet) -> None:
    with Broken("billing_transfer"):
        Transfer.objects.create(amount_nanos=5, debit_id=House.CLEARING, credit_id=wallet.pk, kind=Kind.TOP_UP)
    assert set(found()) == {"wallet posted", "books"}
    assert set(found(timezone.now() - timedelta(hours=1))) == {"wallet posted"}
    assert found(timezone.now() + timedelta(hours=1)) == {}


def test_a_held_sum_that_no_open_hold_explains(wallet: Wallet) -> None:
    with Broken("billing_hold"):
        Hold.objects.all().delete()
    assert found() == {
        "wallet held": "the wallet says 70 nano-dollars held, its open holds 0",
        "bucket held": "the bucket says 70 nano-dollars held, the open holds that name it 0",
    }


def test_a_hold_of_an_organization_without_a_wallet(wallet: Wallet) -> None:
    with Broken("billing_hold"):
        hold(wallet.pk + 1000)
    assert "for there is none" in found()["wallet held"]


def test_holds_that_meter_nothing_and_name_no_bucket_are_no_difference(wallet: Wallet) -> None:
    hold(wallet.pk, metered=False, amount_nanos=5)
    assert found() == {}


def test_a_bucket_that_is_gone(wallet: Wallet) -> None:
    Bucket.objects.all().delete()
    assert "for there is none" in found()["bucket held"]


def test_a_hold_a_minute_past_its_lease(wallet: Wallet) -> None:
    Hold.objects.update(lease_until=timezone.now() - timedelta(seconds=50))
    assert found() == {}
    Hold.objects.update(lease_until=timezone.now() - timedelta(seconds=65))
    assert list(found()) == ["hold overdue"]


def test_overdue_holds_are_reported_by_themselves_and_each_is_logged_once(
    wallet: Wallet, caplog: pytest.LogCaptureFixture
) -> None:
    now = timezone.now()
    late = hold(wallet.pk, metered=False, lease_until=now - timedelta(seconds=90))
    hold(wallet.pk, metered=False, lease_until=now - timedelta(seconds=30))
    assert [reconcile.report_overdue_holds(now) for _ in range(2)] == [1, 1]
    assert [record.getMessage().count(str(late.request_id)) for record in caplog.records] == [1]
    assert [(row.name, row.resolved_at) for row in Difference.objects.all()] == [("hold overdue", None)]
    late.delete()
    assert reconcile.report_overdue_holds(now) == 0
    assert Difference.objects.get().resolved_at == now


def test_a_settled_request_whose_hold_is_still_open(wallet: Wallet) -> None:
    hold(wallet.pk, request_id=REQUEST, amount_nanos=0)
    assert found() == {"hold of a settled request": "it was settled with status 200, and its hold is still open"}


@pytest.mark.parametrize(("kind", "check"), [(Kind.CHARGE, "usage and charge"), (Kind.COST, "usage and upstream cost")])
def test_a_usage_row_whose_transfer_is_missing_or_another_amount(wallet: Wallet, kind: Kind, check: str) -> None:
    with Broken("billing_transfer"):
        Transfer.objects.filter(kind=kind).update(amount_nanos=F("amount_nanos") + 1)
    assert check in found()
    with Broken("billing_transfer"):
        Transfer.objects.filter(kind=kind).delete()
    assert found()[check].endswith("the ledger nothing")


def test_a_charge_that_another_organization_paid(wallet: Wallet) -> None:
    other = Organization.objects.create(name="Bob's")
    ledger.wallet_of(other.pk)
    with Broken("billing_transfer"):
        Transfer.objects.filter(kind=Kind.CHARGE).update(debit_id=other.pk)
    assert f"from {other.pk} to -3" in found()["usage and charge"]


def test_a_transfer_of_a_request_that_has_no_usage_row(wallet: Wallet) -> None:
    UsageHour.objects.all().delete()
    UsageDay.objects.all().delete()
    Usage.objects.all().delete()
    assert list(found()) == ["transfer without usage"]


def test_requests_of_months_that_were_detached_are_not_missed(wallet: Wallet) -> None:
    now = timezone.now()
    last_month = partitions.month_after(now.date().replace(day=1), -1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT aperture_usage_partition(%s)", [last_month])
    moment = int(datetime(last_month.year, last_month.month, 3, tzinfo=UTC).timestamp() * 1000)
    settle(wallet.pk, uuid.UUID(int=(moment << 80) | (REQUEST.int & (2**80 - 1))))
    assert found() == {}
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert partitions.retire(now, 1) == []
    assert partitions.detach_before(now.date()) == [f"billing_usage_{last_month:%Y_%m}"]
    assert Usage.objects.count() == 1
    assert found() == {}


def test_an_hour_that_is_not_the_sum_of_its_requests(wallet: Wallet) -> None:
    UsageHour.objects.update(failed_count=1, charge_nanos=119)
    UsageDay.objects.update(failed_count=1, charge_nanos=119)
    assert found() == {
        "usage by hour": "failed_count 1 by hour, 0 by its usage rows; charge_nanos 119 by hour, 120 by its usage rows"
    }


def test_a_day_that_is_not_the_sum_of_its_hours(wallet: Wallet) -> None:
    UsageDay.objects.update(charge_nanos=119)
    assert found() == {
        "usage by day": ("the day says 1 requests, 119 nano-dollars charged, 100 of cost; its hours 1, 120, 100")
    }


def test_what_has_just_come_is_no_difference_until_it_is_added_up(wallet: Wallet) -> None:
    UsageHour.objects.update(failed_count=1)
    UsageDay.objects.update(failed_count=1)
    Usage.objects.update(created_at=timezone.now())
    assert found() == {}
    rollups.run(timezone.now())
    assert found() == {}
    assert UsageHour.objects.get().failed_count == 0


def test_an_hour_without_requests_and_requests_without_an_hour(wallet: Wallet) -> None:
    UsageHour.objects.update(key_id=99)
    details = [each.detail for each in reconcile.run(timezone.now())]
    assert len(details) == 2
    assert set(details) == {
        "the hour says 1 requests, and there is none",
        "there are 1 requests, and no row of their hour",
    }


def test_a_transfer_to_an_account_that_does_not_exist(wallet: Wallet) -> None:
    with Broken("billing_transfer"):
        Transfer.objects.create(amount_nanos=5, debit_id=House.CLEARING, credit_id=987654, kind=Kind.TOP_UP)
    assert set(found()) == {"account missing", "books"}


def test_a_correction_that_is_not_the_opposite(wallet: Wallet) -> None:
    transfer = Transfer.objects.get(kind=Kind.TOP_UP)
    correction = ledger.correct(transfer, reason="posted by mistake")
    assert set(found()) == {"wallet below zero"}
    with Broken("billing_transfer"):
        Transfer.objects.filter(pk=correction.pk).update(amount_nanos=1)
    assert "with 1 from" in found()["correction"]


def test_a_transfer_that_was_corrected_twice(wallet: Wallet) -> None:
    transfer = Transfer.objects.get(kind=Kind.TOP_UP)
    for _ in range(2):
        Transfer.objects.create(
            amount_nanos=transfer.amount_nanos, debit_id=transfer.credit_id, credit_id=transfer.debit_id,
            kind=Kind.CORRECTION, corrects=transfer,
        )  # fmt: skip
    assert "and so does transfer" in found()["correction"]


def test_a_corrected_charge_is_no_difference_for_the_usage_row_says_what_happened(wallet: Wallet) -> None:
    ledger.correct(Transfer.objects.get(kind=Kind.CHARGE), reason="the answer was wrong")
    assert found() == {}


def test_a_wallet_below_zero_is_information_and_no_fault(wallet: Wallet) -> None:
    ledger.debit(wallet.pk, money.of_dollars(11), Kind.DISPUTE, House.CLEARING, reference="dp_1")
    (each,) = reconcile.run(timezone.now())
    assert (each.name, each.information) == ("wallet below zero", True)
    out = StringIO()
    call_command("reconcile", stdout=out)
    assert "information: wallet below zero" in out.getvalue()
    assert "The books agree." in out.getvalue()


def test_differences_are_kept_until_they_are_gone_and_open_again_when_they_come_back(wallet: Wallet) -> None:
    first = timezone.now()
    UsageDay.objects.update(cost_nanos=1)
    reconcile.run(first)
    later = first + timedelta(days=1)
    reconcile.run(later)
    row = Difference.objects.get()
    assert (row.first_seen_at, row.last_seen_at, row.resolved_at) == (first, later, None)
    UsageDay.objects.update(cost_nanos=100)
    reconcile.run(later, since=first - timedelta(days=1))
    row.refresh_from_db()
    assert row.resolved_at is None
    reconcile.run(later)
    row.refresh_from_db()
    assert row.resolved_at == later
    UsageDay.objects.update(cost_nanos=1)
    reconcile.run(later)
    row.refresh_from_db()
    assert row.resolved_at is None


def test_the_command_prints_each_difference_and_fails(wallet: Wallet) -> None:
    UsageDay.objects.update(cost_nanos=1)
    out = StringIO()
    with pytest.raises(CommandError, match="1 differences"):
        call_command("reconcile", "--since", "2020-01-01", stdout=out)
    assert f"DIFFERENCE: usage by day: organization {wallet.pk}" in out.getvalue()


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", ""])
def test_the_command_names_a_date_that_is_none(text: str) -> None:
    with pytest.raises(CommandError, match="--since"):
        call_command("reconcile", "--since", text)


@pytest.mark.django_db(transaction=True)
def test_two_processes_do_not_reconcile_at_once() -> None:
    import psycopg

    settings = connection.get_connection_params()
    settings.pop("cursor_factory", None), settings.pop("context", None)
    with psycopg.connect(**settings) as other, other.transaction():
        other.execute(reconcile.LOCK)
        with pytest.raises(CommandError, match="Another process"):
            call_command("reconcile")
    with transaction.atomic():
        assert found() == {}


def test_the_books_open_with_what_was_recorded_before_there_were_books(wallet: Wallet) -> None:
    opening = importlib.import_module("billing.migrations.0006_redeem").OPENING
    with Broken("billing_transfer"):
        Transfer.objects.filter(kind=Kind.COST).delete()
    assert set(found()) == {"usage and upstream cost"}
    # The sums of that time are made from the rows today.
    _, transfers = opening.split("\n\n")
    for _ in range(2):
        sql(transfers)
        assert found() == {}


def test_no_plan_is_needed_for_the_checks_to_run() -> None:
    Plan.objects.all().delete()
    assert found() == {}


@pytest.mark.django_db(transaction=True)
async def test_the_books_agree_with_what_the_journal_writes() -> None:
    alice, team = await an_organization(1000), await an_organization()
    async with running() as journal:
        held = [await journal.hold(an_ask(each, 300), 5) for each in (alice, team, alice)]
        await journal.settle(held[0], a_settlement(held[0], 120, cost_nanos=100, input_tokens=9), 5)
        await journal.settle(held[1], a_settlement(held[1], 0, cost_nanos=100, status=502), 5)
        await until_written(journal)
        assert await orm(found) == {}
        await journal_sql("UPDATE billing_hold SET lease_until = now() - interval '2 minutes'")
        assert list(await orm(found)) == ["hold overdue"]
        await journal_sql("UPDATE billing_hold SET lease_until = now() + interval '2 minutes'")
        await journal.settle(held[2], a_settlement(held[2], 400), 5)
        assert await orm(found) == {}
        assert await balance(alice) == (480, 0)
