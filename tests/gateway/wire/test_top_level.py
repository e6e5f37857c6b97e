"""A top-level string is found and replaced as a JSON parser would, and nothing else is touched."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import top_level

KEYS = st.sampled_from(["model", "mod", '"model"', "a\\", "x"]) | st.text(max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["model", '"model":"x"', "\\", '"']) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
INDENTS = st.sampled_from([None, 2])


@given(st.dictionaries(KEYS, VALUES, max_size=6), INDENTS, st.booleans(), st.text())
def test_it_replaces_what_a_parser_would(found: dict[str, Any], indent: int | None, ascii_only: bool, new: str) -> None:
    data = json.dumps(found, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    replaced = top_level.replace_string(data, b'"model"', json.dumps(new).encode())
    expected = found | {"model": new} if isinstance(found.get("model"), str) else found
    assert json.loads(replaced.decode("utf-8", "surrogatepass")) == expected
    span = top_level.string_value(data, b'"model"')
    if span is None:
        assert replaced == data
    else:
        assert json.loads(data[slice(*span)].decode("utf-8", "surrogatepass")) == found["model"]
        assert replaced == data[: span[0]] + json.dumps(new).encode() + data[span[1] :]


@given(st.binary())
def test_rubbish_raises_nothing(data: bytes) -> None:
    span = top_level.string_value(b"{" + data, b'"model"')
    assert span is None or span[1] > span[0] >= 0


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":"' + b"x" * 4_000_000,
        b'{"a":"' + b'\\"' * 2_000_000,
        b'{"a":"' + b"\\" * 4_000_001,
        b'{"a":"' + b'\\"' * 2_000_000 + b'","model":1}',
        b"{" * 2_000_000,
        b'{"model"' + b" " * 4_000_000,
        b'"model"' * 500_000,
    ],
    ids=["long", "open with quotes", "open with backslashes", "quotes", "depth", "spaces", "keys"],
)
def test_no_text_of_megabytes_takes_long(data: bytes) -> None:
    began_at = time.process_time()
    assert top_level.string_value(data, b'"model"') is None
    assert time.process_time() - began_at < 3


@pytest.mark.parametrize(
    ("data", "deeper"),
    [
        (b"[" * 500 + b"]" * 500, False),
        (b"[" * 501 + b"]" * 501, True),
        (b'{"a":' * 501 + b"1" + b"}" * 501, True),
        (b"[" * 100_000, True),
        (b"[" + b"[]," * 10_000 + b"[]]", False),
        (b'["' + b"[" * 10_000 + b'","\\"' + b"{" * 10_000 + b'"]', False),
        (b'["\\\\",' + b"[" * 500 + b"]" * 500 + b"]", True),
        (b'["' + b"[" * 10_000, False),
        (b"]" * 10_000 + b"[" * 600, False),
    ],
)
def test_depth_counts_the_brackets_outside_strings(data: bytes, deeper: bool) -> None:
    assert top_level.deeper_than(data, 500) is deeper


@pytest.mark.parametrize("rest", [b"x" * 8_000_000, b'"' * 8_000_000, b'"' + b"\\" * 8_000_000, b"[]" * 1_000_000])
def test_no_depth_of_megabytes_takes_long(rest: bytes) -> None:
    began_at = time.process_time()
    assert not top_level.deeper_than(b"[" + b"[]," * 600 + rest, 500)
    assert time.process_time() - began_at < 3
