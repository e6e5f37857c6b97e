"""What the process says of itself and of a key: /health, /targets, /auth/me."""

import asyncio
from typing import Any

import redis.asyncio
from django.conf import settings

from gateway import punctuality, upstreams
from gateway.draining import draining
from gateway.runtime import Runtime
from gateway.snapshot import Access, Caller

REDIS_TIMEOUT_S = 1.0


async def report(runtime: Runtime, *, verbose: bool, access: Access | None = None) -> tuple[int, dict[str, Any]]:
    """Return (status, content): 200 while this process takes requests, 503 while it drains.

    Verbose adds each engine's state, the version of what is in memory and the upstreams': how many are in which state
    or, for the holder of a good key (ACCESS), each that it may use.
    """
    state = "draining" if draining.active else "ok"
    content: dict[str, Any] = {"status": state, "region": settings.REGION, "limits": runtime.limiter.state}
    if verbose:
        stale = runtime.freshness.stale()
        content["engines"] = {"postgresql": "down" if stale else "ok", "redis": await redis_state()}
        content["catalog"] = {
            "version": runtime.freshness.snapshot.version,
            "models": len(runtime.freshness.snapshot.models),
        }
        content["unsettled"] = len(runtime.journal.queue)
        content["background"] = await punctuality.report(runtime.reads)
        content["upstreams"] = await upstreams.report(runtime, access)
        if stale and not draining.active:
            content["status"] = "degraded"
    return 503 if draining.active else 200, content


async def redis_state() -> str:
    """Return `ok` or `down`."""
    client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_timeout=REDIS_TIMEOUT_S)
    try:
        async with asyncio.timeout(REDIS_TIMEOUT_S):
            await client.ping()
    except (redis.RedisError, OSError, TimeoutError):
        return "down"
    finally:
        await client.aclose()
    return "ok"


def targets() -> dict[str, Any]:
    """Return what this installation offers to clients."""
    return {
        "object": "list",
        "data": [
            {
                "name": "aperture",
                "region": settings.REGION,
                "base_url": f"{settings.PUBLIC_URL}/api/v1",
                "dialects": ["openai_chat", "openai_embeddings"],
            }
        ],
    }


def caller(found: Caller, access: Access, balance: dict[str, str] | None) -> dict[str, Any]:
    """Return what a key's holder may know of it; BALANCE is in dollars."""
    return {
        "object": "key",
        "key": {
            "display": found.display,
            "name": found.key_name,
            "models": list(found.model_globs),
            "labels": dict(found.labels),
            "expires_at": found.expires_at,
        },
        "user": {"email": found.email},
        "organization": {"id": found.organization_id, "name": found.organization},
        "role": access.role,
        "mode": settings.MODE,
        "plan": found.terms.plan,
        "balance": balance,
        "limits": [
            {"kind": bound.kind, "amount": bound.amount, "for": bound.whom}
            for bound in access.limits.apart_from_models()
        ],
    }
