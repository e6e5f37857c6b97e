"""What a request may cost, and the hold that lets it through to an upstream.

The hold is the estimated input plus the output that the caller limits it to or, without such a limit, the model's
typical one, at the caller's price. A wallet that could not pay the model's longest answer gets the request capped to
what its hold pays. Everything that the caller multiplies a price by was bounded when the request was read.
"""

import hashlib
import time

import msgspec
from django.conf import settings

from billing import money, pricing
from billing.holds import (
    Ask,
    BucketKey,
    Held,
    HoldClosed,
    InsufficientCredits,
    NotDurable,
    OverLimit,
    Refusal,
    Repeated,
)
from billing.journal import Journal
from billing.pricing import Parts, Rates
from billing.spending import CALENDAR, Shortage
from billing.usage import UsageRow
from gateway import estimate
from gateway.errors import Fault
from gateway.snapshot import Caller, Model, Target
from gateway.wire.fields import Asked, texts
from gateway.wire.usage import tier_of

# What an answer is at least worth asking for, and what a model whose longest answer nobody knows may answer.
LEAST_OUTPUT_TOKENS = 16
UNKNOWN_OUTPUT_TOKENS = 131_072
COST_PPM = money.PARTS_PER_MILLION
IDEMPOTENCY_KEY_CHARS = 255


class Quote(msgspec.Struct, frozen=True):
    """What a request may use at most, in tokens, and at which price."""

    rates: Rates | None
    markup_ppm: int
    input_tokens: int
    choices: int
    asked_tokens: int | None
    typical_tokens: int
    longest_tokens: int

    def nanos(self, output_tokens: int) -> int:
        """Return the price of the input and so many tokens in each answer."""
        parts = Parts(input=self.input_tokens, output=output_tokens * self.choices)
        return pricing.charge(parts, self.rates, self.markup_ppm)

    def output_tokens(self, amount_nanos: int) -> int:
        """Return how many tokens in each answer an amount pays."""
        if self.rates is None or not self.rates.output * self.markup_ppm:
            return self.longest_tokens
        paid = amount_nanos * money.TOKENS_PER_PRICE * COST_PPM // self.markup_ppm
        return max(0, (paid - self.input_tokens * self.rates.input) // (self.rates.output * self.choices))

    @property
    def expected_tokens(self) -> int:
        """What is held for each answer."""
        return self.typical_tokens if self.asked_tokens is None else self.asked_tokens


def quote(
    request: Asked, model: Model, targets: tuple[Target, ...], caller: Caller, body: bytes, *, answers: bool = True
) -> Quote:
    """Return what a request may cost at the dearest of the targets that it may go to.

    ANSWERS: its answer is made of tokens. Where it is sent tells that, and not what the model is said to be.
    Raise Fault 404 for a model without a price that somebody would have to pay for.
    """
    now = time.time()
    tokens = estimate.input_tokens(body, texts(request.fields))
    service_tier = tier_of(None, request.fields.get("service_tier") or request.fields.get("serviceTier") or b"")
    found = [
        pricing.dearest(
            target.prices,
            now,
            context_tokens=tokens,
            service_tier=service_tier,
            caching=estimate.asks_for_caching(body),
            audio=estimate.asks_for_audio(body),
        )
        for target in targets
    ]
    if None in found and caller.terms.prepaid and not targets[0].free:
        raise Fault(
            "model_not_found",
            f"The model {request.model!r} has no price yet, so it cannot be sold; the operator sets one.",
            param="model",
        )
    longest = model.output_tokens_max or max(UNKNOWN_OUTPUT_TOKENS, model.output_tokens_typical)
    asked = None if request.max_tokens is None else min(request.max_tokens, longest)
    quotes = [
        Quote(
            rates=rates,
            markup_ppm=markup_ppm(targets[0], caller),
            input_tokens=tokens,
            choices=request.choices,
            asked_tokens=asked if answers else 0,
            # With nothing held there is nothing to extend by, and a stream of any length would pass.
            typical_tokens=min(max(model.output_tokens_typical, LEAST_OUTPUT_TOKENS), longest),
            longest_tokens=longest,
        )
        for rates in found
    ]
    return max(quotes, key=lambda each: each.nanos(each.expected_tokens))


def markup_ppm(target: Target, caller: Caller) -> int:
    """Return what a caller pays for each million of cost: nothing for a free model, the cost where it is recorded."""
    if target.free:
        return 0
    return caller.terms.markup_ppm if caller.terms.prepaid else COST_PPM


def ask(
    quoted: Quote, row: UsageRow, idempotency_key: str | None, body: bytes, *, buckets: tuple[BucketKey, ...] = ()
) -> Ask:
    """Return what is asked of the journal; raise Fault 400 for an idempotency key that is none, or beyond any price."""
    if idempotency_key is not None and not (
        0 < len(idempotency_key) <= IDEMPOTENCY_KEY_CHARS and idempotency_key.isprintable()
    ):
        raise Fault("invalid_parameter", f"Idempotency-Key is not 1 to {IDEMPOTENCY_KEY_CHARS} printable characters.")
    wanted = quoted.nanos(quoted.expected_tokens)
    if wanted > money.REQUEST_NANOS_MAX:
        raise Fault(
            "invalid_parameter",
            f"This request may cost ${money.shown(wanted)}, and no request may cost more than "
            f"${money.shown(money.REQUEST_NANOS_MAX)}; ask for fewer output tokens, or ask the operator for the price.",
            param="max_tokens",
        )
    open_ended = quoted.asked_tokens is None
    return Ask(
        row,
        wanted_nanos=wanted,
        least_nanos=quoted.nanos(min(LEAST_OUTPUT_TOKENS, quoted.typical_tokens)) if open_ended else wanted,
        full_nanos=quoted.nanos(quoted.longest_tokens) if open_ended else wanted,
        buckets=buckets,
        idempotency_key=idempotency_key,
        body_digest=hashlib.sha256(body).digest() if idempotency_key is not None else b"",
    )


async def hold(journal: Journal, asked: Ask, quoted: Quote) -> Held:
    """Return the hold once it is durable; raise Fault 402, 409, 422, 429 or 503."""
    try:
        return await journal.hold(asked, settings.HOLD_TIMEOUT_S)
    except Refusal as refusal:
        raise refused(refusal, quoted) from None
    except NotDurable:
        raise Fault(
            "storage_unavailable", "The database does not answer, so nothing was called; try again.", retry_after_s=1
        ) from None


def refused(refusal: Refusal, quoted: Quote) -> Fault:
    """Return the fault of a hold that was not admitted."""
    if isinstance(refusal, InsufficientCredits):
        return Fault("insufficient_credits", f"{_poverty(refusal, quoted)} Top up at {settings.PUBLIC_URL}/account")
    if isinstance(refusal, OverLimit):
        return _over_limit(refusal.shortage)
    if isinstance(refusal, HoldClosed):
        return Fault(
            "storage_unavailable", "The database was away for so long that the request was settled as it was then."
        )
    if isinstance(refusal, Repeated):
        return _repeated(refusal)
    raise refusal


def _poverty(refusal: InsufficientCredits, quoted: Quote) -> str:
    if refusal.frozen:
        return "The account is frozen while a payment is disputed."
    balance = f"${money.shown(refusal.available_nanos)} of the balance is available, and this request may cost"
    if quoted.asked_tokens:
        could = quoted.output_tokens(refusal.available_nanos)
        return (
            f"{balance} ${money.shown(quoted.nanos(quoted.asked_tokens))}: it asks for up to {quoted.asked_tokens} "
            f"output tokens, and the balance pays for {could}."
        )
    return f"{balance} ${money.shown(quoted.nanos(min(LEAST_OUTPUT_TOKENS, quoted.expected_tokens)))} or more."


def _over_limit(shortage: Shortage) -> Fault:
    code = "budget_exceeded" if shortage.kind == CALENDAR else "quota_exceeded"
    short = (
        f"${money.shown(shortage.left)} is left of the spending limit {shortage.name!r}, "
        f"and this request may cost ${money.shown(shortage.amount)}"
    )
    if not shortage.capacity:
        return Fault(code, f"The spending limit {shortage.name!r} is $0, so nothing may be spent.")
    if shortage.amount > shortage.capacity:
        capacity = f"which is more than the ${money.shown(shortage.capacity)} that it holds when it is full"
        return Fault(code, f"{short}, {capacity}; ask for fewer output tokens.")
    if shortage.retry_after_s is None:
        return Fault(code, f"{short}; it does not refill by itself: ask the operator.")
    if shortage.anew_at is not None:
        return Fault(code, f"{short}; it starts anew at {shortage.anew_at:%Y-%m-%d %H:%M} UTC.")
    wait = f"it has that much again in {shortage.retry_after_s} s"
    return Fault(code, f"{short}; {wait}.", retry_after_s=shortage.retry_after_s)


def _repeated(refusal: Repeated) -> Fault:
    if not refusal.same:
        return Fault("idempotency_mismatch", "This Idempotency-Key came with another body before; use a new one.")
    if refusal.running:
        return Fault("idempotency_conflict", "The request with this Idempotency-Key is still running.", retry_after_s=1)
    return Fault(
        "idempotency_conflict",
        "This request was answered and charged before; see "
        f"GET {settings.PUBLIC_URL}/api/v1/generation?id={refusal.request_id}",
    )


class Budget:
    """How many tokens of output a stream may deliver on its hold, over all its answers.

    An upstream that was given a limit keeps it, and counts better than we do: it is believed up to twice the limit.
    """

    def __init__(self, journal: Journal, held: Held, quoted: Quote) -> None:
        self.journal = journal
        self.held = held
        self.quote = quoted
        self.step_tokens = quoted.typical_tokens * quoted.choices
        if not held.metered and not held.bucket_ids:
            self.tokens: float = float("inf")
        elif held.capped:
            self.tokens = 2 * quoted.output_tokens(held.amount_nanos) * quoted.choices
        else:
            believed = 1 if quoted.asked_tokens is None else 2
            self.tokens = believed * quoted.expected_tokens * quoted.choices

    async def extend(self) -> Fault | None:
        """Hold another step, or return the fault that ends the stream.

        With the database away the stream goes on: what it delivers is settled when that returns.
        """
        more = pricing.charge(Parts(output=self.step_tokens), self.quote.rates, self.quote.markup_ppm)
        try:
            await self.journal.extend(self.held, more, settings.HOLD_TIMEOUT_S)
        except Refusal as refusal:
            return refused(refusal, self.quote)
        except NotDurable:
            pass
        self.tokens += self.step_tokens
        return None


# The faults with which `Budget.extend` ends a stream.
CUTS = ("insufficient_credits", "quota_exceeded", "budget_exceeded")
