"""What effort of reasoning OpenAI's own models take, by the names that they have with OpenAI. Pure.

OpenAI answers 400 where a model is asked for an effort of another generation, or for any where it does not reason
(https://platform.openai.com/docs/guides/reasoning). A name that is none of OpenAI's belongs to another vendor.
"""

import re

import msgspec

from gateway.wire.canonical import Effort, Reasoning
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


def reasoning_for(reasoning: Reasoning, upstream_id: str, others: tuple[Effort, ...]) -> Reasoning | None:
    """Return what a model can do of REASONING, None where it does not reason; OTHERS is what other vendors' take."""
    name = upstream_id.rpartition("/")[2]
    offered = next((efforts for pattern, efforts in EFFORTS.items() if re.match(pattern, name)), others)
    if not offered:
        return None
    effort = effort_of(reasoning)
    if effort is None:
        return reasoning
    if effort != "none":
        # Who wants little thought does not want it off.
        offered = tuple(each for each in offered if each != "none")
    return msgspec.structs.replace(reasoning, effort=nearest(effort, offered), budget_tokens=None)
