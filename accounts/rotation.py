"""Another secret for a key that stays what it is.

A key is its row: limits, budgets, grants, labels and usage are under its id, so none of them starts afresh with a new
secret. Its former secrets are `RetiredSecret` rows, oldest first: the chain. Invariants: a reset is one transaction; of
two at the same moment one wins and the other is told; at most one former secret is still accepted, for at most a week;
a key that is dead gets no new secret, but for one that leaked and is replaced.
"""

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from accounts import keys
from accounts.models import APIKey, Handover, RetiredSecret

OVERLAP_S_MAX = 7 * 86_400


class NotReset(Exception):
    """A key got no new secret; the message says why."""


class DeadKey(NotReset):
    """The key is revoked or has expired."""


class AlreadyReset(NotReset):
    """Somebody else gave the key another secret since it was read."""


class OverlapOutOfBounds(ValueError):
    """The former secret would be accepted for longer than a week, or for less than no time."""


def reset(key: APIKey, *, overlap_s: int = 0, reason: str = RetiredSecret.RESET) -> str:
    """Give KEY, as it was read, another secret and return its clear text, which is nowhere else.

    The former secret is refused everywhere in under a second, or after OVERLAP_S seconds where that is asked for; one
    from an earlier overlap at once (or, where nobody has fetched the present one yet, that one after OVERLAP_S).
    Raise DeadKey, AlreadyReset or OverlapOutOfBounds, with nothing changed.
    """
    if not 0 <= overlap_s <= OVERLAP_S_MAX:
        raise OverlapOutOfBounds(
            f"An overlap of {overlap_s} s is not possible; give 0 to {OVERLAP_S_MAX} s, which is a week."
        )
    with transaction.atomic():
        present = _locked(key)
        now = timezone.now()
        if present.revoked_at is not None:
            raise DeadKey(f"{key} is revoked, for good; make a new key.")
        if present.expires_at is not None and present.expires_at <= now:
            raise DeadKey(f"{key} has expired; move its expiry first, or make a new key.")
        accepted_until = now + timedelta(seconds=overlap_s) if overlap_s else None
        secret = _another_secret(present, now, reason, accepted_until)
    key.refresh_from_db()
    return secret


def replace_leaked(key: APIKey) -> str:
    """Give KEY, which was revoked for a leak, another secret with which it lives again; return its clear text.

    The leaked one stays dead. Raise DeadKey where the key was revoked for something else, or is not revoked.
    """
    with transaction.atomic():
        present = _locked(key)
        if present.revoked_at is None or present.revoked_for != APIKey.LEAKED:
            raise DeadKey(f"{key} was not revoked for a leak, so nothing replaces it.")
        secret = _another_secret(present, timezone.now(), RetiredSecret.LEAKED, None)
        APIKey.objects.filter(pk=key.pk).update(revoked_at=None, revoked_for="")
    key.refresh_from_db()
    return secret


def _locked(key: APIKey) -> APIKey:
    present = APIKey.objects.select_for_update().get(pk=key.pk)
    if bytes(present.digest) != bytes(key.digest):
        raise AlreadyReset(
            f"{key} was reset by somebody else just now: it is {present.display} today. Look, then retry."
        )
    return present


def _another_secret(present: APIKey, now: datetime, reason: str, accepted_until: datetime | None) -> str:
    # Locked, for whoever fetches it at this moment has it then.
    waiting = Handover.objects.select_for_update().filter(key=present, sealed__isnull=False).first()
    if accepted_until is not None and waiting is not None:
        # Nobody has the present secret yet: the one that programs use is the former one, so the overlap is that one's.
        RetiredSecret.objects.filter(key=present, accepted_until__gt=now).update(accepted_until=accepted_until)
        accepted_until = None
    else:
        end_overlap(present)
    RetiredSecret.objects.create(
        key=present,
        display=present.display,
        digest=bytes(present.digest),
        issued_at=present.issued_at,
        last_used_at=present.last_used_at,
        retired_at=now,
        reason=reason,
        accepted_until=accepted_until,
    )
    Handover.objects.filter(key=present).delete()
    return keys.renew(present)


def end_overlap(key: APIKey) -> int:
    """Refuse KEY's former secrets from now on, everywhere in under a second; return how many were still accepted."""
    still = RetiredSecret.objects.filter(key=key, accepted_until__isnull=False)
    accepted = still.filter(accepted_until__gt=timezone.now()).count()
    still.update(accepted_until=None)
    return accepted


def whose(secret: str) -> tuple[APIKey, RetiredSecret | None] | None:
    """Return the key that SECRET belongs to, and its row where it is a former secret; None for a stranger's text."""
    if not secret.isascii() or not keys.well_formed(secret):
        return None
    digests = keys.digests(secret)
    key = APIKey.objects.filter(digest__in=digests).first()
    if key is not None:
        return key, None
    former = RetiredSecret.objects.filter(digest__in=digests).select_related("key").first()
    return (former.key, former) if former else None
