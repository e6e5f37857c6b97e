"""Limits on the way of a request: the headers of its answer, its admission, and its end.

A caller without limits costs a test of one flag.
"""

from django.conf import settings

from gateway import limits
from gateway.admission import Quote
from gateway.authentication import address_of
from gateway.body import Message, Scope
from gateway.errors import Fault
from gateway.exchange import Exchange
from gateway.limiter import Limiter, Ticket
from gateway.limits import Limits
from gateway.runtime import Runtime


class Limited:
    """What a limited caller's request counts in. It does not know its exchange, which knows it: no cycle is left."""

    __slots__ = ("limiter", "limits", "open", "ticket")

    def __init__(self, limiter: Limiter, limits: Limits) -> None:
        self.limiter = limiter
        self.limits = limits
        self.ticket: Ticket | None = None
        # Whether the ticket is still to be finished.
        self.open = False

    async def headers(self) -> list[tuple[bytes, bytes]]:
        """Return what the answer says: the state that admission found, or now's for one that came before it."""
        ticket = self.ticket or await self._now()
        return limits.headers(ticket.bounds, ticket.states) if ticket else []

    async def _now(self) -> Ticket | None:
        bounds = self.limits.apart_from_models()
        if self.limiter.away:
            bounds = tuple(bound for bound in bounds if not bound.sandbox)
        try:
            return await self.limiter.look(bounds) if bounds else None
        except Fault:
            return None


def announce(runtime: Runtime, exchange: Exchange) -> None:
    """Have the answer of a limited caller, whatever it is, say how full its windows are."""
    if not exchange.access.limits:
        return
    limited = exchange.limited = Limited(runtime.limiter, exchange.access.limits)
    send = exchange.send

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *await limited.headers()]
        await send(message)

    exchange.send = tell


async def reserve(runtime: Runtime, exchange: Exchange, model: str, quoted: Quote) -> None:
    """Count the request for MODEL, a public id, and what it may use; raise Fault 429, or 503 for the sandbox."""
    if exchange.limited is not None:
        await count(runtime, exchange.scope, exchange.limited, model, quoted)


async def count(runtime: Runtime, scope: Scope, limited: Limited, model: str, quoted: Quote) -> None:
    """Count one request in what LIMITED names; raise Fault as `reserve` does.

    There must be room for all of its output where it bounds that itself, else for as much of it as there is.
    """
    bounds = limited.limits.of(model, lambda: address_of(scope, runtime.trusted_proxies))
    if not bounds:
        return
    tokens = quoted.input_tokens + quoted.expected_tokens * quoted.choices
    least = quoted.input_tokens if quoted.asked_tokens is None else tokens
    limited.ticket = ticket = await runtime.limiter.admit(bounds, tokens, least)
    limited.open = ticket.admitted
    fault = limits.refusal(ticket.bounds, ticket.states, f"{settings.PUBLIC_URL}/account")
    if fault is not None:
        raise fault


def release(exchange: Exchange) -> None:
    """The request has ended: correct its tokens to what it used, or give everything back if it failed."""
    if exchange.limited is not None:
        finish(exchange.limited, exchange.used_tokens)


def finish(limited: Limited, used_tokens: int | None) -> None:
    """Correct what was counted to USED_TOKENS, or give everything back for None; a second time does nothing."""
    if limited.open and limited.ticket is not None:
        limited.open = False
        limited.limiter.finish(limited.ticket, used_tokens)
