"""The admin's page of usage: read only, for the rows are the record of what happened.

The rows name keys, users and providers by id; one query brings their names. The table grows without bound, so nothing
here counts it.
"""

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RangeDateTimeFilter, TextFilter
from unfold.decorators import display
from unfold.paginator import InfinitePaginator
from unfold.utils import parse_datetime_str

from accounts.models import APIKey, Organization, User
from accounts.read_only import ReadOnly
from billing import money, usage
from billing.models import Usage
from catalog.models import Provider


class TypedFilter(TextFilter):
    """What somebody typed: a text, or an id."""

    def text(self) -> str:
        """Return it without what no column holds and no word has."""
        return (self.value() or "").replace("\x00", "").strip()

    def id(self) -> int | None:
        """Return the id that it is, if it is one."""
        text = self.text()
        return int(text) if text.isdecimal() and len(text) < 19 else None


class ModelFilter(TypedFilter):
    """Model names that begin with what was typed."""

    title = "model"
    parameter_name = "model"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(model__istartswith=self.text()) if self.text() else queryset


class KeyFilter(TypedFilter):
    """A key by its id, its name or what is shown of it, or by its owner's e-mail."""

    title = "key (id, name, sg-ab…wxyz or e-mail)"
    parameter_name = "key"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        text, key_id = self.text(), self.id()
        if not text:
            return queryset
        if key_id is not None:
            known = APIKey.objects.filter(pk=key_id)
            if not known.exists():
                return queryset.filter(key_id=key_id)
        else:
            known = APIKey.objects.filter(Q(name=text) | Q(display=text) | Q(user__email__iexact=text))
        # The index leads by the organization.
        return queryset.filter(key_id__in=known.values("pk"), organization_id__in=known.values("organization_id"))


class StatusFilter(admin.SimpleListFilter):
    """Outcomes by the class of their status."""

    title = "status"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("2", "Succeeded (2xx)"), ("4", "Refused (4xx)"), ("5", "Failed (5xx)"), ("429", "Limited (429)")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if value == "429":
            return queryset.filter(status=429)
        if value in ("2", "4", "5"):
            return queryset.filter(status__gte=int(value) * 100, status__lt=int(value) * 100 + 100)
        return queryset


class SourceFilter(admin.SimpleListFilter):
    """Where a row's tokens come from; estimates are what an operator looks at."""

    title = "tokens from"
    parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("estimate", "An estimate: the upstream's numbers were missing or wrong"),
            ("partial", "What was delivered of a stream cut short"),
            ("provider", "The upstream"),
            ("none", "Nothing was used"),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(usage_source=self.value()) if self.value() else queryset


class TimeFilter(RangeDateTimeFilter):
    """A range of moments, in the installation's time zone; a moment is a place in the order of request ids."""

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        for bound, lookup in (("from", "gte"), ("to", "lt")):
            day, time = (self.used_parameters.get(f"{self.parameter_name}_{bound}_{part}") or "" for part in (0, 1))
            moment = parse_datetime_str(f"{day} {time or '00:00:00'}") if day else None
            if moment:
                first = usage.first_id(timezone.make_aware(moment))
                queryset = queryset.filter(**{f"request_id__{lookup}": first})
        return queryset


@admin.register(Usage)
class UsageAdmin(ReadOnly, ModelAdmin):
    list_display = ("created_at", "model", "outcome", "who", "provider", "tokens", "cost", "charge", "duration")
    list_filter = (
        ModelFilter,
        KeyFilter,
        StatusFilter,
        SourceFilter,
        "streamed",
        "dialect",
        ("created_at", TimeFilter),
    )
    list_filter_submit = True
    list_per_page = 50
    list_fullwidth = True
    search_fields = ("=request_id", "=session_id", "model__istartswith")
    search_help_text = "A request id, a session id or the beginning of a model's name"
    # The order of ids is that of time, and has an index.
    ordering = ("-request_id",)
    sortable_by = ()
    paginator = InfinitePaginator
    show_full_result_count = False
    readonly_fields = ("user", "key", "organization", "provider", "cost", "charge", "markup")
    fieldsets = (
        (None, {"fields": ("request_id", "created_at", "model", "dialect", "streamed", "status", "error_code")}),
        ("Who", {"fields": ("user", "key", "organization", "session_id", "client", "labels")}),
        (
            "What",
            {
                "fields": (
                    ("input_tokens", "cache_read_tokens", "cache_write_tokens"),
                    ("output_tokens", "reasoning_tokens", "audio_tokens"),
                    ("searches", "service_tier", "usage_source"),
                    ("cost", "markup", "charge", "price_id"),
                )
            },
        ),
        ("Where", {"fields": ("provider", "target_id", "first_byte_ms", "duration_ms")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Usage]:
        names = {
            "key_display": Subquery(APIKey.objects.filter(pk=OuterRef("key_id")).values("display")[:1]),
            "user_email": Subquery(User.objects.filter(pk=OuterRef("user_id")).values("email")[:1]),
            "organization_name": Subquery(
                Organization.objects.filter(pk=OuterRef("organization_id")).values("name")[:1]
            ),
            "provider_slug": Subquery(Provider.objects.filter(pk=OuterRef("provider_id")).values("slug")[:1]),
        }
        return super().get_queryset(request).annotate(**names)

    @display(
        description="Status",
        label={"succeeded": "success", "refused": "warning", "limited": "warning", "failed": "danger"},
    )
    def outcome(self, usage: Usage) -> tuple[str, str]:
        kind = {4: "refused", 5: "failed"}.get(usage.status // 100, "succeeded")
        return ("limited" if usage.status == 429 else kind, f"{usage.status} {usage.error_code}".strip())

    @display(description="Key")
    def key(self, usage: Any) -> str:
        return usage.key_display or f"key {usage.key_id}"

    @display(description="User")
    def user(self, usage: Any) -> str:
        return usage.user_email or f"user {usage.user_id}"

    @display(description="Organization")
    def organization(self, usage: Any) -> str:
        return usage.organization_name or f"organization {usage.organization_id}"

    @display(description="Provider")
    def provider(self, usage: Any) -> str:
        return format_html('<span class="whitespace-nowrap">{}</span>', usage.provider_slug or "")

    @display(description="Tokens in, out")
    def tokens(self, usage: Usage) -> str:
        asked = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        return format_html(
            '<span class="whitespace-nowrap">{}, {}</span>',
            f"{asked:,}",
            f"{usage.output_tokens + usage.reasoning_tokens:,}",
        )

    @display(description="Who", header=True)
    def who(self, usage: Usage) -> list[str]:
        return [self.user(usage), self.key(usage)]

    @display(description="Upstream cost")
    def cost(self, usage: Usage) -> str:
        return f"${usage.cost_nanos / money.NANOS_PER_DOLLAR:.6f}"

    @display(description="Charge")
    def charge(self, usage: Usage) -> str:
        return f"${usage.charge_nanos / money.NANOS_PER_DOLLAR:.6f}"

    @display(description="Markup")
    def markup(self, usage: Usage) -> str:
        return money.factor(usage.markup_ppm)

    @display(description="Duration")
    def duration(self, usage: Usage) -> str:
        return f"{usage.duration_ms / 1000:.2f}\N{NO-BREAK SPACE}s"
