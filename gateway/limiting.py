"""Limits on the way of a request: the headers of its answer, its admission, and its end.

A caller without limits costs a test of one flag.
"""

from collections.abc import Callable

from django.conf import settings

from gateway import limits
from gateway.authentication import address_of
from gateway.body import Message
from gateway.errors import Fault
from gateway.exchange import Exchange
from gateway.limiter import Limiter, Ticket
from gateway.limits import Limits
from gateway.runtime import Runtime


class Limited:
    """What a limited caller's request counts in. It does not know its exchange, which knows it: no cycle is left."""

    __slots__ = ("limiter", "limits", "ticket")

    def __init__(self, limiter: Limiter, limits: Limits) -> None:
        self.limiter = limiter
        self.limits = limits
        self.ticket: Ticket | None = None

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


async def reserve(runtime: Runtime, exchange: Exchange, model: str, expected: Callable[[], tuple[int, int]]) -> None:
    """Count the request for MODEL, a public id; raise Fault 429, or 503 for the sandbox.

    EXPECTED tells how many tokens the request may use, and for how many there must be room; it is asked where tokens
    are limited.
    """
    limited = exchange.limited
    if limited is None:
        return
    bounds = limited.limits.of(model, lambda: address_of(exchange.scope, runtime.trusted_proxies))
    if not bounds:
        return
    tokens = expected() if any(bound.counts_tokens for bound in bounds) else (0, 0)
    limited.ticket = ticket = await runtime.limiter.admit(bounds, *tokens)
    if not ticket.admitted:
        fault = limits.refusal(ticket.bounds, ticket.states, f"{settings.PUBLIC_URL}/account")
        if fault is not None:
            raise fault


def release(exchange: Exchange) -> None:
    """The request has ended: correct its tokens to what it used, or give everything back if it failed."""
    limited = exchange.limited
    if limited is not None and limited.ticket is not None:
        limited.limiter.finish(limited.ticket, exchange.used_tokens)
