"""Reading a document's text: formats, positions of errors, bounds."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.configuration import document

HUJSON = """\
{
  // the house's providers
  "providers": {
    "openai": {
      "baseurl": "https://api.openai.com/", /* with // or without */
      "models": ["gpt-5", "gpt,]5",],
    },
  },
}
"""


def test_plain_json_is_read_as_it_stands() -> None:
    assert document.read('{"a": [1, 2.5, "x", null, true]}').data == {"a": [1, 2.5, "x", None, True]}


def test_comments_and_trailing_commas_are_allowed_and_strings_keep_theirs() -> None:
    data = document.read(HUJSON).data
    assert data == {"providers": {"openai": {"baseurl": "https://api.openai.com/", "models": ["gpt-5", "gpt,]5"]}}}


def test_yaml_reads_to_the_same_data() -> None:
    text = "providers:\n  openai:\n    baseurl: https://api.openai.com/\n    models: [gpt-5, 'gpt,]5']\n"
    assert document.read(text).data == document.read(HUJSON).data


def test_every_value_has_its_line_and_column() -> None:
    positions = document.read(HUJSON).positions
    assert positions[("providers", "openai", "baseurl")] == (5, 7)
    assert positions[("providers", "openai", "models", 1)] == (6, 27)


def test_yaml_values_have_their_line_and_column() -> None:
    positions = document.read("grants:\n  - src: ['*']\n    role: user\n").positions
    assert positions[("grants", 0, "role")] == (3, 5)
    assert positions[("grants", 0, "src", 0)] == (2, 11)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('{\n  // a comment, with a comma\n  "a" 1\n}', 3, 7),
        ('{"a": [1,,]}', 1, 10),
        ('{"a": [,]}', 1, 8),
        ('{"a": "never closed}', 1, 7),
        ("{/* never closed ", 1, 2),
        ("{/*/", 1, 2),
        ('{"a": 1} trailing', 1, 10),
        ("a: [1, 2\nb: 3\n", 2, 2),
        ("a: b: c\n", 1, 5),
    ],
)
def test_a_syntax_error_tells_its_line_and_column(text: str, line: int, column: int) -> None:
    read = document.read(text)
    assert read.data is None
    (problem,) = read.problems
    assert (problem.severity, problem.line, problem.column) == ("error", line, column)


@pytest.mark.parametrize(
    ("text", "line"),
    [('{"a": {"b": 1},\n "a": {"b": 2}}', 2), ("a:\n  b: 1\na:\n  b: 2\n", 3)],
)
def test_a_key_written_twice_is_reported_once_and_the_last_counts(text: str, line: int) -> None:
    read = document.read(text)
    assert read.data == {"a": {"b": 2}}
    (problem,) = read.problems
    assert (problem.location, problem.line, problem.severity) == ("a", line, "warning")
    assert problem.message.startswith('duplicate config key "a"')


def test_the_extension_tells_the_format_before_the_content_does() -> None:
    assert document.format_of("{}", "house.yml") == "yaml"
    assert document.format_of("// c\n{}", "house.hujson") == "json"
    assert document.format_of("// c\n{}", "") == "json"
    assert document.format_of("# c\na: 1", "house.conf") == "yaml"


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "Nested deeper"),
        ("a: " + "[" * 5_000, "Nested deeper"),
        ('{"a":' * 50 + "1" + "}" * 50, "Nested deeper"),
        ("a: &a [*a]", "Nested deeper"),
        (BOMB, "aliases expanded"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", "Merge keys"),
        ("a: !!python/object/apply:os.system [id]", "os.system is not read"),
        ("- !!python/name:os.system x", "could not determine a constructor"),
        ("1: x", "Keys must be text"),
        ("", "empty"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": ' + "9" * 5_000 + "}", "This is not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('"' + "x" * document.TEXT_BYTES_MAX, "at most"),
        ("[" + "0," * document.VALUES_MAX + "0]", "more than"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ('{"a": ' + "/* " * 500_000, "Expecting value"),
        ("{" + '"\\' * 500_000, "Unterminated string"),
        ("{" + '"\n' * 500_000, "Invalid control character"),
    ],
)
def test_what_is_no_document_or_too_much_is_refused_in_a_moment(text: str | bytes, message: str) -> None:
    begun = time.monotonic()
    read = document.read(text)
    assert read.data is None
    assert message in read.problems[0].message
    assert time.monotonic() - begun < 5


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4), st.sampled_from([None, 1]))
def test_any_json_is_read_unchanged_and_every_value_is_located(data: dict[str, object], indent: int | None) -> None:
    text = json.dumps(data, indent=indent)
    read = document.read_json(text)
    assert read.data == data
    assert read.problems == ()

    def paths(value: object, path: tuple[str | int, ...]) -> None:
        assert path in read.positions
        if isinstance(value, dict):
            for key, inner in value.items():
                paths(inner, (*path, key))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                paths(inner, (*path, index))

    paths(data, ())
