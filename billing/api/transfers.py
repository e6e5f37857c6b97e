"""GET ledger: the transfers of an organization's wallet, newest first, seen from the wallet.

The two sides of a wallet are two indexes; a page takes its rows from both and merges them. Nothing orders transfers by
time but their ids, so a moment is first found among the ids, by halving.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q
from django.http import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import money
from billing.api import csv
from billing.api.queries import IdField, MomentRange, Page, asked, iso
from billing.api.view import MANAGERS, OrganizationView, bounded
from billing.models import Kind, Transfer

# Kinds by their names on the wire. The house's own cost is never in a wallet.
KINDS = {kind.name.lower(): kind for kind in Kind if kind is not Kind.COST}
# An id is given before its transaction commits, and no transaction lasts so long.
ID_SLACK = timedelta(hours=1)
# Between them a moment can be moved by the slack.
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC) + ID_SLACK, datetime.max.replace(tzinfo=UTC) - ID_SLACK


class LedgerQuery(MomentRange):
    """Filters of the ledger."""

    kind = serializers.ChoiceField(choices=sorted(KINDS), required=False)


class LedgerPage(LedgerQuery, Page):
    """A page of the ledger: the lines before the one with this id."""

    before = IdField()


class Ledger(OrganizationView):
    """The lines of an organization's ledger."""

    readers = MANAGERS

    def get(self, request: Request) -> Response:
        """Return a page of lines and where the next one begins."""
        wanted = asked(LedgerPage, request)
        with bounded():
            found = page(self.organization.pk, wanted, wanted["limit"] + 1)
            lines = found[: wanted["limit"]]
            corrected_by = corrections(lines)
        return Response(
            {
                "data": [shape(line, self.organization.pk, corrected_by) for line in lines],
                "next_before": lines[-1].pk if len(found) > len(lines) else None,
            }
        )


class LedgerExport(OrganizationView):
    """The same as a table."""

    readers = MANAGERS

    def get(self, request: Request) -> HttpResponseBase:
        """Return all lines that the filters let through as CSV."""
        wanted = asked(LedgerQuery, request)
        organization_id = self.organization.pk

        def following(last: dict[str, Any] | None) -> list[dict[str, Any]]:
            before = wanted | {"before": last["id"]} if last else wanted
            with bounded():
                lines = page(organization_id, before, csv.BATCH_ROWS)
                corrected_by = corrections(lines)
            return [shape(line, organization_id, corrected_by) for line in lines]

        return csv.answer("ledger", COLUMNS, following)


COLUMNS = ("id", "created_at", "kind", "amount", "amount_nanos", "request_id", "reference", "corrects", "corrected_by")


def page(organization_id: int, wanted: dict[str, Any], rows_max: int) -> list[Transfer]:
    """Return up to ROWS_MAX transfers of a wallet, newest first, that the filters let through."""
    if not (ids := id_range(wanted.get("from"), wanted.get("to"))):
        return []
    bounds = Q(pk__gte=ids[0], pk__lte=ids[1])
    if "before" in wanted:
        bounds &= Q(pk__lt=wanted["before"])
    if "from" in wanted:
        bounds &= Q(created_at__gte=wanted["from"])
    if "to" in wanted:
        bounds &= Q(created_at__lt=wanted["to"])
    paid = bounds & Q(debit_id=organization_id, debit_id__gt=0)
    got = bounds & Q(credit_id=organization_id, credit_id__gt=0)
    if kind := wanted.get("kind"):
        paid, got = paid & Q(kind=KINDS[kind]), got & Q(kind=KINDS[kind])
        if KINDS[kind] is not Kind.CHARGE:
            paid &= Q(request_id=None)
    sides = [Transfer.objects.filter(side).order_by("-pk")[:rows_max] for side in (paid, got)]
    return list(sides[0].union(sides[1], all=True).order_by("-id")[:rows_max])


def corrections(lines: Iterable[Transfer]) -> dict[int, int]:
    """Return the correction of each of these lines that has one; a transfer is corrected once."""
    found = Transfer.objects.filter(corrects__in=[line.pk for line in lines])
    return {corrects_id: pk for corrects_id, pk in found.values_list("corrects_id", "pk") if corrects_id}


def shape(line: Transfer, organization_id: int, corrected_by: dict[int, int]) -> dict[str, Any]:
    """Return a transfer as its wallet sees it: what it gave is below zero. Why and by whom is the operator's."""
    nanos = line.amount_nanos if line.credit_id == organization_id else -line.amount_nanos
    return {
        "id": line.pk,
        "created_at": iso(line.created_at),
        "kind": Kind(line.kind).name.lower(),
        "amount": money.shown(nanos),
        "amount_nanos": nanos,
        "request_id": str(line.request_id) if line.request_id else None,
        "reference": line.reference,
        "corrects": line.corrects_id,
        "corrected_by": corrected_by.get(line.pk),
    }


def id_range(begins_at: datetime | None, ends_at: datetime | None) -> tuple[int, int] | None:
    """Return the ids between which the transfers of this time are, a little more than needed; None if there are none.

    Both bounds are included.
    """
    newest = Transfer.objects.order_by("-pk").values_list("pk", flat=True).first()
    if newest is None:
        return None
    first = _first_id(max(begins_at, EARLIEST) - ID_SLACK, newest) if begins_at else 1
    last = _first_id(min(ends_at, LATEST) + ID_SLACK, newest) if ends_at else newest
    return first, last


def _first_id(moment: datetime, newest: int) -> int:
    """Return about the smallest id of a transfer that was made at this moment or later, else the newest."""
    low, high = 1, newest
    while low < high:
        middle = (low + high) // 2
        found = Transfer.objects.filter(pk__gte=middle).order_by("pk").values_list("pk", "created_at")[0]
        if found[1] < moment:
            low = min(found[0] + 1, high)
        else:
            high = middle
    return low
