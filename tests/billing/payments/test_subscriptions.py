"""Subscriptions: the plan follows them, each paid period posts its credit once, and posted credit stays."""

from typing import Any

import pytest
from django.utils import timezone

from billing import ledger
from billing.models import House, Kind, Payment, Plan, Subscription, Transfer
from billing.money import of_dollars
from billing.payments import events, plan_invoices
from tests.billing.payments.shop import Shop

pytestmark = pytest.mark.server


def plan_of(shop: Shop) -> str:
    return shop.wallet.plan.slug


def thing(shop: Shop, subscription: Subscription) -> dict[str, Any]:
    return shop.fake.get(subscription.stripe_id, "subscription")


def test_a_subscription_brings_its_plan_and_its_first_credit(shop: Shop) -> None:
    subscription = shop.subscribe(shop.sell("pro"))
    assert (plan_of(shop), shop.lines()) == ("pro", [("plan credit", "20.00")])
    assert (subscription.status, subscription.entitles) == ("active", True)
    assert subscription.period_ends_at is not None
    assert subscription.period_ends_at > timezone.now()
    payment = Payment.objects.get()
    assert (payment.status, payment.kind, payment.amount_cents) == (Payment.PAID, Payment.SUBSCRIPTION, 2000)
    assert (payment.invoice_number, payment.created_by) == ("APT-0001", shop.user)
    assert payment.stripe_session_id
    assert payment.stripe_invoice_id
    assert shop.errors() == []


@pytest.mark.parametrize("first", ["invoice.paid", "customer.subscription", "checkout.session"])
def test_whichever_event_comes_first_makes_one_payment(shop: Shop, first: str) -> None:
    shop.ask("subscribe", plan=shop.sell("pro").slug)
    shop.pay(Payment.objects.get())
    shop.deliver_only(first, "customer.subscription", "checkout.session", "invoice.paid", times=2)
    assert (Payment.objects.count(), Subscription.objects.count()) == (1, 1)
    assert (plan_of(shop), shop.lines(), shop.errors()) == ("pro", [("plan credit", "20.00")], [])


def test_a_year_of_renewals_posts_twelve_credits_more(shop: Shop, settings: Any) -> None:
    settings.STRIPE_TAX = True
    subscription = shop.subscribe(shop.sell("pro"))
    for _ in range(73):
        shop.fake.advance(5)
        shop.deliver()
    subscription.refresh_from_db()
    assert Transfer.objects.filter(kind=Kind.PLAN_CREDIT).count() == 13
    assert (shop.balance, Payment.objects.filter(status=Payment.PAID).count()) == ("260.00", 13)
    assert Payment.objects.values_list("amount_cents", "tax_cents", "total_cents").distinct().get() == (2000, 400, 2400)
    assert len(set(Payment.objects.values_list("invoice_number", flat=True))) == 13
    assert (plan_of(shop), shop.errors()) == ("pro", [])


def test_cancelling_keeps_the_plan_until_the_period_ends_and_the_credit_for_ever(shop: Shop) -> None:
    subscription = shop.subscribe(shop.sell("pro"))
    shop.fake.change(thing(shop, subscription), {"cancel_at_period_end": "true"})
    shop.deliver()
    subscription.refresh_from_db()
    assert (subscription.cancel_at_period_end, plan_of(shop)) == (True, "pro")
    shop.fake.advance(32)
    shop.deliver()
    subscription.refresh_from_db()
    assert (subscription.status, plan_of(shop)) == ("canceled", "free")
    assert shop.lines() == [("plan credit", "20.00")]


def test_a_change_of_plan_keeps_the_credit_and_mints_none(shop: Shop) -> None:
    pro, enterprise = shop.sell("pro"), Plan.objects.get(slug="enterprise")
    Plan.objects.filter(pk=enterprise.pk).update(
        price_nanos=of_dollars("100").nanos, monthly_credit_nanos=of_dollars("100").nanos
    )
    enterprise = shop.sell("enterprise")
    subscription = shop.subscribe(pro)
    for plan in (enterprise, pro, enterprise):
        shop.fake.change(thing(shop, subscription), {"items": {"0": {"price": plan.stripe_price_id}}})
        shop.deliver()
        assert plan_of(shop) == plan.slug
        assert shop.balance == "20.00"
    shop.fake.advance(32)
    shop.deliver()
    assert (shop.balance, shop.errors()) == ("120.00", [])


def test_what_is_set_off_against_an_earlier_payment_brings_no_credit_again(shop: Shop) -> None:
    """Pay for the dear plan, go down at once, and have months paid by what is left over: that would mint credit."""
    Plan.objects.filter(slug="enterprise").update(
        price_nanos=of_dollars("100").nanos, monthly_credit_nanos=of_dollars("100").nanos
    )
    pro, enterprise = shop.sell("pro"), shop.sell("enterprise")
    subscription = shop.subscribe(enterprise)
    shop.fake.change(thing(shop, subscription), {"items": {"0": {"price": pro.stripe_price_id}}})
    shop.fake.advance(32)
    shop.deliver()
    assert (plan_of(shop), shop.balance) == ("pro", "100.00")
    shop.fake.advance(31)
    shop.deliver()
    # Of the 40 dollars that were left over, both months have taken 20; the next is paid in money.
    assert shop.balance == "100.00"
    shop.fake.advance(31)
    shop.deliver()
    assert (shop.balance, shop.errors()) == ("120.00", [])


@pytest.mark.parametrize(("percent_off", "balance"), [(50, "40.00"), (100, "40.00")])
def test_an_operators_discount_is_on_the_price_and_not_on_the_credit(
    shop: Shop, percent_off: int, balance: str
) -> None:
    subscription = shop.subscribe(shop.sell("pro"))
    thing(shop, subscription)["percent_off"] = percent_off
    shop.fake.advance(32)
    shop.deliver()
    assert (shop.balance, shop.errors()) == (balance, [])


@pytest.mark.parametrize(
    ("amount", "discount", "paid", "credit"),
    [(2000, 0, 2000, 100), (2000, 0, 1000, 50), (2000, 0, 0, 0), (2000, 500, 1500, 100), (2000, 0, 5000, 100)],
)
def test_credit_is_in_proportion_to_the_money(amount: int, discount: int, paid: int, credit: int) -> None:
    line = {"amount": amount, "discount_amounts": [{"amount": discount}]}
    assert plan_invoices.credit_for(line, 100, paid, regular=True) == credit


@pytest.mark.parametrize(("percent_off", "balance"), [(0, "100.00"), (50, "100.00"), (100, "20.00")])
def test_a_new_period_with_each_change_of_plan_credits_what_was_paid_for_it(
    shop: Shop, percent_off: int, balance: str
) -> None:
    Plan.objects.filter(slug="enterprise").update(
        price_nanos=of_dollars("100").nanos, monthly_credit_nanos=of_dollars("100").nanos
    )
    pro, enterprise = shop.sell("pro"), shop.sell("enterprise")
    subscription = shop.subscribe(pro)
    thing(shop, subscription)["percent_off"] = percent_off
    for plan in (enterprise, pro, enterprise, pro, enterprise):
        change = {"items": {"0": {"price": plan.stripe_price_id}}, "billing_cycle_anchor": "now"}
        shop.fake.change(thing(shop, subscription), change)
        shop.deliver()
    assert plan_of(shop) == "enterprise"
    assert (shop.balance, shop.errors()) == (balance, [])


def test_a_renewal_that_fails_keeps_the_plan_while_stripe_tries_and_posts_nothing(shop: Shop) -> None:
    subscription = shop.subscribe(shop.sell("pro"))
    shop.fake.declined.add(thing(shop, subscription)["customer"])
    shop.fake.advance(32)
    shop.deliver()
    subscription.refresh_from_db()
    assert (subscription.status, plan_of(shop), shop.balance) == ("past_due", "pro", "20.00")
    assert Payment.objects.latest("pk").status == Payment.OPEN
    shop.fake.cancel(thing(shop, subscription))
    shop.deliver()
    assert (plan_of(shop), shop.balance) == ("free", "20.00")


def test_a_late_message_does_not_bring_an_ended_plan_back(shop: Shop) -> None:
    subscription = shop.subscribe(shop.sell("pro"))
    shop.fake.change(thing(shop, subscription), {"cancel_at_period_end": "false"})
    shop.fake.cancel(thing(shop, subscription))
    late, ended = shop.fake.new_events()
    for event in (ended, late):
        assert shop.fake.send(event, shop.post) == 200
    assert plan_of(shop) == "free"


def test_a_plan_that_an_operator_chose_outlives_the_subscription(shop: Shop) -> None:
    subscription = shop.subscribe(shop.sell("pro"))
    ledger.set_plan(shop.organization.pk, Plan.objects.get(slug="enterprise"))
    shop.fake.change(thing(shop, subscription), {"cancel_at_period_end": "false"})
    shop.deliver()
    assert plan_of(shop) == "enterprise"
    shop.fake.cancel(thing(shop, subscription))
    shop.deliver()
    assert plan_of(shop) == "enterprise"


def test_a_price_that_changed_here_is_the_old_one_for_old_subscriptions(shop: Shop) -> None:
    plan = shop.sell("pro")
    shop.subscribe(plan)
    Plan.objects.filter(pk=plan.pk).update(price_nanos=of_dollars("30").nanos)
    shop.sell("pro")
    shop.fake.advance(32)
    shop.deliver()
    assert (shop.balance, shop.errors()) == ("40.00", [])


def test_an_amount_that_is_not_the_plans_posts_nothing_until_it_is_mended(shop: Shop) -> None:
    plan = shop.sell("pro")
    Plan.objects.filter(pk=plan.pk).update(price_nanos=of_dollars("2000").nanos)
    shop.subscribe(plan)
    assert shop.balance == "0.00"
    assert "price in cents" in shop.errors()[0]
    Plan.objects.filter(pk=plan.pk).update(price_nanos=of_dollars("20").nanos)
    events.invoice(shop.fake.all("invoice")[0]["id"])
    assert shop.balance == "20.00"


def test_a_price_that_no_plan_has_is_told_to_the_operator(shop: Shop) -> None:
    plan = shop.sell("pro")
    shop.ask("subscribe", plan="pro")
    Plan.objects.filter(pk=plan.pk).update(stripe_price_id="")
    shop.pay(Payment.objects.get())
    shop.deliver()
    assert (Subscription.objects.count(), shop.balance) == (0, "0.00")
    assert all("no plan has the Stripe price" in error for error in shop.errors())
    assert shop.errors()


def test_somebody_elses_subscription_is_passed_over(shop: Shop) -> None:
    subscription = shop.subscribe(shop.sell("pro"))
    stranger = shop.fake.make("customer", "cus")
    foreign = thing(shop, subscription) | {"id": "sub_foreign", "customer": stranger["id"]}
    shop.fake.things["sub_foreign"] = foreign
    shop.fake._bill(foreign, "subscription_cycle", [shop.fake._line(foreign, 2000)])
    shop.deliver()
    assert (Payment.objects.count(), Subscription.objects.count(), shop.errors()) == (1, 1, [])


def test_an_invoice_of_another_customer_posts_nothing(shop: Shop) -> None:
    subscription = shop.subscribe(shop.sell("pro"))
    stranger = shop.fake.make("customer", "cus")
    shop.fake.advance(32)
    shop.fake.all("invoice")[0]["customer"] = stranger["id"]
    shop.deliver()
    assert shop.balance == "20.00"
    assert any("customer" in error for error in shop.errors())
    assert subscription.organization == shop.organization


def test_one_subscription_at_a_time(shop: Shop) -> None:
    shop.subscribe(shop.sell("pro"))
    answer = shop.ask("subscribe", plan="pro")
    assert (answer.status_code, b"customer portal" in answer.content) == (400, True)


@pytest.mark.parametrize("plan", ["free", "enterprise", "absent", ""])
def test_a_plan_without_a_price_at_stripe_is_not_sold(shop: Shop, plan: str) -> None:
    assert shop.ask("subscribe", plan=plan).status_code == 400
    assert Payment.objects.count() == 0


def test_credit_that_the_price_does_not_cover_is_a_promotion(shop: Shop) -> None:
    plan = shop.sell("pro")
    Plan.objects.filter(pk=plan.pk).update(monthly_credit_nanos=of_dollars("25").nanos)
    shop.subscribe(plan)
    assert shop.balance == "25.00"
    assert Transfer.objects.get(debit_id=House.PROMOTIONS).amount_nanos == of_dollars("5").nanos
