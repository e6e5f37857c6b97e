"""The `openai` package's own realtime client, through the gateway."""

import base64
import json
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from tests.gateway.conftest import Gateway
from tests.gateway.realtime.client import run

pytestmark = pytest.mark.server

TOOL: Any = {
    "type": "function",
    "name": "weather",
    "description": "Tell the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture(scope="module", params=["uvicorn", pytest.param("daphne", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> str:
    """Both servers."""
    return str(request.param)


def client_of(gateway: Gateway) -> AsyncOpenAI:
    """Return the package's client, pointed at the gateway."""
    return AsyncOpenAI(
        api_key=gateway.installed.key,
        base_url=f"http://127.0.0.1:{gateway.port}/v1",
        websocket_base_url=f"ws://127.0.0.1:{gateway.port}/v1",
    )


async def until(connection: AsyncRealtimeConnection, kind: str) -> list[Any]:
    """Return the events up to the first of a type."""
    found = []
    async for event in connection:
        found.append(event)
        if event.type == kind:
            return found
    raise AssertionError(f"closed before {kind}: {[each.type for each in found]}")


def test_a_turn_in_writing(talking: Gateway) -> None:
    async def talk() -> tuple[str, Any]:
        async with client_of(talking) as client, client.realtime.connect(model="live/ok") as connection:
            await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
            content: Any = [{"type": "input_text", "text": "Say hello!"}]
            await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
            await connection.response.create()
            found = await until(connection, "response.done")
            text = "".join(event.delta for event in found if event.type == "response.output_text.delta")
            return text, found[-1].response

    text, response = run(talk())
    assert text == "Hello from a script."
    assert (response.status, response.usage.output_tokens) == ("completed", 8)


def test_a_turn_in_sound(talking: Gateway) -> None:
    async def talk() -> list[Any]:
        async with client_of(talking) as client, client.realtime.connect(model="live/ok") as connection:
            await connection.input_audio_buffer.append(audio=base64.b64encode(bytes(48_000)).decode())
            return await until(connection, "response.done")

    found = run(talk())
    kinds = [event.type for event in found]
    assert "input_audio_buffer.speech_started" in kinds
    sound = b"".join(base64.b64decode(event.delta) for event in found if event.type == "response.output_audio.delta")
    assert len(sound) == 4 * 4_800
    assert found[0].session.model == "live/ok"


def test_a_function_call_and_its_answer(talking: Gateway) -> None:
    async def talk() -> tuple[Any, str]:
        async with client_of(talking) as client, client.realtime.connect(model="live/ok") as connection:
            await connection.session.update(
                session={"type": "realtime", "tools": [TOOL], "output_modalities": ["text"]}
            )
            await connection.response.create()
            [called] = [
                event
                for event in await until(connection, "response.done")
                if event.type == "response.function_call_arguments.done"
            ]
            output: Any = {"type": "function_call_output", "call_id": called.call_id, "output": '{"degrees":7}'}
            await connection.conversation.item.create(item=output)
            await connection.response.create()
            found = await until(connection, "response.done")
            return called, "".join(event.delta for event in found if event.type == "response.output_text.delta")

    called, text = run(talk())
    assert (called.name, json.loads(called.arguments)) == ("weather", {"city": "Oslo"})
    assert text == "Hello from a script."


def test_an_error_is_an_event_and_the_session_goes_on(talking: Gateway) -> None:
    async def talk() -> Any:
        async with client_of(talking) as client, client.realtime.connect(model="live/ok") as connection:
            await connection.session.update(session={"type": "realtime", "model": "live/cut"})
            error = (await until(connection, "error"))[-1].error
            await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
            await until(connection, "session.updated")
            return error

    error = run(talk())
    assert (error.code, error.param) == ("invalid_parameter", "session.model")
