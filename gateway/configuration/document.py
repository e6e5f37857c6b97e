"""Read a document's text: JSON, JSON with comments and trailing commas (HuJSON), or YAML. Pure.

Comments and trailing commas are blanked out with spaces, so every offset of the text stays right and the standard
library's parser reports true lines and columns. The text is bounded before anything recursive sees it. YAML's
aliases are expanded against a budget and merge keys are refused, so no short text becomes a huge document.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from gateway.configuration.problem import ERROR, WARNING, Path, Problem, location

JSON, YAML = "json", "yaml"
TEXT_BYTES_MAX = 4 * 1024 * 1024
DEPTH_MAX = 32
VALUES_MAX = 200_000
EXTENSIONS = {"json": JSON, "hujson": JSON, "jsonc": JSON, "json5": JSON, "yaml": YAML, "yml": YAML}

# A string, a comment, or a bracket: all that matters for blanking and for depth. Strings and comments that never close
# run to the end of the text, so that each character is looked at once.
STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
LEXEME = re.compile(STRING + r'|//[^\n]*|/\*.*?(?:\*/|\Z)|[{}\[\],]|[^\s"/{}\[\],]++|/', re.DOTALL)
TOKEN = re.compile(STRING + r'|[{}\[\],:]|[^\s"{}\[\],:]+')
SPACE_FOR = re.compile(r"[^\n]")

PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """A text read: its plain data (None if it could not be read), where each value stands, and the problems."""

    data: Any
    positions: dict[Path, tuple[int, int]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


class Unreadable(Exception):
    """The text is not a document; carries the problem."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None, where: str = "") -> None:
        super().__init__(message)
        self.problem = Problem(where, message, severity=ERROR, line=line, column=column)


def read(content: str | bytes, name: str = "") -> Document:
    """Return the document in CONTENT; NAME's extension tells the format, else the first character does."""
    try:
        text = decoded(content)
        return read_json(text) if format_of(text, name) == JSON else read_yaml(text)
    except Unreadable as unreadable:
        return Document(None, problems=(unreadable.problem,))


def decoded(content: str | bytes) -> str:
    """Return the content as text without a byte order mark, or raise Unreadable."""
    size = len(content) if isinstance(content, bytes) else len(content.encode("utf-8", "surrogatepass"))
    if size > TEXT_BYTES_MAX:
        raise Unreadable(f"The document has {size} bytes; at most {TEXT_BYTES_MAX} are read.")
    if isinstance(content, bytes):
        try:
            content = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise Unreadable(f"The document is not UTF-8 text (byte {error.start}).", line, 1) from None
    return content.removeprefix("\ufeff")


def format_of(text: str, name: str) -> str:
    """Return the format that a name's extension or, failing that, a text's first character tells."""
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    if extension in EXTENSIONS:
        return EXTENSIONS[extension]
    return JSON if text.lstrip()[:1] in ("{", "[", "/", '"') else YAML


# --- JSON -------------------------------------------------------------------------------------------------------------
def read_json(text: str) -> Document:
    """Read JSON, comments and trailing commas allowed; raise Unreadable where it is broken."""
    standard = standardised(text)
    try:
        data = json.loads(standard, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        raise Unreadable(f"This is not JSON: {error.msg}.", error.lineno, error.colno) from None
    except ValueError as error:
        raise Unreadable(f"This is not JSON: {error}.") from None
    positions, problems = located(standard)
    return Document(data, positions, tuple(problems))


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which are not JSON."""
    raise ValueError(f"{name} is not a JSON number")


def standardised(text: str) -> str:
    """Return TEXT as plain JSON of the same length: comments and trailing commas are spaces."""
    pieces: list[str] = []
    end = depth = 0
    comma: int | None = None
    previous = "["
    for match in LEXEME.finditer(text):
        pieces.append(text[end : match.start()])
        end = match.end()
        lexeme = match[0]
        if lexeme.startswith("//") or (lexeme.startswith("/*") and lexeme.endswith("*/") and len(lexeme) > 3):
            pieces.append(SPACE_FOR.sub(" ", lexeme))
            continue
        if lexeme in "]}" and comma is not None:
            pieces[comma] = " "
        comma = len(pieces) if lexeme == "," and previous not in "[{,:" else None
        previous = lexeme
        depth += (lexeme in "[{") - (lexeme in "]}")
        if depth > DEPTH_MAX:
            raise Unreadable(f"Nested deeper than {DEPTH_MAX} levels.", *line_and_column(text, match.start()))
        pieces.append(lexeme)
    pieces.append(text[end:])
    return "".join(pieces)


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return the line and column, both from 1, of an offset."""
    return text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1


def tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield each token of valid JSON with its line and column."""
    line, line_start, seen = 1, 0, 0
    for match in TOKEN.finditer(text):
        start = match.start()
        newlines = text.count("\n", seen, start)
        if newlines:
            line += newlines
            line_start = text.rfind("\n", 0, start) + 1
        seen = start
        yield match[0], line, start - line_start + 1


def located(text: str) -> tuple[dict[Path, tuple[int, int]], list[Problem]]:
    """Return where each value of valid JSON stands, and a problem for each key that is written twice."""
    positions: dict[Path, tuple[int, int]] = {}
    problems: list[Problem] = []
    stack: list[str | int] = []
    # For each open bracket: the keys read so far, or None in a list.
    open_keys: list[set[str] | None] = []
    key_comes = False
    for word, line, column in tokens(text):
        keys = open_keys[-1] if open_keys else None
        if word in ("}", "]"):
            open_keys.pop()
            stack.pop()
            key_comes = False
        elif word == ",":
            key_comes = keys is not None
            if isinstance(stack[-1], int):
                stack[-1] += 1
        elif keys is not None and key_comes:
            stack[-1] = key = json.loads(word)
            if key in keys:
                problems.append(duplicate(tuple(stack), line, column))
            keys.add(key)
            positions[tuple(stack)] = line, column
            key_comes = False
        elif word != ":":
            if keys is None:
                positions[tuple(stack)] = line, column
            if word in ("{", "["):
                key_comes = word == "{"
                open_keys.append(set() if key_comes else None)
                stack.append("" if key_comes else 0)
        if len(positions) > VALUES_MAX:
            raise Unreadable(f"The document holds more than {VALUES_MAX} values.", line, column)
    return positions, problems


def duplicate(path: Path, line: int, column: int) -> Problem:
    """Return the warning about a key that is written twice."""
    return Problem(
        location(path),
        f'duplicate config key "{path[-1]}": the last one counts',
        severity=WARNING,
        line=line,
        column=column,
    )


# --- YAML -------------------------------------------------------------------------------------------------------------
def read_yaml(text: str) -> Document:
    """Read one YAML document with the safe types only; raise Unreadable where it is broken."""
    try:
        bound_depth(text)
        loader = Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                raise Unreadable("The document is empty.")
            reader = NodeReader(loader)
            data = reader.value(root, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ", ".join(part for part in (error.context, error.problem) if part)
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise Unreadable(f"This is not YAML: {message}.", line, column) from None
    except (yaml.YAMLError, ValueError) as error:
        raise Unreadable(f"This is not YAML: {error}.".replace("\n", " ")) from None
    return Document(data, reader.positions, tuple(reader.problems))


def bound_depth(text: str) -> None:
    """Raise Unreadable for deep nesting, before anything that recurses sees the text."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_MAX and (mark := event.start_mark):
            raise Unreadable(f"Nested deeper than {DEPTH_MAX} levels.", mark.line + 1, mark.column + 1)


class NodeReader:
    """Turns YAML nodes into plain data, noting positions and duplicate keys, within a budget of values."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.positions: dict[Path, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self.values = 0

    def value(self, node: Any, path: Path) -> Any:
        """Return a node's plain value, or raise Unreadable."""
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        self.values += 1
        if self.values > VALUES_MAX:
            raise Unreadable(f"The document holds more than {VALUES_MAX} values, its aliases expanded.", line, column)
        if len(path) > DEPTH_MAX:
            raise Unreadable(f"Nested deeper than {DEPTH_MAX} levels, its aliases expanded.", line, column)
        self.positions.setdefault(path, (line, column))
        if isinstance(node, yaml.CollectionNode) and node.tag not in PLAIN_TAGS:
            raise Unreadable(f"The tag {node.tag} is not read.", line, column, location(path))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self.loader.construct_object(node)

    def mapping(self, node: Any, path: Path) -> dict[str, Any]:
        """Return a mapping; its keys must be text."""
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise Unreadable("Merge keys (<<) are not read; write the values out.", line, column, location(path))
            key = self.loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise Unreadable("Keys must be text; put this one in quotes.", line, column, location(path))
            here = (*path, key)
            if key in result:
                self.problems.append(duplicate(here, line, column))
            self.positions[here] = line, column
            result[key] = self.value(value_node, here)
        return result
