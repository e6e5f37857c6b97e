"""An effort stands for a budget and a budget for an effort, where a vendor has only one of the two."""

import pytest

from gateway.wire import effort
from gateway.wire.canonical import Effort, Reasoning


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (Reasoning(), None),
        (Reasoning(budget_tokens=-1), None),
        (Reasoning(effort="low", budget_tokens=32_000), "low"),
        (Reasoning(budget_tokens=0), "none"),
        (Reasoning(budget_tokens=1), "none"),
        (Reasoning(budget_tokens=1_024), "minimal"),
        (Reasoning(budget_tokens=10_000), "medium"),
        (Reasoning(budget_tokens=16_000), "high"),
        (Reasoning(budget_tokens=10**9), "max"),
    ],
)
def test_the_effort_of_a_budget_is_the_nearest(reasoning: Reasoning, expected: Effort | None) -> None:
    assert effort.effort_of(reasoning) == expected


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (Reasoning(), None),
        (Reasoning(effort="high"), 16_384),
        (Reasoning(effort="none"), 0),
        (Reasoning(effort="high", budget_tokens=5), 5),
        (Reasoning(effort="high", budget_tokens=-1), effort.AS_LIKED),
    ],
)
def test_the_budget_of_an_effort(reasoning: Reasoning, expected: int | None) -> None:
    assert effort.budget_of(reasoning) == expected


@pytest.mark.parametrize("name", effort.BUDGETS)
def test_an_effort_comes_back_from_its_budget(name: Effort) -> None:
    assert effort.effort_of(Reasoning(budget_tokens=effort.BUDGETS[name])) == name


def test_more_effort_is_more_budget() -> None:
    assert list(effort.BUDGETS.values()) == sorted(set(effort.BUDGETS.values()))


@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        ("max", ("low", "medium", "high"), "high"),
        ("none", ("low", "medium", "high"), "low"),
        ("medium", ("high", "low"), "low"),
        ("medium", ("low", "high", "medium"), "medium"),
    ],
)
def test_of_the_efforts_that_a_vendor_has_the_nearest_and_rather_less(
    wanted: Effort, offered: tuple[Effort, ...], expected: Effort
) -> None:
    assert effort.nearest(wanted, offered) == expected
