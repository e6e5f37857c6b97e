"""What Stripe said about the payments behind credits: the one place where receipts ask for it."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Prefetch, Q

from billing import money
from billing.api.queries import iso
from billing.models import Payment, Reversal, Transfer

# The beginnings of `Payment.reference`, and the column that holds the rest.
REFERENCES = {"stripe:checkout:": "stripe_session_id", "stripe:invoice:": "stripe_invoice_id"}


def of(lines: Iterable[Transfer]) -> dict[str, Payment]:
    """Return the payments of these transfers, by the transfers' references."""
    wanted = Q(pk=None)
    references = [line.reference for line in lines if line.reference]
    for beginning, column in REFERENCES.items():
        ids = [each.removeprefix(beginning) for each in references if each.startswith(beginning)]
        wanted |= Q(**{f"{column}__in": ids})
    refunds = Reversal.objects.filter(kind=Reversal.REFUND, status=Reversal.TAKEN)
    found = Payment.objects.filter(wanted).select_related("plan")
    found = found.prefetch_related(Prefetch("reversals", queryset=refunds, to_attr="refunds"))
    return {payment.reference: payment for payment in found}


def shape(payment: Any) -> dict[str, Any]:
    """Return a payment as a receipt shows it; amounts are exact texts in the payment's currency."""
    return {
        "plan": payment.plan.name if payment.plan else None,
        "currency": payment.currency.upper(),
        "net": dollars(payment.amount_cents),
        "tax": dollars(payment.tax_cents),
        "total": dollars(payment.total_cents),
        "refunded": dollars(sum(refund.amount_cents for refund in payment.refunds)),
        "paid_at": iso(payment.paid_at) if payment.paid_at else None,
        "invoice_number": payment.invoice_number or None,
        "invoice_url": secure(payment.invoice_url),
        "invoice_pdf_url": secure(payment.invoice_pdf_url),
        "receipt_url": secure(payment.receipt_url),
    }


def dollars(cents: int) -> str:
    """Return cents as an exact text."""
    return money.shown(money.of_cents(cents).nanos)


def secure(url: str) -> str | None:
    """Return an address that a page may link to, or None."""
    return url if url.startswith("https://") else None
