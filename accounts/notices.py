"""Mails about a key's time: before it expires and when it has, before its secret is changed for age and when it was.

Each is sent once for the moment that it speaks of: the note of it is made first, and taken back where the mail could
not be sent or the worker was stopped, so the next look tries again. A moment that is moved is told anew.
"""

from datetime import datetime, timedelta

from django.db import transaction

from accounts import mail
from accounts.models import APIKey, Handover, KeyNotice, RetiredSecret

DAY, WEEK = timedelta(days=1), timedelta(days=7)
# The kind of a mail, and how long before the expiry it is due; the last of them only from then on.
BEFORE_EXPIRY = (("expires_in_week", WEEK), ("expires_tomorrow", DAY))
EXPIRED = "expired"
# A key that expired while no worker ran is told of for so long.
LATE_MAX = WEEK


def tell(key: APIKey, kind: str, due_at: datetime, now: datetime, **about: object) -> bool:
    """Send KEY's owner the mail of this KIND about the moment DUE_AT, unless it was sent; return whether it went."""
    about = {"key": key, "kind": kind, "due_at": due_at} | about
    with transaction.atomic():
        notice, is_new = KeyNotice.objects.get_or_create(key=key, kind=kind, due_at=due_at, defaults={"sent_at": now})
        if not is_new:
            return False
        if mail.send(mail.owners_of(key), "accounts/mail/key.txt", about):
            return True
        notice.delete()
    return False


def tell_of_expiry(now: datetime) -> int:
    """Tell of the keys that expire within a week, within a day, and of those that have; return how many mails went."""
    keys = APIKey.objects.filter(revoked_at=None, expires_at__gt=now - LATE_MAX, expires_at__lte=now + WEEK)
    sent = 0
    for key in keys.select_related("user", "organization").order_by("pk"):
        kind = _kind(key, now)
        if kind and key.expires_at:
            sent += tell(key, kind, key.expires_at, now)
    return sent


def _kind(key: APIKey, now: datetime) -> str | None:
    """Return which mail is due; None for a key that was made for less time than that mail tells in advance."""
    if key.expires_at is None:
        return None
    if key.expires_at <= now:
        return EXPIRED
    kind, lead = min((each for each in BEFORE_EXPIRY if key.expires_at - now <= each[1]), key=lambda each: each[1])
    return kind if key.expires_at - key.created_at >= lead else None


def tell_of_handovers(now: datetime) -> int:
    """Tell of new secrets that age has brought, and again a day before the former ones end where nobody fetched them.

    Return how many mails went out.
    """
    waiting = Handover.objects.filter(
        sealed__isnull=False, expires_at__gt=now, key__revoked_at=None, key__retired__reason=RetiredSecret.AGE
    )
    sent = 0
    for row in waiting.select_related("key__user", "key__organization").distinct().order_by("pk"):
        key = row.key
        former = key.retired.order_by("-retired_at", "-pk").first()
        if former is None or former.reason != RetiredSecret.AGE or former.accepted_until is None:
            continue
        about = {"former": former, "fetch_until": row.expires_at}
        sent += tell(key, "rotated", former.accepted_until, now, **about)
        if former.retired_at < former.accepted_until - DAY <= now < former.accepted_until:
            sent += tell(key, "former_ends_tomorrow", former.accepted_until, now, **about)
    return sent
