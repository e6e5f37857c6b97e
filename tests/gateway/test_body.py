"""A request's body is read whole, and bounded in bytes and in time."""

import asyncio

import pytest

from gateway import body
from gateway.body import ClientGone, Message
from gateway.deadline import Deadline
from gateway.errors import Fault
from gateway.exchange import running_task


async def read(*messages: Message, declared: bytes | None = None, timeout_s: float = 5.0) -> bytes:
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.sleep(60)
        return waiting.pop(0)

    deadline = Deadline(running_task())
    try:
        return await body.read(receive, declared, deadline, bytes_max=10, timeout_s=timeout_s)
    finally:
        deadline.close()


def piece(data: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


async def test_a_body_in_one_piece_or_in_many_is_the_same() -> None:
    assert await read(piece(b"0123456789", more=False)) == b"0123456789"
    assert await read({"type": "http.request", "body": b"x"}) == b"x"
    assert await read({"type": "http.request"}) == b""
    assert await read(*(piece(b"%d" % digit) for digit in range(10)), piece(b"", more=False)) == b"0123456789"
    assert await read(piece(b""), piece(b"a"), piece(b"b", more=False)) == b"ab"


@pytest.mark.parametrize(
    ("messages", "declared"),
    [
        ([], b"11"),
        ([], b"9" * 5000),
        ([piece(b"x" * 11, more=False)], b"3"),
        ([piece(b"x" * 6), piece(b"x" * 5)], None),
        ([piece(b"x" * 6), piece(b"x" * 5, more=False)], b"nonsense"),
    ],
)
async def test_a_body_over_the_cap_is_refused_before_it_is_read_further(
    messages: list[Message], declared: bytes | None
) -> None:
    with pytest.raises(Fault) as refused:
        await read(*messages, declared=declared)
    assert (refused.value.status, refused.value.code) == (413, "request_too_large")
    assert "10 bytes" in refused.value.message


async def test_a_client_that_leaves_is_not_answered() -> None:
    for messages in ([], [piece(b"x")]):
        with pytest.raises(ClientGone):
            await read(*messages, {"type": "http.disconnect"})


async def test_a_body_that_does_not_end_is_refused_in_time() -> None:
    for messages in ([], [piece(b"x")]):
        with pytest.raises(Fault) as refused:
            await read(*messages, timeout_s=0.02)
        assert (refused.value.status, refused.value.code) == (408, "request_timeout")
    assert running_task().cancelling() == 0
