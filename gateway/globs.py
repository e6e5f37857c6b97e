"""Globs over names with slashes: `*` stands for one segment or a part of it, `**` for any number of segments. Pure."""

import re
from collections.abc import Callable, Iterable

Matcher = Callable[[str], bool]


def translate(glob: str) -> str:
    """Return the regular expression of a glob; everything but `*` and `**` stands for itself."""
    return "".join({"**": ".*", "*": "[^/]*"}.get(part) or re.escape(part) for part in re.split(r"(\*\*|\*)", glob))


def compile_any(globs: Iterable[str]) -> Matcher:
    """Return a function that tells whether a name matches one of the globs; none matches nothing."""
    patterns = sorted(set(globs))
    if not patterns:
        return lambda _name: False
    if "**" in patterns:
        return lambda _name: True
    expression = re.compile("|".join(f"(?:{translate(glob)})" for glob in patterns))
    return lambda name: expression.fullmatch(name) is not None
