"""Tell pages that are watched what happens to requests: begun, first token, ended with tokens and cost.

A page is there when a web process has subscribed to a group of Channels for it, so each process asks Redis for the
groups that have subscribers, twice a second, and `watched` holds them. While there are none, a request pays for a look
at that attribute and nothing is published. While there are some, what happens is collected and each group gets one
message per tick.

Invariants: nothing here is awaited by a request; each group has at most EVENTS_MAX waiting events, of which the oldest
are dropped and counted; an event holds names, numbers and ids, and nothing of what was asked or answered. With Redis
away nothing is watched, which is logged once. All of Redis's databases share its groups, so their names are the
installation's own.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import hiredis
import redis
from channels.layers import get_channel_layer
from django.conf import settings

from billing import money
from billing.journal import Journal
from billing.usage import UsageRow
from gateway import redis_connection
from gateway.callers import Callers
from gateway.redis_connection import RedisConnection
from gateway.snapshot import Caller

logger = logging.getLogger(__name__)

POLL_S = 0.5
TICK_S = 0.25
# How often all that run are told: a page that has just come, or that missed something, is right after this.
RUNNING_EVERY_S = 1.0
TIMEOUT_S = 1.0
EVENTS_MAX = 200
RUNNING_MAX = 100
# How many of those are told that were running before anybody watched: their rows are worked out one by one.
SEEDED_MAX = 500
PROCESS = secrets.token_hex(8)

# What Channels' layer puts before the name of a group.
LAYER_PREFIX = b"asgi__group__"
PREFIX = f"live.{hashlib.blake2b(settings.SECRET_KEY.encode(), digest_size=8, person=b'live').hexdigest()}."
OPERATORS = f"{PREFIX}operators"
NOBODY: frozenset[str] = frozenset()
# What RedisConnection and redis-py raise, whatever becomes of Redis.
REDIS_FAULTS = (redis.RedisError, hiredis.HiredisError, hiredis.ReplyError, OSError, TimeoutError)

Event = dict[str, Any]


def organization_group(organization_id: int) -> str:
    """Return the group that gets all requests of an organization: for its owners and admins."""
    return f"{PREFIX}organization.{organization_id}"


def member_group(organization_id: int, user_id: int) -> str:
    """Return the group that gets the requests of one user's keys in an organization: for its plain members."""
    return f"{PREFIX}member.{organization_id}.{user_id}"


class Running:
    """A request that has not ended: whom it concerns, and the event that it began with."""

    __slots__ = ("event", "groups")

    def __init__(self, row: UsageRow, caller: Caller | None, provider: str) -> None:
        self.groups = (
            OPERATORS,
            organization_group(row.organization_id),
            member_group(row.organization_id, row.user_id),
        )
        self.event: Event = {
            "event": "started",
            "id": row.request_id,
            "at_ms": began_at_ms(row.request_id),
            "model": row.model,
            "provider": provider,
            "key": caller.display if caller else "",
            "user": caller.email if caller else "",
            "organization": caller.organization if caller else "",
            "organization_id": row.organization_id,
            "session": row.session_id,
            "streamed": row.streamed,
        }


class Outbox:
    """What a group gets with the next tick."""

    __slots__ = ("events", "failed", "finished", "missed", "started")

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.started = self.finished = self.failed = self.missed = 0

    def put(self, event: Event) -> None:
        """Add an event; the oldest gives way where there is no room."""
        if len(self.events) >= EVENTS_MAX:
            self.events.popleft()
            self.missed += 1
        self.events.append(event)


class Live:
    """What one process tells of its requests."""

    def __init__(self, url: str, journal: Journal, callers: Callers) -> None:
        self.url = url
        self.journal = journal
        self.callers = callers
        self.watched = NOBODY
        self.away = False
        self.running: dict[str, Running] = {}
        self.outboxes: dict[str, Outbox] = {}
        self.connection: RedisConnection | None = None
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start asking who watches, in the running event loop."""
        self.task = asyncio.get_running_loop().create_task(self._run(), name="live pages")

    async def stop(self) -> None:
        """Stop telling."""
        self._forget()
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        if self.connection is not None:
            self.connection.close()

    # --- What a request tells, where `watched` is not empty -------------------------------------------------------

    def started(self, row: UsageRow, caller: Caller, provider: str) -> None:
        """Tell that a request was admitted; ROW is what it would leave now, PROVIDER is called for it."""
        running = self.running[row.request_id] = Running(row, caller, provider)
        for outbox in self._outboxes(running.groups):
            outbox.started += 1
            outbox.put(running.event)

    def first_token(self, request_id: str) -> None:
        """Tell that a stream's client gets its first bytes."""
        running = self.running.get(request_id)
        if running is None:
            return
        after_ms = max(0, time.time_ns() // 1_000_000 - running.event["at_ms"])
        running.event = running.event | {"first_token_ms": after_ms}
        for outbox in self._outboxes(running.groups):
            outbox.put({"event": "first_token", "id": request_id, "first_token_ms": after_ms})

    def finished(self, row: UsageRow, cost_nanos: int | None, caller: Caller, provider: str) -> None:
        """Tell how a request ended; COST_NANOS is what its caller sees, None where that is not known."""
        running = self.running.pop(row.request_id, None) or Running(row, caller, provider)
        read = row.input_tokens + row.cache_read_tokens + row.cache_write_tokens
        event = running.event | {
            "event": "finished",
            "status": row.status,
            "error": row.error_code,
            "input_tokens": read,
            "output_tokens": row.output_tokens + row.reasoning_tokens,
            "audio_tokens": row.audio_tokens,
            "cost": None if cost_nanos is None else money.dollars(cost_nanos),
            "duration_ms": row.duration_ms,
        }
        for outbox in self._outboxes(running.groups):
            outbox.finished += 1
            outbox.failed += row.status >= 400
            outbox.put(event)

    def _outboxes(self, groups: Iterable[str]) -> list[Outbox]:
        return [self.outboxes.setdefault(group, Outbox()) for group in groups if group in self.watched]

    # --- Who watches, and one message per tick --------------------------------------------------------------------

    async def _run(self) -> None:
        asked_at = told_at = float("-inf")
        while True:
            now = time.monotonic()
            try:
                if now - asked_at >= POLL_S:
                    asked_at = now
                    newly = self._watch(await self._subscribed())
                    await self._publish_running(newly)
                await self._publish_events()
                if self.watched and now - told_at >= RUNNING_EVERY_S:
                    told_at = now
                    await self._publish_running(self.watched)
            except REDIS_FAULTS as error:
                self._lost(error)
            except Exception:
                logger.exception("live pages are not told of a moment's requests")
                self._forget()
            await asyncio.sleep(TICK_S if self.watched else POLL_S)

    async def _subscribed(self) -> frozenset[str]:
        """Return the groups that some page of this installation watches; raise one of REDIS_FAULTS."""
        if self.connection is None or self.connection.closed:
            self.connection = await redis_connection.connect(self.url, TIMEOUT_S)
        async with asyncio.timeout(TIMEOUT_S):
            found = await self.connection.call("PUBSUB", "CHANNELS", LAYER_PREFIX + PREFIX.encode() + b"*")
        if self.away:
            self.away = False
            logger.info("Redis answers again: live pages are told of requests.")
        return frozenset(bytes(name).removeprefix(LAYER_PREFIX).decode() for name in found)

    def _watch(self, subscribed: frozenset[str]) -> frozenset[str]:
        """Take note of who watches; return the groups that did not before."""
        newly = subscribed - self.watched
        if subscribed and not self.watched:
            self._seed()
        if not subscribed:
            self._forget()
        self.watched = subscribed
        return newly

    def _seed(self) -> None:
        """Note the requests that began before anybody watched."""
        open_holds = list(self.journal.running.values())[-SEEDED_MAX:]
        callers = {caller.key_id: caller for caller in self.callers.known.values() if caller} if open_holds else {}
        for held in open_holds:
            row = held.mark()
            self.running[held.request_id] = Running(row, callers.get(row.key_id), "")

    def _forget(self) -> None:
        self.watched = NOBODY
        self.running.clear()
        self.outboxes.clear()

    def _lost(self, error: BaseException) -> None:
        self._forget()
        if self.connection is not None:
            self.connection.close()
        if not self.away:
            self.away = True
            logger.warning("Redis does not answer, live pages are paused: %s", type(error).__name__)

    async def _publish_events(self) -> None:
        outboxes, self.outboxes = self.outboxes, {}
        for group, outbox in outboxes.items():
            await self._publish(
                group,
                {
                    "type": "requests",
                    "events": list(outbox.events),
                    "started": outbox.started,
                    "finished": outbox.finished,
                    "failed": outbox.failed,
                    "missed": outbox.missed,
                },
            )

    async def _publish_running(self, groups: frozenset[str]) -> None:
        """Tell GROUPS of all that run: the latest of them whole, and how many there are."""
        if not groups:
            return
        # One that was broken off tells nothing.
        self.running = {name: running for name, running in self.running.items() if name in self.journal.running}
        found: dict[str, list[Event]] = {group: [] for group in groups}
        for running in self.running.values():
            for group in running.groups:
                if group in found:
                    found[group].append(running.event)
        for group, events in found.items():
            message = {"type": "running", "running": events[-RUNNING_MAX:], "count": len(events)}
            await self._publish(group, message)

    async def _publish(self, group: str, message: dict[str, Any]) -> None:
        layer: Any = get_channel_layer()
        async with asyncio.timeout(TIMEOUT_S):
            await layer.group_send(group, {**message, "group": group, "process": PROCESS})


def began_at_ms(request_id: str) -> int:
    """Return when a request began, in milliseconds since 1970: a UUID of version 7 begins with that."""
    return int(request_id[:8] + request_id[9:13], 16)
