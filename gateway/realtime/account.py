"""What a session's responses and transcriptions use and cost, from their first event to their usage row.

A response that the client asks for is held for before it is asked for; one that voice starts, or that nobody expected,
takes the slice that stands for it. Invariants: what began is settled once, from the upstream's count or, where it gave
none, from what was delivered; nothing delivered and no count costs nothing.
"""

import copy
import time
from collections import deque
from typing import Any

from billing import pricing
from billing.usage import UsageRow
from gateway import estimate, limiting, settlement
from gateway.admission import Budget, Quote
from gateway.errors import Fault
from gateway.exchange import Exchange
from gateway.limiting import Limited
from gateway.realtime import meter as metering
from gateway.realtime import usage
from gateway.realtime.events import Event, holder, text
from gateway.realtime.meter import Delivered, Meter
from gateway.realtime.slices import Opened, Slice, Slices, quote
from gateway.routes import granted_targets, own_targets, plan
from gateway.runtime import Runtime
from gateway.settlement import NOTHING, Charge, Ending
from gateway.snapshot import Caller, Target

ENDED_KEPT = 256
FAILED_STATUS = 502


class Create:
    """A response that was asked for and has not begun: the event's id, what it alone is given, and its limits."""

    __slots__ = ("asked_tokens", "event_id", "limited", "more_tokens")

    def __init__(self, event: Event, meter: Meter) -> None:
        self.event_id = text(event.event_id)
        response = holder(event.response)
        self.asked_tokens = metering.tokens_max(response) or meter.output_tokens_max
        self.more_tokens = estimate.input_tokens(bytes(event.response)) if "input" in response else 0
        if "instructions" in response or "tools" in response:
            self.more_tokens = max(self.more_tokens, estimate.text_tokens(bytes(event.response)))
        self.limited: Limited | None = None


class Running:
    """A response that has begun."""

    __slots__ = ("budget", "delivered", "first_at", "limited", "slice", "started_at")

    def __init__(self, paid: Slice, budget: Budget, delivered: Delivered, limited: Limited | None) -> None:
        self.slice = paid
        self.budget = budget
        self.delivered = delivered
        self.limited = limited
        self.started_at = time.monotonic()
        self.first_at: float | None = None

    def ending(self, status: int, code: str) -> Ending:
        """Return how it ended, if it ends now."""
        first_ms = None if self.first_at is None else round((self.first_at - self.started_at) * 1000)
        return Ending(status, code, first_ms, round((time.monotonic() - self.started_at) * 1000))


class Account:
    """One session's."""

    def __init__(self, runtime: Runtime, exchange: Exchange, opened: Opened) -> None:
        self.runtime = runtime
        self.exchange = exchange
        self.opened = opened
        self.meter = Meter(opened.model.context_tokens)
        self.slices = Slices(runtime, exchange, opened)
        self.asked: list[Create] = []
        self.running: dict[str, Running] = {}
        self.ended: deque[str] = deque(maxlen=ENDED_KEPT)

    def renew(self, caller: Caller) -> None:
        """Take over what the catalog and the caller's plan are by now; raise Fault where the model is theirs no more.

        What runs keeps what it began with.
        """
        exchange, snapshot = self.exchange, self.runtime.freshness.snapshot
        if snapshot is exchange.snapshot and caller is exchange.caller:
            return
        exchange.caller, exchange.snapshot, exchange.access = caller, snapshot, snapshot.access(caller)
        asked, access = self.opened.asked, exchange.access
        model = plan(snapshot, access, asked).model
        # Also one that is out: an open session is the best sign that it is not.
        theirs = own_targets(granted_targets(model, access), access, asked)
        target = next((each for each in theirs if each.id == self.opened.target.id), None)
        if target is None or target.upstream_id != self.opened.target.upstream_id:
            raise Fault("model_not_found", f"{asked!r} has another upstream by now; open another session.")
        self.opened = self.slices.opened = Opened(asked, model, target, self.opened.session_id)

    # --- What may begin -----------------------------------------------------------------------------------------
    async def stand(self) -> None:
        """Hold for what may begin without being asked for, and release the rest; raise Fault 402, 429 or 503."""
        if self.running or self.asked:
            return
        count = 1 if self.meter.stands else 0
        if count:
            unsaid = max(0, metering.UNSAID_TOKENS - self.meter.input_tokens())
            await self.slices.cover(self._quote(unsaid, self.meter.output_tokens_max), count)
        self.slices.trim(count)

    async def count(self, create: Create) -> None:
        """Count a response that is asked for in the caller's limits; raise Fault 429, or 503 for the sandbox."""
        create.limited = await self._limited(self._quote(create.more_tokens, create.asked_tokens))

    async def hold(self, create: Create) -> None:
        """Hold for a response before it is asked for; raise Fault 402, 429 or 503."""
        self.asked.append(create)
        try:
            await self.slices.cover(self._quote(create.more_tokens, create.asked_tokens), len(self.asked))
        except BaseException:
            self._drop(create)
            raise

    async def refused(self, event: Event) -> None:
        """Give back what was held for a response that the upstream refuses to begin."""
        if not self.asked:
            return
        cause = holder(event.error).get("event_id") or ""
        for create in self.asked:
            if create.event_id == cause:
                self._drop(create)
                await self.stand()
                return

    # --- What runs ----------------------------------------------------------------------------------------------
    async def created(self, event: Event) -> None:
        """Take note of a response that begins; raise Fault where nothing pays for it."""
        response = holder(event.response)
        response_id = response.get("id")
        if type(response_id) is str and response_id not in self.running and response_id not in self.ended:
            await self.begin(response_id, response)

    async def begin(self, response_id: str, response: dict[str, Any]) -> Running:
        """Give a response that begins its slice; raise Fault where there is none to be had."""
        create = self.asked.pop(0) if self.asked else None
        told = metering.tokens_max(response)
        asked_tokens = told or (create.asked_tokens if create else self.meter.output_tokens_max)
        more_tokens = create.more_tokens if create else 0
        quoted = self._quote(more_tokens, asked_tokens)
        limited = create.limited if create else await self._limited(quoted)
        try:
            paid = await self.slices.claim(quoted)
        except BaseException:
            _finish(limited, None)
            raise
        started = Running(paid, self.slices.budget(paid, quoted), self.meter.begin(more_tokens), limited)
        self.running[response_id] = started
        self.slices.begins(paid)
        target, meter, markup_ppm = self.opened.target, self.meter, paid.quote.markup_ppm
        paid.held.mark = lambda: _marked(paid.row, started, target, meter, markup_ppm)
        return started

    async def deliver(self, event: Event) -> None:
        """Count a part of a response's output before it is delivered; raise Fault where no slice pays for it."""
        response_id = text(event.response_id)
        if response_id in self.ended:
            return
        found = self.running.get(response_id) or await self.begin(response_id, {})
        if found.first_at is None:
            found.first_at = time.monotonic()
        self.meter.deliver(found.delivered, event)
        made = self.meter.partly(found.delivered)
        while made.output + made.audio_output > found.budget.tokens:
            fault = await found.budget.extend()
            if fault is not None:
                # The caller does not get it, so it does not count.
                self.meter.deliver(found.delivered, event, -1)
                raise fault

    async def end(self, event: Event) -> None:
        """Settle a response that has ended; raise Fault 503 when that is not durable in time."""
        response = holder(event.response)
        response_id = response.get("id")
        response_id = response_id if type(response_id) is str else ""
        if response_id and response_id in self.ended:
            return
        found = self.running.get(response_id) or await self.begin(response_id, response)
        del self.running[response_id]
        if response_id:
            self.ended.append(response_id)
        tokens = usage.of_response(response.get("usage"))
        failed = response.get("status") == "failed"
        now, markup_ppm = time.time(), found.slice.quote.markup_ppm
        produced = found.delivered.produced
        if (failed and not produced) or (tokens is None and not produced):
            charged = NOTHING
        else:
            estimated = self.meter.partly(found.delivered)
            charged = settlement.charge(self.opened.target, tokens, estimated, now, markup_ppm)
        apart = "conversation_id" in response and response["conversation_id"] is None
        self.meter.end(found.delivered, tokens, apart=apart)
        _finish(found.limited, None if failed else settlement.tokens(charged))
        ending = found.ending(FAILED_STATUS, "upstream_failed") if failed else found.ending(200, "")
        await self.slices.settle(found.slice, charged, ending)

    async def transcribed(self, event: Event) -> None:
        """Settle a transcription, as a row of its own; raise Fault where there is no slice for it, or 503."""
        tokens = usage.of_transcription(holder(event.usage))
        estimated = pricing.Parts(audio_input=self.meter.committed_tokens, output=0)
        paid = await self.slices.claim(self._quote(0, 0))
        target = self._transcriber()
        charged = settlement.charge(target, tokens, estimated, time.time(), paid.quote.markup_ppm)
        await self.slices.settle(paid, charged, Ending(200, "", None, 0))

    # --- The session's end --------------------------------------------------------------------------------------
    async def close(self, fault: Fault) -> None:
        """Settle what is broken off with the session, by what was delivered, and release the rest.

        FAULT is what the rows say. Raise Fault 503 when that is not durable in time.
        """
        broken, self.running = list(self.running.values()), {}
        self._release()
        unsettled: Fault | None = None
        for each in broken:
            charged = _partial(each, self.opened.target, self.meter, each.slice.quote.markup_ppm)
            _finish(each.limited, settlement.tokens(charged))
            try:
                await self.slices.settle(each.slice, charged, each.ending(fault.status, fault.code))
            except Fault as error:
                unsettled = error
        if unsettled is not None:
            raise unsettled

    async def fail(self, fault: Fault) -> None:
        """Leave a row of a session that an upstream never opened; it costs nothing."""
        for paid in self.slices.free[:1]:
            self.slices.free.remove(paid)
            await self.slices.settle(paid, NOTHING, Ending(fault.status, fault.code, None, self.exchange.duration_ms()))
        self._release()

    def abandon(self) -> None:
        """Settle what is left by its mark, without waiting: the server stops."""
        for each in self.running.values():
            _finish(each.limited, None)
            self.slices.leave(each.slice)
        self.running = {}
        self._release()

    def _release(self) -> None:
        for create in list(self.asked):
            self._drop(create)
        self.slices.trim(0)

    def _drop(self, create: Create) -> None:
        self.asked.remove(create)
        _finish(create.limited, None)

    def _quote(self, more_tokens: int, asked_tokens: int | None) -> Quote:
        return quote(self.opened, self.exchange.caller, self.meter, more_tokens, asked_tokens)

    async def _limited(self, quoted: Quote) -> Limited | None:
        exchange = self.exchange
        if not exchange.access.limits:
            return None
        limited = Limited(self.runtime.limiter, exchange.access.limits)
        try:
            await limiting.count(self.runtime, exchange.scope, limited, self.opened.model.public_id, quoted)
        except Fault:
            _finish(limited, None)
            raise
        return limited

    def _transcriber(self) -> Target:
        """Return whose price a transcription has: the model's that makes it, where the catalog has one, else ours."""
        own = self.opened.target
        model = self.exchange.snapshot.names.get(f"{own.provider.slug}/{self.meter.transcription}")
        targets = model.targets if model else ()
        return next((each for each in targets if each.provider.id == own.provider.id and each.prices), own)


def _partial(broken: Running, target: Target, meter: Meter, markup_ppm: int) -> Charge:
    """Return what a response costs that ended without a count: what was delivered, and nothing where nothing was."""
    if not broken.delivered.produced:
        return NOTHING
    return settlement.priced(target, meter.partly(broken.delivered), "partial", time.time(), markup_ppm)


def _marked(row: UsageRow, running: Running, target: Target, meter: Meter, markup_ppm: int) -> UsageRow:
    lost = settlement.LOST
    charged = _partial(running, target, meter, markup_ppm)
    return settlement.ended(copy.copy(row), charged, running.ending(lost.status, lost.error_code))


def _finish(limited: Limited | None, used_tokens: int | None) -> None:
    if limited is not None:
        limiting.finish(limited, used_tokens)
