"""Usage as upstreams of OpenAI's dialect report it, read as disjoint parts and written from them. Pure.

Every vendor has its own idea of what is inside what. The rules, by what stands in the object and never by the vendor's
name, for a gateway in between keeps the shape and not the name:

* Cached input (`prompt_tokens_details.cached_tokens`, DeepSeek's `prompt_cache_hit_tokens`, Moonshot's and Mistral's
  names for it) and cache writes among the details are inside `prompt_tokens`.
* Anthropic's `cache_read_input_tokens` and `cache_creation_input_tokens` come on top of `prompt_tokens`, unless the
  details repeat them. What was written is for five minutes where no split says otherwise.
* Reasoning is inside `completion_tokens`, unless `total_tokens` is greater than prompt and completion by it (xAI,
  Gemini behind some gateways). What the total has on top and nothing names is reasoning too (Gemini's own endpoint).
* Perplexity's `citation_tokens` are input, and its `reasoning_tokens` beside them output, both on top.
* Searches are counted by Perplexity, xAI and OpenRouter; images and audio among the details are inside their whole.

A number that is no count (negative, a text, a fraction, beyond reason) or that contradicts another makes the usage
unsound: parts are cut to their whole and the whole is what counts, so no part is ever negative or counted twice. A
usage without its main numbers is none at all. An explicit zero is a zero.
"""

from typing import Any

import msgspec

from gateway.wire.canonical import Json
from gateway.wire.usage import SEARCHES_MAX, Reading, Tokens, count, tier_of

SEARCHES = ("num_search_queries", "num_sources_used")
CACHED = ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")
WRITTEN = ("cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens")


def parse(raw: bytes, service_tier: bytes = b"") -> Tokens | None:
    """Return the tokens of a usage object, or None where it holds none that could be true.

    SERVICE_TIER is the JSON of the answer's top-level field of this name; some upstreams put it inside the usage.
    """
    try:
        usage = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
    if type(usage) is not dict:
        return None
    whole = _whole(usage)
    if whole is None:
        return None
    prompt, completion, total = whole
    reading = Reading()
    reading.optional(usage, "total_tokens")
    details = usage.get("prompt_tokens_details")
    cached, written, on_top = _cache(reading, usage, details, prompt, prompt + completion)
    written_1h = _written_1h(reading, usage, details, written)
    context = prompt + on_top
    cached = reading.within(cached, context)
    written = reading.within(written, context - cached)
    written_1h = min(written_1h, written)
    left = context - cached - written
    audio = reading.within(reading.optional(details, "audio_tokens") or 0, left)
    image = reading.within(reading.optional(details, "image_tokens") or 0, left - audio)
    # A total may leave out what is on top of the prompt.
    excess = 0 if total in (None, prompt + completion) else (total or 0) - context - completion
    output, reasoning, spoken = _made(reading, usage, completion, excess)
    citations = reading.optional(usage, "citation_tokens") or 0
    return Tokens(
        input=left - audio - image + citations,
        cache_read=cached,
        cache_write_5m=written - written_1h,
        cache_write_1h=written_1h,
        audio_input=audio,
        image_input=image,
        output=output,
        reasoning=reasoning,
        audio_output=spoken,
        web_searches=_searches(reading, usage),
        service_tier=tier_of(usage.get("service_tier"), service_tier),
        sound=reading.sound,
    )


def render(tokens: Tokens) -> Json:
    """Return a usage object: OpenAI's own names, and those of OpenRouter and Anthropic for what OpenAI has none."""
    written = tokens.cache_write_5m + tokens.cache_write_1h
    prompt = tokens.input + tokens.cache_read + written + tokens.audio_input + tokens.image_input
    completion = tokens.output + tokens.reasoning + tokens.audio_output
    into: Json = {"cached_tokens": tokens.cache_read, "audio_tokens": tokens.audio_input}
    if tokens.image_input:
        into["image_tokens"] = tokens.image_input
    if written:
        into["cache_write_tokens"] = written
        into["cache_creation"] = dict(zip(LIFETIMES, (tokens.cache_write_5m, tokens.cache_write_1h), strict=True))
    found: Json = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": into,
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "audio_tokens": tokens.audio_output},
    }
    if tokens.web_searches:
        found["server_tool_use"] = {"web_search_requests": tokens.web_searches}
    return found


def _whole(usage: dict[str, Any]) -> tuple[int, int, int | None] | None:
    """Return prompt, completion and total; None where the usage was not counted."""
    prompt, total = count(usage.get("prompt_tokens")), count(usage.get("total_tokens"))
    if "completion_tokens" in usage:
        completion = count(usage["completion_tokens"])
    else:
        # Embeddings have none. Gemini leaves it out where all was thought: the total tells.
        completion = 0
        if "prompt_tokens" not in usage:
            # All that some makers of embeddings report.
            prompt = total
    if prompt is None or completion is None:
        return None
    return prompt, completion, total


def _cache(reading: Reading, usage: dict[str, Any], details: Any, prompt: int, both: int) -> tuple[int, int, int]:
    """Return what was read from a cache, what was written to one, and how much of both is on top of the prompt.

    BOTH is prompt and completion together: a total that is greater by the cache's tokens settles the question.
    """
    inside_read = reading.first(details, ("cached_tokens",))
    if inside_read is None:
        inside_read = reading.first(usage, CACHED)
    inside_written = reading.first(details, WRITTEN)
    read = reading.optional(usage, "cache_read_input_tokens") or 0
    written = reading.optional(usage, "cache_creation_input_tokens")
    if written is None:
        split = usage.get("cache_creation")
        written = sum(reading.optional(split, name) or 0 for name in LIFETIMES)
    if not read and not written:
        return inside_read or 0, inside_written or 0, 0
    repeated = inside_read == read and read + written <= prompt
    if repeated and count(usage.get("total_tokens")) != both + read + written:
        return read, written, 0
    # Named in both places and differently: what is on top is certain, what may be inside is not counted again.
    if inside_read not in (None, 0, read) or inside_written not in (None, 0, written):
        reading.sound = False
    return read, written, read + written


LIFETIMES = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")


def _written_1h(reading: Reading, usage: dict[str, Any], details: Any, written: int) -> int:
    """Return how much of what was written is kept for an hour."""
    split = usage.get("cache_creation")
    if type(split) is not dict:
        split = details.get("cache_creation") if type(details) is dict else None
    if type(split) is not dict:
        return 0
    five, hour = (reading.optional(split, name) or 0 for name in LIFETIMES)
    if five + hour != written:
        reading.sound = False
    return hour


def _made(reading: Reading, usage: dict[str, Any], completion: int, excess: int) -> tuple[int, int, int]:
    """Return visible output, reasoning and audio; EXCESS is what the total has on top of everything else."""
    details = usage.get("completion_tokens_details")
    reasoning = reading.optional(details, "reasoning_tokens")
    on_top = 0
    if reasoning is None:
        beside = reading.optional(usage, "reasoning_tokens")
        if beside and not excess and ("citation_tokens" in usage or "num_search_queries" in usage):
            # Perplexity's, which its total leaves out.
            on_top = beside
        else:
            reasoning = beside
    if excess < 0:
        # A total that leaves out what it should hold says nothing.
        reading.sound = False
        excess = 0
    if excess and reasoning is None:
        reasoning = excess
    elif excess and excess != reasoning:
        reading.sound = False
    whole = completion + excess
    reasoning = reading.within(reasoning or 0, whole)
    spoken = reading.within(reading.optional(details, "audio_tokens") or 0, whole - reasoning)
    return whole - reasoning - spoken, reasoning + on_top, spoken


def _searches(reading: Reading, usage: dict[str, Any]) -> int:
    found = reading.first(usage, SEARCHES, SEARCHES_MAX)
    if found is None:
        found = reading.optional(usage.get("server_tool_use"), "web_search_requests", SEARCHES_MAX)
    return found or 0
