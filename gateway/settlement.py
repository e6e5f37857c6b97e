"""What a finished request used and cost, and its usage row. Pure."""

import msgspec

from billing import pricing
from billing.holds import Held
from billing.pricing import Parts
from billing.usage import UsageRow
from gateway.snapshot import Caller, Target
from gateway.wire.openai_chat import Tokens


class Charge(msgspec.Struct, frozen=True):
    """What a request used, what it costs the house and what its caller pays; `source` is as in `billing.Usage`."""

    parts: Parts
    source: str
    price_id: int | None = None
    cost_nanos: int = 0
    charge_nanos: int = 0
    markup_ppm: int = 0


def charge(target: Target, tokens: Tokens | None, estimate: Parts, now: float, markup_ppm: int) -> Charge:
    """Return the charge for the upstream's own numbers or, where it gave none that can be true, for an estimate.

    NOW is in seconds since 1970 and decides the price in force; MARKUP_PPM is what the caller pays for each million of
    cost.
    """
    if tokens is None:
        parts, source = estimate, "estimate"
    else:
        parts, source = _parts(tokens), "provider" if tokens.sound else "estimate"
    return priced(target, parts, source, now, markup_ppm)


def priced(target: Target, parts: Parts, source: str, now: float, markup_ppm: int) -> Charge:
    """Return the charge for these parts at the price in force at NOW."""
    rates = pricing.in_force(target.prices, now)
    return Charge(
        parts=parts,
        source=source,
        price_id=rates.price_id if rates else None,
        cost_nanos=pricing.cost(parts, rates),
        charge_nanos=pricing.charge(parts, rates, markup_ppm),
        markup_ppm=markup_ppm,
    )


NOTHING = Charge(pricing.NOTHING, "none")


def _parts(tokens: Tokens) -> Parts:
    return Parts(
        input=tokens.input,
        cache_read=tokens.cache_read,
        audio_input=tokens.audio_input,
        output=tokens.output,
        reasoning=tokens.reasoning,
        audio_output=tokens.audio_output,
    )


def shown_nanos(charged: Charge, held: Held) -> int:
    """Return what a request costs as its caller sees it: what the wallet pays or, where it only records, the cost."""
    return charged.charge_nanos if held.metered else charged.cost_nanos


class Finished(msgspec.Struct, frozen=True):
    """How a request ended; times in milliseconds."""

    request_id: str
    model: str
    dialect: str
    streamed: bool
    status: int
    error_code: str
    first_byte_ms: int | None
    duration_ms: int
    session_id: str
    client: str
    labels: dict[str, str] | None = None


def row(finished: Finished, caller: Caller, target: Target, charged: Charge) -> UsageRow:
    """Return the usage row of a finished request."""
    parts = charged.parts
    return UsageRow(
        request_id=finished.request_id,
        key_id=caller.key_id,
        user_id=caller.user_id,
        organization_id=caller.organization_id,
        provider_id=target.provider.id,
        target_id=target.id,
        price_id=charged.price_id,
        model=clean(finished.model, 256),
        dialect=finished.dialect,
        streamed=finished.streamed,
        status=finished.status,
        error_code=clean(finished.error_code, 64),
        input_tokens=parts.input,
        cache_read_tokens=parts.cache_read,
        cache_write_tokens=parts.cache_write,
        output_tokens=parts.output,
        reasoning_tokens=parts.reasoning,
        audio_tokens=parts.audio_input + parts.audio_output,
        usage_source=charged.source,
        service_tier="",
        cost_nanos=charged.cost_nanos,
        charge_nanos=charged.charge_nanos,
        markup_ppm=charged.markup_ppm,
        searches=0,
        first_byte_ms=finished.first_byte_ms,
        duration_ms=finished.duration_ms,
        session_id=clean(finished.session_id, 64),
        client=clean(finished.client, 64),
        labels=finished.labels and {clean(name, 64): clean(text, 512) for name, text in finished.labels.items()},
    )


def clean(text: str, chars_max: int) -> str:
    """Return text that a column takes: no control characters, and no longer than it is wide."""
    return text[:chars_max] if text.isprintable() else "".join(filter(str.isprintable, text))[:chars_max]
