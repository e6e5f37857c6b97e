"""/dashboard: what there is, what was spent, what happened last, and what to do next.

Sums come from the days that are added up, and the last requests from the newest end of one index, so a year of usage
costs no more than a day. Owners and administrators see their organization's, members their own requests and no balance.
"""

from collections.abc import Mapping
from datetime import UTC, date, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.models import APIKey
from aperture_site.pages import chart, first_request, periods, reader
from aperture_site.pages.periods import Sums
from billing import usage
from billing.api import amounts
from billing.api.balance import wallet_of
from billing.api.view import bounded
from billing.models import Usage, UsageByDay, Wallet

LATEST = 8
LATELY = timedelta(days=31)


@require_safe
@login_required
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """Answer with the overview."""
    who = reader.of(request)
    now = timezone.now()
    wallet = wallet_of(who.organization.pk)
    today = now.astimezone(UTC).date()
    with bounded():
        days = by_day(who, wallet, today)
        latest = latest_requests(who)
    key = default_key(who)
    return render(
        request,
        "pages/overview.html",
        {
            "reader": who,
            "wallet": wallet,
            "tokens": amounts.tokens(max(0, wallet.available_nanos)),
            "periods": periods.periods(today, days),
            "chart": chart.draw(periods.charted(today, days)),
            "used": bool(latest) or any(sums.requests for sums in days.values()),
            "latest": latest,
            "unmetered": wallet.mode == Wallet.UNMETERED,
            "key": key,
            "curl": first_request.curl(first_request.PLACEHOLDER, first_request.model()),
            "base_url": first_request.base_url(),
        },
    )


@require_safe
@login_required
@never_cache
def latest_rows(request: HttpRequest) -> HttpResponse:
    """Answer with the rows of the latest requests alone, for a page that is open."""
    who = reader.of(request)
    with bounded():
        return render(request, "pages/latest.html", {"reader": who, "latest": latest_requests(who)})


def by_day(who: reader.Reader, wallet: Wallet, today: date) -> Mapping[date, Sums]:
    """Return the sums of each day that anything was used on."""
    rows = UsageByDay.objects.filter(organization_id=who.organization.pk, day__gte=periods.first_day(today)).order_by()
    if not who.oversees:
        rows = rows.filter(user_id=who.user.pk)
    money = "charge_nanos" if is_charged(wallet) else "cost_nanos"
    sums = rows.values("day").annotate(
        all_nanos=Sum(money), all_requests=Sum("requests_count"), all_failed=Sum("failed_count")
    )
    return {row["day"]: Sums(int(row["all_nanos"]), int(row["all_requests"]), int(row["all_failed"])) for row in sums}


def is_charged(wallet: Wallet) -> bool:
    """Tell whether spend is what the wallet paid; a team's unmetered wallet pays nothing, and its spend is the cost."""
    return bool(wallet.mode == Wallet.PREPAID or settings.MODE != "team")


def latest_requests(who: reader.Reader) -> list[Any]:
    """Return the newest requests, with when they began and what they cost their caller."""
    since = usage.first_id(timezone.now() - LATELY)
    rows = Usage.objects.filter(organization_id=who.organization.pk, request_id__gte=since)
    if not who.oversees:
        rows = rows.filter(user_id=who.user.pk)
    found: list[Any] = list(rows.order_by("-request_id")[:LATEST])
    for row in found:
        row.began_at = usage.began_at(row.request_id)
        row.paid_nanos = usage.paid_nanos(row.charge_nanos, row.cost_nanos, row.markup_ppm)
        row.tokens = row.input_tokens + row.output_tokens
    return found


def default_key(who: reader.Reader) -> APIKey | None:
    """Return the reader's own key that the overview names: the oldest one that is accepted."""
    own = APIKey.objects.managed_by(who.user).live(timezone.now()).filter(user=who.user, organization=who.organization)
    return own.prefetch_related("retired").order_by("pk").first()
