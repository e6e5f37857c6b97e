"""GET receipts, and each as a page to print: the papers of every credit that an organization got.

A receipt is a view of its transfer: it has the transfer's number and can neither be lost nor changed.
"""

from typing import Any

from django.http import HttpResponse, HttpResponseBase
from django.template.loader import render_to_string
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api import amounts, payments
from billing.api.errors import Fault
from billing.api.queries import IdField, Page, Query, asked, iso
from billing.api.transfers import corrections
from billing.api.view import MANAGERS, OrganizationView, bounded
from billing.models import Kind, Payment, Transfer

# What each credit is called on paper. Only what was paid for is a receipt.
RECEIPT, STATEMENT = "Receipt", "Statement of credit"
PAPERS: dict[int, tuple[str, str]] = {
    Kind.TOP_UP: (RECEIPT, "Prepaid credit"),
    Kind.PLAN_CREDIT: (STATEMENT, "Credit included in the plan"),
    Kind.REDEEM: (STATEMENT, "Redeemed code"),
    Kind.CREDIT: (STATEMENT, "Credit by the operator"),
}
# Nothing is loaded but the one style sheet of this installation.
POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class ReceiptsPage(Page):
    """A page of receipts: those before the one with this id."""

    before = IdField()


class Receipts(OrganizationView):
    """The receipts of an organization."""

    readers = MANAGERS

    def get(self, request: Request) -> Response:
        """Return a page of receipts, newest first, and where the next one begins."""
        wanted = asked(ReceiptsPage, request)
        lines = Transfer.objects.filter(credit_id=self.organization.pk, kind__in=PAPERS)
        if "before" in wanted:
            lines = lines.filter(pk__lt=wanted["before"])
        with bounded():
            found = list(lines.order_by("-pk")[: wanted["limit"] + 1])
            shown = found[: wanted["limit"]]
            corrected_by, paid = corrections(shown), payments.of(shown)
        return Response(
            {
                "data": [shape(line, corrected_by, paid) for line in shown],
                "next_before": shown[-1].pk if len(found) > len(shown) else None,
            }
        )


class Receipt(OrganizationView):
    """One receipt to print."""

    readers = MANAGERS

    def get(self, request: Request, receipt_id: int) -> HttpResponseBase:
        """Return the page; raise Fault 404."""
        asked(Query, request)
        line = Transfer.objects.filter(pk=receipt_id, credit_id=self.organization.pk, kind__in=PAPERS).first()
        if line is None:
            raise Fault("not_found", "There is no such receipt.")
        receipt = shape(line, corrections([line]), payments.of([line]))
        page = render_to_string(
            "billing/receipt.html",
            {"receipt": receipt, "organization": self.organization, "created_at": line.created_at},
        )
        response = HttpResponse(page)
        response["Content-Security-Policy"] = POLICY
        return response


def number(line: Transfer) -> str:
    """Return the number of a receipt: its transfer's, which is nobody else's."""
    return f"AP-{line.created_at.year}-{line.pk:08d}"


def shape(line: Transfer, corrected_by: dict[int, int], paid: dict[str, Payment]) -> dict[str, Any]:
    """Return a receipt of a credit."""
    title, item = PAPERS[line.kind]
    payment = paid.get(line.reference or "")
    return {
        "id": line.pk,
        "number": number(line),
        "title": RECEIPT if payment else title,
        "item": item,
        "created_at": iso(line.created_at),
        "kind": Kind(line.kind).name.lower(),
        "currency": "USD",
        **amounts.both("amount", line.amount_nanos),
        "tokens": amounts.tokens(line.amount_nanos),
        "reference": line.reference,
        "corrected_by": corrected_by.get(line.pk),
        "payment": payments.shape(payment) if payment else None,
    }
