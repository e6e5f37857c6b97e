"""The admin's pages of payments by card: read only, for Stripe says what was paid; two things can be done.

An event can be processed again, which is harmless at any time. The unused part of a top-up can be refunded; its form
carries a token, so that one sent twice refunds once.
"""

import logging
import uuid
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from accounts.read_only import ReadOnly
from billing import ledger, money
from billing.models import Payment, Reversal, StripeEvent, Subscription
from billing.payments import checkout, inbox, refunds, stripe_api

logger = logging.getLogger("billing.payments")


class StripePage(ReadOnly, ModelAdmin):
    """Rows that only Stripe's word changes."""

    def has_act_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Who may act on these rows: whoever has Django's permission to change them."""
        options = self.model._meta
        return request.user.has_perm(f"{options.app_label}.change_{options.model_name}")


class ReversalInline(ReadOnly, TabularInline):
    model = Reversal
    extra = 0
    fields = readonly_fields = ("kind", "status", "stripe_id", "amount_cents", "credit", "froze_at", "reason")

    @display(description="Credit taken")
    def credit(self, row: Reversal) -> str:
        return f"${money.shown(row.credit_nanos)}"


class RefundForm(BaseDialogForm):
    """How much of a top-up's unused credit is refunded, and why."""

    amount = forms.RegexField(
        checkout.AMOUNT,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="In dollars without tax, such as 5.00; empty for all that is unused. Its tax goes back with it.",
    )
    reason = forms.CharField(max_length=500, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}))
    token = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)


@admin.register(Payment)
class PaymentAdmin(StripePage):
    list_display = ("created_at", "organization", "kind", "state", "amount", "tax", "invoice_number", "problem")
    list_filter = ("kind", "status", ("created_at", admin.DateFieldListFilter))
    search_fields = (
        "organization__name__icontains",
        "invoice_number__iexact",
        "=stripe_session_id",
        "=stripe_invoice_id",
        "=stripe_intent_id",
    )
    search_help_text = "An organization, an invoice's number, or an id of Stripe's"
    list_select_related = ("organization",)
    ordering = ("-created_at", "-pk")
    inlines = (ReversalInline,)
    actions_detail = ("refund",)
    readonly_fields = ("invoice", "receipt", "credit")
    fieldsets = (
        (None, {"fields": ("organization", "created_by", "kind", "plan", "status", "created_at", "paid_at", "error")}),
        ("Amounts", {"fields": (("currency", "amount_cents", "tax_cents", "total_cents"), "credit")}),
        ("At Stripe", {"fields": ("stripe_session_id", "stripe_intent_id", "stripe_invoice_id", "invoice", "receipt")}),
    )

    @display(
        description="Status", label={"paid": "success", "failed": "danger", "expired": "warning"}, ordering="status"
    )
    def state(self, payment: Payment) -> str:
        return payment.status

    @display(description="Amount", ordering="amount_cents")
    def amount(self, payment: Payment) -> str:
        return f"${payment.amount_cents / 100:.2f}"

    @display(description="Tax")
    def tax(self, payment: Payment) -> str:
        return f"${payment.tax_cents / 100:.2f}"

    @display(description="Credit")
    def credit(self, payment: Payment) -> str:
        return f"${money.shown(payment.credit_nanos)}"

    @display(description="Invoice")
    def invoice(self, payment: Payment) -> str:
        return _link(payment.invoice_url, payment.invoice_number or "Invoice")

    @display(description="Receipt")
    def receipt(self, payment: Payment) -> str:
        return _link(payment.receipt_url, "Receipt")

    @display(description="Problem")
    def problem(self, payment: Payment) -> str:
        return payment.error[:80]

    @action(
        description="Refund unused credit",
        icon="undo",
        permissions=["act"],
        dialog={
            "title": "Refund unused credit of this top-up?",
            "description": "It is taken from the wallet and goes back to the card that paid: at most what no request "
            "has used or holds.",
            "form_class": RefundForm,
            "form_submit_text": "Refund",
        },
    )
    def refund(self, request: HttpRequest, form: RefundForm, object_id: str) -> HttpResponse:
        payment = self.get_object(request, object_id)
        if payment is None:
            messages.error(request, f"There is no payment {object_id}.")
        else:
            said = _refund(request, payment, form.cleaned_data)
            self.log_change(request, payment, said)
        return HttpResponse(headers={"HX-Redirect": reverse("admin:billing_payment_changelist")})


def _refund(request: HttpRequest, payment: Payment, asked: dict[str, Any]) -> str:
    """Refund what the form asks for; tell the operator, and return what was told."""
    import stripe

    try:
        cents = money.of_dollars(asked["amount"]).nanos // money.NANOS_PER_CENT if asked["amount"] else None
        (row,) = refunds.refund_unused(
            payment.organization_id,
            reason=asked["reason"],
            actor_id=int(request.user.pk or 0),
            cents=cents,
            payment_id=payment.pk,
            token=asked["token"],
        )
    except (ledger.NoCredit, refunds.Refused, stripe_api.CardPaymentsOff) as refusal:
        said = str(refusal)
        messages.error(request, said)
    except stripe.StripeError as error:
        logger.warning("A refund of payment %s is open: %s", payment.pk, error)
        said = "Stripe did not answer. The credit is taken; the refund is asked for again until it is known."
        messages.warning(request, said)
    else:
        said = f"Refunded ${row.amount_cents / 100:.2f}; ${money.shown(row.credit_nanos)} of credit was taken."
        messages.success(request, said)
    return said


def _link(address: str, text: str) -> str:
    # Only what a browser may follow: the address is Stripe's word.
    if not address.startswith(("https://", "http://")):
        return ""
    return format_html('<a href="{}" rel="noreferrer noopener" target="_blank">{}</a>', address, text)


@admin.register(Subscription)
class SubscriptionAdmin(StripePage):
    list_display = ("organization", "plan", "state", "period_ends_at", "cancel_at_period_end", "seen_at")
    list_filter = ("status", "plan", "cancel_at_period_end")
    search_fields = ("organization__name__icontains", "=stripe_id")
    list_select_related = ("organization", "plan")
    ordering = ("-created_at", "-pk")

    @display(
        description="Status",
        label={"active": "success", "trialing": "success", "past_due": "warning", "unpaid": "danger"},
        ordering="status",
    )
    def state(self, subscription: Subscription) -> str:
        return subscription.status


class OutcomeFilter(admin.SimpleListFilter):
    """Events by what became of them."""

    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("failed", "Failed, is tried again"), ("waiting", "Waiting"), ("processed", "Processed")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "processed":
            return queryset.exclude(processed_at=None)
        if self.value() == "failed":
            return queryset.filter(processed_at=None).exclude(error="")
        return queryset.filter(processed_at=None, error="") if self.value() == "waiting" else queryset


@admin.register(StripeEvent)
class StripeEventAdmin(StripePage):
    list_display = ("received_at", "type", "outcome", "attempts", "problem", "id")
    list_filter = (OutcomeFilter, "type")
    search_fields = ("=id", "type__istartswith")
    ordering = ("-received_at", "pk")
    actions = ("process_again",)

    @display(description="Outcome", label={"processed": "success", "failed": "danger", "waiting": "info"})
    def outcome(self, event: StripeEvent) -> str:
        return "processed" if event.processed_at else "failed" if event.error else "waiting"

    @display(description="Problem")
    def problem(self, event: StripeEvent) -> str:
        return event.error[:120]

    @admin.action(description="Process again", permissions=["act"])
    def process_again(self, request: HttpRequest, events: QuerySet[StripeEvent]) -> None:
        outcomes = [inbox.again(event_id) for event_id in events.order_by("created", "pk").values_list("pk", flat=True)]
        if failed := outcomes.count(False):
            messages.error(request, f"{failed} of {len(outcomes)} events failed; the column Problem says why.")
        else:
            messages.success(request, f"Processed {len(outcomes)} events.")
