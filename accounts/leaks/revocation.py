"""Revoke keys that were found in public, all of a report's in one transaction, and note where each was.

Invariants: after `report` no key of it is accepted, everywhere in under a second; what it notes is noted once for each
key and place, so the same alert may come any number of times, also twice at once; clear text goes into no row and no
log line. Locks are taken in one order (keys, former secrets, leaks), so reports that share keys do not block each other
for good.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum

import msgspec
from django.db import connection, transaction

from accounts import keys
from accounts.leaks import matches
from accounts.models import APIKey, Leak, RetiredSecret, User

logger = logging.getLogger(__name__)

SECRETS = """
SELECT k.digest, k.id, k.display, k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > %(now)s), NULL
  FROM accounts_apikey k WHERE k.digest = ANY(%(digests)s)
UNION ALL
SELECT r.digest, r.key_id, r.display,
       r.accepted_until IS NOT NULL AND r.accepted_until > %(now)s AND k.revoked_at IS NULL
       AND (k.expires_at IS NULL OR k.expires_at > %(now)s),
       r.id
  FROM accounts_retiredsecret r JOIN accounts_apikey k ON k.id = r.key_id WHERE r.digest = ANY(%(digests)s)
"""
# A former secret's key too, before it, as a reset does: the note of a leak names the key, and so waits for it. A key
# that is reset meanwhile has its digest among the former ones by the time that those are asked for.
LOCKS = (
    """
    SELECT FROM accounts_apikey WHERE id IN (
        SELECT id FROM accounts_apikey WHERE digest = ANY(%(digests)s)
        UNION SELECT key_id FROM accounts_retiredsecret WHERE digest = ANY(%(digests)s))
     ORDER BY id FOR UPDATE
    """,
    "SELECT FROM accounts_retiredsecret WHERE digest = ANY(%(digests)s) ORDER BY id FOR UPDATE",
)


class State(Enum):
    """What a text is: a key that is accepted, one that was issued and is not accepted, or none of ours."""

    LIVE = "live"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Suspect(msgspec.Struct, frozen=True):
    """A well-formed key that was found, without its clear text: its digests, how it is shown, and where it was."""

    digests: tuple[bytes, ...]
    display: str
    url: str = ""
    source: str = ""

    @property
    def identity(self) -> bytes:
        """What makes a leak the same one: the key and the place. The oldest pepper, for new ones are put before it."""
        return hashlib.sha256(self.digests[-1] + self.url.encode()).digest()


class Owned(msgspec.Struct, frozen=True):
    """A secret that was issued here: of which key, whether it is accepted, and its row where it is a former one."""

    key_id: int
    display: str
    live: bool
    retired_id: int | None


def suspect(token: str, url: str = "", source: str = "") -> Suspect | None:
    """Return the suspect of a text, or None for one that cannot be a key."""
    if not token.isascii() or not keys.well_formed(token):
        return None
    return Suspect(tuple(keys.digests(token)), keys.mask(token), matches.place(url), matches.source(source))


def look_up(suspects: Sequence[Suspect], now: datetime) -> list[Owned | None]:
    """Return whose each suspect is, and change nothing."""
    digests = [digest for each in suspects for digest in each.digests]
    with connection.cursor() as cursor:
        cursor.execute(SECRETS, {"digests": digests, "now": now})
        rows = cursor.fetchall()
    by_digest = {bytes(digest): Owned(key_id, display, live, row_id) for digest, key_id, display, live, row_id in rows}
    return [next((by_digest[digest] for digest in each.digests if digest in by_digest), None) for each in suspects]


def state(owned: Owned | None) -> State:
    """Return what is to be said of a suspect."""
    if owned is None:
        return State.UNKNOWN
    return State.LIVE if owned.live else State.DEAD


def report(
    suspects: Sequence[Suspect],
    channel: str,
    now: datetime,
    *,
    reporter: User | None = None,
    keep_unknown: bool = True,
) -> list[State]:
    """Revoke what is ours and note where it was; return what each suspect was until now.

    CHANNEL is one of Leak.CHANNELS. With KEEP_UNKNOWN what is not ours is noted too, as a false positive.
    """
    if not suspects:
        return []
    with transaction.atomic():
        _lock(suspects)
        owned = look_up(suspects, now)
        present = {each.key_id for each in owned if each and each.retired_id is None}
        former = {each.retired_id for each in owned if each and each.retired_id is not None}
        # Of an expired key too: whoever moved its expiry would bring the leaked secret back to life.
        revoked = APIKey.objects.filter(pk__in=present, revoked_at=None)
        count = revoked.update(revoked_at=now, revoked_for=APIKey.LEAKED)
        count += RetiredSecret.objects.filter(pk__in=former, accepted_until__gt=now).update(accepted_until=None)
        _note(suspects, owned, channel, now, reporter, keep_unknown)
    if count:
        logger.warning("%d leaked keys are revoked, as %s reported", count, channel)
    return [state(each) for each in owned]


def _lock(suspects: Iterable[Suspect]) -> None:
    digests = [digest for each in suspects for digest in each.digests]
    with connection.cursor() as cursor:
        for lock in LOCKS:
            cursor.execute(lock, {"digests": digests})


def _note(
    suspects: Sequence[Suspect],
    owned: Sequence[Owned | None],
    channel: str,
    now: datetime,
    reporter: User | None,
    keep_unknown: bool,
) -> None:
    rows: dict[bytes, Leak] = {}
    for each, whose in zip(suspects, owned, strict=True):
        if whose is not None or keep_unknown:
            was_live = whose is not None and whose.live
            rows[each.identity] = Leak(
                identity=each.identity,
                key_id=whose.key_id if whose else None,
                display=each.display,
                url=each.url,
                source=each.source,
                channel=channel,
                reporter=reporter,
                reported_at=now,
                was_live=was_live,
                due_at=now if was_live else None,
            )
    # What was no key of ours, by an installation that lacked a pepper for example, and is one now, is told of now.
    ours = [identity for identity, row in rows.items() if row.key_id is not None]
    Leak.objects.filter(identity__in=ours, key=None).delete()
    Leak.objects.bulk_create([rows[identity] for identity in sorted(rows)], ignore_conflicts=True, batch_size=2000)
