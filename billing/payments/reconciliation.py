"""Once a day: what Stripe has and we have not, because a webhook never came, is put into the inbox and processed.

Sessions, invoices, refunds and disputes of the last days are listed and compared with our rows; subscriptions that we
believe alive are asked for one by one. What is found becomes an event of our own (`missed:…`), so that it is tried
again and shown in the admin like any other.
"""

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from django.utils import timezone

from billing.models import Payment, Reversal, StripeCustomer, StripeEvent, Subscription
from billing.payments import inbox, plan_invoices, reversals, stripe_api, subscriptions
from billing.payments.mismatch import identifier
from billing.payments.stripe_api import Thing

logger = logging.getLogger("billing.payments")

# Stripe itself tries for three days.
DAYS = 7
DAY_S = 86_400


def reconcile(days: int = DAYS) -> list[str]:
    """Process what webhooks of the last DAYS days have missed; return the ids of the events that were made for it."""
    since_s = int(time.time()) - days * DAY_S
    found = []
    for kind, thing in missed(since_s):
        event_id = _put(kind, thing)
        found.append(event_id)
        inbox.process(event_id)
    _follow_subscriptions()
    if found:
        logger.warning("Stripe's webhooks have missed %d events; they are processed now: %s", len(found), found[:20])
    return found


def missed(since_s: int) -> Iterator[tuple[str, Thing]]:
    """Yield a type and an object for everything of ours at Stripe that our rows do not show."""
    for session in stripe_api.sessions_since(since_s):
        unpaid = Payment.objects.filter(stripe_session_id=session["id"]).exclude(status=Payment.PAID)
        if session["payment_status"] == "paid" and unpaid.exists():
            yield "checkout.session.completed", session
    for invoice in stripe_api.invoices_since(since_s):
        ours = StripeCustomer.objects.filter(stripe_id=identifier(invoice.get("customer"))).exists()
        paid = Payment.objects.filter(stripe_invoice_id=invoice["id"], status=Payment.PAID)
        if ours and plan_invoices.subscription_id(invoice) and not paid.exists():
            yield "invoice.paid", invoice
    for refund in stripe_api.refunds_since(since_s):
        if _differs(refund, reversals.of_refund(refund)):
            yield "refund.updated", refund
    for dispute in stripe_api.disputes_since(since_s):
        if _differs(dispute, reversals.of_dispute(dispute)):
            yield "charge.dispute.updated", dispute


def _differs(thing: Thing, seen: reversals.Reported | None) -> bool:
    """Say whether a refund or dispute of one of our payments is not in our rows as Stripe reports it."""
    if seen is None or not Payment.objects.filter(stripe_intent_id=identifier(thing.get("payment_intent"))).exists():
        return False
    status = Reversal.TAKEN if seen.live else Reversal.RETURNED
    # Returned is final here; a refund does not come alive again.
    known = Reversal.objects.filter(stripe_id=seen.stripe_id, status__in=[status, Reversal.RETURNED])
    return not known.exists()


def _put(kind: str, thing: Thing) -> str:
    now = timezone.now()
    event_id = f"missed:{thing['id']}"
    # Only what says where to look: the rest is a payer's, and may hold what PostgreSQL does not.
    about = {name: thing.get(name) for name in ("id", "object", "payment_intent")}
    StripeEvent.objects.update_or_create(
        id=event_id,
        defaults={
            "type": kind,
            "created": datetime.fromtimestamp(thing["created"], UTC),
            "payload": {"id": event_id, "object": "event", "type": kind, "data": {"object": about}},
            "due_at": now,
            "processed_at": None,
        },
    )
    return event_id


def _follow_subscriptions() -> None:
    """Follow every subscription that has not ended, for its end may be what was missed."""
    alive = Subscription.objects.exclude(status__in=["canceled", "incomplete_expired"])
    for stripe_id in list(alive.values_list("stripe_id", flat=True)):
        try:
            subscriptions.follow(stripe_id)
        except Exception:  # One that cannot be followed does not keep the others from it.
            logger.exception("Subscription %s could not be followed", stripe_id)
