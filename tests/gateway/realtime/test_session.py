"""A session from its handshake to its close, through real sockets."""

import asyncio
import base64
import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.gateway.conftest import Gateway
from tests.gateway.installation import CREDENTIAL
from tests.gateway.realtime.client import WHISPER_AUDIO, Client, opened, price, rows, run
from tests.gateway.watching import signed_in, watching
from tests.upstream.realtime import RealtimeUpstream

pytestmark = pytest.mark.server

SECOND = base64.b64encode(bytes(48_000)).decode()


@pytest.fixture(scope="module", params=["uvicorn", pytest.param("daphne", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> str:
    """Sockets are each server's own affair: both."""
    return str(request.param)


# --- Turns ------------------------------------------------------------------------------------------------------------
def test_a_turn_in_writing_is_relayed_and_charged_as_the_upstream_counts(
    talking: Gateway, live: RealtimeUpstream
) -> None:
    session_id = f"written-{talking.server}"

    async def talk() -> tuple[Client, dict[str, Any]]:
        async with opened(talking, "live/ok", headers={"x-session-id": session_id}) as connection:
            client = Client(connection)
            created = await client.until("session.created")
            assert created["session"]["model"] == "live/ok"
            assert connection.subprotocol == "realtime"
            await client.quiet()
            await client.said("What is the capital of Norway?")
            return client, await client.turn()

    client, done = run(talk())
    text = "".join(event["delta"] for event in client.events if event["type"] == "response.output_text.delta")
    assert text == "Hello from a script."
    [row] = rows(talking, session_id)
    assert (row["status"], row["dialect"], row["model"], row["usage_source"]) == (
        200,
        "realtime",
        "live/ok",
        "provider",
    )
    assert row["cost_nanos"] == price(done["usage"]) > 0
    assert (row["output_tokens"], row["audio_tokens"]) == (8, 0)
    assert live.of("ok")[-1].headers["authorization"] == f"Bearer {CREDENTIAL}"


def test_a_live_page_sees_a_response_from_its_start_to_its_cost(talking: Gateway) -> None:
    session_id = f"watched-{talking.server}"

    async def talk() -> None:
        async with opened(talking, "live/ok", headers={"x-session-id": session_id}) as connection:
            client = Client(connection)
            await client.quiet()
            await client.said("What is the capital of Norway?")
            await client.turn()

    alice = talking.installed.users["alice"]
    with watching(talking.port, signed_in(alice)) as page:
        page.kind("live")
        page.read_for(1.0)
        run(talk())
        [row] = rows(talking, session_id)
        finished = page.event(str(row["request_id"]))
        names = [event["event"] for event in page.events() if event["id"] == str(row["request_id"])]
    assert names == ["started", "finished"]
    assert (finished["model"], finished["session"], finished["status"]) == ("live/ok", session_id, 200)
    assert (finished["output_tokens"], finished["cost"]) == (8, f"{row['cost_nanos'] / 1e9:.9f}")


def test_voice_is_answered_without_being_asked_and_each_response_leaves_a_row(talking: Gateway) -> None:
    session_id = f"spoken-{talking.server}"

    async def talk() -> list[dict[str, Any]]:
        async with opened(talking, "live/ok", headers={"x-session-id": session_id}) as connection:
            client = Client(connection)
            await client.until("session.created")
            found = []
            for _ in range(2):
                await client.send("input_audio_buffer.append", audio=SECOND)
                found.append((await client.until("response.done"))["response"]["usage"])
            return found

    first, second = run(talk())
    assert second["input_token_details"]["cached_tokens_details"]["audio_tokens"] == 10
    found = rows(talking, session_id, 2)
    assert [row["cost_nanos"] for row in found] == [price(first), price(second)]
    assert [row["audio_tokens"] for row in found] == [10 + 8, 18 - 10 + 10 + 8]


def test_a_transcription_leaves_a_row_of_its_own(talking: Gateway) -> None:
    session_id = f"transcribed-{talking.server}"

    async def talk() -> None:
        async with opened(talking, "live/ok", headers={"x-session-id": session_id}) as connection:
            client = Client(connection)
            heard = {"turn_detection": None, "transcription": {"model": "gpt-4o-transcribe"}}
            await client.send("session.update", session={"type": "realtime", "audio": {"input": heard}})
            await client.until("session.updated")
            for _ in range(2):
                await client.send("input_audio_buffer.append", audio=SECOND)
                await client.send("input_audio_buffer.commit")
                await client.until("conversation.item.input_audio_transcription.completed")

    run(talk())
    found = rows(talking, session_id, 2)
    # 4 tokens of text and 10 of sound in, 6 of text out, at the session's own price.
    assert [row["cost_nanos"] for row in found] == [4 * 4000 + 10 * 32_000 + 6 * 16_000] * 2
    assert {row["usage_source"] for row in found} == {"provider"}


def test_a_transcription_costs_what_the_model_does_that_makes_it(talking: Gateway) -> None:
    session_id = f"whisper-{talking.server}"

    async def talk() -> None:
        async with opened(talking, "live/ok", headers={"x-session-id": session_id}) as connection:
            client = Client(connection)
            heard = {"turn_detection": None, "transcription": {"model": "whisper-1"}}
            await client.send("session.update", session={"type": "transcription", "audio": {"input": heard}})
            await client.until("session.updated")
            await client.send("input_audio_buffer.append", audio=SECOND)
            await client.send("input_audio_buffer.commit")
            await client.until("conversation.item.input_audio_transcription.completed")

    run(talk())
    [row] = rows(talking, session_id)
    # A second is ten tokens of sound.
    assert (row["audio_tokens"], row["cost_nanos"]) == (10, 10 * WHISPER_AUDIO * 1000)


def test_a_cancelled_response_is_charged_as_far_as_it_went(talking: Gateway) -> None:
    session_id = f"cancelled-{talking.server}"

    async def talk() -> dict[str, Any]:
        async with opened(talking, "live/slow", headers={"x-session-id": session_id}) as connection:
            client = Client(connection)
            await client.quiet()
            await client.send("response.create")
            await client.until("response.output_text.delta")
            await client.send("response.cancel")
            return dict((await client.until("response.done"))["response"])

    done = run(talk())
    assert done["status"] == "cancelled"
    [row] = rows(talking, session_id)
    assert (row["status"], row["cost_nanos"]) == (200, price(done["usage"]))


# --- Frames -----------------------------------------------------------------------------------------------------------
def test_frames_go_up_as_they_came_and_unknown_events_are_passed(talking: Gateway, live: RealtimeUpstream) -> None:
    odd = '{ "type" : "future.event", "event_id":"e1", "b":1, "a":[ 1,2 ], "text":"\\u00e9 é \U0001f3a4" }'

    async def talk() -> dict[str, Any]:
        async with opened(talking, "live/ok") as connection:
            client = Client(connection)
            await connection.send(odd)
            return dict((await client.until("error"))["error"])

    error = run(talk())
    assert (error["code"], error["event_id"]) == ("unknown_event", "e1")
    assert live.of("ok")[-1].frames == [odd]


def test_the_models_name_is_translated_both_ways_and_no_other_is_taken(
    talking: Gateway, live: RealtimeUpstream
) -> None:
    async def talk() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        async with opened(talking, "live/ok") as connection:
            client = Client(connection)
            await client.send("session.update", session={"type": "realtime", "model": "live/ok"})
            updated = await client.until("session.updated")
            await client.send("session.update", event_id="e7", session={"type": "realtime", "model": "live/cut"})
            refused = await client.until("error")
            escaped = '{"type":"session.update","session":{"\\u006dodel":"live/ok"}}'
            await connection.send(escaped)
            return updated, refused, await client.until("error")

    updated, refused, escaped = run(talk())
    assert updated["session"]["model"] == "live/ok"
    assert [event["session"]["model"] for event in live.of("ok")[-1].of("session.update")] == ["ok"]
    assert (refused["error"]["code"], refused["error"]["param"]) == ("invalid_parameter", "session.model")
    assert refused["error"]["event_id"] == "e7"
    assert escaped["error"]["code"] == "invalid_parameter"


def test_what_is_no_event_is_refused_and_the_session_goes_on(talking: Gateway, live: RealtimeUpstream) -> None:
    async def talk() -> Client:
        async with opened(talking, "live/ok") as connection:
            client = Client(connection)
            for frame in ("no json", "[1]", '{"type":7}', "\ud7ff"):
                await connection.send(frame)
                error = await client.until("error")
                assert error["error"]["code"] == "invalid_json"
            await client.quiet()
            return client

    assert run(talk()).kinds()[-1] == "session.updated"
    assert len(live.of("ok")[-1].frames) == 1


def test_of_the_callers_headers_only_listed_ones_reach_the_upstream(talking: Gateway, live: RealtimeUpstream) -> None:
    async def talk() -> str:
        sent = {"openai-beta": "realtime=v1", "x-private": "mine", "cookie": "a=b"}
        async with opened(talking, "live/ok", headers=sent) as connection:
            await Client(connection).until("session.created")
            assert connection.response is not None
            return connection.response.headers["x-aperture-upstream"]

    assert run(talk()) == "live"
    headers = live.of("ok")[-1].headers
    assert headers["openai-beta"] == "realtime=v1"
    assert headers["sec-websocket-protocol"] == "realtime"
    assert not {"x-private", "cookie", "sec-websocket-extensions", "content-type"} & headers.keys()
    assert talking.installed.key not in str(headers)


# --- Refused handshakes -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("", 400, "invalid_parameter"),
        ("live/none", 404, "model_not_found"),
        ("deaf/ok", 400, "unsupported_parameter"),
        ("live/status-401", 502, "upstream_credential"),
        ("live/status-429", 429, "rate_limit_exceeded"),
        ("live/status-500", 502, "upstream_failed"),
        ("refused/ok", 502, "upstream_unreachable"),
    ],
)
def test_a_session_that_cannot_be_is_refused_before_the_upgrade(
    talking: Gateway, model: str, status: int, code: str
) -> None:
    async def talk() -> Any:
        with pytest.raises(InvalidStatus) as refused:
            async with opened(talking, model):
                raise AssertionError("it was opened")
        return refused.value.response

    response = run(talk())
    error = json.loads(response.body)["error"]
    assert (response.status_code, error["code"]) == (status, code), error
    assert CREDENTIAL.encode() not in response.body
    assert (response.headers.get("retry-after") == "7") == (status == 429)
    if status in (429, 502):
        request_id = response.headers["x-aperture-request-id"]
        [row] = rows(talking, request_id)
        assert (row["status"], row["error_code"], row["cost_nanos"]) == (status, code, 0)


# --- Ends -------------------------------------------------------------------------------------------------------------
def test_the_clients_close_code_reaches_the_upstream(talking: Gateway, live: RealtimeUpstream) -> None:
    async def talk() -> None:
        async with opened(talking, "live/ok") as connection:
            await Client(connection).until("session.created")
            await connection.close(4000, "enough")

    run(talk())
    live.wait(lambda: live.of("ok")[-1].close_code is not None)
    assert live.of("ok")[-1].close_code == 4000


def test_the_upstreams_close_code_reaches_the_client(talking: Gateway) -> None:
    async def talk() -> int | None:
        async with opened(talking, "live/bye-4321") as connection:
            client = Client(connection)
            await client.quiet()
            await client.turn()
            return await client.rest()

    assert run(talk()) == 4321


def test_an_upstream_that_is_lost_is_told_and_what_it_said_is_charged(talking: Gateway) -> None:
    session_id = f"cut-{talking.server}"

    async def talk() -> tuple[Client, int | None]:
        async with opened(talking, "live/cut", headers={"x-session-id": session_id}) as connection:
            client = Client(connection)
            await client.until("session.created")
            await client.send("response.create")
            return client, await client.rest()

    client, code = run(talk())
    assert code == 1011
    assert client.events[-1]["error"]["type"] == "server_error"
    [row] = rows(talking, session_id)
    assert (row["status"], row["error_code"], row["usage_source"]) == (502, "stream_aborted", "partial")
    # Two words of six and eleven letters at most, and two tenths of a second.
    assert row["output_tokens"] == 3
    assert row["audio_tokens"] == 4
    assert row["cost_nanos"] > 0


def test_a_client_that_leaves_pays_for_what_it_got_and_leaves_no_hold(talking: Gateway, live: RealtimeUpstream) -> None:
    session_id = f"left-{talking.server}"

    async def talk() -> None:
        connection = await opened(talking, "live/slow", headers={"x-session-id": session_id})
        client = Client(connection)
        await client.quiet()
        await client.send("response.create")
        await client.until("response.output_text.delta")
        connection.transport.abort()

    run(talk())
    [row] = rows(talking, session_id)
    assert (row["status"], row["error_code"], row["usage_source"]) == (499, "client_closed", "partial")
    assert row["output_tokens"] >= 1
    live.wait(lambda: live.of("slow")[-1].close_code is not None)
    talking.upstream.wait(lambda: not talking.installed.query("SELECT 1 FROM billing_hold"))


def test_a_client_that_leaves_before_anything_was_said_pays_nothing(talking: Gateway) -> None:
    session_id = f"silent-{talking.server}"

    async def talk() -> None:
        async with opened(talking, "live/slow", headers={"x-session-id": session_id}) as connection:
            client = Client(connection)
            await client.quiet()
            await client.send("response.create")
            await client.until("response.created")

    run(talk())
    [row] = rows(talking, session_id)
    assert (row["status"], row["cost_nanos"], row["usage_source"]) == (499, 0, "none")


def test_binary_frames_end_the_session(talking: Gateway) -> None:
    async def send_one() -> int | None:
        async with opened(talking, "live/ok") as connection:
            client = Client(connection)
            await client.until("session.created")
            await connection.send(b"\x00\x01")
            return await client.rest()

    async def get_one() -> tuple[Client, int | None]:
        async with opened(talking, "live/binary") as connection:
            client = Client(connection)
            await client.quiet()
            await client.turn()
            return client, await client.rest()

    assert run(send_one()) == 1003
    client, code = run(get_one())
    assert code == 1011
    assert client.events[-1]["error"]["code"] == "upstream_lost"


# --- Upstreams that lie -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("script", "status", "source"),
    [
        ("lie-missing", 200, "estimate"),
        ("lie-negative", 200, "estimate"),
        ("lie-contradiction", 200, "estimate"),
        ("untold", 200, "provider"),
        ("twice", 200, "provider"),
        ("fail", 502, "none"),
    ],
)
def test_a_usage_that_cannot_be_true_is_an_estimate_and_a_failure_costs_nothing(
    talking: Gateway, script: str, status: int, source: str
) -> None:
    session_id = f"{script}-{talking.server}"

    async def talk() -> None:
        async with opened(talking, f"live/{script}", headers={"x-session-id": session_id}) as connection:
            client = Client(connection)
            await client.quiet()
            await client.said("Hello?")
            await client.turn()
            await client.quiet()
            await asyncio.sleep(0.05)

    run(talk())
    [row] = rows(talking, session_id)
    assert (row["status"], row["usage_source"]) == (status, source)
    assert (row["cost_nanos"] > 0) == (status == 200)
