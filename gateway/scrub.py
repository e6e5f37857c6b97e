"""Take secrets out of text that others wrote, before a caller or a log sees it. Pure."""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

import msgspec

# Shapes of keys, ours and the vendors', in whole or partly masked, and bearer tokens whatever their shape.
SHAPES = re.compile(
    r"\b(?:sg-[0-9A-Za-z]{36}|sk-[A-Za-z0-9_*.…•-]{8,}|[A-Za-z0-9_-]{2,64}(?:\*{3,}|•{3,})[A-Za-z0-9_-]*|AIza[0-9A-Za-z_-]{20,}|gsk_[A-Za-z0-9]{16,}|xai-[A-Za-z0-9]{16,}"
    r"|whsec_[A-Za-z0-9]{16,})|(?i:bearer)\s+[A-Za-z0-9._~+/*=-]{8,}"
)
HIDDEN = "[redacted]"
SECRET_CHARS_MIN = 4


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return TEXT without the given secrets, plainly or escaped, and without anything in the shape of a key."""
    long_enough = (secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN)
    # The longest first, so that no secret that contains another leaves its rest.
    for spelling in sorted({each for secret in long_enough for each in _spellings(secret)}, key=len, reverse=True):
        text = text.replace(spelling, HIDDEN)
    return SHAPES.sub(HIDDEN, text)


def _spellings(secret: str) -> Iterator[str]:
    escaped = msgspec.json.encode(secret).decode()[1:-1]
    yield from (secret, escaped, escaped.replace("/", "\\/"), quote(secret), quote(secret, safe=""), quote_plus(secret))
