"""Take secrets out of text that others wrote, before a caller or a log sees it. Pure."""

import re
from collections.abc import Iterable

# Shapes of keys, ours and the vendors', and bearer tokens whatever their shape.
SHAPES = re.compile(
    r"\b(?:sg-[0-9A-Za-z]{36}|sk-[A-Za-z0-9_*.-]{8,}|AIza[0-9A-Za-z_-]{20,}|gsk_[A-Za-z0-9]{16,}|xai-[A-Za-z0-9]{16,}"
    r"|whsec_[A-Za-z0-9]{16,})|(?i:bearer)\s+[A-Za-z0-9._~+/*=-]{8,}"
)
HIDDEN = "[redacted]"
SECRET_CHARS_MIN = 4


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return TEXT without the given secrets and without anything in the shape of a key."""
    for secret in secrets:
        if len(secret) >= SECRET_CHARS_MIN:
            text = text.replace(secret, HIDDEN)
    return SHAPES.sub(HIDDEN, text)
