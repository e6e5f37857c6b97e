"""The scripted upstream itself: four vendors' shapes, judged without the gateway's codecs, partly by their own SDKs."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.upstream.server import ScriptedUpstream

pytestmark = pytest.mark.server
HEADERS = {"authorization": "Bearer k", "x-api-key": "k", "x-goog-api-key": "k", "anthropic-version": "2023-06-01"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}
PIXEL = "iVBORw0KGgo="


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def client(upstream: ScriptedUpstream) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=upstream.base_url, headers=HEADERS, trust_env=False) as made:
        yield made


def chat(*messages: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", {"model": "agent", "messages": list(messages), **more}


def responses(*items: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"model": "agent", "input": list(items), "store": False, **more}


def messages(*turns: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/messages?beta=true", {"model": "agent", "max_tokens": 4096, "messages": list(turns), **more}


def gemini(*contents: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1beta/models/agent:generateContent", {"contents": list(contents), **more}


def post(client: httpx.Client, asked: tuple[str, dict[str, Any]], status: int = 200) -> Any:
    answer = client.post(asked[0], json=asked[1])
    assert answer.status_code == status, answer.text
    return answer.json()


ASK = {"role": "user", "content": "weather?"}
ASK_GEMINI = {"role": "user", "parts": [{"text": "weather?"}]}


def test_a_tool_loop_in_chat(client: httpx.Client) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    called = post(client, chat(ASK, tools=tools))["choices"][0]
    assert called["finish_reason"] == "tool_calls"
    call = called["message"]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"city": "Köln"}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    said = post(client, chat(ASK, called["message"] | {"reasoning_content": None}, result, tools=tools))
    assert said["choices"][0]["message"]["content"] == "The tool said: sunny"
    refused = post(client, chat(ASK, result), 400)
    assert "must be a response to" in refused["error"]["message"]
    assert "did not have response messages" in post(client, chat(ASK, called["message"]), 400)["error"]["message"]


def test_a_tool_loop_with_signed_thoughts_in_messages(client: httpx.Client) -> None:
    more = {
        "tools": [{"name": "weather", "input_schema": SCHEMA}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    called = post(client, messages(ASK, **more))
    assert [block["type"] for block in called["content"]] == ["thinking", "tool_use"]
    assert called["stop_reason"] == "tool_use"
    thought, call = called["content"]
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "sunny"}]}
    answered = {"role": "user", "content": [result]}

    def again(*content: Any) -> tuple[str, dict[str, Any]]:
        return messages(ASK, {"role": "assistant", "content": list(content)}, answered, **more)

    assert post(client, again(thought, call))["content"][1]["text"] == "The tool said: sunny"
    assert "Invalid `signature`" in post(client, again({**thought, "signature": "x"}, call), 400)["error"]["message"]
    assert "Expected `thinking`" in post(client, again(call), 400)["error"]["message"]
    assert "unexpected `tool_use_id`" in post(client, messages(ASK, answered), 400)["error"]["message"]


def test_a_tool_loop_with_encrypted_reasoning_in_responses(client: httpx.Client) -> None:
    tools = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
    more = {"tools": tools, "reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"]}
    thought, call = post(client, responses(ASK, **more))["output"]
    assert (thought["type"], call["type"]) == ("reasoning", "function_call")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    said = post(client, responses(ASK, thought, call, result, **more))
    assert said["output"][-1]["content"][0]["text"] == "The tool said: sunny"
    spoilt = {**thought, "encrypted_content": "x"}
    refused = post(client, responses(ASK, spoilt, call, result, **more), 400)["error"]
    assert refused["code"] == "invalid_encrypted_content"
    assert "No tool call found" in post(client, responses(ASK, result), 400)["error"]["message"]
    assert "No tool output found" in post(client, responses(ASK, call), 400)["error"]["message"]
    assert "required following item" in post(client, responses(thought, ASK), 400)["error"]["message"]


def test_a_tool_loop_with_signed_calls_in_gemini(client: httpx.Client) -> None:
    tools = [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": SCHEMA}]}]
    content = post(client, gemini(ASK_GEMINI, tools=tools))["candidates"][0]["content"]
    call = content["parts"][0]
    assert call["functionCall"] == {"name": "weather", "args": {"city": "Köln"}}
    response = {"functionResponse": {"name": "weather", "response": {"output": "sunny"}}}
    answered = {"role": "user", "parts": [response]}

    def again(part: Any, model: str = "agent") -> tuple[str, dict[str, Any]]:
        path, body = gemini(ASK_GEMINI, {"role": "model", "parts": [part]}, answered, tools=tools)
        return path.replace("agent", model), body

    said = post(client, again(call))["candidates"][0]["content"]["parts"]
    assert said == [{"text": "The tool said: sunny"}]
    assert "not valid" in post(client, again({**call, "thoughtSignature": "x"}), 400)["error"]["message"]
    bare = {"functionCall": call["functionCall"]}
    assert "missing a thought_signature" in post(client, again(bare, "agent-strict"), 400)["error"]["message"]
    assert post(client, again(bare))["candidates"][0]["finishReason"] == "STOP"
    assert "equal to the number" in post(client, gemini(ASK_GEMINI, answered), 400)["error"]["message"]
    parameters = [{"functionDeclarations": [{"name": "weather", "parameters": SCHEMA}]}]
    refused = post(client, gemini(ASK_GEMINI, tools=parameters), 400)["error"]
    assert (refused["status"], "additionalProperties" in refused["message"]) == ("INVALID_ARGUMENT", True)


JSON_SCHEMA = {"type": "json_schema", "schema": SCHEMA}
STRUCTURED = {
    "chat": chat(ASK, response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}),
    "responses": responses(ASK, text={"format": {"name": "place", **JSON_SCHEMA}}),
    "messages": messages(ASK, output_config={"format": JSON_SCHEMA}),
    "gemini": gemini(
        ASK_GEMINI, generationConfig={"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    ),
}
PICTURED = {
    "chat": chat(
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]}
    ),
    "responses": responses(
        {"role": "user", "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}]}
    ),
    "messages": messages(
        {
            "role": "user",
            "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}],
        }
    ),
    "gemini": gemini({"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}]}),
}


@pytest.mark.parametrize("asked", STRUCTURED.values(), ids=STRUCTURED)
def test_an_answer_in_a_schema(client: httpx.Client, asked: tuple[str, dict[str, Any]]) -> None:
    assert '{\\"city\\":\\"Köln\\"}' in json.dumps(post(client, asked), ensure_ascii=False)


@pytest.mark.parametrize("asked", PICTURED.values(), ids=PICTURED)
def test_a_picture_is_seen(client: httpx.Client, asked: tuple[str, dict[str, Any]]) -> None:
    assert "image/png of 8 bytes" in json.dumps(post(client, asked))


@pytest.mark.parametrize(
    "asked", [messages(ASK, n=2), gemini(ASK_GEMINI, n=2), chat(ASK, top_k=1), responses(ASK, stop="x")]
)
def test_what_a_vendor_does_not_know_is_refused(client: httpx.Client, asked: tuple[str, dict[str, Any]]) -> None:
    assert "error" in post(client, asked, 400)


def lines(client: httpx.Client, path: str, body: dict[str, Any]) -> list[Any]:
    text = client.post(path, json=body).text
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def test_the_order_of_messages_events(client: httpx.Client) -> None:
    path, body = messages(ASK, stream=True, thinking={"type": "enabled", "budget_tokens": 1024})
    kinds = [event["type"] for event in lines(client, path, body)]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    once = [kind for kind, _ in itertools.groupby(kind for kind in kinds if kind != "ping")]
    assert once == ["message_start", *block, *block, "message_delta", "message_stop"]


def test_responses_events_are_numbered_and_end_with_the_whole(client: httpx.Client) -> None:
    path, body = responses(ASK, stream=True, reasoning={"effort": "low"})
    events = lines(client, path, body)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    body["stream"] = False
    assert events[-1]["response"] == post(client, (path, body))


def test_openai_s_own_client_accumulates_both_of_its_streams(upstream: ScriptedUpstream) -> None:
    with openai.OpenAI(base_url=upstream.base_url + "/v1", api_key="k") as client:
        with client.responses.stream(model="agent", input="hi", reasoning={"effort": "low"}) as stream:
            assert stream.get_final_response().output_text == "Grüße, 世界 👋🏽!"
        with client.chat.completions.stream(model="agent", messages=[{"role": "user", "content": "hi"}]) as chunks:
            assert chunks.get_final_completion().choices[0].message.content == "Grüße, 世界 👋🏽!"


def test_gemini_streams_as_events_and_as_an_array(client: httpx.Client) -> None:
    _, body = gemini(ASK_GEMINI)
    path = "/v1beta/models/agent:streamGenerateContent"
    events = lines(client, path + "?alt=sse", body)
    assert "\r\n\r\n" in client.post(path + "?alt=sse", json=body).text
    assert client.post(path, json=body).json() == events
    assert "".join(event["candidates"][0]["content"]["parts"][0]["text"] for event in events) == "Grüße, 世界 👋🏽!"


ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "responses": ("/v1/responses", {"input": "hi", "stream": True}),
    "messages": ("/v1/messages", {"max_tokens": 9, "messages": [ASK], "stream": True}),
    "gemini": ("/v1beta/models/{}:streamGenerateContent?alt=sse", {"contents": [ASK_GEMINI]}),
}


@pytest.mark.parametrize("dialect", ROUTES)
def test_errors_in_each_vendor_s_shape(client: httpx.Client, dialect: str) -> None:
    path, body = ROUTES[dialect]

    def of(scenario: str) -> tuple[str, dict[str, Any]]:
        return path.format(scenario), body if dialect == "gemini" else {"model": scenario, **body}

    error = post(client, of("status-429-json"), 429)["error"]
    assert error["message"].startswith("scripted 429")
    assert (
        client.post(of("status-503-html")[0], json=of("status-503-html")[1])
        .headers["content-type"]
        .startswith("text/html")
    )
    events = lines(client, *of("error-mid-stream"))
    assert "scripted error" in json.dumps(events[-1])
    assert len(events) > 2
    assert client.post(of("no-such")[0], json=of("no-such")[1]).status_code == 404


def test_counts_and_embeddings(client: httpx.Client) -> None:
    assert post(client, ("/v1/messages/count_tokens", {"model": "agent", "messages": [ASK]}))["input_tokens"] > 1
    _, body = gemini(ASK_GEMINI)
    assert post(client, ("/v1beta/models/agent:countTokens", body))["totalTokens"] > 1
    one = {"content": ASK_GEMINI}
    assert len(post(client, ("/v1beta/models/e:embedContent", one))["embedding"]["values"]) == 4
    many = post(client, ("/v1beta/models/e:batchEmbedContents", {"requests": [one, one]}))
    assert len(many["embeddings"]) == 2
