"""Google's `Schema` as JSON schema. Pure.

`Schema` (https://ai.google.dev/api/caching#Schema) is OpenAPI 3.0's: types in capitals, `nullable`, bounds of lengths
as text. The other way is never needed: `parametersJsonSchema` and `responseJsonSchema` take JSON schema as it is.
"""

from typing import Any

from gateway.wire.canonical import Json
from gateway.wire.gemini_generate_content.fieldnames import camel

BOUNDS = {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
SCHEMAS = {"items", "additionalProperties"}
LISTS = {"anyOf", "oneOf", "allOf", "prefixItems"}
MAPS = {"properties", "defs", "$defs"}
RENAMED = {"defs": "$defs", "ref": "$ref"}


def json_schema(schema: Any) -> Any:
    """Return a schema of either kind as JSON schema; what is no object stays as it is."""
    if not isinstance(schema, dict):
        return schema
    made: Json = {}
    for name, value in schema.items():
        key = name if name.startswith("$") else camel(name)
        made[RENAMED.get(key, key)] = _field(key, value)
    if made.get("type") == "type_unspecified":
        del made["type"]
    if made.pop("nullable", False) is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def _field(key: str, value: Any) -> Any:
    if key == "type" and isinstance(value, str):
        return value.lower()
    if key in BOUNDS and isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:18])
    if key in SCHEMAS:
        return json_schema(value)
    if key in LISTS and isinstance(value, list):
        return [json_schema(each) for each in value]
    if key in MAPS and isinstance(value, dict):
        return {each: json_schema(inner) for each, inner in value.items()}
    return value
