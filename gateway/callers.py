"""Who calls: keys looked up once, then answered from memory.

Invariants: no query for a key that is known or cannot be one; look-ups that come together make one query; what was
read before a change of keys is never remembered after it, so a dead key is refused in under a second.
"""

import asyncio
import logging
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from psycopg.rows import dict_row

from accounts import acceptance, keys, subjects
from billing import ledger
from billing.connection import Connection
from billing.models import Wallet
from gateway.snapshot import Caller, Terms

logger = logging.getLogger(__name__)

KNOWN_MAX = 100_000
UNKNOWN_MAX = 10_000
LOOKUP_TIMEOUT_S = 2.0
BATCH_MAX = 500

QUERY = f"""
SELECT k.id, s.digest, s.display, k.name, k.organization_id, o.name AS organization, k.user_id, u.email,
       k.labels, k.model_globs, k.ip_allowlist, extract(epoch FROM {acceptance.EXPIRES_AT})::float8 AS expires_at,
       {acceptance.REVOKED} AS revoked,
       ARRAY(SELECT g.name FROM accounts_group g JOIN accounts_group_members m ON m.group_id = g.id
             WHERE m.user_id = k.user_id) AS groups,
       p.slug AS plan, p.id AS plan_id, p.markup_ppm, p.native_anthropic, w.mode, w.funded,
       ARRAY(SELECT name FROM billing_plan WHERE native_anthropic AND public ORDER BY position, name)
           AS native_anthropic_plans
FROM {acceptance.KEYS}
LEFT JOIN billing_wallet w ON w.organization_id = o.id
LEFT JOIN billing_plan p ON p.id = coalesce(
    w.plan_id, (SELECT id FROM billing_plan ORDER BY slug <> 'free', position, id LIMIT 1))
"""  # noqa: S608


class Callers:
    """The keys this process has seen since the last change of keys."""

    def __init__(self) -> None:
        self.connection = Connection("aperture-keys")
        self.known: dict[bytes, Caller | None] = {}
        self.unknown_count = 0
        # Keys that were good when they were last looked up, through all that was forgotten since.
        self.proven: set[bytes] = set()
        self.generation = 0
        self.pending: dict[bytes, asyncio.Future[Caller | None]] = {}
        self.task: asyncio.Task[None] | None = None

    def forget(self) -> None:
        """Drop everything: some key, user, organization or group has changed."""
        self.generation += 1
        self.known.clear()
        self.unknown_count = 0

    async def close(self) -> None:
        """Stop a running look-up and close the connection."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        for future in self.pending.values():
            future.cancel()
        self.pending.clear()
        await self.connection.close()

    def remembered(self, key: str) -> Caller | None:
        """Return whom a key stands for where that is known already; a dead key's caller too."""
        if key.isascii():
            for digest in keys.digests(key):
                caller = self.known.get(digest)
                if caller is not None:
                    return caller
        return None

    def was_good(self, key: str) -> bool:
        """Tell whether a key was good when it was last looked up, before something was forgotten."""
        return key.isascii() and not self.proven.isdisjoint(keys.digests(key))

    async def find(self, key: str) -> Caller | None:
        """Return whom a key stands for, or None; raise psycopg.OperationalError or TimeoutError without a database."""
        caller = self.remembered(key)
        # Known keys first: for them the checksum, which costs more than the digest, is not needed.
        if caller is not None or not key.isascii() or not keys.well_formed(key):
            return caller
        for digest in keys.digests(key):
            caller = None if digest in self.known else await self._look_up(digest)
            if caller is not None:
                return caller
        return None

    async def digest_of(self, key: str) -> bytes | None:
        """Return under which of its digests a key is known here, None for one that is not; raise as `find` does."""
        for digest in keys.digests(key):
            if await self.find_digest(digest) is not None:
                return digest
        return None

    async def find_digest(self, digest: bytes) -> Caller | None:
        """Return whom the key with a digest stands for, or None; raise as `find` does."""
        return self.known[digest] if digest in self.known else await self._look_up(digest)

    async def _look_up(self, digest: bytes) -> Caller | None:
        future = self.pending.get(digest)
        if future is None:
            future = self.pending[digest] = asyncio.get_running_loop().create_future()
            if self.task is None or self.task.done():
                self.task = asyncio.create_task(self._run(), name="key look-ups")
        return await asyncio.shield(future)

    async def _run(self) -> None:
        while self.pending:
            wanted = dict(list(self.pending.items())[:BATCH_MAX])
            generation = self.generation
            try:
                found = await self._query(list(wanted))
            except Exception as error:
                # Whatever it is, nobody may be left waiting.
                for digest, future in wanted.items():
                    del self.pending[digest]
                    if not future.done():
                        future.set_exception(error)
                        future.exception()
                continue
            if generation != self.generation:
                continue  # keys changed while the query ran: ask again, for what it read may be dead
            for digest, future in wanted.items():
                del self.pending[digest]
                self._remember(digest, found.get(digest))
                if not future.done():
                    future.set_result(found.get(digest))

    async def _query(self, wanted: list[bytes]) -> dict[bytes, Caller | None]:
        async with self.connection.using(LOOKUP_TIMEOUT_S) as raw, raw.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(QUERY, {"digests": wanted}, prepare=True)
            return {bytes(row["digest"]): _caller_or_none(row) for row in await cursor.fetchall()}

    def _remember(self, digest: bytes, caller: Caller | None) -> None:
        if caller is None:
            # A key that is minted later is random, so nobody has asked for it before; the bound is against guessers.
            self.unknown_count += 1
        if len(self.known) >= KNOWN_MAX or self.unknown_count > UNKNOWN_MAX:
            self.known.clear()
            self.unknown_count = 0
        self.known[digest] = caller
        if caller is None or caller.revoked:
            self.proven.discard(digest)
        elif len(self.proven) < KNOWN_MAX:
            self.proven.add(digest)


def _caller_or_none(row: Mapping[str, Any]) -> Caller | None:
    try:
        return caller_of(row)
    except (ValueError, TypeError, AttributeError) as error:
        logger.error("key %s is refused, for its row cannot be read: %s", row["display"], error)
        return None


def caller_of(row: Mapping[str, Any]) -> Caller:
    """Return the caller that a row of QUERY describes."""
    return Caller(
        key_id=row["id"],
        display=row["display"],
        key_name=row["name"],
        user_id=row["user_id"],
        email=row["email"],
        organization_id=row["organization_id"],
        organization=row["organization"],
        subjects=subjects.of_caller(email=row["email"], groups=row["groups"], labels=row["labels"], key_id=row["id"]),
        labels=row["labels"],
        model_globs=tuple(row["model_globs"]),
        networks=tuple(ip_network(network, strict=False) for network in row["ip_allowlist"]),
        expires_at=row["expires_at"],
        revoked=row["revoked"],
        terms=_terms(row),
    )


def _terms(row: Mapping[str, Any]) -> Terms:
    """Return the organization's terms; a wallet that is not there yet will be opened on the installation's."""
    return Terms(
        plan=row["plan"],
        plan_id=row["plan_id"],
        prepaid=(row["mode"] or ledger.initial_mode()) == Wallet.PREPAID,
        funded=bool(row["funded"]),
        markup_ppm=row["markup_ppm"],
        native_anthropic=row["native_anthropic"],
        native_anthropic_plans=tuple(row["native_anthropic_plans"]),
    )
