"""What Stripe says that cannot be true of our payment: nothing is posted, and the admin shows why."""

from typing import Any

from billing.models import Payment, StripeCustomer
from billing.payments.stripe_api import Thing


class Mismatch(Exception):
    """Stripe's object and our row differ in something that decides who gets how much."""

    def __init__(self, message: str, payment: Payment | None = None) -> None:
        super().__init__(message)
        self.payment_id = payment.pk if payment else None


def same(what: str, theirs: Any, ours: Any, thing: Thing, payment: Payment | None = None) -> None:
    """Raise Mismatch unless both are the same."""
    if theirs != ours:
        raise Mismatch(
            f"{thing['object']} {thing['id']}: {what} is {theirs!r} at Stripe and {ours!r} here; nothing was posted. "
            "Compare the two, correct the wrong one, and process the event again.",
            payment,
        )


def same_customer(thing: Thing, payment: Payment) -> None:
    """Raise Mismatch unless Stripe's object is of the customer that the payment's organization is there."""
    customer = StripeCustomer.objects.filter(organization_id=payment.organization_id).first()
    same("the customer", identifier(thing.get("customer")), customer and customer.stripe_id, thing, payment)


def identifier(reference: Any) -> str | None:
    """Return the id of what Stripe names by its id or, where it was asked to expand it, as an object."""
    found: str | None = reference["id"] if isinstance(reference, dict) else reference
    return found
