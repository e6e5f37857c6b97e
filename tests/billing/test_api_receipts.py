"""Receipts: a paper for every credit, that prints without loading anything from elsewhere."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from accounts.models import Organization
from billing import ledger
from billing.models import House, Kind
from billing.money import of_dollars
from tests.billing.api_scenery import API, Acme, bearer, charged, credited, found_acme

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Acme:
    return found_acme()


def get(acme: Acme, address: str = "receipts", **query: Any) -> Any:
    return Client().get(f"{API}/{address}", query, **bearer(acme.key(acme.alice)))


def test_every_credit_has_a_receipt_and_nothing_else_has(acme: Acme) -> None:
    kinds = (Kind.TOP_UP, Kind.PLAN_CREDIT, Kind.REDEEM, Kind.CREDIT)
    made = [credited(acme, "5.00", kind) for kind in kinds]
    charged(acme, "1.00")
    correction = ledger.correct(made[0], reason="wrong")
    found = get(acme).json()["data"]
    assert [receipt["id"] for receipt in found] == [line.pk for line in made[::-1]]
    top_up = found[-1]
    assert (top_up["title"], top_up["amount"], top_up["tokens"]) == ("Receipt", "5.00", "50000")
    assert top_up["number"] == f"AP-{made[0].created_at.year}-{made[0].pk:08d}"
    assert top_up["corrected_by"] == correction.pk
    assert {receipt["title"] for receipt in found[:-1]} == {"Statement of credit"}


def test_receipts_come_in_pages(acme: Acme) -> None:
    made = [credited(acme, "1.00").pk for _ in range(5)]
    first = get(acme, limit=3).json()
    rest = get(acme, limit=3, before=first["next_before"]).json()
    assert [receipt["id"] for receipt in first["data"] + rest["data"]] == made[::-1]
    assert rest["next_before"] is None


def test_a_receipt_says_who_when_how_much_and_its_number(acme: Acme) -> None:
    line = credited(acme, "1234.50", reference="stripe:checkout:cs_1")
    answer = get(acme, f"receipts/{line.pk}")
    page = answer.content.decode()
    assert answer["Content-Type"] == "text/html; charset=utf-8"
    for shown in ("Acme", f"{line.created_at:%B %Y}", "$1234.50", f"{line.pk:08d}", "stripe:checkout:cs_1"):
        assert shown in page
    assert "corrected" not in page


def test_a_corrected_credit_says_so(acme: Acme) -> None:
    line = credited(acme, "1.00")
    correction = ledger.correct(line, reason="a secret between operators")
    page = get(acme, f"receipts/{line.pk}").content.decode()
    assert f"ledger line {correction.pk}" in page
    assert "secret" not in page


def test_another_organizations_receipt_and_what_is_no_credit_do_not_exist(acme: Acme) -> None:
    other = ledger.credit(acme.charlie.personal_organization.pk, of_dollars("1.00"), Kind.TOP_UP, House.CLEARING)
    assert other is not None
    for receipt_id in (other.pk, charged(acme, "1.00").pk, 10**9, 10**30):
        assert get(acme, f"receipts/{receipt_id}").status_code == 404


class Parts(HTMLParser):
    """What a page loads, and what a strict policy forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.forbidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.forbidden += [tag] if tag in ("script", "style", "iframe", "object", "form") else []
        for name, value in attrs:
            self.forbidden += [name] if name == "style" or name.startswith("on") else []
            self.loaded += [value or ""] if name in ("src", "href") and tag != "a" else []


def test_the_page_loads_one_style_sheet_of_ours_and_a_strict_policy_lets_it(acme: Acme) -> None:
    Organization.objects.filter(pk=acme.id).update(name="<script>alert(1)</script><b onclick=x style=x>")
    answer = get(acme, f"receipts/{credited(acme, '1.00').pk}")
    parts = Parts()
    parts.feed(answer.content.decode())
    assert not parts.forbidden
    assert parts.loaded == ["/static/billing/receipt.css"]
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "style-src 'self'" in policy
    assert "unsafe" not in policy


def test_the_style_sheet_is_light_prints_and_loads_nothing() -> None:
    path = finders.find("billing/receipt.css")
    assert isinstance(path, str)
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        text = file.read()
    assert "@media print" in text
    assert "@page" in text
    assert "prefers-color-scheme" not in text
    assert not re.search(r"url\(|@import", text)
