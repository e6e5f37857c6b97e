"""Variables are read as what they should be, and a wrong one is named."""

from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from aperture_site import env

NAME = "APERTURE_SAMPLE"


@pytest.fixture(autouse=True)
def forget_the_sample() -> None:
    env.READ.discard(NAME)


@pytest.mark.parametrize(
    ("value", "read", "expected"),
    [
        ("  words  ", lambda: env.text(NAME), "words"),
        ("", lambda: env.text(NAME, "default"), "default"),
        ("Yes", lambda: env.flag(NAME), True),
        ("off", lambda: env.flag(NAME, default=True), False),
        ("", lambda: env.flag(NAME, default=True), True),
        ("8080", lambda: env.integer(NAME, 1), 8080),
        ("", lambda: env.integer(NAME, 1), 1),
        ("0.5", lambda: env.seconds(NAME, 30), 0.5),
        ("", lambda: env.seconds(NAME, 30), 30),
        ("team", lambda: env.choice(NAME, "resale", ["team", "resale"]), "team"),
        ("", lambda: env.choice(NAME, "resale", ["team", "resale"]), "resale"),
        ("a, b,,c ", lambda: env.words(NAME), ["a", "b", "c"]),
        ("", lambda: env.words(NAME, ["d"]), ["d"]),
        ("10.1.2.3/8, ::1", lambda: env.networks(NAME), [ip_network("10.0.0.0/8"), ip_network("::1")]),
        ("", lambda: env.networks(NAME), []),
        ("https://api.example.com/", lambda: env.secure_url(NAME, "https://x"), "https://api.example.com"),
        ("http://127.0.0.1:8080", lambda: env.secure_url(NAME, "https://x"), "http://127.0.0.1:8080"),
        ("http://[::1]:8080", lambda: env.secure_url(NAME, "https://x"), "http://[::1]:8080"),
        ("http://localhost", lambda: env.secure_url(NAME, "https://x"), "http://localhost"),
        ("", lambda: env.secure_url(NAME, "https://x"), "https://x"),
        ("eu-1", lambda: env.header(NAME, "local"), "eu-1"),
        ("", lambda: env.header(NAME, "local"), "local"),
        ("/srv/../data", lambda: env.folder(NAME, Path("/x")), Path("/data")),
        ("", lambda: env.folder(NAME, Path("/x")), Path("/x")),
    ],
)
def test_a_value_is_read(
    monkeypatch: pytest.MonkeyPatch, value: str, read: Callable[[], object], expected: object
) -> None:
    monkeypatch.setenv(NAME, value)
    assert read() == expected


@pytest.mark.parametrize(
    ("value", "read", "advice"),
    [
        ("perhaps", lambda: env.flag(NAME), "write 1 or 0"),
        ("many", lambda: env.integer(NAME, 1), "write a whole number"),
        ("70000", lambda: env.integer(NAME, 1, at_most=65_535), "a whole number from 0 to 65535"),
        ("soon", lambda: env.seconds(NAME, 1), "write a number of seconds"),
        ("nan", lambda: env.seconds(NAME, 1), "a number of seconds from 0 to 86400"),
        ("-1", lambda: env.seconds(NAME, 1), "a number of seconds from 0 to 86400"),
        ("both", lambda: env.choice(NAME, "team", ["team", "resale"]), "write one of team, resale"),
        ("10.0.0.0/99", lambda: env.networks(NAME), "write networks such as 10.0.0.0/8"),
        ("http://api.example.com", lambda: env.secure_url(NAME, "https://x"), "write an https:// address"),
        ("http://127.0.0.1@example.com", lambda: env.secure_url(NAME, "https://x"), "write an https:// address"),
        ("http://10.0.0.1", lambda: env.secure_url(NAME, "https://x"), "write an https:// address"),
        ("https://", lambda: env.secure_url(NAME, "https://x"), "write an https:// address"),
        ("file:///etc", lambda: env.secure_url(NAME, "https://x"), "write an https:// address"),
        ("münchen", lambda: env.header(NAME, "local"), "write printable ASCII"),
        ("perhaps", lambda: env.upstream_networks(NAME), "write allow, forbid, or networks"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_to_write(
    monkeypatch: pytest.MonkeyPatch, value: str, read: Callable[[], object], advice: str
) -> None:
    monkeypatch.setenv(NAME, value)
    with pytest.raises(env.SettingError) as refused:
        read()
    assert str(refused.value).startswith(f"{NAME}='{value}' is not valid: ")
    assert advice in str(refused.value)


def test_upstream_networks_are_allow_unless_narrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert env.upstream_networks(NAME) == ["allow"]
    monkeypatch.setenv(NAME, "10.0.0.0/8, fd00::/8")
    assert env.upstream_networks(NAME) == ["10.0.0.0/8", "fd00::/8"]


def test_every_variable_that_is_read_is_listed() -> None:
    assert NAME not in env.READ
    env.text(NAME)
    assert NAME in env.READ


def test_a_variable_may_come_several_times(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"": "a", "_10": "k", "_2": " c ", "_1": "b", "_3": "", "_BASE": "no", "_²": "no"}.items():
        monkeypatch.setenv(NAME + name, value)
    assert list(env.numbered(NAME).items()) == [("default", "a"), ("1", "b"), ("2", "c"), ("10", "k")]
    monkeypatch.delenv(NAME)
    assert "default" not in env.numbered(NAME)
