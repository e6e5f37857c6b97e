"""Effort and budget of reasoning: what stands for what where a vendor has only one of the two. Pure."""

from gateway.wire.canonical import Effort, Reasoning

# Tokens of thought for each effort, least first; what vendors themselves recommend for their models lies close by.
BUDGETS: dict[Effort, int] = {
    "none": 0,
    "minimal": 1_024,
    "low": 4_096,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 32_768,
}
AS_LIKED = -1


def effort_of(reasoning: Reasoning) -> Effort | None:
    """Return the effort that is asked for, by name or by what its budget comes nearest to; None: as the model likes."""
    if reasoning.effort is not None or reasoning.budget_tokens in (None, AS_LIKED):
        return reasoning.effort
    budget = reasoning.budget_tokens
    return min(BUDGETS, key=lambda effort: abs(BUDGETS[effort] - budget))


def budget_of(reasoning: Reasoning) -> int | None:
    """Return the budget that is asked for, in tokens; AS_LIKED or None: as the model likes."""
    if reasoning.budget_tokens is not None or reasoning.effort is None:
        return reasoning.budget_tokens
    return BUDGETS[reasoning.effort]


def nearest(effort: Effort, offered: tuple[Effort, ...]) -> Effort:
    """Return the effort, of those that a vendor offers, that is nearest; the lower one of two."""
    order = list(BUDGETS)
    return min(offered, key=lambda each: (abs(order.index(each) - order.index(effort)), order.index(each)))
