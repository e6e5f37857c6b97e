"""The open WebSockets of this process, and when each must end: its key, its bounds, the server's stop.

One task looks at all of them, ten times a second, while any is open. What it looks at is in memory: a change of keys,
which `freshness` learns of from the database alone, has each socket's key looked up again. So a key that is revoked,
reset, expired, locked to other addresses or without a role closes its sockets in under a second, also without Redis.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Protocol

import psycopg

from accounts import acceptance
from accounts.client_address import Address
from gateway.callers import Callers
from gateway.draining import draining
from gateway.freshness import Freshness
from gateway.snapshot import Caller, Snapshot

logger = logging.getLogger(__name__)

TICK_S = 0.1
# What a socket's handler gets, at the end of the time to drain, to write what it has still to write.
SETTLE_S = 3.0
GOING_AWAY, POLICY, TRY_AGAIN = 1001, 1008, 1013
RESTARTING = (GOING_AWAY, "The server is restarting; connect again.")


@dataclass
class Holder:
    """Whose a socket is: the digest of the key that opened it, and what was known of it then.

    `generation` and `snapshot` are those under which `caller` was last found to be allowed in.
    """

    digest: bytes
    address: Address | None
    caller: Caller
    generation: int
    snapshot: Snapshot


@dataclass
class Times:
    """What a socket may take, in seconds, and since when, on the monotonic clock."""

    idle_s: float
    length_s: float
    opened_at: float = field(default_factory=time.monotonic)
    frame_at: float = field(default_factory=time.monotonic)


class Watched(Protocol):
    """What is looked at of a socket; `busy` while its handler works on an answer."""

    holder: Holder
    times: Times
    busy: bool
    close_code: int | None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it."""


class OpenSockets:
    """The sockets, and the task that watches them."""

    def __init__(self, callers: Callers, freshness: Freshness) -> None:
        self.callers = callers
        self.freshness = freshness
        self.open: set[Watched] = set()
        self.task: asyncio.Task[None] | None = None
        self.checking: asyncio.Task[None] | None = None

    def add(self, socket: Watched) -> None:
        """Watch SOCKET from now on."""
        self.open.add(socket)
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(self._run(), name="open sockets")

    def discard(self, socket: Watched) -> None:
        """Watch SOCKET no longer."""
        self.open.discard(socket)

    async def stop(self) -> None:
        """Stop watching."""
        tasks = [task for task in (self.task, self.checking) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self) -> None:
        while self.open:
            await asyncio.sleep(TICK_S)
            try:
                await self._look()
            except Exception:
                logger.exception("the open sockets could not be looked at")

    async def _look(self) -> None:
        now, wall = time.monotonic(), time.time()
        draining_ends = draining.ends_at - SETTLE_S if draining.active else None
        changed = False
        for socket in list(self.open):
            why = over(socket, now, wall, draining_ends)
            if why is not None:
                await socket.close(*why)
            elif self._changed(socket.holder):
                changed = True
        if changed and (self.checking is None or self.checking.done()):
            self.checking = asyncio.get_running_loop().create_task(self._check_all(), name="sockets' keys")

    def _changed(self, holder: Holder) -> bool:
        return holder.generation != self.callers.generation or holder.snapshot is not self.freshness.snapshot

    async def _check_all(self) -> None:
        changed = [socket for socket in self.open if self._changed(socket.holder)]
        await asyncio.gather(*(self._check(socket) for socket in changed))

    async def _check(self, socket: Watched) -> None:
        """Look a socket's key up again; close it where the key would not be let in now."""
        holder, generation, snapshot = socket.holder, self.callers.generation, self.freshness.snapshot
        try:
            caller = await self.callers.find_digest(holder.digest)
        except (psycopg.Error, OSError, TimeoutError):
            # Asked again at the next look; meanwhile nothing of the client's is taken (`Socket.receive`).
            return
        if caller is None or caller.revoked:
            await socket.close(POLICY, "The API key is no longer valid.")
        elif caller.networks and not acceptance.from_one_of(caller.networks, holder.address):
            await socket.close(POLICY, acceptance.WRONG_ADDRESS)
        elif not snapshot.access(caller).role:
            await socket.close(POLICY, "access denied: no role granted")
        else:
            holder.caller, holder.generation, holder.snapshot = caller, generation, snapshot


def over(socket: Watched, now: float, wall: float, draining_ends: float | None) -> tuple[int, str] | None:
    """Return the code and the reason with which SOCKET must close now, or None.

    NOW is on the monotonic clock, WALL in seconds since 1970; DRAINING_ENDS is until when, on the former, a stopping
    server lets answers finish, None where it does not stop.
    """
    times, expires_at = socket.times, socket.holder.caller.expires_at
    if expires_at is not None and expires_at <= wall:
        return POLICY, acceptance.EXPIRED
    if draining_ends is not None and (not socket.busy or now >= draining_ends):
        return RESTARTING
    if now - times.opened_at >= times.length_s:
        return GOING_AWAY, f"A session may last {times.length_s:g} s; open another."
    if not socket.busy and now - times.frame_at >= times.idle_s:
        return GOING_AWAY, f"Nothing was said for {times.idle_s:g} s."
    return None
