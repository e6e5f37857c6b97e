"""Which headers of a caller's request an upstream gets: an operator's list for each provider. Pure.

An entry is a header's name or, with a colon and patterns between blanks (`anthropic-beta: context-1m-* files-*`), those
of its items that match one, for a vendor refuses a request for one item that it does not know.
"""

import re

from django.core.exceptions import ValidationError

from accounts.headers import FRAMING_HEADERS

NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
# What shows who pays or who asks is ours to say.
REFUSED = FRAMING_HEADERS | {"authorization", "x-api-key", "x-goog-api-key", "cookie"}


def default() -> list[str]:
    """Return what a new provider's upstream gets."""
    return ["openai-beta", "anthropic-beta", "anthropic-version"]


def validate(entry: str) -> None:
    """Raise ValidationError for an entry that is none, or whose header is not a caller's to set."""
    name = entry.partition(":")[0].strip()
    if not NAME.fullmatch(name):
        raise ValidationError(f"{name!r} is not a header's name.")
    if name.lower() in REFUSED:
        raise ValidationError(f"{name} is never forwarded: what it says is the gateway's own.")
