"""How the upstreams do, as /health?verbose=1 tells it.

Everybody learns how many are in which state. Who is whose upstream is the house's business: names, latencies and
uptimes are for the holders of keys, of those providers that they may use, and the reasons for administrators alone.
Read from the database at most every two seconds, by each process; null while it does not answer.
"""

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from catalog import health
from catalog.health import Condition
from catalog.models import Provider
from gateway.runtime import Runtime
from gateway.snapshot import Access, Snapshot

KEPT_S = 2.0
TIMEOUT_S = 2.0
PROVIDERS = """
SELECT provider.id, provider.slug, provider.check_by, standing.id AS standing_id, standing.state, standing.reason,
       standing.since_at, standing.checked_at, standing.latency_ms, standing.trusted_until_at
  FROM catalog_provider AS provider LEFT JOIN catalog_standing AS standing
    ON standing.provider_id = provider.id AND standing.credential_id IS NULL AND standing.target_id IS NULL
       AND standing.basis = provider.base_url
 WHERE provider.enabled AND provider.source <> %s ORDER BY provider.slug
"""
CHANGES = """
SELECT standing_id, at, before, after FROM catalog_standingchange
 WHERE standing_id = ANY(%s) AND at >= %s ORDER BY at, id
"""
Row = dict[str, Any]


async def report(runtime: Runtime, access: Access | None) -> Any:
    """Return the number of upstreams in each state or, for the holder of a key, a list of those it may use."""
    rows = await _rows(runtime)
    if rows is None:
        return None
    if access is None:
        return dict(sorted(Counter(row["state"] for row in rows).items()))
    usable = _usable(runtime.freshness.snapshot, access)
    is_admin = access.role == "admin"
    return [_shape(row, with_reason=is_admin) for row in rows if is_admin or row["id"] in usable]


def _usable(snapshot: Snapshot, access: Access) -> set[int]:
    return {
        target.provider.id
        for model in snapshot.models
        for target in model.targets
        if target.provider.id and any(map(access.granted, target.names)) and any(map(access.own, target.names))
    }


async def _rows(runtime: Runtime) -> list[Row] | None:
    """Return the providers with what is known of them; None where the database does not answer."""
    read_at, rows = runtime.upstream_rows
    if time.monotonic() - read_at < KEPT_S:
        return rows
    now = datetime.now(UTC)
    try:
        async with runtime.reads.using(TIMEOUT_S) as raw, raw.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(PROVIDERS, (Provider.DEMO,))
            rows = await cursor.fetchall()
            standings = [row["standing_id"] for row in rows if row["standing_id"]]
            await cursor.execute(CHANGES, (standings, now - health.CHANGES_KEPT))
            changes = await cursor.fetchall()
    except (psycopg.Error, OSError, TimeoutError):
        rows = None
    else:
        for row in rows:
            _judge(row, [each for each in changes if each["standing_id"] == row["standing_id"]], now)
    runtime.upstream_rows = (time.monotonic(), rows)
    return rows


def _judge(row: Row, changes: list[Row], now: datetime) -> None:
    """Complete a row: a state that nobody renewed is unknown, and one that nobody looks for is off."""
    known = Condition(row["state"] or health.UNKNOWN, row["since_at"])
    spans = health.spans(((each["at"], each["before"], each["after"]) for each in changes), known, now)
    row["uptime"] = health.uptimes(spans, now)
    trusted_until_at = row["trusted_until_at"]
    if row["check_by"] == Provider.OFF:
        row["state"] = "off"
    elif trusted_until_at is None or trusted_until_at <= now:
        row["state"] = health.UNKNOWN


def _shape(row: Row, *, with_reason: bool) -> Row:
    shown = {
        "provider": row["slug"],
        "state": row["state"],
        "since": _written(row["since_at"]),
        "checked": _written(row["checked_at"]),
        "latency_ms": row["latency_ms"],
        "uptime": {
            name.replace(" ", ""): None if share is None else round(share, 5) for name, share in row["uptime"].items()
        },
    }
    return shown | ({"reason": row["reason"] or ""} if with_reason else {})


def _written(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if at else None
