"""Find what a request names by an id of the vendor's account: an uploaded file, a kept prompt, a cache. Pure.

All callers of an installation share the operator's one account at a vendor, so such an id may name what another
customer left there. None of these ids is handed out here, so whoever is no member of the operator's team names none.

Invariant: only what the vendor itself would look up counts; a tool's arguments, results and schemas may say anything.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from gateway.wire.fields import CONVERSATION, Fields, value

# What the vendors call such an id wherever it stands.
NAMES = frozenset({"file_id", "file_ids", "vector_store_ids"})
# What a request keeps at the vendor in a field of its own. A text `prompt` is what the legacy completions complete.
OWN_FIELDS = {"prompt": dict, "cachedContent": str, "cached_content": str}
WALKED = (*CONVERSATION, "tools", "container")
# Where the caller's own data begin, in which names mean nothing to a vendor.
DATA = frozenset({"arguments", "args", "input", "response", "parameters", "input_schema", "schema", "metadata"})
# Of the bodies that hold each kind of conversation, those that name such an id have one of these in them.
SIGNS = {
    "messages": (b"file_id", b'"audio"'),
    "input": (b"file_id", b"vector_store_ids", b"item_reference", b'"container"', b"skill_id"),
    "contents": (b"fileUri", b"file_uri"),
}
# Whoever escapes letters of ASCII in a name may be hiding it.
ESCAPED = re.compile(rb"\\u00[2-7]")
# An item of an id alone, or of no type, is a reference to another.
REFERENCE = re.compile(rb'\{\s*+"id"\s*+:\s*+"[^"]*+"\s*+\}|"type"\s*+:\s*+null')
Json = dict[str, Any]


def named(body: bytes, fields: Fields) -> str | None:
    """Return the path of the first such id in a request, as `input[0].content[1].file_id`; None where there is none.

    FIELDS are the top level of BODY. Raises InvalidRequest where one of them is no JSON.
    """
    for name, kind in OWN_FIELDS.items():
        if name in fields and isinstance(value(fields, name), kind):
            return name
    if "container" not in fields and not _may_name(body, fields):
        return None
    walked = {name: value(fields, name) for name in WALKED if name in fields}
    return next((found for path, told in _objects(walked) if (found := _looked_up(path, told))), None)


def _may_name(body: bytes, fields: Fields) -> bool:
    """Tell, without reading all of it, whether a request is worth a look."""
    for kind, signs in SIGNS.items():
        if kind in fields:
            for sign in signs:
                if sign in body:
                    return True
    if b"\\u00" in body and ESCAPED.search(body):
        return True
    return "input" in fields and b'"id"' in body and REFERENCE.search(fields["input"]) is not None


def _objects(walked: Any) -> Iterator[tuple[str, Json]]:
    """Yield every object in WALKED that a vendor reads, with its path; JSON may nest deeper than Python calls."""
    left = [("", walked)]
    while left:
        path, found = left.pop()
        if isinstance(found, dict):
            yield path, found
            inside = [
                (f"{path}.{name}".removeprefix("."), each) for name, each in found.items() if _is_read(path, name)
            ]
        elif isinstance(found, list):
            inside = [(f"{path}[{number}]", each) for number, each in enumerate(found)]
        else:
            continue
        left += reversed(inside)


def _is_read(path: str, name: str) -> bool:
    return not path or name not in DATA


def _looked_up(path: str, told: Json) -> str:
    """Return the path of what an object names that is kept in the vendor's account, or nothing."""
    for name, each in told.items():
        if each and _is_kept(name, each, told):
            return f"{path}.{name}".removeprefix(".")
    is_item = path.startswith("input[") and path.endswith("]") and path.count("[") == 1
    if is_item and told.get("id") and "role" not in told and told.get("type") in (None, "item_reference"):
        return path
    return ""


def _is_kept(name: str, named_by: Any, around: Json) -> bool:
    match name:
        case "skill_id":
            # Anthropic's own skills are everybody's.
            return around.get("type") != "anthropic"
        case "fileUri" | "file_uri":
            return _kept_by_google(named_by)
        case "container":
            return isinstance(named_by, str) or (isinstance(named_by, dict) and bool(named_by.get("id")))
        case "audio":
            return around.get("role") == "assistant"
        case _:
            return name in NAMES


def _kept_by_google(uri: Any) -> bool:
    """Tell whether a URI is of Google's file store; what stands elsewhere on the web is in nobody's account."""
    return not isinstance(uri, str) or (urlsplit(uri).hostname or "googleapis.com").endswith("googleapis.com")
