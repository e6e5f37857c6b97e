"""Secrets that may only become so old: the owner is warned, then the key gets another one, with an overlap.

The age is the key's own or its organization's, whichever is less. Invariants: no secret is changed before its owner
was told of it a lead ahead, also where the policy is new and the secret older than it allows (a mail that cannot be
sent holds the change up); the former secret is accepted for as long again; the new one waits in `accounts.handover`.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, QuerySet, Value
from django.db.models.functions import Least

from accounts import handover, notices, rotation
from accounts.models import APIKey, KeyNotice, RetiredSecret

logger = logging.getLogger(__name__)

DAY = timedelta(days=1)
# The owner is told this long before, or half the greatest age where that is shorter.
LEAD_DAYS_MAX = 7
FETCH_WITHIN = timedelta(days=30)
WARNED, TOMORROW = "rotates_soon", "rotates_tomorrow"


def bounded(now: datetime) -> QuerySet[Any]:
    """Return the live keys whose secrets may only become so old, with `max_age_days` and `too_old_at`."""
    age = ExpressionWrapper(Value(DAY, output_field=DurationField()) * F("max_age_days"), output_field=DurationField())
    bounded_keys: QuerySet[Any] = (
        APIKey.objects.live(now)
        .filter(user__is_active=True, organization__is_active=True)
        .annotate(max_age_days=Least("rotate_after_days", "organization__key_rotation_days"))
        .filter(max_age_days__isnull=False)
    )
    aged: QuerySet[Any] = bounded_keys.annotate(
        too_old_at=ExpressionWrapper(F("issued_at") + age, output_field=DateTimeField())
    )
    return aged


def lead(max_age_days: int) -> timedelta:
    """Return how long before a change the owner is told, and how long after it the former secret is accepted.

    Both together are no longer than the age, so one change is over when the next one comes.
    """
    return timedelta(days=min(LEAD_DAYS_MAX, max_age_days // 2))


def watch(now: datetime) -> int:
    """Warn of the changes that come, and make those that are due; return how many keys got another secret."""
    changed = 0
    near = bounded(now).filter(too_old_at__lte=now + timedelta(days=LEAD_DAYS_MAX))
    for key in near.select_related("user", "organization").order_by("pk"):
        changed += _watch(key, now)
    notices.tell_of_handovers(now)
    return changed


def _watch(key: Any, now: datetime) -> bool:
    ahead = lead(key.max_age_days)
    warned = KeyNotice.objects.filter(key=key, kind=WARNED, due_at=key.too_old_at).first()
    if warned is None:
        if key.too_old_at - ahead <= now:
            planned_at = max(key.too_old_at, now + ahead)
            notices.tell(key, WARNED, key.too_old_at, now, planned_at=planned_at, ends_at=planned_at + ahead)
        return False
    planned_at = max(key.too_old_at, warned.sent_at + ahead)
    if planned_at <= now:
        return rotate(key, now, overlap=ahead)
    if ahead > DAY and planned_at - DAY <= now:
        notices.tell(key, TOMORROW, key.too_old_at, now, planned_at=planned_at, ends_at=planned_at + ahead)
    return False


def rotate(key: APIKey, now: datetime, *, overlap: timedelta) -> bool:
    """Give KEY another secret for age and leave it for the owner; False where somebody was faster."""
    try:
        with transaction.atomic():
            secret = rotation.reset(key, overlap_s=int(overlap.total_seconds()), reason=RetiredSecret.AGE)
            handover.leave(key, secret, expires_at=now + FETCH_WITHIN)
    except rotation.NotReset as refusal:
        logger.info("a secret was not changed for its age: %s", refusal)
        return False
    return True
