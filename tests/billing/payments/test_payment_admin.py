"""The admin's pages of payments by card."""

import uuid
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import User
from billing.models import Payment, Reversal, StripeEvent
from tests.billing.payments.shop import Shop
from tests.installation import signed_in

pytestmark = pytest.mark.server


@pytest.fixture
def operator(shop: Shop) -> Client:
    return signed_in(User.objects.create_superuser("operator@example.com", "a long password"))


def asked(**form: Any) -> dict[str, Any]:
    return {"_form_submitted": "on", "reason": "asked for it", "token": str(uuid.uuid4()), **form}


def refund(operator: Client, payment: Payment, **form: Any) -> str:
    """Send the form of the refund's dialog; return what the operator is told."""
    address = reverse("admin:billing_payment_refund", args=[payment.pk])
    answer = operator.post(address, asked(**form))
    assert answer.status_code == 200
    return str(operator.get(reverse("admin:billing_payment_changelist")).content.decode())


def test_payments_subscriptions_and_events_are_listed_and_shown(shop: Shop, operator: Client) -> None:
    payment = shop.top_up("25.00")
    subscription = shop.subscribe(shop.sell("pro"))
    for name, row, texts in (
        ("payment", payment, ["alice@example.com", "$25.00", "APT-0001", payment.stripe_session_id]),
        ("subscription", subscription, ["alice@example.com", "Pro", "active"]),
        ("stripeevent", StripeEvent.objects.filter(type="invoice.paid").first(), ["invoice.paid", "processed"]),
    ):
        assert row is not None
        pages = [reverse(f"admin:billing_{name}_changelist"), reverse(f"admin:billing_{name}_change", args=[row.pk])]
        text = "".join(operator.get(page).content.decode() for page in pages)
        assert not [each for each in texts if str(each) not in text]
        assert operator.post(pages[1], {"status": "paid"}).status_code == 403
        assert operator.get(reverse(f"admin:billing_{name}_add")).status_code == 403


def test_failures_are_listed_and_processed_again(shop: Shop, operator: Client) -> None:
    payment = shop.begin("25.00")
    shop.pay(payment)
    session = shop.fake.get(payment.stripe_session_id or "", "checkout.session")
    session["currency"] = "jpy"
    shop.deliver()
    page = reverse("admin:billing_stripeevent_changelist")
    failed = operator.get(page, {"outcome": "failed"}).context["cl"].result_list
    assert {event.error[:8] for event in failed} == {"Mismatch"}
    chosen = {"action": "process_again", "_selected_action": [event.pk for event in failed]}
    assert "failed" in operator.post(page, chosen, follow=True).content.decode()
    session["currency"] = "usd"
    assert "Processed" in operator.post(page, chosen, follow=True).content.decode()
    assert shop.balance == "25.00"
    assert not operator.get(page, {"outcome": "failed"}).context["cl"].result_list


@pytest.mark.parametrize(("outcome", "count"), [("failed", 0), ("waiting", 0), ("processed", 4), ("x", 4)])
def test_events_are_found_by_outcome(shop: Shop, operator: Client, outcome: str, count: int) -> None:
    shop.top_up()
    page = operator.get(reverse("admin:billing_stripeevent_changelist"), {"outcome": outcome})
    assert len(page.context["cl"].result_list) == count


def test_an_operator_refunds_what_is_unused_once(shop: Shop, operator: Client) -> None:
    payment = shop.top_up("25.00")
    form = {"amount": "10.00", "token": str(uuid.uuid4())}
    assert "Refunded $10.00" in refund(operator, payment, **form)
    assert "sent before" in refund(operator, payment, **form)
    assert shop.balance == "15.00"
    assert "Refunded $15.00" in refund(operator, payment)
    assert "is unused" in refund(operator, payment, amount="0.01")
    assert (shop.balance, Reversal.objects.count()) == ("0.00", 2)
    assert LogEntry.objects.filter(change_message__contains="Refunded $10.00").exists()


def test_a_refund_that_stripe_does_not_answer_is_told(shop: Shop, operator: Client) -> None:
    payment = shop.top_up("25.00")
    shop.fake.faults = [500] * 3
    assert "asked for again" in refund(operator, payment)
    assert Reversal.objects.get().status == Reversal.ASKED


def test_who_may_only_look_may_not_act(shop: Shop) -> None:
    payment = shop.top_up("25.00")
    clerk = User.objects.create_user("clerk@example.com", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=["view_payment", "view_stripeevent"]))
    browser = signed_in(clerk)
    assert browser.get(reverse("admin:billing_payment_change", args=[payment.pk])).status_code == 200
    address = reverse("admin:billing_payment_refund", args=[payment.pk])
    assert browser.post(address, asked()).status_code == 403
    page = reverse("admin:billing_stripeevent_changelist")
    event = StripeEvent.objects.latest("pk")
    browser.post(page, {"action": "process_again", "_selected_action": [event.pk]})
    event.refresh_from_db()
    assert (event.attempts, shop.balance) == (1, "25.00")
