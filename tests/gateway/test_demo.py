"""The demo upstream answers OpenAI's own client over a real socket, and nobody without its credential."""

import asyncio
import base64
import json
import math
import socket
import struct
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from django.conf import settings
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from gateway import asgi, demo

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
        },
    },
}
QUESTION: ChatCompletionMessageParam = {"role": "user", "content": "What is the weather in Paris?"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The demo upstream on a port of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(demo.app, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    until = time.monotonic() + 10
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/demo/v1"
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address, api_key=settings.DEMO_SECRET, max_retries=0) as made:
        yield made


def post(address: str, path: str, body: Any) -> httpx.Response:
    return httpx.post(address + path, json=body, headers={"Authorization": f"Bearer {settings.DEMO_SECRET}"})


def test_it_lists_its_models_and_shows_one(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo-chat", "demo-embed"]
    assert client.models.retrieve("demo-chat").owned_by == "aperture"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def test_it_quotes_the_last_user_message_and_counts_tokens(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="demo-chat", messages=[QUESTION], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert "What is the weather in Paris?" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 20


def test_the_same_request_has_the_same_answer(client: openai.OpenAI) -> None:
    first, second = (client.chat.completions.create(model="demo-chat", messages=[QUESTION]) for _ in range(2))
    assert (first.id, first.choices) == (second.id, second.choices)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_it_stops_at_the_limit(client: openai.OpenAI, field: str) -> None:
    answer = client.chat.completions.create(model="demo-chat", messages=[QUESTION], extra_body={field: 3})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_a_stream_folds_to_the_whole_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="demo-chat", messages=[QUESTION])
    chunks = list(
        client.chat.completions.create(
            model="demo-chat", messages=[QUESTION], stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert len(chunks) > 5
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_a_stream_shows_usage_only_when_asked_and_ends_with_done(address: str) -> None:
    answer = post(address, "/chat/completions", {"model": "demo-chat", "messages": [QUESTION], "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all("usage" not in json.loads(event.removeprefix("data: ")) for event in events[:-2])


def test_it_calls_the_first_tool_then_answers_with_its_result(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="demo-chat", messages=[QUESTION], tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls"
    message = first.choices[0].message
    assert message.tool_calls
    call = message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris", "unit": "celsius"}
    second = client.chat.completions.create(
        model="demo-chat",
        messages=[
            QUESTION,
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {"name": call.function.name, "arguments": call.function.arguments},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"},
        ],
        tools=[WEATHER],
    )
    assert second.choices[0].message.content == "The tool answered: 21 degrees"


def test_a_tool_call_streams_to_the_same_arguments(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="demo-chat", messages=[QUESTION], tools=[WEATHER]) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls
    assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Paris", "unit": "celsius"}


def test_tool_choice_names_the_tool_or_forbids_all(client: openai.OpenAI) -> None:
    other: ChatCompletionToolParam = {"type": "function", "function": {"name": "now"}}
    named = client.chat.completions.create(
        model="demo-chat",
        messages=[QUESTION],
        tools=[WEATHER, other],
        tool_choice={"type": "function", "function": {"name": "now"}},
    )
    calls = named.choices[0].message.tool_calls
    assert calls
    assert calls[0].type == "function"
    assert (calls[0].function.name, calls[0].function.arguments) == ("now", "{}")
    none = client.chat.completions.create(model="demo-chat", messages=[QUESTION], tools=[WEATHER], tool_choice="none")
    assert none.choices[0].message.tool_calls is None


def test_json_is_written_where_json_is_wanted(client: openai.OpenAI) -> None:
    free = client.chat.completions.create(
        model="demo-chat", messages=[QUESTION], response_format={"type": "json_object"}
    )
    assert "answer" in json.loads(free.choices[0].message.content or "")
    schema: dict[str, object] = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "degrees": {"type": "integer", "minimum": -5, "maximum": 0}},
        "required": ["city", "degrees"],
    }
    bound = client.chat.completions.create(
        model="demo-chat",
        messages=[QUESTION],
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": schema}},
    )
    assert json.loads(bound.choices[0].message.content or "") == {"city": "Paris", "degrees": 0}


def test_embeddings_are_unit_vectors_alike_for_like_texts(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(
        model="demo-embed", input=["the cat sleeps", "a cat sleeps", "tax law"], encoding_format="float"
    )
    cat, like, other = (row.embedding for row in answer.data)
    assert len(cat) == 256
    assert math.isclose(math.hypot(*cat), 1.0)
    assert sum(map(float.__mul__, cat, like)) > 0.5 > sum(map(float.__mul__, cat, other))
    assert answer.usage.prompt_tokens == 8


def test_embeddings_come_as_base64_of_the_same_floats(client: openai.OpenAI, address: str) -> None:
    # The client asks for base64 unless told otherwise, and decodes it.
    decoded = client.embeddings.create(model="demo-embed", input="hello", dimensions=8).data[0].embedding
    plain = post(address, "/embeddings", {"model": "demo-embed", "input": "hello", "dimensions": 8})
    coded = post(
        address,
        "/embeddings",
        {"model": "demo-embed", "input": "hello", "dimensions": 8, "encoding_format": "base64"},
    )
    floats = struct.unpack("<8f", base64.b64decode(coded.json()["data"][0]["embedding"]))
    assert decoded == list(floats) == pytest.approx(plain.json()["data"][0]["embedding"])


def test_token_ids_are_embedded_too(address: str) -> None:
    answer = post(address, "/embeddings", {"model": "demo-embed", "input": [[1, 2, 3], [4]]})
    assert answer.status_code == 200
    assert answer.json()["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/chat/completions", {"messages": []}, "messages"),
        ("/chat/completions", {"messages": [{"role": "king", "content": "x"}]}, "messages[0]"),
        ("/chat/completions", {"messages": [{"role": "user", "content": 5}]}, "messages[0]"),
        ("/chat/completions", {"messages": [QUESTION], "n": 0}, "n"),
        ("/chat/completions", {"messages": [QUESTION], "max_tokens": "many"}, "max_tokens"),
        ("/chat/completions", {"messages": [QUESTION], "tools": [{"type": "function"}]}, "tools"),
        (
            "/chat/completions",
            {"messages": [QUESTION], "tools": [WEATHER], "tool_choice": {"function": {"name": "x"}}},
            "tool_choice",
        ),
        ("/chat/completions", {"messages": [QUESTION], "response_format": {"type": "xml"}}, "response_format"),
        ("/embeddings", {"input": []}, "input"),
        ("/embeddings", {"input": [""]}, "input"),
        ("/embeddings", {"input": "x", "dimensions": 0}, "dimensions"),
        ("/embeddings", {"input": "x", "encoding_format": "hex"}, "encoding_format"),
    ],
)  # fmt: skip
def test_bad_input_names_the_field(address: str, path: str, body: dict[str, Any], param: str) -> None:
    model = "demo-chat" if path.startswith("/chat") else "demo-embed"
    answer = post(address, path, {"model": model, **body})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_other_mistakes_have_openais_statuses(address: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist here"):
        client.chat.completions.create(model="gpt-4o", messages=[QUESTION])
    bearer = {"Authorization": f"Bearer {settings.DEMO_SECRET}"}
    assert post(address, "/audio/speech", {}).status_code == 404
    wrong = httpx.get(f"{address}/embeddings", headers=bearer)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    for body in (b"{", b"[]", b"\xff"):
        assert httpx.post(f"{address}/embeddings", content=body, headers=bearer).status_code == 400
    large = httpx.post(f"{address}/embeddings", content=b" " * (demo.BODY_BYTES_MAX + 1), headers=bearer)
    assert large.status_code == 400


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer"}])
def test_nobody_else_gets_in(address: str, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{address}/models", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_without_the_demo_nothing_is_there(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DEMO = False
    journal = SimpleNamespace(loop=asyncio.get_running_loop())
    monkeypatch.setattr(asgi.lifecycle, "current", lambda: SimpleNamespace(journal=journal))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    authorization = (b"authorization", f"Bearer {settings.DEMO_SECRET}".encode())
    scope = {"type": "http", "method": "GET", "path": "/demo/v1/models", "headers": [authorization]}
    await asgi.application(scope, receive, send)
    assert sent[0]["status"] == 404
    assert json.loads(sent[1]["body"])["error"]["code"] == "not_found"
