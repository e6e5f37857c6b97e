"""What realtime sessions may spend: held before it is asked for, charged to the nano, and ended when it is spent."""

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from websockets.exceptions import InvalidStatus

from billing.models import Limit
from tests.gateway.conftest import APPLICATION, Gateway
from tests.gateway.realtime.client import RATES, TYPICAL_TOKENS, Client, opened, price, run
from tests.servers import start_web
from tests.upstream.realtime import RealtimeUpstream

pytestmark = pytest.mark.server

Someone = Callable[[int], tuple[str, int]]
DOLLAR = 10**9
MARKUP_PPM = 1_200_000
# What is held for a session that has just been opened: a minute of speech, and a typical answer in sound.
SLICE_NANOS = round(600 * RATES["audio_input"] + TYPICAL_TOKENS * RATES["audio_output"]) * 1000 * MARKUP_PPM // 10**6


@pytest.fixture(scope="module")
def server() -> str:
    """Money does not see the server; the faster one."""
    return "uvicorn"


def charged(gateway: Gateway, organization_id: int) -> list[dict[str, Any]]:
    """Return the usage rows of an organization."""
    return gateway.installed.query(
        "SELECT * FROM billing_usage WHERE organization_id = %s ORDER BY request_id", organization_id
    )


def settled(gateway: Gateway, organization_id: int, credit: int) -> list[dict[str, Any]]:
    """Wait until nothing is held; return the rows, whose charges are what the wallet has less."""
    gateway.upstream.wait(lambda: gateway.installed.balance(organization_id)[1] == 0)
    gateway.upstream.wait(lambda: not _holds(gateway, organization_id))
    found = charged(gateway, organization_id)
    assert gateway.installed.balance(organization_id)[0] == credit - sum(row["charge_nanos"] for row in found)
    return found


def _holds(gateway: Gateway, organization_id: int) -> list[dict[str, Any]]:
    return gateway.installed.query("SELECT * FROM billing_hold WHERE organization_id = %s", organization_id)


def test_of_twenty_sessions_on_credit_for_five_responses_exactly_five_are_charged(
    talking: Gateway, someone: Someone
) -> None:
    credit = 5 * SLICE_NANOS + SLICE_NANOS // 2
    key, organization_id = someone(credit)
    together = asyncio.Event()

    async def talk() -> str:
        try:
            async with opened(talking, "live/slow", key) as connection:
                client = Client(connection)
                await client.until("session.created")
                await together.wait()
                return str((await client.turn(max_output_tokens=100))["status"])
        except InvalidStatus as refused:
            return str(refused.response.status_code)

    async def talk_all() -> list[str]:
        tasks = [asyncio.create_task(talk()) for _ in range(20)]
        for number, done in enumerate(asyncio.as_completed(tasks), 1):
            await done
            if number == 15:
                together.set()
        return list(await asyncio.gather(*tasks))

    outcomes = run(talk_all())
    assert sorted(outcomes) == ["402"] * 15 + ["completed"] * 5
    found = settled(talking, organization_id, credit)
    assert sum(row["charge_nanos"] > 0 for row in found) == 5
    assert all(row["cost_nanos"] * 12 == row["charge_nanos"] * 10 for row in found)


def test_a_balance_that_ends_mid_session_ends_it_with_an_error_and_a_clean_close(
    talking: Gateway, someone: Someone
) -> None:
    credit = SLICE_NANOS * 5 // 3
    key, organization_id = someone(credit)

    async def talk() -> tuple[Client, int | None, list[dict[str, Any]]]:
        async with opened(talking, "live/ok", key) as connection:
            client = Client(connection)
            await client.until("session.created")
            usages = []
            await client.send("session.update", session={"type": "realtime", "max_output_tokens": 100})
            for _ in range(40):
                await client.send("response.create")
                event = await client.until("response.done")
                usages.append(event["response"]["usage"])
                if event is client.events[-1] and await _closing(client):
                    break
            return client, connection.close_code, usages

    client, code, usages = run(talk())
    assert code == 1008
    error = client.events[-1]["error"]
    assert (error["type"], error["code"]) == ("insufficient_credits", "insufficient_credits")
    assert "Top up" in error["message"]
    found = settled(talking, organization_id, credit)
    paid = [row for row in found if row["charge_nanos"]]
    assert [row["cost_nanos"] for row in paid] == [price(usage) for usage in usages]
    assert 1 < len(paid) < 40


async def _closing(client: Client) -> bool:
    """Tell whether the session ends after a response: an error comes, then the close."""
    try:
        async with asyncio.timeout(0.2):
            await client.rest()
            return True
    except TimeoutError:
        return False


def test_a_response_that_outgrows_the_balance_is_cut_and_charged_as_delivered(
    talking: Gateway, someone: Someone
) -> None:
    credit = SLICE_NANOS * 3 // 2
    key, organization_id = someone(credit)

    async def talk() -> tuple[Client, int | None]:
        async with opened(talking, "live/long", key) as connection:
            client = Client(connection)
            await client.until("session.created")
            await client.send("response.create")
            return client, await client.rest()

    client, code = run(talk())
    assert code == 1008
    assert client.events[-1]["error"]["code"] == "insufficient_credits"
    [row] = settled(talking, organization_id, credit)
    assert (row["status"], row["error_code"], row["usage_source"]) == (402, "insufficient_credits", "partial")
    deltas = sum(kind == "response.output_audio.delta" for kind in client.kinds())
    assert row["audio_tokens"] == 2 * deltas
    assert credit * 0.25 < row["charge_nanos"] <= credit


def test_without_credit_there_is_no_session(talking: Gateway, live: RealtimeUpstream, someone: Someone) -> None:
    key, organization_id = someone(0)
    before = len(live.heard)

    async def talk() -> int:
        with pytest.raises(InvalidStatus) as refused:
            async with opened(talking, "live/ok", key):
                raise AssertionError("it was opened")
        return int(refused.value.response.status_code)

    assert run(talk()) == 402
    assert len(live.heard) == before
    assert settled(talking, organization_id, 0) == []


def test_while_voice_may_be_answered_a_slice_is_held_and_no_other(talking: Gateway, someone: Someone) -> None:
    key, organization_id = someone(DOLLAR)

    async def talk() -> list[int]:
        held = []
        async with opened(talking, "live/ok", key) as connection:
            client = Client(connection)
            await client.until("session.created")
            held.append(len(_holds(talking, organization_id)))
            await client.turn()
            await client.send("input_audio_buffer.clear")
            await client.until("input_audio_buffer.cleared")
            held.append(len(_holds(talking, organization_id)))
            await client.quiet()
            talking.upstream.wait(lambda: not _holds(talking, organization_id))
            await client.turn()
            await client.quiet()
            held.append(len(_holds(talking, organization_id)))
        return held

    assert run(talk()) == [1, 1, 0]
    assert len(settled(talking, organization_id, DOLLAR)) == 2


def test_a_slice_pays_for_what_the_session_may_answer_at_least(talking: Gateway, someone: Someone) -> None:
    key, organization_id = someone(DOLLAR)

    async def talk() -> tuple[int, int]:
        async with opened(talking, "live/ok", key) as connection:
            client = Client(connection)
            await client.until("session.created")
            standing = talking.installed.balance(organization_id)[1]
            await client.send("session.update", session={"type": "realtime", "max_output_tokens": 4000})
            await client.until("session.updated")
            await client.send("input_audio_buffer.clear")
            await client.until("input_audio_buffer.cleared")
            return standing, talking.installed.balance(organization_id)[1]

    standing, raised = run(talk())
    assert standing >= TYPICAL_TOKENS * RATES["audio_output"] * 1200
    assert raised - standing == (4000 - TYPICAL_TOKENS) * RATES["audio_output"] * 1200
    assert settled(talking, organization_id, DOLLAR) == []


def test_each_response_counts_in_the_callers_limits_and_a_refused_one_is_not_asked_for(
    talking: Gateway, live: RealtimeUpstream, someone: Someone
) -> None:
    key, organization_id = someone(DOLLAR)
    limit = Limit.objects.create(
        scope="organization", organization_id=organization_id, kind="requests_per_minute", amount=2
    )
    connections.close_all()
    talking.follow()

    async def talk() -> Client:
        async with opened(talking, "live/ok", key) as connection:
            client = Client(connection)
            await client.quiet()
            await client.turn()
            await client.turn()
            await client.send("response.create", event_id="third")
            await client.until("error")
            await client.quiet()
            return client

    client = run(talk())
    [error] = [event["error"] for event in client.events if event["type"] == "error"]
    assert (error["type"], error["code"], error["event_id"]) == ("rate_limit_exceeded", "requests_per_minute", "third")
    assert len(live.of("ok")[-1].of("response.create")) == 2
    assert len(settled(talking, organization_id, DOLLAR)) == 2
    limit.delete()
    connections.close_all()


def test_who_prepays_names_nothing_of_the_operators_account(
    talking: Gateway, live: RealtimeUpstream, someone: Someone
) -> None:
    async def talk(key: str) -> str:
        async with opened(talking, "live/ok", key) as connection:
            client = Client(connection)
            await client.until("session.created")
            await client.send("session.update", session={"type": "realtime", "prompt": {"id": "pmpt_1"}})
            await client.send("input_audio_buffer.clear")
            await client.until("input_audio_buffer.cleared")
            return client.kinds()[-2]

    assert run(talk(someone(DOLLAR)[0])) == "error"
    assert live.of("ok")[-1].of("session.update") == []
    assert run(talk(talking.installed.key)) == "session.updated"


def test_a_response_that_the_upstream_refuses_gives_its_slice_back(talking: Gateway, someone: Someone) -> None:
    key, organization_id = someone(DOLLAR)

    async def talk() -> None:
        async with opened(talking, "live/slow", key) as connection:
            client = Client(connection)
            await client.quiet()
            await client.send("response.create")
            await client.until("response.created")
            await client.send("response.create", event_id="again")
            error = await client.until("error")
            assert error["error"]["event_id"] == "again"
            await client.until("response.done")
            talking.upstream.wait(lambda: not _holds(talking, organization_id))

    run(talk())
    assert len(settled(talking, organization_id, DOLLAR)) == 1


def test_what_a_killed_process_left_is_settled_from_its_mark(
    talking: Gateway, engines: Path, bounds: dict[str, str], someone: Someone
) -> None:
    key, organization_id = someone(DOLLAR)
    environment = bounds | {"APERTURE_HOLD_LEASE_SECONDS": "2"}
    address = talking.installed.database_url

    async def talk(port: int, kill: Callable[[], None]) -> None:
        async with opened(talking, "live/steady", key, port=port) as connection:
            client = Client(connection)
            await client.until("session.created")
            await client.send("response.create")
            while client.kinds().count("response.output_audio.delta") < 40:
                await client.until("response.output_audio.delta")
            kill()

    with start_web("uvicorn", APPLICATION, engines, DATABASE_URL=address, **environment) as web:
        run(talk(web.port, lambda: web.signal(signal.SIGKILL)))
    assert charged(talking, organization_id) == []
    assert len(_holds(talking, organization_id)) == 1
    with start_web("uvicorn", APPLICATION, engines, DATABASE_URL=address, **environment):
        talking.upstream.wait(lambda: not _holds(talking, organization_id), 20)
    [row] = settled(talking, organization_id, DOLLAR)
    assert (row["status"], row["error_code"], row["usage_source"]) == (500, "gateway_lost", "partial")
    assert 0 < row["audio_tokens"] <= 2 * 40
    assert row["charge_nanos"] > 0


def test_a_server_that_stops_settles_what_was_delivered(
    talking: Gateway, engines: Path, bounds: dict[str, str], someone: Someone
) -> None:
    key, organization_id = someone(DOLLAR)

    async def talk(port: int, stop: Callable[[], None]) -> None:
        async with opened(talking, "live/slow", key, port=port) as connection:
            client = Client(connection)
            await client.quiet()
            await client.send("response.create")
            await client.until("response.output_text.delta")
            stop()
            await client.rest()

    began_at = time.monotonic()
    with start_web("uvicorn", APPLICATION, engines, DATABASE_URL=talking.installed.database_url, **bounds) as web:
        run(talk(web.port, web.signal))
        assert web.wait() == 0
    assert time.monotonic() - began_at < 20
    [row] = settled(talking, organization_id, DOLLAR)
    assert row["charge_nanos"] > 0
