"""A JSON schema as Anthropic follows it: https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs. Pure.

Objects have to be closed, and bounds of numbers, texts and lists are refused: they go into the description, where the
model can read them. What every schema may say stays.
"""

from typing import Any

from gateway.wire.canonical import Json
from gateway.wire.fields import encode

MAPS = ("properties", "$defs", "definitions")
LISTS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
KEPT = frozenset({"type", "enum", "const", "$ref", "description", "title", "required", "default"})
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
ANNOTATIONS = frozenset({"$schema", "$id", "$comment", "examples", "additionalProperties"})


def followed(schema: Any) -> Any:
    """Return the schema in the part of JSON Schema that Anthropic takes."""
    if not isinstance(schema, dict):
        return schema
    found: Json = {}
    told: Json = {}
    for name, value in schema.items():
        if name in MAPS and isinstance(value, dict):
            found[name] = {key: followed(each) for key, each in value.items()}
        elif name in LISTS and isinstance(value, list):
            found[LISTS[name]] = [followed(each) for each in value]
        elif name == "items":
            found[name] = followed(value)
        elif name in KEPT or (name == "format" and value in FORMATS) or (name == "minItems" and value in (0, 1)):
            found[name] = value
        elif name not in ANNOTATIONS:
            told[name] = value
    if "properties" in found or found.get("type") == "object":
        found["additionalProperties"] = False
    if told:
        limits = encode(told).decode()
        found["description"] = f"{found['description']}\n\n{limits}" if found.get("description") else limits
    return found
