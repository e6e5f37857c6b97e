"""What a finished request costs: disjoint usage parts times the rates in force. Pure."""

import msgspec

from billing import money


class Parts(msgspec.Struct, frozen=True):
    """Usage in disjoint parts: no token is counted in two of them. Counts are tokens."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    audio_input: int = 0
    output: int = 0
    reasoning: int = 0
    audio_output: int = 0


NOTHING = Parts()


class Rates(msgspec.Struct, frozen=True):
    """A price in force: nano-dollars per million tokens of each part; `price_id` names its row."""

    price_id: int
    effective_at: float
    input: int
    cache_read: int
    cache_write: int
    audio_input: int
    output: int
    reasoning: int
    audio_output: int


def in_force(prices: tuple[Rates, ...], now: float) -> Rates | None:
    """Return the newest price that has begun by NOW (seconds since 1970); PRICES come newest first."""
    return next((rates for rates in prices if rates.effective_at <= now), None)


def cost(parts: Parts, rates: Rates | None) -> int:
    """Return the cost in nano-dollars, rounded up once; without a price it is 0."""
    return charge(parts, rates, money.PARTS_PER_MILLION)


def charge(parts: Parts, rates: Rates | None, markup_ppm: int) -> int:
    """Return the cost times the markup (parts per million) in nano-dollars, rounded up once; without a price 0."""
    if rates is None:
        return 0
    amount = (
        parts.input * rates.input
        + parts.cache_read * rates.cache_read
        + parts.cache_write * rates.cache_write
        + parts.audio_input * rates.audio_input
        + parts.output * rates.output
        + parts.reasoning * rates.reasoning
        + parts.audio_output * rates.audio_output
    )
    return money.ratio(amount * markup_ppm, money.TOKENS_PER_PRICE * money.PARTS_PER_MILLION)
