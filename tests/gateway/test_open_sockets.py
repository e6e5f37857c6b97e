"""When an open socket must close, and what it takes while keys cannot be checked."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway import sockets
from gateway.body import ClientGone
from gateway.open_sockets import GOING_AWAY, POLICY, TRY_AGAIN, Holder, Times, over
from gateway.sockets import Socket, query_of, without_key

NOW, WALL = 1000.0, 2_000_000_000.0


def watched(
    *, busy: bool = False, expires_at: float | None = None, opened_at: float = NOW, frame_at: float = NOW
) -> Any:
    """Return what is looked at of a socket that may be idle for 10 s and open for 100 s."""
    holder = SimpleNamespace(caller=SimpleNamespace(expires_at=expires_at))
    return SimpleNamespace(holder=holder, busy=busy, times=Times(10.0, 100.0, opened_at, frame_at))


@pytest.mark.parametrize(
    ("socket", "draining_ends", "code"),
    [
        (watched(), None, None),
        (watched(expires_at=WALL + 1), None, None),
        (watched(expires_at=WALL), None, POLICY),
        (watched(busy=True, expires_at=WALL), None, POLICY),
        (watched(frame_at=NOW - 9.9), None, None),
        (watched(frame_at=NOW - 10), None, GOING_AWAY),
        (watched(busy=True, frame_at=NOW - 10), None, None),
        (watched(opened_at=NOW - 100), None, GOING_AWAY),
        (watched(busy=True, opened_at=NOW - 100), None, GOING_AWAY),
        (watched(), NOW + 5, GOING_AWAY),
        (watched(busy=True), NOW + 5, None),
        (watched(busy=True), NOW, GOING_AWAY),
    ],
)
def test_what_ends_a_socket(socket: Any, draining_ends: float | None, code: int | None) -> None:
    found = over(socket, NOW, WALL, draining_ends)
    assert (found and found[0]) == code


class Wire:
    """The server's side of a socket, in memory."""

    def __init__(self, *received: dict[str, Any]) -> None:
        self.received = list(received)
        self.sent: list[Any] = []
        self.lost = False

    async def receive(self) -> Any:
        """Give the next message, then wait for ever."""
        if self.received:
            return self.received.pop(0)
        return await asyncio.Event().wait()

    async def send(self, message: Any) -> None:
        """Take a message."""
        if self.lost:
            raise OSError
        self.sent.append(message)


class Fresh:
    """What a process knows: STALE until it is told otherwise."""

    def __init__(self, *, stale: bool = False, returns: bool = True) -> None:
        self.is_stale, self.returns = stale, returns

    def stale(self) -> bool:
        """Tell."""
        return self.is_stale

    async def wait(self, timeout_s: float) -> bool:
        """Wait a little."""
        await asyncio.sleep(0)
        return self.returns


def opened(wire: Wire, fresh: Fresh | None = None) -> Socket:
    """Return a socket over WIRE."""
    runtime: Any = SimpleNamespace(freshness=fresh or Fresh())
    holder: Any = Holder(b"d" * 32, None, SimpleNamespace(expires_at=None), 0, SimpleNamespace())  # type: ignore[arg-type]
    return Socket(runtime, wire.receive, wire.send, holder)


async def test_frames_come_as_they_were_sent_and_then_the_end() -> None:
    wire = Wire(
        {"type": "websocket.receive", "text": ""},
        {"type": "websocket.receive", "bytes": b"", "text": None},
        {"type": "websocket.disconnect", "code": 4321, "reason": "so"},
    )
    socket = opened(wire)
    assert [await socket.receive() for _ in range(4)] == ["", b"", None, None]
    assert (socket.close_code, socket.close_reason) == (4321, "so")
    await asyncio.wait_for(socket.ended(), 1)


async def test_a_frame_waits_until_keys_can_be_checked_and_survives_a_cancelled_receive() -> None:
    fresh = Fresh(stale=True)
    socket = opened(Wire({"type": "websocket.receive", "text": "hello"}), fresh)
    waiting = asyncio.create_task(socket.receive())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await socket.receive() == "hello"


async def test_a_process_that_cannot_check_keys_for_long_closes() -> None:
    wire = Wire({"type": "websocket.receive", "text": "hello"})
    socket = opened(wire, Fresh(stale=True, returns=False))
    assert await socket.receive() is None
    assert socket.close_code == TRY_AGAIN
    assert wire.sent[0]["type"] == "websocket.close"


async def test_nothing_is_sent_or_closed_twice_after_the_end() -> None:
    wire = Wire()
    socket = opened(wire)
    await socket.close(1008, "é" * 100)
    await socket.close(1000)
    assert len(wire.sent) == 1
    assert len(wire.sent[0]["reason"].encode()) == 122
    with pytest.raises(ClientGone):
        await socket.send("too late")
    assert await socket.receive() is None


async def test_a_client_that_is_lost_is_gone() -> None:
    wire = Wire()
    wire.lost = True
    socket = opened(wire)
    with pytest.raises(ClientGone):
        await socket.send("hello")
    assert socket.close_code == sockets.LOST


# --- Where a key may be -----------------------------------------------------------------------------------------------
def scope(*headers: tuple[bytes, bytes], subprotocols: tuple[str, ...] = (), query: bytes = b"") -> dict[str, Any]:
    """Return a handshake's scope."""
    return {"headers": list(headers), "subprotocols": list(subprotocols), "query_string": query, "path": "/"}


@pytest.mark.parametrize(
    ("given", "key"),
    [
        (scope(), ""),
        (scope((b"authorization", b"Bearer a"), (b"x-api-key", b"b")), "a"),
        (scope((b"authorization", b"Basic a"), (b"x-api-key", b"b")), "b"),
        (scope((b"authorization", b"Bearer a"), subprotocols=("realtime", "openai-insecure-api-key.c")), "c"),
        (scope(query=b"model=m&key=d&x="), "d"),
    ],
)
def test_a_key_is_found_and_nothing_of_it_is_left(given: dict[str, Any], key: str) -> None:
    kept = (b"user-agent", b"test")
    given["headers"] += [kept, (b"cookie", b"sessionid=e"), (b"sec-websocket-protocol", b"everything")]
    cleaned, found = without_key(given)
    assert found == key
    assert cleaned["headers"] == [kept]
    assert cleaned["subprotocols"] == [item for item in given["subprotocols"] if item == "realtime"]
    assert cleaned["query_string"] == (b"model=m&x=" if b"key" in given["query_string"] else given["query_string"])


def test_of_a_parameter_that_is_there_twice_the_first_counts() -> None:
    assert query_of(scope(query=b"model=a%2Fb&model=c&empty="), None) == {"model": "a/b", "empty": ""}
