"""Clients without a command line: what Cursor, Continue's editors and OpenClaw send, in the shapes they send it in."""

import json
from typing import Any

import pytest

from tests.gateway import http
from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.server

TEXT = "Grüße, 世界 👋🏽!"
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def chunks(answer: http.Answer) -> list[dict[str, Any]]:
    """Return the chunks of a streamed chat that came to its end."""
    assert answer.status == 200, answer.body
    events = [event for event in answer.body.decode().split("\n\n") if event.startswith("data: ")]
    assert events[-1] == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]


def said(found: list[dict[str, Any]]) -> str:
    """Return the text of a streamed chat."""
    return "".join(choice["delta"].get("content") or "" for chunk in found for choice in chunk["choices"])


def calls(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the calls of a streamed chat: name and arguments."""
    made: dict[int, list[str]] = {}
    for chunk in found:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls") or []:
                inner = call.get("function") or call["custom"]
                name, told = made.setdefault(call["index"], ["", ""])
                piece = inner.get("arguments", inner.get("input")) or ""
                made[call["index"]] = [name or inner.get("name") or "", told + piece]
    return [(name, told) for name, told in made.values()]


def post(gateway: Gateway, body: dict[str, Any]) -> http.Answer:
    return gateway.call("POST", "/api/v1/chat/completions", body=json.dumps(body).encode())


# --- Cursor -----------------------------------------------------------------------------------------------------------
CURSORS = ("openai/gpt-5.2", "anthropic/claude-sonnet-4.6", "google/gemini-3.5-flash", "deepseek/deepseek-chat")


def test_verify_of_cursor_finds_the_models_of_the_page(populated: Gateway) -> None:
    listed = populated.call("GET", "/api/v1/models")
    assert listed.status == 200
    found = {model["id"] for model in listed.json["data"]}
    assert {
        "openai/gpt-5.2",
        "anthropic/claude-sonnet-4.6",
        "google/gemini-3.5-flash",
        "deepseek/deepseek-chat",
    } <= found


@pytest.mark.parametrize("model", CURSORS)
def test_a_chat_of_cursor(populated: Gateway, model: str) -> None:
    messages = [{"role": "system", "content": "You edit."}, {"role": "user", "content": "Hello"}]
    asked = {"model": model, "temperature": 0, "stream": True, "user": "u", "messages": messages}
    assert said(chunks(post(populated, asked | {"stream_options": {"include_usage": True}}))) == TEXT


def agent_request(vendor: str, *items: dict[str, Any]) -> dict[str, Any]:
    """Return what Cursor's agent posts to the chat's address: a request of the Responses API."""
    return {
        "model": f"{vendor}/agent",
        "input": [
            {"role": "system", "content": "You are an agent."},
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            *items,
        ],
        "tools": [
            {"type": "function", **WEATHER, "strict": False},
            {"type": "custom", "name": "ApplyPatch", "description": "Edits files", "format": {"type": "text"}},
        ],
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "medium", "summary": "auto"},
        "text": {"verbosity": "low"},
        "stream_options": {"include_usage": True},
        "prompt_cache_retention": "24h",
        "metadata": {"cursorConversationId": "c"},
    }


@pytest.mark.parametrize("vendor", ["chat", "responses", "messages", "gemini"])
def test_the_agent_of_cursor_asks_in_responses_words_and_reads_chats(populated: Gateway, vendor: str) -> None:
    first = chunks(post(populated, agent_request(vendor)))
    assert calls(first) == [("get_weather", '{"city":"Köln"}')]
    assert first[-1]["usage"]["completion_tokens"] > 0
    [id] = [
        call["id"]
        for chunk in first
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls") or []
        if call.get("id")
    ]
    items = (
        {"type": "function_call", "call_id": id, "name": "get_weather", "arguments": '{"city":"Köln"}'},
        {"type": "function_call_output", "call_id": id, "output": "sunny"},
    )
    assert said(chunks(post(populated, agent_request(vendor, *items)))) == "The tool said: sunny"


# --- Continue in an editor, with its config.json ----------------------------------------------------------------------
@pytest.mark.parametrize("model", ["openai/gpt-5.2", "anthropic/claude-sonnet-4.6"])
def test_a_chat_of_continue(populated: Gateway, model: str) -> None:
    content = [{"type": "text", "text": "Hello"}]
    asked = {
        "messages": [{"role": "user", "content": content}],
        "model": model,
        "max_tokens": 4096,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": WEATHER}],
        "parallel_tool_calls": False,
    }
    assert calls(chunks(post(populated, asked))) == [("get_weather", '{"city":"Köln"}')]


# --- OpenClaw ---------------------------------------------------------------------------------------------------------
def test_a_turn_of_openclaw(populated: Gateway) -> None:
    tool = {"type": "function", "function": {**WEATHER, "strict": False}}
    messages: list[dict[str, Any]] = [
        {"role": "developer", "content": "You are a personal assistant."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
    ]
    asked = {
        "model": "openai/gpt-5.2",
        "stream": True,
        "stream_options": {"include_usage": True},
        "store": False,
        "max_completion_tokens": 8192,
        "tools": [tool],
        "reasoning_effort": "low",
    }
    first = chunks(post(populated, asked | {"messages": messages}))
    assert calls(first) == [("get_weather", '{"city":"Köln"}')]
    call = {"id": "call_0", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Köln"}'}}
    messages += [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sunny", "tool_call_id": "call_0"},
    ]
    assert said(chunks(post(populated, asked | {"messages": messages}))) == "The tool said: sunny"
