"""Read plain data field by field, noting every problem instead of stopping at the first. Pure.

Each reader takes the mapping, the mapping's path and a key, and returns a value of the promised type: where the
document's is wrong, the default, with a problem noted. `${NAME}` in a text is replaced from the environment that the
caller gave; `$${NAME}` stands for itself.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from accounts.headers import FRAMING_HEADERS
from gateway.configuration.problem import ERROR, WARNING, Path, Problem, location, nearest

MACRO = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)\}")
HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:[ \t]*([^\r\n\0]*)")
INTEGER_MAX = 2**31 - 1
SHOWN_CHARACTERS = 80
NAMES = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


class Fields:
    """The problems of one document, and readers that add to them."""

    def __init__(
        self,
        positions: Mapping[Path, tuple[int, int]],
        environment: Mapping[str, str],
        problems: Iterable[Problem] = (),
    ) -> None:
        self.positions = positions
        self.environment = environment
        self.problems = list(problems)

    def note(self, path: Path, message: str, value: Any = "", severity: str = ERROR) -> None:
        """Add a problem; VALUE is shown shortened and must not be a secret."""
        line, column = self.position(path)
        # Python refuses to write out the digits of a very long number.
        long_number = isinstance(value, int) and value.bit_length() > 256
        shown = "a very long number" if long_number else str(value).encode("utf-8", "replace").decode()
        if len(shown) > SHOWN_CHARACTERS:
            shown = shown[:SHOWN_CHARACTERS] + "…"
        self.problems.append(Problem(location(path), message, shown, severity, line, column))

    def warn(self, path: Path, message: str, value: Any = "") -> None:
        """Add a problem that does not stop the import."""
        self.note(path, message, value, WARNING)

    def position(self, path: Path) -> tuple[int | None, int | None]:
        """Return the line and column of a path, or of its nearest ancestor that stands in the text."""
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, (None, None))

    def mistyped(self, path: Path, value: Any, expected: type, *, secret: bool = False) -> None:
        """Note a value of the wrong type."""
        found = f"not {NAMES.get(type(value), 'null' if value is None else type(value).__name__)}"
        scalar = isinstance(value, str | int | float) and not secret
        self.note(path, f"must be {NAMES[expected]}, {found}", value if scalar else "")

    def unknown_keys(
        self, data: Mapping[str, Any], path: Path, known: Collection[str], later: Collection[str] = ()
    ) -> None:
        """Warn of keys that mean nothing here, and of those that a later version may read."""
        for key in data:
            if key in later:
                self.warn((*path, key), "is not supported by this version; left alone")
            elif key not in known:
                self.warn((*path, key), f'unknown config key "{key}"{nearest(key, known)}')

    def mapping(self, data: Mapping[str, Any], path: Path, key: str) -> dict[str, Any]:
        """Return the object at KEY; absent or wrong means empty."""
        value = data.get(key, {})
        if isinstance(value, dict):
            return value
        self.mistyped((*path, key), value, dict)
        return {}

    def items(self, data: Mapping[str, Any], path: Path, key: str) -> list[Any]:
        """Return the list at KEY; absent or wrong means empty."""
        value = data.get(key, [])
        if isinstance(value, list):
            return value
        self.mistyped((*path, key), value, list)
        return []

    def objects(self, values: Sequence[Any], path: Path) -> list[tuple[Path, dict[str, Any]]]:
        """Return each object of a list with its path; what is no object is noted and left out."""
        found: list[tuple[Path, dict[str, Any]]] = []
        for index, value in enumerate(values):
            if isinstance(value, dict):
                found.append(((*path, index), value))
            else:
                self.mistyped((*path, index), value, dict)
        return found

    def text(self, data: Mapping[str, Any], path: Path, key: str, *, longest: int = 500, secret: bool = False) -> str:
        """Return the text at KEY with its macros replaced; absent means empty."""
        return self.checked_text(data.get(key, ""), (*path, key), longest=longest, secret=secret)

    def checked_text(self, value: Any, path: Path, *, longest: int = 500, secret: bool = False) -> str:
        """Return a value that must be text of at most LONGEST characters, its macros replaced; else empty."""
        if not isinstance(value, str):
            self.mistyped(path, value, str, secret=secret)
            return ""
        missing: list[str] = []

        def substituted(match: re.Match[str]) -> str:
            if match[1]:
                return match[0][1:]
            if match[2] not in self.environment:
                missing.append(match[2])
            return self.environment.get(match[2], "")

        text = MACRO.sub(substituted, value)
        if missing:
            self.note(
                path, f"unsubstituted macros: [{', '.join(missing)}]; set them in the environment, or write $${{…}}"
            )
        elif len(text) > longest:
            self.note(path, f"has {len(text)} characters; at most {longest} are kept")
        elif "\0" in text or not encodable(text):
            self.note(path, "holds a character that cannot be stored (NUL or half of a surrogate pair)")
        else:
            return text
        return ""

    def texts(self, values: Sequence[Any], path: Path, *, longest: int = 256) -> list[tuple[Path, str]]:
        """Return each text of a list, not empty and once, with its path."""
        found: dict[str, Path] = {}
        for index, value in enumerate(values):
            here = (*path, index)
            before = len(self.problems)
            text = self.checked_text(value, here, longest=longest)
            if len(self.problems) > before:
                continue
            if not text.strip():
                self.note(here, "must not be empty")
            elif text in found:
                self.warn(here, "is listed twice", value)
            else:
                found[text] = here
        return [(here, text) for text, here in found.items()]

    def choice(self, data: Mapping[str, Any], path: Path, key: str, options: Sequence[str], default: str) -> str:
        """Return one of a few words; absent or empty means the default."""
        value = self.text(data, path, key)
        if value and value not in options:
            self.note((*path, key), f"must be one of {', '.join(options)}{nearest(value, options)}", data[key])
            return default
        return value or default

    def flag(self, data: Mapping[str, Any], path: Path, key: str, default: bool = False) -> bool:
        """Return a yes or no; absent means the default."""
        value = data.get(key, default)
        if isinstance(value, bool):
            return value
        self.mistyped((*path, key), value, bool)
        return default

    def integer(
        self, data: Mapping[str, Any], path: Path, key: str, *, default: int | None = None, least: int = 0
    ) -> Any:
        """Return a whole number of 32 bits, at least LEAST; absent or null means the default."""
        value = data.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self.mistyped((*path, key), value, int)
        elif not least <= value <= INTEGER_MAX:
            self.note((*path, key), f"must be from {least} to {INTEGER_MAX}", value)
        else:
            return value
        return default

    def seconds(self, data: Mapping[str, Any], path: Path, key: str) -> float | None:
        """Return a duration in seconds above zero and of at most a day; absent or null means none."""
        value = data.get(key)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.mistyped((*path, key), value, float)
        elif not 0 < value <= 86_400:
            self.note((*path, key), "must be more than 0 and at most 86400 seconds", value)
        else:
            return float(value)
        return None

    def headers(self, data: Mapping[str, Any], path: Path, key: str) -> dict[str, str]:
        """Return a list of `Name: value` as a mapping."""
        found: dict[str, str] = {}
        for index, value in enumerate(self.items(data, path, key)):
            here = (*path, key, index)
            text = self.checked_text(value, here, longest=8192, secret=True)
            match = HEADER.fullmatch(text)
            if match is None:
                if isinstance(value, str):
                    self.note(here, 'add_headers entry must be in "Header-Name: value" format')
            elif match[1].lower() in FRAMING_HEADERS:
                self.note(here, "is the connection's own header and cannot be added", match[1])
            elif match[1].lower() in (name.lower() for name in found):
                self.note(here, "names a header twice", match[1])
            else:
                found[match[1]] = match[2].rstrip()
        return found

    def plain(self, value: dict[str, Any], path: Path) -> dict[str, Any]:
        """Return an object that is kept as it stands, or an empty one if the database could not hold it."""
        try:
            if "\\u0000" not in json.dumps(value, allow_nan=False) and encodable(json.dumps(value, ensure_ascii=False)):
                return value
        except (TypeError, ValueError):
            pass
        self.note(path, "holds a value that cannot be stored as JSON")
        return {}

    def each(self, data: Mapping[str, Any], path: Path, read: Callable[[str, Path, dict[str, Any]], None]) -> None:
        """Call READ with each key, its path and its object."""
        for key, value in data.items():
            here = (*path, key)
            if isinstance(value, dict):
                read(key, here, value)
            else:
                self.mistyped(here, value, dict)


def encodable(text: str) -> bool:
    """Tell whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
