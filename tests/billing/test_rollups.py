"""Usage is added up from its rows, each counts once at every moment, and nothing stays late."""

import uuid
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.models import Sum

from billing import rollups, tasks
from billing.models import RolledUp, Usage, UsageByDay, UsageByHour, UsageDay, UsageHour
from billing.usage import first_id

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def nothing_yet() -> None:
    RolledUp.objects.all().delete()


def a_row(began_at: datetime, *, settled_at: datetime | None = None, **about: Any) -> Usage:
    fields: dict[str, Any] = {
        "request_id": uuid.UUID(int=first_id(began_at).int | uuid.uuid4().int >> 64),
        **{"organization_id": 1, "key_id": 2, "user_id": 3, "model": "m", "provider_id": 4},
        **{"status": 200, "dialect": "openai_chat", "usage_source": "provider", "duration_ms": 10},
        **{"input_tokens": 5, "cost_nanos": 7, "charge_nanos": 9},
    }
    row = Usage.objects.create(**fields | about)
    Usage.objects.filter(pk=row.pk).update(created_at=settled_at or began_at)
    return row


def hours() -> list[tuple[int, int]]:
    """Return hour and number of requests of what is added up."""
    return [
        (each.hour.astimezone(UTC).hour, each.requests_count) for each in UsageHour.objects.order_by("hour", "model")
    ]


def shown() -> tuple[int, int]:
    """Return what the two views count."""
    by_day = UsageByDay.objects.aggregate(all=Sum("requests_count"))["all"] or 0
    by_hour = UsageByHour.objects.aggregate(all=Sum("requests_count"))["all"] or 0
    return by_day, by_hour


def test_an_hour_is_added_up_when_it_is_over_and_most_of_its_requests_have_ended() -> None:
    a_row(NOON)
    assert rollups.run(NOON + timedelta(minutes=34)) == []
    assert (hours(), shown()) == ([], (1, 1))
    assert rollups.run(NOON + timedelta(minutes=35)) == [NOON.replace(minute=0)]
    assert (hours(), shown()) == ([(12, 1)], (1, 1))


def test_the_sums_are_by_organization_user_key_model_and_provider() -> None:
    a_row(NOON)
    a_row(NOON, status=502, input_tokens=1, cache_read_tokens=2, reasoning_tokens=3, audio_tokens=4, charge_nanos=0)
    for other in ({"organization_id": 9}, {"user_id": 9}, {"key_id": 9}, {"model": "n"}, {"provider_id": None}):
        a_row(NOON, **other)
    rollups.run(NOON + timedelta(hours=1))
    assert UsageHour.objects.count() == 6
    found = UsageHour.objects.get(organization_id=1, user_id=3, key_id=2, model="m", provider_id=4)
    assert (found.requests_count, found.failed_count, found.duration_ms) == (2, 1, 20)
    assert (found.input_tokens, found.cache_read_tokens, found.reasoning_tokens, found.audio_tokens) == (6, 2, 3, 4)
    assert (found.cost_nanos, found.charge_nanos) == (14, 9)
    assert UsageHour.objects.get(provider_id=0).requests_count == 1
    day = UsageDay.objects.get(organization_id=1, user_id=3, key_id=2, model="m", provider_id=4)
    assert (day.day, day.requests_count, day.charge_nanos) == (NOON.date(), 2, 9)


def test_a_request_that_ended_long_after_its_hour_is_added_to_it() -> None:
    a_row(NOON)
    rollups.run(NOON + timedelta(hours=2))
    a_row(NOON, settled_at=NOON + timedelta(hours=2, minutes=10))
    assert rollups.run(NOON + timedelta(hours=2, minutes=11)) == [NOON.replace(minute=0)]
    assert (hours(), shown()) == ([(12, 2)], (2, 2))
    assert UsageDay.objects.get().requests_count == 2


def test_a_charge_that_was_taken_back_is_taken_out_of_the_sums() -> None:
    row = a_row(NOON)
    rollups.run(NOON + timedelta(hours=2))
    later = NOON + timedelta(hours=3)
    Usage.objects.filter(pk=row.pk).update(charge_nanos=0, status=503, created_at=later)
    rollups.run(later)
    assert (UsageDay.objects.get().charge_nanos, UsageDay.objects.get().failed_count) == (0, 1)


def test_every_hour_since_the_last_run_is_made_whatever_the_clocks_of_the_nodes_say() -> None:
    rollups.run(NOON)
    # Its node's clock is an hour ahead of the database's.
    a_row(NOON + timedelta(hours=1), settled_at=NOON - timedelta(minutes=10))
    made = rollups.run(NOON + timedelta(hours=3))
    assert made == [NOON.replace(minute=0, hour=12 + later) for later in range(3)]
    assert hours() == [(13, 1)]


def test_running_again_changes_nothing_and_each_row_counts_once_at_every_moment() -> None:
    for minutes in range(0, 60 * 5, 20):
        a_row(NOON + timedelta(minutes=minutes))
    for minutes in range(0, 60 * 7, 13):
        rollups.run(NOON + timedelta(minutes=minutes))
        before = list(UsageHour.objects.order_by("hour").values_list("hour", "requests_count"))
        rollups.run(NOON + timedelta(minutes=minutes))
        assert list(UsageHour.objects.order_by("hour").values_list("hour", "requests_count")) == before
        assert shown() == (15, 15)


def test_many_hours_are_caught_up_in_steps_and_a_break_between_them_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rollups, "HOURS_AT_ONCE", 2)
    for number in range(5):
        a_row(NOON + timedelta(hours=number))
    make = rollups._make
    steps: list[list[datetime]] = []

    def stop_after_one(step: list[datetime]) -> None:
        if steps:
            raise ConnectionError
        steps.append(step)
        make(step)

    monkeypatch.setattr(rollups, "_make", stop_after_one)
    with pytest.raises(ConnectionError):
        rollups.run(NOON + timedelta(hours=9))
    assert (hours(), shown()) == ([(12, 1), (13, 1)], (5, 5))
    monkeypatch.undo()
    rollups.run(NOON + timedelta(hours=9))
    assert ([hour for hour, _ in hours()], shown()) == ([12, 13, 14, 15, 16], (5, 5))


def test_days_end_at_midnight_utc() -> None:
    for moment in (NOON.replace(hour=23, minute=59), NOON.replace(hour=23) + timedelta(hours=1)):
        a_row(moment)
    rollups.run(NOON + timedelta(days=2))
    assert [each.day.day for each in UsageDay.objects.order_by("day")] == [20, 21]


def test_a_days_rows_that_are_no_longer_kept_stay_in_its_sums() -> None:
    a_row(NOON)
    rollups.run(NOON + timedelta(days=1))
    Usage.objects.all().delete()
    a_row(NOON + timedelta(days=40))
    rollups.run(NOON + timedelta(days=41))
    assert UsageDay.objects.count() == 2
    assert shown() == (2, 2)


def test_hours_are_kept_as_long_as_rows_and_days_for_good(settings: Any) -> None:
    settings.USAGE_MONTHS = 1
    a_row(datetime.now(UTC) - timedelta(days=70))
    a_row(datetime.now(UTC) - timedelta(days=1))
    rollups.run(datetime.now(UTC))
    tasks.detach_old_months()
    assert (UsageHour.objects.count(), UsageDay.objects.count()) == (1, 2)


def test_a_workers_clock_that_is_ahead_hides_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    a_row(datetime.now(UTC) - timedelta(hours=3))
    ahead = datetime.now(UTC) + timedelta(days=365)
    monkeypatch.setattr("django.utils.timezone.now", lambda: ahead)
    tasks.roll_up_usage()
    a_row(datetime.now(UTC) - timedelta(seconds=1))
    assert shown() == (2, 2)


def test_rows_count_once_after_a_clock_that_was_ahead_for_a_run() -> None:
    a_row(NOON)
    rollups.run(NOON + timedelta(hours=2))
    a_row(NOON + timedelta(hours=2))
    rollups.run(NOON + timedelta(days=365))
    # Both are settled before the next run by a right clock, and one of them ended late.
    a_row(NOON + timedelta(hours=2, minutes=3))
    a_row(NOON, settled_at=NOON + timedelta(hours=2, minutes=3))
    rollups.run(NOON + timedelta(hours=2, minutes=20))
    assert (hours(), shown()) == ([(12, 2)], (4, 4))
    rollups.run(NOON + timedelta(hours=4))
    assert (hours(), shown()) == ([(12, 2), (14, 2)], (4, 4))
    assert UsageDay.objects.get().requests_count == 4


def test_a_clock_that_falls_back_behind_what_is_kept_takes_no_sums_with_it() -> None:
    a_row(NOON)
    rollups.run(NOON + timedelta(days=1))
    Usage.objects.all().delete()
    UsageHour.objects.update(hour=datetime(2020, 1, 1, tzinfo=UTC))
    UsageDay.objects.update(day=datetime(2020, 1, 1, tzinfo=UTC).date())
    rollups.run(datetime(1970, 1, 2, tzinfo=UTC))
    assert UsageDay.objects.get().requests_count == 1


def busy(_now: datetime) -> list[datetime]:
    """Stand for a run that finds another one."""
    raise rollups.AlreadyRunning


def test_rows_that_are_detached_before_they_were_added_up_are_added_up_first(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.USAGE_MONTHS = 1
    old = datetime.now(UTC) - timedelta(days=70)
    with connection.cursor() as cursor:
        cursor.execute("SELECT aperture_usage_partition(%s)", [old.date().replace(day=1)])
    a_row(old)
    monkeypatch.setattr(rollups, "run", busy)
    tasks.detach_old_months()
    assert (Usage.objects.count(), UsageDay.objects.count()) == (1, 0)
    monkeypatch.undo()
    settings.USAGE_MONTHS = 1
    tasks.detach_old_months()
    assert (Usage.objects.count(), UsageDay.objects.count()) == (0, 1)


def test_months_that_are_added_up_are_detached_while_another_process_adds_up(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.USAGE_MONTHS = 1
    old = datetime.now(UTC) - timedelta(days=70)
    with connection.cursor() as cursor:
        cursor.execute("SELECT aperture_usage_partition(%s)", [old.date().replace(day=1)])
    a_row(old)
    rollups.run(datetime.now(UTC))
    monkeypatch.setattr(rollups, "run", busy)
    tasks.detach_old_months()
    assert (Usage.objects.count(), UsageDay.objects.count()) == (0, 1)


def test_rows_that_are_detached_while_a_run_is_on_stay_in_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    a_row(NOON)
    rollups.run(NOON + timedelta(hours=2))
    a_row(NOON, settled_at=NOON + timedelta(hours=2))
    make = rollups._make

    def detach_first(hours: list[datetime]) -> None:
        Usage.objects.all().delete()
        make(hours)

    monkeypatch.setattr(rollups, "_make", detach_first)
    rollups.run(NOON + timedelta(hours=3))
    assert (UsageHour.objects.get().requests_count, UsageDay.objects.get().requests_count) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_two_processes_do_not_add_up_at_once() -> None:
    settings = connection.get_connection_params()
    settings.pop("cursor_factory", None), settings.pop("context", None)
    with psycopg.connect(**settings) as other, other.transaction():
        other.execute(rollups.LOCK)
        with pytest.raises(rollups.AlreadyRunning):
            rollups.run(NOON)
        tasks.roll_up_usage()
    assert rollups.run(NOON) == []


def test_rows_of_the_last_minutes_are_found_without_reading_the_table() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname LIKE 'billing_usage_2%created_at%' LIMIT 1")
        assert "brin" in cursor.fetchall()[0][0]


def test_the_migration_makes_no_day_anew_whose_rows_are_gone() -> None:
    a_row(datetime(1970, 1, 1, 0, 1, tzinfo=UTC))
    a_row(NOON)
    for day in (NOON, NOON - timedelta(days=200)):
        UsageDay.objects.create(organization_id=1, day=day.date(), key_id=2, user_id=3, model="m", requests_count=1)
    with connection.cursor() as cursor:
        cursor.execute(import_module("billing.migrations.0010_rollups").MADE_ANEW)
    assert [each.day for each in UsageDay.objects.all()] == [(NOON - timedelta(days=200)).date()]
    assert shown() == (3, 2)
