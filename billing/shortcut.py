"""A group of ordinary requests in one statement: one round trip, and no transaction around it but its own.

Ordinary is a request without spending limits and without an idempotency key that has to be looked at, whose wallet
this process knows and has no doubt about, and which is tried for the first time. If all of a group is ordinary, the
statement locks the wallets, then the holds that end, and finds out by itself whether every wallet can pay for the
longest answers of all that is asked of it. Then it writes everything; otherwise nothing, and `billing.group` decides.

Invariant: what it admits is what `holds.admit` would have admitted, whole and uncapped; it refuses nobody.
"""

from collections.abc import Sequence
from typing import Any

import psycopg
from django.conf import settings

from billing import holds, ledger, pipelined, usage
from billing.group import Known, array, text
from billing.holds import Ask, Closed, Entry, Held, HoldRow, Settle, State, Writes
from billing.pipelined import Statement

# Locks in the order in which everybody takes them: `closing` waits until all of `locked` is. A wallet is seen as it is
# before anything here ends: `needed_nanos` has the charges in it, and what is released is left out.
LOCKED = """
WITH wanted AS (SELECT * FROM unnest(%s::bigint[], %s::bigint[]) AS wanted(organization_id, needed_nanos)),
locked AS (
    SELECT organization_id, frozen_at, posted_nanos, held_nanos, overdraft_nanos
      FROM billing_wallet WHERE organization_id IN (SELECT organization_id FROM wanted) AND mode = 'prepaid'
     ORDER BY organization_id FOR NO KEY UPDATE
)"""
CLOSING = """
ended AS (SELECT %s::uuid[] AS ids),
closing AS (
    SELECT request_id FROM billing_hold
     WHERE request_id = ANY((SELECT ids FROM ended)::uuid[]) AND (SELECT count(*) FROM locked) >= 0
     ORDER BY request_id FOR UPDATE
)"""
ADMITTED = """
admitted AS (
    SELECT organization_id, true AS metered FROM locked JOIN wanted USING (organization_id)
     WHERE frozen_at IS NULL AND posted_nanos - held_nanos + overdraft_nanos >= needed_nanos
    UNION ALL
    SELECT organization_id, false FROM billing_wallet JOIN wanted USING (organization_id)
     WHERE mode <> 'prepaid' AND frozen_at IS NULL AND needed_nanos IS NOT NULL
)"""
ALL_CLOSING = "(SELECT count(*) FROM closing) = cardinality((SELECT ids FROM ended))"
ALL_ADMITTED = "(SELECT count(*) FROM admitted) = (SELECT count(needed_nanos) FROM wanted)"


def _if_it_fits(sql: str) -> str:
    """Return an INSERT that takes its rows from JSON, and takes none where the group does not fit."""
    return sql.replace("%s::json", "(CASE WHEN (SELECT fits FROM decision) THEN %s ELSE '[]' END)::json")


ENDED = f"""
closed AS (
    DELETE FROM billing_hold WHERE request_id = ANY((SELECT ids FROM ended)::uuid[]) AND (SELECT fits FROM decision)
),
posted AS ({_if_it_fits(ledger.INSERT_TRANSFERS)}),
used AS ({_if_it_fits(usage.INSERT_USAGE)})"""  # noqa: S608
BEGUN = _if_it_fits("""
held AS (
    INSERT INTO billing_hold (request_id, organization_id, amount_nanos, metered, bucket_ids, unfinished, lease_until)
    SELECT request_id, organization_id, amount_nanos, admitted.metered, bucket_ids, unfinished,
           now() + %s::float8 * interval '1 s'
      FROM json_populate_recordset(NULL::billing_hold, %s::json) AS fresh JOIN admitted USING (organization_id)
)""")
RETURNED = "SELECT fits, organization_id, metered FROM decision LEFT JOIN admitted ON fits"
END = f"{LOCKED},{CLOSING}, decision AS (SELECT {ALL_CLOSING} AS fits),{ENDED} SELECT fits FROM decision"  # noqa: S608
BEGIN = f"{LOCKED},{ADMITTED}, decision AS (SELECT {ALL_ADMITTED} AS fits),{BEGUN} {RETURNED}"
BOTH = f"""{LOCKED},{CLOSING},{ADMITTED}, decision AS (SELECT {ALL_CLOSING} AND {ALL_ADMITTED} AS fits),
{ENDED},{BEGUN} {RETURNED}"""


def ordinary(entries: Sequence[Entry], known: Known) -> bool:
    """Tell whether all of a group is ordinary."""
    ending: set[str] = set()
    for entry in entries:
        if entry.attempted:
            return False
        if isinstance(entry, Ask):
            organization_id = entry.row.organization_id
            if entry.buckets or entry.idempotency_key is not None or organization_id in known.doubtful:
                return False
        elif isinstance(entry, Settle):
            organization_id = entry.row.organization_id
            request_id = entry.row.request_id
            if entry.revoked or entry.held.bucket_ids or _gives_key_back(entry) or request_id in ending:
                return False
            ending.add(request_id)
        else:
            return False
        if organization_id not in known.wallets:
            return False
    return True


def _gives_key_back(entry: Settle) -> bool:
    charge_nanos = entry.row.charge_nanos if entry.held.metered else 0
    return entry.held.keyed and entry.row.status >= 400 and not charge_nanos


async def write(raw: psycopg.AsyncConnection, entries: Sequence[Entry], known: Known) -> dict[Entry, Any] | None:
    """Write an ordinary group; return what each entry is told, or None if nothing was written, for it does not fit."""
    for entry in entries:
        entry.attempted = True
    [rows] = await pipelined.run(raw, [statement(entries)])
    asks = [entry for entry in entries if isinstance(entry, Ask)]
    if not rows[0][0]:
        known.doubtful.update(ask.row.organization_id for ask in asks)
        # Nothing was written, and that is certain.
        for entry in entries:
            entry.attempted = False
        return None
    metered = {row[1]: row[2] for row in rows} if asks else {}
    outcomes: dict[Entry, Any] = dict.fromkeys(entries)
    for ask in asks:
        outcomes[ask] = Held(ask, ask.wanted_nanos, [], metered=metered[ask.row.organization_id], capped=False)
    return outcomes


def statement(entries: Sequence[Entry]) -> Statement:
    """Return the statement that writes these entries."""
    writes, needed, ended = Writes(), dict[int, int | None](), []
    for entry in entries:
        if isinstance(entry, Settle):
            held = entry.held
            closed = Closed(held.request_id, held.organization_id, held.amount_nanos, held.metered, [])
            holds.settle(entry.row, closed, State({}), writes)
            needed.setdefault(held.organization_id, None)
            ended.append(held.request_id)
    for entry in entries:
        if isinstance(entry, Ask):
            row = entry.row
            most_nanos = max(entry.full_nanos, entry.wanted_nanos, entry.least_nanos)
            needed[row.organization_id] = (needed.get(row.organization_id) or 0) + most_nanos
            # The statement itself says whether it is metered.
            writes.holds.append(HoldRow(row.request_id, row.organization_id, entry.wanted_nanos, False, [], row))
    for line in writes.transfers:
        so_far = needed.get(line.debit_id)
        if so_far is not None:
            needed[line.debit_id] = so_far + line.amount_nanos
    amounts = ("NULL" if amount is None else amount for amount in needed.values())
    wallets = (array(needed), array(amounts))
    ends = (text(writes.transfers), text(writes.usage))
    begins = (settings.HOLD_LEASE_S, text(writes.holds))
    if not writes.holds:
        return Statement(END, (*wallets, array(ended), *ends))
    if not writes.usage:
        return Statement(BEGIN, (*wallets, *begins))
    return Statement(BOTH, (*wallets, array(ended), *ends, *begins))
