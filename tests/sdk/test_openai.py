"""The `openai` package pointed at the gateway: what an application for OpenAI does, and how it sees failures."""

import asyncio
import json
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.gateway.conftest import Gateway
from tests.upstream import answers

pytestmark = pytest.mark.server

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module", params=["daphne", pytest.param("uvicorn", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> str:
    """An SDK must not notice which server answers."""
    return str(request.param)


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[OpenAI]:
    """A client as the documentation shows it."""
    with client_of(gateway, gateway.installed.key) as made:
        yield made


def client_of(gateway: Gateway, key: str) -> OpenAI:
    """Return a client with another key. Retries are off: a failure is to be seen, not waited for."""
    return OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/api/v1", api_key=key, max_retries=0, timeout=10)


def test_models_are_listed_and_looked_up_by_ids_with_slashes(client: OpenAI) -> None:
    listed = {model.id for model in client.models.list()}

    assert {"chaos/ok", "chaos/repeats"} <= listed
    found = client.models.retrieve("chaos/ok")
    assert (found.id, found.object, found.owned_by) == ("chaos/ok", "model", "chaos")


def test_a_chat_is_completed(client: OpenAI) -> None:
    completion = client.chat.completions.create(model="chaos/ok", messages=HELLO)

    assert completion.choices[0].message.content == answers.TEXT
    assert completion.model == "chaos/ok"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (11, 7)


def test_an_alias_stays_the_name_that_was_asked_for(client: OpenAI) -> None:
    assert client.chat.completions.create(model="nickname", messages=HELLO).model == "nickname"
    stream = client.chat.completions.create(model="nickname", messages=HELLO, stream=True)
    assert {chunk.model for chunk in stream} == {"nickname"}


@pytest.mark.parametrize("scenario", ["ok", "cut-1"])
def test_a_chat_is_streamed(client: OpenAI, scenario: str) -> None:
    stream = client.chat.completions.create(model=f"chaos/{scenario}", messages=HELLO, stream=True)
    chunks = list(stream)

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.startswith("Grüße ") or text == answers.TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_tells_its_usage_to_those_who_ask(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="chaos/ok", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *_, last = stream

    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 18


def test_a_tool_is_called(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="chaos/tool-call",
        messages=HELLO,
        tools=[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
    )

    [call] = completion.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Köln"})
    assert completion.choices[0].finish_reason == "tool_calls"


def test_a_streamed_tool_call_is_put_together(client: OpenAI) -> None:
    with client.chat.completions.stream(model="chaos/tool-call", messages=HELLO) as stream:
        completion = stream.get_final_completion()

    [call] = completion.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"city": "Köln"}


def test_texts_are_embedded(client: OpenAI) -> None:
    """The SDK asks for base64 by itself, and decodes it."""
    default = client.embeddings.create(model="chaos/ok", input=["a", "b"])
    floats = client.embeddings.create(model="chaos/ok", input="a", encoding_format="float")
    base64 = client.embeddings.create(model="chaos/ok", input="a", encoding_format="base64")
    texts: list[object] = [each.embedding for each in base64.data]

    assert [each.embedding for each in default.data] == [[0.5, -0.25, 0.125, 1.0]] * 2
    assert floats.data[0].embedding == [0.5, -0.25, 0.125, 1.0]
    assert [type(text) for text in texts] == [str]
    assert floats.model == "chaos/ok"


ERRORS: list[tuple[str, type[openai.APIStatusError], str]] = [
    ("status-400-json", openai.BadRequestError, "upstream_400"),
    ("status-404-json", openai.NotFoundError, "upstream_404"),
    ("status-409-json", openai.ConflictError, "upstream_409"),
    ("status-422-json", openai.UnprocessableEntityError, "upstream_422"),
    ("status-429-json", openai.RateLimitError, "upstream_429"),
    ("status-401-json", openai.InternalServerError, "upstream_credential"),
    ("status-500-html", openai.InternalServerError, "upstream_failed"),
    ("reset-before-head", openai.InternalServerError, "upstream_unreachable"),
    ("silent", openai.InternalServerError, "upstream_timeout"),
    ("no-such-model", openai.NotFoundError, "model_not_found"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("scenario", "kind", "code"), ERRORS)
def test_a_failure_is_the_exception_that_the_sdk_has_for_it(
    client: OpenAI, scenario: str, kind: type[openai.APIStatusError], code: str, stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=f"chaos/{scenario}", messages=HELLO, stream=stream)

    assert caught.value.code == code
    assert caught.value.response.headers["x-aperture-request-id"]


def test_keys_that_are_not_good_and_models_that_are_not_allowed(gateway: Gateway) -> None:
    with client_of(gateway, "sg-wrong") as client, pytest.raises(openai.AuthenticationError) as wrong:
        client.models.list()
    with client_of(gateway, gateway.installed.keys["charlie"]) as client, pytest.raises(openai.PermissionDeniedError):
        client.models.list()
    with client_of(gateway, gateway.installed.keys["limited"]) as client, pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="chaos/repeats", messages=HELLO)

    assert wrong.value.code == "invalid_api_key"


@pytest.mark.parametrize("scenario", ["reset-mid-3", "error-mid-stream", "stall-mid-stream"])
def test_a_stream_that_breaks_is_an_exception_and_not_an_end(client: OpenAI, scenario: str) -> None:
    stream = client.chat.completions.create(model=f"chaos/{scenario}", messages=HELLO, stream=True)
    received = []
    with pytest.raises(openai.APIError):
        for chunk in stream:
            received.append(chunk)

    assert len(received) == 3


async def test_the_asynchronous_client_streams_side_by_side(gateway: Gateway) -> None:

    base_url = f"http://127.0.0.1:{gateway.port}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key=gateway.installed.key, max_retries=0) as client:

        async def text() -> str:
            stream = await client.chat.completions.create(model="chaos/drip-0.1", messages=HELLO, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        texts = await asyncio.gather(*(text() for _ in range(10)))

    assert set(texts) == {"".join(answers.pieces(5))}
