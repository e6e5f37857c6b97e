"""Count requests and tokens in Redis, all that come together in one script call, or in this process without Redis.

An admission is sent at once. What a success used in the end goes along with the next call, or alone after LINGER_S: a
call of its own for each would cost both processes as much as the admission, and the next one would wait behind it.

Invariants: a request counts in all of its windows or in none; what it counted is given back when it fails, also when
nobody waits for its admission any more; no request waits longer for Redis than TIMEOUT_S, and none at all once Redis
is known to be away. What ends while Redis is away is told to it when it is back; a Redis that was emptied loses the
counts, and nothing else.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from hashlib import sha1

import hiredis
import msgspec

from gateway import redis_connection
from gateway.errors import Fault
from gateway.limiter_script import SCRIPT
from gateway.limits import LEASE_MS, SLOT_RETRY_MS, STEPS, Bound, State, Window, needed
from gateway.redis_connection import RedisConnection

logger = logging.getLogger(__name__)

TIMEOUT_S = 0.25
# What an event loop that was held up gets to read the answer that has long been there.
GRACE_S = 0.02
RETRY_S = 0.5
LINGER_S = 0.01
RENEW_S = LEASE_MS / 3000
BATCH_MAX = 200
UNTOLD_MAX = 10_000
COUNTERS_MAX = 100_000
DIGEST = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
ADMIT, FINISH, RENEW = "A", "E", "R"
PROCESS = secrets.token_hex(8)
MEMBERS = itertools.count()


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """What one request has counted, where and when; `local` is in this process."""

    bounds: tuple[Bound, ...]
    states: tuple[State, ...]
    admitted: bool
    at_ms: int
    member: str
    local: bool


class Operation:
    """One operation of the script; `answered` takes its answer, or None where Redis gave none."""

    __slots__ = ("answered", "keys", "patient", "words")

    def __init__(
        self,
        keys: Sequence[bytes],
        words: Sequence[str | int],
        answered: Callable[[tuple[int, list[int]] | None], None] | None = None,
        *,
        patient: bool = False,
    ) -> None:
        self.patient = patient
        self.keys = keys
        self.words = words
        self.answered = answered


class Limiter:
    """The counters, as one event loop reaches them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.local = LocalCounters()
        self.away = False
        self.connection: RedisConnection | None = None
        # Asked for once: that is a system call.
        self.loop: asyncio.AbstractEventLoop | None = None
        self.queue: list[Operation] = []
        # Set while nothing is under way or queued.
        self.idle = asyncio.Event()
        self.idle.set()
        # The next call, while it waits for more to go with it.
        self.lingering: asyncio.TimerHandle | None = None
        self.calls_count = 0
        self.slots: dict[str, Operation] = {}
        self.task: asyncio.Task[None] | None = None
        self.renewal: asyncio.TimerHandle | None = None

    @property
    def state(self) -> str:
        """`shared` among all processes, or `local` to this one while Redis is away."""
        return "local" if self.away else "shared"

    async def admit(self, bounds: tuple[Bound, ...], tokens: int, tokens_least: int | None = None) -> Ticket:
        """Count a request that may use TOKENS in all BOUNDS, or in none: the ticket tells.

        Given TOKENS_LEAST, as many tokens as fit are counted, and at least these. Raises Fault 503 for the sandbox,
        which is never counted in this process alone, while Redis is away.
        """
        least = tokens if tokens_least is None else tokens_least
        return await self._ask(bounds, [needed(bound, tokens, least) for bound in bounds])

    async def look(self, bounds: tuple[Bound, ...]) -> Ticket:
        """Return how full BOUNDS are, without counting anything; raise Fault as `admit` does."""
        return await self._ask(bounds, [(0, 0)] * len(bounds))

    async def _ask(self, bounds: tuple[Bound, ...], needs: Sequence[tuple[int, int]]) -> Ticket:
        member = f"{PROCESS}.{next(MEMBERS)}"
        if not self.away:
            self.loop = loop = self.loop or asyncio.get_running_loop()
            future: asyncio.Future[Ticket | None] = loop.create_future()

            def answered(answer: tuple[int, list[int]] | None) -> None:
                ticket = None if answer is None else _ticket(bounds, member, answer)
                if ticket is not None and ticket.admitted:
                    self._hold_slots(ticket)
                if not future.done():
                    future.set_result(ticket)
                elif ticket is not None and ticket.admitted:
                    self.finish(ticket, None)

            self._enqueue(Operation([bound.name for bound in bounds], _admission(bounds, needs, member), answered))
            ticket = await future
            if ticket is not None:
                return ticket
        if any(bound.sandbox for bound in bounds):
            raise Fault(
                "limits_unavailable",
                "Free models without credit are not served while their limits cannot be counted; try again shortly.",
                retry_after_s=1,
            )
        return self.local.admit(bounds, needs, member)

    def finish(self, ticket: Ticket, tokens: int | None) -> None:
        """Tell that a request has ended: with what it used, or with None, which gives all back."""
        if not ticket.admitted:
            return
        changes = [
            (bound, _change(bound, state.taken, tokens))
            for bound, state in zip(ticket.bounds, ticket.states, strict=True)
        ]
        changes = [(bound, change) for bound, change in changes if change or not bound.length_ms]
        if not changes:
            return
        if ticket.local:
            self.local.finish(changes, ticket)
            return
        self.slots.pop(ticket.member, None)
        words: list[str | int] = [FINISH, len(changes), ticket.member]
        for bound, change in changes:
            step_ms = bound.length_ms // STEPS
            words += (change, ticket.at_ms // step_ms if step_ms else 0, 0, step_ms)
        # A failure gives back and a slot is free at once: somebody may wait for it at another process.
        patient = tokens is not None and all(bound.length_ms for bound, _ in changes)
        self._enqueue(Operation([bound.name for bound, _ in changes], words, patient=patient))

    def count(self, bound: Bound, full: Callable[[int], None]) -> None:
        """Count one thing that has happened already; FULL is told for how many milliseconds there is no more room."""
        if self.away:
            return

        def answered(answer: tuple[int, list[int]] | None) -> None:
            if answer is not None and not answer[1][0]:
                full(answer[1][3])

        self._enqueue(Operation([bound.name], _admission((bound,), [(1, 1)], ""), answered))

    async def close(self) -> None:
        """Tell Redis what is still to be told, for a moment, and let go of it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                await self.idle.wait()
        if self.renewal is not None:
            self.renewal.cancel()
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        self._drop()

    # --- One call at a time: what comes meanwhile goes together in the next ---------------------------------------

    def _enqueue(self, operation: Operation) -> None:
        self.queue.append(operation)
        if self.away:
            del self.queue[:-UNTOLD_MAX]
        elif self.idle.is_set():
            self.idle.clear()
            if operation.patient:
                self._linger()
            else:
                asyncio.get_running_loop().call_soon(self._send)
        elif self.lingering is not None and not operation.patient:
            self._hurry()
            asyncio.get_running_loop().call_soon(self._send)

    def _linger(self) -> None:
        self.lingering = asyncio.get_running_loop().call_later(LINGER_S, self._send)

    def _hurry(self) -> None:
        if self.lingering is not None:
            self.lingering.cancel()
            self.lingering = None

    def _send(self) -> None:
        self._hurry()
        if self.connection is None or self.connection.closed:
            if self.task is None or self.task.done():
                self.task = asyncio.get_running_loop().create_task(self._open(), name="limiter's connection")
            return
        batch, self.queue = self.queue[:BATCH_MAX], self.queue[BATCH_MAX:]
        self._call(self.connection, batch, "EVALSHA", DIGEST)

    def _call(self, connection: RedisConnection, batch: list[Operation], command: str, script: str) -> None:
        keys = [key for operation in batch for key in operation.keys]
        words = [word for operation in batch for word in operation.words]
        self.calls_count += 1
        future = connection.call(command, script, len(keys), *keys, *words)
        timer = asyncio.get_running_loop().call_later(TIMEOUT_S, _late, future)

        def done(future: "asyncio.Future[list[int]]") -> None:
            timer.cancel()
            if future.cancelled():
                self._failed(batch, TimeoutError(f"no answer in {TIMEOUT_S:g} s"))
                return
            error = future.exception()
            if error is None:
                self._answered(batch, future.result())
            elif str(error).startswith("NOSCRIPT") and command == "EVALSHA":
                self._call(connection, batch, "EVAL", SCRIPT)
            else:
                self._failed(batch, error)

        future.add_done_callback(done)

    def _answered(self, batch: list[Operation], reply: list[int]) -> None:
        at_ms, position = reply[0], 1
        for operation in batch:
            if operation.words[0] == ADMIT:
                length = 1 + 4 * len(operation.keys)
                if operation.answered is not None:
                    operation.answered((at_ms, reply[position : position + length]))
                position += length
        if not self.queue:
            self.idle.set()
        elif all(operation.patient for operation in self.queue):
            self._linger()
        else:
            self._send()

    # --- Redis goes and comes -------------------------------------------------------------------------------------

    async def _open(self) -> None:
        try:
            self.connection = await redis_connection.connect(self.url, TIMEOUT_S)
        except (OSError, TimeoutError, hiredis.HiredisError) as error:
            self._failed([], error)
        else:
            self._send()

    def _failed(self, batch: list[Operation], error: BaseException) -> None:
        """Count in this process from now on, and look for Redis in the background.

        Of BATCH nobody knows whether it was done. Its ends are not told again: a Redis that died has lost what they
        would change, and one that was slow has done them.
        """
        logger.warning("limits are counted in this process alone: Redis: %s: %s", type(error).__name__, error)
        self.away = True
        self._drop(batch)
        self.task = asyncio.get_running_loop().create_task(self._recover(error), name="limiter's way back")

    def _drop(self, batch: Sequence[Operation] = ()) -> None:
        """Let go of the connection; whoever waits for an admission is answered, the ends stay to be told."""
        self._hurry()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()
        waiting = [*batch, *self.queue]
        self.queue = [operation for operation in self.queue if operation.words[0] == FINISH][-UNTOLD_MAX:]
        self.idle.set()
        for operation in waiting:
            if operation.answered is not None:
                operation.answered(None)

    async def _recover(self, error: BaseException) -> None:
        # A server that restarts may be back at once; one that answers with errors, or not, will go on for a while.
        delay_s = 0.0 if isinstance(error, redis_connection.RedisLost) else RETRY_S
        while True:
            await asyncio.sleep(delay_s)
            delay_s = RETRY_S
            try:
                self.connection = await redis_connection.connect(self.url, TIMEOUT_S)
            except (OSError, TimeoutError, hiredis.HiredisError):
                continue
            break
        logger.warning("Redis is back: limits are counted together again")
        self.away = False
        self.local = LocalCounters(self.local)
        self.queue += self.slots.values()
        if self.queue:
            self.idle.clear()
            self._send()

    # --- Slots of requests at once --------------------------------------------------------------------------------

    def _hold_slots(self, ticket: Ticket) -> None:
        pairs = zip(ticket.bounds, ticket.states, strict=True)
        keys = [bound.name for bound, state in pairs if not bound.length_ms and state.taken]
        if not keys:
            return
        self.slots[ticket.member] = Operation(keys, [RENEW, len(keys), ticket.member, *[0] * (4 * len(keys))])
        if self.renewal is None:
            self.renewal = asyncio.get_running_loop().call_later(RENEW_S, self._renew)

    def _renew(self) -> None:
        self.renewal = asyncio.get_running_loop().call_later(RENEW_S, self._renew) if self.slots else None
        if not self.away:
            for operation in self.slots.values():
                self._enqueue(operation)


class LocalCounters:
    """The same counting in this process: for what must be served while Redis is away. Running requests stay."""

    def __init__(self, before: "LocalCounters | None" = None) -> None:
        self.windows: dict[bytes, Window] = {}
        self.slots: dict[bytes, set[str]] = before.slots if before else {}

    def admit(self, bounds: tuple[Bound, ...], needs: Sequence[tuple[int, int]], member: str) -> Ticket:
        """Count in all bounds or in none."""
        now_ms = time.monotonic_ns() // 1_000_000
        states = [self._look(bound, least, now_ms) for bound, (_, least) in zip(bounds, needs, strict=True)]
        admitted = not any(state.retry_ms for state in states)
        if admitted:
            states = [self._take(bound, need, now_ms, member) for bound, need in zip(bounds, needs, strict=True)]
        return Ticket(bounds, tuple(states), admitted, now_ms, member, True)

    def finish(self, changes: list[tuple[Bound, int]], ticket: Ticket) -> None:
        """Free the slots of a request and change what it counted."""
        now_ms = time.monotonic_ns() // 1_000_000
        for bound, change in changes:
            if not bound.length_ms:
                holders = self.slots.get(bound.name, set())
                holders.discard(ticket.member)
                if not holders:
                    self.slots.pop(bound.name, None)
            elif bound.name in self.windows:
                step = ticket.at_ms // (bound.length_ms // STEPS)
                self.windows[bound.name].change(change, step, bound.length_ms, now_ms)

    def _look(self, bound: Bound, least: int, now_ms: int) -> State:
        if not bound.length_ms:
            held = len(self.slots.get(bound.name, ()))
            return State(held, 0, SLOT_RETRY_MS if least and held + least > bound.amount else 0)
        window = self.windows.get(bound.name)
        if window is None:
            while len(self.windows) >= COUNTERS_MAX:
                del self.windows[next(iter(self.windows))]
            window = self.windows[bound.name] = Window()
        return window.look(least, bound.amount, bound.length_ms, now_ms)

    def _take(self, bound: Bound, needs: tuple[int, int], now_ms: int, member: str) -> State:
        if bound.length_ms:
            return self.windows[bound.name].take(*needs, bound.amount, bound.length_ms, now_ms)
        if needs[0]:
            self.slots.setdefault(bound.name, set()).add(member)
        return State(len(self.slots.get(bound.name, ())), 0, 0, needs[0])


def _admission(bounds: tuple[Bound, ...], needs: Sequence[tuple[int, int]], member: str) -> list[str | int]:
    words: list[str | int] = [ADMIT, len(bounds), member]
    for bound, (need, least) in zip(bounds, needs, strict=True):
        words += (need, least, bound.amount, bound.length_ms // STEPS)
    return words


def _ticket(bounds: tuple[Bound, ...], member: str, answer: tuple[int, list[int]]) -> Ticket:
    at_ms, (admitted, *numbers) = answer
    states = tuple(State(*numbers[4 * i : 4 * i + 4]) for i in range(len(bounds)))
    return Ticket(bounds, states, admitted == 1, at_ms, member, False)


def _change(bound: Bound, taken: int, tokens: int | None) -> int:
    if tokens is None:
        return -taken
    return tokens - taken if bound.counts_tokens else 0


def _late(future: "asyncio.Future[list[int]]") -> None:
    # An event loop that was held up runs its timers before it reads what has arrived: let it read first.
    asyncio.get_running_loop().call_later(GRACE_S, future.cancel)
