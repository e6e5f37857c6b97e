"""What a session holds of its caller's money: one slice for each response, each a hold of its own in the journal.

A slice that is free stands for what may begin next. Invariants: whatever begins takes a slice, or ends the session; a
slice ends once, by a settlement, which leaves a usage row, or by being released, which leaves none.
"""

import asyncio
import time

import msgspec
from django.conf import settings

from billing import pricing
from billing.holds import Ask, Held, NotDurable, Refusal
from billing.usage import UsageRow
from gateway import admission, settlement
from gateway.admission import LEAST_OUTPUT_TOKENS, UNKNOWN_OUTPUT_TOKENS, Budget, Quote
from gateway.errors import Fault
from gateway.exchange import Exchange, new_request_id
from gateway.realtime.meter import Meter
from gateway.runtime import Runtime
from gateway.settlement import Charge, Ending
from gateway.snapshot import Caller, Model, Target

DIALECT = "realtime"


class Opened(msgspec.Struct, frozen=True):
    """What a session was opened for: the caller's name of the model, what it means, and the id that its rows share."""

    asked: str
    model: Model
    target: Target
    session_id: str


class Slice:
    """One hold, and the row that it will leave."""

    __slots__ = ("ask", "held", "quote", "row", "settled")

    def __init__(self, ask: Ask, held: Held, quote: Quote) -> None:
        self.ask = ask
        self.held = held
        self.quote = quote
        self.row: UsageRow = ask.row
        self.settled = False

    @property
    def amount_nanos(self) -> int:
        """What is held."""
        return self.held.amount_nanos


def quote(opened: Opened, caller: Caller, meter: Meter, more_tokens: int, asked_tokens: int | None) -> Quote:
    """Return what a response that begins now may cost at most; raise Fault 404 for a model without a price.

    MORE_TOKENS is what it alone is given, ASKED_TOKENS what its output is limited to, None for no limit.
    """
    target, model = opened.target, opened.model
    tokens = meter.input_tokens(more_tokens)
    rates = pricing.dearest(target.prices, time.time(), context_tokens=tokens, audio=meter.sounds)
    if rates is None and caller.terms.prepaid and not target.free:
        raise Fault(
            "model_not_found",
            f"The model {opened.asked!r} has no price yet, so it cannot be sold; the operator sets one.",
            param="model",
        )
    longest = model.output_tokens_max or max(UNKNOWN_OUTPUT_TOKENS, model.output_tokens_typical)
    return Quote(
        rates=rates,
        markup_ppm=admission.markup_ppm(target, caller),
        input_tokens=tokens,
        choices=1,
        asked_tokens=None if asked_tokens is None else min(asked_tokens, longest),
        typical_tokens=min(max(model.output_tokens_typical, LEAST_OUTPUT_TOKENS), longest),
        longest_tokens=longest,
    )


class Slices:
    """A session's slices that are free. Both directions of a session use it, one at a time."""

    def __init__(self, runtime: Runtime, exchange: Exchange, opened: Opened) -> None:
        self.journal = runtime.journal
        self.live = runtime.live
        self.exchange = exchange
        self.opened = opened
        self.free: list[Slice] = []
        self.lock = asyncio.Lock()

    async def cover(self, quoted: Quote, count: int) -> None:
        """Have COUNT free slices, at least one; raise Fault 402, 429 or 503.

        The last one, or the largest of those that are there, pays for what was quoted.
        """
        async with self.lock:
            if len(self.free) >= count:
                await self._raise(self._largest(), quoted)
            while len(self.free) < count:
                self.free.append(await self._hold(quoted))

    async def claim(self, quoted: Quote) -> Slice:
        """Return the largest free slice, no longer free, or a new one; raise Fault as `cover` does."""
        async with self.lock:
            if not self.free:
                return await self._hold(quoted)
            found = self._largest()
            self.free.remove(found)
            return found

    def trim(self, count: int) -> None:
        """Release all free slices but the COUNT largest."""
        self.free.sort(key=lambda each: -each.amount_nanos)
        for extra in self.free[count:]:
            self.journal.release(extra.held, extra.ask)
        del self.free[count:]

    async def settle(self, ending: Slice, charged: Charge, fault: Ending) -> None:
        """Settle a slice, once; raise Fault 503 when that is not durable in time: it is written later then."""
        if ending.settled:
            return
        ending.settled = True
        row = settlement.ended(ending.row, charged, fault)
        try:
            await self.journal.settle(ending.held, row, settings.SETTLE_TIMEOUT_S)
        except NotDurable:
            self._show(msgspec.structs.replace(row, status=503, error_code="storage_unavailable"), None)
            raise Fault(
                "storage_unavailable", "The database does not answer, so what was used could not be settled."
            ) from None
        self._show(row, settlement.shown_nanos(charged, metered=ending.held.metered))

    def leave(self, ending: Slice) -> None:
        """Settle a slice as its mark says, without waiting."""
        if not ending.settled:
            ending.settled = True
            row = ending.held.mark()
            self.journal.leave(ending.held)
            self._show(row, None)

    def begins(self, paid: Slice) -> None:
        """Tell live pages of a response that begins."""
        if self.live.watched:
            self.live.started(paid.row, self.exchange.caller, self.opened.target.provider.slug)

    def _show(self, row: UsageRow, cost_nanos: int | None) -> None:
        """Tell live pages how a slice ended; COST_NANOS is what its caller sees, None where that is not known."""
        if self.live.watched:
            self.live.finished(row, cost_nanos, self.exchange.caller, self.opened.target.provider.slug)

    def budget(self, claimed: Slice, quoted: Quote) -> Budget:
        """Return how much a response may deliver on its slice.

        Upstreams keep the limit that a response was given, and count better than we do: they are believed up to twice
        as much. Of a response without a limit nobody knows but us where what is held ends.
        """
        found = Budget(self.journal, claimed.held, quoted)
        if found.tokens != float("inf") and quoted.asked_tokens is None:
            found.tokens = quoted.output_tokens(claimed.amount_nanos)
        return found

    def _largest(self) -> Slice:
        return max(self.free, key=lambda each: each.amount_nanos)

    async def _hold(self, quoted: Quote) -> Slice:
        exchange = self.exchange
        binding = exchange.access.spending
        if binding.problem:
            raise Fault("quota_exceeded", binding.problem)
        asked = settlement.Asked(
            request_id=new_request_id(),
            model=self.opened.asked,
            dialect=DIALECT,
            streamed=True,
            session_id=self.opened.session_id,
            client=exchange.headers.get(b"user-agent", b"").decode("latin-1"),
        )
        row = settlement.opened(asked, exchange.caller, self.opened.target)
        ask = admission.ask(quoted, row, None, b"", buckets=binding.buckets)
        return Slice(ask, await admission.hold(self.journal, ask, quoted), quoted)

    async def _raise(self, standing: Slice, quoted: Quote) -> None:
        """Have a slice that is held already pay for what was quoted: all of it or, of what has no limit, the least."""
        wanted = quoted.nanos(quoted.expected_tokens)
        if standing.amount_nanos >= wanted:
            return
        least = wanted if quoted.asked_tokens is not None else quoted.nanos(LEAST_OUTPUT_TOKENS)
        try:
            await self.journal.extend(standing.held, wanted - standing.amount_nanos, settings.HOLD_TIMEOUT_S)
        except Refusal as refusal:
            if standing.amount_nanos < least:
                raise admission.refused(refusal, quoted) from None
        except NotDurable:
            raise Fault(
                "storage_unavailable", "The database does not answer, so nothing was asked of the upstream.",
                retry_after_s=1,
            ) from None  # fmt: skip
