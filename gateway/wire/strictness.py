"""Tell whether OpenAI can hold an answer to a schema word for word. Pure.

Anthropic and Google follow the schema of an answer as far as they can and ask nothing of its author. OpenAI follows one
strictly only where the author says so, and refuses those that are not written for it: every object closed, every
property required, and these words alone (https://platform.openai.com/docs/guides/structured-outputs).
"""

from typing import Any

from gateway.wire.canonical import OutputFormat

WORDS = frozenset({"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"})
ANNOTATIONS = frozenset({"title", "description", "$schema", "$defs", "$ref"})
SHAPES = {"properties": dict, "$defs": dict, "anyOf": list, "required": list}
# Whoever writes these says so where it is to be strict.
OPENAI = ("openai_chat", "openai_responses")
PROPERTIES_MAX, DEPTH_MAX = 100, 5


def wanted(output: OutputFormat, origin: str) -> bool:
    """Tell whether an answer that a caller of the dialect ORIGIN asks for is to follow its schema strictly."""
    if output.strict is None and origin not in OPENAI:
        return output.schema is not None and may_be_strict(output.schema)
    return bool(output.strict)


def may_be_strict(schema: dict[str, Any]) -> bool:
    """Tell whether a schema can be asked for with `strict: true`."""
    left: list[tuple[Any, int]] = [(schema, 1)]
    properties_count = 0
    while left:
        each, depth = left.pop()
        if not isinstance(each, dict) or depth > DEPTH_MAX or not _is_strict(each):
            return False
        properties_count += len(each.get("properties", {}))
        left += [
            (inside, depth + 1) for inside in (*each.get("properties", {}).values(), *each.get("$defs", {}).values())
        ]
        left += [(inside, depth) for inside in each.get("anyOf", [])]
        left += [(each["items"], depth)] if "items" in each else []
    return schema.get("type") == "object" and properties_count <= PROPERTIES_MAX


def _is_strict(told: dict[str, Any]) -> bool:
    """Tell whether one level of a schema, whatever a caller wrote there, is closed and says what it is."""
    if not told.keys() <= WORDS | ANNOTATIONS:
        return False
    if any(type(told.get(name, kind())) is not kind for name, kind in SHAPES.items()):
        return False
    if told.get("type") == "object" or told.get("properties"):
        required = told.get("required", [])
        return told.get("additionalProperties") is False and sorted(map(str, required)) == sorted(
            told.get("properties", {})
        )
    return "additionalProperties" not in told and bool(told.keys() & {"type", "enum", "const", "anyOf", "$ref"})
