"""The `openai` package's own client of Responses over a WebSocket, on every kind of upstream."""

import asyncio
from collections.abc import Iterator

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.lib.responses_websocket import (
    AsyncResponsesWebSocketSession,
    ResponsesWebSocketError,
    ResponsesWebSocketLimits,
)
from openai.types.responses import Response, ResponsesClientEventParam

from tests.gateway import fronts
from tests.gateway.conftest import Gateway
from tests.gateway.fronts import FRONTS, TEXT

pytestmark = pytest.mark.server

LIMITS = ResponsesWebSocketLimits(
    max_lanes=8,
    max_events_per_lane=128,
    max_events=512,
    max_bytes_per_lane=1 << 20,
    max_bytes=1 << 22,
    max_response_bytes=None,
)


@pytest.fixture(scope="module", params=["daphne", pytest.param("uvicorn", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> str:
    """An SDK must not notice which server answers."""
    return str(request.param)


@pytest.fixture(scope="module", autouse=True)
def vendors(gateway: Gateway) -> None:
    """Four providers of one dialect each."""
    fronts.install(gateway)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    """A client as the documentation shows it."""
    with OpenAI(base_url=address(gateway), api_key=gateway.installed.key, max_retries=0, timeout=10) as made:
        yield made


def address(gateway: Gateway) -> str:
    """Return the API's base URL."""
    return f"http://127.0.0.1:{gateway.port}/v1"


# How the package's synchronous client connects is deprecated by the newest `websockets`.
@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")
@pytest.mark.parametrize("vendor", FRONTS)
def test_a_conversation_over_one_connection(client: OpenAI, gateway: Gateway, vendor: str) -> None:
    with client.responses.connect() as connection:

        def ask(words: str, previous_id: str | None, *, generate: bool = True) -> Response:
            connection.response.create(
                model=f"{vendor}/agent", store=False, input=words, previous_response_id=previous_id, generate=generate
            )
            for event in connection:
                assert event.type not in ("error", "response.failed"), event
                if event.type == "response.completed":
                    return event.response
            raise AssertionError("The connection ended before the response.")

        warm = ask("known beforehand", None, generate=False)
        assert (warm.output, warm.status) == ([], "completed")
        first = ask("hello", warm.id)
        second = ask("and again", first.id)
    assert (first.output_text, second.output_text) == (TEXT, TEXT)
    got = gateway.upstream.exchanges[-1].body.decode()
    assert all(words in got for words in ("known beforehand", "hello", "and again"))


@pytest.mark.parametrize("vendor", FRONTS)
async def test_lanes_of_a_session_run_beside_each_other_and_fork(gateway: Gateway, vendor: str) -> None:
    def asked(words: str, previous_id: str | None = None) -> ResponsesClientEventParam:
        return {
            "type": "response.create",
            "model": f"{vendor}/agent",
            "input": words,
            "store": False,
            "previous_response_id": previous_id,
        }

    async with (
        AsyncOpenAI(base_url=address(gateway), api_key=gateway.installed.key, max_retries=0) as client,
        client.responses.connect() as connection,
        AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
    ):
        planner, research, critic = (session.lane(name) for name in ("planner", "research", "critic"))
        await planner.send(asked("draft a plan"))
        await research.send(asked("list the risks"))
        plan, risks = await asyncio.gather(planner.get_final_response(), research.get_final_response())
        assert (plan.output_text, risks.output_text) == (TEXT, TEXT)

        await critic.send(asked("find gaps", plan.id))
        assert (await critic.get_final_response()).output_text == TEXT
        await critic.send(asked("nothing", "resp_unknown"))
        with pytest.raises(ResponsesWebSocketError) as failed:
            await critic.get_final_response()
        assert "previous_response_not_found" in failed.value.event.to_json()
