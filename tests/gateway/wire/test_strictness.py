"""A schema is asked for strictly where OpenAI would take it so, and nowhere else."""

import json
from typing import Any

import pytest

from gateway.wire.canonical import Message, OutputFormat, Request, Text
from gateway.wire.registry import DIALECTS
from gateway.wire.strictness import may_be_strict, wanted

CLOSED: dict[str, Any] = {"type": "object", "additionalProperties": False}
NAMED = CLOSED | {"properties": {"name": {"type": "string", "description": "of whom"}}, "required": ["name"]}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = CLOSED | {"properties": {"a": schema}, "required": ["a"]}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        NAMED,
        CLOSED,
        CLOSED | {"properties": {"all": {"type": "array", "items": NAMED}}, "required": ["all"]},
        CLOSED
        | {
            "properties": {"one": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}, "of": {"enum": ["a", 1]}},
            "required": ["of", "one"],
            "$defs": {"n": NAMED},
        },
        nested(4),
    ],
)
def test_a_closed_schema_may_be_strict(schema: dict[str, Any]) -> None:
    assert may_be_strict(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": NAMED},
        {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        NAMED | {"required": []},
        NAMED | {"minProperties": 1},
        CLOSED | {"properties": {"open": {"type": "object"}}, "required": ["open"]},
        CLOSED | {"properties": {"map": {"additionalProperties": {"type": "string"}}}, "required": ["map"]},
        CLOSED | {"properties": {"any": {}}, "required": ["any"]},
        CLOSED | {"properties": {"any": True}, "required": ["any"]},
        CLOSED | {"properties": {"short": {"type": "string", "maxLength": 3}}, "required": ["short"]},
        CLOSED
        | {"properties": {f"p{n}": {"type": "null"} for n in range(101)}, "required": [f"p{n}" for n in range(101)]},
        nested(5),
        {},
        *(
            {**NAMED, name: value}
            for name in ("properties", "required", "$defs", "anyOf", "type")
            for value in ([[1]], 7)
        ),
        NAMED | {"properties": [], "required": []},
        NAMED | {"anyOf": [7]},
    ],
)
def test_what_openai_would_refuse_is_not_asked_for(schema: dict[str, Any]) -> None:
    assert not may_be_strict(schema)


def test_whoever_says_so_is_believed() -> None:
    assert not wanted(OutputFormat(NAMED, strict=False), "anthropic_messages")
    assert wanted(OutputFormat({}, strict=True), "anthropic_messages")
    assert not wanted(OutputFormat(NAMED), "openai_chat")
    assert not wanted(OutputFormat(None), "anthropic_messages")


@pytest.mark.parametrize("origin", ["anthropic_messages", "gemini_generate_content"])
def test_both_dialects_of_openai_are_told(origin: str) -> None:
    def asked(schema: dict[str, Any], upstream: str) -> Any:
        request = Request(
            dialect=origin, model="m", messages=(Message("user", (Text("x"),)),), output=OutputFormat(schema)
        )
        body = json.loads(DIALECTS[upstream].render_request(request, "gpt-5", None).body)
        return body["text"]["format"] if upstream == "openai_responses" else body["response_format"]["json_schema"]

    for upstream in ("openai_chat", "openai_responses"):
        assert asked(NAMED, upstream)["strict"] is True
        assert not asked({"type": "object"}, upstream).get("strict")
