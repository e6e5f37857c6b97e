"""Beat against clocks that jump and rows that an operator wrote badly: one of them keeps no other job from its time."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from aperture_site.beat import Beat, Row
from aperture_site.celery import app
from gateway.models import Job

pytestmark = pytest.mark.django_db(transaction=True)
TASK = "aperture_site.tasks.note_worker"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the schedules that were sent, and have nothing reach Redis."""
    names: list[str] = []
    monkeypatch.setattr(Beat, "producer", None)
    monkeypatch.setattr(Beat, "queue_length", lambda _beat: 0)
    monkeypatch.setattr(Beat, "sync_rows", lambda _beat: None)

    def send(_beat: Beat, entry: Row, _next_s: float) -> None:
        if not isinstance(entry.kwargs, dict):
            raise TypeError("task keyword arguments must be a mapping")
        names.append(entry.name)

    monkeypatch.setattr(Beat, "send", send)
    return names


@pytest.fixture
def beat() -> Iterator[Beat]:
    beat = Beat(app, lazy=True)
    yield beat
    beat.unlink()


def a_row(name: str, **fields: Any) -> PeriodicTask:
    if "crontab" not in fields:
        fields["interval"] = IntervalSchedule.objects.get_or_create(every=5, period=IntervalSchedule.SECONDS)[0]
    Job.objects.get_or_create(task=TASK, defaults={"name": name})
    return PeriodicTask.objects.create(name=name, task=TASK, **fields)


@pytest.mark.parametrize("bad", ["a day that never comes", "arguments that are no names", "fields by hand"])
def test_a_schedule_that_cannot_be_followed_keeps_no_other_from_its_time(
    bad: str, beat: Beat, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if bad == "a day that never comes":
        a_row(bad, crontab=CrontabSchedule.objects.create(day_of_month="31", month_of_year="2"))
    elif bad == "fields by hand":
        a_row(bad, crontab=CrontabSchedule.objects.create(minute="often"))
    else:
        a_row(bad, kwargs="[1]")
    a_row("good")
    told: list[str] = []
    monkeypatch.setattr("aperture_site.beat.logger.error", lambda line, *values: told.append(line % values))
    beat.tick()
    beat.tick()
    assert sent == ["good"]
    assert [bad in line for line in told] == [True]


def test_a_clock_that_was_ahead_keeps_no_job_from_its_time(beat: Beat, sent: list[str]) -> None:
    ahead = datetime.now(UTC) + timedelta(days=365)
    row = a_row("often", last_run_at=ahead)
    beat.tick()
    entry = beat.schedule["often"]
    assert entry.is_due().next <= 5
    # And while it runs.
    entry.model.last_run_at = entry.last_run_at = ahead
    assert entry.is_due().next <= 5
    entry.last_run_at = entry.model.last_run_at = datetime.now(UTC)
    entry.save()
    row.refresh_from_db()
    assert row.last_run_at and row.last_run_at < datetime.now(UTC) + timedelta(minutes=1)
