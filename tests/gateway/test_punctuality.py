"""Whether the background keeps up."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.connection import Connection
from gateway import punctuality
from gateway.models import Heartbeat, Job

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("due_at", "sent_at", "started_at", "late"),
    [
        (ago(-5), None, None, False),
        (ago(1), None, None, False),
        (ago(2), None, None, True),
        (None, ago(60), None, False),
        (ago(-5), ago(1), ago(60), False),
        (ago(-5), ago(2), ago(60), True),
        (ago(-5), ago(2), None, True),
        (ago(-5), ago(2), ago(1.9), False),
    ],
)
def test_a_job_is_late_that_was_not_sent_or_not_begun(
    due_at: datetime | None, sent_at: datetime | None, started_at: datetime | None, late: bool
) -> None:
    assert punctuality.is_late(NOW, due_at, sent_at, started_at) is late


def test_the_summary_names_who_is_away_before_what_is_late() -> None:
    assert punctuality.summary({"worker": 3.21, "beat": 70.0}, ["reconcile"]) == {
        "state": "beat away",
        "worker_seen_s": 3.2,
        "beat_seen_s": 70.0,
        "late": ["reconcile"],
    }
    assert punctuality.summary({}, [])["state"] == "worker and beat away"
    assert punctuality.summary({"worker": 1, "beat": 1}, ["reconcile"])["state"] == "late"
    assert punctuality.summary({"worker": 1, "beat": 1}, [])["state"] == "ok"


async def read() -> dict[str, Any]:
    connection = Connection("aperture-test-reads")
    try:
        return await punctuality.report(connection)
    finally:
        await connection.close()


@pytest.mark.django_db(transaction=True)
def test_the_report_is_read_from_the_rows() -> None:
    now = datetime.now(UTC)
    for kind in (Heartbeat.WORKER, Heartbeat.BEAT):
        Heartbeat.objects.create(kind=kind, node="here", seen_at=now)
        Heartbeat.objects.create(kind=kind, node="gone", seen_at=now - timedelta(hours=1))
    Job.objects.create(task="a", name="reconcile", due_at=now - timedelta(hours=1))
    Job.objects.create(task="b", name="", due_at=now - timedelta(hours=1))
    found = asyncio.run(read())
    assert (found["state"], found["late"]) == ("late", ["reconcile"])
    assert found["worker_seen_s"] < 5
