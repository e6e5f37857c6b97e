"""Beat: sends each job when its row says so.

django-celery-beat's scheduler, with what it lacks. Invariants: of several nodes' beats one sends, the one whose
connection holds an advisory lock, and another takes over when that connection ends; a job is put down as sent only
when Redis has taken it, so that what fell due during an outage is sent once after it; a message expires when the next
one is due, and none is sent while many wait, so a worker that was away finds one of each; a failure is told in the log
once, and once more when it is over; a row that cannot be followed is left out, and a time of the future that a clock
left behind is none.
"""

import logging
import time
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import psycopg
from django.db import DatabaseError, InterfaceError, connections
from django.db.models import Value
from django.db.models.functions import Coalesce, Greatest, Least, Now
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from aperture_site import jobs, schedules
from billing.connection import parameters

logger = logging.getLogger("aperture.beat")

LOCK = 20_260_103
LOOK_EVERY_S = 2.0
RETRY_S = 2.0
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 5
REDIS_TIMEOUT_S = 5.0
HEARTBEAT_S = 15.0
CHANGED_EVERY_S = 2.0
EXPIRES_MIN_S = 10.0
# So many messages that wait mean that no worker takes them: one of each is enough, and there are fewer jobs than this.
QUEUE_MAX = 100
# A job that was sent so long ago, and neither began nor waits in the queue, was lost with a Redis or a worker.
LOST_AFTER_S = 600.0

BEAT = """
INSERT INTO gateway_heartbeat (kind, node, seen_at) VALUES ('beat', %s, now())
ON CONFLICT (kind, node) DO UPDATE SET seen_at = excluded.seen_at
"""
SENT = "UPDATE gateway_job SET sent_at = now(), due_at = now() + %s WHERE task = %s"
DUE = "UPDATE gateway_job SET due_at = now() + %s WHERE task = %s"
NOT_DUE = "UPDATE gateway_job SET due_at = NULL, sent_at = NULL WHERE due_at IS NOT NULL AND task <> ALL(%s)"
CHANGED_AT = "SELECT last_update FROM django_celery_beat_periodictasks WHERE ident = 1"
LOST = """
SELECT task FROM gateway_job
 WHERE sent_at < now() - %s AND running_since IS NULL AND (last_started_at IS NULL OR last_started_at < sent_at)
"""


class Row(ModelEntry):  # type: ignore[misc]
    """A row's next run."""

    def __init__(self, model: PeriodicTask, app: Any = None) -> None:
        never = model.last_run_at is None
        super().__init__(model, app)
        if never and model.interval_id:
            # A frequent job need not wait for its first time: of a fresh start, the heartbeat tells at once.
            model.last_run_at -= timedelta(seconds=jobs.QUIET_BELOW_S)
            self.last_run_at = model.last_run_at

    def is_due(self) -> Any:
        """Return whether it is due, and in how many seconds next; no run was in the future, whatever a clock said."""
        now = self._default_now()
        if self.last_run_at > now:
            self.model.last_run_at = self.last_run_at = now
        return super().is_due()

    def save(self) -> None:
        """Note when it last ran, unless another beat has noted a later time that is not of the future."""
        own = Value(self.model.last_run_at)
        last_run_at = Least(Greatest(Coalesce("last_run_at", own), own), Greatest(Now(), own))
        # Not by `save`, which would have every beat read all rows again.
        PeriodicTask.objects.filter(pk=self.model.pk, enabled=True).update(
            last_run_at=last_run_at, total_run_count=self.model.total_run_count
        )


class Beat(DatabaseScheduler):  # type: ignore[misc]
    """The scheduler."""

    Entry = Row

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.link: psycopg.Connection | None = None
        self.leads = False
        self.away: set[str] = set()
        self.beat_at_s = self.looked_at_s = float("-inf")
        # When it was last written of each job that it was sent.
        self.noted_at_s: dict[str, float] = {}
        self.was_changed_at: datetime | None = None
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Leave the rows alone: `synchronise` makes them, once the database answers."""

    def enabled_models_qs(self) -> Any:
        """Return every enabled row. The base leaves those of other hours out, and then what was missed comes late."""
        return PeriodicTask.objects.enabled()

    def all_as_schedule(self) -> dict[str, Row]:
        """Return the enabled rows. One that nobody can follow is told and left out, so that the others are sent."""
        good: dict[str, Row] = {}
        for model in self.enabled_models_qs():
            try:
                entry = self.Entry(model, app=self.app)
                entry.is_due()
                if not isinstance(entry.kwargs, dict):
                    raise TypeError("its arguments are not names with values")
            except (DatabaseError, InterfaceError):
                raise
            except Exception as error:
                # Celery raises what it likes for a day that never comes, or a field that is no field.
                logger.error("the schedule %r is left out, correct it (%s)", model.name, jobs.describe(error))
            else:
                good[model.name] = entry
        return good

    def tick(self, *_args: Any, **_kwargs: Any) -> float:
        """Send what is due; return for how many seconds there is nothing to do."""
        try:
            self.stay_linked()
            pause_s = self.send_due() if self.leads else LOOK_EVERY_S
            self.back("PostgreSQL")
        except (psycopg.Error, DatabaseError, InterfaceError) as error:
            self.unlink()
            self.lost("PostgreSQL", error)
            return RETRY_S
        except (BrokerError, RedisError, OSError) as error:
            self.drop_broker()
            self.lost("Redis", error)
            return RETRY_S
        return pause_s

    def stay_linked(self) -> None:
        """Hold the connection, try to lead, and be seen."""
        if self.link is None or self.link.closed:
            self.link = psycopg.connect(
                **parameters(), autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name="aperture-beat"
            )
            self.link.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_S * 1000}".encode())
            self.leads = False
        if not self.leads and self.link.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone() == (True,):
            self.lead()
        now_s = time.monotonic()
        if now_s - self.beat_at_s >= HEARTBEAT_S:
            self.link.execute(BEAT, [jobs.node()])
            self.beat_at_s = now_s
            if self.leads:
                self.find_lost()

    def lead(self) -> None:
        """Begin to send: bring the rows up to the table, and read them."""
        self.app.loader.import_default_modules()
        self.sync_rows()
        self._schedule = self.all_as_schedule()
        self._initial_read = False
        self.leads = True
        self.note_due()
        self.looked_at_s = time.monotonic()
        self.was_changed_at = self.changed_at()
        logger.info("beat sends the jobs of %d schedules", len(self._schedule))

    def sync_rows(self) -> None:
        """Write what is not written yet, and make the rows of the table."""
        try:
            self.write()
            schedules.synchronise(self.app.conf.beat_schedule, schedules.abouts(self.app.tasks))
        finally:
            connections.close_all()

    def changed_at(self) -> datetime | None:
        """Return when a row was last changed by somebody."""
        row = self.link.execute(CHANGED_AT).fetchone() if self.link else None
        return row[0] if row else None

    def read_changes(self) -> None:
        """Read the rows again when somebody has changed one."""
        if time.monotonic() - self.looked_at_s < CHANGED_EVERY_S:
            return
        self.looked_at_s = time.monotonic()
        changed_at = self.changed_at()
        if changed_at != self.was_changed_at:
            try:
                self.write()
                self._schedule = self.all_as_schedule()
            finally:
                connections.close_all()
            self.was_changed_at = changed_at
            self.note_due()
            logger.info("beat has read the schedules again: %d are enabled", len(self._schedule))

    def send_due(self) -> float:
        """Send each job that is due; return the time until the next one, in seconds."""
        self.read_changes()
        pause_s = CHANGED_EVERY_S
        waiting: int | None = None
        for name, entry in list(self._schedule.items()):
            due, next_s = entry.is_due()
            if due:
                waiting = self.queue_length() if waiting is None else waiting
                if waiting >= QUEUE_MAX:
                    self.lost("The worker", RuntimeError(f"{waiting} messages wait"))
                    return RETRY_S
                self.send(entry, next_s)
                self.back("The worker")
                self.back("Redis")
                self._schedule[name] = next(entry)
                self._dirty.add(name)
            pause_s = min(pause_s, next_s)
        return max(pause_s, 0.01)

    def send(self, entry: Row, next_s: float) -> None:
        """Put a job in the queue; raise where Redis does not take it."""
        self.app.send_task(
            entry.task,
            kwargs=entry.kwargs,
            producer=self.producer,
            retry=False,
            **{"expires": max(next_s, EXPIRES_MIN_S)} | entry.options,
        )
        now_s = time.monotonic()
        # Not for each of a job's runs that comes every second or two.
        since_s = now_s - self.noted_at_s.get(entry.task, float("-inf"))
        if self.link and (next_s >= HEARTBEAT_S or since_s >= HEARTBEAT_S):
            self.link.execute(SENT, [timedelta(seconds=next_s), entry.task])
            self.noted_at_s[entry.task] = now_s

    def note_due(self) -> None:
        """Write when each job is due, for the admin and for `/health`."""
        if self.link is None:
            return
        for entry in self._schedule.values():
            self.link.execute(DUE, [timedelta(seconds=max(entry.is_due().next, 0.0)), entry.task])
        self.link.execute(NOT_DUE, [[entry.task for entry in self._schedule.values()]])

    def find_lost(self) -> None:
        """Have those jobs sent again whose message is nowhere any more."""
        if self.link is None:
            return
        lost = {task for (task,) in self.link.execute(LOST, [timedelta(seconds=LOST_AFTER_S)])}
        if lost and self.queue_length() == 0:
            for name, entry in list(self._schedule.items()):
                if entry.task in lost:
                    logger.warning("%s was sent and never began; it is sent again", entry.task)
                    self.send(entry, entry.is_due().next)
                    self._schedule[name] = next(entry)

    def queue_length(self) -> int:
        """Return how many messages wait for a worker."""
        length: int = self.producer.channel.client.llen(self.app.conf.task_default_queue)
        return length

    @cached_property
    def connection(self) -> Any:
        """Return a connection to Redis that gives up sooner than a worker's, which waits for messages."""
        return self.app.connection_for_write(transport_options={"socket_timeout": REDIS_TIMEOUT_S})

    def _ensure_connected(self) -> Any:
        # The base would try for minutes, and nobody would see beat meanwhile.
        return self.connection.ensure_connection(max_retries=1, interval_start=0, reraise_as_library_errors=False)

    def drop_broker(self) -> None:
        """Forget the connection to Redis; the next use opens one."""
        self.__dict__.pop("producer", None)
        connection = self.__dict__.pop("connection", None)
        if connection is not None:
            connection.collapse() if hasattr(connection, "collapse") else connection.release()

    def unlink(self) -> None:
        """Forget the connection to PostgreSQL, and with it the lead."""
        self.leads = False
        if self.link is not None:
            self.link.close()
            self.link = None

    def lost(self, what: str, error: BaseException) -> None:
        """Tell once that something is away."""
        if what not in self.away:
            self.away.add(what)
            logger.warning("%s is away, so no job is sent (%s); beat tries on", what, jobs.describe(error))

    def back(self, what: str) -> None:
        """Tell once that it is there again."""
        if what in self.away:
            self.away.discard(what)
            logger.warning("%s is there again", what)

    def write(self) -> None:
        """Write when the jobs were last sent; what cannot be written is kept for the next time."""
        for name in list(self._dirty):
            if name in self.schedule:
                self.schedule[name].save()
            self._dirty.discard(name)

    def sync(self) -> None:
        """Write from time to time, and at the end. The next tick tells of a database that is away."""
        if self.leads:
            try:
                self.write()
            except (DatabaseError, InterfaceError):
                self.unlink()
            finally:
                connections.close_all()

    @property
    def schedule(self) -> dict[str, Row]:
        """Return the entries in memory."""
        return self._schedule or {}
