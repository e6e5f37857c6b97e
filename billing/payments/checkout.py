"""Send a payer to Stripe: Checkout for a top-up or a subscription, the portal for everything after.

Our row comes first: a payment is stored with its organization and amount before Stripe hears of it, and its token is
the idempotency key. A failure in between leaves a row without a session, which nobody can pay.
"""

import re
from typing import Any

from django.conf import settings

from accounts.models import Organization, User
from billing import money
from billing.models import Payment, Plan, StripeCustomer, Subscription
from billing.payments import stripe_api

# The ledger's own: what is paid is what is posted, without an exchange rate between.
CURRENCY = "usd"
CENTS_PER_DOLLAR = 100
AMOUNT = re.compile(r"[0-9]{1,7}(\.[0-9]{1,2})?")


class Refused(ValueError):
    """A payment that cannot be begun; the message is for the payer."""


def amount_cents(text: str) -> int:
    """Return the cents of a top-up that somebody typed in dollars; raise Refused outside the installation's bounds."""
    least, most = settings.TOP_UP_MIN_DOLLARS, settings.TOP_UP_MAX_DOLLARS
    bounds = f"from ${least}.00 to ${most}.00"
    if not AMOUNT.fullmatch(text.strip()):
        raise Refused(f"Write an amount in dollars and cents {bounds}, such as 25.00.")
    cents = money.of_dollars(text.strip()).nanos // money.NANOS_PER_CENT
    if not least * CENTS_PER_DOLLAR <= cents <= most * CENTS_PER_DOLLAR:
        raise Refused(f"A top-up is {bounds}; {text.strip()} is not.")
    return cents


def top_up(organization: Organization, user: User, cents: int) -> str:
    """Begin a top-up of that many cents (`amount_cents`) without tax; return Stripe's address for the payer."""
    customer = customer_of(organization, user)
    payment = Payment.objects.create(
        organization=organization, created_by=user, kind=Payment.TOP_UP, currency=CURRENCY, amount_cents=cents
    )
    product = {"name": "Credit", "description": f"Prepaid credit for {organization.name}"}
    price = {"currency": CURRENCY, "unit_amount": cents, "product_data": product, "tax_behavior": "exclusive"}
    return _send(
        payment,
        customer,
        {
            "mode": "payment",
            "line_items": [{"price_data": price, "quantity": 1}],
            "invoice_creation": {"enabled": True},
            "payment_intent_data": {"metadata": {"aperture_payment": str(payment.token)}},
        },
    )


def subscribe(organization: Organization, user: User, plan: Plan) -> str:
    """Begin a subscription to a plan; return Stripe's address for the payer."""
    if not (plan.public and plan.stripe_price_id):
        raise Refused(f"The plan {plan.name} cannot be bought by card.")
    if Subscription.objects.filter(organization=organization, status__in=Subscription.ENTITLING).exists():
        raise Refused(f"{organization.name} has a subscription; change or cancel it in Stripe's customer portal.")
    customer = customer_of(organization, user)
    payment = Payment.objects.create(
        organization=organization,
        created_by=user,
        kind=Payment.SUBSCRIPTION,
        plan=plan,
        currency=CURRENCY,
        amount_cents=plan.price_nanos // money.NANOS_PER_CENT,
    )
    lines = [{"price": plan.stripe_price_id, "quantity": 1}]
    return _send(payment, customer, {"mode": "subscription", "line_items": lines})


def _send(payment: Payment, customer: str, params: dict[str, Any]) -> str:
    """Make the payment's Checkout session, store its id, and return its address."""
    common: dict[str, Any] = {
        "customer": customer,
        "client_reference_id": str(payment.token),
        "success_url": f"{settings.PUBLIC_URL}/account?payment={payment.token}",
        "cancel_url": f"{settings.PUBLIC_URL}/account?payment=canceled",
    }
    if settings.STRIPE_TAX:
        common |= {"automatic_tax": {"enabled": True}, "billing_address_collection": "required"}
        common |= {"customer_update": {"address": "auto", "name": "auto"}, "tax_id_collection": {"enabled": True}}
    session = stripe_api.make_session(common | params, f"payment-{payment.token}")
    payment.stripe_session_id, payment.status = session["id"], Payment.OPEN
    payment.save(update_fields=["stripe_session_id", "status"])
    return str(session["url"])


def portal(organization: Organization) -> str:
    """Return the address of Stripe's customer portal: payment methods, invoices, change and end of a subscription."""
    stripe_api.client()
    customer = StripeCustomer.objects.filter(organization=organization).exclude(stripe_id=None).first()
    if customer is None:
        raise Refused(f"{organization.name} has not paid by card yet.")
    session = stripe_api.make_portal_session(
        {"customer": customer.stripe_id, "return_url": f"{settings.PUBLIC_URL}/account"}
    )
    return str(session["url"])


def customer_of(organization: Organization, user: User) -> str:
    """Return the organization's customer at Stripe, made there at its first payment."""
    stripe_api.client()
    customer = StripeCustomer.objects.get_or_create(organization=organization)[0]
    if customer.stripe_id is None:
        params = {
            "name": organization.name,
            "email": user.email,
            "metadata": {"aperture_organization": str(organization.pk)},
        }
        # Two at once make two, of which one stays without payments.
        made = stripe_api.make_customer(params)
        StripeCustomer.objects.filter(pk=customer.pk, stripe_id=None).update(stripe_id=made["id"])
        customer.refresh_from_db()
    return str(customer.stripe_id)
