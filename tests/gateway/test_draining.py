"""The state that says whether the process is about to stop."""

import asyncio

from gateway.draining import State


async def test_a_process_without_requests_is_idle_at_once() -> None:
    assert await State().idle(0)


def test_a_process_refuses_work_once_told_to_stop() -> None:
    before, after = State(), State()
    after.start()
    assert (before.active, after.active) == (False, True)


async def test_the_last_request_to_leave_ends_the_wait() -> None:
    state = State()
    state.entered()
    state.entered()
    asyncio.get_running_loop().call_later(0.01, state.left)
    asyncio.get_running_loop().call_later(0.03, state.left)
    assert await state.idle(1)
    assert state.running == 0


async def test_the_wait_for_the_last_request_is_bounded() -> None:
    state = State()
    state.entered()
    assert not await state.idle(0.01)
