"""The admin's pages of spending limits and of their buckets: what is left, and the refill.

No form writes what was spent or is held: a refill does, on two pages with a reason. Amounts are dollars.
"""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.postgres.fields import ArrayField
from django.db.models import BigIntegerField, Case, CharField, Count, Exists, Func, OuterRef, QuerySet, Subquery, When
from django.db.models.functions import Cast, Substr
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from accounts.models import Grant, User
from billing import buckets, money
from billing.admin import two_steps
from billing.admin.amounts import cell, dollars_field
from billing.admin.two_steps import Asked, Deed, ReasonForm, Refused
from billing.buckets import Standing
from billing.models import Bucket, SpendingLimit
from billing.spending import OWN

SHOWN_MAX = 50


class LimitForm(forms.ModelForm):  # type: ignore[type-arg]
    """A definition in dollars."""

    capacity_nanos = dollars_field(
        label="Capacity", help_text="In dollars: what a full bucket holds, or what a period's budget is. 0 refuses all."
    )
    rate_nanos = dollars_field(
        label="Rate", required=False, help_text="In dollars: what flows back in each period, where it refills."
    )

    class Meta:
        model = SpendingLimit
        fields = ("name", "kind", "capacity_nanos", "rate_nanos", "period", "hard", "subject", "enabled")
        # Help is HTML.
        help_texts = {"name": "As grants name it; with &lt;user&gt; in it, each user has a bucket of its own."}

    def clean_rate_nanos(self) -> int:
        """An empty rate is none."""
        return self.cleaned_data["rate_nanos"] or 0

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if data.get("kind") == SpendingLimit.CALENDAR and data.get("rate_nanos"):
            self.add_error("rate_nanos", "A budget by calendar starts anew with each period; leave its rate empty.")
        return data


@admin.register(SpendingLimit)
class SpendingLimitAdmin(ModelAdmin):
    form = LimitForm
    list_display = ("name", "capacity", "pace", "whom", "stops", "enabled", "bucket_count", "source")
    list_filter = ("enabled", "kind", "hard", "source")
    list_fullwidth = True
    search_fields = ("name", "subject")
    ordering = ("name",)
    readonly_fields = ("source", "binds", "its_buckets")
    fieldsets = (
        (None, {"fields": ("name", "enabled", "source")}),
        ("How much", {"fields": ("kind", "capacity_nanos", ("rate_nanos", "period"), "hard")}),
        ("Whom it binds", {"fields": ("subject", "binds")}),
        ("Buckets", {"fields": ("its_buckets",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[SpendingLimit]:
        found: QuerySet[SpendingLimit] = super().get_queryset(request).annotate(bucket_counted=Count("buckets"))
        name = Func(
            OuterRef("name"), template="ARRAY[%(expressions)s]", output_field=ArrayField(CharField(max_length=150))
        )
        return found.annotate(granted=Exists(Grant.objects.filter(enabled=True, quotas__contains=name)))

    def get_fieldsets(self, request: HttpRequest, obj: SpendingLimit | None = None) -> Any:
        return self.fieldsets if obj else self.fieldsets[:3]

    def save_model(self, request: HttpRequest, obj: SpendingLimit, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        warn_of_undefined(request)

    def delete_model(self, request: HttpRequest, obj: SpendingLimit) -> None:
        super().delete_model(request, obj)
        warn_of_undefined(request)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        super().delete_queryset(request, queryset)
        warn_of_undefined(request)

    @display(description="Capacity", ordering="capacity_nanos")
    def capacity(self, limit: SpendingLimit) -> str:
        return cell(limit.capacity_nanos)

    @display(description="Comes back")
    def pace(self, limit: SpendingLimit) -> str:
        if limit.kind == SpendingLimit.CALENDAR:
            return f"each {limit.period} (UTC)"
        return f"${money.shown(limit.rate_nanos)} in a {limit.period}" if limit.rate_nanos else "by hand only"

    @display(description="Binds")
    def whom(self, limit: Any) -> str:
        return ", ".join(filter(None, [limit.subject, "by grants" if limit.granted else ""])) or "nobody"

    @display(description="Binds")
    def binds(self, limit: SpendingLimit) -> str:
        names = [limit.subject] if limit.subject else []
        for grant in Grant.objects.filter(quotas__contains=[limit.name], enabled=True).order_by("pk"):
            names.append(f"by grant: {', '.join(grant.subjects)}")
        return "; ".join(names) or "nobody: write a subject here, or its name into a grant"

    @display(description="Used up", label={"refuses": "danger", "only tells": "info"})
    def stops(self, limit: SpendingLimit) -> str:
        return "refuses" if limit.hard else "only tells"

    @display(description="Buckets", ordering="bucket_counted")
    def bucket_count(self, limit: Any) -> int:
        return int(limit.bucket_counted)

    @display(description="Buckets")
    def its_buckets(self, limit: SpendingLimit) -> str:
        rows = limit.buckets.select_related("limit").order_by("-spent_nanos", "pk")[:SHOWN_MAX]
        lines = [
            (reverse("admin:billing_bucket_change", args=[each.bucket.id]), each.name, state_of(each))
            for each in buckets.standings(rows, timezone.now())
        ]
        if not lines:
            return "None yet: a bucket is made with the first request that needs it."
        more = reverse("admin:billing_bucket_changelist") + f"?limit__id__exact={limit.pk}"
        return format_html(
            '{}<a class="font-semibold" href="{}">All buckets of this limit</a>',
            format_html_join("", '<div><a class="font-semibold" href="{}">{}</a>: {}</div>', lines),
            more,
        )


def warn_of_undefined(request: HttpRequest) -> None:
    """Warn of limits that grants name and nobody defines: renamed, deleted, or never made."""
    defined = set(SpendingLimit.objects.values_list("name", flat=True))
    named = Grant.objects.filter(enabled=True).exclude(quotas=[]).values_list("quotas", flat=True)
    for name in sorted({name for quotas in named for name in quotas} - defined):
        messages.warning(
            request, f"A grant names the spending limit {name}, which is not defined: whoever it names is refused."
        )


def state_of(standing: Standing) -> str:
    """Return a bucket's state in a line."""
    bucket = standing.bucket
    left = money.shown(max(0, standing.left_nanos))
    line = f"${left} left, ${money.shown(bucket.spent)} spent, ${money.shown(bucket.held)} held"
    return f"{line}, full {refilled(standing)}"


def refilled(standing: Standing) -> str:
    """Return when a bucket is full again."""
    if standing.full_at is None:
        return "by a refill only"
    if standing.left_nanos >= standing.bucket.capacity:
        return "now"
    return f"at {standing.full_at:%Y-%m-%d %H:%M} UTC"


class RefillForm(ReasonForm):
    """Why a bucket is refilled."""


def preview(row: Bucket, _asked: Asked) -> list[tuple[str, Any]]:
    """Show what is given back; raise Refused where nothing was spent."""
    [standing] = buckets.standings([row], timezone.now())
    if not standing.bucket.spent:
        raise Refused(f"Nothing of {standing.name} is spent.")
    return [
        ("Bucket", standing.name),
        ("Left now", cell(max(0, standing.left_nanos))),
        ("Given back", cell(standing.bucket.spent)),
        ("Left afterwards", cell(standing.left_nanos + standing.bucket.spent)),
    ]


def perform(row: Bucket, _asked: Asked) -> str:
    """Refill a bucket."""
    [standing] = buckets.standings([row], timezone.now())
    return f"Refilled {standing.name} by ${money.shown(buckets.refill(row.pk))}."


REFILL = Deed(
    "Refill",
    "Gives everything back that was spent of this bucket. What running requests hold stays held. No money moves.",
    RefillForm,
    preview,
    perform,
)


@admin.register(Bucket)
class BucketAdmin(ModelAdmin):
    list_display = ("who", "left", "spent", "held", "capacity", "full")
    list_filter = (("limit", admin.RelatedOnlyFieldListFilter), "limit__kind")
    list_fullwidth = True
    search_fields = ("limit__name", "=subject")
    ordering = ("limit__name", "subject", "pk")
    actions_detail = ("refill",)
    fields = ("limit", "who", "left", "spent", "held", "capacity", "full", "told")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Bucket]:
        owner = Case(
            When(subject__startswith=OWN, then=Cast(Substr("subject", len(OWN) + 1), BigIntegerField())),
            output_field=BigIntegerField(),
        )
        email = Subquery(User.objects.filter(pk=OuterRef("owner_id")).values("email")[:1])
        found: QuerySet[Bucket] = super().get_queryset(request).select_related("limit")
        return found.annotate(owner_id=owner).annotate(email=email)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Bucket | None = None) -> bool:
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        nothing_to_save = {"show_save": False, "show_save_and_continue": False}
        return super().change_view(request, object_id, form_url, nothing_to_save | (extra_context or {}))

    def _now(self, row: Bucket) -> Standing:
        found: Standing | None = getattr(row, "standing", None)
        if found is None:
            found = buckets.standing(row, getattr(row, "email", None), timezone.now())
            row.standing = found  # type: ignore[attr-defined]
        return found

    @display(description="Bucket")
    def who(self, row: Bucket) -> str:
        return self._now(row).name

    @display(description="Left")
    def left(self, row: Bucket) -> str:
        return cell(self._now(row).left_nanos)

    @display(description="Spent", ordering="spent_nanos")
    def spent(self, row: Bucket) -> str:
        return cell(self._now(row).bucket.spent)

    @display(description="Held", ordering="held_nanos")
    def held(self, row: Bucket) -> str:
        return cell(row.held_nanos)

    @display(description="Capacity", ordering="limit__capacity_nanos")
    def capacity(self, row: Bucket) -> str:
        return cell(row.limit.capacity_nanos)

    @display(description="Full again")
    def full(self, row: Bucket) -> str:
        return refilled(self._now(row))

    @display(description="Told by mail")
    def told(self, row: Bucket) -> str:
        if not row.alerted_percent or row.alerted_at is None:
            return "nothing yet"
        return f"{row.alerted_percent} %, {row.alerted_at:%Y-%m-%d %H:%M} UTC"

    @action(description="Refill", icon="water_drop", permissions=["change"])
    def refill(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404(f"There is no bucket {object_id}.")
        return two_steps.run(request, self, row, REFILL, reverse("admin:billing_bucket_change", args=[row.pk]))
