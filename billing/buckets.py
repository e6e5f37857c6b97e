"""The buckets of spending limits as people see them: brought up to date, with their owner's name; and their refill.

Nothing here writes a bucket but `refill`, which locks its row as the journal does.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec
from django.db import transaction
from django.db.models.functions import Now

from accounts.models import User
from billing import spending
from billing.models import Bucket, SpendingLimit
from billing.spending import OWN


class Standing(msgspec.Struct, frozen=True):
    """A limit's bucket as of a moment. `name` is the limit's with the owner's e-mail in the template's place."""

    limit: SpendingLimit
    name: str
    bucket: spending.Bucket

    @property
    def left_nanos(self) -> int:
        """What can be spent now; below zero where more was spent than held."""
        return spending.left(self.bucket)

    @property
    def used_percent(self) -> int:
        """The share of the capacity that is spent; 100 where there is none."""
        if not self.bucket.capacity:
            return 100
        return self.bucket.spent * 100 // self.bucket.capacity

    @property
    def full_at(self) -> datetime | None:
        """Return when it is full again if nothing more is spent; None where it does not refill by itself, or so slowly.

        A rate of a nano-dollar takes longer than any calendar goes.
        """
        wait_s = spending.seconds_until(self.bucket, self.bucket.capacity)
        try:
            return None if wait_s is None else self.bucket.measured_at + timedelta(seconds=wait_s)
        except OverflowError:
            return None


def standings(rows: Iterable[Bucket], now: datetime) -> list[Standing]:
    """Return buckets (with their limits) as of NOW; one query brings their owners."""
    found = list(rows)
    emails = emails_of(row.subject for row in found)
    return [standing(row, emails.get(row.subject), now) for row in found]


def standing(row: Bucket, email: str | None, now: datetime) -> Standing:
    """Return a bucket (with its limit) as of NOW; EMAIL is its owner's, if it has one."""
    owner = email or row.subject
    name = row.limit.name.replace(spending.USER, owner) if owner else row.limit.name
    return Standing(row.limit, name, as_of(row, now))


def untouched(limit: SpendingLimit, subject: str, now: datetime) -> Standing:
    """Return the bucket that a subject would get with its first request."""
    row = Bucket(pk=0, limit=limit, subject=subject, spent_nanos=0, held_nanos=0, measured_at=now)
    return standings([row], now)[0]


def as_of(row: Bucket, now: datetime) -> spending.Bucket:
    """Return a row and its definition, brought up to NOW."""
    bucket = spending.Bucket(
        id=row.pk,
        name=row.limit.name,
        kind=row.limit.kind,
        capacity=row.limit.capacity_nanos,
        rate=row.limit.rate_nanos,
        period=row.limit.period,
        hard=row.limit.hard and row.limit.enabled,
        spent=row.spent_nanos,
        held=row.held_nanos,
        measured_at=row.measured_at,
    )
    spending.refresh(bucket, now)
    return bucket


def emails_of(subjects: Iterable[str]) -> dict[str, str]:
    """Return the e-mail of each bucket's subject that is a user."""
    ids = {int(subject.removeprefix(OWN)) for subject in subjects if subject.startswith(OWN)}
    return {f"{OWN}{pk}": email for pk, email in User.objects.filter(pk__in=ids).values_list("pk", "email")}


def refill(bucket_id: int, amount_nanos: int | None = None) -> int:
    """Give a bucket back so much of what was spent, all of it without an amount; return how much that was.

    It is never filled above its capacity, and what is held stays held. Raise Bucket.DoesNotExist.
    """
    with transaction.atomic():
        locked = Bucket.objects.select_for_update(of=("self",)).select_related("limit")
        row = locked.annotate(now=Now()).get(pk=bucket_id)
        bucket = as_of(row, row.now)
        given = bucket.spent if amount_nanos is None else min(bucket.spent, amount_nanos)
        Bucket.objects.filter(pk=row.pk).update(spent_nanos=bucket.spent - given, measured_at=bucket.measured_at)
    return given
