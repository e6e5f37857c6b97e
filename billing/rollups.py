"""Add usage up by hour and by day, from its rows, again and again until nothing is late.

A request belongs to the hour in which it began, and its row comes when it ends: a long one comes after its hour was
added up. So each run looks at the rows that were settled since the one before, and makes every hour anew that one of
them belongs to. An hour is never corrected by a difference, always made whole, and its day with it.

Invariants: `RolledUp.hours_until` and the sums before it change in one transaction, so that what reads both in one
statement (the views `billing_usage_by_day` and `billing_usage_by_hour`) counts each row once. Without the worker the
views grow slower, and lack what ended after its hour was added up, as they do for a minute with it.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from billing.models import RolledUp, UsageHour
from billing.usage import EPOCH, first_id

HOUR = timedelta(hours=1)
# Most requests of an hour have ended by then, so that few hours are made twice.
SETTLED_AFTER = timedelta(minutes=5)
# A row's time is when its transaction began, which may have been committed so much later.
LOOK_BACK = timedelta(minutes=2)
HOURS_AT_ONCE = 24

# After a clock that was ahead, nobody knows from when on rows were not seen.
LOOK_BACK_FAR = timedelta(days=1)

LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('aperture_rollups'))"
# What is a count of rows in the sums; the others are sums of the column with their name.
COUNTED = {"requests_count": "count(*)", "failed_count": "count(*) FILTER (WHERE status >= 400)"}
SUMS = (
    *COUNTED,
    *("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "audio_tokens"),
    *("duration_ms", "cost_nanos", "charge_nanos"),
)
KEYS = ("organization_id", "key_id", "user_id", "model", "provider_id")
OF_ROWS = ", ".join(f"{COUNTED.get(name, f'sum({name})')}::bigint AS {name}" for name in SUMS)

CHANGED = """
SELECT DISTINCT date_trunc('hour', aperture_began_at(request_id), 'UTC') FROM billing_usage WHERE created_at >= %s
"""
# The first moment whose rows are all still there.
KEPT_SINCE = """
SELECT min(to_date(right(relid::regclass::text, 7), 'YYYY_MM'))::timestamp AT TIME ZONE 'UTC'
  FROM pg_partition_tree('billing_usage') WHERE isleaf AND relid::regclass::text ~ '^billing_usage_[0-9]{4}_[0-9]{2}$'
"""
FORGET_HOURS = "DELETE FROM billing_usagehour WHERE hour >= %s RETURNING date_trunc('day', hour, 'UTC')"
# What no row is there for was detached meanwhile, and its sums stay.
FORGET_HOUR = """
DELETE FROM billing_usagehour WHERE hour = %(hour)s
   AND EXISTS (SELECT FROM billing_usage WHERE request_id >= %(first)s AND request_id < %(next)s)
"""
MAKE_HOUR = f"""
INSERT INTO billing_usagehour (hour, {", ".join(KEYS + SUMS)})
SELECT %(hour)s, organization_id, key_id, user_id, model, coalesce(provider_id, 0) AS provider_id, {OF_ROWS}
  FROM billing_usage WHERE request_id >= %(first)s AND request_id < %(next)s
 GROUP BY organization_id, key_id, user_id, model, coalesce(provider_id, 0)
"""  # noqa: S608
FORGET_DAY = "DELETE FROM billing_usageday WHERE day = %(day)s"
MAKE_DAY = f"""
INSERT INTO billing_usageday (day, {", ".join(KEYS + SUMS)})
SELECT %(day)s, {", ".join(KEYS)}, {", ".join(f"sum({name})" for name in SUMS)}
  FROM billing_usagehour WHERE hour >= %(first)s AND hour < %(next)s
 GROUP BY {", ".join(KEYS)}
"""  # noqa: S608


class AlreadyRunning(Exception):
    """Another process adds up at this moment."""


def clock() -> datetime:
    """Return the database's time, by which rows are settled, whatever a worker's clock says."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        found: datetime = (cursor.fetchone() or [None])[0]
        return found


def run(now: datetime) -> list[datetime]:
    """Make the sums of what is over and has changed; return the hours that were made. Raises AlreadyRunning."""
    until = (now - SETTLED_AFTER).replace(minute=0, second=0, microsecond=0)
    with transaction.atomic():
        state = _locked()
        if state.hours_until > until:
            _take_back(state, until)
        with connection.cursor() as cursor:
            cursor.execute(CHANGED, [now - LOOK_BACK_FAR if state.seen_until > now else state.seen_until - LOOK_BACK])
            changed = {hour for (hour,) in cursor.fetchall()}
    hours = sorted(hour for hour in changed | _over(state, until) if hour < until)
    for start in range(0, len(hours), HOURS_AT_ONCE):
        _make(hours[start : start + HOURS_AT_ONCE])
    with transaction.atomic():
        state = _locked()
        state.hours_until = max(state.hours_until, until)
        state.seen_until = now
        state.save()
    return hours


def forget_hours(before: date) -> None:
    """Delete the hours of days before BEFORE: their days stay."""
    UsageHour.objects.filter(hour__lt=_midnight(before)).delete()


def reached(day: date) -> bool:
    """Tell whether every hour before DAY is added up."""
    return RolledUp.objects.filter(hours_until__gte=_midnight(day)).exists()


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _over(state: RolledUp, until: datetime) -> set[datetime]:
    """Return the hours that are over and were never added up: all of them, whatever the clocks of the nodes say."""
    if state.hours_until == EPOCH:
        return set()
    return {state.hours_until + number * HOUR for number in range((until - state.hours_until) // HOUR)}


def _take_back(state: RolledUp, until: datetime) -> None:
    """Forget the hours from UNTIL on, which a clock that was ahead had added up before they were over."""
    with connection.cursor() as cursor:
        cursor.execute(KEPT_SINCE)
        until = max(until, (cursor.fetchone() or [None])[0] or until)
        cursor.execute(FORGET_HOURS, [until])
        for day in sorted({day for (day,) in cursor.fetchall()}):
            _make_day(cursor, day)
    state.hours_until = until
    state.save()


def _locked() -> RolledUp:
    with connection.cursor() as cursor:
        cursor.execute(LOCK)
        if not (cursor.fetchone() or [False])[0]:
            raise AlreadyRunning("Another process adds usage up at this moment.")
    return RolledUp.objects.get_or_create(pk=1, defaults={"hours_until": EPOCH, "seen_until": EPOCH})[0]


def _make(hours: list[datetime]) -> None:
    """Make these hours and their days, in one transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        state = _locked()
        days: set[datetime] = set()
        for hour in hours:
            bounds: dict[str, Any] = {"hour": hour, "first": first_id(hour), "next": first_id(hour + HOUR)}
            cursor.execute(FORGET_HOUR, bounds)
            cursor.execute(MAKE_HOUR, bounds)
            if cursor.rowcount:
                days.add(hour.replace(hour=0))
        for day in sorted(days):
            _make_day(cursor, day)
        state.hours_until = max(state.hours_until, hours[-1] + HOUR)
        state.save()


def _make_day(cursor: Any, day: datetime) -> None:
    cursor.execute(FORGET_DAY, {"day": day.date()})
    cursor.execute(MAKE_DAY, {"day": day.date(), "first": day, "next": day + timedelta(days=1)})
