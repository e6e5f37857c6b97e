"""The money's invariants are the database's own: whoever writes, by whatever way."""

import uuid
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Sum
from django.utils import timezone

from accounts.models import Organization, Version
from billing.models import Hold, House, Kind, Plan, Transfer, Wallet

pytestmark = pytest.mark.django_db


@pytest.fixture
def wallet() -> Wallet:
    organization = Organization.objects.create(name="Alice's")
    return Wallet.objects.create(organization=organization, mode=Wallet.PREPAID, plan=Plan.objects.get(slug="free"))


def top_up(wallet: Wallet, amount: int, **fields: Any) -> Transfer:
    return Transfer.objects.create(
        amount_nanos=amount, debit_id=House.CLEARING, credit_id=wallet.pk, kind=Kind.TOP_UP, **fields
    )


def hold(wallet: Wallet, amount: int, *, metered: bool = True) -> Hold:
    return Hold.objects.create(
        request_id=uuid.uuid4(),
        organization_id=wallet.pk,
        amount_nanos=amount,
        metered=metered,
        lease_until=timezone.now(),
        unfinished={},
    )


def test_a_transfer_moves_the_wallets_that_it_names(wallet: Wallet) -> None:
    top_up(wallet, 500)
    Transfer.objects.create(amount_nanos=200, debit_id=wallet.pk, credit_id=House.REVENUE, kind=Kind.CHARGE)
    wallet.refresh_from_db()
    assert wallet.posted_nanos == 300
    assert wallet.funded


def test_a_wallet_is_funded_only_while_it_has_credit(wallet: Wallet) -> None:
    top_up(wallet, 5)
    Transfer.objects.create(amount_nanos=5, debit_id=wallet.pk, credit_id=House.REVENUE, kind=Kind.CHARGE)
    wallet.refresh_from_db()
    assert not wallet.funded


def test_a_transfer_to_a_wallet_that_does_not_exist_is_refused(wallet: Wallet) -> None:
    with pytest.raises(IntegrityError, match="does not exist"), transaction.atomic():
        Transfer.objects.create(amount_nanos=1, debit_id=House.CLEARING, credit_id=10**12, kind=Kind.TOP_UP)


@pytest.mark.parametrize(
    "fields",
    [
        {"amount_nanos": 0},
        {"amount_nanos": -5},
        {"debit_id": min(House) - 1},
        {"debit_id": 0},
        {"kind": Kind.CORRECTION},
    ],
)
def test_a_transfer_that_makes_no_sense_is_refused(wallet: Wallet, fields: dict[str, int]) -> None:
    row = {"amount_nanos": 1, "debit_id": House.CLEARING, "credit_id": wallet.pk, "kind": Kind.TOP_UP}
    with pytest.raises(IntegrityError), transaction.atomic():
        Transfer.objects.create(**(row | fields))


def test_a_transfer_from_an_account_to_itself_is_refused(wallet: Wallet) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Transfer.objects.create(amount_nanos=1, debit_id=wallet.pk, credit_id=wallet.pk, kind=Kind.TOP_UP)


def test_a_business_key_and_a_request_are_posted_once(wallet: Wallet) -> None:
    request_id = uuid.uuid4()
    top_up(wallet, 5, reference="stripe:cs_1")
    top_up(wallet, 5, request_id=request_id)
    for fields in ({"reference": "stripe:cs_1"}, {"request_id": request_id}):
        with pytest.raises(IntegrityError, match="once"), transaction.atomic():
            top_up(wallet, 5, **fields)
    wallet.refresh_from_db()
    assert wallet.posted_nanos == 10


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing_transfer SET amount_nanos = amount_nanos + 1",
        "DELETE FROM billing_transfer",
        "SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL aperture.truncating = 'off'; TRUNCATE billing_transfer CASCADE",
    ],
)
def test_transfers_are_append_only(wallet: Wallet, statement: str) -> None:
    top_up(wallet, 5)
    with pytest.raises(DatabaseError, match="refused"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert Transfer.objects.aggregate(sum=Sum("amount_nanos"))["sum"] == 5


def test_a_wallet_is_never_deleted(wallet: Wallet) -> None:
    with pytest.raises(DatabaseError, match="refused"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM billing_wallet")


@pytest.mark.parametrize("column", ["posted_nanos", "held_nanos"])
def test_a_balance_moves_by_transfers_and_holds_only(wallet: Wallet, column: str) -> None:
    with pytest.raises(DatabaseError, match="transfers and holds only"), transaction.atomic():
        Wallet.objects.filter(pk=wallet.pk).update(**{column: 10**9})


def test_a_wallet_is_opened_empty() -> None:
    organization = Organization.objects.create(name="Bob's")
    with pytest.raises(DatabaseError, match="transfers and holds only"), transaction.atomic():
        Wallet.objects.create(
            organization=organization, mode=Wallet.PREPAID, plan=Plan.objects.get(slug="free"), posted_nanos=5
        )


def test_saving_a_stale_wallet_leaves_the_balance_alone(wallet: Wallet) -> None:
    """CVE-2026-64865 of new-api: a saved profile wrote an old balance back."""
    stale = Wallet.objects.get(pk=wallet.pk)
    top_up(wallet, 500)
    stale.low_balance_nanos = 7
    stale.save()
    wallet.refresh_from_db()
    assert (wallet.posted_nanos, wallet.low_balance_nanos) == (500, 7)


def test_held_is_the_sum_of_the_open_holds(wallet: Wallet) -> None:
    top_up(wallet, 500)
    first, _ = hold(wallet, 300), hold(wallet, 50)
    hold(wallet, 900, metered=False)
    Hold.objects.filter(pk=first.pk).update(amount_nanos=310)
    wallet.refresh_from_db()
    assert wallet.held_nanos == 360
    first.delete()
    wallet.refresh_from_db()
    assert wallet.held_nanos == 50


def test_a_hold_that_overdraws_is_refused_by_the_database_itself(wallet: Wallet) -> None:
    top_up(wallet, 500)
    first = hold(wallet, 400)
    with pytest.raises(IntegrityError, match="overdraw"), transaction.atomic():
        hold(wallet, 101)
    with pytest.raises(IntegrityError, match="overdraw"), transaction.atomic():
        Hold.objects.filter(pk=first.pk).update(amount_nanos=501)
    Wallet.objects.filter(pk=wallet.pk).update(overdraft_nanos=1)
    hold(wallet, 101)


def test_a_hold_may_shrink_while_the_wallet_is_below_zero(wallet: Wallet) -> None:
    top_up(wallet, 500)
    first = hold(wallet, 400)
    Transfer.objects.create(amount_nanos=450, debit_id=wallet.pk, credit_id=House.REVENUE, kind=Kind.CHARGE)
    Hold.objects.filter(pk=first.pk).update(amount_nanos=100)
    wallet.refresh_from_db()
    assert (wallet.posted_nanos, wallet.held_nanos) == (50, 100)


def keys_version() -> int:
    with connection.cursor() as cursor:
        # As if a transaction ended here: the deferred triggers run, and forget that they have.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
        cursor.execute("SELECT set_config('aperture.bumped_keys', '', true)")
    return Version.objects.get().keys


def test_only_a_change_of_terms_is_told_to_every_process(wallet: Wallet) -> None:
    top_up(wallet, 500)
    before = keys_version()
    top_up(wallet, 5)
    hold(wallet, 5)
    assert keys_version() == before
    Wallet.objects.filter(pk=wallet.pk).update(mode=Wallet.UNMETERED)
    assert keys_version() == before + 1


def test_the_seeded_plans_are_there() -> None:
    assert [(plan.slug, plan.markup_ppm) for plan in Plan.objects.all()] == [
        ("free", 1_200_000),
        ("pro", 1_200_000),
        ("enterprise", 1_200_000),
    ]
