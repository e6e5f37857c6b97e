"""Read settings from the environment, and fail loudly with the variable's name.

Invariant: every variable that the product reads is read through this module, so `READ` lists them all; a test
compares that list with docs/configuration.md.
"""

import os
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

READ: set[str] = set()

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off"}


class SettingError(ValueError):
    """A variable holds a value that cannot be used; the message names the variable and says what to write."""

    def __init__(self, name: str, value: str, expected: str) -> None:
        super().__init__(f"{name}={value!r} is not valid: {expected}.")


def text(name: str, default: str = "") -> str:
    """Return the variable's text, stripped; an empty variable counts as absent."""
    READ.add(name)
    return os.environ.get(name, "").strip() or default


def flag(name: str, default: bool = False) -> bool:
    """Return a yes-or-no variable."""
    value = text(name).lower()
    if not value:
        return default
    if value not in TRUE | FALSE:
        raise SettingError(name, value, "write 1 or 0")
    return value in TRUE


def integer(name: str, default: int, *, at_least: int = 0, at_most: int = 2**63 - 1) -> int:
    """Return a whole number within its bounds."""
    value = text(name)
    if not value:
        return default
    try:
        number = int(value)
    except ValueError:
        raise SettingError(name, value, "write a whole number") from None
    if not at_least <= number <= at_most:
        raise SettingError(name, value, f"write a whole number from {at_least} to {at_most}")
    return number


def seconds(name: str, default: float, *, at_least: float = 0.0, at_most: float = 86_400.0) -> float:
    """Return a duration in seconds within its bounds."""
    value = text(name)
    if not value:
        return default
    try:
        number = float(value)
    except ValueError:
        raise SettingError(name, value, "write a number of seconds") from None
    if not at_least <= number <= at_most:
        raise SettingError(name, value, f"write a number of seconds from {at_least:g} to {at_most:g}")
    return number


def choice(name: str, default: str, options: Sequence[str]) -> str:
    """Return one of a few words."""
    value = text(name, default)
    if value not in options:
        raise SettingError(name, value, "write one of " + ", ".join(options))
    return value


def words(name: str, default: Sequence[str] = ()) -> list[str]:
    """Return a comma-separated list, without empty parts."""
    value = text(name)
    return [word.strip() for word in value.split(",") if word.strip()] if value else list(default)


def upstream_networks(name: str) -> list[str]:
    """Return `allow`, `forbid` or a list of networks, as a list of words."""
    found = words(name, ["allow"])
    if found not in (["allow"], ["forbid"]):
        for word in found:
            try:
                ip_network(word, strict=False)
            except ValueError:
                raise SettingError(name, word, "write allow, forbid, or networks such as 10.0.0.0/8,fd00::/8") from None
    return found


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """Return a comma-separated list of IP networks; an address alone is a network of one."""
    found: list[IPv4Network | IPv6Network] = []
    for word in words(name):
        try:
            found.append(ip_network(word, strict=False))
        except ValueError:
            raise SettingError(name, word, "write networks such as 10.0.0.0/8, separated by commas") from None
    return found


def secure_url(name: str, default: str) -> str:
    """Return an address to which secrets may be sent: https, or http on this machine's own loopback."""
    value = text(name, default)
    try:
        parts = urlsplit(value)
        host = parts.hostname or ""
        loopback = parts.scheme == "http" and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:
        host, loopback = "", False
    if not host or not (parts.scheme == "https" or loopback):
        raise SettingError(name, value, "write an https:// address, or an http:// one of 127.0.0.1 or localhost")
    return value.rstrip("/")


def header(name: str, default: str) -> str:
    """Return a text that can be the value of an HTTP header."""
    value = text(name, default)
    if not (value.isascii() and value.isprintable()):
        raise SettingError(name, value, "write printable ASCII characters")
    return value


def folder(name: str, default: Path) -> Path:
    """Return an absolute path; it need not exist."""
    value = text(name)
    return Path(value).expanduser().resolve() if value else default


def numbered(name: str) -> dict[str, str]:
    """Return a variable that may come several times: NAME as `default`, NAME_1, NAME_2 and so on as `1`, `2`."""
    found = {"default": text(name)}
    numbers = (variable.removeprefix(f"{name}_") for variable in os.environ if variable.startswith(f"{name}_"))
    for number in sorted((number for number in numbers if number.isascii() and number.isdigit()), key=int):
        found[number] = os.environ[f"{name}_{number}"].strip()
    return {number: value for number, value in found.items() if value}
