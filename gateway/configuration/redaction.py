"""What stands for a secret in an export, and what is a secret at all. Pure.

A redacted secret is `REDACTED:` and its fingerprint. Imported again it keeps the stored secret.
"""

import re

from catalog.credentials import fingerprint

MARK = "REDACTED:"
MARKER = re.compile(r"REDACTED:[0-9a-f]{0,16}")
PLACEHOLDER = re.compile(r"<.*>|your[-_ ].*|.*[-_]your[-_].*|x{4,}|change[-_ ]?me|\.\.\.", re.IGNORECASE)
SECRET_HEADER = re.compile(r"auth|cookie|credential|key|password|secret|signature|token", re.IGNORECASE)


def marker(fingerprint_shown: str) -> str:
    """Return what stands for a secret of this fingerprint."""
    return MARK + fingerprint_shown


def is_marker(text: str) -> bool:
    """Tell whether a text stands for a secret that is stored."""
    return MARKER.fullmatch(text) is not None


def is_placeholder(text: str) -> bool:
    """Tell whether a text is an example's stand-in for a key, such as `<your-openai-key>`."""
    return PLACEHOLDER.fullmatch(text.strip()) is not None


def headers(values: dict[str, str]) -> dict[str, str]:
    """Return headers with the values of those that carry secrets redacted."""
    return {
        name: marker(fingerprint(value)) if SECRET_HEADER.search(name) and not is_marker(value) else value
        for name, value in values.items()
    }
