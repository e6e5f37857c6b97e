"""What reporters send, and what of it may be kept."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import keys
from accounts.leaks import matches
from accounts.leaks.matches import Match

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["token", "type", "url", "source", "x"]), inner),
)


def test_a_match_is_read_with_what_it_has() -> None:
    body = b'[{"token": "t", "type": "y", "url": "u", "source": "commit", "more": 1}, {"token": "t", "url": null}]'
    assert matches.from_github(body) == ([Match("t", "y", "u", "commit"), Match("t")], 0)


@given(JSON)
def test_whatever_is_in_an_alert_is_read_or_refused(value: object) -> None:
    body = json.dumps(value).encode()
    if isinstance(value, list):
        found, unreadable = matches.from_github(body)
        assert len(found) + unreadable == len(value)
    else:
        with pytest.raises(matches.Unreadable):
            matches.from_github(body)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_json_are_refused(body: bytes) -> None:
    for read in (matches.from_github, matches.from_trufflehog):
        try:
            read(body)
        except matches.Unreadable as error:
            # What was sent is quoted nowhere.
            assert str(error) in (
                "The body is not JSON.",
                "The body is not an array of matches.",
                'The body is not {"ApertureApiKey": {"token": ...}}.',
            )


def test_the_keys_of_a_text_are_found_once_each_and_look_alikes_are_not() -> None:
    first, second = keys.generate(), keys.generate()
    wrong = first[:-1] + ("A" if first[-1] != "A" else "B")
    text = f"{first} {wrong} {second}X '{first}' sg-0123456789abcdef0 sg-sg-"
    assert matches.in_text(text) == [first, second]


@given(st.text(max_size=60), st.text(max_size=60), st.integers(0, 2100))
def test_no_place_holds_a_key_also_where_it_is_cut(before: str, after: str, padding: int) -> None:
    key = keys.generate()
    kept = matches.place("x" * padding + before + key + after)
    assert key[4:20] not in kept
    assert len(kept) <= matches.PLACE_LENGTH_MAX
    assert kept.isprintable() or not any(ord(character) < 32 for character in kept)
    assert key[3:20].lower() not in matches.source(before + key + after)


def test_a_place_is_kept_as_it_is_where_nothing_speaks_against_it() -> None:
    for place in ("https://github.com/ada/shop/blob/1/a.py#L3", "a chat with Zoë", ""):
        assert matches.place(place) == place
    assert matches.place(" a\x00b\nc\ud800d ") == "a b c d"


@pytest.mark.parametrize(
    ("text", "kept"), [("Commit", "commit"), ("gist content", "gist_content"), ("", ""), ("x" * 50, "x" * 32)]
)
def test_a_source_is_a_short_word(text: str, kept: str) -> None:
    assert matches.source(text) == kept
