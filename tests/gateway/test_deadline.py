"""A deadline ends what waits, never more, and never takes another's cancellation for its own."""

import asyncio
import time

import pytest

from gateway.deadline import Deadline
from gateway.exchange import running_task


def here() -> Deadline:
    return Deadline(running_task())


async def test_what_waits_too_long_ends_with_timeout_error_and_leaves_no_cancellation() -> None:
    deadline = here()
    began_at = time.monotonic()
    with pytest.raises(TimeoutError), deadline.within(0.02):
        await asyncio.sleep(5)
    assert 0.015 < time.monotonic() - began_at < 1
    assert running_task().cancelling() == 0
    await asyncio.sleep(0)
    deadline.close()


async def test_what_ends_in_time_is_left_alone_and_its_time_does_not_haunt_the_next() -> None:
    deadline = here()
    with deadline.within(0.02):
        await asyncio.sleep(0)
    await asyncio.sleep(0.04)
    with deadline.within(5):
        await asyncio.sleep(0.04)
    assert running_task().cancelling() == 0
    deadline.close()


@pytest.mark.parametrize(("first_s", "second_s"), [(5, 0.03), (0.03, 0.03), (0.01, 0.05)])
async def test_blocks_one_after_another_each_have_their_own_time(first_s: float, second_s: float) -> None:
    deadline = here()
    with deadline.within(first_s):
        await asyncio.sleep(0)
    began_at = time.monotonic()
    with pytest.raises(TimeoutError), deadline.within(second_s):
        await asyncio.sleep(5)
    assert second_s - 0.01 < time.monotonic() - began_at < second_s + 0.5
    deadline.close()


async def test_it_can_be_used_again_after_it_has_passed() -> None:
    deadline = here()
    for _ in range(3):
        with pytest.raises(TimeoutError), deadline.within(0.005):
            await asyncio.sleep(5)
    with deadline.within(1):
        await asyncio.sleep(0.01)
    assert deadline.timer is not None
    deadline.close()
    assert deadline.timer is None


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def work() -> None:
        deadline = here()
        try:
            with deadline.within(5):
                await asyncio.sleep(5)
        finally:
            deadline.close()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@pytest.mark.parametrize("deadline_first", [True, False])
async def test_a_cancellation_in_the_same_moment_as_the_deadline_wins(deadline_first: bool) -> None:
    deadlines: list[Deadline] = []

    async def work() -> None:
        deadlines.append(here())
        with deadlines[0].within(60):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    deadline = deadlines[0]
    deadline.at = asyncio.get_running_loop().time() - 1
    assert deadline.timer is not None
    deadline.timer.cancel()
    for happens in (deadline._fire, task.cancel) if deadline_first else (task.cancel, deadline._fire):
        happens()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert task.cancelling() == 1


async def test_a_result_in_the_same_moment_as_the_deadline_counts_as_too_late() -> None:
    deadline = here()
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()

    def both() -> None:
        future.set_result(1)
        deadline.at = loop.time()
        deadline._fire()

    with pytest.raises(TimeoutError), deadline.within(60):
        loop.call_soon(both)
        await future
    assert running_task().cancelling() == 0
    await asyncio.sleep(0)
    deadline.close()


async def test_work_that_swallows_the_cancellation_is_not_cancelled_again() -> None:
    deadline = here()
    with deadline.within(0.005):
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            answer = "kept"
    assert answer == "kept"
    assert running_task().cancelling() == 0
    await asyncio.sleep(0.01)
    deadline.close()


async def test_another_error_in_the_block_stays_itself() -> None:
    deadline = here()
    with pytest.raises(ZeroDivisionError), deadline.within(0.005):
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            raise ZeroDivisionError from None
    assert running_task().cancelling() == 0
    deadline.close()


async def test_it_works_inside_asyncio_s_own_timeout() -> None:
    deadline = here()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            with deadline.within(5):
                await asyncio.sleep(5)
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError), deadline.within(0.01):
            await asyncio.sleep(5)
    assert running_task().cancelling() == 0
    deadline.close()


async def test_many_blocks_share_one_timer() -> None:
    deadline = here()
    with deadline.within(60):
        first = deadline.timer
    for _ in range(100):
        with deadline.within(61):
            assert deadline.timer is first
    deadline.close()
    assert first is not None
    assert first.cancelled()
