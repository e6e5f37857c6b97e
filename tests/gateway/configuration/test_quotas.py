"""Spending limits in a document: what is read, what is refused, and where."""

import json
from typing import Any

import pytest

from accounts.models import Grant
from billing.models import SpendingLimit
from gateway.configuration import importing, statement
from gateway.configuration.document import Document

DOLLAR = 10**9
EVERYONE = [{"src": ["*"], "role": "admin", "models": "**", "quotas": [{"bucket": "daily:<user>"}]}]


def read(**quotas: Any) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str]]]:
    """Return the columns by name, and place and severity of each problem."""
    stated = statement.of(Document({"quotas": quotas}), {"CAP": "$7"})
    found = {name: quota.columns for name, quota in (stated.quotas or {}).items()}
    return found, [(problem.location, problem.severity) for problem in stated.problems]


def test_the_pages_form_of_a_quota() -> None:
    found, problems = read(**{"daily:<user>": {"capacity": "$10.00", "rate": "$5.00/day", "on_exceed": "reject"}})
    assert not problems
    assert found["daily:<user>"] == {
        "kind": "refill", "capacity_nanos": 10 * DOLLAR, "rate_nanos": 5 * DOLLAR, "period": "day", "hard": True,
        "subject": "", "enabled": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"capacity": 5, "rate": "5/day"}, {"capacity_nanos": 5 * DOLLAR, "rate_nanos": 5 * DOLLAR}),
        ({"capacity": "${CAP}", "rate": "$0.000000001 / min"}, {"capacity_nanos": 7 * DOLLAR, "rate_nanos": 1}),
        ({"capacity": 0.1, "rate": "1/minute"}, {"capacity_nanos": DOLLAR // 10, "period": "minute"}),
        ({"capacity": "0", "rate": "0/month"}, {"capacity_nanos": 0, "rate_nanos": 0, "period": "month"}),
        ({"capacity": "$250000.00", "rate": "$200000/week"}, {"capacity_nanos": 250_000 * DOLLAR}),
        ({"capacity": 100, "period": "month"}, {"kind": "calendar", "rate_nanos": 0, "period": "month"}),
        ({"capacity": 1, "rate": "1/week", "on_exceed": "alert"}, {"hard": False}),
        ({"capacity": 1, "rate": "1/week", "src": "Ann@Example.com"}, {"subject": "user:ann@example.com"}),
        ({"capacity": 1, "rate": "1/week", "src": "*"}, {"subject": "everyone"}),
        ({"capacity": 1, "rate": "1/week", "src": "org:12"}, {"subject": "org:12"}),
        ({"capacity": 1, "rate": "1/hour", "disabled": True}, {"enabled": False}),
    ],
)
def test_what_may_be_written(entry: dict[str, Any], expected: dict[str, Any]) -> None:
    found, problems = read(q=entry)
    assert not problems
    assert found["q"].items() >= expected.items()


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"rate": "1/day"}, "quotas.q"),
        ({"capacity": 1}, "quotas.q"),
        ({"capacity": 1, "rate": "1/day", "period": "day"}, "quotas.q"),
        ({"capacity": -1, "rate": "1/day"}, "quotas.q.capacity"),
        ({"capacity": "ten", "rate": "1/day"}, "quotas.q.capacity"),
        ({"capacity": 10**10, "rate": "1/day"}, "quotas.q.capacity"),
        ({"capacity": True, "rate": "1/day"}, "quotas.q.capacity"),
        ({"capacity": float("nan"), "rate": "1/day"}, "quotas.q.capacity"),
        ({"capacity": "0.0000000001", "rate": "1/day"}, "quotas.q.capacity"),
        ({"capacity": "${NOPE}", "rate": "1/day"}, "quotas.q.capacity"),
        ({"capacity": 1, "rate": 5}, "quotas.q.rate"),
        ({"capacity": 1, "rate": "5"}, "quotas.q.rate"),
        ({"capacity": 1, "rate": "5/fortnight"}, "quotas.q.rate"),
        ({"capacity": 1, "rate": "-5/day"}, "quotas.q.rate"),
        ({"capacity": 1, "rate": "x/day"}, "quotas.q.rate"),
        ({"capacity": 1, "period": "year"}, "quotas.q.period"),
        ({"capacity": 1, "rate": "1/day", "on_exceed": "cry"}, "quotas.q.on_exceed"),
        ({"capacity": 1, "rate": "1/day", "src": "nobody"}, "quotas.q.src"),
        ({"capacity": 1, "rate": "1/day", "src": "key:x"}, "quotas.q.src"),
        (5, "quotas.q"),
    ],
)
def test_what_is_wrong_is_an_error_at_its_place(entry: Any, where: str) -> None:
    _, problems = read(q=entry)
    assert (where, "error") in problems


@pytest.mark.parametrize("name", ["daily:<node>", "a b", "<user", "x" * 151, ""])
def test_a_name_with_another_template_or_sign_is_an_error(name: str) -> None:
    _, problems = read(**{name: {"capacity": 1, "rate": "1/day"}})
    assert [severity for _, severity in problems] == ["error"]


@pytest.mark.django_db
def test_an_import_makes_changes_and_disables_only_what_files_brought() -> None:
    SpendingLimit.objects.create(name="by-hand", capacity_nanos=1)
    first = {"daily:<user>": {"capacity": 10, "rate": "5/day"}, "old": {"capacity": 1, "rate": "1/day"}}
    report = importing.apply(text(quotas=first, grants=EVERYONE), environment={})
    assert report.applied, report.problems
    assert not report.problems
    assert Grant.objects.get().quotas == ["daily:<user>"]
    second = {"daily:<user>": {"capacity": 20, "rate": "5/day"}}
    report = importing.apply(text(quotas=second), environment={})
    assert report.applied, report.problems
    assert [line for change in report.changes for line in change.lines()] == [
        "changed quota daily:<user>", "    capacity_nanos: $10.00 → $20.00", "disabled quota old",
        "    enabled: True → False",
    ]  # fmt: skip
    rows = SpendingLimit.objects.values_list("name", "source", "enabled").order_by("name")
    assert list(rows) == [("by-hand", "admin", True), ("daily:<user>", "file", True), ("old", "file", False)]
    assert importing.apply(text(quotas=second), environment={}).changes == []


@pytest.mark.django_db
def test_a_grant_that_names_an_undefined_quota_is_a_warning_with_the_nearest_name() -> None:
    quotas = {"daily:<user>s": {"capacity": 1, "rate": "1/day"}}
    report = importing.apply(text(quotas=quotas, grants=EVERYONE), environment={})
    assert report.applied
    [problem] = report.problems
    assert problem.location == "grants[0].quotas[0]"
    assert 'undefined quota "daily:<user>"; did you mean daily:<user>s?' in problem.message


@pytest.mark.django_db
def test_leaving_a_quota_out_that_a_grant_names_would_lift_the_limit_and_is_refused() -> None:
    assert importing.apply(
        text(quotas={"daily:<user>": {"capacity": 1, "rate": "1/day"}}, grants=EVERYONE), environment={}
    ).applied
    report = importing.apply(text(quotas={}), environment={})
    assert not report.applied
    assert [(problem.location, problem.value) for problem in report.problems] == [("quotas", "daily:<user>")]
    stated = {"daily:<user>": {"capacity": 1, "rate": "1/day", "disabled": True}}
    assert importing.apply(text(quotas=stated), environment={}).applied


def text(**sections: Any) -> str:
    """Return a document as text."""
    return json.dumps(sections)
