"""What a request costs: usage in disjoint parts, times the rates in force. Pure.

A target's prices are one tuple, newest first; of one moment, the tiers come before the price that they are tiers of.
A price for any context size at the standard service tier replaces everything that began before it, tiers included: so
a tier lives as long as the price it was written with, and is retired by a new price without it.

Amounts are nano-dollars and rounded up once, at the very end, from the exact product.
"""

import msgspec

from billing import money

# Searches are priced by the thousand, tokens by the million.
SEARCHES_SCALE = 1_000


class Parts(msgspec.Struct, frozen=True):
    """Usage in disjoint parts: nothing is counted in two of them. Counts are tokens, and searches."""

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

    @property
    def cache_write(self) -> int:
        """All tokens written to a cache, whatever its lifetime."""
        return self.cache_write_5m + self.cache_write_1h

    @property
    def context_tokens(self) -> int:
        """The size of the request, which decides the tier: everything that went in, cached or not."""
        return (
            self.input
            + self.cache_read
            + self.cache_write_5m
            + self.cache_write_1h
            + self.audio_input
            + self.image_input
        )


NOTHING = Parts()


class Rates(msgspec.Struct, frozen=True):
    """A price: nano-dollars per million tokens of each part, per thousand searches; `price_id` names its row.

    It is for requests of more than `above_context_tokens` (None: of any size), and for one service tier ("": standard).
    """

    price_id: int
    effective_at: float
    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    audio_input: int
    image_input: int
    reasoning: int
    audio_output: int
    web_search: int = 0
    above_context_tokens: int | None = None
    service_tier: str = ""


def in_force(prices: tuple[Rates, ...], now: float, *, context_tokens: int = 0, service_tier: str = "") -> Rates | None:
    """Return the price that a request of this size and service tier has at NOW (seconds since 1970), or None.

    Of the prices that fit, one for the service tier comes before a standard one, then the one for the largest context,
    then the newest. A service tier without a price of its own is standard.
    """
    found: Rates | None = None
    for rates in prices:
        if rates.effective_at > now:
            continue
        above, tier = rates.above_context_tokens, rates.service_tier
        if above is None and not tier:
            return found or rates
        fits = (not tier or tier == service_tier) and (above is None or context_tokens > above)
        if fits and (found is None or _specific(rates) > _specific(found)):
            found = rates
    return found


def _specific(rates: Rates) -> tuple[bool, int]:
    above = rates.above_context_tokens
    return bool(rates.service_tier), -1 if above is None else above


def dearest(
    prices: tuple[Rates, ...],
    now: float,
    *,
    context_tokens: int,
    service_tier: str = "",
    caching: bool = False,
    audio: bool = False,
) -> Rates | None:
    """Return rates for an estimate made before the answer is there: no part is cheaper than the one it is part of.

    CACHING: the request asks to write a cache, which may cost more than input. AUDIO: sound may go in or come out.
    A hold counts all that goes in as `input` and all that comes out as `output`: these two are the dearest of theirs.
    """
    rates = in_force(prices, now, context_tokens=context_tokens, service_tier=service_tier)
    if rates is None:
        return None
    given, made = max(rates.input, rates.image_input), max(rates.output, rates.reasoning)
    if caching:
        given = max(given, rates.cache_write_5m, rates.cache_write_1h)
    if audio:
        given, made = max(given, rates.audio_input), max(made, rates.audio_output)
    return msgspec.structs.replace(
        rates,
        input=given,
        cache_read=max(given, rates.cache_read),
        cache_write_5m=max(given, rates.cache_write_5m),
        cache_write_1h=max(given, rates.cache_write_1h),
        audio_input=max(given, rates.audio_input),
        image_input=given,
        output=made,
        reasoning=made,
        audio_output=max(made, rates.audio_output),
    )


def cost(parts: Parts, rates: Rates | None) -> int:
    """Return what the request costs the house, in nano-dollars, rounded up once; without a price it is 0."""
    return 0 if rates is None else money.charge(_exact(parts, rates))


def charge(parts: Parts, rates: Rates | None, markup_ppm: int) -> int:
    """Return what the caller pays: the exact cost times MARKUP_PPM / 1,000,000, in nano-dollars, rounded up once."""
    return (
        0
        if rates is None
        else money.ratio(_exact(parts, rates) * markup_ppm, money.TOKENS_PER_PRICE * money.PARTS_PER_MILLION)
    )


def _exact(parts: Parts, rates: Rates) -> int:
    """Return the cost in millionths of a nano-dollar."""
    exact = parts.input * rates.input + parts.output * rates.output
    # Most requests have few of these, and a test is cheaper than a product.
    if parts.cache_read:
        exact += parts.cache_read * rates.cache_read
    if parts.reasoning:
        exact += parts.reasoning * rates.reasoning
    if parts.cache_write_5m:
        exact += parts.cache_write_5m * rates.cache_write_5m
    if parts.cache_write_1h:
        exact += parts.cache_write_1h * rates.cache_write_1h
    if parts.audio_input:
        exact += parts.audio_input * rates.audio_input
    if parts.image_input:
        exact += parts.image_input * rates.image_input
    if parts.audio_output:
        exact += parts.audio_output * rates.audio_output
    if parts.web_searches:
        exact += parts.web_searches * rates.web_search * SEARCHES_SCALE
    return exact
