"""GET usage: what an organization used, by day, model, key or user, from the sums of the hours that are over.

Of the table of requests only the last hour's rows are read, so this costs the same however many there were before. A
team's own gateway (APERTURE_MODE=team) also tells what the upstreams cost; to an organization that buys, that is the
house's business.
"""

from datetime import date
from typing import Any

from django.conf import settings
from django.db.models import QuerySet, Sum
from django.http import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import APIKey, User
from billing.api import amounts, csv
from billing.api.queries import DayRange, IdField, asked
from billing.api.view import OrganizationView, bounded
from billing.models import UsageByDay

GROUPS = {"day": "day", "model": "model", "key": "key_id", "user": "user_id"}
COUNTS = ("requests_count", "failed_count")
TOKENS = (
    "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "audio_tokens",
)  # fmt: skip
MONEY = ("charge_nanos", "cost_nanos")
ROWS_MAX = 1_000


class Filters(DayRange):
    """Days, and whose or what requests."""

    key = IdField()
    user = IdField()
    model = serializers.CharField(required=False, max_length=256)


class UsageQuery(Filters):
    """How to group: one or more of day, model, key and user, separated by commas."""

    group_by = serializers.CharField(default="day")

    def validate_group_by(self, text: str) -> list[str]:
        """Return the groups in the order in which they were named."""
        names = text.split(",")
        if len(set(names)) != len(names) or not set(names) <= set(GROUPS):
            raise serializers.ValidationError(f"Write some of {', '.join(GROUPS)}, separated by commas.")
        return names


class Usage(OrganizationView):
    """Sums of an organization's usage."""

    def get(self, request: Request) -> Response:
        """Return the groups, the newest day and the dearest first, and the total of all."""
        wanted = asked(UsageQuery, request)
        with bounded():
            rows = filtered(self.organization.pk, wanted)
            found = list(grouped(rows, wanted["group_by"])[: ROWS_MAX + 1])
            total = rows.aggregate(**sums())
            named = names(self.organization.pk, found)
        return Response(
            {
                "from": wanted["from"].isoformat(),
                "to": wanted["to"].isoformat(),
                "group_by": wanted["group_by"],
                "data": [shape(row, named) for row in found[:ROWS_MAX]],
                "truncated": len(found) > ROWS_MAX,
                "total": shape(total, named),
            }
        )


class UsageExport(OrganizationView):
    """The sums by day, user, key and model as a table."""

    def get(self, request: Request) -> HttpResponseBase:
        """Return all sums that the filters let through, oldest first, as CSV."""
        wanted = asked(Filters, request)
        organization_id = self.organization.pk

        def following(last: dict[str, Any] | None) -> list[dict[str, Any]]:
            with bounded():
                found = after(filtered(organization_id, wanted), last)
                named = names(organization_id, found)
            return [row | shape(row, named) | {"key_id": row["key_id"], "user_id": row["user_id"]} for row in found]

        return csv.answer("usage", export_columns(), following)


def tells_cost() -> bool:
    """Tell whether what the upstreams cost is shown beside what was charged."""
    return bool(settings.MODE == "team")


def export_columns() -> tuple[str, ...]:
    """Return the columns of the exported table."""
    dollars = ("charge", "charge_nanos", *(("cost", "cost_nanos") if tells_cost() else ()))
    return ("day", "user_id", "user_email", "key_id", "key_name", "model", *COUNTS, *TOKENS, *dollars)


def filtered(organization_id: int, wanted: dict[str, Any]) -> QuerySet[UsageByDay]:
    """Return an organization's rows of these days that the filters let through."""
    rows = UsageByDay.objects.filter(
        organization_id=organization_id, day__gte=wanted["from"], day__lte=wanted["to"]
    ).order_by()
    for name, column in (("key", "key_id"), ("user", "user_id"), ("model", "model")):
        if name in wanted:
            rows = rows.filter(**{column: wanted[name]})
    return rows


def sums() -> dict[str, Any]:
    """Return the sums of all counts."""
    return {f"all_{name}": Sum(name) for name in (*COUNTS, *TOKENS, *MONEY)}


def grouped(rows: QuerySet[UsageByDay], groups: list[str]) -> Any:
    """Return rows of sums: by day the newest first, then the dearest first."""
    dearest = ("-all_charge_nanos", "-all_cost_nanos", "-all_requests_count", *(GROUPS[name] for name in groups))
    order = ("-day", *dearest) if "day" in groups else dearest
    return rows.values(*(GROUPS[name] for name in groups)).annotate(**sums()).order_by(*order)


KEYSET = ("day", "key_id", "user_id", "model")


def after(rows: QuerySet[UsageByDay], last: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the batch of rows that comes after this one, in their own order."""
    if last is not None:
        place = "(day, key_id, user_id, model) > (%s, %s, %s, %s)"
        rows = rows.extra(where=[place], params=[last[name] for name in KEYSET])  # noqa: S610
    return list(rows.values(*KEYSET).annotate(**sums()).order_by(*KEYSET)[: csv.BATCH_ROWS])


Names = dict[str, dict[int, dict[str, Any]]]


def names(organization_id: int, rows: list[dict[str, Any]]) -> Names:
    """Return what these rows' keys and users are called."""
    key_ids = {row["key_id"] for row in rows if "key_id" in row}
    user_ids = {row["user_id"] for row in rows if "user_id" in row}
    keys = APIKey.objects.filter(pk__in=key_ids, organization_id=organization_id) if key_ids else APIKey.objects.none()
    users = User.objects.filter(pk__in=user_ids, keys__organization_id=organization_id).distinct()
    return {
        "key": {key.pk: {"key_name": key.name, "key_display": key.display} for key in keys},
        "user": {user.pk: {"user_email": user.email} for user in (users if user_ids else [])},
    }


def shape(row: dict[str, Any], named: Names) -> dict[str, Any]:
    """Return one group's row, or the total's."""
    found: dict[str, Any] = {}
    if "day" in row:
        day: date = row["day"]
        found["day"] = day.isoformat()
    if "model" in row:
        found["model"] = row["model"]
    if "key_id" in row:
        nobody = {"key_name": None, "key_display": None}
        found |= {"key": row["key_id"], **named["key"].get(row["key_id"], nobody)}
    if "user_id" in row:
        found |= {"user": row["user_id"], **named["user"].get(row["user_id"], {"user_email": None})}
    found |= {name: int(row[f"all_{name}"] or 0) for name in (*COUNTS, *TOKENS)}
    found |= amounts.both("charge", int(row["all_charge_nanos"] or 0))
    if tells_cost():
        found |= amounts.both("cost", int(row["all_cost_nanos"] or 0))
    return found
