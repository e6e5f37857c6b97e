"""Fields of Google's JSON under either of their names, and checks of what they hold. Pure.

Protobuf's JSON takes `maxOutputTokens` as well as `max_output_tokens`
(https://protobuf.dev/programming-guides/json/), and whole numbers as text or as 9.0.
"""

import functools
import re
from typing import Any

from gateway.wire.canonical import Json
from gateway.wire.fields import InvalidRequest

NAME = "gemini_generate_content"
CAPITAL = re.compile("[A-Z]")
# Whole numbers beyond are no count of anything, and not every JSON has them.
WHOLE_MAX = 2**63 - 1
UNDERSCORE = re.compile("_([a-z0-9])")


@functools.cache
def snake(name: str) -> str:
    """Return one of this package's own field names with underscores."""
    return CAPITAL.sub(lambda found: "_" + found[0].lower(), name)


def camel(name: str) -> str:
    """Return a field's name without underscores."""
    return UNDERSCORE.sub(lambda found: found[1].upper(), name)


def pick(holder: Json, name: str) -> Any:
    """Return a field under either of its names; None where it is absent."""
    found = holder.get(name)
    return holder.get(snake(name)) if found is None else found


def an_object(found: Any, path: str) -> Json:
    """Return a field that is an object, an empty one where it is absent; raise InvalidRequest."""
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidRequest("invalid_parameter", f"{path} is not an object.", path)
    return found


def a_list(found: Any, path: str) -> list[Any]:
    """Return a field that is a list, or one thing as a list of it; raise InvalidRequest."""
    if found is None:
        return []
    if isinstance(found, dict | str):
        return [found]
    if not isinstance(found, list):
        raise InvalidRequest("invalid_parameter", f"{path} is not a list.", path)
    return found


def a_text(found: Any, path: str) -> str:
    """Return a field that is a text, "" where it is absent; raise InvalidRequest."""
    if found is None:
        return ""
    if not isinstance(found, str):
        raise InvalidRequest("invalid_parameter", f"{path} is not a text.", path)
    return found


def a_number(found: Any, path: str) -> float | None:
    """Return a field that is a number, None where it is absent; raise InvalidRequest."""
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InvalidRequest("invalid_parameter", f"{path} is not a number.", path)
    if abs(found) > WHOLE_MAX and isinstance(found, int):
        raise InvalidRequest("invalid_parameter", f"{path} is out of range.", path)
    return found


def a_whole(found: Any, path: str) -> int | None:
    """Return a field that is a whole number in any form that protobuf takes; raise InvalidRequest."""
    if isinstance(found, str) and re.fullmatch(r"-?[0-9]{1,18}", found):
        found = int(found)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if found is None or (type(found) is int and abs(found) <= WHOLE_MAX):
        return found
    raise InvalidRequest("invalid_parameter", f"{path} is not a whole number.", path)


def a_flag(found: Any, path: str) -> bool:
    """Return a field that is true or false, false where it is absent; raise InvalidRequest."""
    if found is None or isinstance(found, bool):
        return bool(found)
    raise InvalidRequest("invalid_parameter", f"{path} is neither true nor false.", path)
