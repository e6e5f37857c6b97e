"""Usage as Anthropic reports it, read as disjoint parts and written again. Pure.

https://docs.anthropic.com/en/api/messages. The parts of the input (uncached, read from a cache, written to one) are
disjoint already; thought is inside `output_tokens`. What it took to sum up a conversation that had grown too long is
billed, but stands in `iterations` alone, on top. In a stream usage is cumulative: of each field the latest counts,
and one that is absent keeps what `message_start` said.
"""

from typing import Any

import msgspec

from gateway.wire.canonical import Json
from gateway.wire.usage import SEARCHES_MAX, Reading, Tokens, tier_of

WRITTEN, SPLIT = "cache_creation_input_tokens", "cache_creation"
COMPACTION = "compaction"
SUMMED = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning")
replace = msgspec.structs.replace
FIVE, HOUR = "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"


class Counts:
    """One answer's usage, as its stream tells it."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: Json = {}

    def add(self, usage: Any) -> bool:
        """Take what is told now; tell whether it was anything."""
        if type(usage) is not dict:
            return False
        told = {name: value for name, value in usage.items() if value is not None}
        if told.get(WRITTEN, self.values.get(WRITTEN)) != self.values.get(WRITTEN) and SPLIT not in told:
            self._outgrow(told[WRITTEN])
        self.values |= told
        return bool(told)

    def _outgrow(self, written: Any) -> None:
        """Keep an earlier split true for what was written since: for five minutes, where nothing else is said."""
        split = self.values.get(SPLIT)
        hour = split.get(HOUR) if type(split) is dict else None
        if type(hour) is int and type(written) is int and written >= hour:
            self.values = self.values | {SPLIT: {HOUR: hour, FIVE: written - hour}}

    def tokens(self) -> Tokens | None:
        """Return the tokens, None where input or output was not told."""
        told = self.values
        whole = _tokens(told, tier_of(told.get("service_tier"), b""))
        iterations = told.get("iterations")
        if whole is None or type(iterations) is not list:
            return whole
        for each in iterations:
            if type(each) is dict and each.get("type") == COMPACTION and (part := _tokens(each)) is not None:
                whole = _sum(whole, part)
        return whole


def _tokens(told: Json, service_tier: str = "") -> Tokens | None:
    reading = Reading()
    uncached = reading.optional(told, "input_tokens")
    output = reading.optional(told, "output_tokens")
    if uncached is None or output is None:
        return None
    five, hour = _written(reading, told)
    thought = reading.within(reading.optional(told.get("output_tokens_details"), "thinking_tokens") or 0, output)
    searches = reading.optional(told.get("server_tool_use"), "web_search_requests", SEARCHES_MAX)
    return Tokens(
        input=uncached,
        cache_read=reading.optional(told, "cache_read_input_tokens") or 0,
        cache_write_5m=five,
        cache_write_1h=hour,
        output=output - thought,
        reasoning=thought,
        web_searches=searches or 0,
        service_tier=service_tier,
        sound=reading.sound,
    )


def _sum(whole: Tokens, part: Tokens) -> Tokens:
    """Return a usage with another's tokens on top."""
    added = {name: getattr(whole, name) + getattr(part, name) for name in SUMMED}
    return replace(whole, **added, sound=whole.sound and part.sound)


def _written(reading: Reading, told: Json) -> tuple[int, int]:
    """Return what was written to the cache for five minutes, and for an hour."""
    written, split = reading.optional(told, WRITTEN), told.get(SPLIT)
    five, hour = reading.optional(split, FIVE) or 0, reading.optional(split, HOUR) or 0
    if written is None:
        return five, hour
    if type(split) is dict and five + hour != written:
        reading.sound = False
    hour = min(hour, written)
    return written - hour, hour


def parse_usage(usage: Any) -> Tokens | None:
    """Return the tokens of a whole answer's usage, None where it holds none that could be true."""
    counts = Counts()
    counts.add(usage)
    return counts.tokens()


def render_usage(tokens: Tokens | None) -> Json:
    """Return usage as Anthropic's clients read it; what is not known yet is nothing."""
    tokens = tokens or Tokens()
    usage: Json = {
        "input_tokens": tokens.input + tokens.audio_input + tokens.image_input,
        WRITTEN: tokens.cache_write_5m + tokens.cache_write_1h,
        "cache_read_input_tokens": tokens.cache_read,
        SPLIT: {FIVE: tokens.cache_write_5m, HOUR: tokens.cache_write_1h},
        "output_tokens": tokens.output + tokens.reasoning + tokens.audio_output,
        "service_tier": tokens.service_tier or "standard",
    }
    if tokens.reasoning:
        usage["output_tokens_details"] = {"thinking_tokens": tokens.reasoning}
    if tokens.web_searches:
        usage["server_tool_use"] = {"web_search_requests": tokens.web_searches, "web_fetch_requests": 0}
    return usage
