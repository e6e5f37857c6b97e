"""A Celery application with the product's tasks and a few that misbehave, for tests of the worker and of beat.

Started as `celery --app tests.aperture_site.background worker`, with the suite's database in DATABASE_URL.
"""

import signal
import time

from celery import shared_task
from django.conf import settings
from django.db import connection

from aperture_site.celery import app

__all__ = ["app"]


@shared_task(name="test.quick")
def quick(*, note: str = "") -> str:
    """Return what it is given."""
    return note


@shared_task(name="test.slow")
def slow(*, seconds: float = 2.0, note: str = "") -> None:
    """Take a while."""
    time.sleep(seconds)


@shared_task(name="test.fails")
def fails() -> None:
    """Fail with a secret in the message."""
    raise RuntimeError(f"no answer from redis://:hunter2@host/0 with {settings.SECRET_KEY} and sk_live_abcdef123456")


@shared_task(name="test.hangs", soft_time_limit=1, time_limit=2)
def hangs() -> None:
    """Sleep on."""
    time.sleep(600)


@shared_task(name="test.hangs_in_database", soft_time_limit=1, time_limit=4)
def hangs_in_database() -> None:
    """Have the database sleep."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(600)")


@shared_task(name="test.hard_of_hearing", soft_time_limit=1, time_limit=2)
def hard_of_hearing() -> None:
    """Hear nothing of the soft limit."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    while True:
        time.sleep(1)


@shared_task(name="test.deaf", soft_time_limit=1, time_limit=2)
def deaf() -> None:
    """Hear nothing but the end."""
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1)


app.conf.beat_schedule = {
    "quick": {"task": "test.quick", "schedule": 1.0},
    "heartbeat": {"task": "aperture_site.tasks.note_worker", "schedule": 1.0},
    "every hour": {"task": "test.slow", "schedule": 3600.0},
}
