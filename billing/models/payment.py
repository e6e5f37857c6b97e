"""Payments by card: what was asked of Stripe, what it says came of that, and the inbox of its events.

The ledger is the truth about credit; these rows say which payment of Stripe's a transfer belongs to. A payment is
stored before its payer is sent to Stripe, so whom it credits, and with how much, is read here and never from what
Stripe sends back. Cents are what Stripe counts in; what moves in the ledger is nano-dollars.
"""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Organization
from billing.models.plan import Plan

# Stripe's own identifiers and words are at most this long.
STRIPE_ID = 255


class StripeCustomer(models.Model):
    """An organization as Stripe knows it; the one way from a customer of Stripe's to an organization."""

    organization = models.OneToOneField(
        Organization, primary_key=True, on_delete=models.PROTECT, related_name="stripe_customer"
    )
    stripe_id = models.CharField(max_length=STRIPE_ID, unique=True, null=True)  # noqa: DJ001
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.stripe_id or f"{self.organization}"


class Subscription(models.Model):
    """An organization's subscription to a plan, as Stripe last described it."""

    # Past due is Stripe still trying to collect: the plan stays until it gives up.
    ENTITLING: ClassVar[set[str]] = {"active", "trialing", "past_due"}

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="subscriptions")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="subscriptions")
    stripe_id = models.CharField(max_length=STRIPE_ID, unique=True)
    stripe_price_id = models.CharField(max_length=STRIPE_ID)
    price_cents = models.BigIntegerField(help_text="What the plan cost when this price was first seen.")
    status = models.CharField(max_length=32, help_text="Stripe's word.", blank=True)
    cancel_at_period_end = models.BooleanField(default=False)
    period_begins_at = models.DateTimeField(null=True)
    period_ends_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    seen_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return f"{self.organization}: {self.plan} ({self.status})"

    @property
    def entitles(self) -> bool:
        """Whether it puts its organization on its plan."""
        return self.status in self.ENTITLING


class Payment(models.Model):
    """One payment: a Checkout session of ours, or an invoice of a subscription."""

    TOP_UP, SUBSCRIPTION = "top_up", "subscription"
    KINDS = [(TOP_UP, "top-up"), (SUBSCRIPTION, "subscription")]
    CREATED, OPEN, PAID, FAILED, EXPIRED = "created", "open", "paid", "failed", "expired"
    STATUSES = [(each, each) for each in (CREATED, OPEN, PAID, FAILED, EXPIRED)]

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="payments")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=16, choices=KINDS)
    plan = models.ForeignKey(Plan, null=True, on_delete=models.PROTECT, related_name="+")
    token = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    status = models.CharField(max_length=16, choices=STATUSES, default=CREATED)
    currency = models.CharField(max_length=3)
    amount_cents = models.BigIntegerField(help_text="Without tax; what was paid in money, once it is paid.")
    tax_cents = models.BigIntegerField(default=0)
    total_cents = models.BigIntegerField(default=0, help_text="What was paid, tax included.")
    credit_nanos = models.BigIntegerField(default=0, help_text="What the wallet got for it.")
    stripe_session_id = models.CharField(max_length=STRIPE_ID, unique=True, null=True)  # noqa: DJ001
    stripe_invoice_id = models.CharField(max_length=STRIPE_ID, unique=True, null=True)  # noqa: DJ001
    stripe_intent_id = models.CharField(max_length=STRIPE_ID, unique=True, null=True)  # noqa: DJ001
    invoice_number = models.CharField(max_length=STRIPE_ID, blank=True)
    invoice_url = models.URLField(max_length=2048, blank=True)
    invoice_pdf_url = models.URLField(max_length=2048, blank=True)
    receipt_url = models.URLField(max_length=2048, blank=True)
    error = models.TextField(blank=True, help_text="Why it could not be posted.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    paid_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["organization", "-created_at"], name="payment_by_organization")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(amount_cents__gte=0, tax_cents__gte=0, total_cents__gte=0, credit_nanos__gte=0),
                name="payment_amounts_not_negative",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.organization}, {self.amount_cents / 100:.2f} {self.currency}"

    @property
    def reference(self) -> str:
        """The ledger's business key of its credit: one session or one invoice is posted once."""
        if self.kind == self.TOP_UP:
            return f"stripe:checkout:{self.stripe_session_id}"
        return f"stripe:invoice:{self.stripe_invoice_id}"


class Reversal(models.Model):
    """Money of a payment that goes back: a refund or a dispute. Its credit is taken once and given back at most once.

    `asked` is a refund of ours whose credit is taken and that Stripe has not confirmed; `returned` is final, so an
    old message that comes late cannot take the credit again.
    """

    REFUND, DISPUTE = "refund", "dispute"
    KINDS = [(REFUND, "refund"), (DISPUTE, "dispute")]
    ASKED, TAKEN, RETURNED = "asked", "taken", "returned"
    STATUSES = [(ASKED, "asked of Stripe"), (TAKEN, "credit taken back"), (RETURNED, "failed or won: credit returned")]

    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="reversals")
    kind = models.CharField(max_length=16, choices=KINDS)
    status = models.CharField(max_length=16, choices=STATUSES)
    token = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    stripe_id = models.CharField(max_length=STRIPE_ID, unique=True, null=True)  # noqa: DJ001
    reference = models.CharField(max_length=STRIPE_ID, unique=True)
    amount_cents = models.BigIntegerField(help_text="What goes back to the card, tax included.")
    net_nanos = models.BigIntegerField(default=0, help_text="The same without tax.")
    credit_nanos = models.BigIntegerField(default=0, help_text="What was taken from the wallet for it.")
    froze_at = models.DateTimeField(null=True, help_text="When it froze the wallet, if it did.")
    reason = models.TextField(blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes = [models.Index(fields=["created_at"], condition=models.Q(status="asked"), name="reversal_asked")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(amount_cents__gte=0, net_nanos__gte=0, credit_nanos__gte=0),
                name="reversal_amounts_not_negative",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.stripe_id or self.token}"


class StripeEvent(models.Model):
    """An event as Stripe signed it, or a gap that the daily job found. Kept until it is processed, and 90 days more."""

    id = models.CharField(max_length=STRIPE_ID, primary_key=True)
    type = models.CharField(max_length=STRIPE_ID)
    created = models.DateTimeField(help_text="When it happened, by Stripe's clock.")
    payload = models.JSONField()
    received_at = models.DateTimeField(db_default=Now())
    due_at = models.DateTimeField(help_text="When it is tried again, if it was not processed.")
    processed_at = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["due_at"], condition=models.Q(processed_at=None), name="stripe_event_due"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"
