"""The table of schedules as rows: made once, followed while nobody changed them, and never against an operator."""

from typing import Any

import pytest
from celery.schedules import crontab
from django.db import transaction
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from aperture_site import schedules
from aperture_site.celery import PAYMENTS, app
from gateway.models import Job
from tests.races import at_once

NIGHTLY: dict[str, Any] = {"task": "a.nightly", "schedule": crontab(hour="2", minute="30")}
OFTEN: dict[str, Any] = {"task": "a.often", "schedule": 2.0}
TABLE = {"nightly": NIGHTLY, "often": OFTEN}
ABOUTS = {"a.nightly": "Count.", "a.often": "Sweep."}


def rows() -> dict[str, str]:
    return {row.name: schedules.written(row.scheduler) for row in PeriodicTask.objects.all()}


@pytest.mark.django_db
def test_the_product_s_own_table_can_be_written() -> None:
    table = app.conf.beat_schedule | PAYMENTS
    schedules.synchronise(table, {})
    assert rows() == {name: schedules.written(entry["schedule"]) for name, entry in table.items()}


@pytest.mark.django_db
def test_rows_are_made_once_and_tell_what_they_are_for() -> None:
    for _ in range(2):
        schedules.synchronise(TABLE, ABOUTS)
    assert rows() == {"nightly": "cron 30 2 * * * UTC", "often": "every 2 s"}
    assert list(Job.objects.order_by("name").values_list("name", "task", "about")) == [
        ("nightly", "a.nightly", "Count."),
        ("often", "a.often", "Sweep."),
    ]


@pytest.mark.django_db
def test_a_second_time_changes_nothing_that_beat_would_read_again() -> None:
    from django_celery_beat.models import PeriodicTasks

    schedules.synchronise(TABLE, ABOUTS)
    changed_at = PeriodicTasks.last_change()
    schedules.synchronise(TABLE, ABOUTS)
    assert PeriodicTasks.last_change() == changed_at


@pytest.mark.django_db
def test_what_an_operator_changed_stays_and_the_rest_follows_the_table() -> None:
    schedules.synchronise(TABLE, ABOUTS)
    row = PeriodicTask.objects.get(name="nightly")
    row.crontab = CrontabSchedule.objects.create(minute="5", hour="5")
    row.enabled = False
    row.save()
    moved = TABLE | {
        "nightly": NIGHTLY | {"schedule": crontab(hour="1", minute="0")},
        "often": OFTEN | {"schedule": 10.0},
    }
    for _ in range(2):
        schedules.synchronise(moved, ABOUTS)
        assert rows() == {"nightly": "cron 5 5 * * * UTC", "often": "every 10 s"}
    assert PeriodicTask.objects.get(name="nightly").enabled is False


@pytest.mark.django_db
def test_an_entry_that_left_the_table_loses_its_row_and_an_operator_s_own_stays() -> None:
    schedules.synchronise(TABLE, ABOUTS)
    interval = IntervalSchedule.objects.create(every=5, period=IntervalSchedule.MINUTES)
    PeriodicTask.objects.create(name="mine", task="a.nightly", interval=interval)
    schedules.synchronise({"often": OFTEN}, ABOUTS)
    assert rows() == {"often": "every 2 s", "mine": "every 300 s"}
    assert Job.objects.get(task="a.nightly").shipped == ""


@pytest.mark.django_db
def test_times_that_an_operator_added_twice_are_no_obstacle() -> None:
    for _ in range(2):
        CrontabSchedule.objects.create(hour="2", minute="30")
        IntervalSchedule.objects.create(every=2, period=IntervalSchedule.SECONDS)
    schedules.synchronise(TABLE, ABOUTS)
    assert rows() == {"nightly": "cron 30 2 * * * UTC", "often": "every 2 s"}


@pytest.mark.django_db(transaction=True)
def test_several_nodes_at_once_make_each_row_once() -> None:
    at_once(*[lambda: schedules.synchronise(TABLE, ABOUTS)] * 4)
    with transaction.atomic():
        assert sorted(rows()) == ["nightly", "often"]
        assert CrontabSchedule.objects.count() == IntervalSchedule.objects.count() == 1


def test_another_kind_of_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="write a number of seconds or a crontab"):
        schedules.written("hourly")
