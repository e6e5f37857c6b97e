"""Which spending limits bind whom."""

import logging
from typing import Any

import pytest

from gateway import catalog_rows, snapshot, spending
from gateway.snapshot import Access
from gateway.spending import SpendingLimit, gather
from tests.gateway.scenery import a_caller, a_grant


def limit(number: int, name: str, subject: str = "", **fields: Any) -> SpendingLimit:
    row = {"id": number, "name": name, "subject": subject, "enabled": True} | fields
    return spending.limit_of(row)


def access(*limits: SpendingLimit, quotas: tuple[str, ...] = (), **fields: Any) -> Access:
    grants = [snapshot.Grant(frozenset({"everyone"}), "user", ("**",), {}, quotas), a_grant("**")]
    return snapshot.build(1, [], grants, spending_limits=gather(limits)).access(a_caller(**fields))


def test_a_caller_without_limits_has_none() -> None:
    assert access(limit(1, "daily")).spending is spending.UNBOUND


def test_a_grant_s_limit_binds_whom_the_grant_names() -> None:
    assert access(limit(4, "daily"), quotas=("daily",)).spending.buckets == ((4, ""),)
    stranger = snapshot.Grant(frozenset({"group:other"}), "user", ("**",), {}, ("daily",))
    view = snapshot.build(1, [], [stranger], spending_limits=gather([limit(4, "daily")]))
    assert view.access(a_caller()).spending.buckets == ()


@pytest.mark.parametrize(
    ("subject", "binds"),
    [
        ("everyone", True), ("user:Bob@Example.com", True), ("user:eve@example.com", False), ("key:1", True),
        ("key:2", False), ("org:3", True), ("org:2", False), ("group:research", True), ("group:ops", False),
        ("tag:team", True), ("tag:team=search", True), ("tag:team=ads", False),
    ],
)  # fmt: skip
def test_a_limit_binds_its_own_subject_without_a_grant(subject: str, binds: bool) -> None:
    own = frozenset({"everyone", "user:bob@example.com", "key:1", "group:research", "tag:team", "tag:team=search"})
    bound = access(limit(9, "q", subject), subjects=own).spending
    assert bound.buckets == (((9, ""),) if binds else ())
    assert not bound.problem


def test_a_user_has_a_bucket_of_its_own_where_the_name_says_so() -> None:
    daily = limit(1, "daily-<user>")
    assert access(daily, quotas=("daily-<user>",), user_id=5).spending.buckets == ((1, "user:5"),)
    assert access(daily, quotas=("daily-<user>",), user_id=6).spending.buckets == ((1, "user:6"),)


def test_a_limit_that_matches_twice_is_one_and_several_are_in_the_order_of_their_ids() -> None:
    limits = limit(7, "b", "everyone"), limit(3, "a")
    assert access(*limits, quotas=("b", "a", "a")).spending.buckets == ((3, ""), (7, ""))


def test_a_limit_that_nobody_defines_refuses_and_names_itself() -> None:
    bound = access(limit(1, "daily"), quotas=("daily", "dialy")).spending
    assert "'dialy'" in bound.problem
    assert bound.buckets == ()


def test_one_that_is_switched_off_binds_nobody() -> None:
    off = limit(1, "daily", "everyone", enabled=False)
    assert access(off, quotas=("daily",)).spending is spending.UNBOUND


@pytest.mark.parametrize(
    ("name", "subject"),
    [("daily-<team>", "everyone"), ("daily-<user", "everyone"), ("q", "usr:bob"), ("q", "key:x"), ("q", "org:")],
)
def test_a_definition_that_cannot_be_read_refuses_whoever_it_binds(name: str, subject: str) -> None:
    assert repr(name) in access(limit(1, name, subject)).spending.problem


def test_a_grant_of_a_definition_that_cannot_be_read_refuses() -> None:
    assert "'q-<team>'" in access(limit(1, "q-<team>"), quotas=("q-<team>",)).spending.problem


def test_rows_become_limits_and_broken_ones_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    empty: catalog_rows.Rows = {name: [] for name in catalog_rows.QUERIES}
    rows = [
        {"id": 1, "name": "daily-<node>", "subject": "group:x", "enabled": True},
        {"id": 2, "name": "fine", "subject": "everyone", "enabled": True},
    ]
    with caplog.at_level(logging.ERROR):
        view = catalog_rows.assemble(1, empty | {"spending_limits": rows}, now=1.0)
    assert view.access(a_caller()).spending.buckets == ((2, ""),)
    assert view.access(a_caller(subjects=frozenset({"group:x"}))).spending.problem
    assert "'daily-<node>'" in caplog.text
