"""Whether the background keeps up: when a worker and a beat were last seen, and which jobs are late.

Nothing that serves a request reads this. Times are the database's, so the clocks of several machines do not matter.
"""

from datetime import datetime, timedelta
from typing import Any

import psycopg

from billing.connection import Connection

QUERY_TIMEOUT_S = 2.0
# Both are heard of every 15 s.
AWAY_AFTER_S = 60.0
# A job that has not begun by then is late. A message waits for a free process, and beat looks every two seconds.
LATE_AFTER = timedelta(seconds=90)
SEEN = "SELECT kind, extract(epoch FROM now() - max(seen_at))::float FROM gateway_heartbeat GROUP BY kind"
JOBS = "SELECT now(), name, due_at, sent_at, last_started_at FROM gateway_job WHERE name <> '' ORDER BY name"


def is_late(now: datetime, due_at: datetime | None, sent_at: datetime | None, started_at: datetime | None) -> bool:
    """Say whether a job should have begun: beat did not send it when it was due, or no worker began what was sent.

    DUE_AT is None for a job that is disabled, which is never late.
    """
    if due_at is None:
        return False
    unsent = due_at + LATE_AFTER < now
    unbegun = sent_at is not None and sent_at + LATE_AFTER < now and (started_at is None or started_at < sent_at)
    return unsent or unbegun


async def report(connection: Connection) -> dict[str, Any]:
    """Return the state of the background for `/health?verbose=1`; `unknown` where PostgreSQL does not answer."""
    try:
        async with connection.using(QUERY_TIMEOUT_S) as raw:
            seen: dict[str, float] = dict(await (await raw.execute(SEEN)).fetchall())
            jobs = await (await raw.execute(JOBS)).fetchall()
    except (psycopg.Error, OSError, TimeoutError):
        return {"state": "unknown"}
    late = [name for now, name, due_at, sent_at, started_at in jobs if is_late(now, due_at, sent_at, started_at)]
    return summary(seen, late)


def summary(seen: dict[str, float], late: list[str]) -> dict[str, Any]:
    """Return the report of what was SEEN, by kind and in seconds ago, and of the LATE jobs."""
    away = [kind for kind in ("worker", "beat") if seen.get(kind, AWAY_AFTER_S + 1) > AWAY_AFTER_S]
    return {
        "state": " and ".join(away) + " away" if away else "late" if late else "ok",
        **{f"{kind}_seen_s": round(seen[kind], 1) if kind in seen else None for kind in ("worker", "beat")},
        "late": late,
    }
