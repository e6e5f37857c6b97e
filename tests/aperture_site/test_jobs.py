"""What every task has: keyword arguments alone, a lock, limits, and a record without secrets."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery, shared_task
from celery.exceptions import Retry
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection
from django.utils import timezone
from pytest_django import Settings

from aperture_site import jobs
from aperture_site.celery import app
from gateway.models import Job, JobRun
from tests.installation import populate
from tests.races import at_once

loader: Any = app.loader
loader.import_default_modules()
TASKS = sorted({entry["task"] for entry in app.conf.beat_schedule.values()})


@pytest.fixture
def task() -> Iterator[Any]:
    """A way to make tasks that are gone after the test."""
    made: list[str] = []

    def make(function: Any, **options: Any) -> Any:
        name = f"test.{function.__name__}"
        made.append(name)
        decorate: Any = app.task(name=name, **options)
        return decorate(function)

    yield make
    for name in made:
        app.tasks.pop(name, None)


def run(task: Any, **options: Any) -> Any:
    return task.apply(**options)


def test_a_task_that_takes_arguments_by_place_is_refused() -> None:
    own = Celery("own", task_cls="aperture_site.jobs:Task", set_as_current=False)

    def by_place(organization_id: int) -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match="organization_id must be keyword-only"):
        own.task(name="test.by_place", lazy=False)(by_place)


def test_a_task_without_limits_is_refused() -> None:
    own = Celery("own", task_cls="aperture_site.jobs:Task", set_as_current=False)

    def endless() -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match="soft below hard"):
        own.task(name="test.endless", lazy=False, soft_time_limit=60, time_limit=60)(endless)


def test_every_task_of_ours_is_limited_and_says_what_it_does() -> None:
    ours = [each for name, each in app.tasks.items() if jobs.is_ours(name)]
    assert {each.name for each in ours} >= set(TASKS)
    for each in ours:
        assert isinstance(each, jobs.Task)
        assert 0 < int(each.soft_time_limit or 0) < int(each.time_limit or 0) <= 3600
        assert (each.run.__doc__ or "").strip().split("\n")[0].endswith(".")


def test_the_schedule_has_each_task_once() -> None:
    assert len(TASKS) == len(app.conf.beat_schedule)


@pytest.mark.django_db
def test_a_good_run_is_recorded_with_its_time(task: Any) -> None:
    def rests() -> None:
        """Rest."""
        time.sleep(0.05)

    assert run(task(rests)).state == "SUCCESS"
    job, row = Job.objects.get(task="test.rests"), JobRun.objects.get()
    assert (job.runs, job.failures, job.last_outcome, job.running_since, job.deadline_at) == (1, 0, "ok", None, None)
    assert row.outcome == "ok"
    assert row.finished_at - row.started_at >= timedelta(milliseconds=50)
    assert row.node.startswith(jobs.node())


@pytest.mark.django_db
def test_a_failed_run_says_why_without_secrets(task: Any, settings: Settings) -> None:
    settings.STRIPE_SECRET_KEY = "sk_live_notashape"
    message = f"{settings.SECRET_KEY} redis://u:hunter2@host/0 password=swordfish sk_test_abc123 sg-{'a' * 36}\nmore"

    def fails() -> None:
        """Fail."""
        raise RuntimeError(message)

    assert run(task(fails)).state == "FAILURE"
    error = JobRun.objects.get().error
    assert error.startswith("RuntimeError: ")
    for secret in (settings.SECRET_KEY, "hunter2", "swordfish", "abc123", "aaaa", "more"):
        assert secret not in error
    job = Job.objects.get(task="test.fails")
    assert (job.last_outcome, job.last_error, job.failures) == ("failed", error, 1)


@pytest.mark.django_db(transaction=True)
def test_a_statement_over_the_limit_is_a_run_that_timed_out(task: Any) -> None:
    def sleeps() -> None:
        """Have the database sleep."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(60)")

    began_s = time.monotonic()
    assert run(task(sleeps, soft_time_limit=1, time_limit=2)).state == "FAILURE"
    assert time.monotonic() - began_s < 10
    assert Job.objects.get().last_outcome == "timed out"
    assert "time limit of 1 s" in JobRun.objects.get().error


@pytest.mark.django_db(transaction=True)
def test_a_task_that_runs_is_not_begun_again_and_the_lock_ends_with_it(task: Any) -> None:
    inside, leave = threading.Event(), threading.Event()

    def waits() -> None:
        """Wait."""
        inside.set()
        leave.wait(30)

    waiting = task(waits)

    def second() -> None:
        assert inside.wait(30)
        assert run(waiting).state == "SUCCESS"
        leave.set()

    at_once(lambda: run(waiting), second)
    assert sorted(JobRun.objects.values_list("outcome", flat=True)) == ["ok", "skipped"]
    assert Job.objects.get(task="test.waits").runs == 1
    run(waiting)
    assert Job.objects.get(task="test.waits").runs == 2


@pytest.mark.django_db(transaction=True)
def test_a_task_with_arguments_waits_for_its_like_and_not_for_others(task: Any) -> None:
    busy: list[str] = []
    overlaps: list[tuple[str, ...]] = []

    def delivers(*, to: str) -> None:
        """Deliver."""
        busy.append(to)
        time.sleep(0.3)
        overlaps.append(tuple(sorted(busy)))
        busy.remove(to)

    delivery = task(delivers)
    at_once(*(lambda to=to: run(delivery, kwargs={"to": to}) for to in ("a", "a", "b")))
    assert len(overlaps) == 3
    assert ("a", "a") not in overlaps
    assert any(set(each) == {"a", "b"} for each in overlaps)


@pytest.mark.django_db
def test_a_frequent_job_leaves_rows_of_its_failures_only_and_one_for_those_alike(
    task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong: list[str] = []

    def sweeps() -> None:
        """Sweep."""
        if wrong:
            raise RuntimeError(wrong[0])

    sweep = task(sweeps)
    monkeypatch.setitem(app.conf.beat_schedule, "sweep", {"task": "test.sweeps", "schedule": 2.0})
    for _ in range(5):
        run(sweep)
    assert not JobRun.objects.exists()
    wrong.append("no answer")
    for _ in range(5):
        run(sweep)
    wrong[0] = "no route"
    run(sweep)
    assert list(JobRun.objects.order_by("id").values_list("error", "repeats")) == [
        ("RuntimeError: no answer", 5),
        ("RuntimeError: no route", 1),
    ]
    job = Job.objects.get(task="test.sweeps")
    assert (job.runs, job.failures) == (11, 6)


@pytest.mark.django_db
def test_a_run_that_could_not_say_how_it_ended_is_closed_by_whoever_finds_it(task: Any) -> None:
    def dies() -> None:
        """Die."""

    now = jobs.database_now()
    hour = timedelta(hours=1)
    Job.objects.create(task="test.dies", running_since=now - hour, deadline_at=now + hour)
    assert jobs.close_overdue() == 0
    run(task(dies))
    assert list(JobRun.objects.order_by("id").values_list("outcome", flat=True)) == ["failed", "ok"]
    Job.objects.update(running_since=now - hour, deadline_at=now - timedelta(seconds=1))
    assert (jobs.close_overdue(), jobs.close_overdue()) == (1, 0)
    job = Job.objects.get()
    assert (job.last_outcome, job.running_since, job.runs, job.failures) == ("timed out", None, 3, 2)


@pytest.mark.django_db(transaction=True)
def test_without_a_database_a_job_is_left_to_its_schedule_and_a_delivery_comes_again(
    task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def delivers(*, to: str = "") -> None:
        """Deliver."""
        ran.append(to)

    def away(self: jobs.Run) -> bool:
        raise OperationalError("the connection is lost")

    delivery = task(delivers)
    monkeypatch.setattr(jobs.Run, "begin", away)
    assert run(delivery).state == "SUCCESS"
    monkeypatch.setattr(delivery, "retry", lambda **options: Retry(when=options["countdown"]))
    assert run(delivery, kwargs={"to": "a"}).state == "RETRY"
    assert ran == []


@pytest.mark.django_db
def test_ended_sign_ins_are_deleted_and_others_stay() -> None:
    now = timezone.now()
    for name, ends_at in (("ended", now - timedelta(minutes=1)), ("open", now + timedelta(minutes=1))):
        Session.objects.create(session_key=name, session_data="", expire_date=ends_at)
    app.tasks["aperture_site.tasks.clear_sessions"]()
    assert [session.session_key for session in Session.objects.all()] == ["open"]


@pytest.mark.django_db
def test_history_is_kept_by_age_and_by_number() -> None:
    from aperture_site import tasks

    now = jobs.database_now()
    job, other = Job.objects.create(task="a"), Job.objects.create(task="b")
    old = now - timedelta(days=settings.JOB_HISTORY_DAYS + 1)
    JobRun.objects.create(job=other, started_at=old, finished_at=old, outcome="ok", node="n")
    rows = [JobRun(job=job, started_at=now, finished_at=now, outcome="ok", node="n") for _ in range(tasks.ROWS_MAX + 5)]
    JobRun.objects.bulk_create(rows)
    app.tasks["aperture_site.tasks.prune_job_history"]()
    assert JobRun.objects.filter(job=job).count() == tasks.ROWS_MAX
    assert not JobRun.objects.filter(job=other).exists()


def test_a_plain_call_is_a_function_call() -> None:
    @shared_task(name="test.plain")
    def plain(*, number: int) -> int:
        """Add one."""
        return number + 1

    assert plain(number=1) == 2
    app.tasks.pop("test.plain", None)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", TASKS)
def test_every_scheduled_task_twice_in_a_row_and_at_once_leaves_the_same_state(name: str) -> None:
    populate()
    scheduled = app.tasks[name]
    assert run(scheduled).state == "SUCCESS"
    once = everything()
    assert run(scheduled).state == "SUCCESS"
    assert everything() == once
    assert [each.state for each in at_once(lambda: run(scheduled), lambda: run(scheduled))] == ["SUCCESS"] * 2
    assert everything() == once


def everything() -> dict[str, str]:
    """Return a digest of each table's rows; of times, only that there are some, and the runs themselves left out."""
    times = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d]*[+-]\d\d"
    with connection.cursor() as cursor:
        tables = [
            table
            for table in connection.introspection.table_names(cursor)
            if not table.startswith(("gateway_job", "gateway_heartbeat"))
        ]
        digests = {}
        for table in tables:
            # Sums are made anew, with another number each time.
            text = "to_jsonb(row) - 'id'" if table in ("billing_usagehour", "billing_usageday") else "row"
            line = f"regexp_replace(({text})::text, '{times}', 'time', 'g')"
            name = connection.ops.quote_name(table)
            cursor.execute(
                f"SELECT count(*) || coalesce(md5(string_agg({line}, '|' ORDER BY {line})), '') FROM {name} AS row"
            )
            digests[table] = str(cursor.fetchone()[0])
        return digests
