"""The live pages that one process serves: one subscription for all of them, and a bounded queue for each.

Channels gives each consumer a queue without a bound and a subscription of its own, and a consumer that cannot reach
Redis an exception. So the process has one channel, and hands what comes out to the pages whom it concerns.

Invariants: nothing waits for a page; one that does not read loses the oldest messages, and is told how many. A page
is closed within CLOSED_WITHIN_S of its session's end, also when the database cannot be asked. Nothing is subscribed
and no task runs without a page.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from typing import Any

from channels.layers import get_channel_layer
from django.db import Error as DatabaseError

from aperture_site import viewers
from aperture_site.viewers import Ticket, Viewer
from gateway.draining import draining
from gateway.live import PROCESS, REDIS_FAULTS
from gateway.runtime import lifecycle

logger = logging.getLogger(__name__)

QUEUE_MESSAGES_MAX = 16
BEAT_S = 1.0
# No own beat for so long: what others publish does not arrive either.
SILENT_S = 3.0
CHECK_S = 2.0
UNCHECKED_S = 6.0
CLOSED_WITHIN_S = 8.0
TIMEOUT_S = 1.0
# A name that no publisher takes for a page's.
BEAT = f"live-beat.{PROCESS}"
PAGES_MAX = 1000
PAGES_OF_USER_MAX = 20

# Close codes of our own (RFC 6455, section 7.4.2): of the others Daphne sends none but 1000.
RESTARTING, TRY_LATER = (4503, "the server is restarting"), (4504, "the database does not answer")
SIGNED_OUT, CHANGED = (4401, "signed out"), (4403, "what you may see has changed")

Message = dict[str, Any]


class Page:
    """An open page: what it may see, and what it is still to be sent."""

    def __init__(self, ticket: Ticket, viewer: Viewer) -> None:
        self.ticket = ticket
        self.viewer = viewer
        self.waiting: deque[str] = deque()
        self.missed = 0
        self.balances: dict[int, dict[str, str]] = {}
        self.closing: tuple[int, str] | None = None
        self.wake = asyncio.Event()
        self.ended = asyncio.Event()

    def offer(self, text: str) -> None:
        """Queue a message; the oldest gives way where the page does not read."""
        if len(self.waiting) >= QUEUE_MESSAGES_MAX:
            self.waiting.popleft()
            self.missed += 1
        self.waiting.append(text)
        self.wake.set()

    def end(self, closing: tuple[int, str]) -> None:
        """Have the page closed with this code and reason."""
        self.closing = self.closing or closing
        self.ended.set()
        self.wake.set()

    async def next(self) -> str | None:
        """Wait for what is to be sent next; None once the page is to be closed."""
        while not (self.waiting or self.closing):
            self.wake.clear()
            await self.wake.wait()
        if self.closing:
            return None
        if self.missed:
            missed, self.missed = self.missed, 0
            return encoded({"type": "missed", "messages": missed})
        return self.waiting.popleft()


class Audience:
    """All open pages of a process, in one event loop."""

    def __init__(self) -> None:
        self.pages: set[Page] = set()
        self.joined: set[str] = set()
        self.channel = ""
        self.heard_at = self.checked_at = 0.0
        # None until it is known.
        self.paused: bool | None = None
        self.callable_providers: frozenset[str] | None = None
        self.subscribe_now, self.check_now = asyncio.Event(), asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def has_room(self, user_id: int) -> bool:
        """Tell whether this user may open one more page here."""
        own = sum(page.viewer.user_id == user_id for page in self.pages)
        return own < PAGES_OF_USER_MAX and len(self.pages) < PAGES_MAX

    def join(self, page: Page) -> None:
        """Let a page take part."""
        if not self.tasks:
            self.heard_at = self.checked_at = time.monotonic()
            self.paused = self.callable_providers = None
            loop = asyncio.get_running_loop()
            self.tasks = [
                loop.create_task(self._keep(), name="live pages' keeper"),
                loop.create_task(self._hand_out(), name="live pages' channel"),
                loop.create_task(self._check(), name="live pages' rights"),
            ]
        self.pages.add(page)
        if self.paused is not None:
            page.offer(encoded({"type": "paused" if self.paused else "live"}))
        self.subscribe_now.set()
        self.check_now.set()

    def leave(self, page: Page) -> None:
        """Let a page go; the last one takes the subscription with it."""
        self.pages.discard(page)
        self.subscribe_now.set()

    # --- From Redis to the pages ----------------------------------------------------------------------------------

    async def _hand_out(self) -> None:
        layer: Any = get_channel_layer()
        while True:
            try:
                if not self.channel:
                    self.channel = await layer.new_channel()
                    self.subscribe_now.set()
                message = await layer.receive(self.channel)
            except REDIS_FAULTS:
                # The keeper says so, and the next try finds out whether it has passed.
                await asyncio.sleep(BEAT_S)
                continue
            self._take(message)

    def _take(self, message: Message) -> None:
        self.heard_at = time.monotonic()
        self._tell_whether_paused(paused=False)
        group = message.pop("group")
        concerned = [page for page in self.pages if group in page.viewer.groups]
        if concerned:
            text = encoded(message)
            for page in concerned:
                page.offer(text)

    # --- What is looked after while there are pages ---------------------------------------------------------------

    async def _keep(self) -> None:
        try:
            while self.pages:
                self.subscribe_now.clear()
                if draining.active:
                    self._end_all(RESTARTING)
                await self._subscribe()
                if time.monotonic() - self.heard_at > SILENT_S:
                    self._tell_whether_paused(paused=True)
                self._tell_of_providers()
                self._tell_all({"type": "beat"})
                await _either(self.subscribe_now, BEAT_S)
        finally:
            await self._close()

    async def _subscribe(self) -> None:
        """Be subscribed to what the pages need, and hear oneself: that proves that others are heard."""
        layer: Any = get_channel_layer()
        wanted = {BEAT}.union(*(page.viewer.groups for page in self.pages))
        if not self.channel:
            return
        try:
            async with asyncio.timeout(TIMEOUT_S):
                for group in wanted - self.joined:
                    await layer.group_add(group, self.channel)
                    self.joined.add(group)
                for group in self.joined - wanted:
                    await layer.group_discard(group, self.channel)
                    self.joined.discard(group)
                await layer.group_send(BEAT, {"type": "beat", "group": BEAT})
        except REDIS_FAULTS as error:
            logger.debug("live pages: Redis does not answer: %s", type(error).__name__)

    def _tell_whether_paused(self, *, paused: bool) -> None:
        if paused is not self.paused:
            self.paused = paused
            self._tell_all({"type": "paused" if paused else "live"})

    def _tell_of_providers(self) -> None:
        """Tell operators of providers that requests are no longer routed to, or are again."""
        runtime = lifecycle.runtime
        if runtime is None or runtime.freshness.stale():
            return
        models = runtime.freshness.snapshot.models
        found = frozenset(target.provider.slug for model in models for target in model.targets if not target.out)
        before, self.callable_providers = self.callable_providers, found
        for slug in sorted(found ^ (found if before is None else before)):
            self._tell_all({"type": "provider", "provider": slug, "up": slug in found}, operators=True)

    async def _check(self) -> None:
        while True:
            self.check_now.clear()
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._check_once(list(self.pages))
            except (DatabaseError, OSError, TimeoutError) as error:
                logger.debug("live pages: the database does not answer: %s", type(error).__name__)
                if time.monotonic() - self.checked_at > UNCHECKED_S:
                    self._end_all(TRY_LATER)
            except Exception:
                logger.exception("live pages are closed, for it could not be found out who may see them")
                self._end_all(TRY_LATER)
            await _either(self.check_now, CHECK_S)

    async def _check_once(self, pages: list[Page]) -> None:
        """Close the pages of those who may no longer see them, and tell the others of their balances."""
        now = time.monotonic()
        still, balances = await viewers.look([page.ticket for page in pages])
        self.checked_at = now
        for page in pages:
            viewer = still.get(page.ticket)
            if viewer is None:
                page.end(SIGNED_OUT)
            elif viewer != page.viewer:
                page.end(CHANGED)
            else:
                _tell_of_balances(page, balances)

    def _tell_all(self, message: Message, *, operators: bool = False) -> None:
        text = encoded(message)
        for page in self.pages:
            if page.ticket.as_operator or not operators:
                page.offer(text)

    def _end_all(self, closing: tuple[int, str]) -> None:
        for page in self.pages:
            page.end(closing)

    async def _close(self) -> None:
        """Undo the subscription: the last page has gone."""
        layer: Any = get_channel_layer()
        (_, *others), self.tasks = self.tasks, []
        joined, self.joined, channel, self.channel = self.joined, set(), self.channel, ""
        with contextlib.suppress(*REDIS_FAULTS):
            async with asyncio.timeout(TIMEOUT_S):
                for group in joined:
                    await layer.group_discard(group, channel)
        for task in others:
            task.cancel()


def _tell_of_balances(page: Page, balances: dict[int, dict[str, str]]) -> None:
    for organization_id in page.viewer.organization_ids & balances.keys():
        balance = balances[organization_id]
        if page.balances.get(organization_id) != balance:
            page.balances[organization_id] = balance
            page.offer(encoded({"type": "balance", "organization_id": organization_id, **balance}))


async def _either(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)


def encoded(message: Message) -> str:
    """Return a message as a page reads it."""
    return json.dumps(message, separators=(",", ":"))


audience = Audience()
