"""A problem found in a configuration document. Pure.

Invariant: a problem never carries a secret, neither in its message nor in its value.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

ERROR, WARNING = "error", "warning"
PLAIN_KEY_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, where, and what was found there (empty where it would show a secret)."""

    location: str
    message: str
    value: str = ""
    severity: str = ERROR
    line: int | None = None
    column: int | None = None

    @property
    def fatal(self) -> bool:
        """Tell whether nothing may be changed because of this."""
        return self.severity == ERROR

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}" if self.line else ""
        where = ", ".join(part for part in (self.location, place) if part)
        found = f" (found {self.value})" if self.value else ""
        return f"{self.severity}: {where + ': ' if where else ''}{self.message}{found}"


def location(path: Path) -> str:
    """Return a path as text: `providers.openai.models[2]`, `models["openai/gpt-5"].listed`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part and PLAIN_KEY_CHARACTERS.issuperset(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a clause that offers the nearest known word, or nothing."""
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
