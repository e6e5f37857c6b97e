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
from gateway.runtime import Runtime


def announce(runtime: Runtime, exchange: Exchange) -> None:
    """Have the answer of a limited caller, whatever it is, say how full its windows are."""
    if not exchange.access.limits:
        return
    send = exchange.send

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *await _headers(runtime, exchange)]
        await send(message)

    exchange.send = tell


async def _headers(runtime: Runtime, exchange: Exchange) -> list[tuple[bytes, bytes]]:
    ticket = exchange.ticket
    if ticket is None:
        bounds = exchange.access.limits.apart_from_models()
        if runtime.limiter.away:
            bounds = tuple(bound for bound in bounds if not bound.sandbox)
        if not bounds:
            return []
        try:
            ticket = await runtime.limiter.look(bounds)
        except Fault:
            return []
    return limits.headers(ticket.bounds, ticket.states)


async def reserve(runtime: Runtime, exchange: Exchange, model: str, expected: Callable[[], tuple[int, bool]]) -> None:
    """Count the request for MODEL, a public id; raise Fault 429, or 503 for the sandbox.

    EXPECTED tells how many tokens the request may use, and whether its caller bounded them itself (else they never
    fill more than a whole window); it is asked where tokens are limited.
    """
    if not exchange.access.limits:
        return
    bounds = exchange.access.limits.of(model, lambda: address_of(exchange.scope, runtime.trusted_proxies))
    if not bounds:
        return
    tokens, stated = expected() if any(bound.counts_tokens for bound in bounds) else (0, True)
    exchange.ticket = ticket = await runtime.limiter.admit(bounds, tokens, stated=stated)
    if not ticket.admitted:
        fault = limits.refusal(ticket.bounds, ticket.states, f"{settings.PUBLIC_URL}/account")
        if fault is not None:
            raise fault


def release(runtime: Runtime, exchange: Exchange) -> None:
    """The request has ended: correct its tokens to what it used, or give everything back if it failed."""
    if exchange.ticket is not None:
        runtime.limiter.finish(exchange.ticket, exchange.used_tokens)
