"""One group's transaction: what it locks, what it writes, and what each entry of it is told.

Everybody who moves money takes locks in one order, so nobody waits crosswise: wallets, buckets, holds, sums by day,
each in the order of their ids.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import psycopg
from django.conf import settings

from billing import holds, ledger, usage
from billing.holds import Ask, Closed, Entry, Expire, Extend, Held, Renew, Settle, State, Withdraw, Writes
from billing.spending import Bucket
from billing.usage import UsageRow

# One statement, for each one sent wakes the database once more. Only prepaid wallets decide anything, so only they are
# locked: a team's nodes do not wait for one another. A wallet is seen as it was before the holds here were closed.
LOCK = """
WITH wanted AS (SELECT unnest(%s::bigint[]) AS organization_id),
locked AS (
    SELECT organization_id, true AS metered, frozen_at IS NOT NULL AS frozen, posted_nanos, held_nanos, overdraft_nanos
      FROM billing_wallet WHERE organization_id IN (SELECT organization_id FROM wanted) AND mode = 'prepaid'
     ORDER BY organization_id FOR NO KEY UPDATE
), closed AS (
    DELETE FROM billing_hold WHERE request_id = ANY(%s::uuid[])
    RETURNING request_id, organization_id, amount_nanos, metered, bucket_ids
)
SELECT NULL, organization_id, metered, frozen, posted_nanos, held_nanos, overdraft_nanos, NULL::bigint[] FROM locked
UNION ALL
SELECT NULL, organization_id, false, frozen_at IS NOT NULL, posted_nanos, held_nanos, overdraft_nanos, NULL
  FROM billing_wallet WHERE organization_id IN (SELECT organization_id FROM wanted) AND mode <> 'prepaid'
UNION ALL
SELECT request_id::text, organization_id, metered, false, amount_nanos, 0, 0, bucket_ids FROM closed
"""
MAKE_BUCKETS = """
INSERT INTO billing_bucket (limit_id, subject, spent_nanos, held_nanos, alerted_percent)
SELECT definition.id, wanted.subject, 0, 0, 0
  FROM unnest(%(limits)s::bigint[], %(subjects)s::text[]) AS wanted(limit_id, subject)
  JOIN billing_spendinglimit AS definition ON definition.id = wanted.limit_id
 ORDER BY 1, 2 ON CONFLICT (limit_id, subject) DO NOTHING
"""
FIND_BUCKETS = """
SELECT bucket.limit_id, bucket.subject, bucket.id
  FROM billing_bucket AS bucket JOIN unnest(%(limits)s::bigint[], %(subjects)s::text[]) AS wanted(limit_id, subject)
    ON bucket.limit_id = wanted.limit_id AND bucket.subject = wanted.subject
"""
LOCK_BUCKETS = """
SELECT bucket.id, definition.name, definition.kind, definition.capacity_nanos, definition.rate_nanos,
       definition.period, definition.hard AND definition.enabled, bucket.spent_nanos, bucket.held_nanos,
       bucket.measured_at
  FROM billing_bucket AS bucket JOIN billing_spendinglimit AS definition ON definition.id = bucket.limit_id
 WHERE bucket.id = ANY(%s) ORDER BY bucket.id FOR NO KEY UPDATE OF bucket
"""
CLOSE_EXPIRED = """
DELETE FROM billing_hold WHERE request_id = ANY(%s::uuid[]) AND lease_until < now()
RETURNING request_id::text, organization_id, amount_nanos, metered, bucket_ids, unfinished
"""
FIND_HOLDS = """
SELECT request_id::text, organization_id, amount_nanos, metered, bucket_ids
  FROM billing_hold WHERE request_id = ANY(%s::uuid[])
"""
FIND_USAGE = "SELECT request_id::text, charge_nanos FROM billing_usage WHERE request_id = ANY(%s::uuid[])"
FIND_KEYS = """
SELECT known.organization_id, known.key, known.body_digest, known.request_id::text, hold.request_id IS NOT NULL
  FROM billing_idempotencykey AS known LEFT JOIN billing_hold AS hold USING (request_id)
 WHERE (known.organization_id, known.key) IN (SELECT * FROM unnest(%(organizations)s::bigint[], %(keys)s::text[]))
   AND known.created_at > now() - interval '1 day'
"""
KEEP_KEYS = """
INSERT INTO billing_idempotencykey (organization_id, key, body_digest, request_id)
SELECT * FROM unnest(%(organizations)s::bigint[], %(keys)s::text[], %(digests)s::bytea[], %(requests)s::uuid[])
ON CONFLICT (organization_id, key) DO UPDATE
   SET body_digest = excluded.body_digest, request_id = excluded.request_id, created_at = now()
"""
GIVE_KEYS_BACK = """
DELETE FROM billing_idempotencykey WHERE organization_id = ANY(%s) AND request_id = ANY(%s::uuid[])
"""
INSERT_HOLDS = """
INSERT INTO billing_hold (request_id, organization_id, amount_nanos, metered, bucket_ids, unfinished, lease_until)
SELECT request_id, organization_id, amount_nanos, metered, bucket_ids, unfinished, now() + %s * interval '1 s'
  FROM json_populate_recordset(NULL::billing_hold, %s::json)
"""
# What almost every group writes, in one statement; the triggers run when all of it is written.
WRITE_ENDS = f"""
WITH posted AS ({ledger.INSERT_TRANSFERS}), used AS ({usage.INSERT_USAGE}), days AS ({usage.ADD_TO_DAYS}) SELECT 1
"""
WRITE_BEGINNINGS = f"WITH held AS ({INSERT_HOLDS}) SELECT 1"
WRITE_BOTH = f"""
WITH posted AS ({ledger.INSERT_TRANSFERS}), used AS ({usage.INSERT_USAGE}), days AS ({usage.ADD_TO_DAYS}),
     held AS ({INSERT_HOLDS}) SELECT 1
"""
EXTEND_HOLDS = """
UPDATE billing_hold AS hold SET amount_nanos = fresh.amount_nanos
  FROM unnest(%(requests)s::uuid[], %(amounts)s::bigint[]) AS fresh(request_id, amount_nanos)
 WHERE hold.request_id = fresh.request_id
"""
RENEW_HOLDS = """
UPDATE billing_hold AS hold SET lease_until = now() + %s * interval '1 s', unfinished = fresh.unfinished
  FROM json_populate_recordset(NULL::billing_hold, %s::json) AS fresh WHERE hold.request_id = fresh.request_id
"""
UPDATE_BUCKETS = """
UPDATE billing_bucket AS bucket
   SET spent_nanos = fresh.spent, held_nanos = fresh.held, measured_at = fresh.measured_at
  FROM unnest(%(ids)s::bigint[], %(spent)s::bigint[], %(held)s::bigint[], %(measured)s::timestamptz[])
       AS fresh(id, spent, held, measured_at)
 WHERE bucket.id = fresh.id
"""
# An answer that nobody got though its settlement was committed: the charge is corrected, the row says what happened.
REVOKE = [
    """
    INSERT INTO billing_transfer (amount_nanos, debit_id, credit_id, request_id, kind, corrects_id, reason)
    SELECT amount_nanos, credit_id, debit_id, request_id, 11, id, 'the answer was not delivered'
      FROM billing_transfer WHERE request_id = %(request)s AND kind = 1 ON CONFLICT DO NOTHING
    """,
    """
    UPDATE billing_usageday AS sums
       SET charge_nanos = sums.charge_nanos - used.charge_nanos, failed_count = sums.failed_count + 1
      FROM billing_usage AS used
     WHERE used.request_id = %(request)s AND used.status < 400 AND sums.day = DATE '1970-01-01' + %(day)s
       AND (sums.organization_id, sums.key_id, sums.user_id, sums.model)
           = (used.organization_id, used.key_id, used.user_id, used.model)
    """,
    """
    UPDATE billing_usage SET status = %(status)s, error_code = %(code)s, charge_nanos = 0
     WHERE request_id = %(request)s AND status < 400
    """,
]

encode = msgspec.json.Encoder().encode


class Known(msgspec.Struct):
    """What a process has learned of the database: the wallets that are open, and the buckets' ids."""

    wallets: set[int] = set()
    buckets: dict[holds.BucketKey, int] = {}


class BucketGone(Exception):
    """A bucket was deleted since its id was learned; the group is written again."""


class Group:
    """Entries that one transaction decides. `outcomes` has what each is told, once it is committed."""

    def __init__(self, entries: Iterable[Entry], known: Known) -> None:
        self.known = known
        self.outcomes: dict[Entry, Any] = {}
        self.settles: dict[str, Settle] = {}
        self.asks: list[Ask] = []
        self.extends: list[Extend] = []
        self.withdrawals: list[Withdraw] = []
        self.expires: list[Expire] = []
        self.renewals: dict[str, Renew] = {}
        places: dict[type[Entry], list[Any]] = {
            Ask: self.asks, Extend: self.extends, Withdraw: self.withdrawals, Expire: self.expires
        }  # fmt: skip
        for entry in entries:
            if isinstance(entry, Settle):
                # The same request twice is settled once.
                self.settles.setdefault(entry.row.request_id, entry)
            elif isinstance(entry, Renew):
                # After an outage there are several of one request; the newest says most.
                self.renewals[entry.held.request_id] = entry
            else:
                places[type(entry)].append(entry)
            self.outcomes[entry] = None
        self.writes = Writes()
        self.retried = [ask.row.request_id for ask in self.asks if ask.attempted]
        self.retried += [each.held.request_id for each in self.extends if each.attempted]
        self.found: dict[str, Closed] = {}
        self.missing: list[Settle] = []
        self.given_back: list[tuple[int, str]] = []
        self.kept: list[Ask] = []

    async def write(self, raw: psycopg.AsyncConnection) -> None:
        """Lock, decide, write and commit, in two round trips."""
        state, closed, expired, keys = await self._lock(raw)
        for entry in self.outcomes:
            entry.attempted = True
        self._end(state, closed, expired)
        if self.missing:
            await self._resolve_missing(raw, state)
        self._grow(state)
        self._begin(state, keys)
        await self._write(raw, state)

    # --- What is locked ---------------------------------------------------------------------------------------------
    async def _lock(
        self, raw: psycopg.AsyncConnection
    ) -> tuple[State, list[Closed], list[Closed], dict[tuple[int, str], tuple[Any, ...]]]:
        organizations = self._organizations()
        fresh = organizations - self.known.wallets
        await self._learn_buckets(raw)
        bucket_ids = self._bucket_ids()
        closing = [*self.settles, *(entry.ask.row.request_id for entry in self.withdrawals)]
        async with raw.pipeline():
            await raw.execute("BEGIN", prepare=True)
            if fresh:
                await raw.execute(ledger.OPEN_WALLETS, {"mode": ledger.initial_mode(), "ids": list(fresh)})
            locked = await raw.execute(LOCK, (array(organizations), array(closing)), prepare=True)
            buckets = await raw.execute(LOCK_BUCKETS, (bucket_ids,), prepare=True) if bucket_ids else None
            moment = await raw.execute("SELECT now()", prepare=True) if bucket_ids else None
            expired = await self._close_expired(raw)
            found = await self._find_retried(raw)
            keys = await self._find_keys(raw)
        self.known.wallets |= organizations
        self.found = {row[0]: Closed(*row) for row in await rows_of(found)}
        moments = await rows_of(moment)
        rows = await rows_of(locked)
        state = State(
            now=moments[0][0] if moments else holds.EPOCH,
            wallets={row[1]: holds.Wallet(*row[1:7]) for row in rows if row[0] is None},
            buckets={row[0]: Bucket(*row) for row in await rows_of(buckets)},
            bucket_ids=self.known.buckets,
        )
        self._check_buckets(state)
        return (
            state,
            [Closed(row[0], row[1], row[4], row[2], row[7]) for row in rows if row[0] is not None],
            [Closed(*row) for row in await rows_of(expired)],
            {(row[0], row[1]): row[2:] for row in await rows_of(keys)},
        )

    def _organizations(self) -> set[int]:
        return (
            {ask.row.organization_id for ask in self.asks}
            | {entry.row.organization_id for entry in self.settles.values()}
            | {entry.held.organization_id for entry in self.extends}
            | {entry.ask.row.organization_id for entry in self.withdrawals}
            | {entry.organization_id for entry in self.expires}
        )

    def _bucket_ids(self) -> list[int]:
        learned = self.known.buckets
        ids = {learned[key] for ask in self.asks for key in ask.buckets}
        ids |= {learned[key] for entry in self.withdrawals for key in entry.ask.buckets if key in learned}
        for held in (*(each.held for each in self.settles.values()), *(each.held for each in self.extends)):
            ids.update(held.bucket_ids)
        for expire in self.expires:
            ids.update(expire.bucket_ids)
        return sorted(ids)

    async def _learn_buckets(self, raw: psycopg.AsyncConnection) -> None:
        """Make the buckets that are needed for the first time, before the transaction; a deleted limit has none."""
        learned = self.known.buckets
        unknown = {key for ask in self.asks for key in ask.buckets if key not in learned}
        if not unknown:
            return
        wanted = {"limits": [key[0] for key in unknown], "subjects": [key[1] for key in unknown]}
        await raw.execute(MAKE_BUCKETS, wanted)
        learned |= {(row[0], row[1]): row[2] for row in await rows_of(await raw.execute(FIND_BUCKETS, wanted))}
        for ask in self.asks:
            ask.buckets = tuple(key for key in ask.buckets if key in learned)

    def _check_buckets(self, state: State) -> None:
        gone = {key for ask in self.asks for key in ask.buckets if self.known.buckets[key] not in state.buckets}
        for key in gone:
            del self.known.buckets[key]
        if gone:
            raise BucketGone

    async def _close_expired(self, raw: psycopg.AsyncConnection) -> Any:
        ids = [entry.request_id for entry in self.expires]
        return await raw.execute(CLOSE_EXPIRED, (ids,), prepare=True) if ids else None

    async def _find_retried(self, raw: psycopg.AsyncConnection) -> Any:
        return await raw.execute(FIND_HOLDS, (self.retried,)) if self.retried else None

    async def _find_keys(self, raw: psycopg.AsyncConnection) -> Any:
        asks = [ask for ask in self.asks if ask.idempotency_key is not None]
        if not asks:
            return None
        wanted = {
            "organizations": [ask.row.organization_id for ask in asks],
            "keys": [ask.idempotency_key for ask in asks],
        }
        return await raw.execute(FIND_KEYS, wanted, prepare=True)

    # --- What is decided --------------------------------------------------------------------------------------------
    def _end(self, state: State, closed: list[Closed], expired: list[Closed]) -> None:
        by_request = {each.request_id: each for each in closed}
        for request_id, entry in self.settles.items():
            found = by_request.get(request_id)
            if found is None:
                self.missing.append(entry)
            else:
                self._settle(entry.row, found, state, keyed=entry.held.keyed)
        for withdrawal in self.withdrawals:
            found = by_request.get(withdrawal.ask.row.request_id)
            if found is not None:
                holds.release(found, state, self.writes)
                self.given_back.append((found.organization_id, found.request_id))
        for found in expired:
            self._settle(usage.restored(found.unfinished or {}), found, state, keyed=True)

    def _settle(self, row: UsageRow, closed: Closed, state: State, *, keyed: bool) -> None:
        holds.settle(row, closed, state, self.writes)
        if keyed and row.status >= 400 and not row.charge_nanos:
            self.given_back.append((row.organization_id, row.request_id))

    async def _resolve_missing(self, raw: psycopg.AsyncConnection, state: State) -> None:
        """Settle what has no hold: it was settled before, by this process or by a sweeper, or its hold is lost."""
        ids = [entry.row.request_id for entry in self.missing]
        settled = dict(await rows_of(await raw.execute(FIND_USAGE, (ids,))))
        for entry in self.missing:
            held = entry.held
            if entry.row.request_id not in settled:
                nothing = Closed(held.request_id, held.organization_id, 0, held.metered, [])
                self._settle(entry.row, nothing, state, keyed=held.keyed)
            elif entry.revoked:
                about = {
                    "request": held.request_id,
                    "day": usage.day_of(held.request_id),
                    "status": entry.row.status,
                    "code": entry.row.error_code,
                }
                for statement in REVOKE:
                    await raw.execute(statement, about)
                refund = Closed(held.request_id, held.organization_id, 0, held.metered, held.bucket_ids)
                holds.release(refund, state, self.writes, -settled[held.request_id])

    def _grow(self, state: State) -> None:
        for entry in self.extends:
            target = entry.held.amount_nanos + entry.more_nanos
            found = self.found.get(entry.held.request_id)
            if found is not None and found.amount_nanos >= target:
                self.outcomes[entry] = target
                continue
            refusal = holds.extend(entry, state, self.writes)
            self.outcomes[entry] = refusal or self.writes.extended[entry.held.request_id]

    def _begin(self, state: State, keys: Mapping[tuple[int, str], tuple[Any, ...]]) -> None:
        taken = dict(keys)
        for ask in self.asks:
            found = self.found.get(ask.row.request_id)
            if found is not None:
                # What the wallet had is forgotten, so a request that could be capped is.
                capped = ask.full_nanos > found.amount_nanos
                self.outcomes[ask] = Held(
                    ask, found.amount_nanos, found.bucket_ids, metered=found.metered, capped=capped
                )
                continue
            key = None if ask.idempotency_key is None else (ask.row.organization_id, ask.idempotency_key)
            if key is not None and key in taken:
                digest, request_id, running = taken[key]
                same = bytes(digest) == ask.body_digest
                self.outcomes[ask] = holds.Repeated(request_id, same=same, running=running)
                continue
            outcome = self.outcomes[ask] = holds.admit(ask, state, self.writes)
            if key is not None and isinstance(outcome, Held):
                taken[key] = (ask.body_digest, ask.row.request_id, True)
                self.kept.append(ask)

    # --- What is written --------------------------------------------------------------------------------------------
    async def _write(self, raw: psycopg.AsyncConnection, state: State) -> None:
        writes = self.writes
        async with raw.pipeline():
            if writes.extended:
                amounts = {"requests": list(writes.extended), "amounts": list(writes.extended.values())}
                await raw.execute(EXTEND_HOLDS, amounts, prepare=True)
            if self.renewals:
                renewed = [
                    {"request_id": request_id, "unfinished": each.row} for request_id, each in self.renewals.items()
                ]
                await raw.execute(RENEW_HOLDS, (settings.HOLD_LEASE_S, text(renewed)), prepare=True)
            if writes.touched:
                await self._update_buckets(raw, [state.buckets[each] for each in sorted(writes.touched)])
            statement, values = self._main_statement()
            if statement:
                await raw.execute(statement, values, prepare=True)
            await self._write_keys(raw)
            await raw.execute("COMMIT", prepare=True)

    def _main_statement(self) -> tuple[str, list[Any]]:
        writes = self.writes
        ends = [text(writes.transfers), text(writes.usage), text(usage.by_day(writes.usage))] if writes.usage else []
        beginnings = [settings.HOLD_LEASE_S, text(writes.holds)] if writes.holds else []
        if ends and beginnings:
            return WRITE_BOTH, ends + beginnings
        return (WRITE_ENDS, ends) if ends else (WRITE_BEGINNINGS, beginnings) if beginnings else ("", [])

    async def _update_buckets(self, raw: psycopg.AsyncConnection, buckets: list[Bucket]) -> None:
        columns = {
            "ids": [bucket.id for bucket in buckets],
            "spent": [bucket.spent for bucket in buckets],
            "held": [bucket.held for bucket in buckets],
            "measured": [bucket.measured_at for bucket in buckets],
        }
        await raw.execute(UPDATE_BUCKETS, columns, prepare=True)

    async def _write_keys(self, raw: psycopg.AsyncConnection) -> None:
        if self.given_back:
            organizations, requests = zip(*self.given_back, strict=True)
            await raw.execute(GIVE_KEYS_BACK, (list(set(organizations)), list(requests)), prepare=True)
        if self.kept:
            columns = {
                "organizations": [ask.row.organization_id for ask in self.kept],
                "keys": [ask.idempotency_key for ask in self.kept],
                "digests": [ask.body_digest for ask in self.kept],
                "requests": [ask.row.request_id for ask in self.kept],
            }
            await raw.execute(KEEP_KEYS, columns, prepare=True)


async def rows_of(cursor: Any) -> list[tuple[Any, ...]]:
    """Return a cursor's rows, none where the statement was not needed."""
    return await cursor.fetchall() if cursor is not None else []


def text(rows: Any) -> str:
    """Return rows as the JSON that json_populate_recordset takes."""
    return encode(rows).decode()


def array(values: Iterable[object]) -> str:
    """Return numbers or UUIDs as a PostgreSQL array's text, which costs less than to have a list adapted."""
    return "{" + ",".join(map(str, values)) + "}"
