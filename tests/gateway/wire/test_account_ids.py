"""What is kept in the operator's account is found wherever a vendor would look it up, and nowhere else."""

import json
from typing import Any

import pytest

from gateway.wire import account_ids, fields


def named(request: dict[str, Any], body: bytes | None = None) -> str | None:
    told = json.dumps(request).encode() if body is None else body
    return account_ids.named(told, fields.read(told))


def chat(*parts: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "x"}, {"role": role, "content": list(parts)} | more]}


def items(*found: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "input": list(found), **more}


def gemini(part: Any, **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [part]}], **more}


FILE = "https://generativelanguage.googleapis.com/v1beta/files/abc"
OURS: dict[str, tuple[dict[str, Any], str]] = {
    "a file in chat": (chat({"type": "file", "file": {"file_id": "f"}}), "messages[1].content[0].file.file_id"),
    "an answer's voice": (chat(role="assistant", audio={"id": "audio_1"}), "messages[1].audio"),
    "an image among items": (
        items({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}),
        "input[0].content[0].file_id",
    ),
    "a file in a tool's output": (
        items({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file", "file_id": "f"}]}),
        "input[0].output[0].file_id",
    ),
    "a reference": (items({"type": "item_reference", "id": "msg_1"}), "input[0]"),
    "a reference of no type": (items({"id": "msg_1"}), "input[0]"),
    "a reference of type null": (items({"type": None, "id": "msg_1", "status": None}), "input[0]"),
    "a search in files": (
        items(tools=[{"type": "file_search", "vector_store_ids": ["v"]}]),
        "tools[0].vector_store_ids",
    ),
    "a container of code": (items(tools=[{"type": "code_interpreter", "container": "c"}]), "tools[0].container"),
    "files of a container": (
        items(tools=[{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"]}}]),
        "tools[0].container.file_ids",
    ),
    "a kept prompt": (items(prompt={"id": "p"}), "prompt"),
    "a file of Anthropic": (
        chat({"type": "document", "source": {"type": "file", "file_id": "f"}}),
        "messages[1].content[0].source.file_id",
    ),
    "a file in a tool's result": (
        chat({"type": "tool_result", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}),
        "messages[1].content[0].content[0].source.file_id",
    ),
    "a container of Anthropic": (chat(container="c") | {"container": "c"}, "container"),
    "a customer's skill": (
        chat() | {"container": {"skills": [{"type": "custom", "skill_id": "s"}]}},
        "container.skills[0].skill_id",
    ),
    "a cache": (gemini({"text": "x"}, cachedContent="cachedContents/1"), "cachedContent"),
    "a cache in the other spelling": (gemini({"text": "x"}, cached_content="cachedContents/1"), "cached_content"),
    "a file of Google": (gemini({"fileData": {"fileUri": FILE}}), "contents[0].parts[0].fileData.fileUri"),
    "a file in the other spelling": (
        gemini({"file_data": {"file_uri": "files/abc"}}),
        "contents[0].parts[0].file_data.file_uri",
    ),
    "a file in a function's answer": (
        gemini({"functionResponse": {"name": "f", "parts": [{"fileData": {"fileUri": FILE}}]}}),
        "contents[0].parts[0].functionResponse.parts[0].fileData.fileUri",
    ),
}


@pytest.mark.parametrize("name", OURS)
def test_what_is_kept_in_the_account_is_found(name: str) -> None:
    request, path = OURS[name]
    assert named(request) == path


def test_a_name_in_escapes_is_found() -> None:
    body = json.dumps(OURS["a file in chat"][0]).replace("file_id", "file\\u005fid").encode()
    assert b"file_id" not in body
    assert named({}, body) == "messages[1].content[0].file.file_id"


@pytest.mark.parametrize(
    "request_",
    [
        chat({"type": "text", "text": 'the "file_id": "f" of a text, "audio"'}),
        chat(role="assistant", tool_calls=[{"function": {"name": "f", "arguments": '{"file_id":"f"}'}}]),
        chat(
            {"type": "tool_use", "id": "t", "name": "f", "input": {"file_id": "f", "container": "c"}}, role="assistant"
        ),
        chat() | {"tools": [{"name": "f", "input_schema": {"properties": {"file_id": {"type": "string"}}}}]},
        chat() | {"tools": [{"function": {"name": "f", "parameters": {"properties": {"file_id": {}}}}}]},
        chat() | {"audio": {"voice": "alloy", "format": "wav"}, "prompt": "x"},
        chat() | {"container": {"skills": [{"type": "anthropic", "skill_id": "pptx"}]}},
        items({"type": "message", "id": "msg_1", "role": "user", "content": "x"}, prompt=None),
        items({"id": "msg_1", "role": "user", "content": 'an {"id": "x"} in a text, vector_store_ids'}),
        items({"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": '{"container":"x"}'}),
        items(tools=[{"type": "code_interpreter", "container": {"type": "auto"}}]),
        gemini({"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}}),
        gemini({"functionCall": {"name": "f", "args": {"fileUri": FILE}}}),
        gemini({"functionResponse": {"name": "f", "response": {"fileUri": FILE}}}, cachedContent=None),
        {"model": "m", "prompt": "file_id"},
    ],
)
def test_what_is_the_callers_own_is_left(request_: dict[str, Any]) -> None:
    assert named(request_) is None


def test_deep_json_is_walked_without_the_stack() -> None:
    deep: Any = {"file_id": "f"}
    for _ in range(fields.DEPTH_MAX - 10):
        deep = [deep]
    assert (named(chat(deep)) or "").endswith(".file_id")
