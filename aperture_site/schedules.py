"""The schedule of `aperture_site.celery` as rows that an operator may change.

Invariants: the table is the one place where our own schedules are written; a row is made once for each entry, and
follows the table as long as nobody has changed it; what an operator changed (its times, whether it is enabled) stays;
an entry that left the table loses its row. Rows that an operator added are nobody's business here. To do it twice, or
on several nodes at once, is to do it once.
"""

from collections.abc import Mapping
from typing import Any

from celery.schedules import crontab
from django.db import connection, transaction
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from gateway.models import Job

# Any number, as long as every starter on one database asks for the same.
LOCK = 20_260_102


def written(schedule: object) -> str:
    """Return a schedule of the table or of a row in one spelling; raise ValueError for a kind that is not used here."""
    if isinstance(schedule, int | float):
        return f"every {int(schedule)} s"
    if isinstance(schedule, IntervalSchedule):
        return f"every {int(schedule.schedule.run_every.total_seconds())} s"
    if isinstance(schedule, crontab):
        parts = [
            getattr(schedule, f"_orig_{name}")
            for name in ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        ]
        return " ".join(["cron", *(str(part) for part in parts), "UTC"])
    if isinstance(schedule, CrontabSchedule):
        parts = [schedule.minute, schedule.hour, schedule.day_of_month, schedule.month_of_year, schedule.day_of_week]
        return " ".join(["cron", *parts, str(schedule.timezone)])
    raise ValueError(f"{schedule!r}: write a number of seconds or a crontab.")


def row_for(schedule: float | crontab) -> dict[str, Any]:
    """Return the fields of a row that runs by SCHEDULE."""
    if isinstance(schedule, crontab):
        _, minute, hour, day_of_month, month_of_year, day_of_week, zone = written(schedule).split(" ")
        times = {
            "minute": minute, "hour": hour, "day_of_month": day_of_month, "month_of_year": month_of_year,
            "day_of_week": day_of_week, "timezone": zone,
        }  # fmt: skip
        return {"crontab": _one(CrontabSchedule, times), "interval": None}
    return {
        "interval": _one(IntervalSchedule, {"every": int(schedule), "period": IntervalSchedule.SECONDS}),
        "crontab": None,
    }


def _one(kind: Any, values: dict[str, Any]) -> Any:
    """Return the oldest row with these values, made where there is none: an operator may have added one like it."""
    return kind.objects.filter(**values).order_by("pk").first() or kind.objects.create(**values)


def synchronise(table: Mapping[str, Mapping[str, Any]], abouts: Mapping[str, str]) -> None:
    """Bring the rows up to the table; ABOUTS says what each task does."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        jobs = {job.task: job for job in Job.objects.all()}
        ours = {job.name for job in jobs.values() if job.shipped}
        rows = {row.name: row for row in PeriodicTask.objects.select_related("interval", "crontab")}
        for gone in ours - set(table):
            if gone in rows:
                rows[gone].delete()
            Job.objects.filter(name=gone).update(shipped="", name="", due_at=None, sent_at=None)
        for name, entry in table.items():
            job = jobs.get(entry["task"]) or Job(task=entry["task"])
            _follow(rows.get(name), name, entry, job.shipped)
            told = {"name": name, "shipped": written(entry["schedule"]), "about": abouts.get(entry["task"], "")[:300]}
            if any(getattr(job, field) != value for field, value in told.items()):
                Job.objects.update_or_create(task=entry["task"], defaults=told)


def _follow(row: PeriodicTask | None, name: str, entry: Mapping[str, Any], shipped: str) -> None:
    """Make the row of an entry, or change it as the table did, unless an operator has changed it."""
    schedule = entry["schedule"]
    if row is None:
        PeriodicTask.objects.create(name=name, task=entry["task"], **row_for(schedule))
        return
    untouched = written(row.scheduler) == shipped if row.interval or row.crontab else False
    moved = untouched and shipped != written(schedule)
    if moved or row.task != entry["task"]:
        row.task = entry["task"]
        for field, value in (row_for(schedule) if moved else {}).items():
            setattr(row, field, value)
        row.save()


def abouts(tasks: Mapping[str, Any]) -> dict[str, str]:
    """Return the first line of each task's docstring."""
    return {name: (task.run.__doc__ or "").strip().split("\n")[0] for name, task in tasks.items()}
