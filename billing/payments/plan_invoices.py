"""Invoices of subscriptions: a paid one posts its plan's monthly credit, once.

Credit is for a whole period, and in proportion to the money that was paid for it. What Stripe charges for the rest of a
period when the plan changes brings the new plan and no credit, and what it sets off against an earlier payment brings
as much less: else changing to and fro would mint credit. A discount that the operator gives makes the price less, not
the credit.
"""

from typing import Any

from django.db import transaction
from django.utils import timezone

from billing import ledger, money
from billing.models import House, Kind, Payment, Plan, Subscription
from billing.money import Money
from billing.payments import reversals, stripe_api, subscriptions, top_ups
from billing.payments.checkout import CURRENCY
from billing.payments.mismatch import identifier, same, same_customer
from billing.payments.stripe_api import Thing

FIRST = "subscription_create"
REGULAR = {FIRST, "subscription_cycle"}


def subscription_id(invoice: Thing) -> str | None:
    """Return the id of the subscription that an invoice is for."""
    details = (invoice.get("parent") or {}).get("subscription_details") or {}
    return identifier(details.get("subscription"))


def intent_id(invoice: Thing) -> str | None:
    """Return the id of the payment intent that paid an invoice."""
    for each in (invoice.get("payments") or {}).get("data", []):
        if each["status"] == "paid" and each["payment"].get("payment_intent"):
            return identifier(each["payment"]["payment_intent"])
    return None


def follow(invoice_id: str, of_subscription: str) -> None:
    """Bring the payment of a subscription's invoice to what Stripe says of it, if its customer is ours."""
    subscription = subscriptions.follow(of_subscription)
    if subscription is None:
        return
    with transaction.atomic():
        # The subscription's row is the lock of all its invoices: two events about a new one make one payment.
        subscription = Subscription.objects.select_for_update().get(pk=subscription.pk)
        invoice = stripe_api.invoice(invoice_id)
        if invoice["status"] == "draft":
            return
        same("the subscription", subscription_id(invoice), subscription.stripe_id, invoice)
        payment = _payment_of(invoice, subscription)
        went_back = reversals.reported(intent_id(invoice))
        same_customer(invoice, payment)
        same("the currency", invoice["currency"], payment.currency, invoice, payment)
        _fill(payment, invoice)
        if payment.status == Payment.PAID:
            _credit(payment)
            reversals.follow(payment, went_back)


def _payment_of(invoice: Thing, subscription: Subscription) -> Payment:
    """Return the invoice's payment: its own, that of the Checkout session which began it all, or a new one."""
    payment = Payment.objects.select_for_update().filter(stripe_invoice_id=invoice["id"]).first()
    if payment is None and invoice.get("billing_reason") == FIRST:
        session = stripe_api.session_of(subscription=subscription.stripe_id)
        begun = Payment.objects.select_for_update().filter(stripe_invoice_id=None, kind=Payment.SUBSCRIPTION)
        payment = begun.filter(stripe_session_id=session["id"]).first() if session else None
    if payment is None:
        payment = Payment(currency=CURRENCY, status=Payment.OPEN, kind=Payment.SUBSCRIPTION)
        payment.organization_id = subscription.organization_id
    return payment


def _fill(payment: Payment, invoice: Thing) -> None:
    line = _plan_line(invoice)
    plan, price_cents = _plan_and_price(line, invoice) if line else (payment.plan, 0)
    payment.plan = plan
    payment.amount_cents, payment.tax_cents, payment.total_cents = amounts(invoice)
    payment.stripe_intent_id = intent_id(invoice)
    payment.error = ""
    top_ups.fill_invoice(payment, invoice)
    if invoice["status"] == "paid" and payment.status != Payment.PAID:
        if line and plan and line["amount"] > 0:
            same("the plan's price in cents", line["amount"], price_cents, invoice, payment)
            regular = invoice.get("billing_reason") in REGULAR
            payment.credit_nanos = credit_for(line, plan.monthly_credit_nanos, payment.amount_cents, regular=regular)
        payment.status, payment.paid_at = Payment.PAID, timezone.now()
    elif invoice["status"] in ("uncollectible", "void") and payment.status != Payment.PAID:
        payment.status = Payment.FAILED
    payment.save()


def amounts(invoice: Thing) -> tuple[int, int, int]:
    """Return the cents of an invoice without tax, its tax, and what was paid in money.

    Once it is paid, the first two are parts of the money: what Stripe set off against a balance was paid before.
    """
    total, net = invoice["total"], invoice.get("total_excluding_tax")
    net = total if net is None else net
    if invoice["status"] != "paid":
        return max(net, 0), max(total - net, 0), 0
    paid = invoice["amount_paid"]
    paid_net = paid * net // total if total > 0 else 0
    return paid_net, paid - paid_net, paid


def credit_for(line: Thing, credit_nanos: int, paid_cents: int, *, regular: bool) -> int:
    """Return the nano-dollars of credit for a whole period's line, of which PAID_CENTS were paid in money."""
    discounts = sum(each["amount"] for each in line.get("discount_amounts") or [])
    price_cents = line["amount"] - discounts
    if price_cents <= 0:
        # A month that the operator gives away is a gift with all that belongs to it; one more in the same month is not.
        return credit_nanos if regular else 0
    return min(credit_nanos, money.ratio(credit_nanos * paid_cents, price_cents))


def _plan_line(invoice: Thing) -> Thing | None:
    """Return the line of a whole period: none on an invoice of differences."""
    for line in invoice["lines"]["data"]:
        parent = (line.get("parent") or {}).get("subscription_item_details") or {}
        if parent and not parent.get("proration") and (line.get("pricing") or {}).get("price_details"):
            found: Thing = line
            return found
    return None


def _plan_and_price(line: Thing, invoice: Thing) -> tuple[Plan, int]:
    """Return the line's plan and what it costs in cents: today's, or for an older price what it was then."""
    price_id = identifier(line["pricing"]["price_details"]["price"]) or ""
    older = Subscription.objects.filter(stripe_price_id=price_id).order_by("pk").first()
    current = Plan.objects.filter(stripe_price_id=price_id).first()
    if current is None and older is not None:
        return older.plan, older.price_cents
    plan = current or subscriptions.plan_of(price_id, invoice)
    return plan, plan.price_nanos // money.NANOS_PER_CENT


def _credit(payment: Payment) -> None:
    """Post the plan's credit and where the rest of its price goes; the ledger posts an invoice once."""
    paid, credit = money.of_cents(payment.amount_cents), Money(payment.credit_nanos)
    about: dict[str, Any] = {
        "kind": Kind.PLAN_CREDIT,
        "reason": f"Plan {payment.plan}" if payment.plan else "Change of plan",
    }
    postings = []
    if credit:
        postings.append(
            ledger.Posting(House.CLEARING, payment.organization_id, credit, reference=payment.reference, **about)
        )
    rest = f"{payment.reference}:rest"
    if paid > credit:
        postings.append(ledger.Posting(House.CLEARING, House.REVENUE, paid - credit, reference=rest, **about))
    elif credit > paid:
        postings.append(ledger.Posting(House.PROMOTIONS, House.CLEARING, credit - paid, reference=rest, **about))
    ledger.post(*postings)
