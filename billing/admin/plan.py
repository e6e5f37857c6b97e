"""The admin's pages of plans: people write dollars and factors. The Free plan stays, for new wallets begin with it."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from billing import money
from billing.admin.amounts import cell, dollars_field, factor_field
from billing.models import Plan


class PlanForm(forms.ModelForm):  # type: ignore[type-arg]
    """A plan in dollars and a factor."""

    markup_ppm = factor_field(
        label="Markup",
        help_text="The charge for each dollar of upstream cost: 1.2 is cost x 1.2. Models that end in :free cost 0.",
    )
    price_nanos = dollars_field(label="Monthly price", help_text="In dollars. The payment provider charges it.")
    monthly_credit_nanos = dollars_field(
        label="Included monthly credit", help_text="In dollars, posted each month; it adds up and never expires."
    )

    class Meta:
        model = Plan
        widgets = {"description": UnfoldAdminTextareaWidget(attrs={"rows": 2})}
        fields = (
            "name",
            "slug",
            "description",
            "position",
            "public",
            "markup_ppm",
            "price_nanos",
            "monthly_credit_nanos",
            "stripe_price_id",
            "cache_lifetime_s",
            "fallback",
            "native_anthropic",
            "bring_your_own_key",
        )


@admin.register(Plan)
class PlanAdmin(ModelAdmin):
    form = PlanForm
    list_display = (
        "name",
        "markup",
        "price",
        "monthly_credit",
        "fallback",
        "native_anthropic",
        "bring_your_own_key",
        "public",
        "wallets_count",
    )
    list_fullwidth = True
    search_fields = ("name", "slug")
    ordering = ("position", "pk")
    fieldsets = (
        (None, {"fields": ("name", "slug", "description", ("position", "public"))}),
        ("Money", {"fields": ("markup_ppm", "price_nanos", "monthly_credit_nanos", "stripe_price_id")}),
        ("Features", {"fields": ("cache_lifetime_s", "fallback", "native_anthropic", "bring_your_own_key")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        return super().get_queryset(request).annotate(wallets_counted=Count("wallets"))

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> tuple[str, ...]:
        # New wallets find the Free plan by its slug, and scripts the others.
        return ("slug",) if obj else ()

    def get_prepopulated_fields(self, request: HttpRequest, obj: Plan | None = None) -> dict[str, Any]:
        return {} if obj else {"slug": ("name",)}

    def has_delete_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        return bool(super().has_delete_permission(request, obj)) and (obj is None or obj.slug != Plan.FREE)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        # Deleting a selection asks no row for its own permission.
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return dict(actions)

    @display(description="Markup", ordering="markup_ppm")
    def markup(self, plan: Plan) -> str:
        return f"x {money.factor(plan.markup_ppm)}"

    @display(description="Price a month", ordering="price_nanos")
    def price(self, plan: Plan) -> str:
        return cell(plan.price_nanos)

    @display(description="Credit a month", ordering="monthly_credit_nanos")
    def monthly_credit(self, plan: Plan) -> str:
        return cell(plan.monthly_credit_nanos)

    @display(description="Wallets", ordering="wallets_counted")
    def wallets_count(self, plan: Any) -> int:
        return int(plan.wallets_counted)
