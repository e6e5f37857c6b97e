"""Background tasks of the site itself: what keeps the others visible."""

from datetime import timedelta
from importlib import import_module

from celery import shared_task
from django.conf import settings
from django.db import connection

from aperture_site import jobs
from gateway.models import Heartbeat, JobRun

# Of each job at most so many rows are kept, so that one of every minute leaves no more than others.
ROWS_MAX = 500
HEARTBEAT = """
INSERT INTO gateway_heartbeat (kind, node, seen_at) VALUES ('worker', %s, now())
ON CONFLICT (kind, node) DO UPDATE SET seen_at = excluded.seen_at
"""
TOO_MANY = """
DELETE FROM gateway_jobrun WHERE id IN (
    SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY job_id ORDER BY id DESC) AS place FROM gateway_jobrun)
        AS placed WHERE place > %s)
"""


@shared_task
def note_worker() -> None:
    """Note that a worker does its work, and which runs ended without a word."""
    with connection.cursor() as cursor:
        cursor.execute(HEARTBEAT, [jobs.node()])
    jobs.close_overdue()


@shared_task
def prune_job_history() -> None:
    """Forget old runs of jobs, and machines that are gone."""
    now = jobs.database_now()
    JobRun.objects.filter(finished_at__lt=now - timedelta(days=settings.JOB_HISTORY_DAYS)).delete()
    Heartbeat.objects.filter(seen_at__lt=now - timedelta(days=1)).delete()
    with connection.cursor() as cursor:
        cursor.execute(TOO_MANY, [ROWS_MAX])


@shared_task
def clear_sessions() -> None:
    """Delete the sign-ins that have ended."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
