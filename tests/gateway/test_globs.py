"""A `*` stays inside its segment, a `**` does not, and no glob takes long."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.globs import compile_any


def plainly(glob: str, name: str) -> bool:
    """The same by the book, in a time that may be anything."""
    parts = re.split(r"(\*\*|\*)", glob)
    expression = "".join({"**": ".*", "*": "[^/]*"}.get(part) or re.escape(part) for part in parts)
    return re.fullmatch(expression, name, re.DOTALL) is not None


GLOBS = st.text("ab/*.", max_size=9) | st.from_regex(r"\A[ab/]?(\*{1,2}[ab/]{0,3}){1,4}\Z")


@settings(max_examples=600)
@given(
    st.text("ab/*.", max_size=9) | st.from_regex(r"\A[ab/]?(\*{1,2}[ab/]{0,3}){1,4}\Z"), st.text("ab/.", max_size=10)
)
def test_it_matches_what_the_book_says(glob: str, name: str) -> None:
    assert compile_any([glob])(name) is plainly(glob, name)


@pytest.mark.parametrize(
    ("glob", "matching", "others"),
    [
        ("openai/gpt-4o", ["openai/gpt-4o"], ["openai/gpt-4o-mini", "xopenai/gpt-4o", "openai/gpt-4O"]),
        ("openai/*", ["openai/gpt-4o", "openai/"], ["openai", "openai/a/b", "azure/openai/a"]),
        ("*", ["gpt-4o"], ["openai/gpt-4o"]),
        ("**", ["gpt-4o", "a/b/c", ""], []),
        ("**/claude-*", ["a/claude-4", "a/b/claude-4"], ["claude-4", "a/claude-4/b"]),
        ("a.b?[c]", ["a.b?[c]"], ["axb?c", "a.bb?c"]),
        ("*/gpt-*-mini", ["openai/gpt-5-mini"], ["openai/gpt-mini", "openai/x/gpt-5-mini"]),
    ],
)
def test_globs_of_models(glob: str, matching: list[str], others: list[str]) -> None:
    matches = compile_any([glob])
    assert [name for name in matching + others if matches(name)] == matching


def test_of_several_globs_one_is_enough_and_none_matches_nothing() -> None:
    assert compile_any(["a", "b/*"])("b/x")
    assert not compile_any(["a", "b/*"])("c")
    assert not compile_any([])("")
    assert compile_any(["nothing", "**"])("any/thing\n")


@pytest.mark.parametrize("glob", ["*a" * 20, "**a" * 20, "**/*a" * 20, "**" * 50, "*" * 99])
@pytest.mark.parametrize("name", ["a" * 256, "a/" * 128])
def test_no_glob_takes_long(glob: str, name: str) -> None:
    matches = compile_any([glob + "b"])
    began_at = time.process_time()
    assert not matches(name)
    assert time.process_time() - began_at < 0.5
