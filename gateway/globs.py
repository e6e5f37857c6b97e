"""Globs over names with slashes: `*` stands for one segment or a part of it, `**` for any number of segments. Pure.

No glob takes long, whatever the name: each literal part is taken where it comes first and never looked for again
(atomic groups), which finds a match whenever there is one.
"""

import re
from collections.abc import Callable, Iterable

Matcher = Callable[[str], bool]


def translate(glob: str) -> str:
    """Return the regular expression of a glob; everything but `*` and `**` stands for itself."""
    *before, last = (list(map(re.escape, part.split("*"))) for part in glob.split("**"))
    if not before:
        return _to_the_end(last)
    first, *between = (literals[0] + "".join(f"(?>[^/]*?{literal})" for literal in literals[1:]) for literals in before)
    return first + "".join(f"(?>.*?{part})" for part in between) + ".*" + _to_the_end(last)


def _to_the_end(literals: list[str]) -> str:
    first, *rest = literals
    if not rest:
        return first
    return first + "".join(f"(?>[^/]*?{literal})" for literal in rest[:-1]) + f"[^/]*{rest[-1]}"


def compile_any(globs: Iterable[str]) -> Matcher:
    """Return a function that tells whether a name matches one of the globs; none matches nothing."""
    patterns = sorted(set(globs))
    if not patterns:
        return lambda _name: False
    if "**" in patterns:
        return lambda _name: True
    expression = re.compile("|".join(f"(?:{translate(glob)})" for glob in patterns), re.DOTALL)
    return lambda name: expression.fullmatch(name) is not None
