"""Find and replace the value of a top-level key in a JSON object's bytes, leaving every other byte as it is. Pure."""

import re

# Possessive, so that no long string is looked at twice.
STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+'
# Strings whole, so that nothing inside one counts (one without an end goes to the end); and brackets, for the depth.
TOKENS = re.compile(STRING + rb'(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
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
