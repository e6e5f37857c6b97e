"""One group's transaction: what it locks, what it decides and writes, and what each entry of it is told."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import psycopg
from django.conf import settings

from billing import holds, ledger, pipelined, usage
from billing import statements as sql
from billing.holds import Ask, Closed, Entry, Expire, Extend, Held, Renew, Settle, State, Withdraw, Writes
from billing.pipelined import Rows, Statement
from billing.spending import Bucket
from billing.usage import UsageRow

encode = msgspec.json.Encoder().encode


class Known(msgspec.Struct):
    """What a process has learned of the database: the wallets that are open, and the buckets' ids.

    Of a doubtful wallet's requests the last could not just be admitted, so the next may not be either.
    """

    wallets: set[int] = set()
    buckets: dict[holds.BucketKey, int] = {}
    doubtful: set[int] = set()


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
                # The same request twice is settled once, and not charged if that was taken back meanwhile.
                if entry.revoked or entry.row.request_id not in self.settles:
                    self.settles[entry.row.request_id] = entry
            elif isinstance(entry, Renew):
                # After an outage there are several of one request; the newest says most.
                self.renewals[entry.held.request_id] = entry
            else:
                places[type(entry)].append(entry)
            self.outcomes[entry] = None
        self.writes = Writes()
        # The holds to be looked at: what an earlier try may have left, and what grows, for it may be gone by now.
        self.sought = [ask.row.request_id for ask in self.asks if ask.attempted]
        self.sought += [each.held.request_id for each in self.extends]
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
        expiring = [entry.request_id for entry in self.expires]
        keyed = [ask for ask in self.asks if ask.idempotency_key is not None]
        sent = Sent(Statement("BEGIN"))
        if fresh:
            sent.add("opened", sql.OPEN_WALLETS, ledger.initial_mode(), array(fresh))
        sent.add("locked", sql.LOCK, array(organizations), array(closing))
        if bucket_ids:
            sent.add("buckets", sql.LOCK_BUCKETS, array(bucket_ids))
            sent.add("now", "SELECT now()")
        if expiring:
            sent.add("expired", sql.CLOSE_EXPIRED, array(expiring))
        if self.sought:
            sent.add("found", sql.FIND_HOLDS, array(self.sought))
        if keyed:
            wanted = [{"organization_id": ask.row.organization_id, "key": ask.idempotency_key} for ask in keyed]
            sent.add("locked keys", sql.LOCK_KEYS, text(wanted))
            sent.add("keys", sql.FIND_KEYS, text(wanted))
        rows = await sent.rows(raw)
        self.known.wallets |= organizations
        self.found = {row[0]: Closed(*row) for row in rows.get("found", [])}
        state = State(
            now=rows["now"][0][0] if bucket_ids else holds.EPOCH,
            wallets={row[1]: holds.Wallet(*row[1:7]) for row in rows["locked"] if row[0] is None},
            buckets={row[0]: Bucket(*row) for row in rows.get("buckets", [])},
            bucket_ids=self.known.buckets,
        )
        self._check_buckets(state)
        return (
            state,
            [Closed(row[0], row[1], row[4], row[2], row[7]) for row in rows["locked"] if row[0] is not None],
            [Closed(*row) for row in rows.get("expired", [])],
            {(row[0], row[1]): row[2:] for row in rows.get("keys", [])},
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
        wanted = text([{"limit_id": key[0], "subject": key[1]} for key in unknown])
        sent = [Statement(sql.MAKE_BUCKETS, (wanted,)), Statement(sql.FIND_BUCKETS, (wanted,))]
        _, found = await pipelined.run(raw, sent)
        learned |= {(row[0], row[1]): row[2] for row in found}
        for ask in self.asks:
            ask.buckets = tuple(key for key in ask.buckets if key in learned)

    def _check_buckets(self, state: State) -> None:
        gone = {key for ask in self.asks for key in ask.buckets if self.known.buckets[key] not in state.buckets}
        for key in gone:
            del self.known.buckets[key]
        if gone:
            raise BucketGone

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
        [found] = await pipelined.run(raw, [Statement(sql.FIND_USAGE, (array(ids),))])
        settled: dict[str, int] = {row[0]: row[1] for row in found}
        for entry in self.missing:
            held = entry.held
            if entry.row.request_id not in settled:
                nothing = Closed(held.request_id, held.organization_id, 0, held.metered, held.bucket_ids)
                self._settle(entry.row, nothing, state, keyed=held.keyed)
            elif entry.revoked:
                about = {
                    "request": held.request_id,
                    "status": entry.row.status,
                    "code": entry.row.error_code,
                }
                for statement in sql.REVOKE:
                    await raw.execute(statement, about)
                refund = Closed(held.request_id, held.organization_id, 0, held.metered, held.bucket_ids)
                holds.release(refund, state, self.writes, -settled[held.request_id])

    def _grow(self, state: State) -> None:
        for entry in self.extends:
            found = self.found.get(entry.held.request_id)
            self.outcomes[entry] = holds.extend(entry, found, state, self.writes)

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
            if isinstance(outcome, Held) and not outcome.capped:
                self.known.doubtful.discard(ask.row.organization_id)
            if key is not None and isinstance(outcome, Held):
                taken[key] = (ask.body_digest, ask.row.request_id, True)
                self.kept.append(ask)

    # --- What is written --------------------------------------------------------------------------------------------
    async def _write(self, raw: psycopg.AsyncConnection, state: State) -> None:
        sent = Sent()
        if self.writes.extended:
            extended = [{"request_id": each, "amount_nanos": to} for each, to in self.writes.extended.items()]
            sent.add("extended", sql.EXTEND_HOLDS, text(extended))
        if self.renewals:
            renewed = [{"request_id": each, "unfinished": entry.row} for each, entry in self.renewals.items()]
            sent.add("renewed", sql.RENEW_HOLDS, settings.HOLD_LEASE_S, text(renewed))
        if self.writes.touched:
            touched = [state.buckets[each] for each in sorted(self.writes.touched)]
            sent.add("touched", sql.UPDATE_BUCKETS, text(touched))
        self._add_main(sent)
        self._add_keys(sent)
        sent.add("committed", "COMMIT")
        await sent.rows(raw)

    def _add_main(self, sent: "Sent") -> None:
        writes = self.writes
        ends = (text(writes.transfers), text(writes.usage)) if writes.usage else ()
        beginnings = (settings.HOLD_LEASE_S, text(writes.holds)) if writes.holds else ()
        if ends and beginnings:
            sent.add("both", sql.WRITE_BOTH, *ends, *beginnings)
        elif ends:
            sent.add("ends", sql.WRITE_ENDS, *ends)
        elif beginnings:
            sent.add("beginnings", sql.WRITE_BEGINNINGS, *beginnings)

    def _add_keys(self, sent: "Sent") -> None:
        if self.given_back:
            organizations, requests = zip(*self.given_back, strict=True)
            sent.add("given back", sql.GIVE_KEYS_BACK, array(set(organizations)), array(requests))
        if self.kept:
            kept = [
                {
                    "organization_id": ask.row.organization_id,
                    "key": ask.idempotency_key,
                    "digest": ask.body_digest.hex(),
                    "request_id": ask.row.request_id,
                }
                for ask in self.kept
            ]
            sent.add("kept", sql.KEEP_KEYS, text(kept))


class Sent:
    """Statements that are sent together, each under a name that its rows are found by."""

    def __init__(self, *first: Statement) -> None:
        self.names = [""] * len(first)
        self.statements = list(first)

    def add(self, name: str, text: str, *parameters: str | float) -> None:
        """Queue a statement."""
        self.names.append(name)
        self.statements.append(Statement(text, parameters))

    async def rows(self, raw: psycopg.AsyncConnection) -> dict[str, Rows]:
        """Send all of them, and return their rows by name."""
        return dict(zip(self.names, await pipelined.run(raw, self.statements), strict=True))


def text(rows: Any) -> str:
    """Return rows as the JSON that json_populate_recordset takes."""
    return encode(rows).decode()


def array(values: Iterable[object]) -> str:
    """Return numbers or UUIDs as a PostgreSQL array's text, which costs less than to have a list adapted."""
    return "{" + ",".join(map(str, values)) + "}"
