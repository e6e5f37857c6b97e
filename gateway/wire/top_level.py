"""What can be told and replaced in JSON's bytes without reading it: a top-level value, and how deep it nests. Pure."""

import itertools
import re

# Possessive, so that no long string is looked at twice.
STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+'
# Strings whole, so that nothing inside one counts (one without an end goes to the end); and brackets, for the depth.
TOKENS = re.compile(STRING + rb'(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
# A string that may have no end, as in TOKENS.
ANY_STRING = re.compile(STRING + rb'(?:"|\\?\Z)', re.DOTALL)
NO_BRACKETS = bytes(set(range(256)) - set(b"{[}]"))
LEVELS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
COLON = re.compile(rb"\s*+:\s*+")
STRING_VALUE = re.compile(STRING + rb'"', re.DOTALL)
OPENING, CLOSING = b"{[", b"}]"


def string_value(data: bytes, key: bytes) -> tuple[int, int] | None:
    """Return the span (start, end) of a top-level key's string value with its quotes, or None.

    KEY comes with its quotes, as in `b'"model"'`. The data is a JSON object; nothing is checked.
    """
    depth = 0
    for token in TOKENS.finditer(data):
        text = token[0]
        if text in OPENING:
            depth += 1
        elif text in CLOSING:
            depth -= 1
        elif depth == 1 and text == key:
            colon = COLON.match(data, token.end())
            value = colon and STRING_VALUE.match(data, colon.end())
            if value:
                return value.span()
    return None


def replace_string(data: bytes, key: bytes, value: bytes) -> bytes:
    """Return the data with a top-level key's string value replaced by VALUE (with its quotes)."""
    span = string_value(data, key)
    return data if span is None else data[: span[0]] + value + data[span[1] :]


def deeper_than(data: bytes, levels_max: int) -> bool:
    """Tell whether JSON nests deeper than LEVELS_MAX; nothing else is checked."""
    if data.count(b"[") + data.count(b"{") <= levels_max:
        return False
    # Texts seldom hold many brackets that do not close, so with theirs counted most JSON is shallow already.
    return _deeper(data, levels_max) and _deeper(ANY_STRING.sub(b"", data), levels_max)


def _deeper(data: bytes, levels_max: int) -> bool:
    brackets = data.translate(None, NO_BRACKETS)
    return max(itertools.accumulate(map(LEVELS.__getitem__, brackets)), default=0) > levels_max
