"""The worker and beat as real processes, over a PostgreSQL and a Valkey that are killed under them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis
from celery import Celery

from aperture_site import addresses
from aperture_site.celery import app
from aperture_site.engines import Engines

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0
WORKER = ("worker", "--without-gossip", "--without-mingle")
BEAT = ("beat", "--pidfile", "")


class Site:
    """An installation without its web processes."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.engines = Engines(data_dir)
        self.redis_url = addresses.embedded_redis(data_dir)
        self.environment = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
        self.environment |= {"APERTURE_DATA_DIR": str(data_dir), "APERTURE_JOB_PROCESSES": "2"}
        self.client = Celery("client", broker=addresses.celery_broker(self.redis_url), set_as_current=False)
        self.logs: list[Path] = []

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what a statement finds, or nothing while the database is away."""
        try:
            address = addresses.embedded_database(self.data_dir)
            with psycopg.connect(address, autocommit=True, connect_timeout=2) as raw:
                cursor = raw.execute(statement.encode(), values or None)
                return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError:
            return []

    def runs(self, task: str) -> int:
        return sum(int(runs) for (runs,) in self.rows("SELECT runs FROM gateway_job WHERE task = %s", task))

    def outcomes(self, task: str) -> list[str]:
        return [
            outcome
            for (outcome,) in self.rows(
                "SELECT run.outcome FROM gateway_jobrun AS run JOIN gateway_job AS job ON job.id = run.job_id"
                " WHERE job.task = %s ORDER BY run.id",
                task,
            )
        ]

    def queue(self) -> Any:
        return redis.Redis.from_url(self.redis_url, socket_timeout=5)

    def send(self, task: str, **kwargs: Any) -> None:
        with self.client.connection_for_write() as connection:
            self.client.send_task(task, kwargs=kwargs, connection=connection)

    @contextmanager
    def running(self, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a worker or a beat of the tests' application for the length of the block."""
        log = self.data_dir / f"{words[0]}-{len(self.logs)}.log"
        self.logs.append(log)
        command = [sys.executable, "-m", "celery", "--quiet", "--app", "tests.aperture_site.background"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, *words, "--loglevel", "INFO"],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(WAIT_S)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def log(self, kind: str) -> str:
        return next(path for path in reversed(self.logs) if path.name.startswith(kind)).read_text(encoding="utf-8")

    def kill(self, engine: str) -> None:
        pid = self.engines.processes[engine].pid()
        assert pid
        os.kill(pid, signal.SIGKILL)


def until(happened: Callable[[], object], wait_s: float = WAIT_S) -> None:
    deadline_s = time.monotonic() + wait_s
    while not happened():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("background") / "var")
    with site.engines.running():
        command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(command, cwd=ROOT, env=site.environment, check=True)
        yield site


@pytest.fixture
def site(installed: Site) -> Site:
    installed.rows(
        "TRUNCATE gateway_job, gateway_jobrun, gateway_heartbeat, django_celery_beat_periodictask,"
        " django_celery_beat_intervalschedule, django_celery_beat_crontabschedule CASCADE"
    )
    installed.queue().flushall()
    return installed


def test_every_entry_names_a_task_of_the_worker() -> None:
    app.loader.import_default_modules()
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(app.tasks)


@pytest.mark.server
def test_jobs_run_by_schedule_and_leave_no_flood_of_rows(site: Site) -> None:
    with site.running(*WORKER), site.running(*BEAT):
        until(lambda: site.runs("test.quick") >= 4)
        assert {kind for (kind,) in site.rows("SELECT kind FROM gateway_heartbeat")} == {"worker", "beat"}
        assert site.rows("SELECT name, last_outcome FROM gateway_job WHERE due_at IS NOT NULL ORDER BY name") == [
            ("every hour", ""),
            ("heartbeat", "ok"),
            ("quick", "ok"),
        ]
        assert site.rows("SELECT count(*) FROM gateway_jobrun") == [(0,)]
        site.rows("UPDATE django_celery_beat_periodictask SET enabled = false WHERE name = 'quick'")
        site.rows("UPDATE django_celery_beat_periodictasks SET last_update = now()")
        until(lambda: site.rows("SELECT due_at FROM gateway_job WHERE name = 'quick'") == [(None,)])
        time.sleep(1.5)
        before = site.runs("test.quick")
        time.sleep(2.5)
        assert site.runs("test.quick") == before
    with site.running(*BEAT):
        until(lambda: "beat sends the jobs" in site.log("beat"))
        assert site.rows("SELECT enabled FROM django_celery_beat_periodictask WHERE name = 'quick'") == [(False,)]


@pytest.mark.slow
@pytest.mark.server
def test_a_task_that_hangs_is_ended_whatever_it_does(site: Site) -> None:
    with site.running(*WORKER), site.running(*BEAT):
        for task in ("test.hangs", "test.hangs_in_database", "test.hard_of_hearing", "test.deaf"):
            site.send(task)
            until(lambda task=task: site.outcomes(task) == ["timed out"], 30)  # type: ignore[misc]
        site.send("test.slow", seconds=0)
        until(lambda: site.outcomes("test.slow") == ["ok"])
    assert site.rows(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND state = 'active'"
    ) == [(0,)]


@pytest.mark.server
def test_a_failure_is_recorded_without_secrets_and_a_job_runs_once_at_a_time(site: Site) -> None:
    with site.running(*WORKER):
        site.send("test.fails")
        until(lambda: site.outcomes("test.fails") == ["failed"])
        (error,) = site.rows("SELECT last_error FROM gateway_job WHERE task = 'test.fails'")[0]
        assert error.startswith("RuntimeError: no answer from redis://[redacted]@host/0")
        assert not any(secret in error for secret in ("hunter2", "sk_live_abc"))
        site.send("test.slow")
        site.send("test.slow")
        until(lambda: site.outcomes("test.slow") == ["skipped", "ok"])


@pytest.mark.slow
@pytest.mark.server
def test_a_worker_that_is_killed_takes_its_processes_along_and_its_job_is_told(site: Site) -> None:
    with site.running(*WORKER) as worker:
        site.send("test.hangs_in_database")
        until(lambda: site.rows("SELECT 1 FROM gateway_job WHERE running_since IS NOT NULL"))
        children = psutil.Process(worker.pid).children(recursive=True)
        assert len(children) == 2
        worker.kill()
        worker.wait()
        until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), 5)
    with site.running(*WORKER), site.running(*BEAT):
        until(lambda: site.outcomes("test.hangs_in_database") in (["failed"], ["timed out"]), 30)


@pytest.mark.slow
@pytest.mark.server
def test_work_goes_on_after_redis_was_killed(site: Site) -> None:
    with site.running(*WORKER) as worker, site.running(*BEAT) as beat:
        until(lambda: site.runs("test.quick") >= 1)
        # Due in the middle of the outage.
        site.rows("UPDATE django_celery_beat_periodictask SET last_run_at = now() - interval '3597 seconds'"
                  " WHERE name = 'every hour'")  # fmt: skip
        site.kill("valkey")
        site.rows("UPDATE django_celery_beat_periodictasks SET last_update = now()")
        time.sleep(6)
        assert site.runs("test.slow") == 0
        site.engines.revive()
        before = site.runs("test.quick")
        until(lambda: site.runs("test.quick") > before + 1)
        until(lambda: site.outcomes("test.slow") == ["ok"])
        assert (worker.poll(), beat.poll()) == (None, None)
    told = site.log("beat")
    assert told.count("Redis is away") == 1
    assert told.count("Redis is there again") == 1
    assert "Traceback" not in told


@pytest.mark.slow
@pytest.mark.server
def test_work_goes_on_after_redis_hung(site: Site) -> None:
    with site.running(*WORKER), site.running(*BEAT):
        until(lambda: site.runs("test.quick") >= 1)
        pid = site.engines.processes["valkey"].pid()
        assert pid
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: "Redis is away" in site.log("beat"))
        finally:
            os.kill(pid, signal.SIGCONT)
        before = site.runs("test.quick")
        until(lambda: site.runs("test.quick") > before + 1)
    assert "Traceback" not in site.log("beat")


@pytest.mark.slow
@pytest.mark.server
def test_work_goes_on_after_postgresql_was_killed(site: Site) -> None:
    with site.running(*WORKER) as worker, site.running(*BEAT) as beat:
        until(lambda: site.runs("test.quick") >= 1)
        site.kill("postgres")
        time.sleep(5)
        assert site.queue().llen("celery") <= 2
        site.engines.revive()
        until(lambda: site.rows("SELECT 1"))
        before = site.runs("test.quick")
        until(lambda: site.runs("test.quick") > before + 1)
        assert (worker.poll(), beat.poll()) == (None, None)
    told = site.log("beat")
    assert told.count("PostgreSQL is away") == 1
    assert told.count("PostgreSQL is there again") == 1
    assert "Traceback" not in told
    assert site.log("worker").count("\n") < 200


@pytest.mark.slow
@pytest.mark.server
def test_a_job_whose_message_was_lost_is_sent_again(site: Site) -> None:
    with site.running(*BEAT):
        until(lambda: site.rows("SELECT 1 FROM gateway_job WHERE task = 'test.slow'"))
    site.queue().flushall()
    site.rows("UPDATE gateway_job SET sent_at = now() - interval '20 minutes' WHERE task = 'test.slow'")
    with site.running(*WORKER), site.running(*BEAT):
        until(lambda: site.outcomes("test.slow") == ["ok"])
        assert site.log("beat").count("it is sent again") == 1


@pytest.mark.slow
@pytest.mark.server
def test_of_two_beats_one_sends_and_the_other_takes_over(site: Site) -> None:
    with site.running(*WORKER), site.running(*BEAT) as first:
        until(lambda: site.runs("test.quick") >= 1)
        with site.running(*BEAT):
            time.sleep(2)
            before, began_s = site.runs("test.quick"), time.monotonic()
            time.sleep(5)
            assert site.runs("test.quick") - before <= (time.monotonic() - began_s) + 1
            assert "beat sends" not in site.log("beat")
            first.kill()
            first.wait()
            until(lambda: "beat sends" in site.log("beat"))
            before = site.runs("test.quick")
            until(lambda: site.runs("test.quick") > before + 1)


@pytest.mark.slow
@pytest.mark.server
def test_a_worker_that_was_away_finds_no_flood(site: Site) -> None:
    with site.running(*BEAT):
        until(lambda: site.queue().llen("celery") >= 3)
        site.queue().rpush("celery", *["{}"] * 100)
        time.sleep(2.5)
        held = site.queue().llen("celery")
        time.sleep(3)
        assert site.queue().llen("celery") == held
        assert site.log("beat").count("The worker is away") == 1
        site.queue().delete("celery")
        until(lambda: "The worker is there again" in site.log("beat"))
        with site.running(*WORKER):
            until(lambda: site.runs("test.quick") >= 1)
