"""Top-ups: a Checkout session of ours, followed until it is paid, has failed or has expired.

Only a session that Stripe calls paid gives credit: as much as our row says, if currency, amount and customer are the
same at Stripe.
"""

from django.db import transaction
from django.utils import timezone

from billing import ledger, money
from billing.models import House, Kind, Payment
from billing.money import Money
from billing.payments import reversals, stripe_api
from billing.payments.mismatch import identifier, same, same_customer
from billing.payments.stripe_api import Thing

# A payment intent in these states, of a session that was completed, will not be paid any more.
INTENT_FAILED = {"requires_payment_method", "canceled"}


def follow(payment_id: int) -> None:
    """Bring a top-up to what Stripe says of its session now; raise Mismatch where the two cannot be the same thing."""
    with transaction.atomic():
        payment = Payment.objects.select_for_update().get(pk=payment_id)
        session = stripe_api.session(payment.stripe_session_id or "")
        status = outcome(session)
        # Everything is asked before anything is posted: a wallet is locked for no longer than the posting takes.
        went_back = reversals.reported(intent_id(session)) if status == Payment.PAID else []
        if status == Payment.PAID:
            _check(payment, session)
            _fill(payment, session)
            _credit(payment)
            reversals.follow(payment, went_back)
        elif payment.status != Payment.PAID:
            payment.status = status
            payment.save(update_fields=["status"])


def outcome(session: Thing) -> str:
    """Return the status of our payment for a session of Stripe's."""
    if session["payment_status"] == "paid":
        return Payment.PAID
    if session["status"] == "expired":
        return Payment.EXPIRED
    intent = session.get("payment_intent")
    if session["status"] == "complete" and intent and intent["status"] in INTENT_FAILED:
        return Payment.FAILED
    return Payment.OPEN


def intent_id(session: Thing) -> str | None:
    """Return the id of the session's payment intent."""
    return identifier(session.get("payment_intent"))


def _check(payment: Payment, session: Thing) -> None:
    same_customer(session, payment)
    same("the mode", session["mode"], "payment", session, payment)
    same("the currency", session["currency"], payment.currency, session, payment)
    same("the amount without tax, in cents,", session["amount_subtotal"], payment.amount_cents, session, payment)
    details = session.get("total_details") or {}
    same("the discount in cents", details.get("amount_discount") or 0, 0, session, payment)


def _fill(payment: Payment, session: Thing) -> None:
    """Keep what Stripe says about the payment; the invoice may come later than the payment itself."""
    invoice, intent = session.get("invoice") or {}, session.get("payment_intent") or {}
    payment.total_cents = session["amount_total"]
    payment.tax_cents = (session.get("total_details") or {}).get("amount_tax") or 0
    payment.stripe_intent_id = intent.get("id")
    payment.receipt_url = (intent.get("latest_charge") or {}).get("receipt_url") or ""
    fill_invoice(payment, invoice)
    payment.error = ""
    if payment.status != Payment.PAID:
        payment.status, payment.paid_at = Payment.PAID, timezone.now()
        payment.credit_nanos = money.of_cents(payment.amount_cents).nanos
    payment.save()


def fill_invoice(payment: Payment, invoice: Thing) -> None:
    """Keep an invoice's number and addresses as Stripe gives them."""
    payment.stripe_invoice_id = invoice.get("id")
    payment.invoice_number = invoice.get("number") or ""
    payment.invoice_url = invoice.get("hosted_invoice_url") or ""
    payment.invoice_pdf_url = invoice.get("invoice_pdf") or ""


def _credit(payment: Payment) -> None:
    """Post the credit; the ledger posts a session once."""
    ledger.credit(
        payment.organization_id,
        Money(payment.credit_nanos),
        Kind.TOP_UP,
        House.CLEARING,
        reference=payment.reference,
        reason="Top-up by card",
        actor_id=payment.created_by_id,
    )
