"""Top-ups: what is paid is credited, once; what is not, never."""

import pytest
from django.test import Client

from accounts.models import User
from billing.models import Payment, StripeCustomer, StripeEvent, Transfer
from billing.payments import inbox
from tests.billing.payments.shop import Shop
from tests.installation import signed_in

pytestmark = pytest.mark.server


def test_a_paid_session_credits_what_was_asked_for(shop: Shop) -> None:
    payment = shop.begin("25.00")
    assert (payment.status, payment.amount_cents, shop.balance) == (Payment.OPEN, 2500, "0.00")
    assert shop.pay(payment) == 303
    shop.deliver()
    payment.refresh_from_db()
    assert (payment.status, payment.credit_nanos, payment.total_cents) == (Payment.PAID, 25_000_000_000, 2500)
    assert shop.lines() == [("top-up", "25.00")]
    assert shop.wallet.mode == "prepaid"
    assert shop.errors() == []


def test_invoice_number_and_addresses_are_stripes(shop: Shop) -> None:
    payment = shop.top_up()
    assert payment.invoice_number == "APT-0001"
    assert payment.invoice_url.startswith(shop.fake.base_url)
    assert payment.invoice_pdf_url.endswith("/pdf")
    assert "/receipts/" in payment.receipt_url


def test_tax_is_paid_on_top_and_is_no_credit(shop: Shop, settings: object) -> None:
    settings.STRIPE_TAX = True  # type: ignore[attr-defined]
    payment = shop.top_up("10.00")
    assert (payment.amount_cents, payment.tax_cents, payment.total_cents) == (1000, 200, 1200)
    assert shop.balance == "10.00"


def test_a_session_that_is_not_paid_credits_nothing(shop: Shop) -> None:
    """CVE-2026-41432 of new-api: `checkout.session.completed` was credited whatever its payment_status."""
    payment = shop.begin()
    assert shop.pay(payment, "debit") == 303
    shop.deliver()
    payment.refresh_from_db()
    assert (payment.status, shop.balance) == (Payment.OPEN, "0.00")
    shop.fake.bank_decides(payment.stripe_session_id or "", paid=True)
    shop.deliver()
    assert shop.balance == "25.00"


def test_a_delayed_payment_that_fails_credits_nothing(shop: Shop) -> None:
    payment = shop.begin()
    shop.pay(payment, "debit")
    shop.fake.bank_decides(payment.stripe_session_id or "", paid=False)
    shop.deliver()
    payment.refresh_from_db()
    assert (payment.status, shop.balance) == (Payment.FAILED, "0.00")


def test_a_declined_card_leaves_the_session_open(shop: Shop) -> None:
    payment = shop.begin()
    assert shop.pay(payment, "declined") == 402
    assert shop.pay(payment) == 303
    shop.deliver()
    assert shop.balance == "25.00"


def test_an_expired_session_is_marked(shop: Shop) -> None:
    payment = shop.begin()
    shop.fake.expire(shop.fake.get(payment.stripe_session_id or "", "checkout.session"))
    shop.deliver()
    payment.refresh_from_db()
    assert payment.status == Payment.EXPIRED


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("amount_subtotal", 100, "amount"),
        ("currency", "jpy", "currency"),
        ("mode", "setup", "mode"),
        ("customer", "cus_of_somebody_else", "customer"),
        ("total_details", {"amount_tax": 0, "amount_discount": 2400}, "discount"),
    ],
)
def test_a_session_that_is_not_what_was_asked_for_credits_nothing(
    shop: Shop, field: str, value: object, said: str
) -> None:
    """CVE-2026-41432 of new-api: what was paid was not compared with what was ordered."""
    payment = shop.begin()
    shop.pay(payment)
    shop.fake.get(payment.stripe_session_id or "", "checkout.session")[field] = value
    shop.deliver()
    payment.refresh_from_db()
    assert (payment.status, shop.balance) == (Payment.OPEN, "0.00")
    assert said in payment.error
    assert said in shop.errors()[0]


def test_a_mismatch_is_posted_once_it_is_mended(shop: Shop) -> None:
    payment = shop.begin()
    shop.pay(payment)
    session = shop.fake.get(payment.stripe_session_id or "", "checkout.session")
    session["currency"] = "jpy"
    shop.deliver()
    session["currency"] = "usd"
    for event_id in StripeEvent.objects.values_list("pk", flat=True):
        inbox.again(event_id)
    payment.refresh_from_db()
    assert (shop.balance, payment.error, shop.errors()) == ("25.00", "", [])


def test_the_organization_is_our_rows_and_not_the_metadata(shop: Shop) -> None:
    mallory = User.objects.create_user("mallory@example.com")
    payment = shop.begin()
    session = shop.fake.get(payment.stripe_session_id or "", "checkout.session")
    session["metadata"] = {"organization": str(mallory.personal_organization.pk)}
    session["client_reference_id"] = str(mallory.personal_organization.pk)
    shop.pay(payment)
    shop.deliver()
    assert shop.balance == "25.00"
    assert Transfer.objects.count() == 1


def test_a_session_that_is_not_ours_is_passed_over(shop: Shop) -> None:
    shop.fake.pay(shop.fake.get(shop.begin().stripe_session_id or "", "checkout.session"), "4242")
    Payment.objects.all().delete()
    shop.deliver()
    assert Transfer.objects.count() == 0
    assert shop.errors() == []


def test_a_customer_is_made_once(shop: Shop) -> None:
    shop.top_up()
    shop.top_up()
    assert len(shop.fake.all("customer")) == StripeCustomer.objects.count() == 1
    assert shop.balance == "50.00"


def test_an_answer_that_was_lost_makes_one_session(shop: Shop) -> None:
    shop.begin()
    shop.fake.faults, shop.fake.after_fault = [500], True
    shop.begin()
    assert len(shop.fake.all("checkout.session")) == 2
    assert Payment.objects.filter(status=Payment.OPEN).count() == 2


def test_stripe_away_is_said_and_charges_nothing(shop: Shop) -> None:
    shop.fake.faults = [500] * 3
    answer = shop.ask("top-up", amount="25.00")
    assert (answer.status_code, b"nothing was charged" in answer.content) == (502, True)


@pytest.mark.parametrize(
    "amount", ["", "4.99", "1000.01", "5.001", "-5", "1e3", "1e999999999", "nan", "x", "２５", "5" * 40]
)
def test_an_amount_out_of_bounds_is_refused(shop: Shop, amount: str) -> None:
    answer = shop.ask("top-up", amount=amount)
    assert (answer.status_code, Payment.objects.count()) == (400, 0)


def test_only_an_owner_pays_for_an_organization(shop: Shop) -> None:
    bob, charlie = (User.objects.create_user(f"{name}@example.com") for name in ("bob", "charlie"))
    shop.organization.memberships.create(user=bob, role="admin")
    form = {"amount": "25.00", "organization": str(shop.organization.pk)}
    assert signed_in(bob).post("/account/top-up", form).status_code == 403
    assert signed_in(charlie).post("/account/top-up", form).status_code == 404
    for unknown in ("0", "x", "9" * 30, "²"):
        assert shop.ask("top-up", amount="25.00", organization=unknown).status_code == 404
    assert shop.ask("top-up", **form).status_code == 303


def test_another_sites_form_begins_nothing(shop: Shop) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(shop.user)
    assert browser.post("/account/top-up", {"amount": "25.00"}).status_code == 403
    assert Payment.objects.count() == 0


def test_somebody_unknown_is_asked_to_sign_in(shop: Shop) -> None:
    shop.browser.logout()
    for page in ("top-up", "subscribe", "portal"):
        answer = shop.ask(page, amount="25.00")
        assert (answer.status_code, answer["location"]) == (302, "/admin/login/?next=/account")
        assert shop.browser.get(f"/account/{page}").status_code == 405


def test_the_portal_is_the_organizations_own(shop: Shop) -> None:
    assert shop.ask("portal").status_code == 400
    shop.top_up()
    assert shop.ask("portal")["location"] == f"{shop.fake.base_url}/portal"
    (session,) = shop.fake.all("billing_portal.session")
    assert session["customer"] == StripeCustomer.objects.get().stripe_id


@pytest.mark.parametrize("missing", ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRETS"])
def test_without_keys_every_page_says_that_card_payment_is_off(shop: Shop, settings: object, missing: str) -> None:
    setattr(settings, missing, "")
    for page in ("top-up", "subscribe", "portal"):
        answer = shop.ask(page, amount="25.00")
        assert (answer.status_code, b"Card payment is off" in answer.content) == (503, True)
    assert Payment.objects.count() == 0
