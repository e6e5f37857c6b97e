"""The `openai` package on every kind of upstream: chat completions and Responses, whole and streamed."""

import base64
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.gateway.conftest import Gateway
from tests.sdk import vendors

pytestmark = pytest.mark.server

TEXT = "Grüße, 世界 👋🏽!"
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 60).decode()
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
FLAT_TOOL: Any = {"type": "function", **TOOL["function"], "strict": False}


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> OpenAI:
    """The package, pointed here."""
    vendors.install(gateway.installed, gateway.upstream.base_url)
    gateway.follow()
    return OpenAI(api_key=gateway.installed.key, base_url=f"http://127.0.0.1:{gateway.port}/api/v1", max_retries=0)


@pytest.fixture(params=vendors.VENDORS)
def vendor(request: pytest.FixtureRequest) -> str:
    """Whose dialect the upstream speaks."""
    return str(request.param)


# --- Chat completions -------------------------------------------------------------------------------------------------
def test_a_chat(client: OpenAI, vendor: str) -> None:
    answer = client.chat.completions.create(
        model=f"{vendor}/agent",
        messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}],
    )
    assert (answer.model, answer.choices[0].finish_reason) == (f"{vendor}/agent", "stop")
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_a_chat_as_a_stream(client: OpenAI, vendor: str) -> None:
    with client.chat.completions.stream(
        model=f"{vendor}/agent",
        messages=[{"role": "user", "content": "Hello"}],
        stream_options={"include_usage": True},
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    assert "".join(event.delta for event in events if event.type == "content.delta") == TEXT
    assert final.choices[0].message.content == TEXT
    assert final.usage is not None
    assert final.model == f"{vendor}/agent"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_loop_of_tools_in_a_chat(client: OpenAI, vendor: str, streamed: bool) -> None:
    messages: list[Any] = [{"role": "user", "content": "The weather in two cities? Say it twice, think aloud."}]
    asked: dict[str, Any] = {"model": f"{vendor}/agent", "tools": [TOOL], "reasoning_effort": "low"}
    if streamed:
        with client.chat.completions.stream(messages=messages, **asked) as stream:
            message: Any = stream.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(messages=messages, **asked).choices[0].message
    assert [call.function.name for call in message.tool_calls] == ["get_weather"] * 2
    assert message.tool_calls[0].function.arguments == '{"city":"Köln"}'
    assert len({call.id for call in message.tool_calls} - {""}) == 2
    messages.append(message.model_dump(exclude_none=True))
    for call in message.tool_calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    final = client.chat.completions.create(messages=messages, **asked)
    assert "The tool said: sunny" in (final.choices[0].message.content or "")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_structured_chat(client: OpenAI, vendor: str, streamed: bool) -> None:
    asked: dict[str, Any] = {"model": f"{vendor}/agent", "messages": [{"role": "user", "content": "A city"}]}
    if streamed:
        with client.chat.completions.stream(response_format=City, **asked) as stream:
            parsed = stream.get_final_completion().choices[0].message.parsed
    else:
        parsed = client.chat.completions.parse(response_format=City, **asked).choices[0].message.parsed
    assert parsed == City(name="Köln", people=7)


def test_a_picture_in_a_chat(client: OpenAI, vendor: str) -> None:
    answer = client.chat.completions.create(
        model=f"{vendor}/agent",
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": PIXEL}}],
            }
        ],
    )
    assert answer.choices[0].message.content == "I see image/png of 68 bytes"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, openai.BadRequestError), (429, openai.RateLimitError), (500, openai.InternalServerError)],
)
def test_an_error_of_a_chat(
    client: OpenAI, vendor: str, status: int, kind: type[openai.APIStatusError], streamed: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(
            model=f"{vendor}/status-{status}-json", messages=[{"role": "user", "content": "x"}], stream=streamed
        )
    assert caught.value.status_code == (502 if status == 500 else status)
    assert "canary" not in str(caught.value.body)


@pytest.mark.parametrize("scenario", ["error-mid-stream", "reset-mid-3"])
def test_a_stream_that_breaks_is_an_exception_and_not_an_end(client: OpenAI, vendor: str, scenario: str) -> None:
    with (
        pytest.raises(openai.APIError) as caught,
        client.chat.completions.stream(
            model=f"{vendor}/{scenario}", messages=[{"role": "user", "content": "x"}]
        ) as stream,
    ):
        stream.get_final_completion()
    assert "canary" not in str(caught.value.body)


# --- Responses --------------------------------------------------------------------------------------------------------
def test_a_response(client: OpenAI, vendor: str) -> None:
    answer = client.responses.create(model=f"{vendor}/agent", instructions="Be kind.", input="Hello")
    assert (answer.model, answer.status, answer.output_text) == (f"{vendor}/agent", "completed", TEXT)
    assert answer.usage is not None
    assert answer.usage.output_tokens > 0


def test_a_response_as_a_stream(client: OpenAI, vendor: str) -> None:
    with client.responses.stream(model=f"{vendor}/agent", input="Hello") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert final.output_text == TEXT
    assert final.model == f"{vendor}/agent"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_loop_of_tools_in_responses(client: OpenAI, vendor: str, streamed: bool) -> None:
    items: list[Any] = [{"role": "user", "content": "The weather in two cities? Say it twice, think aloud."}]
    asked: dict[str, Any] = {
        "model": f"{vendor}/agent",
        "tools": [FLAT_TOOL],
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    }
    if streamed:
        with client.responses.stream(input=items, **asked) as stream:
            answer: Any = stream.get_final_response()
    else:
        answer = client.responses.create(input=items, **asked)
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [(call.name, call.arguments) for call in calls] == [("get_weather", '{"city":"Köln"}')] * 2
    assert len({call.call_id for call in calls} - {""}) == 2
    items += [item.model_dump(exclude_none=True) for item in answer.output]
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
    assert "The tool said: sunny" in client.responses.create(input=items, **asked).output_text


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_structured_response(client: OpenAI, vendor: str, streamed: bool) -> None:
    asked: dict[str, Any] = {"model": f"{vendor}/agent", "input": "A city"}
    if streamed:
        with client.responses.stream(text_format=City, **asked) as stream:
            parsed = stream.get_final_response().output_parsed
    else:
        parsed = client.responses.parse(text_format=City, **asked).output_parsed
    assert parsed == City(name="Köln", people=7)


def test_a_picture_in_responses(client: OpenAI, vendor: str) -> None:
    content: Any = [{"type": "input_text", "text": "What?"}, {"type": "input_image", "image_url": PIXEL}]
    answer = client.responses.create(model=f"{vendor}/agent", input=[{"role": "user", "content": content}])
    assert answer.output_text == "I see image/png of 68 bytes"


@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_of_responses(client: OpenAI, vendor: str, status: int) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.responses.create(model=f"{vendor}/status-{status}-json", input="x")
    assert caught.value.status_code == (502 if status == 500 else status)


def test_an_answer_that_was_cut_by_its_length(client: OpenAI, vendor: str) -> None:
    chat = client.chat.completions.create(model=f"{vendor}/length", messages=[{"role": "user", "content": "x"}])
    assert chat.choices[0].finish_reason == "length"
    response = client.responses.create(model=f"{vendor}/length", input="x")
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
