"""The client's departure interrupts what waits for it or for the upstream, and never a settlement."""

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from gateway.body import DISCONNECT, Message
from gateway.exchange import Exchange, new_request_id, running_task


class Client:
    """A client whose messages a test sends."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()

    def exchange(self, extensions: dict[str, Any] | None = None) -> Exchange:
        async def send(_message: Message) -> None:
            return

        return Exchange({"extensions": extensions or {}}, self.messages.get, send, {})

    def leave(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})


async def test_a_departure_cancels_what_waits_and_settling_takes_that_back() -> None:
    client = Client()
    exchange = client.exchange()
    exchange.watch_client()
    asyncio.get_running_loop().call_later(0.01, client.leave)
    with pytest.raises(asyncio.CancelledError) as gone:
        await asyncio.sleep(5)
    assert exchange.left_by(gone.value)
    exchange.settling()
    assert running_task().cancelling() == 0
    await asyncio.sleep(0.01)
    exchange.settling()
    assert running_task().cancelling() == 0
    exchange.close()


async def test_a_departure_during_settlement_interrupts_nothing() -> None:
    client = Client()
    exchange = client.exchange()
    exchange.watch_client()
    exchange.settling()
    client.leave()
    await asyncio.sleep(0.02)
    assert exchange.client_gone
    assert running_task().cancelling() == 0
    exchange.close()


async def test_stray_messages_are_read_over_and_the_watch_goes_on() -> None:
    client = Client()
    exchange = client.exchange()
    exchange.watch_client()
    client.messages.put_nowait({"type": "http.request", "body": b"more"})
    await asyncio.sleep(0.01)
    assert not exchange.client_gone
    client.leave()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)
    exchange.settling()
    exchange.close()


async def test_a_server_that_tells_of_departures_is_not_read_from() -> None:
    told: list[Callable[[], None]] = []
    client = Client()
    exchange = client.exchange({DISCONNECT: {"call": told.append}})
    exchange.watch_client()
    assert exchange.disconnect is None
    asyncio.get_running_loop().call_later(0.01, lambda: [tell() for tell in (*told, *told)])
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)
    exchange.settling()
    assert running_task().cancelling() == 0
    exchange.close()


async def test_a_shutdown_in_the_same_moment_as_a_departure_stays_a_cancellation() -> None:
    client = Client()
    settled: list[int] = []

    async def work() -> None:
        exchange = client.exchange()
        exchange.watch_client()
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            exchange.settling()
            settled.append(running_task().cancelling())
            raise
        finally:
            exchange.close()

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    client.leave()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert settled in ([0], [1])
    assert task.cancelled()


async def test_a_deadline_in_the_same_moment_as_a_departure_leaves_one_reason() -> None:
    client = Client()
    exchange = client.exchange()
    exchange.watch_client()
    loop = asyncio.get_running_loop()

    def both() -> None:
        exchange.deadline.at = loop.time()
        exchange.deadline._fire()
        exchange._gone()

    loop.call_later(0.01, both)
    with pytest.raises(asyncio.CancelledError) as ended, exchange.deadline.within(60):
        await asyncio.sleep(5)
    assert exchange.left_by(ended.value)
    exchange.settling()
    assert running_task().cancelling() == 0
    exchange.close()


async def test_a_failed_send_means_that_the_client_has_gone() -> None:
    exchange = Client().exchange()
    assert not exchange.left_by(asyncio.CancelledError())
    assert exchange.left_by(BrokenPipeError())
    exchange.close()


async def test_closing_leaves_no_timer_and_no_task() -> None:
    client = Client()
    before = asyncio.all_tasks()
    exchange = client.exchange()
    with exchange.deadline.within(60):
        exchange.watch_client()
    exchange.close()
    client.leave()
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == before
    assert exchange.deadline.timer is None
    assert running_task().cancelling() == 0


def test_request_ids_are_uuids_of_version_7_in_order_of_time() -> None:
    ids = []
    for _ in range(3):
        ids.append(new_request_id())
        time.sleep(0.002)
    assert ids == sorted(ids)
    many = {new_request_id() for _ in range(20_000)}
    assert len(many) == 20_000
    for text in list(many)[:500]:
        found = uuid.UUID(text)
        assert (found.version, found.variant, str(found)) == (7, uuid.RFC_4122, text)
        assert re.fullmatch(r"[0-9a-f-]{36}", text)
        assert abs(int(text.replace("-", "")[:12], 16) / 1000 - time.time()) < 60
