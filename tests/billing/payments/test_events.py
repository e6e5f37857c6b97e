"""What an event is about, and that the documentation lists the events that are followed."""

import re
from pathlib import Path
from typing import Any

import pytest
import stripe

from billing.payments import events

pytestmark = pytest.mark.server

DOCUMENT = (Path(__file__).parents[3] / "docs" / "payments.md").read_text(encoding="utf-8")
BLOCK = re.search(r"```\n(.*?)```", DOCUMENT, re.DOTALL)
DOCUMENTED = BLOCK[1].split() if BLOCK else []


def followed(kind: str, thing: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return who would follow what for an event."""
    seen: list[tuple[str, str]] = []
    routes = [
        (prefix, field, lambda found, name=follow.__name__: seen.append((name, found)))
        for prefix, field, follow in events.ROUTES
    ]
    monkeypatch.setattr(events, "ROUTES", routes)
    events.handle(kind, {"data": {"object": thing}})
    return seen


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_every_documented_event_is_followed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(followed(kind, {"id": "x_1", "payment_intent": "pi_1"}, monkeypatch)) == 1


def test_all_of_them_are_documented() -> None:
    assert len(DOCUMENTED) == 18
    assert f"`{stripe.api_version}`" in DOCUMENT


@pytest.mark.parametrize(
    ("kind", "thing", "expected"),
    [
        ("checkout.session.completed", {"id": "cs_1"}, [("session", "cs_1")]),
        ("invoice.paid", {"id": "in_1"}, [("invoice", "in_1")]),
        ("invoice.upcoming", {"id": "in_1"}, []),
        ("invoiceitem.created", {"id": "ii_1"}, []),
        ("invoice_payment.paid", {"id": "inpay_1"}, []),
        ("customer.subscription.deleted", {"id": "sub_1"}, [("subscription", "sub_1")]),
        ("charge.dispute.closed", {"id": "du_1", "payment_intent": "pi_1"}, [("intent", "pi_1")]),
        ("charge.refund.updated", {"id": "re_1", "payment_intent": "pi_1"}, [("intent", "pi_1")]),
        ("charge.refunded", {"id": "ch_1", "payment_intent": {"id": "pi_1"}}, [("intent", "pi_1")]),
        ("refund.created", {"id": "re_1", "payment_intent": None}, []),
        ("charge.succeeded", {"id": "ch_1", "payment_intent": "pi_1"}, []),
        ("payout.paid", {"id": "po_1"}, []),
    ],
)
def test_an_event_says_where_to_look(
    kind: str, thing: dict[str, Any], expected: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert followed(kind, thing, monkeypatch) == expected
