"""Counting in a real Valkey: together or not at all, coalesced, and what happens when it is away."""

import asyncio
import contextlib
import gc
import multiprocessing
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import limiter as limiter_module
from gateway.errors import Fault
from gateway.limiter import Limiter, LocalCounters, Ticket
from gateway.limiter_script import SCRIPT
from gateway.limits import LEASE_MS, MINUTE_MS, STEPS, Bound, Window
from tests.gateway.own_valkey import OwnValkey, own_valkey
from tests.wire import eventually

pytestmark = pytest.mark.server

STEP_MS = MINUTE_MS // STEPS


@pytest.fixture(scope="module")
def valkey() -> Iterator[OwnValkey]:
    """A Valkey that the module's tests share and leave running."""
    with own_valkey() as server:
        yield server


@pytest.fixture(autouse=True)
def emptied(valkey: OwnValkey) -> None:
    """Begin with nothing counted."""
    valkey.client().flushall()


@asynccontextmanager
async def limiter(server: OwnValkey) -> AsyncIterator[Limiter]:
    """A process's limiter."""
    made = Limiter(server.url)
    try:
        yield made
    finally:
        await made.close()


def a_bound(amount: int, kind: str = "requests_per_minute", name: str = "a", *, sandbox: bool = False) -> Bound:
    return Bound(f"aperture:limit:{name}".encode(), kind, amount, "this key", sandbox)


def admitted(tickets: list[Ticket]) -> list[Ticket]:
    return [ticket for ticket in tickets if ticket.admitted]


async def at_once(count: int, *limiters: Limiter, bounds: tuple[Bound, ...], tokens: int = 1) -> list[Ticket]:
    """Ask for COUNT admissions at the same time, in turn of each limiter."""
    return await asyncio.gather(*(limiters[i % len(limiters)].admit(bounds, tokens) for i in range(count)))


async def test_of_two_hundred_at_once_exactly_ten_pass_and_they_take_a_few_calls(valkey: OwnValkey) -> None:
    async with limiter(valkey) as one:
        tickets = await at_once(200, one, bounds=(a_bound(10),))
        assert len(admitted(tickets)) == 10
        assert one.calls_count <= 3
        refused = [ticket.states[0] for ticket in tickets if not ticket.admitted]
        assert {state.counted for state in refused} == {10}
        assert all(MINUTE_MS - 1000 < state.retry_ms <= MINUTE_MS + STEP_MS for state in refused)


async def test_exactly_ten_pass_over_two_limiters_as_well(valkey: OwnValkey) -> None:
    async with limiter(valkey) as one, limiter(valkey) as other:
        assert len(admitted(await at_once(200, one, other, bounds=(a_bound(10),)))) == 10


def _admit_in_a_process(url: str, results: Any) -> None:
    async def run() -> int:
        made = Limiter(url)
        tickets = await at_once(100, made, bounds=(a_bound(10),))
        await made.close()
        return len(admitted(tickets))

    results.put(asyncio.run(run()))


def test_exactly_ten_pass_over_two_processes(valkey: OwnValkey) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_admit_in_a_process, args=(valkey.url, results)) for _ in range(2)]
    for process in processes:
        process.start()
    assert sum(results.get(timeout=60) for _ in processes) == 10
    for process in processes:
        process.join()


async def test_a_request_counts_in_all_of_its_windows_or_in_none(valkey: OwnValkey) -> None:
    bounds = (a_bound(5, name="wide"), a_bound(100, "tokens_per_minute", "tokens"), a_bound(1, "concurrency", "slots"))
    async with limiter(valkey) as one:
        first, second = await at_once(2, one, bounds=bounds, tokens=30)
        assert (first.admitted, second.admitted) == (True, False)
        assert [state.counted for state in first.states] == [1, 30, 1]
        assert [state.counted for state in second.states] == [1, 30, 1]
        assert [state.retry_ms for state in second.states][:2] == [0, 0]
        assert [state.counted for state in (await one.look(bounds)).states] == [1, 30, 1]


async def test_a_failed_request_counts_against_nothing(valkey: OwnValkey) -> None:
    bounds = (a_bound(1), a_bound(50, "tokens_per_day", "tokens"), a_bound(1, "concurrency", "slots"))
    async with limiter(valkey) as one:
        for _ in range(5):
            (ticket,) = await at_once(1, one, bounds=bounds, tokens=50)
            assert ticket.admitted
            one.finish(ticket, None)
        assert [state.counted for state in (await one.look(bounds)).states] == [0, 0, 0]


async def test_tokens_are_corrected_to_what_was_used(valkey: OwnValkey) -> None:
    bounds = (a_bound(10), a_bound(1000, "tokens_per_minute", "tokens"))
    async with limiter(valkey) as one:
        less, more = await at_once(2, one, bounds=bounds, tokens=400)
        one.finish(less, 100)
        one.finish(more, 450)
        assert [state.counted for state in (await one.look(bounds)).states] == [2, 550]


async def test_tokens_that_are_only_assumed_take_the_room_that_there_is(valkey: OwnValkey) -> None:
    bounds = (a_bound(1000, "tokens_per_minute"),)
    async with limiter(valkey) as one:
        first, second, third = [await one.admit(bounds, 700, 100) for _ in range(3)]
        assert [ticket.states[0].taken for ticket in (first, second, third)] == [700, 300, 0]
        assert (second.admitted, third.admitted) == (True, False)
        one.finish(first, None)
        one.finish(second, 250)
        assert (await one.look(bounds)).states[0].counted == 250


async def test_a_success_without_tokens_or_slots_takes_no_second_call(valkey: OwnValkey) -> None:
    async with limiter(valkey) as one:
        (ticket,) = await at_once(1, one, bounds=(a_bound(10),))
        calls = one.calls_count
        one.finish(ticket, 55)
        assert (one.queue, one.calls_count) == ([], calls)


async def test_what_a_success_used_goes_along_with_the_next_admission(valkey: OwnValkey) -> None:
    bound = a_bound(1000, "tokens_per_minute")
    async with limiter(valkey) as one:
        for _ in range(5):
            one.finish(await one.admit((bound,), 100), 20)
        assert one.calls_count == 5
        assert (await one.look((bound,))).states[0].counted == 100


async def test_what_a_success_used_is_told_soon_without_a_next_admission(valkey: OwnValkey) -> None:
    bound = a_bound(1000, "tokens_per_minute")
    async with limiter(valkey) as one, limiter(valkey) as other:
        # One ends while a call is under way, and is not told alone at once either.
        first, second = await at_once(2, one, bounds=(bound,), tokens=100)
        one.finish(first, 20)
        looking = asyncio.create_task(one.look((bound,)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        one.finish(second, 30)
        await looking

        async def told() -> bool:
            return (await other.look((bound,))).states[0].counted == 50

        assert await eventually(told) < 1
        assert one.queue == []


async def test_a_request_nobody_waits_for_any_more_is_given_back(valkey: OwnValkey) -> None:
    bound = a_bound(1)
    async with limiter(valkey) as one:
        await one.look((bound,))
        waiting = asyncio.create_task(one.admit((bound,), 1))
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await one.look((bound,))
        assert (await one.admit((bound,), 1)).admitted


async def test_slots_are_free_when_their_requests_end(valkey: OwnValkey) -> None:
    bound = a_bound(2, "concurrency")
    async with limiter(valkey) as one, limiter(valkey) as other:
        tickets = await at_once(5, one, other, bounds=(bound,))
        assert len(admitted(tickets)) == 2
        assert {ticket.states[0].retry_ms for ticket in tickets if not ticket.admitted} == {1000}
        for ticket in tickets:
            one.finish(ticket, 7)
        await one.look((bound,))
        assert len(admitted(await at_once(5, one, other, bounds=(bound,)))) == 2


async def test_a_crash_frees_its_slots_after_the_lease_and_a_long_request_keeps_its_own(
    valkey: OwnValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter_module, "SCRIPT", SCRIPT.replace(str(LEASE_MS), "300", 1))
    monkeypatch.setattr(limiter_module, "DIGEST", "0" * 40)
    monkeypatch.setattr(limiter_module, "RENEW_S", 0.1)
    bound = a_bound(1, "concurrency")
    async with limiter(valkey) as living, limiter(valkey) as other:
        (ticket,) = await at_once(1, living, bounds=(bound,))
        await asyncio.sleep(0.6)
        assert not (await other.admit((bound,), 1)).admitted
        living.slots.clear()  # as a crash does
        await asyncio.sleep(0.4)
        assert ticket.admitted
        assert (await other.admit((bound,), 1)).admitted


operations = st.lists(
    st.tuples(st.sampled_from(["take", "back", "more"]), st.integers(0, 15_000), st.integers(1, 6)), max_size=25
)


@settings(max_examples=40, deadline=None)
@given(amount=st.integers(1, 12), operations=operations)
def test_the_script_counts_as_a_window_in_memory_does(
    valkey: OwnValkey, amount: int, operations: list[tuple[str, int, int]]
) -> None:
    client = valkey.client()
    client.flushall()
    script = SCRIPT.replace("redis.call('TIME')", "{redis.call('GET', 'clock:s'), redis.call('GET', 'clock:us')}")
    window, now_ms, taken = Window(), 1_700_000_000_000, [(0, 0)]

    def ask(*words: object) -> list[int]:
        client.mset({"clock:s": now_ms // 1000, "clock:us": now_ms % 1000 * 1000})
        return list(client.eval(script, 1, "window", *words))

    for operation, pause_ms, need in operations:
        now_ms += pause_ms
        if operation == "take":
            least = (need + 1) // 2
            state = window.take(need, least, amount, MINUTE_MS, now_ms)
            assert ask("A", 1, "", need, least, amount, STEP_MS) == [
                now_ms, int(not state.retry_ms), state.counted, state.reset_ms, state.retry_ms, state.taken,
            ]  # fmt: skip
            if not state.retry_ms:
                taken.append((now_ms // STEP_MS, state.taken))
        else:
            step, counted = taken[need % len(taken)]
            change = need if operation == "more" else -counted
            window.change(change, step, MINUTE_MS, now_ms)
            ask("E", 1, "", change, step, 0, STEP_MS)


async def test_a_window_leaves_redis_when_it_is_over(valkey: OwnValkey) -> None:
    async with limiter(valkey) as one:
        await one.admit((a_bound(10), a_bound(10, "requests_per_day", "day"), a_bound(1, "concurrency", "slots")), 1)
    client = valkey.client()
    left = {name: client.pttl(name) for name in client.keys("*")}
    assert len(left) == 3
    assert all(
        0 < left[f"aperture:limit:{name}".encode()] <= at_most
        for name, at_most in (("a", 60_250), ("day", 86_760_000), ("slots", LEASE_MS))
    )


# --- Redis is away -----------------------------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[OwnValkey]:
    """A Valkey that the test may stop."""
    with own_valkey() as server:
        yield server


async def until(condition: Any, timeout_s: float = 5.0) -> None:
    """Wait until something is true."""
    for _ in range(round(timeout_s / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_with_redis_down_limits_are_counted_in_the_process_and_together_again_when_it_is_back(
    own: OwnValkey,
) -> None:
    bound = a_bound(3)
    async with limiter(own) as one:
        assert len(admitted(await at_once(2, one, bounds=(bound,)))) == 2
        own.kill()
        tickets = await at_once(10, one, bounds=(bound,))
        assert (len(admitted(tickets)), one.state) == (3, "local")
        assert {ticket.local for ticket in tickets} == {True}
        one.finish(admitted(tickets)[0], None)
        assert len(admitted(await at_once(2, one, bounds=(bound,)))) == 1

        own.start()
        await until(lambda: not one.away)
        tickets = await at_once(10, one, bounds=(bound,))
        assert (len(admitted(tickets)), one.state) == (3, "shared")
        assert {ticket.local for ticket in tickets} == {False}


async def test_with_redis_down_the_sandbox_is_refused_and_says_when_to_return(own: OwnValkey) -> None:
    own.kill()
    async with limiter(own) as one:
        for _ in range(2):
            with pytest.raises(Fault) as refused:
                await one.admit((a_bound(20, sandbox=True),), 1)
            assert (refused.value.status, refused.value.code) == (503, "limits_unavailable")
            assert refused.value.retry_after_s == 1
        assert (await one.admit((a_bound(20),), 1)).admitted


@pytest.mark.quiet
async def test_a_redis_that_hangs_is_waited_for_once_and_not_by_every_request(own: OwnValkey) -> None:
    bound = a_bound(1000)
    async with limiter(own) as one:
        await one.admit((bound,), 1)
        with own.paused():
            began_at = time.monotonic()
            assert len(admitted(await at_once(50, one, bounds=(bound,)))) == 50
            first_s, began_at = time.monotonic() - began_at, time.monotonic()
            for _ in range(100):
                assert (await one.admit((bound,), 1)).local
            rest_s = time.monotonic() - began_at
        assert 0.2 < first_s < 1.5
        assert rest_s < 0.2
        await until(lambda: not one.away)
        assert not (await one.admit((bound,), 1)).local


async def test_a_redis_that_was_emptied_has_lost_its_counters_and_nothing_else(own: OwnValkey) -> None:
    bound = a_bound(3)
    async with limiter(own) as one:
        tickets = await at_once(5, one, bounds=(bound,))
        client = own.client()
        client.flushall()
        client.script_flush()
        for ticket in tickets:
            one.finish(ticket, None)
        assert len(admitted(await at_once(5, one, bounds=(bound,)))) == 3
        assert not one.away


async def test_a_connection_that_was_closed_while_idle_is_made_again_without_anybody_noticing(own: OwnValkey) -> None:
    async with limiter(own) as one:
        await one.admit((a_bound(3, sandbox=True),), 1)
        own.client().client_kill_filter(_type="normal", skipme=True)
        await asyncio.sleep(0.05)
        assert (await one.admit((a_bound(3, sandbox=True),), 1)).states[0].counted == 2


async def test_a_redis_that_answers_with_errors_counts_as_away(own: OwnValkey) -> None:
    async with limiter(own) as one:
        await one.admit((a_bound(3),), 1)
        client = own.client()
        client.config_set("maxmemory", "1")
        assert (await one.admit((a_bound(3),), 1)).local
        await asyncio.sleep(0.1)
        assert one.away
        client.config_set("maxmemory", "0")
        await until(lambda: not one.away)
        assert not (await one.admit((a_bound(3),), 1)).local


async def test_a_request_leaves_no_cycle_behind(valkey: OwnValkey) -> None:
    bounds = (a_bound(10**6), a_bound(10**9, "tokens_per_minute", "tokens"), a_bound(10**6, "concurrency", "slots"))
    async with limiter(valkey) as one:
        for count in (10, 300):
            for ticket in await at_once(count, one, bounds=bounds):
                one.finish(ticket, 7)
            await one.idle.wait()
            if count == 10:
                gc.collect()
        assert gc.collect() < 30


async def test_what_ends_while_redis_hangs_is_told_to_it_later(own: OwnValkey) -> None:
    bounds = (a_bound(1), a_bound(1, "concurrency", "slots"))
    async with limiter(own) as one:
        (ticket,) = await at_once(1, one, bounds=bounds)
        with own.paused():
            await one.admit((a_bound(5, name="other"),), 1)
            assert one.away
            one.finish(ticket, None)
        await until(lambda: not one.away)
        assert (await one.admit(bounds, 1)).admitted


async def test_a_process_that_stops_tells_what_has_ended(valkey: OwnValkey) -> None:
    bound = a_bound(1)
    async with limiter(valkey) as one:
        one.finish(await one.admit((bound,), 1), None)
    async with limiter(valkey) as other:
        assert (await other.admit((bound,), 1)).admitted


def test_counting_in_the_process_is_all_or_nothing_too() -> None:
    local = LocalCounters()
    bounds = (a_bound(5), a_bound(1, "concurrency", "slots"))
    first, second = (local.admit(bounds, [(1, 1)] * 2, member) for member in ("one", "two"))
    assert (first.admitted, second.admitted) == (True, False)
    assert [state.counted for state in second.states] == [1, 1]
    local.finish([(bounds[1], 0)], first)
    assert local.admit(bounds, [(1, 1)] * 2, "two").admitted
