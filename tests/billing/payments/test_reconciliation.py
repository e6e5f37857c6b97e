"""The daily job posts what no webhook told, and nothing else."""

from typing import Any

import pytest

from billing.models import Payment, StripeEvent, Subscription, Transfer
from billing.payments import reconciliation, tasks
from tests.billing.payments.shop import Shop

pytestmark = pytest.mark.server


def test_everything_that_webhooks_missed_is_posted(shop: Shop) -> None:
    payment = shop.top_up("25.00")
    shop.pay(shop.begin("10.00"))
    shop.ask("subscribe", plan=shop.sell("pro").slug)
    shop.pay(Payment.objects.latest("pk"))
    shop.fake.refund(payment.stripe_intent_id or "", 500)
    assert shop.balance == "25.00"
    found = reconciliation.reconcile()
    assert sorted(name.split("_")[0] for name in found) == ["missed:cs", "missed:cs", "missed:re"]
    assert (shop.balance, shop.wallet.plan.slug) == ("50.00", "pro")
    assert not StripeEvent.objects.filter(processed_at=None).exists()


def test_a_name_that_the_database_cannot_hold_is_no_hindrance(shop: Shop) -> None:
    shop.pay(shop.begin("25.00"))
    shop.fake.all("checkout.session")[0]["metadata"] = {"name": "a\0b"}
    assert len(reconciliation.reconcile()) == 1
    assert shop.balance == "25.00"


def test_nothing_missed_is_nothing_done(shop: Shop) -> None:
    payment = shop.top_up("25.00")
    shop.subscribe(shop.sell("pro"))
    shop.fake.refund(payment.stripe_intent_id or "", 500)
    won = shop.fake.dispute(payment.stripe_intent_id or "", 100)
    shop.fake.close_dispute(won["id"], "won")
    shop.fake.dispute(payment.stripe_intent_id or "", 100)
    shop.deliver()
    before = Transfer.objects.count()
    assert reconciliation.reconcile() == []
    assert Transfer.objects.count() == before
    shop.fake.events.clear()


def test_a_webhook_after_the_job_posts_nothing_again(shop: Shop) -> None:
    shop.pay(shop.begin("25.00"))
    assert len(reconciliation.reconcile()) == 1
    shop.deliver()
    assert shop.lines() == [("top-up", "25.00")]


def test_renewals_and_ends_that_were_missed_are_found(shop: Shop) -> None:
    subscription = shop.subscribe(shop.sell("pro"))
    shop.fake.advance(32)
    shop.fake.cancel(shop.fake.get(subscription.stripe_id, "subscription"))
    assert len(reconciliation.reconcile()) == 1
    subscription.refresh_from_db()
    assert (subscription.status, shop.wallet.plan.slug, shop.balance) == ("canceled", "free", "40.00")


@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_a_dispute_that_was_missed_is_found_at_each_turn(shop: Shop, outcome: str) -> None:
    dispute = shop.fake.dispute(shop.top_up("25.00").stripe_intent_id or "")
    reconciliation.reconcile()
    assert (shop.balance, shop.wallet.frozen_at is None) == ("0.00", False)
    shop.fake.close_dispute(dispute["id"], outcome)
    reconciliation.reconcile()
    assert (shop.balance, shop.wallet.frozen_at is None) == (("25.00", True) if outcome == "won" else ("0.00", False))


def test_many_sessions_come_page_by_page(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.payments.stripe_api.PAGE", 2)
    for _ in range(5):
        shop.pay(shop.begin("5.00"))
    assert len(reconciliation.reconcile()) == 5
    assert shop.balance == "25.00"


def test_what_cannot_be_posted_is_listed_and_does_not_stop_the_rest(shop: Shop) -> None:
    bad, good = shop.begin("10.00"), shop.begin("20.00")
    for payment in (good, bad):
        shop.pay(payment)
    shop.fake.get(bad.stripe_session_id or "", "checkout.session")["currency"] = "jpy"
    reconciliation.reconcile()
    assert shop.balance == "20.00"
    assert len(shop.errors()) == 1
    bad.refresh_from_db()
    assert "currency" in bad.error


def test_a_subscription_that_stripe_forgot_does_not_stop_the_others(shop: Shop) -> None:
    subscription = shop.subscribe(shop.sell("pro"))
    Subscription.objects.create(
        organization=shop.organization,
        plan=subscription.plan,
        stripe_id="sub_forgotten",
        stripe_price_id="price_x",
        price_cents=1,
        status="past_due",
    )
    shop.fake.cancel(shop.fake.get(subscription.stripe_id, "subscription"))
    reconciliation.reconcile()
    subscription.refresh_from_db()
    assert subscription.status == "canceled"


def test_the_task_does_nothing_without_keys(shop: Shop, settings: Any) -> None:
    shop.pay(shop.begin("25.00"))
    key, settings.STRIPE_SECRET_KEY = settings.STRIPE_SECRET_KEY, ""
    tasks.reconcile()
    assert shop.balance == "0.00"
    settings.STRIPE_SECRET_KEY = key
    tasks.reconcile()
    assert shop.balance == "25.00"
