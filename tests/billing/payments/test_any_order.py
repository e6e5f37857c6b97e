"""Whatever happens at Stripe, and whatever becomes of its webhooks: in the end the books say what Stripe says."""

import random
from typing import Any

import pytest
from django.db.models import Sum

from billing import ledger
from billing.models import House, Payment, Reversal, Transfer
from billing.payments import reconciliation, refunds
from tests.billing.payments.shop import Shop

pytestmark = pytest.mark.server

CENT = 10_000_000


def something(shop: Shop, chance: random.Random) -> None:
    """Have one thing happen at Stripe or here."""
    intents = [each["payment_intent"] for each in shop.fake.all("charge") if not each["disputed"]]
    live = [each for each in shop.fake.all("refund") if each["status"] == "succeeded"]
    disputes = [each for each in shop.fake.all("dispute") if each["status"] == "needs_response"]
    what = chance.choice(["pay", "debit", "refund", "fail", "dispute", "close", "own", "month", "cancel"])
    if what == "pay":
        shop.pay(shop.begin(f"{chance.randint(5, 60)}.{chance.randint(0, 99):02d}"))
    elif what == "debit":
        payment = shop.begin("7.00")
        shop.pay(payment, "debit")
        shop.fake.bank_decides(payment.stripe_session_id or "", paid=chance.random() < 0.5)
    elif what == "refund" and intents:
        charge = shop.fake.charge_of(chance.choice(intents))
        if left := charge["amount"] - charge["amount_refunded"]:
            shop.fake.refund(charge["payment_intent"], chance.randint(1, left))
    elif what == "fail" and live:
        shop.fake.fail_refund(chance.choice(live)["id"])
    elif what == "dispute" and intents:
        shop.fake.dispute(chance.choice(intents))
    elif what == "close" and disputes:
        shop.fake.close_dispute(chance.choice(disputes)["id"], chance.choice(["won", "lost"]))
    elif what == "own":
        try:
            refunds.refund_unused(shop.organization.pk, reason="chance", actor_id=shop.user.pk, cents=300)
        except (ledger.NoCredit, refunds.Refused):
            return
    elif what == "month":
        shop.fake.advance(16)
    elif what == "cancel" and (alive := shop.fake.all("subscription", status="active")) and chance.random() < 0.3:
        shop.fake.cancel(alive[0])


def deliver_badly(shop: Shop, chance: random.Random, kept: list[dict[str, Any]]) -> None:
    """Lose some events, double some, keep some for later, and shuffle the rest."""
    events = kept + shop.fake.new_events()
    kept.clear()
    chance.shuffle(events)
    for event in events:
        fate = chance.random()
        if fate < 0.2:
            kept.append(event)
        elif fate < 0.8:
            for _ in range(chance.choice([1, 1, 2])):
                assert shop.fake.send(event, shop.post) == 200


@pytest.mark.parametrize("seed", range(8))
def test_the_books_end_where_stripe_is(shop: Shop, settings: Any, seed: int) -> None:
    chance = random.Random(seed)
    settings.STRIPE_TAX = bool(seed % 2)
    kept: list[dict[str, Any]] = []
    shop.ask("subscribe", plan=shop.sell("pro").slug)
    shop.pay(Payment.objects.get())
    for _ in range(14):
        something(shop, chance)
        if chance.random() < 0.6:
            deliver_badly(shop, chance, kept)
    # What was lost is found, whatever its age; what was kept comes last, and changes nothing.
    reconciliation.reconcile(days=3650)
    settled = shop.balance
    for event in kept:
        assert shop.fake.send(event, shop.post) == 200
    assert (shop.balance, shop.errors()) == (settled, [])
    compare(shop)


def compare(shop: Shop) -> None:
    """Compare our rows with Stripe's charges, and the wallet and clearing with our rows."""
    charges = shop.fake.all("charge")
    assert Payment.objects.filter(status=Payment.PAID).count() == len(charges)
    for charge in charges:
        payment = Payment.objects.get(stripe_intent_id=charge["payment_intent"])
        disputes = shop.fake.all("dispute", charge=charge["id"])
        away = charge["amount_refunded"] + sum(each["amount"] for each in disputes if each["status"] != "won")
        live = payment.reversals.exclude(status=Reversal.RETURNED)
        assert sum(row.amount_cents for row in live) == away
        share = payment.credit_nanos * away // charge["amount"]
        # Our own refunds take whole cents, so parts may differ from exact shares by less than one each.
        assert abs(sum(row.credit_nanos for row in live) - share) <= CENT * max(live.count(), 1)
        assert away < charge["amount"] or payment.credit_nanos - sum(row.credit_nanos for row in live) < CENT
    paid = Payment.objects.filter(status=Payment.PAID).aggregate(credit=Sum("credit_nanos"), cents=Sum("amount_cents"))
    back = Reversal.objects.exclude(status=Reversal.RETURNED).aggregate(
        credit=Sum("credit_nanos"), net=Sum("net_nanos")
    )
    assert shop.wallet.posted_nanos == (paid["credit"] or 0) - (back["credit"] or 0)
    given = Transfer.objects.filter(debit_id=House.CLEARING).aggregate(sum=Sum("amount_nanos"))["sum"] or 0
    taken = Transfer.objects.filter(credit_id=House.CLEARING).aggregate(sum=Sum("amount_nanos"))["sum"] or 0
    assert given - taken == (paid["cents"] or 0) * CENT - (back["net"] or 0)
    open_or_lost = [each for each in shop.fake.all("dispute") if each["status"] != "won"]
    assert (shop.wallet.frozen_at is not None) is bool(open_or_lost)
    alive = shop.fake.all("subscription", status="active")
    assert shop.wallet.plan.slug == ("pro" if alive else "free")
