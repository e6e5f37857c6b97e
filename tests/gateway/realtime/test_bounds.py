"""What a session may not outgrow or outlive: slow readers, its key, its grant, its limits, and the database."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from accounts.models import APIKey, Grant
from billing.models import SpendingLimit
from tests.gateway.conftest import Gateway
from tests.gateway.realtime.client import Client, opened, rows, run
from tests.upstream.realtime import RealtimeUpstream

pytestmark = pytest.mark.server

Someone = Callable[[int], tuple[str, int]]
DOLLAR = 10**9
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module", params=["uvicorn", pytest.param("daphne", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> str:
    """Back-pressure is each server's own affair: both."""
    return str(request.param)


def test_a_client_that_does_not_read_slows_the_upstream(talking: Gateway, live: RealtimeUpstream) -> None:
    async def talk() -> tuple[int, int]:
        async with opened(talking, "live/flood", max_queue=1) as connection:
            await Client(connection).until("session.created")
            before = talking.web.rss_bytes
            await connection.send('{"type":"response.create"}')
            said = -1
            session = live.of("flood")[-1].session
            assert session is not None
            while said != session.said_bytes or not said:
                said = session.said_bytes
                await asyncio.sleep(0.5)
            grown = talking.web.rss_bytes - before
            connection.transport.abort()
            return said, grown

    said, grown = run(talk())
    # What the sockets' own buffers hold: two hops of a few megabytes at most.
    assert said < 32 * MEGABYTE
    assert grown < 12 * MEGABYTE


def test_an_upstream_that_does_not_read_slows_the_client(talking: Gateway) -> None:
    sound = json.dumps({"type": "input_audio_buffer.append", "audio": "A" * 65_536})

    async def talk() -> tuple[int, int]:
        connection = await opened(talking, "live/deaf")
        await Client(connection).until("session.created")
        before = talking.web.rss_bytes
        sent = 0
        try:
            while sent < 1024:
                await asyncio.wait_for(connection.send(sound), 1.0)
                sent += 1
        except TimeoutError:
            pass
        grown = talking.web.rss_bytes - before
        connection.transport.abort()
        return sent, grown

    sent, grown = run(talk())
    assert sent < 1024
    assert grown < 12 * MEGABYTE


def test_a_revoked_key_ends_the_session_and_what_was_said_is_charged(
    talking: Gateway, live: RealtimeUpstream, someone: Someone
) -> None:
    key, organization_id = someone(DOLLAR)

    async def talk() -> int | None:
        async with opened(talking, "live/steady", key) as connection:
            client = Client(connection)
            await client.until("session.created")
            await client.send("response.create")
            await client.until("response.output_audio.delta")
            await asyncio.to_thread(_revoke, organization_id)
            return await client.rest()

    assert run(talk()) == 1008
    live.wait(lambda: live.of("steady")[-1].close_code is not None)
    statement = "SELECT * FROM billing_usage WHERE organization_id = %s"
    talking.upstream.wait(lambda: bool(talking.installed.query(statement, organization_id)))
    [row] = talking.installed.query(statement, organization_id)
    assert row["usage_source"] == "partial"
    assert row["charge_nanos"] > 0
    assert talking.installed.balance(organization_id) == (DOLLAR - row["charge_nanos"], 0)


def _revoke(organization_id: int) -> None:
    APIKey.objects.filter(organization_id=organization_id).update(revoked_at=timezone.now())
    connections.close_all()


def test_a_model_that_is_taken_from_its_caller_ends_the_session_at_its_next_response(
    talking: Gateway, someone: Someone
) -> None:
    key, _ = someone(DOLLAR)

    def change(globs: list[str]) -> None:
        Grant.objects.filter(name="everyone").update(model_globs=globs)
        connections.close_all()
        talking.follow()

    async def talk() -> tuple[Client, int | None]:
        async with opened(talking, "live/ok", key) as connection:
            client = Client(connection)
            await client.quiet()
            await client.turn()
            await asyncio.to_thread(change, ["deaf/**"])
            await client.send("response.create")
            return client, await client.rest()

    try:
        client, code = run(talk())
    finally:
        change(["live/**", "deaf/**"])
    assert code == 1008
    assert client.events[-1]["error"]["code"] == "model_not_found"


def test_a_quota_that_ends_is_told_by_its_own_code(talking: Gateway, someone: Someone) -> None:
    key, organization_id = someone(DOLLAR)
    SpendingLimit.objects.create(
        name=f"quota-{talking.server}", subject=f"org:{organization_id}", capacity_nanos=40_000_000, rate_nanos=1
    )
    connections.close_all()
    talking.follow()

    async def talk() -> tuple[Client, int | None]:
        async with opened(talking, "live/ok", key) as connection:
            client = Client(connection)
            await client.until("session.created")
            await client.send("session.update", session={"type": "realtime", "max_output_tokens": 4000})
            return client, await client.rest()

    client, code = run(talk())
    assert code == 1008
    assert (client.events[-1]["error"]["type"], client.events[-1]["error"]["code"]) == (
        "billing_error",
        "quota_exceeded",
    )


def test_with_the_database_away_nothing_new_is_asked_for(
    talking: Gateway, live: RealtimeUpstream, someone: Someone
) -> None:
    key, organization_id = someone(DOLLAR)

    async def talk() -> int | None:
        async with opened(talking, "live/ok", key) as connection:
            client = Client(connection)
            await client.quiet()
            talking.upstream.wait(lambda: not _held(talking, organization_id))
            with talking.installed.database_away():
                await client.send("response.create")
                return await client.rest()

    assert run(talk()) == 1013
    assert live.of("ok")[-1].of("response.create") == []
    talking.upstream.wait(lambda: talking.call("GET", "/v1/models").status == 200, 20)
    talking.upstream.wait(lambda: talking.installed.balance(organization_id) == (DOLLAR, 0))


def _held(gateway: Gateway, organization_id: int) -> list[dict[str, Any]]:
    return gateway.installed.query("SELECT 1 FROM billing_hold WHERE organization_id = %s", organization_id)


def test_a_page_opens_a_session_as_its_server_has_set_it_up(talking: Gateway, live: RealtimeUpstream) -> None:
    audio = {"input": {"turn_detection": None}}
    session = {"type": "realtime", "model": "live/ok", "output_modalities": ["text"], "audio": audio}
    made = talking.call("POST", "/v1/realtime/client_secrets", body={"session": session})
    assert made.status == 200, made.body

    async def talk() -> dict[str, Any]:
        secret = made.json["value"]
        offered: Any = ["realtime", f"openai-insecure-api-key.{secret}"]
        async with opened(talking, "live/ok", secret, subprotocols=offered) as connection:
            client = Client(connection)
            updated = await client.until("session.updated")
            await client.turn()
            return dict(updated["session"])

    updated = run(talk())
    assert (updated["model"], updated["output_modalities"]) == ("live/ok", ["text"])
    [event] = live.of("ok")[-1].of("session.update")
    assert event["session"]["model"] == "ok"


def test_sound_of_fifteen_megabytes_goes_up_in_one_event(talking: Gateway, live: RealtimeUpstream) -> None:
    sound = base64.b64encode(bytes(11 * MEGABYTE)).decode()

    async def talk() -> None:
        async with opened(talking, "live/ok", headers={"x-session-id": f"large-{talking.server}"}) as connection:
            client = Client(connection)
            await client.until("session.created")
            await client.send("input_audio_buffer.append", audio=sound)
            await client.until("response.done")

    run(talk())
    assert len(live.of("ok")[-1].of("input_audio_buffer.append")[0]["audio"]) == len(sound)
    [row] = rows(talking, f"large-{talking.server}")
    assert row["usage_source"] == "provider"


@pytest.mark.quiet
def test_sessions_that_have_ended_leave_nothing_in_memory(talking: Gateway) -> None:
    async def talk(gate: asyncio.Semaphore) -> None:
        async with gate, opened(talking, "live/ok") as connection:
            client = Client(connection)
            await client.until("session.created")
            await client.turn()

    async def talk_all(count: int) -> None:
        gate = asyncio.Semaphore(4)
        await asyncio.gather(*[talk(gate) for _ in range(count)])

    run(talk_all(300))
    before = talking.web.rss_bytes
    run(talk_all(600))
    # A session that is kept is some 7 KB.
    assert talking.web.rss_bytes - before < 2.5 * MEGABYTE
    held = "SELECT 1 FROM billing_hold WHERE unfinished->>'model' = 'live/ok'"
    talking.upstream.wait(lambda: not talking.installed.query(held))
