"""A model is asked for an effort that it has, or for none at all."""

from typing import get_args

import pytest

from gateway.wire.canonical import Effort, Reasoning, Request
from gateway.wire.openai_models import fitted

ALL: tuple[Effort, ...] = get_args(Effort)


def reasoning_for(reasoning: Reasoning, upstream_id: str, others: tuple[Effort, ...]) -> Reasoning | None:
    found, lost = fitted(Request(dialect="d", model="m", messages=(), reasoning=reasoning), upstream_id, others)
    assert lost == (set() if found.reasoning else {"reasoning"})
    return found.reasoning


@pytest.mark.parametrize(
    ("upstream_id", "asked", "taken"),
    [
        ("gpt-4o", "high", None),
        ("openai/gpt-4.1-mini", "low", None),
        ("gpt-5.1-chat-latest", "low", None),
        ("o3-mini", "minimal", "low"),
        ("o1", "none", "low"),
        ("gpt-5.2-pro", "low", "high"),
        ("gpt-5-codex", "xhigh", "high"),
        ("gpt-5.1-codex", "none", "low"),
        ("gpt-5.1-codex-max", "max", "xhigh"),
        ("gpt-5.3-codex", "minimal", "low"),
        ("gpt-5", "minimal", "minimal"),
        ("gpt-5-mini-2025-08-07", "none", "minimal"),
        ("gpt-5.1", "max", "high"),
        ("gpt-5.2", "minimal", "low"),
        ("gpt-5.2", "none", "none"),
        ("gpt-5.2", "max", "xhigh"),
        ("gpt-5.6-sol", "max", "max"),
        ("gpt-6-luna", "xhigh", "xhigh"),
        ("olmo-3", "minimal", "minimal"),
        ("o3000-like", "max", "max"),
    ],
)
def test_each_generation_has_its_own_efforts(upstream_id: str, asked: Effort, taken: Effort | None) -> None:
    found = reasoning_for(Reasoning(effort=asked), upstream_id, ALL)
    assert (found and found.effort) == taken


def test_other_vendors_take_what_their_dialect_has() -> None:
    assert reasoning_for(Reasoning(effort="max"), "deepseek-v4", ("low", "high")) == Reasoning(effort="high")


def test_a_budget_is_an_effort_and_what_is_left_to_the_model_stays() -> None:
    """The least budget that vendors take is the effort `minimal`, which OpenAI has in one generation alone."""
    assert reasoning_for(Reasoning(budget_tokens=1024, summary="auto"), "gpt-5.2", ALL) == Reasoning(
        effort="low", summary="auto"
    )
    assert reasoning_for(Reasoning(summary="auto"), "gpt-5.2", ALL) == Reasoning(summary="auto")
    assert reasoning_for(Reasoning(summary="auto"), "gpt-4o", ALL) is None


@pytest.mark.parametrize(
    ("upstream_id", "effort", "samples"),
    [
        ("gpt-4o", None, True),
        ("llama", "high", True),
        ("o3", None, False),
        ("gpt-5", None, False),
        ("gpt-5.2", None, True),
        ("gpt-5.2", "none", True),
        ("gpt-5.2", "low", False),
        ("gpt-5.2-codex", None, False),
        ("gpt-5.6-sol", None, False),
        ("gpt-5.6-sol", "none", True),
    ],
)
def test_who_thinks_is_not_told_how_to_sample(upstream_id: str, effort: Effort | None, samples: bool) -> None:
    """OpenAI: `Unsupported parameter: 'temperature' is not supported with this model.`"""
    reasoning = None if effort is None else Reasoning(effort=effort)
    asked = Request(
        dialect="d", model="m", messages=(), reasoning=reasoning, temperature=1.0, logprobs=True, top_logprobs=2
    )
    found, lost = fitted(asked, upstream_id, ALL)
    assert (found.temperature, found.logprobs, found.top_logprobs) == (
        (1.0, True, 2) if samples else (None, False, None)
    )
    assert lost == (set() if samples else {"temperature", "logprobs", "top_logprobs"})
