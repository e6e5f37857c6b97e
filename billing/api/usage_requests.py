"""GET usage/requests: an organization's finished requests, newest first.

A request id begins with the time (UUID version 7), so the order of the index is the order of time, a moment is a
place in it, and months that were not asked for are not read.
"""

import uuid
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import usage
from billing.api import amounts, csv
from billing.api.queries import IdField, MomentRange, Page, asked, iso
from billing.api.usage_days import tells_cost
from billing.api.view import OrganizationView, bounded
from billing.models import Usage

PLAIN = (
    "model", "status", "error_code", "key_id", "user_id", "streamed", "input_tokens", "cache_read_tokens",
    "cache_write_tokens", "output_tokens", "reasoning_tokens", "audio_tokens", "searches", "usage_source",
    "service_tier", "first_byte_ms", "duration_ms", "session_id", "client", "labels",
)  # fmt: skip
OUTCOMES = {"succeeded": (0, 400), "refused": (400, 500), "failed": (500, 1000)}


class RequestsQuery(MomentRange):
    """Filters of the requests."""

    key = IdField()
    user = IdField()
    model = serializers.CharField(required=False, max_length=256)
    session = serializers.CharField(required=False, max_length=64)
    outcome = serializers.ChoiceField(choices=sorted(OUTCOMES), required=False)


class RequestsPage(RequestsQuery, Page):
    """A page of requests: those before the one with this id."""

    before = serializers.UUIDField(required=False)


class Requests(OrganizationView):
    """An organization's requests."""

    def get(self, request: Request) -> Response:
        """Return a page of requests and where the next one begins."""
        wanted = asked(RequestsPage, request)
        with bounded():
            found = list(filtered(self.organization.pk, wanted)[: wanted["limit"] + 1])
        rows = found[: wanted["limit"]]
        return Response(
            {
                "data": [shape(row) for row in rows],
                "next_before": str(rows[-1].request_id) if len(found) > len(rows) else None,
            }
        )


class RequestsExport(OrganizationView):
    """The same as a table."""

    def get(self, request: Request) -> HttpResponseBase:
        """Return all requests that the filters let through as CSV."""
        wanted = asked(RequestsQuery, request)
        organization_id = self.organization.pk

        def following(last: dict[str, Any] | None) -> list[dict[str, Any]]:
            before = wanted | {"before": uuid.UUID(last["request_id"])} if last else wanted
            with bounded():
                return [shape(row) for row in filtered(organization_id, before)[: csv.BATCH_ROWS]]

        return csv.answer("requests", export_columns(), following)


def export_columns() -> tuple[str, ...]:
    """Return the columns of the exported table."""
    cost = ("upstream_cost", "upstream_cost_nanos") if tells_cost() else ()
    return ("request_id", "began_at", "ended_at", *PLAIN, "total_cost", "total_cost_nanos", *cost)


def filtered(organization_id: int, wanted: dict[str, Any]) -> QuerySet[Usage]:
    """Return an organization's requests, newest first, that the filters let through."""
    rows = Usage.objects.filter(organization_id=organization_id).order_by("-request_id")
    if "before" in wanted:
        rows = rows.filter(request_id__lt=wanted["before"])
    if "from" in wanted:
        rows = rows.filter(request_id__gte=usage.first_id(wanted["from"]))
    if "to" in wanted:
        rows = rows.filter(request_id__lt=usage.first_id(wanted["to"]))
    for name, column in (("key", "key_id"), ("user", "user_id"), ("model", "model"), ("session", "session_id")):
        if name in wanted:
            rows = rows.filter(**{column: wanted[name]})
    if "outcome" in wanted:
        low, high = OUTCOMES[wanted["outcome"]]
        rows = rows.filter(status__gte=low, status__lt=high)
    return rows


def shape(row: Usage) -> dict[str, Any]:
    """Return a request as its organization sees it; `total_cost` is what `GET /v1/generation` tells."""
    paid = usage.paid_nanos(row.charge_nanos, row.cost_nanos, row.markup_ppm)
    found = {
        "request_id": str(row.request_id),
        "began_at": iso(usage.began_at(row.request_id)),
        "ended_at": iso(row.created_at),
        **{name: getattr(row, name) for name in PLAIN},
        **amounts.both("total_cost", paid),
    }
    return found | (amounts.both("upstream_cost", row.cost_nanos) if tells_cost() else {})
