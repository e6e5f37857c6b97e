"""Refunds and disputes: credit goes back in proportion, once, and returns when the money does."""

from typing import Any

import pytest
from django.db.models import F, Sum
from django.utils import timezone

from accounts.models import User
from billing import ledger, reconcile
from billing.models import House, Kind, Payment, Reversal, Transfer, Wallet
from billing.money import of_cents, of_dollars
from tests.billing.payments.shop import Shop
from tests.installation import signed_in

pytestmark = pytest.mark.server


def intent_of(payment: Payment) -> str:
    payment.refresh_from_db()
    assert payment.stripe_intent_id
    return payment.stripe_intent_id


def clearing() -> int:
    """Return what the clearing account has given, in nano-dollars."""
    given = Transfer.objects.filter(debit_id=House.CLEARING).aggregate(sum=Sum("amount_nanos"))["sum"] or 0
    taken = Transfer.objects.filter(credit_id=House.CLEARING).aggregate(sum=Sum("amount_nanos"))["sum"] or 0
    return int(given - taken)


def test_partial_refunds_take_back_their_parts_once_each(shop: Shop) -> None:
    intent = intent_of(shop.top_up("25.00"))
    shop.fake.refund(intent, 1000)
    shop.deliver()
    assert shop.balance == "15.00"
    shop.fake.refund(intent, 500)
    shop.deliver()
    assert shop.lines() == [("top-up", "25.00"), ("refund", "-10.00"), ("refund", "-5.00")]
    shop.fake.refund(intent)
    shop.deliver()
    assert (shop.balance, clearing()) == ("0.00", 0)


def test_a_refund_takes_back_its_share_without_tax(shop: Shop, settings: Any) -> None:
    settings.STRIPE_TAX = True
    intent = intent_of(shop.top_up("10.00"))
    for cents in (100, 100, 100, 1, 899):
        shop.fake.refund(intent, cents)
        shop.deliver()
    assert (shop.balance, clearing()) == ("0.00", 0)
    first, second, *_ = Reversal.objects.order_by("pk").values_list("credit_nanos", flat=True)
    assert (first, second) == (833_333_334, 833_333_333)


def test_a_refund_that_is_heard_of_before_its_payment_ends_at_the_same_balance(shop: Shop) -> None:
    payment = shop.begin("25.00")
    shop.pay(payment)
    intent = shop.fake.get(payment.stripe_session_id or "", "checkout.session")["payment_intent"]
    shop.fake.refund(intent, 1000)
    shop.deliver_only("refund.", "charge.refunded", "checkout.session")
    assert shop.lines() == [("top-up", "25.00"), ("refund", "-10.00")]


def test_a_refund_of_what_was_spent_goes_below_zero(shop: Shop) -> None:
    intent = intent_of(shop.top_up("25.00"))
    ledger.debit(shop.organization.pk, of_dollars("20.00"), Kind.DEBIT, House.ADJUSTMENTS)
    shop.fake.refund(intent)
    shop.deliver()
    assert (shop.balance, shop.wallet.funded) == ("-20.00", False)


def test_a_refund_that_fails_returns_exactly_what_it_took(shop: Shop) -> None:
    intent = intent_of(shop.top_up("25.00"))
    refund = shop.fake.refund(intent, 777)
    shop.deliver()
    shop.fake.fail_refund(refund["id"])
    shop.deliver()
    assert shop.lines()[1:] == [("refund", "-7.77"), ("correction", "7.77")]
    assert Transfer.objects.get(kind=Kind.CORRECTION).corrects == Transfer.objects.get(kind=Kind.REFUND)
    shop.fake.refund(intent)
    shop.deliver()
    assert (shop.balance, clearing()) == ("0.00", 0)


def test_what_an_operator_has_corrected_is_not_returned_again(shop: Shop) -> None:
    dispute = shop.fake.dispute(intent_of(shop.top_up("25.00")))
    shop.deliver()
    ledger.correct(Transfer.objects.get(kind=Kind.DISPUTE), reason="goodwill", actor_id=shop.user.pk)
    shop.fake.close_dispute(dispute["id"], "won")
    shop.deliver()
    assert (shop.balance, shop.wallet.frozen_at is None) == ("25.00", True)


def test_a_row_that_the_ledger_does_not_bear_out_is_found(fake: Any, db: None) -> None:
    user = User.objects.create_user("alice@example.com")
    shop = Shop(fake, user, signed_in(user))
    payment = shop.top_up("25.00")
    fake.refund(intent_of(payment), 500)
    shop.deliver()
    Payment.objects.update(credit_nanos=F("credit_nanos") + 1)
    Reversal.objects.update(status=Reversal.RETURNED)
    found = {each.name: each.detail for each in reconcile.run(timezone.now())}
    assert "gave 25000000001 nano-dollars of credit, its transfer" in found["payment"]
    assert "took 5000000000 nano-dollars" in found["reversal"]


def test_a_dispute_takes_the_credit_and_freezes_the_wallet(shop: Shop) -> None:
    intent = intent_of(shop.top_up("25.00"))
    dispute = shop.fake.dispute(intent)
    shop.deliver()
    assert shop.lines() == [("top-up", "25.00"), ("dispute", "-25.00")]
    assert shop.wallet.frozen_at is not None
    shop.fake.close_dispute(dispute["id"], "lost")
    shop.deliver()
    assert (shop.balance, clearing()) == ("0.00", 0)
    assert shop.wallet.frozen_at is not None


def test_a_dispute_that_is_won_reinstates_both(shop: Shop) -> None:
    dispute = shop.fake.dispute(intent_of(shop.top_up("25.00")))
    shop.deliver()
    shop.fake.close_dispute(dispute["id"], "won")
    shop.deliver()
    assert shop.lines()[1:] == [("dispute", "-25.00"), ("dispute won", "25.00")]
    assert shop.wallet.frozen_at is None


def test_a_dispute_first_heard_of_when_it_is_won_takes_nothing(shop: Shop) -> None:
    intent = intent_of(shop.top_up("25.00"))
    dispute = shop.fake.dispute(intent)
    shop.fake.close_dispute(dispute["id"], "won")
    shop.deliver()
    assert (shop.balance, shop.wallet.frozen_at) == ("25.00", None)


def test_an_inquiry_moves_nothing(shop: Shop) -> None:
    intent = intent_of(shop.top_up("25.00"))
    dispute = shop.fake.dispute(intent, status="warning_needs_response")
    shop.deliver()
    assert (shop.balance, shop.wallet.frozen_at) == ("25.00", None)
    shop.fake.close_dispute(dispute["id"], "warning_closed")
    shop.deliver()
    assert (shop.balance, Reversal.objects.count()) == ("25.00", 0)


def test_winning_one_of_two_disputes_leaves_the_wallet_frozen(shop: Shop) -> None:
    first, second = (shop.fake.dispute(intent_of(shop.top_up("25.00"))) for _ in range(2))
    shop.deliver()
    shop.fake.close_dispute(first["id"], "won")
    shop.deliver()
    assert (shop.wallet.frozen_at is None, shop.balance) == (False, "25.00")
    shop.fake.close_dispute(second["id"], "won")
    shop.deliver()
    assert (shop.wallet.frozen_at is None, shop.balance) == (True, "50.00")


def test_an_operators_freeze_outlives_a_dispute_and_its_end_outlives_old_messages(shop: Shop) -> None:
    intent = intent_of(shop.top_up("25.00"))
    Wallet.objects.update(frozen_at=timezone.now())
    dispute = shop.fake.dispute(intent)
    shop.deliver()
    shop.fake.close_dispute(dispute["id"], "won")
    shop.deliver()
    assert shop.wallet.frozen_at is not None
    other = shop.fake.dispute(intent_of(shop.top_up("25.00")))
    shop.deliver()
    Wallet.objects.update(frozen_at=None)
    shop.fake.close_dispute(other["id"], "lost")
    shop.deliver()
    assert shop.wallet.frozen_at is None


def test_a_dispute_after_a_refund_takes_no_more_than_was_paid(shop: Shop) -> None:
    intent = intent_of(shop.top_up("25.00"))
    shop.fake.refund(intent, 1000)
    shop.fake.dispute(intent, 2500)
    shop.deliver()
    assert (shop.balance, clearing()) == ("0.00", 0)


def test_the_refund_of_a_plans_payment_takes_its_credit_and_its_revenue_back(shop: Shop) -> None:
    plan = shop.sell("pro")
    type(plan).objects.update(monthly_credit_nanos=of_cents(1500).nanos)
    shop.subscribe(plan)
    payment = Payment.objects.get()
    assert (shop.balance, clearing()) == ("15.00", of_cents(2000).nanos)
    shop.fake.refund(intent_of(payment), 1000)
    shop.deliver()
    assert (shop.balance, clearing()) == ("7.50", of_cents(1000).nanos)
    shop.fake.refund(intent_of(payment))
    shop.deliver()
    assert (shop.balance, clearing()) == ("0.00", 0)


@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_the_dispute_of_a_plan_that_gives_more_than_it_costs_balances(shop: Shop, outcome: str) -> None:
    plan = shop.sell("pro")
    type(plan).objects.update(monthly_credit_nanos=of_cents(3000).nanos)
    shop.subscribe(plan)
    before = clearing()
    dispute = shop.fake.dispute(intent_of(Payment.objects.get()))
    shop.deliver()
    assert (shop.balance, clearing()) == ("0.00", 0)
    shop.fake.close_dispute(dispute["id"], outcome)
    shop.deliver()
    assert (shop.balance, clearing()) == (("30.00", before) if outcome == "won" else ("0.00", 0))
