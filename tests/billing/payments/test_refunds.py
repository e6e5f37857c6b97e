"""Refunds of unused credit: never more than is unused, never more than was paid, and never lost in between."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
import stripe
from django.utils import timezone

from billing import ledger
from billing.models import Hold, House, Kind, Payment, Reversal
from billing.money import of_dollars
from billing.payments import refunds
from tests.billing.payments.shop import Shop
from tests.races import at_once

pytestmark = pytest.mark.server


def refund(shop: Shop, cents: int | None = None, payment: Payment | None = None) -> list[Reversal]:
    return refunds.refund_unused(
        shop.organization.pk,
        reason="asked for it",
        actor_id=shop.user.pk,
        cents=cents,
        payment_id=payment.pk if payment else None,
    )


def spend(shop: Shop, dollars: str) -> None:
    ledger.debit(shop.organization.pk, of_dollars(dollars), Kind.DEBIT, House.ADJUSTMENTS)


def sent(shop: Shop) -> list[int]:
    """Return what Stripe has refunded, in cents, oldest first."""
    return [each["amount"] for each in reversed(shop.fake.all("refund"))]


def test_all_unused_credit_goes_back_to_the_newest_payments_first(shop: Shop) -> None:
    shop.top_up("10.00")
    shop.top_up("20.00")
    spend(shop, "4.005")
    rows = refund(shop)
    assert [row.status for row in rows] == [Reversal.TAKEN, Reversal.TAKEN]
    assert sent(shop) == [2000, 599]
    assert shop.balance == "0.005"
    shop.deliver()
    assert (shop.balance, Reversal.objects.count(), shop.errors()) == ("0.005", 2, [])


def test_a_part_of_one_payment_goes_back_with_its_tax(shop: Shop, settings: Any) -> None:
    settings.STRIPE_TAX = True
    payment = shop.top_up("10.00")
    shop.top_up("20.00")
    refund(shop, 250, payment)
    refund(shop, 750, payment)
    assert (sent(shop), shop.balance) == ([300, 900], "20.00")
    with pytest.raises(ledger.NoCredit):
        refund(shop, 1, payment)


@pytest.mark.parametrize("cents", [0, -1, 2501, 10**9])
def test_more_than_is_there_is_refused(shop: Shop, cents: int) -> None:
    shop.top_up("25.00")
    with pytest.raises(ledger.NoCredit, match=r"\$25\.00"):
        refund(shop, cents)
    assert (sent(shop), shop.balance) == ([], "25.00")


def test_what_is_held_is_not_unused(shop: Shop) -> None:
    shop.top_up("25.00")
    Hold.objects.create(
        request_id=uuid.uuid4(),
        organization_id=shop.organization.pk,
        amount_nanos=of_dollars("20").nanos,
        metered=True,
        lease_until=timezone.now(),
        unfinished={},
    )
    with pytest.raises(ledger.NoCredit):
        refund(shop, 501)
    refund(shop, 500)
    assert sent(shop) == [500]


def test_credit_that_no_card_paid_for_is_not_refunded(shop: Shop) -> None:
    shop.top_up("10.00")
    ledger.credit(shop.organization.pk, of_dollars("90"), Kind.CREDIT, House.PROMOTIONS)
    with pytest.raises(ledger.NoCredit):
        refund(shop, 1001)
    refund(shop)
    assert (sent(shop), shop.balance) == ([1000], "90.00")


def test_a_disputed_payment_is_not_refunded_too(shop: Shop) -> None:
    payment = shop.top_up("10.00")
    shop.fake.dispute(payment.stripe_intent_id or "")
    shop.deliver()
    with pytest.raises(ledger.NoCredit, match="frozen"):
        refund(shop)


def test_stripes_refusal_returns_the_credit(shop: Shop) -> None:
    payment = shop.top_up("10.00")
    shop.fake.charge_of(payment.stripe_intent_id or "")["disputed"] = True
    with pytest.raises(refunds.Refused, match="credit was returned"):
        refund(shop)
    assert shop.balance == "10.00"
    assert Reversal.objects.get().status == Reversal.RETURNED


def test_an_answer_that_was_lost_is_found_again(shop: Shop) -> None:
    shop.top_up("10.00")
    shop.fake.faults, shop.fake.after_fault = [500], True
    assert [row.status for row in refund(shop)] == [Reversal.TAKEN]
    assert (sent(shop), shop.balance) == ([1000], "0.00")


@pytest.mark.parametrize("done", [True, False])
def test_silence_keeps_the_credit_taken_until_it_is_known_what_happened(shop: Shop, done: bool) -> None:
    shop.top_up("10.00")
    if done:
        shop.fake.faults, shop.fake.after_fault = [500], True
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shop.fake, "_answers", {})
            patch.setattr(shop.fake, "refund", _once_then_silent(shop))
            with pytest.raises(stripe.APIError):
                refund(shop)
        shop.fake.faults = []
    else:
        shop.fake.faults = [500] * 3
        with pytest.raises(stripe.APIError):
            refund(shop)
    row = Reversal.objects.get()
    assert (row.status, shop.balance) == (Reversal.ASKED, "0.00")
    assert refunds.resume() == 0
    assert Reversal.objects.get().status == Reversal.ASKED
    Reversal.objects.update(created_at=timezone.now() - timedelta(minutes=3))
    assert refunds.resume() == 0
    row.refresh_from_db()
    assert (row.status, sent(shop), shop.balance) == (Reversal.TAKEN, [1000], "0.00")


def _once_then_silent(shop: Shop) -> Any:
    """Return a bank that refunds at the first request and fails to answer all of them."""
    from tests.stripe.account import Refusal

    real = shop.fake.refund
    done: list[Any] = []

    def refund(intent_id: str, amount: int, metadata: dict[str, Any]) -> Any:
        if not done:
            done.append(real(intent_id, amount, metadata))
        raise Refusal(500, "The answer was lost.", "api_error")

    return refund


def test_a_webhook_that_is_faster_than_the_answer_takes_nothing_twice(shop: Shop) -> None:
    payment = shop.top_up("10.00")
    rows = refund(shop, 400)
    shop.deliver()
    shop.deliver()
    assert (shop.balance, payment.reversals.get().pk) == ("6.00", rows[0].pk)


def test_metadata_alone_links_nothing(shop: Shop) -> None:
    payment = shop.top_up("10.00")
    other = shop.top_up("10.00")
    (row,) = refund(shop, 400, other)
    shop.fake.refund(payment.stripe_intent_id or "", 400, {"aperture_refund": str(row.token)})
    shop.deliver()
    assert (shop.balance, Reversal.objects.count()) == ("12.00", 2)


def test_refunds_at_once_never_exceed_the_balance(fake: Any, transactional_db: None) -> None:
    from accounts.models import User
    from tests.installation import signed_in

    user = User.objects.create_user("alice@example.com")
    shop = Shop(fake, user, signed_in(user))
    shop.top_up("10.00")
    shop.top_up("10.00")
    outcomes = at_once(*[lambda: refund(shop, 600)] * 6, refusal=ledger.NoCredit)
    assert sum(isinstance(outcome, list) for outcome in outcomes) == 3
    assert (shop.balance, sum(sent(shop))) == ("2.00", 1800)
