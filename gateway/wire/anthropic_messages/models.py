"""What Claude models take, by the names that vendors give them. Pure.

Anthropic answers 400 where a model is given a parameter of another generation
(https://docs.anthropic.com/en/docs/about-claude/models/migration-guide): thought is asked for by a budget up to 4.5
and by effort from 4.6 on, sampling is gone from 4.7 on, and the newest can neither do without thought nor be forced to
call a tool. A name that is no Claude's belongs to another vendor of the dialect, who takes what Claude 4 took.
"""

import re

import msgspec

from gateway.wire.canonical import Effort, Json

# claude-3-7-sonnet-20250219, anthropic.claude-opus-4-6-v1, claude-sonnet-4@20250514, anthropic/claude-4.7-opus
LATER = re.compile(r"claude-([a-z]+)-(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")
EARLIER = re.compile(r"claude-(\d{1,2})(?:[-.](\d{1,2}))?-([a-z]+)")
PREVIEW = re.compile(r"claude-(mythos|fable)\b")
OFF: Json = {"type": "disabled"}
THINKS_ALWAYS = ("mythos", "fable")
# How thought is turned off where it is on by itself; what is not here cannot.
OFF_BY_MODEL: dict[tuple[str, tuple[int, int]], Json] = {
    ("opus", (5, 0)): OFF,
    ("sonnet", (5, 0)): OFF,
    ("sonnet", (5, 5)): {"type": "between_tools"},
    ("haiku", (5, 5)): OFF,
}
EFFORTS_4_6: tuple[Effort, ...] = ("low", "medium", "high", "max")
EFFORTS: tuple[Effort, ...] = ("low", "medium", "high", "xhigh", "max")
# What `max_tokens`, which Anthropic demands, is where the caller leaves the length to the model: as much as every
# model of a generation can write (Opus 4.1 is the least of them), for an agent's file must not end in the middle.
MAX_TOKENS, MAX_TOKENS_3_5, MAX_TOKENS_3, MAX_TOKENS_OTHERS = 32_000, 8_192, 4_096, 8_192


class Model(msgspec.Struct, frozen=True):
    """A model's family and version; no version for another vendor's."""

    family: str = ""
    version: tuple[int, int] | None = None

    @property
    def adaptive(self) -> bool:
        """Whether it thinks by effort, and takes no budget."""
        return self.version is not None and self.version >= (4, 6)

    @property
    def samples(self) -> bool:
        """Whether it takes temperature, top_p and top_k."""
        return self.version is None or self.version < (4, 7)

    @property
    def samples_by_both(self) -> bool:
        """Whether it takes temperature and top_p in one request."""
        return self.version is None or self.version < (4, 1)

    @property
    def structured(self) -> bool:
        """Whether it follows a schema, in its answer and in calls of strict tools."""
        return self.version is None or self.version >= (4, 1)

    @property
    def forceable(self) -> bool:
        """Whether it can be made to call a tool."""
        return self.version is None or self.version < (5, 1)

    @property
    def binds(self) -> bool:
        """Whether its thoughts hold only behind the very instructions, tools and messages that they came after.

        https://docs.anthropic.com/en/docs/build-with-claude/preserved-thinking
        """
        return self.version is not None and self.version >= (5, 1)

    @property
    def efforts(self) -> tuple[Effort, ...]:
        """The efforts that it knows."""
        return EFFORTS_4_6 if self.version == (4, 6) else EFFORTS

    @property
    def off(self) -> Json | None:
        """What turns its thinking off: nothing where it is off by itself, None where it cannot be."""
        if self.version is None:
            return OFF
        if self.version < (5, 0) and self.family not in THINKS_ALWAYS:
            return {}
        return OFF_BY_MODEL.get((self.family, self.version))

    @property
    def max_tokens(self) -> int:
        """The length of an answer for which the caller names none."""
        if self.version is None:
            return MAX_TOKENS_OTHERS
        if self.version >= (3, 7):
            return MAX_TOKENS
        return MAX_TOKENS_3_5 if self.version == (3, 5) else MAX_TOKENS_3


def model_of(name: str) -> Model:
    """Return the model that an upstream's id names."""
    found = LATER.search(name)
    if found:
        return Model(found[1], (int(found[2]), int(found[3] or 0)))
    found = EARLIER.search(name)
    if found:
        return Model(found[3], (int(found[1]), int(found[2] or 0)))
    found = PREVIEW.search(name)
    return Model(found[1], (4, 7)) if found else Model()
