"""What names mean, in which order targets come, and how grants add up."""

import itertools

import pytest

from gateway import snapshot
from tests.gateway.scenery import a_caller, a_grant, a_model, a_snapshot, a_target


def test_a_public_id_wins_over_an_alias_that_over_a_provider_s_name_and_that_over_a_bare_one() -> None:
    models = [
        (a_model("x", a_target("x", "p", "one")), []),
        (a_model("b", a_target("b", "p", "x")), ["nick", "p/both"]),
        (a_model("c", a_target("c", "p", "both")), ["x"]),
        (a_model("d", a_target("d", "q", "p/both")), []),
        (a_model("e", a_target("e", "q", "nick")), []),
        (a_model("f", a_target("f", "r", "q/nick")), []),
    ]
    for order in itertools.permutations(models, len(models)):
        names = snapshot.build(1, order, []).names
        assert [names[name].public_id for name in ("x", "nick", "p/both", "q/nick")] == ["x", "b", "b", "e"]
        assert names["p/x"].public_id in ("b", "x")


def test_an_order_of_rows_changes_nothing() -> None:
    models = [a_model(name, a_target(name, "p", "same")) for name in "abc"]
    views = [a_snapshot(*order) for order in itertools.permutations(models)]
    assert {tuple(target.names for target in view.names["same"].targets) for view in views} == {
        (("a", "p/same", "p/a"), ("b", "p/same", "p/b"), ("c", "p/same", "p/c"))
    }
    assert {view.names["same"].public_id for view in views} == {"a"}
    assert [model.public_id for model in views[-1].models] == ["a", "b", "c"]


def test_targets_come_by_preference_then_weight_then_name() -> None:
    targets = [
        a_target("m", "zed", preference=2),
        a_target("m", "bee", weight=5),
        a_target("m", "ant", weight=5),
        a_target("m", "cat", weight=1),
        a_target("m", "dog", preference=-1, weight=99),
    ]
    for order in itertools.permutations(targets):
        assert [each.provider.slug for each in snapshot.order(order)] == ["zed", "ant", "bee", "cat", "dog"]


def test_grants_add_up_for_the_subjects_that_a_caller_is() -> None:
    grants = (
        a_grant("a", role="", team="red"),
        a_grant("b", role="user", subjects=("group:x", "group:y"), team="blue"),
        a_grant("c", role="admin", subjects=("user:ada@example.com",)),
    )
    nobody = snapshot.resolve(grants, a_caller(subjects=frozenset()), {})
    plain = snapshot.resolve(grants, a_caller(), {})
    member = snapshot.resolve(grants, a_caller(subjects=frozenset({"everyone", "group:y"})), {})
    ada = snapshot.resolve(grants, a_caller(subjects=frozenset({"group:y", "user:ada@example.com"})), {})
    assert [access.role for access in (nobody, plain, member, ada)] == ["", "", "user", "admin"]
    assert [[name for name in "abc" if access.granted(name)] for access in (nobody, plain, member, ada)] == [
        [],
        ["a"],
        ["a", "b"],
        ["b", "c"],
    ]
    assert (plain.headers, member.headers) == ({"team": "red"}, {"team": "blue"})
    assert plain.own("any/thing")


def test_an_access_is_worked_out_once_for_each_caller_and_ends_with_its_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot, "ACCESSES_MAX", 3)
    view, caller = a_snapshot(a_model("m")), a_caller()
    assert view.access(caller) is view.access(caller)
    assert a_snapshot(a_model("m")).access(caller) is not view.access(caller)
    for _ in range(9):
        view.access(a_caller())
    assert len(view.accesses) <= 3


@pytest.mark.parametrize(
    ("upstream_ids", "one"),
    [
        (["gpt-4o"], True),
        ([], True),
        (["anthropic/claude-4.6", "claude-4-6", "Claude_4:6"], True),
        (["gpt-4o", "gpt-4o-mini"], False),
    ],
)
def test_spellings_of_one_model_are_told_from_two_models(upstream_ids: list[str], one: bool) -> None:
    assert snapshot.is_one_model(upstream_ids) is one
