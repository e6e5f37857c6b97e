"""What OpenAI's own models take of reasoning and sampling, by the names that they have with OpenAI. Pure.

OpenAI answers 400 where a model is asked for an effort of another generation, or for any where it does not reason, and
where one that thinks is told how to sample (https://platform.openai.com/docs/guides/reasoning). A name that is none of
OpenAI's belongs to another vendor.
"""

import re
from typing import Any

import msgspec

from gateway.wire.canonical import Effort, Reasoning, Request
from gateway.wire.effort import effort_of, nearest

# The first pattern that a name begins with decides.
EFFORTS: dict[str, tuple[Effort, ...]] = {
    r"gpt-[34]|chatgpt-|gpt-5(\.\d+)?-chat": (),
    r"o\d(?!\d)": ("low", "medium", "high"),
    r"gpt-5(\.\d+)?-pro": ("high",),
    r"gpt-5(\.1)?-codex(?!-max)": ("low", "medium", "high"),
    r"gpt-5\.\d+-codex": ("low", "medium", "high", "xhigh"),
    r"gpt-5(?![.\d])": ("minimal", "low", "medium", "high"),
    r"gpt-5\.1(?!\d)": ("none", "low", "medium", "high"),
    r"gpt-5\.[2-5](?!\d)": ("none", "low", "medium", "high", "xhigh"),
    r"gpt-(5\.|[6-9])": ("none", "low", "medium", "high", "xhigh", "max"),
}


# Those of them that do not think unless they are asked to.
UNTHINKING = re.compile(r"gpt-5\.[1-4](?!\d)")
# What a model that thinks refuses, and how it looks where it is not asked for.
SAMPLING: dict[str, Any] = {
    "temperature": None,
    "top_p": None,
    "frequency_penalty": None,
    "presence_penalty": None,
    "logit_bias": None,
    "logprobs": False,
    "top_logprobs": None,
}


def fitted(request: Request, upstream_id: str, others: tuple[Effort, ...]) -> tuple[Request, set[str]]:
    """Return a request as a model takes it, and the names of what is left out; OTHERS is what other vendors' take."""
    name = upstream_id.rpartition("/")[2]
    known = next((efforts for pattern, efforts in EFFORTS.items() if re.match(pattern, name)), None)
    offered = others if known is None else known
    changed: dict[str, Any] = {}
    effort: Effort | None = None
    if request.reasoning is not None:
        fitting = _reasoning(request.reasoning, offered)
        effort = None if fitting is None else fitting.effort
        changed["reasoning"] = fitting
    thinks = effort != "none" if effort else not UNTHINKING.match(name) or "none" not in offered
    if known and thinks:
        changed |= {each: left for each, left in SAMPLING.items() if getattr(request, each) != left}
    lost = {each for each, left in changed.items() if left in (None, False)}
    return msgspec.structs.replace(request, **changed), lost


def _reasoning(reasoning: Reasoning, offered: tuple[Effort, ...]) -> Reasoning | None:
    """Return what of it a model can do that offers these efforts, None where it does not reason."""
    if not offered:
        return None
    effort = effort_of(reasoning)
    if effort is None:
        return reasoning
    if effort != "none":
        # Who wants little thought does not want it off.
        offered = tuple(each for each in offered if each != "none")
    return msgspec.structs.replace(reasoning, effort=nearest(effort, offered), budget_tokens=None)
