"""What callers of this dialect ask for, however they write it; and what is wrong is named."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.canonical import (
    Audio,
    CustomTool,
    Image,
    Inline,
    Reasoning,
    Request,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    Url,
)
from gateway.wire.codec import Reply, Unreadable
from gateway.wire.fields import InvalidRequest
from gateway.wire.openai_chat import DIALECT
from gateway.wire.usage import Tokens

HI = [{"role": "user", "content": "Hi"}]


def parsed(**fields: Any) -> Request:
    body = json.dumps({"model": "m", "messages": HI} | fields).encode()
    return DIALECT.parse_request(DIALECT.read(body, None, None))


def user(*parts: Any) -> tuple[Any, ...]:
    return parsed(messages=[{"role": "user", "content": list(parts)}]).messages[0].parts


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({}, None),
        ({"reasoning_effort": None, "reasoning": None, "thinking": None}, None),
        ({"reasoning_effort": "minimal"}, Reasoning("minimal")),
        ({"reasoning": {"effort": "high", "exclude": True}}, Reasoning("high", None, "none")),
        ({"reasoning": {"max_tokens": 2000, "summary": "auto"}}, Reasoning(None, 2000, "auto")),
        ({"reasoning": {"enabled": True, "exclude": False}}, Reasoning("medium")),
        ({"reasoning": {"enabled": False}}, Reasoning("none")),
        ({"reasoning": {"enabled": "x"}}, None),
        ({"thinking": {"type": "disabled"}}, Reasoning("none")),
        ({"thinking": {"type": "enabled"}}, Reasoning(None, -1)),
        ({"thinking": {"type": "enabled", "budget_tokens": 5000}}, Reasoning(None, 5000)),
        ({"thinking": "yes", "reasoning": 7}, None),
    ],
)
def test_reasoning_has_many_names(fields: Any, reasoning: Reasoning | None) -> None:
    assert parsed(**fields).reasoning == reasoning


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("any", ToolChoice("required")),
        ({"type": "auto"}, ToolChoice("auto")),
        ({"type": "tool", "name": "f"}, ToolChoice("required", ("f",))),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("required", ("f",))),
        ({"type": "allowed_tools", "tools": [{"type": "function", "name": "f"}]}, ToolChoice("auto", ("f",))),
    ],
)
def test_tool_choice_has_many_forms(choice: Any, expected: ToolChoice) -> None:
    assert parsed(tool_choice=choice).tool_choice == expected


def test_tools_are_read_as_other_apis_write_them() -> None:
    tools = [
        {"name": "f", "description": None, "parameters": {"type": "object"}, "strict": None},
        {"type": "custom", "name": "p", "format": {"type": "text"}},
    ]
    found = parsed(tools=tools, functions=None).tools
    assert found == (Tool("f", parameters={"type": "object"}), CustomTool("p", format={"type": "text"}))


def test_parts_are_read_as_clients_write_them() -> None:
    assert user("a", {"text": "b"}, {"type": "input_text", "text": "c"}) == (Text("a"), Text("b"), Text("c"))
    assert user({"type": "image_url", "image_url": "https://example.com/a.png"}) == (
        Image(Url("https://example.com/a.png")),
    )
    assert user({"type": "image_url", "image_url": {"url": "data:image/png;x=y;base64,AA=="}}) == (
        Image(Inline("image/png", "AA==")),
    )
    assert user({"type": "image_url", "image_url": {"url": "data:,a%20b"}}) == (Image(Inline("text/plain", "YSBi")),)
    assert user({"type": "input_audio", "input_audio": {"data": "AA==", "format": None}}) == (
        Audio(Inline("", "AA==")),
    )
    assert parsed(messages=[{"role": "user", "content": {"type": "text", "text": "x"}}]).messages[0].parts == (
        Text("x"),
    )


def test_thoughts_among_the_parts_of_a_content_are_thoughts() -> None:
    said = [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}, {"type": "text", "text": "b"}]
    found = parsed(messages=[{"role": "assistant", "content": said}])
    assert found.messages[0].parts == (Thinking("a"), Text("b"))


def test_a_tool_s_result_may_hold_pictures() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    found = parsed(messages=[{"role": "tool", "tool_call_id": "c", "content": [picture]}])
    assert found.messages[0].parts == (ToolResult("c", (Image(Url("https://example.com/a.png")),)),)
    odd = [{"type": "thinking", "thinking": "a"}, {"type": "refusal", "refusal": "b"}]
    odd_result = parsed(messages=[{"role": "tool", "tool_call_id": "c", "content": odd}]).messages[0].parts
    assert odd_result == (ToolResult("c", (Text("a"), Text("b"))),)
    nameless = parsed(messages=[{"role": "tool", "content": "x"}]).messages[0].parts
    assert nameless == (ToolResult("call_0_0", (Text("x"),)),)


def test_fields_are_read_as_clients_write_them() -> None:
    found = parsed(
        stop=None,
        top_k=5.0,
        temperature=1,
        user=None,
        safety_identifier="s",
        metadata={"a": 1},
        modalities=["text"],
        response_format="text",
        logit_bias={},
        seed=None,
        stream_options={"include_usage": True, "x": 1},
        x=[1],
    )
    assert (found.stop, found.top_k, found.temperature, found.user) == ((), 5, 1, "s")
    assert (found.metadata, found.modalities, found.output, found.logit_bias) == ({"a": "1"}, (), None, None)
    assert found.extensions == {"x": [1], "stream_options": {"x": 1}}
    assert parsed(response_format={"type": "json_schema", "json_schema": {}}).output is not None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"role": "robot"}]}, "messages[0].role"),
        ({"messages": [{"role": 7}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:x"}]}]},
            "messages[0].content[0].image_url.url",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "messages[0].content[0].file"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
            "messages[0].content[0].file.file_data",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": "x"}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].function"),
        ({"tools": "x"}, "tools"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tools": [{"type": 7}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "custom": 7}]}, "tools[0].custom"),
        ({"tools": [{"type": "function", "function": 7}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 7}}]}, "tools[0].function.parameters"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": ["a"]}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools.tools"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": 7}}, "tool_choice.allowed_tools.tools"),
        ({"tool_choice": {"type": "allowed_tools", "tools": [7]}}, "tool_choice.allowed_tools.tools[0]"),
        ({"function_call": 7}, "function_call"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 7}}},
            "response_format.json_schema.schema",
        ),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning": {"effort": 7}}, "reasoning.effort"),
        ({"stop": 7}, "stop"),
        ({"stop": [7]}, "stop"),
        ({"logit_bias": {"a": "b"}}, "logit_bias"),
        ({"metadata": 7}, "metadata"),
        ({"parallel_tool_calls": 7}, "parallel_tool_calls"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"seed": 1.5}, "seed"),
        ({"user": 7}, "user"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(**fields)
    assert (refused.value.code, refused.value.param) == ("invalid_parameter", param)
    assert param in str(refused.value)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "name", "text", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
NAMES = st.sampled_from(
    [
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "response_format",
        "reasoning",
        "thinking",
        "stop",
        "metadata",
        "logit_bias",
        "modalities",
        "user",
        "seed",
        "unknown",
    ]
)


@given(st.dictionaries(NAMES, ODD, max_size=4), ODD)
def test_whatever_comes_is_read_or_refused(fields: dict[str, Any], content: Any) -> None:
    try:
        request = parsed(
            **fields, messages=[*HI, {"role": "assistant", "content": content}, {"role": "tool", "content": content}]
        )
    except InvalidRequest as refused:
        assert refused.param
    else:
        assert json.loads(DIALECT.render_request(request, "up", 5).body)["max_tokens"] == 5


# --- What passes through --------------------------------------------------------------------------------------------
def test_a_path_goes_before_the_body() -> None:
    asked = DIALECT.read(b'{"messages":[]}', "m", True)
    assert (asked.model, asked.stream) == ("m", True)
    passed = DIALECT.passed(asked, "up", ("max_tokens", 3))
    assert passed.path == "/v1/chat/completions"
    assert json.loads(passed.body)["max_tokens"] == 3


def test_what_is_read_of_a_whole_answer() -> None:
    data = b'{"model":"up","usage":{"prompt_tokens":1,"completion_tokens":2},"service_tier":"flex"}'
    assert DIALECT.read_answer(data).usage == Tokens(input=1, output=2, service_tier="flex")
    assert DIALECT.read_answer(b'{"error":{}}').is_error
    assert DIALECT.read_answer(b'{"usage":null}').usage is None
    assert json.loads(DIALECT.renamed(data, "mine", b"0.5"))["usage"]["cost"] == 0.5
    assert DIALECT.renamed(data, "mine", None) == data.replace(b'"up"', b'"mine"')
    for rubbish in (b"{", b'{"x":"\xff"}', b"[" * 9999, b"[]"):
        with pytest.raises(Unreadable):
            DIALECT.read_answer(rubbish)


def test_a_relay_keeps_the_end_back_and_tells_how_it_broke() -> None:
    asked = DIALECT.read(b'{"model":"m"}', None, None)
    relay = DIALECT.relay(asked, Reply("7", "mine", 7, wants_cost=True))
    last = b'data: {"model":"up","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    assert relay.feed(b'data: {"model":"up","choices":[{"finish_reason":"stop"}]}\n\n' + last) + relay.end() == (
        b'data: {"model":"mine","choices":[{"finish_reason":"stop"}]}\n\n'
    )
    assert relay.complete and relay.final_usage() == Tokens(input=1, output=2)
    assert relay.closing(b"0.5").endswith(b',"cost":0.5}}\n\ndata: [DONE]\n\n')
    whole = relay.broken(b'{"error":1}', cut=True)
    assert whole.startswith(last.replace(b"up", b"mine"))
    assert b'"id":"chatcmpl-7"' in whole and b'"finish_reason":"length"' in whole
    assert relay.broken(b'{"error":1}', cut=False) == last.replace(b"up", b"mine") + b'data: {"error":1}\n\n'
    assert DIALECT.relay(asked, Reply("7", "mine", 7)).final_usage() is None
