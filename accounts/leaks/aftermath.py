"""What follows a leak in a worker: the key's replacement, and a mail to whoever owns it.

The rows of `Leak` are the queue: the request that revokes only writes them, and needs no broker for it. Invariants: a
key is replaced at most once for a leak, together with the note of it; one whose owner may not call any more is not. A
mail is sent at least once, and tried again while the mail server does not take it; no mail holds a key.
"""

import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from accounts import handover, mail, rotation
from accounts.models import APIKey, Leak, Membership, User

logger = logging.getLogger(__name__)

# No other worker takes a leak while one is at it, and what failed is tried again after this.
WAIT = timedelta(minutes=5)
SWEEP_S = 60
SWEEP_MAX = 500
# How long the new secret waits to be collected.
HANDED_OVER_FOR = timedelta(days=30)
# A mail that names a thousand places is not read.
PLACES_MAX = 20
# Keys of other installations are none of ours; they are kept for as long as somebody may ask about an alert.
UNKNOWN_KEPT = timedelta(days=90)


def sweep() -> int:
    """Act on the leaks that are due, until none is left or the time is over; return for how many keys."""
    ends_at = time.monotonic() + SWEEP_S
    due = Leak.objects.filter(due_at__lte=timezone.now(), key__isnull=False)
    done = 0
    for key_id in list(due.order_by("key_id").values_list("key_id", flat=True).distinct()[:SWEEP_MAX]):
        if time.monotonic() > ends_at:
            break
        done += follow_up(key_id)
    return done


def follow_up(key_id: int) -> bool:
    """Replace a key and tell its owner, as far as that is due; return whether nothing is left to do.

    What fails is logged and due again.
    """
    leaks = _claim(key_id, timezone.now())
    if not leaks:
        return False
    own = Leak.objects.filter(pk__in=[leak.pk for leak in leaks])
    try:
        _replace(key_id, leaks)
        told = _tell(key_id, list(own.order_by("pk")))
    except Exception:  # Whatever is wrong with one key, the others are seen to.
        logger.exception("the leak of key %s could not be followed up; it is tried again", key_id)
        return False
    if told:
        own.update(due_at=None, told_at=timezone.now())
    return told


def forget_unknown() -> int:
    """Delete old false positives; return how many."""
    return Leak.objects.filter(key=None, reported_at__lt=timezone.now() - UNKNOWN_KEPT).delete()[0]


def _claim(key_id: int, now: datetime) -> list[Leak]:
    """Return the key's leaks that are due, for this worker alone."""
    with transaction.atomic():
        due = Leak.objects.select_for_update(skip_locked=True).filter(key_id=key_id, due_at__lte=now)
        leaks = list(due.order_by("pk"))
        Leak.objects.filter(pk__in=[leak.pk for leak in leaks]).update(due_at=now + WAIT)
    return leaks


def _replace(key_id: int, leaks: Sequence[Leak]) -> None:
    with transaction.atomic():
        key = APIKey.objects.select_for_update().get(pk=key_id)
        if key.revoked_at is None or key.revoked_for != APIKey.LEAKED or not _may_live(key):
            return
        now = timezone.now()
        handover.leave(key, rotation.replace_leaked(key), expires_at=now + HANDED_OVER_FOR)
        Leak.objects.filter(pk__in=[leak.pk for leak in leaks]).update(replaced_at=now)


def _may_live(key: APIKey) -> bool:
    """Tell whether a key with another secret would be accepted: its owner's state, and its expiry."""
    if key.expires_at is not None and key.expires_at <= timezone.now():
        return False
    return key.user.is_active and APIKey.objects.managed_by(key.user).filter(pk=key.pk).exists()


def _tell(key_id: int, leaks: Sequence[Leak]) -> bool:
    """Send the mail; return whether it went out to somebody, or there is nobody to send it to."""
    key = APIKey.objects.select_related("user", "organization").get(pk=key_id)
    about = {
        "name": " ".join(key.name.split()),
        "leaks": leaks[:PLACES_MAX],
        "more": max(0, len(leaks) - PLACES_MAX),
        "display": leaks[0].display,
        "present": key.display,
        "organization": key.organization.name,
        "replaced": any(leak.replaced_at for leak in leaks),
        "is_live": key.revoked_at is None,
        "days": HANDED_OVER_FOR.days,
    }
    return mail.send(_owners(key), "accounts/mail/leak.txt", about)


def _owners(key: APIKey) -> list[str]:
    """Return the e-mails of whose key it is, and of the owners of its organization: it may have cost them money."""
    held = Membership.objects.filter(organization_id=key.organization_id, role=Membership.OWNER)
    users = User.objects.filter(pk=key.user_id) | User.objects.filter(memberships__in=held)
    return list(users.filter(is_active=True).order_by("email").values_list("email", flat=True).distinct())
