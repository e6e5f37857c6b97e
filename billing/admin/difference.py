"""The admin's page of what reconcile found: read only, open ones first."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import Truncator
from unfold.admin import ModelAdmin
from unfold.decorators import display

from accounts.read_only import ReadOnly
from billing.models import Difference


class StateFilter(admin.SimpleListFilter):
    """Open differences, unless something else is asked for."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("resolved", "Resolved"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        everything = list(super().choices(changelist))
        everything[0]["display"] = "Open"
        return everything

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "all":
            return queryset
        return queryset.filter(resolved_at__isnull=self.value() != "resolved")


@admin.register(Difference)
class DifferenceAdmin(ReadOnly, ModelAdmin):
    list_display = ("check_name", "subject", "beginning", "state", "first_seen_at", "last_seen_at")
    list_filter = (StateFilter, "information", "name")
    list_fullwidth = True
    search_fields = ("subject", "detail")
    ordering = ("resolved_at", "information", "-last_seen_at", "pk")
    fields = ("name", "subject", "detail", "state", "first_seen_at", "last_seen_at", "resolved_at")

    @display(description="Check", ordering="name")
    def check_name(self, difference: Difference) -> str:
        return format_html('<span class="whitespace-nowrap">{}</span>', difference.name)

    @display(description="Detail")
    def beginning(self, difference: Difference) -> str:
        return Truncator(difference.detail).chars(160)

    @display(description="State", label={"differs": "danger", "information": "info", "resolved": "success"})
    def state(self, difference: Difference) -> str:
        if difference.resolved_at:
            return "resolved"
        return "information" if difference.information else "differs"
