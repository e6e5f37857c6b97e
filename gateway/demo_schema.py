"""A small valid value for a JSON schema, with which the demo model calls tools and writes structured answers. Pure.

Invariant: the work is bounded whatever the schema, for a caller writes it. `pattern` and `not` are not followed.
"""

import math
from collections.abc import Mapping
from typing import Any

DEPTH_MAX = 24
NODES_MAX = 2_000
ITEMS_MAX = 16
LENGTH_MAX = 4_096
FORMS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "email": "demo@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "hostname": "example.com",
}


class UnusableSchema(ValueError):
    """No value can be made: the schema is no schema, or it never ends."""


def instance(schema: Any, word: str) -> Any:
    """Return a value that is valid under SCHEMA; WORD stands for text. Raise UnusableSchema."""
    try:
        return _Builder(schema, word).value(schema, 0)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise UnusableSchema(str(error) or "It is not a JSON schema.") from error


class _Builder:
    """One schema's root, the word, and how many nodes have been made."""

    def __init__(self, root: Any, word: str) -> None:
        self.root = root
        self.word = word
        self.nodes = 0

    def value(self, schema: Any, depth: int) -> Any:
        self.nodes += 1
        if depth > DEPTH_MAX or self.nodes > NODES_MAX:
            raise UnusableSchema("The schema is too deep, too large or refers to itself without an end.")
        if not isinstance(schema, Mapping):
            return self.word
        if "$ref" in schema:
            return self.value(self.referred(schema["$ref"]), depth + 1)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        if "enum" in schema:
            return schema["enum"][0]
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self.value(schema[key][0], depth + 1)
        if "allOf" in schema:
            return self.value(self.merged(schema), depth + 1)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        return self.of_kind(kind, schema, depth)

    def of_kind(self, kind: str, schema: Mapping[str, Any], depth: int) -> Any:
        """Return a value of one JSON type."""
        if kind == "object":
            properties = schema.get("properties", {})
            # Without required names all are given: a call without arguments shows nothing.
            names = schema.get("required") or list(properties)
            if not all(isinstance(name, str) for name in names):
                raise UnusableSchema("A name in required is no string.")
            return {name: self.value(properties.get(name), depth + 1) for name in names}
        if kind == "array":
            least = min(max(1, schema.get("minItems", 1)), ITEMS_MAX)
            return [self.value(schema.get("items"), depth + 1)] * min(least, schema.get("maxItems", least))
        if kind in ("integer", "number"):
            return number({**schema, "type": kind})
        if kind in ("boolean", "null"):
            return True if kind == "boolean" else None
        return string(schema, self.word)

    def referred(self, reference: str) -> Any:
        """Return what a reference within the schema (`#/$defs/Name`) means."""
        found = self.root
        for step in filter(None, reference.removeprefix("#").split("/")):
            found = found[step.replace("~1", "/").replace("~0", "~")]
        return found

    def merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return one schema for `allOf`: properties and required names together."""
        whole = {key: value for key, value in schema.items() if key != "allOf"}
        for given in schema["allOf"]:
            part = self.referred(given["$ref"]) if "$ref" in given else given
            properties = {**whole.get("properties", {}), **part.get("properties", {})}
            required = [*whole.get("required", []), *part.get("required", [])]
            whole = {**whole, **part}
            if properties:
                whole |= {"properties": properties, "required": required}
        return whole


def number(schema: Mapping[str, Any]) -> float:
    """Return 1, or the number nearest to it that the schema allows."""
    step = schema.get("multipleOf", 1 if schema.get("type") == "integer" else 0)
    low = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf))
    high = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
    inside = step or min(1, (high - low) / 2)
    low += inside if "exclusiveMinimum" in schema else 0
    high -= inside if "exclusiveMaximum" in schema else 0
    value: float = min(max(low, 1), high)
    if step and value % step:
        above: float = math.ceil(value / step) * step
        return above if above <= high else math.floor(value / step) * step
    return value


def string(schema: Mapping[str, Any], word: str) -> str:
    """Return text of the form that is asked for, else the word within the bounds of length."""
    form = FORMS.get(schema.get("format", ""))
    if form:
        return form
    return word.ljust(min(schema.get("minLength", 0), LENGTH_MAX), ".")[: schema.get("maxLength", LENGTH_MAX)]
