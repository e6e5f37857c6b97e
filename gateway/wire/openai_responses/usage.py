"""This dialect's usage as disjoint parts, and back. Pure.

https://platform.openai.com/docs/api-reference/responses/object#responses-object-usage. Latest wins, and only the end
of an answer has it. Cached and written input are inside `input_tokens`; reasoning is inside `output_tokens`, unless
the total is greater than both by it. Searches are counted beside the usage, in `tool_usage`; where they
are not, each search in the output is one.
"""

from typing import Any

import msgspec

from gateway.wire.canonical import Json
from gateway.wire.usage import SEARCHES_MAX, Reading, Tokens, count, tier_of

SEARCHES = ("num_search_queries", "num_sources_used")
# What costs as much as a search; pages that are opened do not.
SEARCH_ACTIONS = ("search", None)


def parse(response: Json) -> Tokens | None:
    """Return the tokens of a response object, None where it tells none that could be true."""
    usage = response.get("usage")
    if type(usage) is not dict:
        return None
    context, made = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
    if context is None or made is None:
        return None
    reading = Reading()
    total = reading.optional(usage, "total_tokens")
    details = usage.get("input_tokens_details")
    cached = reading.within(reading.optional(details, "cached_tokens") or 0, context)
    written = reading.within(reading.optional(details, "cache_write_tokens") or 0, context - cached)
    lifetimes = details.get("cache_write_tokens_details") if type(details) is dict else None
    long = reading.within(reading.optional(lifetimes, "ttl_12h_tokens") or 0, written)
    left = context - cached - written
    audio = reading.within(reading.optional(details, "audio_tokens") or 0, left)
    image = reading.within(reading.optional(details, "image_tokens") or 0, left - audio)
    details = usage.get("output_tokens_details")
    told = reading.optional(details, "reasoning_tokens")
    excess = 0 if total is None else total - context - made
    if excess < 0 or (excess and told is not None and excess != told):
        reading.sound = False
    made += max(excess, 0)
    reasoning = reading.within(max(excess, 0) if told is None else told, made)
    spoken = reading.within(reading.optional(details, "audio_tokens") or 0, made - reasoning)
    return Tokens(
        input=left - audio - image,
        cache_read=cached,
        cache_write_5m=written - long,
        cache_write_1h=long,
        audio_input=audio,
        image_input=image,
        output=made - reasoning - spoken,
        reasoning=reasoning,
        audio_output=spoken,
        web_searches=_searches(reading, response, usage),
        service_tier=tier_of(response.get("service_tier"), b""),
        sound=reading.sound,
    )


def _searches(reading: Reading, response: Json, usage: Json) -> int:
    tools = response.get("tool_usage")
    counted = reading.optional(tools.get("web_search") if type(tools) is dict else None, "num_requests", SEARCHES_MAX)
    if counted is None:
        counted = reading.first(usage, SEARCHES, SEARCHES_MAX)
    if counted is not None:
        return counted
    output = response.get("output")
    return min(sum(map(_is_search, output)), SEARCHES_MAX) if type(output) is list else 0


def _is_search(item: Any) -> bool:
    if type(item) is not dict or item.get("type") != "web_search_call":
        return False
    action = item.get("action")
    return (action.get("type") if type(action) is dict else None) in SEARCH_ACTIONS


def render(tokens: Tokens, cost: bytes | None) -> Json:
    """Return the usage object; COST is a JSON number of dollars."""
    written = tokens.cache_write_5m + tokens.cache_write_1h
    context = tokens.input + tokens.cache_read + written + tokens.audio_input + tokens.image_input
    made = tokens.output + tokens.reasoning + tokens.audio_output
    inside: Json = {"cached_tokens": tokens.cache_read, "cache_write_tokens": written}
    more = {"audio_tokens": tokens.audio_input, "image_tokens": tokens.image_input}
    inside |= {name: number for name, number in more.items() if number}
    if tokens.cache_write_1h:
        lifetimes = {"ttl_30m_tokens": tokens.cache_write_5m, "ttl_12h_tokens": tokens.cache_write_1h}
        inside["cache_write_tokens_details"] = lifetimes
    spoken = {"audio_tokens": tokens.audio_output} if tokens.audio_output else {}
    told: Json = {
        "input_tokens": context,
        "input_tokens_details": inside,
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning} | spoken,
        "total_tokens": context + made,
    }
    return told | ({"cost": msgspec.Raw(cost)} if cost is not None else {})


def beside(tokens: Tokens) -> Json:
    """Return what a response object says of the usage outside of it."""
    searches = {"tool_usage": {"web_search": {"num_requests": tokens.web_searches}}} if tokens.web_searches else {}
    return searches | ({"service_tier": tokens.service_tier} if tokens.service_tier else {})
