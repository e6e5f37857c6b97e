"""What a finished request used and cost, and its usage row. Pure."""

import msgspec

from billing import money, pricing
from billing.pricing import Parts
from billing.usage import UsageRow
from gateway.snapshot import Caller, Target
from gateway.wire.usage import Tokens


class Charge(msgspec.Struct, frozen=True):
    """What a request used, what it costs the house and what its caller pays; `source` is as in `billing.Usage`."""

    parts: Parts
    source: str
    price_id: int | None = None
    cost_nanos: int = 0
    charge_nanos: int = 0
    markup_ppm: int = 0
    service_tier: str = ""


def charge(target: Target, tokens: Tokens | None, estimate: Parts, now: float, markup_ppm: int) -> Charge:
    """Return the charge for the upstream's own numbers or, where it gave none that can be true, for an estimate.

    NOW is in seconds since 1970 and decides the price in force; MARKUP_PPM is what the caller pays for each million of
    cost.
    """
    if tokens is None:
        return priced(target, estimate, "estimate", now, markup_ppm)
    source = "provider" if tokens.sound else "estimate"
    return priced(target, parts_of(tokens), source, now, markup_ppm, tokens.service_tier)


def priced(target: Target, parts: Parts, source: str, now: float, markup_ppm: int, service_tier: str = "") -> Charge:
    """Return the charge for these parts at the price that a request of their size has at NOW."""
    rates = pricing.in_force(target.prices, now, context_tokens=parts.context_tokens, service_tier=service_tier)
    cost, charged = pricing.cost(parts, rates), pricing.charge(parts, rates, markup_ppm)
    if max(cost, charged) > money.REQUEST_NANOS_MAX:
        # Nothing costs as much, and no column would take it.
        cost, charged = min(cost, money.REQUEST_NANOS_MAX), min(charged, money.REQUEST_NANOS_MAX)
        source = "estimate"
    return Charge(
        parts=parts,
        source=source,
        price_id=rates.price_id if rates else None,
        cost_nanos=cost,
        charge_nanos=charged,
        markup_ppm=markup_ppm,
        service_tier=service_tier,
    )


NOTHING = Charge(pricing.NOTHING, "none")


def parts_of(tokens: Tokens) -> Parts:
    """Return usage as the parts that prices are for."""
    return Parts(
        input=tokens.input,
        cache_read=tokens.cache_read,
        cache_write_5m=tokens.cache_write_5m,
        cache_write_1h=tokens.cache_write_1h,
        audio_input=tokens.audio_input,
        image_input=tokens.image_input,
        output=tokens.output,
        reasoning=tokens.reasoning,
        audio_output=tokens.audio_output,
        web_searches=tokens.web_searches,
    )


def shown_nanos(charged: Charge, *, metered: bool) -> int:
    """Return what a request costs as its caller sees it: what the wallet pays or, where it only records, the cost.

    A free model is free for both.
    """
    return charged.charge_nanos if metered or not charged.markup_ppm else charged.cost_nanos


def tokens(charged: Charge) -> int | None:
    """Return how many tokens of any kind a request used, or None for one that failed."""
    parts = charged.parts
    made = parts.output + parts.reasoning + parts.audio_output
    return None if charged.source == "none" else parts.context_tokens + made


class Asked(msgspec.Struct, frozen=True):
    """What is known of a request before it is called."""

    request_id: str
    model: str
    dialect: str
    streamed: bool
    session_id: str
    client: str
    labels: dict[str, str] | None = None


class Ending(msgspec.Struct, frozen=True):
    """How a request ended; times in milliseconds."""

    status: int
    error_code: str
    first_byte_ms: int | None
    duration_ms: int


# What the row of a request says that was lost with its process.
LOST = Ending(500, "gateway_lost", None, 0)


def opened(asked: Asked, caller: Caller, target: Target) -> UsageRow:
    """Return the usage row of a request that is let through: what it leaves if it is lost."""
    return UsageRow(
        request_id=asked.request_id,
        key_id=caller.key_id,
        user_id=caller.user_id,
        organization_id=caller.organization_id,
        provider_id=target.provider.id,
        target_id=target.id,
        markup_ppm=0,
        status=LOST.status,
        streamed=asked.streamed,
        model=clean(asked.model, 256),
        dialect=asked.dialect,
        error_code=LOST.error_code,
        session_id=clean(asked.session_id, 64),
        client=clean(asked.client, 64),
        labels=asked.labels and {clean(name, 64): clean(text, 512) for name, text in asked.labels.items()},
    )


def ended(row: UsageRow, charged: Charge, ending: Ending) -> UsageRow:
    """Fill in how a request ended and what it used and cost; return its row."""
    row.status, row.error_code = ending.status, clean(ending.error_code, 64)
    row.first_byte_ms, row.duration_ms = ending.first_byte_ms, ending.duration_ms
    row.usage_source = charged.source
    row.price_id, row.service_tier = charged.price_id, charged.service_tier
    row.cost_nanos, row.charge_nanos, row.markup_ppm = charged.cost_nanos, charged.charge_nanos, charged.markup_ppm
    parts = charged.parts
    row.input_tokens = parts.input + parts.image_input
    row.cache_read_tokens, row.cache_write_tokens = parts.cache_read, parts.cache_write
    row.output_tokens, row.reasoning_tokens = parts.output, parts.reasoning
    row.audio_tokens = parts.audio_input + parts.audio_output
    row.searches = parts.web_searches
    return row


def clean(text: str, chars_max: int) -> str:
    """Return text that a column takes: no control characters, and no longer than it is wide."""
    return text[:chars_max] if text.isprintable() else "".join(filter(str.isprintable, text))[:chars_max]
