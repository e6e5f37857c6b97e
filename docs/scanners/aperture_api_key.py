"""A plugin of detect-secrets that finds Aperture's API keys: `detect-secrets scan -p aperture_api_key.py`.

The last six of a key's 36 characters are the base62 CRC32 of the first thirty, so that look-alikes, such as the ids of
AWS security groups, are told apart without asking anybody. Nothing of Aperture is needed to run it.
"""

import re
import zlib
from collections.abc import Generator

from detect_secrets.plugins.base import RegexBasedDetector

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class ApertureApiKeyDetector(RegexBasedDetector):
    """Finds API keys of Aperture gateways."""

    secret_type = "Aperture API Key"  # noqa: S105

    denylist = (re.compile(r"sg-[0-9A-Za-z]{36}"),)

    def analyze_string(self, string: str) -> Generator[str, None, None]:
        """Yield the keys of a line."""
        for found in super().analyze_string(string):
            if has_checksum(found):
                yield found


def has_checksum(key: str) -> bool:
    """Tell whether the end of a text with a key's form is the checksum of what is before it."""
    number, digits = zlib.crc32(key[3:33].encode("ascii")), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return key[33:] == digits
