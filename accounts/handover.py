"""A key's new secret that was made while its owner was away: kept encrypted, shown once, then erased.

Invariants: a secret opens for its key only, and only while it is the key's present one; of two who ask at the same
moment one gets it; one that was fetched or has run out is in no row any more. No mail carries one.
"""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from accounts import cipher, keys
from accounts.models import APIKey, Handover, User


def leave(key: APIKey, secret: str, *, expires_at: datetime) -> None:
    """Keep KEY's present secret for its owner until EXPIRES_AT, in the place of one that was left before.

    Raise ValueError for a text that is not the key's present secret: it would never open.
    """
    if bytes(key.digest) not in keys.digests(secret):
        raise ValueError(f"What is left for {key} is not its present secret; leave it after the key was saved with it.")
    Handover.objects.update_or_create(
        key=key,
        defaults={
            "sealed": cipher.seal(secret, _purpose(key)),
            "left_at": timezone.now(),
            "expires_at": expires_at,
            "collected_at": None,
            "collected_by": None,
        },
    )


def collect(user: User, key: APIKey) -> str | None:
    """Return KEY's waiting secret and erase it; None where none waits, or where this user may not have it.

    Those may who manage the key: whose it is, and who owns its organization.
    """
    with transaction.atomic():
        row = Handover.objects.select_for_update().filter(key_id=key.pk).first()
        # Read after the lock: a reset that came before has another secret by now.
        present = APIKey.objects.managed_by(user).filter(pk=key.pk, revoked_at=None).first()
        if row is None or row.sealed is None or row.expires_at <= timezone.now() or present is None:
            return None
        try:
            secret = cipher.unseal(bytes(row.sealed), _purpose(present))
        except cipher.UnreadableSecret:
            # Of a former secret, or an encryption key is missing, which the operator can bring back.
            return None
        row.sealed, row.collected_at, row.collected_by = None, timezone.now(), user
        row.save(update_fields=["sealed", "collected_at", "collected_by"])
    return secret


def waiting(key: APIKey) -> datetime | None:
    """Return until when a secret waits for KEY's owner, or None."""
    return waiting_until([key.pk]).get(key.pk)


def waiting_until(key_ids: Iterable[int]) -> dict[int, datetime]:
    """Return until when secrets wait for the owners of those of these keys that have one."""
    rows = Handover.objects.filter(
        key_id__in=key_ids, expires_at__gt=timezone.now(), sealed__isnull=False, key__revoked_at=None
    )
    return dict(rows.values_list("key_id", "expires_at"))


def erase_expired(now: datetime) -> int:
    """Erase what nobody fetched in time, and what belongs to a key that was revoked; return how many."""
    waiting_rows = Handover.objects.filter(sealed__isnull=False)
    run_out = waiting_rows.filter(expires_at__lte=now) | waiting_rows.filter(key__revoked_at__isnull=False)
    return run_out.update(sealed=None)


def _purpose(key: APIKey) -> str:
    return f"handover:{key.pk}:{bytes(key.digest).hex()}"
