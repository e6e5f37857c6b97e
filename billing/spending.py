"""What a spending limit's bucket has left, and when it will have enough. Pure; moments are in UTC.

Two kinds, one state: `spent` nano-dollars as of a moment. Of a quota's, the rate flows back continuously; a budget's
starts anew with each period. What is held counts as spent until it is settled.

What flows back is counted on a grid of whole nano-dollars since 1970, so bringing a bucket up to date a thousand times
a second gives back exactly what doing it once does, and a wait can be told to the second.
"""

import re
from datetime import UTC, datetime, timedelta

import msgspec

REFILL, CALENDAR = "refill", "calendar"
# A month's rate is for thirty days; a month of the calendar is one.
PERIOD_S = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800, "month": 2_592_000}
MICROS = 1_000_000
USER = "<user>"
# Begins the subject of a user's own bucket.
OWN = "user:"
TEMPLATE = re.compile(r"<[^>]*>?|>")
SUBJECT = re.compile(r"everyone|(?:user|group|tag):\S.*|(?:key|org):\d{1,18}")
SUBJECTS = "everyone, user:EMAIL, group:NAME, tag:LABEL, key:ID or org:ID"
EPOCH = datetime.fromtimestamp(0, UTC)


class Bucket(msgspec.Struct):
    """A bucket and its definition, as the journal locked them. Amounts are nano-dollars."""

    id: int
    name: str
    kind: str
    capacity: int
    rate: int
    period: str
    hard: bool
    spent: int
    held: int
    measured_at: datetime


class Shortage(msgspec.Struct, frozen=True):
    """A bucket that cannot pay AMOUNT. `retry_after_s` is None where waiting does not help."""

    name: str
    kind: str
    amount: int
    left: int
    capacity: int
    retry_after_s: int | None
    # When a budget starts anew, where that helps.
    anew_at: datetime | None = None


def problem(name: str, subject: str) -> str:
    """Return what is wrong with a definition, as a clause to put behind its name, or nothing.

    The database itself refuses unknown kinds and periods and negative amounts.
    """
    unknown = [found for found in TEMPLATE.findall(name) if found != USER]
    if unknown:
        return f"has the unsupported template {unknown[0]!r}; there is {USER} only"
    if name.count(USER) > 1:
        return f"names {USER} more than once"
    if subject and not SUBJECT.fullmatch(subject):
        return f"has the unreadable subject {subject!r}; write {SUBJECTS}"
    return ""


def bucket_subject(name: str, user_id: int) -> str:
    """Return whose bucket of a limit a user's requests are held in: the user's own, or the one that all share."""
    return f"{OWN}{user_id}" if USER in name else ""


def refresh(bucket: Bucket, now: datetime) -> None:
    """Bring a bucket's `spent` up to NOW; an earlier NOW (another node's clock) changes nothing."""
    if now <= bucket.measured_at:
        return
    if bucket.kind == REFILL:
        back = _flowed(bucket, now) - _flowed(bucket, bucket.measured_at)
        bucket.spent = max(0, bucket.spent - back)
    elif period_start(bucket.period, now) > bucket.measured_at:
        bucket.spent = 0
    bucket.measured_at = now


def left(bucket: Bucket) -> int:
    """Return what the bucket, brought up to date, can still pay."""
    return bucket.capacity - bucket.spent - bucket.held


def shortage(bucket: Bucket, amount: int) -> Shortage | None:
    """Return why a bucket, brought up to date, cannot pay AMOUNT, or None if it can."""
    if left(bucket) >= amount or not bucket.hard:
        return None
    anew_at = None
    if bucket.kind == CALENDAR and amount <= bucket.capacity:
        anew_at = period_end(bucket.period, bucket.measured_at)
    return Shortage(
        name=bucket.name,
        kind=bucket.kind,
        amount=amount,
        left=max(0, left(bucket)),
        capacity=bucket.capacity,
        retry_after_s=seconds_until(bucket, amount),
        anew_at=anew_at,
    )


def seconds_until(bucket: Bucket, amount: int) -> int | None:
    """Return in how many seconds AMOUNT will be left, if no more is spent than now; None if waiting does not help.

    One second less is not enough. What is held counts as if it were spent now.
    """
    missing = amount - left(bucket)
    if missing <= 0:
        return 0
    if amount > bucket.capacity or (bucket.kind == REFILL and not bucket.rate):
        return None
    now = _micros(bucket.measured_at - EPOCH)
    if bucket.kind == CALENDAR:
        until = _micros(period_end(bucket.period, bucket.measured_at) - EPOCH)
    else:
        until = -(-(_flowed(bucket, bucket.measured_at) + missing) * PERIOD_S[bucket.period] * MICROS // bucket.rate)
    return -(-(until - now) // MICROS)


def period_start(period: str, now: datetime) -> datetime:
    """Return when the period of the calendar that contains NOW began: weeks begin on Monday."""
    now = now.astimezone(UTC)
    minute = now.replace(second=0, microsecond=0)
    if period == "minute":
        return minute
    hour = minute.replace(minute=0)
    if period == "hour":
        return hour
    day = hour.replace(hour=0)
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day if period == "day" else day.replace(day=1)


def period_end(period: str, now: datetime) -> datetime:
    """Return when the period of the calendar that contains NOW ends."""
    start = period_start(period, now)
    if period == "month":
        return (start + timedelta(days=32)).replace(day=1)
    return start + timedelta(seconds=PERIOD_S[period])


def _micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _flowed(bucket: Bucket, moment: datetime) -> int:
    """Return how many whole nano-dollars the rate has brought from 1970 to a moment."""
    return bucket.rate * _micros(moment - EPOCH) // (PERIOD_S[bucket.period] * MICROS)
