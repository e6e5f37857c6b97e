"""What a finished request used and cost, and what its organization has: looked up for the holder of a key.

`GET /generation?id=` has OpenRouter's shape (https://openrouter.ai/docs/api-reference/get-a-generation), for clients
that know it already.
"""

import uuid
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from billing import money, usage
from billing.connection import Connection
from gateway.errors import Fault
from gateway.snapshot import Caller

TIMEOUT_S = 3.0
USAGE = """
SELECT used.*, provider.slug AS provider
  FROM billing_usage AS used LEFT JOIN catalog_provider AS provider ON provider.id = used.provider_id
 WHERE used.request_id = %s AND used.organization_id = %s
"""
WALLET = "SELECT mode, posted_nanos, held_nanos, overdraft_nanos FROM billing_wallet WHERE organization_id = %s"


async def find(connection: Connection, caller: Caller, wanted: str) -> dict[str, Any]:
    """Return a finished request of the caller's organization; raise Fault 404 or 503."""
    try:
        request_id = uuid.UUID(wanted)
    except ValueError:
        raise unknown() from None
    rows = await _rows(connection, USAGE, (request_id, caller.organization_id))
    if not rows:
        raise unknown()
    return {"data": shape(rows[0])}


def unknown() -> Fault:
    """Return the fault of an id that names no finished request of this organization."""
    return Fault("not_found", "There is no finished request with this id; x-aperture-request-id tells it.", param="id")


def shape(row: dict[str, Any]) -> dict[str, Any]:
    """Return a usage row as clients see it; costs in dollars."""
    paid = usage.paid_nanos(row["charge_nanos"], row["cost_nanos"], row["markup_ppm"])
    asked = row["input_tokens"] + row["cache_read_tokens"] + row["cache_write_tokens"]
    return {
        "id": str(row["request_id"]),
        "model": row["model"],
        "created_at": row["created_at"],
        "provider_name": row["provider"],
        "streamed": row["streamed"],
        "status": row["status"],
        "error_code": row["error_code"] or None,
        "total_cost": msgspec.Raw(money.dollars(paid).encode()),
        "usage_source": row["usage_source"],
        "tokens_prompt": asked,
        "tokens_completion": row["output_tokens"] + row["reasoning_tokens"],
        "native_tokens_cached": row["cache_read_tokens"],
        "native_tokens_reasoning": row["reasoning_tokens"],
        "latency": row["first_byte_ms"],
        "generation_time": row["duration_ms"],
        "session_id": row["session_id"] or None,
        "metadata": row["labels"] or {},
    }


async def balance(connection: Connection, caller: Caller) -> dict[str, str] | None:
    """Return the wallet of the caller's organization in dollars, or None where it has none yet; raise Fault 503."""
    rows = await _rows(connection, WALLET, (caller.organization_id,))
    if not rows:
        return None
    row = rows[0]
    available = row["posted_nanos"] - row["held_nanos"] + row["overdraft_nanos"]
    return {
        "mode": row["mode"],
        "posted": money.shown(row["posted_nanos"]),
        "held": money.shown(row["held_nanos"]),
        "available": money.shown(available),
    }


async def _rows(connection: Connection, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
    try:
        async with connection.using(TIMEOUT_S) as raw, raw.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), values, prepare=True)
            return await cursor.fetchall()
    except (psycopg.OperationalError, OSError, TimeoutError):
        raise Fault("storage_unavailable", "The database does not answer; try again.", retry_after_s=1) from None
