"""Whatever the schema, the demo model makes a valid value of it, quickly, or says that it cannot."""

from typing import Any

import pytest

from gateway.demo_schema import ITEMS_MAX, LENGTH_MAX, UnusableSchema, instance

TREE = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}, "required": ["left", "right"]}
CASES: list[tuple[Any, Any]] = [
    ({"type": "string"}, "Paris"),
    ({"type": "string", "maxLength": 2}, "Pa"),
    ({"type": "string", "minLength": 7}, "Paris.."),
    ({"type": "string", "format": "date"}, "2026-01-31"),
    ({"type": "integer"}, 1),
    ({"type": "integer", "minimum": 5}, 5),
    ({"type": "integer", "exclusiveMinimum": 5}, 6),
    ({"type": "integer", "maximum": -3}, -3),
    ({"type": "integer", "minimum": 5, "multipleOf": 4}, 8),
    ({"type": ["number", "null"], "multipleOf": 0.5, "minimum": 2.2}, 2.5),
    ({"type": "integer", "minimum": 2.2}, 3),
    ({"type": "number", "maximum": 0.5}, 0.5),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
    ({"type": "number", "exclusiveMinimum": 3}, 4),
    ({"type": "boolean"}, True),
    ({"type": "null"}, None),
    ({"type": ["null", "integer"]}, 1),
    ({"enum": ["celsius", "fahrenheit"]}, "celsius"),
    ({"const": 42}, 42),
    ({"type": "string", "default": "x"}, "x"),
    ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 1),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
    ({"type": "array", "maxItems": 0}, []),
    ({"properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}, {"a": 1}),
    ({"type": "object", "properties": {"a": {"type": "integer"}}}, {"a": 1}),
    ({"type": "object", "additionalProperties": False}, {}),
    ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer"}}}, 1),
    (
        {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"$ref": "#/$defs/b"}],
         "$defs": {"b": {"properties": {"b": {}}, "required": ["b"]}}},
        {"a": 1, "b": "Paris"},
    ),
    (True, "Paris"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value"), CASES)
def test_a_schema_gets_a_small_valid_value(schema: Any, value: Any) -> None:
    assert instance(schema, "Paris") == value


@pytest.mark.parametrize(
    "schema",
    [
        TREE,
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        {"$ref": 5},
        {"enum": []},
        {"anyOf": []},
        {"type": "integer", "minimum": "x"},
        {"type": "object", "properties": 5},
        {"properties": {}, "required": [None]},
        {"allOf": 5},
    ],
)
def test_what_never_ends_or_is_no_schema_is_refused(schema: Any) -> None:
    with pytest.raises(UnusableSchema):
        instance(schema, "Paris")


def test_a_schema_cannot_ask_for_more_than_is_sane() -> None:
    assert len(instance({"type": "array", "items": {"type": "integer"}, "minItems": 10**9}, "x")) == ITEMS_MAX
    assert len(instance({"type": "string", "minLength": 10**9}, "x")) == LENGTH_MAX
