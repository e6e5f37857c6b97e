"""The demo model answers or refuses whatever it is sent; it never breaks."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import demo_model
from gateway.demo_model import BadRequest

KEYS = st.sampled_from(
    ["type", "role", "content", "text", "function", "name", "parameters", "properties", "required", "items", "enum",
     "anyOf", "allOf", "$ref", "minimum", "maximum", "minItems", "multipleOf", "json_schema", "schema", "x"]
)  # fmt: skip
WORDS = st.sampled_from(
    [
        "user",
        "tool",
        "function",
        "object",
        "array",
        "integer",
        "number",
        "string",
        "json_schema",
        "#",
        "#/x",
        "none",
        "",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
SCHEMAS = st.dictionaries(KEYS, VALUES, max_size=5)
MESSAGE = {"role": "user", "content": "What is the weather in Paris?"}


def check_answer_or_refusal(request: dict[str, Any]) -> None:
    try:
        answer = demo_model.answer(request)
    except BadRequest as error:
        assert str(error)
    else:
        assert answer.prompt_tokens >= 0
        assert answer.finish_reason in ("stop", "length", "tool_calls")


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["messages", "tools", "tool_choice", "max_tokens", "response_format"]), VALUES))
def test_any_request_is_answered_or_refused(request: dict[str, Any]) -> None:
    check_answer_or_refusal(request)
    check_answer_or_refusal({**request, "messages": [MESSAGE]})


@settings(max_examples=300, deadline=None)
@given(SCHEMAS)
def test_any_schema_of_a_tool_or_answer_is_followed_or_refused(schema: dict[str, Any]) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    wanted = {"type": "json_schema", "json_schema": {"schema": schema}}
    check_answer_or_refusal({"messages": [MESSAGE], "tools": [tool]})
    check_answer_or_refusal({"messages": [MESSAGE], "response_format": wanted})


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_any_input_is_embedded_or_refused(value: Any) -> None:
    try:
        words = demo_model.check_inputs({"input": value})
    except BadRequest:
        return
    assert all(math.isclose(math.hypot(*demo_model.embedding(each, 16)), 1.0) for each in words)


@pytest.mark.parametrize("body", [rb'{"a": "\ud800"}', b"[" * 100_000])
def test_bytes_that_are_no_json_do_not_reach_it(body: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, RecursionError)):
        msgspec.json.decode(body)


def test_the_parts_of_a_message_are_read_and_images_counted() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    content = [{"type": "text", "text": "Look"}, image, {"type": "text", "text": "here"}]
    answer = demo_model.answer({"messages": [{"role": "user", "content": content}]})
    assert "Look here" in answer.text
    assert answer.prompt_tokens > demo_model.IMAGE_TOKENS


def test_a_long_message_is_quoted_in_part() -> None:
    answer = demo_model.answer({"messages": [{"role": "user", "content": "word " * 100_000}]})
    assert len(answer.text) < 1000
    assert answer.prompt_tokens > 100_000
