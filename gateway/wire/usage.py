"""What an answer used, as disjoint parts, and how counts are read out of what an upstream reports. Pure.

Invariant: no part is ever negative, beyond reason or counted twice. A number that is no count (negative, a text, a
fraction, too large) or that contradicts another makes the usage unsound: parts are cut to their whole.
"""

import re
from typing import Any

import msgspec

TOKENS_MAX = 10**9
# What a column holds.
SEARCHES_MAX = 32_767
# Other names of no tier at all.
STANDARD = frozenset({"default", "auto", "standard", "on_demand"})
TIER = re.compile(r"[a-z0-9_.-]{1,16}", re.ASCII)


class Tokens(msgspec.Struct, frozen=True):
    """Usage as disjoint parts, and the service tier that the answer was made at ("" for standard).

    `sound` is False where the upstream's numbers contradict each other.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    audio_input: int = 0
    image_input: int = 0
    output: int = 0
    reasoning: int = 0
    audio_output: int = 0
    web_searches: int = 0
    service_tier: str = ""
    sound: bool = True


class Reading:
    """Counts as they are read out of one usage object, and whether all of them could be true so far."""

    __slots__ = ("sound",)

    def __init__(self) -> None:
        self.sound = True

    def optional(self, holder: Any, name: str, most: int = TOKENS_MAX) -> int | None:
        """Return a count, or None where there is none; one that cannot be true is none."""
        value = holder.get(name) if type(holder) is dict else None
        if value is None:
            return None
        value = count(value, most)
        if value is None:
            self.sound = False
        return value

    def first(self, holder: Any, names: tuple[str, ...], most: int = TOKENS_MAX) -> int | None:
        """Return the first of these counts that is there."""
        if type(holder) is dict:
            for name in names:
                if name in holder and (value := self.optional(holder, name, most)) is not None:
                    return value
        return None

    def within(self, part: int, whole: int) -> int:
        """Return a part, cut to what is left of its whole."""
        if part <= whole:
            return part
        self.sound = False
        return whole


def count(value: Any, most: int = TOKENS_MAX) -> int | None:
    """Return a whole number from 0 to MOST, or None; some upstreams write 9.0 for 9."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= most else None


def tier_of(inner: Any, outer: bytes) -> str:
    """Return the service tier that an answer names, in its usage or (as JSON) on top; "" for the standard one."""
    if inner is None and outer:
        try:
            inner = msgspec.json.decode(outer)
        except (ValueError, RecursionError):
            return ""
    if type(inner) is not str:
        return ""
    tier = inner.lower()
    return tier if TIER.fullmatch(tier) and tier not in STANDARD else ""
