"""The admin's pages of wallets: what an operator may do to a balance, and what nobody may."""

import re
import uuid
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Organization, User
from billing import ledger, money
from billing.models import Hold, House, Kind, Plan, Transfer, Wallet

LIST = "admin:billing_wallet_changelist"


def page(name: str, wallet: Wallet) -> str:
    return reverse(f"admin:billing_wallet_{name}", args=[wallet.pk])


def submit(client: Client, name: str, wallet: Wallet, **fields: Any) -> HttpResponse:
    """Send the second page of a deed."""
    data = {"reason": "asked by mail", "token": str(uuid.uuid4()), "confirmed": "yes", "source": "-5"} | fields
    return client.post(page(name, wallet), data, follow=True)  # type: ignore[return-value]


def hold(wallet: Wallet, amount_nanos: int) -> None:
    Hold.objects.create(
        request_id=uuid.uuid4(), organization_id=wallet.pk, amount_nanos=amount_nanos, metered=True,
        lease_until=timezone.now(), unfinished={},
    )  # fmt: skip


def test_the_list_shows_posted_held_and_available_apart(client: Client, wallet: Wallet) -> None:
    hold(wallet, 1_500_000_000)
    Wallet.objects.filter(pk=wallet.pk).update(overdraft_nanos=2_000_000_000)
    text = client.get(reverse(LIST), {"q": "Acme"}).content.decode()
    for shown in ("Acme", "prepaid", "Free", "$10.00", "$1.50", ">$10.50<", "open"):
        assert shown in text


def test_a_wallet_shows_its_latest_transfers_and_open_holds(client: Client, wallet: Wallet) -> None:
    hold(wallet, 70)
    ledger.debit(wallet.pk, money.of_dollars(1), Kind.DEBIT, House.ADJUSTMENTS, reason="a mistake")
    text = client.get(page("change", wallet)).content.decode()
    for shown in ("cs_1", "house: payment clearing", "-$1.00", "a mistake", "$0.00000007", str(Hold.objects.get().pk)):
        assert shown in text


def test_credit_asks_shows_what_will_be_and_posts_once(client: Client, wallet: Wallet, operator: User) -> None:
    asked = client.get(page("credit", wallet)).content.decode()
    token = re.search(r'name="token" value="([0-9a-f-]+)"', asked)
    assert token
    fields = {"amount": "2.50", "source": "-5", "reason": "a voucher", "token": token[1]}
    shown = client.post(page("credit", wallet), fields).content.decode()
    assert "$12.50" in shown
    assert Transfer.objects.filter(kind=Kind.CREDIT).count() == 0
    for _ in range(2):
        client.post(page("credit", wallet), fields | {"confirmed": "yes"})
    transfer = Transfer.objects.get(kind=Kind.CREDIT)
    assert (transfer.debit_id, transfer.credit_id) == (House.PROMOTIONS, wallet.pk)
    assert (transfer.amount_nanos, transfer.actor_id, transfer.reason) == (2_500_000_000, operator.pk, "a voucher")
    assert transfer.reference == f"admin:{token[1]}"
    (entry,) = LogEntry.objects.all()
    assert "Credited $2.50" in entry.change_message
    assert "a voucher" in entry.change_message


def test_credit_that_was_paid_elsewhere_comes_from_clearing_and_from_nowhere_else(
    client: Client, wallet: Wallet
) -> None:
    submit(client, "credit", wallet, amount="100", source="-4")
    assert Transfer.objects.get(kind=Kind.CREDIT).debit_id == House.CLEARING
    submit(client, "credit", wallet, amount="100", source="-3")
    submit(client, "credit", wallet, amount="100", source=str(wallet.pk))
    assert Transfer.objects.filter(kind=Kind.CREDIT).count() == 1


@pytest.mark.parametrize(
    ("name", "kind", "target"), [("debit", Kind.DEBIT, House.ADJUSTMENTS), ("refund", Kind.REFUND, House.REFUNDS)]
)
def test_only_what_is_not_held_can_be_taken(
    client: Client, wallet: Wallet, name: str, kind: Kind, target: House
) -> None:
    hold(wallet, 4_000_000_000)
    text = submit(client, name, wallet, amount="6.01").content.decode()
    assert "6.00 of the balance is available" in text.replace("$6.000000000", "6.00")
    assert not Transfer.objects.filter(kind=kind).exists()
    submit(client, name, wallet, amount="6")
    transfer = Transfer.objects.get(kind=kind)
    assert (transfer.debit_id, transfer.credit_id, transfer.amount_nanos) == (wallet.pk, target, 6_000_000_000)


@pytest.mark.parametrize(
    ("amount", "sentence"),
    [
        ("", "This field is required."),
        ("0", "Write an amount above zero."),
        ("-5", "Write an amount of 0 or more."),
        ("five", "is no amount of dollars"),
        ("0.0000000001", "is not a whole number of nano-dollars"),
        ("1e30", "more than a column holds"),
        ("1000.01", "At most $1,000 can be moved at a time; APERTURE_ADJUSTMENT_MAX_DOLLARS"),
    ],
)
def test_an_amount_that_cannot_be_used_is_named(client: Client, wallet: Wallet, amount: str, sentence: str) -> None:
    assert sentence in submit(client, "credit", wallet, amount=amount).content.decode()
    assert Transfer.objects.count() == 1


def test_a_reason_is_required(client: Client, wallet: Wallet) -> None:
    submit(client, "credit", wallet, amount="1", reason=" ")
    assert Transfer.objects.count() == 1


def test_a_limit_of_zero_switches_adjustments_off(client: Client, wallet: Wallet, settings: Settings) -> None:
    settings.ADJUSTMENT_MAX_DOLLARS = 0
    assert "At most $0" in submit(client, "credit", wallet, amount="0.01").content.decode()
    assert Transfer.objects.count() == 1


def test_freezing_and_unfreezing_moves_no_money(client: Client, wallet: Wallet) -> None:
    frozen = Wallet.objects.exclude(frozen_at=None)
    submit(client, "freeze", wallet)
    assert frozen.count() == 1
    assert "is frozen already" in submit(client, "freeze", wallet).content.decode()
    submit(client, "unfreeze", wallet)
    assert frozen.count() == 0
    assert "is not frozen" in submit(client, "unfreeze", wallet).content.decode()
    assert Transfer.objects.count() == 1
    assert LogEntry.objects.count() == 2


def test_what_is_owed_is_written_off_to_zero_and_nothing_else_is(client: Client, wallet: Wallet) -> None:
    assert "is not below zero" in submit(client, "write_off", wallet).content.decode()
    ledger.debit(wallet.pk, money.of_dollars("12.5"), Kind.DISPUTE, House.CLEARING, reference="dp_1")
    assert "$2.50" in submit(client, "write_off", wallet).content.decode()
    transfer = Transfer.objects.get(kind=Kind.WRITE_OFF)
    assert (transfer.debit_id, transfer.credit_id, transfer.amount_nanos) == (House.BAD_DEBT, wallet.pk, 2_500_000_000)
    wallet.refresh_from_db()
    assert wallet.posted_nanos == 0
    ledger.debit(wallet.pk, money.of_dollars(1001), Kind.DISPUTE, House.CLEARING, reference="dp_2")
    assert "over $1,000" in submit(client, "write_off", wallet).content.decode()
    assert Transfer.objects.filter(kind=Kind.WRITE_OFF).count() == 1


def test_a_plan_is_set_and_the_balance_stays(client: Client, wallet: Wallet) -> None:
    pro = Plan.objects.get(slug=Plan.PRO)
    submit(client, "set_plan", wallet, plan=pro.pk)
    wallet.refresh_from_db()
    assert (wallet.plan, wallet.posted_nanos) == (pro, 10_000_000_000)


def test_saving_the_form_changes_terms_and_never_a_balance(client: Client, wallet: Wallet) -> None:
    text = client.get(page("change", wallet)).content.decode()
    assert "posted_nanos" not in text
    ledger.credit(wallet.pk, money.of_dollars(5), Kind.TOP_UP, House.CLEARING)
    data = {
        "mode": "unmetered",
        "overdraft_nanos": "1.5",
        "low_balance_nanos": "",
        "posted_nanos": "1",
        "frozen_at": "",
    }
    client.post(page("change", wallet), data)
    wallet.refresh_from_db()
    assert (wallet.mode, wallet.overdraft_nanos, wallet.low_balance_nanos) == ("unmetered", 1_500_000_000, None)
    assert wallet.posted_nanos == 15_000_000_000


def test_a_wallet_can_be_opened_before_the_first_request(client: Client, settings: Settings) -> None:
    settings.MODE = "resale"
    organization = Organization.objects.create(name="Later")
    client.post(reverse("admin:billing_wallet_add"), {"organization": organization.pk})
    wallet = Wallet.objects.get(pk=organization.pk)
    assert (wallet.mode, wallet.plan.slug, wallet.posted_nanos) == ("prepaid", "free", 0)


@pytest.mark.parametrize("name", ["credit", "debit", "refund", "set_plan", "freeze", "unfreeze", "write_off"])
def test_who_may_only_look_may_do_nothing(onlooker: Client, wallet: Wallet, name: str) -> None:
    assert onlooker.get(page("change", wallet)).status_code == 200
    assert onlooker.get(page(name, wallet)).status_code == 403
    assert submit(onlooker, name, wallet, amount="1", plan=Plan.objects.get(slug="pro").pk).status_code == 403
    assert Transfer.objects.count() == 1


def test_nobody_deletes_a_wallet(client: Client, wallet: Wallet) -> None:
    assert client.post(reverse("admin:billing_wallet_delete", args=[wallet.pk]), {"post": "yes"}).status_code == 403


def test_a_wallet_that_does_not_exist_is_404(client: Client) -> None:
    assert client.get(reverse("admin:billing_wallet_credit", args=[999_999])).status_code == 404
