"""The admin's pages of the ledger: every transfer, and the house's accounts by month.

Transfers are read only; a wrong one is corrected by its opposite, which names it. The table grows without bound, so
nothing here counts it, and every filter has an index.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import OuterRef, Q, QuerySet, Subquery, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminSelectWidget

from accounts.models import Organization, User
from accounts.read_only import ReadOnly
from billing import ledger, money, partitions
from billing.admin import two_steps
from billing.admin.amounts import cell, rounded
from billing.admin.two_steps import Asked, Deed, ReasonForm, Refused
from billing.admin.usage import TimeFilter, TypedFilter
from billing.models import House, Transfer, Wallet

ORGANIZATIONS_MAX = 100
MONTHS_SHOWN = 24


def account_names(accounts: Iterable[int]) -> dict[int, str]:
    """Return what to call these accounts: an organization's name, or the house's account."""
    ids = set(accounts)
    names = {house.value: f"house: {house.label}" for house in House}
    names |= {pk: f"account {pk}" for pk in ids if pk > 0}
    return names | dict(Organization.objects.filter(pk__in=ids).values_list("pk", "name"))


def account_link(account: int, name: str | None) -> str:
    """Return a cell: a wallet's page behind its organization's NAME, or the house's account."""
    if account < 0:
        return format_html('<span class="whitespace-nowrap">house: {}</span>', House(account).label)
    address = reverse("admin:billing_wallet_change", args=[account])
    return format_html('<a class="hover:underline" href="{}">{}</a>', address, name or f"account {account}")


class OrganizationFilter(TypedFilter):
    """One side is an organization, by its id, its name or a member's e-mail."""

    title = "organization (id, name or e-mail)"
    parameter_name = "organization"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        text, organization_id = self.text(), self.id()
        if not text:
            return queryset
        if organization_id is not None:
            ids = [organization_id]
        else:
            named = Organization.objects.filter(Q(name__icontains=text) | Q(members__email__iexact=text))
            ids = list(named.values_list("pk", flat=True).distinct()[:ORGANIZATIONS_MAX])
        # The indexes hold wallets only, and are used where that is said.
        return queryset.filter(Q(debit_id__in=ids, debit_id__gt=0) | Q(credit_id__in=ids, credit_id__gt=0))


def preview_correction(transfer: Transfer, asked: Asked) -> list[tuple[str, Any]]:
    """Show the opposite transfer, and where it leaves the wallets."""
    if two_steps.over_limit(transfer.amount_nanos):
        raise Refused(
            f"The transfer is over {two_steps.limit_text()}, the most that one action may move "
            "(APERTURE_ADJUSTMENT_MAX_DOLLARS)."
        )
    if transfer.corrections.exists():
        raise Refused(f"Transfer {transfer.pk} was corrected already.")
    names = account_names([transfer.debit_id, transfer.credit_id])
    lines: list[tuple[str, Any]] = [
        ("Corrects", f"transfer {transfer.pk}, {transfer.get_kind_display()}"),
        ("Amount", cell(transfer.amount_nanos)),
        ("From", names[transfer.credit_id]),
        ("To", names[transfer.debit_id]),
    ]
    for account, change in ((transfer.credit_id, -transfer.amount_nanos), (transfer.debit_id, transfer.amount_nanos)):
        wallet = Wallet.objects.filter(pk=account).first()
        if wallet:
            lines.append((f"{names[account]} afterwards", cell(wallet.posted_nanos + change)))
    return lines


def correct(transfer: Transfer, asked: Asked) -> str:
    """Post the opposite."""
    preview_correction(transfer, asked)
    try:
        correction = ledger.correct(transfer, reason=asked.reason, actor_id=asked.actor_id)
    except ValueError as error:
        raise Refused(str(error)) from None
    return f"Corrected transfer {transfer.pk} (${money.shown(transfer.amount_nanos)}) by transfer {correction.pk}."


CORRECT = Deed(
    "Correct",
    "Posts the opposite transfer, which names this one; both stay in the books. It may take a wallet below zero.",
    ReasonForm,
    preview_correction,
    correct,
    dangerous=True,
)


@admin.register(Transfer)
class TransferAdmin(ReadOnly, ModelAdmin):
    list_display = ("time", "kind_shown", "amount", "giver", "taker", "about")
    list_display_links = ("time", "kind_shown")
    list_filter = (OrganizationFilter, "kind", ("created_at", TimeFilter))
    list_filter_submit = True
    list_per_page = 50
    list_fullwidth = True
    search_fields = ("=request_id", "=reference", "=id")
    search_help_text = "A request id, a reference such as a payment's, or a transfer's number"
    ordering = ("-id",)
    sortable_by = ()
    paginator = InfinitePaginator
    show_full_result_count = False
    actions_detail = ("correct",)
    fieldsets = (
        (None, {"fields": ("id", "created_at", "kind_shown", "amount", "giver", "taker")}),
        ("Why", {"fields": ("reason", "actor", "reference", "request_link")}),
        ("Corrections", {"fields": ("corrected", "corrected_by")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Transfer]:
        names = {
            f"{side}_name": Subquery(Organization.objects.filter(pk=OuterRef(f"{side}_id")).values("name")[:1])
            for side in ("debit", "credit")
        }
        return super().get_queryset(request).annotate(**names)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.house_view)
        return [path("house/", view, name="billing_transfer_house"), *super().get_urls()]

    def house_view(self, request: HttpRequest) -> HttpResponse:
        """Answer with the house's accounts in one month."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        months = {f"{month:%Y-%m}": month for month in months_until(timezone.now())}
        name = request.GET.get("month", "")
        name = name if name in months else next(iter(months))
        context = {
            **self.admin_site.each_context(request),
            "title": "House accounts",
            "form": MonthForm({"month": name}),
            **house_tables(months[name]),
        }
        return TemplateResponse(request, "admin/billing/house.html", context)

    @display(description="Time")
    def time(self, transfer: Transfer) -> str:
        return format_html('<span class="whitespace-nowrap">{}</span>', f"{transfer.created_at:%Y-%m-%d %H:%M:%S}")

    @display(description="Kind", label=True)
    def kind_shown(self, transfer: Transfer) -> str:
        return transfer.get_kind_display()

    @display(description="Amount")
    def amount(self, transfer: Transfer) -> str:
        return cell(transfer.amount_nanos)

    @display(description="From")
    def giver(self, transfer: Any) -> str:
        return account_link(transfer.debit_id, transfer.debit_name)

    @display(description="To")
    def taker(self, transfer: Any) -> str:
        return account_link(transfer.credit_id, transfer.credit_name)

    @display(description="Reason, reference or request")
    def about(self, transfer: Transfer) -> str:
        if transfer.reason or transfer.reference or transfer.request_id is None:
            return transfer.reason or transfer.reference or ""
        request_id = str(transfer.request_id)
        shown = f"{request_id[:8]}…{request_id[-12:]}"
        return format_html('<span class="whitespace-nowrap" title="{}">{}</span>', request_id, shown)

    @display(description="Posted by")
    def actor(self, transfer: Transfer) -> str:
        if transfer.actor_id is None:
            return "the system"
        user = User.objects.filter(pk=transfer.actor_id).first()
        return user.email if user else f"user {transfer.actor_id}"

    @display(description="Request")
    def request_link(self, transfer: Transfer) -> str:
        if transfer.request_id is None:
            return ""
        address = reverse("admin:billing_usage_change", args=[transfer.request_id])
        return format_html('<a class="hover:underline" href="{}">{}</a>', address, transfer.request_id)

    @display(description="It corrects")
    def corrected(self, transfer: Transfer) -> str:
        return self._links([transfer.corrects] if transfer.corrects else [])

    @display(description="Corrected by")
    def corrected_by(self, transfer: Transfer) -> str:
        return self._links(transfer.corrections.all())

    def _links(self, transfers: Iterable[Transfer]) -> str:
        for each in transfers:
            address = reverse("admin:billing_transfer_change", args=[each.pk])
            return format_html('<a class="hover:underline" href="{}">transfer {}</a>', address, each.pk)
        return "nothing"

    def has_correct_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return bool(request.user.has_perm("billing.change_transfer"))

    @action(description="Correct", icon="undo", permissions=["correct"])
    def correct(self, request: HttpRequest, object_id: str) -> HttpResponse:
        transfer = self.get_object(request, object_id)
        if transfer is None:
            raise Http404(f"There is no transfer {object_id}.")
        back = reverse("admin:billing_transfer_change", args=[transfer.pk])
        return two_steps.run(request, self, transfer, CORRECT, back)


def month_choices() -> list[tuple[str, str]]:
    """Return the months that can be chosen."""
    return [(f"{month:%Y-%m}", f"{month:%B %Y}") for month in months_until(timezone.now())]


class MonthForm(forms.Form):
    """Which month to sum."""

    month = forms.ChoiceField(
        choices=month_choices, widget=UnfoldAdminSelectWidget(attrs={"onchange": "this.form.submit()"})
    )


# What went into and out of each of the house's accounts from one moment until another.
HOUSE_SUMS = """
SELECT account, sum(came)::bigint, sum(went)::bigint
  FROM (SELECT credit_id AS account, amount_nanos AS came, 0 AS went FROM billing_transfer
         WHERE credit_id < 0 AND created_at >= %(begin)s AND created_at < %(end)s
        UNION ALL
        SELECT debit_id, 0, amount_nanos FROM billing_transfer
         WHERE debit_id < 0 AND created_at >= %(begin)s AND created_at < %(end)s) AS legs
 GROUP BY account
"""

MEANING = {
    House.REVENUE: "charges of requests, less corrections",
    House.UPSTREAM_COST: "what upstreams charge for those requests",
    House.UPSTREAM_PAYABLE: "owed to upstreams for them",
    House.CLEARING: "paid in by customers, less refunds and disputes of payments",
    House.PROMOTIONS: "credit that nobody paid for: by hand, by code, by plan",
    House.REFUNDS: "unused credit that was given back by hand",
    House.BAD_DEBT: "balances below zero that were written off",
    House.ADJUSTMENTS: "debits by hand",
}


def months_until(now: datetime) -> list[date]:
    """Return the first days of this month and those before it, newest first (UTC)."""
    this = now.astimezone(UTC).date().replace(day=1)
    return [partitions.month_after(this, -back) for back in range(MONTHS_SHOWN)]


def house_tables(month: date) -> dict[str, Any]:
    """Return the figures of MONTH and the table of accounts, for the page."""
    begin = datetime(month.year, month.month, 1, tzinfo=UTC)
    after = partitions.month_after(month, 1)
    end = datetime(after.year, after.month, 1, tzinfo=UTC)
    with connection.cursor() as cursor:
        cursor.execute(HOUSE_SUMS, {"begin": begin, "end": end})
        sums = {account: (came, went) for account, came, went in cursor.fetchall()}
    net = {house: came - went for house in House for came, went in [sums.get(house.value, (0, 0))]}
    revenue, cost = net[House.REVENUE], -net[House.UPSTREAM_COST]
    margin = f"{(revenue - cost) / revenue:.1%} of revenue" if revenue > 0 else ""
    owed = Wallet.objects.aggregate(posted=Sum("posted_nanos"), held=Sum("held_nanos"))
    rows = [
        [
            house.label.capitalize(),
            meaning,
            *(cell(part, plain=True) for part in (*sums.get(house, (0, 0)), net[house])),
        ]
        for house, meaning in MEANING.items()
    ]
    return {
        "figures": [
            ("Revenue", rounded(revenue), "charged for requests"),
            ("Upstream cost", rounded(cost), "of those requests"),
            ("Margin", rounded(revenue - cost), margin),
            ("Balances now", rounded(owed["posted"] or 0), format_html("{} held", rounded(owed["held"] or 0))),
        ],
        "accounts": {"headers": ["Account", "What it is", "In", "Out", "In less out"], "rows": rows},
    }
