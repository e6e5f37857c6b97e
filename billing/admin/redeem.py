"""The admin's pages of redeem codes: batches are made and stopped; the codes themselves are shown once.

The answer to the form that makes a batch is the one place where its codes are; it is not to be cached, and sending the
form again makes no second batch.
"""

import base64
import csv
import io
import uuid
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from accounts.admin.key import confirmation
from billing import money, redeem
from billing.admin import two_steps
from billing.admin.amounts import cell, dollars_field
from billing.models import RedeemBatch


class BatchForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new batch. What it gives away in all is bound like any one action."""

    amount_nanos = dollars_field(label="Amount", help_text="In dollars, for each code.")
    token = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4, label="")

    class Meta:
        model = RedeemBatch
        fields = ("note", "codes_count", "amount_nanos", "expires_at")

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at and expires_at <= timezone.now():
            raise forms.ValidationError("This moment is past.")
        return expires_at

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        amount, count = data.get("amount_nanos"), data.get("codes_count")
        if amount == 0:
            self.add_error("amount_nanos", "Write an amount above zero.")
        elif amount and count and two_steps.over_limit(amount * count):
            self.add_error(
                "amount_nanos",
                f"{count} codes would give away ${money.shown(amount * count)}; at most {two_steps.limit_text()} at a "
                "time (APERTURE_ADJUSTMENT_MAX_DOLLARS).",
            )
        return data


@admin.register(RedeemBatch)
class RedeemBatchAdmin(ModelAdmin):
    form = BatchForm
    list_display = ("note", "amount", "codes_count", "redeemed", "state", "expires_at", "created_at", "made_by")
    list_select_related = ("actor",)
    list_fullwidth = True
    search_fields = ("note",)
    ordering = ("-pk",)
    actions_detail = ("stop",)
    add_fieldsets = (
        (
            None,
            {
                "fields": ("note", "codes_count", "amount_nanos", "expires_at", "token"),
                "description": "Each code can be redeemed once. The codes are shown once, on the next page.",
            },
        ),
    )
    fieldsets = (
        (None, {"fields": ("note", "amount", "codes_count", "redeemed", "state")}),
        ("Times", {"fields": ("created_at", "made_by", "expires_at", "stopped_at")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[RedeemBatch]:
        return super().get_queryset(request).annotate(redeemed_count=Count("codes__redeemed_at"))

    def get_fieldsets(self, request: HttpRequest, obj: RedeemBatch | None = None) -> Any:
        return self.fieldsets if obj else self.add_fieldsets

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # The next page is the one with the codes, whichever way it is saved.
        buttons = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, buttons | (extra_context or {}))

    def has_change_permission(self, request: HttpRequest, obj: RedeemBatch | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: RedeemBatch | None = None) -> bool:
        return False

    @display(description="Amount", ordering="amount_nanos")
    def amount(self, batch: RedeemBatch) -> str:
        return cell(batch.amount_nanos)

    @display(description="Redeemed", ordering="redeemed_count")
    def redeemed(self, batch: Any) -> int:
        return int(batch.redeemed_count)

    @display(description="Made by")
    def made_by(self, batch: RedeemBatch) -> str:
        return str(batch.actor or "the system")

    @display(description="State", label={"open": "success", "expired": "warning", "stopped": "danger"})
    def state(self, batch: RedeemBatch) -> str:
        if batch.stopped_at:
            return "stopped"
        return "expired" if batch.expires_at and batch.expires_at <= timezone.now() else "open"

    def save_model(self, request: HttpRequest, obj: RedeemBatch, form: Any, change: bool) -> None:
        new = redeem.NewBatch(
            form=form.cleaned_data["token"],
            note=obj.note,
            amount=money.Money(obj.amount_nanos),
            codes_count=obj.codes_count,
            expires_at=obj.expires_at,
        )
        batch, request.made_codes = redeem.make(new, request.user)  # type: ignore[attr-defined, arg-type]
        obj.pk = batch.pk

    def response_add(
        self, request: HttpRequest, obj: RedeemBatch, post_url_continue: str | None = None
    ) -> HttpResponse:
        codes: list[str] = request.made_codes  # type: ignore[attr-defined]
        if not codes:
            messages.warning(request, "This page was sent before. Its codes were shown then, and none were made now.")
            return HttpResponseRedirect(reverse("admin:billing_redeembatch_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "title": f"{len(codes)} codes of {obj.note}",
            "opts": self.model._meta,
            "batch": obj,
            "amount": money.shown(obj.amount_nanos),
            "codes": "\n".join(codes),
            "table": base64.b64encode(table(obj, codes).encode()).decode(),
            "back": reverse("admin:billing_redeembatch_changelist"),
        }
        # Like every page of the admin, it is sent with cache-control: no-store.
        return TemplateResponse(request, "admin/billing/codes.html", context)

    def has_stop_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return bool(request.user.has_perm("billing.change_redeembatch"))

    @action(
        description="Stop",
        icon="block",
        permissions=["stop"],
        dialog=confirmation(
            "Stop this batch?",
            "The codes that were not redeemed give nothing from now on, for good. Credit that was given stays.",
            "Stop",
        ),
    )
    def stop(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        batch = self.get_object(request, object_id)
        if batch is None:
            messages.error(request, f"There is no batch {object_id}.")
        elif RedeemBatch.objects.filter(pk=batch.pk, stopped_at=None).update(stopped_at=timezone.now()):
            self.log_change(request, batch, "Stopped.")
            messages.success(request, f"The codes of {batch} are stopped.")
        else:
            messages.info(request, f"The codes of {batch} were stopped before.")
        return HttpResponse(headers={"HX-Redirect": reverse("admin:billing_redeembatch_changelist")})


def table(batch: RedeemBatch, codes: list[str]) -> str:
    """Return the codes as CSV, for the one download."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["code", "dollars", "expires_at"])
    expires_at = batch.expires_at.isoformat() if batch.expires_at else ""
    writer.writerows([code, money.shown(batch.amount_nanos), expires_at] for code in codes)
    return out.getvalue()
