"""What every task of the background is: bounded in time, one at a time, and recorded.

`Task` is the Celery application's task class, so a plain `@shared_task` has all of it. Invariants: a task takes
keyword arguments alone; while one runs, no other of the same task and arguments does, on whichever node (an advisory
lock of PostgreSQL, which ends with the connection that holds it); a run ends with its time limit, in the database by
`statement_timeout` and in Python by Celery's limits, which need a pool of processes; what is recorded holds no
argument, and no secret.

A task without arguments that finds itself running already is skipped: the schedule brings it again. One with arguments
waits its turn, for nobody would bring it again.
"""

import inspect
import json
import logging
import os
import re
import socket
import time
from datetime import datetime, timedelta
from typing import Any

import celery
import psycopg
from billiard.exceptions import SoftTimeLimitExceeded
from django.conf import settings

logger = logging.getLogger("aperture.jobs")

# Time to clean up, between the exception that ends a run and the end of its process.
GRACE_S = 15
SOFT_LIMIT_S = 300
# A job that comes more often than this leaves rows of its failures only, and alike ones in a row share one.
QUIET_BELOW_S = 60
# How long Celery may take to end a process that is past its hard limit.
KILL_S = 5
RETRY_S = 30
ERROR_CHARS_MAX = 300
PASSWORDS = re.compile(r"(?<=://)[^/\s@]*:[^/\s@]*(?=@)|(?i:password|passwd|secret|token|api[_-]?key)\s*[=:]\s*\S+")
STRIPE_KEYS = re.compile(r"\b(?:sk|rk|pk)_(?:live|test)_\w+")

OPEN = "SELECT set_config('statement_timeout', %s, false)"
TRY = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
WAIT = "SELECT pg_advisory_lock(hashtextextended(%s, 0))"
CLOSE = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))"
RESET = "RESET statement_timeout"


class Task(celery.Task):  # type: ignore[type-arg]
    """A task of ours. Its limits may be given to `@shared_task`; both at once, soft below hard, in seconds."""

    soft_time_limit: int | None = SOFT_LIMIT_S
    time_limit: int | None = SOFT_LIMIT_S + GRACE_S

    @classmethod
    def on_bound(cls, app: Any) -> None:  # noqa: ARG003 - Celery's signature
        """Raise TypeError for a task that takes positional arguments, or whose limits are no limits."""
        if is_ours(str(cls.name)):
            check(str(cls.name), cls.run)
            if not cls.soft_time_limit or not cls.time_limit or cls.soft_time_limit >= cls.time_limit:
                raise TypeError(f"{cls.name}: give soft_time_limit and time_limit in seconds, soft below hard.")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it: as a plain function where Python called it, and as a job where Celery did."""
        if self.request.called_directly or not is_ours(str(self.name)):
            return self.run(*args, **kwargs)
        return Run(self, kwargs).perform()


def is_ours(name: str) -> bool:
    """Say whether a task is one of the product's; Celery has a few of its own."""
    return not name.startswith("celery.")


def check(name: str, function: Any) -> None:
    """Raise TypeError unless FUNCTION takes keyword arguments alone."""
    by_place = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind not in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD)
    ]
    if by_place:
        raise TypeError(f"{name}: {', '.join(by_place)} must be keyword-only; write `*` before the first argument.")


def node() -> str:
    """Return this machine's name, as heartbeats and runs show it."""
    return socket.gethostname()[:150]


def lock_name(name: str, kwargs: dict[str, Any]) -> str:
    """Return what two runs that must not overlap have in common."""
    return f"aperture job {name} {json.dumps(kwargs, sort_keys=True, default=str)}"


def is_quiet(app: Any, name: str) -> bool:
    """Say whether a task comes so often that its good runs leave no row."""
    return any(
        entry["task"] == name and isinstance(entry["schedule"], int | float) and entry["schedule"] < QUIET_BELOW_S
        for entry in app.conf.beat_schedule.values()
    )


def ran_out(error: BaseException, elapsed_s: float, limit_s: float) -> bool:
    """Say whether ERROR is the end of a run's time: Celery's soft or hard limit, or the database's."""
    if isinstance(error, SoftTimeLimitExceeded) or isinstance(error.__cause__, psycopg.errors.QueryCanceled):
        return True
    # Celery asks a process to end, before it kills it.
    return isinstance(error, SystemExit) and elapsed_s >= limit_s


def describe(error: BaseException) -> str:
    """Return an error's class and the first line of its message, without secrets."""
    from gateway.scrub import scrub

    line = (str(error).strip().splitlines() or [""])[0]
    text = STRIPE_KEYS.sub("[redacted]", PASSWORDS.sub("[redacted]", scrub(line, secrets())))
    return f"{type(error).__name__}: {text}"[:ERROR_CHARS_MAX] if text else type(error).__name__


def secrets() -> list[str]:
    """Return the installation's own secrets, none of which an error may show."""
    vendor_keys = [key for keys in settings.VENDOR_KEYS.values() for key in keys.values()]
    return [
        *(settings.SECRET_KEY, settings.DEMO_SECRET, settings.STRIPE_SECRET_KEY, settings.EMAIL_HOST_PASSWORD),
        *(*settings.KEY_PEPPERS, *settings.ENCRYPTION_KEYS, *settings.STRIPE_WEBHOOK_SECRETS, *vendor_keys),
        *(settings.DATABASES["default"].get("PASSWORD") or "", settings.REDIS_URL),
    ]


class Run:
    """One run of a task, from its lock to its record."""

    def __init__(self, task: Task, kwargs: dict[str, Any]) -> None:
        self.task = task
        self.name = str(task.name)
        self.kwargs = kwargs
        self.lock = lock_name(self.name, kwargs)
        hard_s, soft_s = task.request.timelimit or (None, None)
        self.limit_s = int(soft_s or task.soft_time_limit or SOFT_LIMIT_S)
        self.hard_limit_s = int(hard_s or task.time_limit or SOFT_LIMIT_S + GRACE_S)
        self.by_hand = bool(task.request.get("aperture_by_hand"))
        self.began_s = time.monotonic()

    def perform(self) -> Any:
        """Run it, or skip it where it runs already; raise what it raised."""
        from django.db import InterfaceError, OperationalError

        from gateway.models import Job

        try:
            if not self.begin():
                self.record(Job.SKIPPED, "It was running already.")
                return None
        except (OperationalError, InterfaceError) as error:
            return self.put_off(error)
        try:
            result = self.task.run(**self.kwargs)
        except BaseException as error:
            if ran_out(error, time.monotonic() - self.began_s, self.limit_s):
                self.end(Job.TIMED_OUT, f"Ended at its time limit of {self.limit_s} s ({type(error).__name__}).")
            else:
                self.end(Job.FAILED, describe(error))
            raise
        self.end(Job.OK, "")
        return result

    def put_off(self, error: Exception) -> None:
        """Leave a run for later that found no database: one with arguments comes again, the schedule brings others."""
        logger.warning("%s does not run now, for PostgreSQL does not answer (%s)", self.name, type(error).__name__)
        if self.kwargs:
            raise self.task.retry(exc=error, countdown=RETRY_S, max_retries=None)

    def begin(self) -> bool:
        """Take the lock and note that it runs; return False where another run has the lock."""
        from django.db import connection
        from django.db.models.functions import Now

        from gateway.models import Job

        with connection.cursor() as cursor:
            cursor.execute(OPEN, [str(self.limit_s * 1000)])
            cursor.execute(WAIT if self.kwargs else TRY, [self.lock])
            row = cursor.fetchone()
            if row is None or row[0] is False:
                cursor.execute(RESET)
                return False
        job, _made = Job.objects.get_or_create(task=self.name)
        if not self.kwargs:
            if job.running_since:
                # Whoever ran it held this lock: it has ended, and could not say so.
                close_lost(job, "Its process ended before it did.")
            until = Now() + timedelta(seconds=self.hard_limit_s + KILL_S)
            Job.objects.filter(pk=job.pk).update(running_since=Now(), deadline_at=until, last_started_at=Now())
        else:
            Job.objects.filter(pk=job.pk).update(last_started_at=Now())
        return True

    def end(self, outcome: str, error: str) -> None:
        """Give the lock back and record the run. A database that has gone away meanwhile is tried once more."""
        from django.db import DatabaseError, InterfaceError, connection

        for last in (False, True):
            try:
                with connection.cursor() as cursor:
                    cursor.execute(RESET)
                self.record(outcome, error)
                with connection.cursor() as cursor:
                    cursor.execute(CLOSE, [self.lock])
                return
            except (DatabaseError, InterfaceError) as failure:
                if last:
                    logger.warning("%s: %s, and the run could not be recorded (%s)", self.name, outcome, failure)
                connection.close()

    def record(self, outcome: str, error: str) -> None:
        """Write how it went."""
        from django.db.models import F
        from django.db.models.functions import Now

        from gateway.models import Job

        job, _made = Job.objects.get_or_create(task=self.name)
        now = database_now()
        started_at = now - timedelta(seconds=time.monotonic() - self.began_s)
        if outcome != Job.SKIPPED:
            ended = {} if self.kwargs else {"running_since": None, "deadline_at": None}
            failed = outcome != Job.OK
            Job.objects.filter(pk=job.pk).update(
                last_started_at=started_at, last_finished_at=Now(), last_outcome=outcome, last_error=error,
                runs=F("runs") + 1, failures=F("failures") + int(failed), **ended,
            )  # fmt: skip
        quiet = is_quiet(self.task.app, self.name) and not self.by_hand
        if not quiet or outcome not in (Job.OK, Job.SKIPPED):
            add_run(job, started_at, now, outcome, error, by_hand=self.by_hand, share=quiet)


def database_now() -> datetime:
    """Return the database's time: that of several machines' rows, whatever their clocks say."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        found: datetime = cursor.fetchone()[0]
        return found


def add_run(
    job: Any, started_at: datetime, finished_at: datetime, outcome: str, error: str, *, by_hand: bool, share: bool
) -> None:
    """Add a run to the job's history; where it may SHARE, one like the last is counted there."""
    from django.db.models import F

    from gateway.models import JobRun

    where = f"{node()}:{os.getpid()}"
    newest = JobRun.objects.filter(job=job).order_by("-id").first() if share else None
    if newest and (newest.outcome, newest.error, newest.by_hand) == (outcome, error, False):
        JobRun.objects.filter(pk=newest.pk).update(finished_at=finished_at, repeats=F("repeats") + 1, node=where)
        return
    JobRun.objects.create(
        job=job, started_at=started_at, finished_at=finished_at, outcome=outcome, error=error, node=where,
        by_hand=by_hand,
    )  # fmt: skip


def close_lost(job: Any, error: str) -> None:
    """Record the end of a run that could not record it itself: killed at its limit, or with its machine."""
    from django.db.models import F

    from gateway.models import Job

    now = database_now()
    outcome = Job.TIMED_OUT if job.deadline_at and job.deadline_at <= now else Job.FAILED
    claimed = Job.objects.filter(pk=job.pk, running_since=job.running_since).update(
        running_since=None, deadline_at=None, last_finished_at=now, last_outcome=outcome, last_error=error,
        runs=F("runs") + 1, failures=F("failures") + 1,
    )  # fmt: skip
    if claimed:
        add_run(job, job.running_since, now, outcome, error, by_hand=False, share=False)


def close_overdue() -> int:
    """Record the end of every run that is past its limits; return how many there were."""
    from gateway.models import Job

    overdue = list(Job.objects.filter(deadline_at__lte=database_now()))
    for job in overdue:
        close_lost(job, "Its process was ended at the time limit.")
    return len(overdue)
