"""The admin's pages of the background."""

import re
import socket
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from redis import Redis

from accounts.models import User
from aperture_site import schedules, submission
from aperture_site.admin import duration, in_words
from aperture_site.celery import app
from gateway.models import Heartbeat, Job, JobRun
from tests.aperture_site.test_schedules import ABOUTS, TABLE

pytestmark = pytest.mark.django_db


@pytest.fixture
def jobs() -> dict[str, Job]:
    """Two jobs, and a worker and a beat that were seen."""
    from aperture_site.jobs import database_now

    schedules.synchronise(TABLE, ABOUTS)
    for kind in (Heartbeat.WORKER, Heartbeat.BEAT):
        Heartbeat.objects.create(kind=kind, node="here", seen_at=database_now())
    return {job.name: job for job in Job.objects.all()}


def signed_in(*permissions: str) -> Client:
    from django.contrib.auth.models import Permission

    user = User.objects.create_user("olga@example.com", is_staff=True)
    for each in permissions:
        label, codename = each.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=label, codename=codename))
    client = Client()
    client.force_login(user)
    return client


def text(client: Client, view: str, *arguments: int) -> str:
    answer = client.get(reverse(f"admin:{view}", args=arguments))
    assert answer.status_code == 200
    return answer.content.decode()


def test_each_job_is_a_row_with_its_schedule_its_last_run_and_its_state(jobs: dict[str, Job]) -> None:
    from aperture_site.jobs import database_now

    now = database_now()
    Job.objects.filter(name="often").update(
        last_started_at=now - timedelta(seconds=30),
        last_finished_at=now - timedelta(seconds=28),
        last_outcome="failed",
        last_error="RuntimeError: no answer",
        due_at=now + timedelta(hours=3),
    )
    Job.objects.filter(name="nightly").update(due_at=now - timedelta(hours=1))
    client = signed_in("gateway.view_job", "gateway.view_jobrun")
    shown = text(client, "gateway_job_changelist")
    for words in ("nightly", "Count.", "At 02:30 UTC", "late", "every 2 s", "failed", "in 3 h"):
        assert words in shown
    assert re.search(r"3\d s ago", shown)
    assert "Run now" not in shown
    assert "has been seen" not in shown
    PeriodicTask.objects.update(enabled=False)
    assert "late" not in text(client, "gateway_job_changelist").split("</thead>")[1].split("</table>")[0]
    job = jobs["often"]
    JobRun.objects.create(
        job=job, started_at=now, finished_at=now, outcome="failed", error="of old", node="n", repeats=7
    )
    page = text(client, "gateway_job_change", job.pk)
    assert "RuntimeError: no answer" in page
    assert "failed (7 times in a row)" in page
    assert "of old" in text(client, "gateway_jobrun_changelist")


def test_nobody_heard_of_is_told(jobs: dict[str, Job]) -> None:
    client = signed_in("gateway.view_job")
    Heartbeat.objects.filter(kind=Heartbeat.BEAT).delete()
    Heartbeat.objects.update(seen_at=jobs["often"].due_at or "2026-01-01T00:00:00Z")
    shown = text(client, "gateway_job_changelist")
    assert "No beat has been seen yet" in shown
    assert "No worker has been seen for" in shown


def test_run_now_queues_the_job_and_is_audited(
    jobs: dict[str, Job], engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.conf import settings

    queue = Redis.from_url(settings.REDIS_URL)
    queue.delete("celery")
    client = signed_in("gateway.view_job", "gateway.run_job")
    address = reverse("admin:gateway_job_run_now", args=[jobs["often"].pk])
    assert client.get(address).status_code == 200
    assert queue.llen("celery") == 0
    client.post(address, {"_form_submitted": "on"})
    assert queue.llen("celery") == 1
    queue.delete("celery")
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Run now."]


def test_run_now_says_so_when_redis_is_away(jobs: dict[str, Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    with pytest.raises(submission.QueueAway, match="Redis does not answer"):
        submission.send("a.often")
    client = signed_in("gateway.view_job", "gateway.run_job")
    client.post(reverse("admin:gateway_job_run_now", args=[jobs["often"].pk]), {"_form_submitted": "on"})
    assert "Redis does not answer" in text(client, "gateway_job_changelist")
    assert not LogEntry.objects.exists()


def test_run_now_does_not_wait_for_a_redis_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(app.conf, "broker_write_url", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        monkeypatch.setitem(submission.IMPATIENT, "socket_timeout", 0.3)
        began_s = time.monotonic()
        with pytest.raises(submission.QueueAway, match="Redis does not answer"):
            submission.send("a.often")
        assert time.monotonic() - began_s < 5


def test_run_now_needs_its_permission(jobs: dict[str, Job]) -> None:
    address = reverse("admin:gateway_job_run_now", args=[jobs["often"].pk])
    assert signed_in("gateway.view_job").post(address, {"_form_submitted": "on"}).status_code == 403


def test_an_operator_changes_when_a_job_runs_and_not_what_it_is(jobs: dict[str, Job]) -> None:
    client = signed_in("django_celery_beat.view_periodictask", "django_celery_beat.change_periodictask")
    row = PeriodicTask.objects.get(name="often")
    slower = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.MINUTES)
    address = reverse("admin:django_celery_beat_periodictask_change", args=[row.pk])
    form = {"name": "other", "task": "a.nightly", "interval": slower.pk, "kwargs": "{}"}
    answer = client.post(address, form)
    assert answer.status_code == 302, answer.content.decode()
    row.refresh_from_db()
    assert (row.name, row.task, row.enabled, in_words(row)) == ("often", "a.often", False, "every 60 s")
    assert client.post(reverse("admin:django_celery_beat_periodictask_delete", args=[row.pk])).status_code == 403


def test_schedules_and_lengths_are_said_in_words() -> None:
    assert in_words(None) == "on demand"
    crontab = CrontabSchedule(minute="*/5", hour="*")
    assert in_words(PeriodicTask(crontab=crontab)) == "Every 5 minutes"
    assert in_words(PeriodicTask(crontab=CrontabSchedule(minute="x", hour="2"))) == "x 2 * * * UTC"
    assert [duration(timedelta(seconds=each)) for each in (0.02, 15, 600, 7200, 604_800)] == [
        "20 ms",
        "15 s",
        "10 min",
        "2 h",
        "7 days",
    ]
