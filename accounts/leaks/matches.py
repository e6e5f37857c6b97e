"""What reporters send: GitHub's arrays of matches, TruffleHog's requests, and texts that hold keys. Pure.

A match says which text was found, and where. Of what was found only `revocation` and the answer to the reporter know;
no error here quotes any of it.
"""

import json
import re
from typing import Any

import msgspec

from accounts import keys

MATCHES_MAX = 20_000
TOKEN_LENGTH_MAX = 4096
PLACE_LENGTH_MAX = 2000
SOURCE_LENGTH_MAX = 32
# Control characters, NUL among them, are nothing that a place has, and PostgreSQL has no NUL.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
# The form without any boundary: the checksum tells, also where a key runs into other text.
KEY = re.compile(r"sg-[0-9A-Za-z]{36}")


class Unreadable(ValueError):
    """A message is not what its sender's protocol says."""


class TooMany(ValueError):
    """A message has more matches than are taken at once."""


class Match(msgspec.Struct, frozen=True):
    """A text that was found, its type as the finder calls it, and where."""

    token: str
    type: str = ""
    url: str = ""
    source: str = ""


def from_github(body: bytes) -> tuple[list[Match], int]:
    """Return the matches of an alert, and how many of its elements are none; raise Unreadable or TooMany.

    One element that cannot be read does not save the keys in the others.
    """
    elements = _json(body)
    if not isinstance(elements, list):
        raise Unreadable("The body is not an array of matches.")
    if len(elements) > MATCHES_MAX:
        raise TooMany(f"The body has more than {MATCHES_MAX} matches.")
    found = [_match(element) for element in elements]
    matches = [match for match in found if match is not None]
    return matches, len(found) - len(matches)


def _match(element: Any) -> Match | None:
    if not isinstance(element, dict):
        return None
    token = element.get("token")
    if not isinstance(token, str) or not 0 < len(token) <= TOKEN_LENGTH_MAX:
        return None
    texts = {name: element.get(name) for name in ("type", "url", "source")}
    return Match(token, **{name: text if isinstance(text, str) else "" for name, text in texts.items()})


def from_trufflehog(body: bytes) -> list[str]:
    """Return the texts of a verifier's request, `{NAME: {"token": [...]}}`; raise Unreadable.

    TruffleHog sends the whole match and then each group of its rule; a single text is taken too.
    """
    message = _json(body)
    named = message.get("ApertureApiKey") if isinstance(message, dict) else None
    token = named.get("token") if isinstance(named, dict) else None
    texts = [token] if isinstance(token, str) else token
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Unreadable('The body is not {"ApertureApiKey": {"token": ...}}.')
    return texts


def in_text(text: str) -> list[str]:
    """Return the keys in a text, each once: those with the form and the checksum."""
    return list(dict.fromkeys(found for found in KEY.findall(text) if keys.well_formed(found)))


def place(text: str) -> str:
    """Return where something was found, fit to be kept and shown: no key is in it, whoever wrote it."""
    # Masked before it is cut: a key that the cut went through would not be seen as one.
    shown = KEY.sub(lambda found: keys.mask(found[0]), CONTROL.sub(" ", text))
    return shown[:PLACE_LENGTH_MAX].strip()


def source(text: str) -> str:
    """Return the kind of place, such as `commit`; GitHub's documents and samples differ in case."""
    if KEY.search(text):
        return "unknown"
    return re.sub(r"[^a-z0-9_.-]+", "_", text.lower())[:SOURCE_LENGTH_MAX]


def _json(body: bytes) -> Any:
    # The standard library takes half a surrogate and a number that is out of range; a stricter reader would refuse the
    # whole alert, with the keys in it.
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable("The body is not JSON.") from None
