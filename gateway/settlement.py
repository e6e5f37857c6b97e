"""What a finished request used and cost, and its usage row. Pure."""

import math

import msgspec

from billing import money, pricing
from billing.journal import UsageRow
from billing.pricing import Parts
from gateway.snapshot import Caller, Target
from gateway.wire.openai_chat import Tokens

# Bytes of text to a token, for what no upstream counted.
BYTES_PER_TOKEN = 4
# What a limit of tokens reserves for the output of a request that does not bound it.
TYPICAL_OUTPUT_TOKENS = 1024


class Charge(msgspec.Struct, frozen=True):
    """What a request used and cost; `source` is provider, estimate or none."""

    parts: Parts
    source: str
    price_id: int | None
    cost_nanos: int


def charge(target: Target, tokens: Tokens | None, estimate: Parts, now: float) -> Charge:
    """Return the charge for the upstream's own numbers or, where it gave none that can be true, for an estimate.

    NOW is in seconds since 1970 and decides the price in force.
    """
    rates = pricing.in_force(target.prices, now)
    if tokens is None:
        parts, source = estimate, "estimate"
    else:
        parts, source = _parts(tokens), "provider" if tokens.sound else "estimate"
    return Charge(parts, source, rates.price_id if rates else None, pricing.cost(parts, rates))


NOTHING = Charge(pricing.NOTHING, "none", None, 0)


def _parts(tokens: Tokens) -> Parts:
    return Parts(
        input=tokens.input,
        cache_read=tokens.cache_read,
        audio_input=tokens.audio_input,
        output=tokens.output,
        reasoning=tokens.reasoning,
        audio_output=tokens.audio_output,
    )


def estimate(request_bytes: int, output_tokens: int) -> Parts:
    """Return an estimate from the size of the request and the output that was counted on its way through."""
    return Parts(input=math.ceil(request_bytes / BYTES_PER_TOKEN), output=output_tokens)


def tokens(charged: Charge) -> int:
    """Return how many tokens of any kind a request used."""
    parts = charged.parts
    asked = parts.input + parts.cache_read + parts.cache_write + parts.audio_input
    return asked + parts.output + parts.reasoning + parts.audio_output


def cost_header(charged: Charge) -> bytes:
    """Return the cost in dollars, as a header shows it."""
    return money.dollars(charged.cost_nanos).encode()


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
        cost_nanos=charged.cost_nanos,
        first_byte_ms=finished.first_byte_ms,
        duration_ms=finished.duration_ms,
        session_id=clean(finished.session_id, 64),
        client=clean(finished.client, 64),
    )


def clean(text: str, chars_max: int) -> str:
    """Return text that a column takes: no control characters, and no longer than it is wide."""
    return text[:chars_max] if text.isprintable() else "".join(filter(str.isprintable, text))[:chars_max]
