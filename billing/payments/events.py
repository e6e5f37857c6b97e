"""What an event is about. Its type and ids only say where to look; what is so is asked of Stripe.

Objects that are not ours (the account may sell other things) are passed over.
"""

from collections.abc import Callable

from billing.models import Payment
from billing.payments import plan_invoices, stripe_api, subscriptions, top_ups
from billing.payments.mismatch import identifier
from billing.payments.stripe_api import Thing


def session(session_id: str) -> None:
    """Follow the payment of a Checkout session of ours."""
    payment = Payment.objects.filter(stripe_session_id=session_id).first()
    if payment is None:
        return
    if payment.kind == Payment.TOP_UP:
        top_ups.follow(payment.pk)
        return
    seen = stripe_api.session(session_id)
    invoice_id, subscription_id = identifier(seen.get("invoice")), identifier(seen.get("subscription"))
    if invoice_id and subscription_id:
        plan_invoices.follow(invoice_id, subscription_id)
    elif seen["status"] == "expired":
        Payment.objects.filter(pk=payment.pk, status=Payment.OPEN).update(status=Payment.EXPIRED)


def invoice(invoice_id: str) -> None:
    """Follow a subscription's invoice, or the top-up that an invoice was made for."""
    seen = stripe_api.invoice(invoice_id)
    subscription_id, intent_id = plan_invoices.subscription_id(seen), plan_invoices.intent_id(seen)
    if subscription_id:
        plan_invoices.follow(invoice_id, subscription_id)
    elif intent_id and (made_by := stripe_api.session_of(payment_intent=intent_id)):
        session(made_by["id"])


def subscription(subscription_id: str) -> None:
    """Follow a subscription."""
    subscriptions.follow(subscription_id)


def intent(intent_id: str) -> None:
    """Follow the payment that a payment intent belongs to, also where we have not heard of it yet."""
    payment = Payment.objects.filter(stripe_intent_id=intent_id).first()
    if payment is not None:
        again(payment)
    elif made_by := stripe_api.session_of(payment_intent=intent_id):
        session(made_by["id"])
    elif invoice_id := stripe_api.invoice_of(intent_id):
        invoice(invoice_id)


def again(payment: Payment) -> None:
    """Follow a payment of ours once more."""
    if payment.kind == Payment.SUBSCRIPTION and payment.stripe_invoice_id:
        invoice(payment.stripe_invoice_id)
    elif payment.stripe_session_id:
        session(payment.stripe_session_id)


# The beginning of a type, the field of its object that names what it is about, and who follows that.
ROUTES: list[tuple[str, str, Callable[[str], None]]] = [
    ("checkout.session.", "id", session),
    ("invoice.", "id", invoice),
    ("customer.subscription.", "id", subscription),
    ("charge.dispute.", "payment_intent", intent),
    ("charge.refund", "payment_intent", intent),
    ("refund.", "payment_intent", intent),
]

# Of a route's types, those that change nothing here, or name something that does not exist yet.
IGNORED = {"invoice.created", "invoice.deleted", "invoice.upcoming", "customer.subscription.trial_will_end"}


def handle(kind: str, payload: Thing) -> bool:
    """Follow what an event is about; return whether it is of a kind that concerns us."""
    thing = payload["data"]["object"]
    for prefix, field, follow in ROUTES:
        if kind.startswith(prefix) and kind not in IGNORED:
            found = identifier(thing.get(field))
            if found:
                follow(found)
            return True
    return False
