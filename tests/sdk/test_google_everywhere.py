"""The `google-genai` package on every kind of upstream: contents whole and streamed, chats that call functions."""

from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from google.genai.chats import Chat
from pydantic import BaseModel

from tests.gateway.conftest import Gateway
from tests.sdk import vendors
from tests.upstream.turn import THOUGHT

pytestmark = pytest.mark.server

TEXT = "Grüße, 世界 👋🏽!"
PIXEL = b"\x89PNG\r\n\x1a\n" + b"\0" * 60
TWICE = "The weather in two cities? Say it twice, think aloud."
THINKING = types.ThinkingConfig(include_thoughts=True, thinking_level=types.ThinkingLevel.LOW)
DECLARED = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="get_weather",
            description="The weather of a city",
            parameters=types.Schema(
                type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}, required=["city"]
            ),
        )
    ]
)
WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[genai.Client]:
    """The package, pointed here."""
    vendors.install(gateway.installed, gateway.upstream.base_url)
    gateway.follow()
    made = client_of(gateway, gateway.installed.key)
    yield made
    made.close()


def client_of(gateway: Gateway, key: str) -> genai.Client:
    """Return a client with a key."""
    return genai.Client(
        api_key=key,
        vertexai=False,
        http_options=types.HttpOptions(base_url=f"http://127.0.0.1:{gateway.port}", timeout=20_000),
    )


@pytest.fixture(params=vendors.VENDORS)
def vendor(request: pytest.FixtureRequest) -> str:
    """Whose dialect the upstream speaks."""
    return str(request.param)


def said(client: genai.Client, streamed: bool, model: str, contents: Any, **config: Any) -> list[types.Part]:
    """Return the parts of an answer, however it comes; the pieces of a stream stay apart."""
    asked: Any = {"model": model, "contents": contents, "config": types.GenerateContentConfig(**config)}
    answers = client.models.generate_content_stream(**asked) if streamed else [client.models.generate_content(**asked)]
    return [part for answer in answers for part in parts_of(answer)]


def parts_of(answer: types.GenerateContentResponse) -> list[types.Part]:
    """Return the parts of one answer, or of one piece of a stream."""
    candidates = answer.candidates or []
    content = candidates[0].content if candidates else None
    return (content.parts if content else None) or []


def text_of(parts: list[types.Part]) -> str:
    """Return what is said, without thoughts."""
    return "".join(part.text for part in parts if part.text and not part.thought)


def results(parts: list[types.Part], result: Any = "sunny") -> types.Content:
    """Return the answer to every call among PARTS."""
    calls = [part.function_call for part in parts if part.function_call]
    responses = [types.FunctionResponse(id=call.id, name=call.name, response={"result": result}) for call in calls]
    return types.Content(role="user", parts=[types.Part(function_response=response) for response in responses])


# --- Text -------------------------------------------------------------------------------------------------------------
def test_contents(client: genai.Client, vendor: str) -> None:
    answer = client.models.generate_content(
        model=f"{vendor}/agent",
        contents="Hello",
        config=types.GenerateContentConfig(
            system_instruction="Be kind.", max_output_tokens=100, temperature=0.5, stop_sequences=["END"]
        ),
    )
    assert isinstance(answer, types.GenerateContentResponse)
    assert answer.text == TEXT
    assert answer.model_version == f"{vendor}/agent"
    assert answer.response_id
    [candidate] = answer.candidates or []
    assert (candidate.finish_reason, candidate.index or 0) == (types.FinishReason.STOP, 0)
    assert candidate.content is not None
    assert candidate.content.role == "model"
    usage = answer.usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (11, 3)
    assert (usage.candidates_token_count, usage.total_token_count) == (7, 18)


def test_contents_as_a_stream(client: genai.Client, vendor: str) -> None:
    pieces = list(client.models.generate_content_stream(model=f"{vendor}/agent", contents="Hello"))
    assert len(pieces) > 1
    assert "".join(piece.text or "" for piece in pieces) == TEXT
    assert {piece.model_version for piece in pieces} == {f"{vendor}/agent"}
    assert len({piece.response_id for piece in pieces}) == 1
    last = pieces[-1]
    assert [candidate.finish_reason for candidate in last.candidates or []] == [types.FinishReason.STOP]
    assert last.usage_metadata is not None
    assert (last.usage_metadata.prompt_token_count, last.usage_metadata.total_token_count) == (11, 18)


# The package's own session is what aiohttp advises against.
@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
async def test_the_asynchronous_client(client: genai.Client, gateway: Gateway, vendor: str) -> None:
    async with client_of(gateway, gateway.installed.key).aio as alone:
        answer = await alone.models.generate_content(model=f"{vendor}/agent", contents="Hello")
        assert answer.text == TEXT
        stream = await alone.models.generate_content_stream(model=f"{vendor}/agent", contents="Hello")
        assert "".join([piece.text or "" async for piece in stream]) == TEXT


@WAYS
def test_an_answer_that_was_cut_by_its_length(client: genai.Client, vendor: str, streamed: bool) -> None:
    asked: Any = {"model": f"{vendor}/length", "contents": "x"}
    if streamed:
        *_, last = client.models.generate_content_stream(**asked)
    else:
        last = client.models.generate_content(**asked)
    assert [candidate.finish_reason for candidate in last.candidates or []] == [types.FinishReason.MAX_TOKENS]


@WAYS
def test_an_answer_that_was_refused(client: genai.Client, vendor: str, streamed: bool) -> None:
    asked: Any = {"model": f"{vendor}/refuses", "contents": "x"}
    if streamed:
        *_, last = client.models.generate_content_stream(**asked)
    else:
        last = client.models.generate_content(**asked)
    assert [candidate.finish_reason for candidate in last.candidates or []] == [types.FinishReason.SAFETY]


@WAYS
def test_thoughts(client: genai.Client, vendor: str, streamed: bool) -> None:
    parts = said(client, streamed, f"{vendor}/agent", "Hello", thinking_config=THINKING)
    assert "".join(part.text or "" for part in parts if part.thought) == "".join(THOUGHT)
    assert text_of(parts) == TEXT


# --- Tools ------------------------------------------------------------------------------------------------------------
@WAYS
def test_a_loop_of_tools(client: genai.Client, vendor: str, streamed: bool) -> None:
    contents: list[Any] = [types.Content(role="user", parts=[types.Part(text=TWICE)])]
    config: dict[str, Any] = {"tools": [DECLARED], "thinking_config": THINKING}
    parts = said(client, streamed, f"{vendor}/agent-strict", contents, **config)
    calls = [part.function_call for part in parts if part.function_call]
    assert [(call.name, call.args) for call in calls] == [("get_weather", {"city": "Köln"})] * 2
    contents += [types.Content(role="model", parts=parts), results(parts)]
    final = said(client, streamed, f"{vendor}/agent-strict", contents, **config)
    assert "The tool said: sunny" in text_of(final)


@WAYS
def test_a_chat_that_calls_functions_by_itself(client: genai.Client, vendor: str, streamed: bool) -> None:
    chat = client.chats.create(
        model=f"{vendor}/agent-strict",
        config=types.GenerateContentConfig(tools=[get_weather], thinking_config=THINKING),
    )
    assert "The tool said: sunny in Köln" in sent(chat, streamed, TWICE)
    # The second turn has to take all of the first along.
    assert "The tool said: sunny in Köln" in sent(chat, streamed, "Once more?")
    assert [content.role for content in chat.get_history()].count("user") == 4


def sent(chat: Chat, streamed: bool, message: str) -> str:
    """Return what a chat answers."""
    if not streamed:
        return text_of(parts_of(chat.send_message(message)))
    return text_of([part for piece in chat.send_message_stream(message) for part in parts_of(piece)])


@WAYS
@pytest.mark.parametrize("mode", ["ANY", "NONE"])
def test_whether_a_function_has_to_be_called(client: genai.Client, vendor: str, streamed: bool, mode: str) -> None:
    choice = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode(mode))
    parts = said(
        client,
        streamed,
        f"{vendor}/agent",
        "Hello",
        tools=[DECLARED],
        tool_config=types.ToolConfig(function_calling_config=choice),
    )
    assert [part.function_call.name for part in parts if part.function_call] == (
        ["get_weather"] if mode == "ANY" else []
    )


# --- Structured output ------------------------------------------------------------------------------------------------
def test_structured_contents(client: genai.Client, vendor: str) -> None:
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    answer = client.models.generate_content(model=f"{vendor}/agent", contents="A city", config=config)
    assert answer.parsed == City(name="Köln", people=7)


def test_structured_contents_by_a_json_schema(client: genai.Client, vendor: str) -> None:
    config = types.GenerateContentConfig(
        response_mime_type="application/json", response_json_schema=City.model_json_schema()
    )
    answer = client.models.generate_content(model=f"{vendor}/agent", contents="A city", config=config)
    assert City.model_validate_json(answer.text or "") == City(name="Köln", people=7)


def test_structured_contents_as_a_stream(client: genai.Client, vendor: str) -> None:
    parts = said(client, True, f"{vendor}/agent", "A city", response_mime_type="application/json", response_schema=City)
    assert City.model_validate_json(text_of(parts)) == City(name="Köln", people=7)


# --- Images -----------------------------------------------------------------------------------------------------------
@WAYS
def test_a_picture(client: genai.Client, vendor: str, streamed: bool) -> None:
    contents = [types.Part.from_bytes(data=PIXEL, mime_type="image/png"), "What?"]
    assert text_of(said(client, streamed, f"{vendor}/agent", contents)) == "I see image/png of 68 bytes"


# --- Errors -----------------------------------------------------------------------------------------------------------
@WAYS
@pytest.mark.parametrize(
    ("status", "kind", "name"),
    [
        (400, errors.ClientError, "INVALID_ARGUMENT"),
        (429, errors.ClientError, "RESOURCE_EXHAUSTED"),
        (500, errors.ServerError, "INTERNAL"),
    ],
)
def test_an_error(
    client: genai.Client, vendor: str, status: int, kind: type[errors.APIError], name: str, streamed: bool
) -> None:
    with pytest.raises(kind) as caught:
        said(client, streamed, f"{vendor}/status-{status}-json", "x")
    assert (caught.value.code, caught.value.status) == (502 if status == 500 else status, name)
    assert caught.value.message
    assert "canary" not in str(caught.value.details)


def test_a_stream_that_breaks_is_an_exception_and_not_an_end(client: genai.Client, vendor: str) -> None:
    with pytest.raises(errors.APIError) as caught:
        said(client, True, f"{vendor}/error-mid-stream", "x")
    assert "canary" not in str(caught.value.details)


def test_a_model_that_does_not_exist(client: genai.Client) -> None:
    with pytest.raises(errors.ClientError, match="nobody/nothing") as caught:
        said(client, False, "nobody/nothing", "x")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


def test_a_key_that_is_unknown(client: genai.Client, gateway: Gateway) -> None:
    stranger = client_of(gateway, "sk-unknown")
    with pytest.raises(errors.ClientError) as caught:
        said(stranger, False, "gemini/agent", "x")
    stranger.close()
    assert (caught.value.code, caught.value.status) == (401, "UNAUTHENTICATED")


# --- What goes with it ------------------------------------------------------------------------------------------------
def test_tokens_are_counted(client: genai.Client, vendor: str) -> None:
    counted = client.models.count_tokens(model=f"{vendor}/agent", contents="Hello, how are you?")
    assert counted.total_tokens is not None
    assert counted.total_tokens > 5


def test_models_are_listed_and_looked_up(client: genai.Client, vendor: str) -> None:
    assert f"models/{vendor}/agent" in {model.name for model in client.models.list()}
    found = client.models.get(model=f"{vendor}/agent")
    assert (found.name, found.display_name) == (f"models/{vendor}/agent", f"{vendor}/agent")
    assert found.supported_actions == ["generateContent", "streamGenerateContent", "countTokens"]


@WAYS
def test_a_conversation_whose_model_is_switched(client: genai.Client, streamed: bool) -> None:
    """All that the models before said, thoughts and calls included, goes with it to the next vendor and back."""
    contents: list[Any] = []
    config: dict[str, Any] = {"tools": [DECLARED], "thinking_config": THINKING}
    for vendor in ("gemini", "chat", "messages", "responses", "gemini"):
        contents.append(types.Content(role="user", parts=[types.Part(text=TWICE)]))
        parts = said(client, streamed, f"{vendor}/agent-strict", contents, **config)
        contents += [types.Content(role="model", parts=parts), results(parts)]
        final = said(client, streamed, f"{vendor}/agent-strict", contents, **config)
        assert "The tool said: sunny" in text_of(final), vendor
        contents.append(types.Content(role="model", parts=final))
