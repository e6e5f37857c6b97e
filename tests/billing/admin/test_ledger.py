"""The admin's pages of the ledger: read only, found by what people know, corrected by the opposite."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from accounts.models import Membership, Organization, User
from billing import ledger, money
from billing.models import House, Kind, Transfer, Wallet
from tests.races import at_once

LIST = "admin:billing_transfer_changelist"
REQUEST = uuid.UUID(int=5)


@pytest.fixture
def charge(wallet: Wallet) -> Transfer:
    return Transfer.objects.create(
        amount_nanos=1_200, debit_id=wallet.pk, credit_id=House.REVENUE, kind=Kind.CHARGE, request_id=REQUEST
    )


@pytest.fixture
def other(db: None) -> Organization:
    other = Organization.objects.create(name="Other")
    ledger.credit(other.pk, money.of_dollars(1), Kind.REDEEM, House.PROMOTIONS, reference="redeem:1")
    Membership.objects.create(organization=other, user=User.objects.create_user("bob@example.com"))
    return other


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ({}, {Kind.TOP_UP, Kind.CHARGE, Kind.REDEEM}),
        ({"organization": "acme"}, {Kind.TOP_UP, Kind.CHARGE}),
        ({"organization": "ac\x00me"}, {Kind.TOP_UP, Kind.CHARGE}),
        ({"organization": "BOB@example.com"}, {Kind.REDEEM}),
        ({"organization": "9" * 30}, set()),
        ({"kind__exact": "1"}, {Kind.CHARGE}),
        ({"q": str(REQUEST)}, {Kind.CHARGE}),
        ({"q": "cs_1"}, {Kind.TOP_UP}),
        ({"created_at_from_0": "2099-01-01", "created_at_from_1": "00:00:00"}, set()),
    ],
)
def test_transfers_are_found_by_what_people_know(
    client: Client, charge: Transfer, other: Organization, query: dict[str, str], kinds: set[Kind]
) -> None:
    rows = client.get(reverse(LIST), query).context["cl"].result_list
    assert {row.kind for row in rows} == kinds


def test_the_table_is_never_counted_and_names_cost_no_query_a_row(client: Client, charge: Transfer) -> None:
    with CaptureQueriesContext(connection) as few:
        client.get(reverse(LIST))
    for _ in range(5):
        ledger.credit(charge.debit_id, money.of_dollars(1), Kind.CREDIT, House.PROMOTIONS)
    with CaptureQueriesContext(connection) as many:
        client.get(reverse(LIST))
    assert len(few) == len(many)
    assert not [query for query in many if "COUNT(" in query["sql"] and "billing_transfer" in query["sql"]]


def test_a_transfer_shows_both_sides_and_why(client: Client, charge: Transfer) -> None:
    text = client.get(reverse("admin:billing_transfer_change", args=[charge.pk])).content.decode()
    for shown in ("Acme", "house: revenue", "$0.0000012", str(REQUEST), "the system"):
        assert shown in text


def correct(client: Client, transfer: Transfer, **fields: Any) -> str:
    data = {"reason": "posted twice", "token": str(uuid.uuid4())} | fields
    address = reverse("admin:billing_transfer_correct", args=[transfer.pk])
    return client.post(address, data, follow=True).content.decode()


def test_a_correction_is_the_opposite_and_names_what_it_corrects(
    client: Client, wallet: Wallet, operator: User
) -> None:
    transfer = Transfer.objects.get()
    assert "$0.00" in correct(client, transfer)
    assert Transfer.objects.count() == 1
    assert "Corrected transfer" in correct(client, transfer, confirmed="yes")
    correction = Transfer.objects.get(kind=Kind.CORRECTION)
    assert correction.corrects == transfer
    assert (correction.debit_id, correction.credit_id) == (wallet.pk, House.CLEARING)
    assert (correction.actor_id, correction.reason) == (operator.pk, "posted twice")
    wallet.refresh_from_db()
    assert wallet.posted_nanos == 0
    assert LogEntry.objects.count() == 1
    assert "was corrected already" in correct(client, transfer, confirmed="yes")
    assert Transfer.objects.count() == 2


def test_a_correction_obeys_the_limit_of_one_action(client: Client, wallet: Wallet, settings: Settings) -> None:
    settings.ADJUSTMENT_MAX_DOLLARS = 9
    assert "over $9" in correct(client, Transfer.objects.get(), confirmed="yes")
    assert Transfer.objects.count() == 1


def test_who_may_only_look_corrects_nothing(onlooker: Client, wallet: Wallet) -> None:
    transfer = Transfer.objects.get()
    assert onlooker.get(reverse("admin:billing_transfer_change", args=[transfer.pk])).status_code == 200
    address = reverse("admin:billing_transfer_correct", args=[transfer.pk])
    assert onlooker.get(address).status_code == 403
    assert onlooker.post(address, {"reason": "x", "token": uuid.uuid4(), "confirmed": "yes"}).status_code == 403
    assert Transfer.objects.count() == 1


@pytest.mark.parametrize("name", ["add", "delete"])
def test_nobody_adds_or_deletes_a_transfer(client: Client, wallet: Wallet, name: str) -> None:
    args = [] if name == "add" else [Transfer.objects.get().pk]
    assert client.post(reverse(f"admin:billing_transfer_{name}", args=args), {"post": "yes"}).status_code == 403


def test_the_houses_accounts_are_summed_by_month(client: Client, charge: Transfer) -> None:
    Transfer.objects.create(
        amount_nanos=1_000, debit_id=House.UPSTREAM_COST, credit_id=House.UPSTREAM_PAYABLE, kind=Kind.COST
    )
    Transfer.objects.create(
        amount_nanos=77, debit_id=charge.debit_id, credit_id=House.REVENUE, kind=Kind.CHARGE,
        created_at=datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC),
    )  # fmt: skip
    house = reverse("admin:billing_transfer_house")
    answer = client.get(house)
    figures = [str(value) for _, value, _ in answer.context["figures"]]
    assert figures == ["$0.000001", "$0.000001", "$0.000000", "$10.00"]
    assert "$0.0000012<" in answer.content.decode()
    assert "16.7% of revenue" in answer.content.decode()
    months = [month for month, _ in answer.context["form"].fields["month"].choices]
    assert len(months) == 24
    if "2026-01" in months:
        assert "$0.000000077" in client.get(house, {"month": "2026-01"}).content.decode()
    assert client.get(house, {"month": "nonsense"}).status_code == 200


def test_the_houses_accounts_need_the_right_to_see_the_ledger(onlooker: Client, db: None) -> None:
    address = reverse("admin:billing_transfer_house")
    assert onlooker.get(address).status_code == 200
    stranger = User.objects.create_user("dave@example.com", is_staff=True)
    onlooker.force_login(stranger)
    assert onlooker.get(address).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_a_transfer_between_house_accounts_is_corrected_once_whoever_asks_at_once() -> None:
    cost = Transfer.objects.create(
        amount_nanos=5, debit_id=House.UPSTREAM_COST, credit_id=House.UPSTREAM_PAYABLE, kind=Kind.COST
    )
    outcomes = at_once(*[lambda: ledger.correct(cost, reason="twice")] * 4, refusal=ValueError)
    assert sum(isinstance(outcome, Transfer) for outcome in outcomes) == 1
    assert Transfer.objects.filter(kind=Kind.CORRECTION).count() == 1
