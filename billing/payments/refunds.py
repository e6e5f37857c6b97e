"""Refunds of unused credit: back to the cards that paid for it, newest payment first.

Invariants: never more than the wallet's posted less held, and never more than a payment has left. The credit is taken
first; Stripe is asked after that is committed. Its clear refusal returns the credit; silence leaves the refund `asked`,
and `resume` finds out what became of it. The token is the idempotency key, so asking twice refunds once.
"""

import logging
import uuid
from datetime import timedelta
from typing import NamedTuple

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from billing import ledger, money
from billing.models import Payment, Reversal
from billing.payments import events, reversals, stripe_api

logger = logging.getLogger("billing.payments")

# How long a refund that was asked may be on its way before somebody looks after it.
ON_ITS_WAY = timedelta(minutes=2)


class Refused(Exception):
    """A refund that cannot be made; the message says why."""


def refund_unused(
    organization_id: int,
    *,
    reason: str,
    actor_id: int,
    cents: int | None = None,
    payment_id: int | None = None,
    token: uuid.UUID | None = None,
) -> list[Reversal]:
    """Refund unused credit: CENTS of it without tax, or all; of one payment, or of any. A TOKEN is used once.

    Returns the refunds, one for each payment that they are taken from. Raises ledger.NoCredit for more than is unused,
    Refused when Stripe says no (the credit is then back), and Stripe's own error when it did not answer.
    """
    stripe_api.client()
    with transaction.atomic():
        pieces = _pieces(organization_id, cents, payment_id)
        if token is not None and Reversal.objects.filter(token=token).exists():
            raise Refused("This form was sent before, and was refunded then. Nothing was refunded now.")
        rows = [_ask(piece, reason, actor_id, token if number == 0 else None) for number, piece in enumerate(pieces)]
    for row in rows:
        _send(row)
    return rows


class Piece(NamedTuple):
    """What is refunded of one payment, without tax, of how many cents that it has left."""

    payment: Payment
    cents: int
    left_cents: int


def _pieces(organization_id: int, cents: int | None, payment_id: int | None) -> list[Piece]:
    """Say what is refunded of which payment. Locks the payments, then the wallet: the order of everybody."""
    payments = Payment.objects.filter(organization_id=organization_id, kind=Payment.TOP_UP, status=Payment.PAID)
    if payment_id is not None:
        payments = payments.filter(pk=payment_id)
    locked = sorted(payments.select_for_update().order_by("pk"), key=lambda each: (each.paid_at, each.pk), reverse=True)
    wallet = ledger.lock([organization_id])[organization_id]
    if wallet.frozen_at is not None:
        raise ledger.NoCredit("The wallet is frozen by a dispute; nothing is refunded until that is over.")
    left = [(payment, _left_cents(payment)) for payment in locked]
    most = min(max(wallet.posted_nanos - wallet.held_nanos, 0) // money.NANOS_PER_CENT, sum(each for _, each in left))
    wanted = most if cents is None else cents
    if not 0 < wanted <= most:
        raise ledger.NoCredit(f"${most / 100:.2f} that was paid by card is unused; ${wanted / 100:.2f} is not in it.")
    pieces = []
    for payment, left_cents in left:
        if (part := min(wanted, left_cents)) > 0:
            pieces.append(Piece(payment, part, left_cents))
            wanted -= part
    return pieces


def _left_cents(payment: Payment) -> int:
    """Return how many cents without tax a payment has left; none while it is disputed."""
    live = payment.reversals.exclude(status=Reversal.RETURNED)
    if live.filter(kind=Reversal.DISPUTE).exists():
        return 0
    net = live.aggregate(net=Sum("net_nanos"))["net"] or 0
    return max(money.of_cents(payment.amount_cents).nanos - net, 0) // money.NANOS_PER_CENT


def _ask(piece: Piece, reason: str, actor_id: int, token: uuid.UUID | None) -> Reversal:
    """Take the credit of a piece, and write down what will be asked of Stripe."""
    payment = piece.payment
    live = payment.reversals.exclude(status=Reversal.RETURNED)
    left_total = payment.total_cents - (live.aggregate(cents=Sum("amount_cents"))["cents"] or 0)
    row = Reversal(
        payment=payment,
        kind=Reversal.REFUND,
        status=Reversal.ASKED,
        # The tax goes back with it, in proportion; the last piece takes what is left of both.
        amount_cents=left_total
        if piece.cents == piece.left_cents
        else payment.total_cents * piece.cents // payment.amount_cents,
        token=token or uuid.uuid4(),
        reason=reason,
        created_by_id=actor_id,
    )
    row.reference = f"stripe:refund:{row.token}"
    net = money.of_cents(piece.cents)
    reversals.take(row, net, net, actor_id)
    return row


def _send(row: Reversal) -> None:
    """Ask Stripe for a refund whose credit is taken, and write its answer down."""
    import stripe

    params = {
        "payment_intent": row.payment.stripe_intent_id,
        "amount": row.amount_cents,
        "metadata": {"aperture_refund": str(row.token)},
    }
    try:
        answer = stripe_api.make_refund(params, f"refund-{row.token}")
    except (stripe.InvalidRequestError, stripe.CardError, stripe.PermissionError) as error:
        _refuse(row)
        raise Refused(
            f"Stripe refused the refund, and the credit was returned: {error.user_message or error}"
        ) from None
    with transaction.atomic():
        payment = Payment.objects.select_for_update().get(pk=row.payment_id)
        reversals.follow(payment, [reversals.of_refund(answer)])
    row.refresh_from_db()


def _refuse(row: Reversal) -> None:
    with transaction.atomic():
        Payment.objects.select_for_update().get(pk=row.payment_id)
        row.refresh_from_db()
        if row.status == Reversal.ASKED:
            reversals.give_back(row)


def resume() -> int:
    """Find out what became of refunds that Stripe did not answer for, asking again where it knows of none.

    Returns how many are still open.
    """
    stale = Reversal.objects.filter(status=Reversal.ASKED, created_at__lt=timezone.now() - ON_ITS_WAY)
    for row in stale.select_related("payment"):
        try:
            events.intent(row.payment.stripe_intent_id or "")
            row.refresh_from_db()
            if row.status == Reversal.ASKED:
                _send(row)
        except Refused as refusal:
            logger.warning("Refund %s of payment %s: %s", row.token, row.payment_id, refusal)
        except Exception:  # The others are looked after all the same; this one is tried again.
            logger.exception("Refund %s of payment %s is still open", row.token, row.payment_id)
    return stale.count()
