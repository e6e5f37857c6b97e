"""Paying by card through the billing API, against a Stripe that remembers, and the receipts that come of it."""

import json
from typing import Any

import pytest
from django.test import Client

from accounts import keys
from billing.models import ApiIdempotency, Payment, StripeCustomer
from tests.billing.api_scenery import API, WRITE, bearer
from tests.billing.payments.shop import Shop

pytestmark = [pytest.mark.django_db, pytest.mark.server]


@pytest.fixture
def key(shop: Shop) -> str:
    row, clear = keys.mint(user=shop.user)
    row.scopes = [WRITE, "billing:read"]
    row.save()
    return clear


def post(key: str, address: str, body: Any, once: str | None = None) -> Any:
    headers: dict[str, Any] = {"HTTP_IDEMPOTENCY_KEY": once} if once else {}
    return Client().post(f"{API}/{address}", json.dumps(body), "application/json", **bearer(key), **headers)


def receipt(key: str) -> tuple[Any, str]:
    """Return the newest receipt, and its page."""
    found = Client().get(f"{API}/receipts", **bearer(key)).json()["data"][0]
    return found, Client().get(f"{API}/receipts/{found['id']}", **bearer(key)).content.decode()


def test_a_top_up_is_begun_once_for_its_key_and_paid_at_stripe(shop: Shop, key: str) -> None:
    first, second = (post(key, "top-up", {"amount": "25.00"}, "k") for _ in range(2))
    assert first.status_code == 200, first.content
    assert first.content == second.content
    payment = Payment.objects.get()
    assert first.json() == {"url": f"{shop.fake.base_url}/pay/{payment.stripe_session_id}"}
    assert (shop.balance, payment.created_by) == ("0.00", shop.user)
    assert shop.pay(payment) == 303
    shop.deliver()
    assert shop.balance == "25.00"


def test_the_receipt_has_what_stripe_says(shop: Shop, key: str) -> None:
    payment = shop.top_up("25.00")
    found, page = receipt(key)
    assert (found["title"], found["amount"]) == ("Receipt", "25.00")
    paid = found["payment"]
    assert (paid["net"], paid["tax"], paid["total"], paid["refunded"]) == ("25.00", "0.00", "25.00", "0.00")
    assert (paid["currency"], paid["invoice_number"]) == ("USD", payment.invoice_number)
    assert payment.invoice_number
    assert payment.invoice_number in page
    assert "Paid, USD" in page


@pytest.mark.parametrize(
    ("url", "linked"), [("https://invoice.stripe.com/i/1", True), ("javascript:alert(1)", False), ("", False)]
)
def test_a_receipt_links_to_secure_addresses_only(shop: Shop, key: str, url: str, linked: bool) -> None:
    payment = shop.top_up()
    Payment.objects.filter(pk=payment.pk).update(invoice_url=url, tax_cents=475, total_cents=2975)
    found, page = receipt(key)
    assert found["payment"]["invoice_url"] == (url if linked else None)
    assert (f'href="{url}"' in page) == linked
    assert "javascript" not in page
    assert "$4.75" in page
    assert "$29.75" in page


def test_a_plan_is_bought_and_its_receipt_names_it(shop: Shop, key: str) -> None:
    plan = shop.sell()
    answer = post(key, "subscribe", {"plan": plan.slug}, "k")
    assert answer.status_code == 200, answer.content
    assert shop.pay(Payment.objects.latest("pk")) == 303
    shop.deliver()
    found, page = receipt(key)
    assert (found["kind"], found["title"], found["payment"]["plan"]) == ("plan_credit", "Receipt", plan.name)
    assert f"Plan {plan.name}" in page
    again = post(key, "subscribe", {"plan": plan.slug}, "other")
    assert (again.status_code, again.json()["error"]["param"]) == (400, "plan")
    assert post(key, "portal", {}).json()["url"].startswith("http")


@pytest.mark.parametrize(
    ("address", "body", "param"),
    [
        ("top-up", {"amount": "0.01"}, "amount"),
        ("top-up", {"amount": "1e3"}, "amount"),
        ("top-up", {"amount": 25.005}, "amount"),
        ("top-up", {"amount": "25.00", "currency": "eur"}, "currency"),
        ("subscribe", {"plan": "none"}, "plan"),
        ("subscribe", {"plan": "pro", "price": "0"}, "price"),
        ("portal", {"customer": "cus_1"}, "customer"),
    ],
)
def test_what_cannot_be_bought_never_reaches_stripe(
    shop: Shop, key: str, address: str, body: dict[str, Any], param: str
) -> None:
    answer = post(key, address, body, "k")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not StripeCustomer.objects.exists()
    assert not ApiIdempotency.objects.exists()


def test_a_plan_without_a_price_at_stripe_is_refused(shop: Shop, key: str) -> None:
    answer = post(key, "subscribe", {"plan": "pro"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "plan")


def test_stripe_away_decides_nothing_and_the_same_key_works_later(shop: Shop, key: str, settings: Any) -> None:
    address, settings.STRIPE_API_BASE = settings.STRIPE_API_BASE, "http://127.0.0.1:9"
    answer = post(key, "top-up", {"amount": "25.00"}, "k")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "stripe_failed")
    settings.STRIPE_API_BASE = address
    assert post(key, "top-up", {"amount": "25.00"}, "k").status_code == 200
