"""What a process says that is about to stop, and the state behind it."""

import asyncio

import pytest

from gateway.draining import State
from tests.gateway import http
from tests.gateway.conftest import Gateway


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


@pytest.mark.server
@pytest.mark.parametrize("server", ["daphne", "uvicorn"], scope="module")
def test_new_requests_are_refused_while_a_stream_runs_to_its_end(gateway: Gateway, server: str) -> None:
    key = gateway.installed.key
    body = http.chat("chaos/drip-0.7", stream=True)
    with http.opened(gateway.port, "POST", "/v1/chat/completions", key=key, body=body) as stream:
        stream.read(1)
        gateway.web.signal()
        refused = gateway.call("GET", "/v1/models")
        statuses = {path: gateway.call("GET", path, key="") for path in ("/health", "/admin/login/", "/v1/models")}
        unknown = gateway.call("GET", "/v1/nothing")
        rest = stream.read()
    assert (refused.status, refused.error["code"]) == (503, "draining")
    assert {answer.status for answer in statuses.values()} == {503}
    assert {answer.header("retry-after") for answer in (refused, *statuses.values())} == {"1"}
    assert unknown.status == 404
    assert rest.endswith(b"data: [DONE]\n\n")
    assert gateway.web.wait() == 0
