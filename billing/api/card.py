"""POST top-up, subscribe, portal: the address at Stripe's to send the payer to.

Nothing is credited here: that follows the payment (`billing.payments`). A Checkout session is made in steps that
commit, so a failure leaves at most a row that nobody can pay, and the same Idempotency-Key may be sent again.
"""

from collections.abc import Callable
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api import errors
from billing.api.errors import Fault
from billing.api.idempotency import once
from billing.api.queries import Strict, sent
from billing.api.view import OrganizationView
from billing.models import Plan
from billing.payments import checkout, stripe_api


class TopUpBody(Strict):
    """How much, in dollars and cents, as a text."""

    amount = serializers.CharField(max_length=16)

    def validate_amount(self, text: str) -> int:
        """Return it in cents."""
        try:
            return checkout.amount_cents(text)
        except checkout.Refused as refusal:
            raise serializers.ValidationError(str(refusal)) from None


class SubscribeBody(Strict):
    """A plan of the price page."""

    plan = serializers.SlugField(max_length=32)

    def validate_plan(self, slug: str) -> Plan:
        """Return it."""
        plan = Plan.objects.filter(slug=slug, public=True).first()
        if plan is None:
            raise serializers.ValidationError("There is no such plan; GET plans lists them.")
        return plan


class CardView(OrganizationView):
    """A way to Stripe."""

    def send(self, request: Request, begin: Callable[[], str], param: str | None) -> Any:
        """Return the address that BEGIN gets; raise Fault 503 where card payment is off."""
        if not stripe_api.is_on():
            raise Fault("card_payments_off", str(stripe_api.CardPaymentsOff()))
        return once(self, request, lambda: Response({"url": _begun(begin, param)}), one_transaction=False)


def _begun(begin: Callable[[], str], param: str | None) -> str:
    """Return the address; raise Fault 400 or 502."""
    import stripe

    try:
        return begin()
    except checkout.Refused as refusal:
        raise Fault("invalid_parameter", str(refusal), param=param) from None
    except stripe.StripeError as error:
        errors.logger.warning("Stripe could not begin a payment: %s", error)
        raise Fault("stripe_failed", "Stripe did not take the request; nothing was charged. Try again.") from None


class TopUp(CardView):
    """A top-up by card."""

    def post(self, request: Request) -> Any:
        """Begin a top-up."""
        cents: int = sent(TopUpBody, request)["amount"]
        return self.send(request, lambda: checkout.top_up(self.organization, self.caller, cents), "amount")


class Subscribe(CardView):
    """A subscription to a plan."""

    def post(self, request: Request) -> Any:
        """Begin a subscription."""
        plan: Plan = sent(SubscribeBody, request)["plan"]
        return self.send(request, lambda: checkout.subscribe(self.organization, self.caller, plan), "plan")


class Portal(CardView):
    """Stripe's customer portal: payment methods, invoices, change and end of a subscription."""

    def post(self, request: Request) -> Any:
        """Open the portal."""
        sent(Strict, request)
        return self.send(request, lambda: checkout.portal(self.organization), None)
