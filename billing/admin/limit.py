"""The admin's page of limits: what may be used in what time, and by whom."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from billing.models import Limit


@admin.register(Limit)
class LimitAdmin(ModelAdmin):
    list_display = ("limit", "shown_target", "scope", "enabled", "source")
    list_filter = ("scope", "kind", "enabled", "source")
    list_select_related = ("key", "user", "organization", "plan")
    search_fields = ("user__email", "organization__name", "key__name", "key__display", "plan__name", "model_glob")
    search_help_text = "A user's e-mail, an organization, a key, a plan or models"
    autocomplete_fields = ("key", "user", "organization")
    readonly_fields = ("source", "created_at")
    ordering = ("scope", "kind", "id")
    actions = ("switch_off", "switch_on")
    fieldsets = (
        (
            None,
            {
                "fields": ("kind", "amount", "enabled"),
                "description": (
                    "A change is in force everywhere in under a second and keeps what was counted. "
                    "Failed requests count against no limit. To close a key or a model, revoke or disable it."
                ),
            },
        ),
        (
            "What it limits",
            {
                "fields": ("scope", "key", "user", "organization", "plan", "model_glob"),
                "description": "Fill in the one field that the scope speaks of; none for free models without credit.",
            },
        ),
        ("Where it comes from", {"fields": ("source", "created_at")}),
    )

    @display(description="Limit", ordering="amount")
    def limit(self, row: Limit) -> str:
        return f"{row.amount:,} {row.get_kind_display()}"

    @display(description="For")
    def shown_target(self, row: Limit) -> str:
        return row.target

    @admin.action(description="Switch off", permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[Limit]) -> None:
        queryset.update(enabled=False)

    @admin.action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[Limit]) -> None:
        queryset.update(enabled=True)
