"""What a spending limit's bucket has left, and when it will have enough. Pure; moments are in UTC.

Two kinds, one state: `spent` nano-dollars as of a moment. Of a quota's, the rate flows back continuously; a budget's
starts anew with each period. What is held counts as spent until it is settled.
"""

import math
from datetime import UTC, datetime, timedelta

import msgspec

REFILL, CALENDAR = "refill", "calendar"
# A month's rate is for thirty days; a month of the calendar is one.
PERIOD_S = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800, "month": 2_592_000}
MICROS = 1_000_000


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
    """A bucket that cannot pay. `retry_after_s` is None where waiting does not help."""

    name: str
    kind: str
    left: int
    retry_after_s: int | None


def refresh(bucket: Bucket, now: datetime) -> None:
    """Bring a bucket's `spent` up to NOW; an earlier NOW (another node's clock) changes nothing."""
    if now <= bucket.measured_at:
        return
    if bucket.kind == REFILL:
        back = bucket.rate * _micros(now - bucket.measured_at) // (PERIOD_S[bucket.period] * MICROS)
        bucket.spent = max(0, bucket.spent - back)
    elif period_start(bucket.period, now) > bucket.measured_at:
        bucket.spent = 0
    bucket.measured_at = now


def left(bucket: Bucket) -> int:
    """Return what the bucket, brought up to date, can still pay."""
    return bucket.capacity - bucket.spent - bucket.held


def shortage(bucket: Bucket, amount: int) -> Shortage | None:
    """Return why a bucket, brought up to date, cannot pay AMOUNT, or None if it can."""
    missing = amount - left(bucket)
    if missing <= 0 or not bucket.hard:
        return None
    return Shortage(bucket.name, bucket.kind, max(0, left(bucket)), _wait_s(bucket, amount, missing))


def _wait_s(bucket: Bucket, amount: int, missing: int) -> int | None:
    if amount > bucket.capacity:
        return None
    if bucket.kind == CALENDAR:
        remaining = period_end(bucket.period, bucket.measured_at) - bucket.measured_at
        return max(1, math.ceil(remaining.total_seconds()))
    if not bucket.rate:
        return None
    return max(1, -(-missing * PERIOD_S[bucket.period] // bucket.rate))


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
