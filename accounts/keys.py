"""API keys: `sg-`, 30 random base62 characters, and 6 more that are the base62 CRC32 of those 30.

A look-up costs no query for a string that cannot be a key: the checksum tells. What is stored is an HMAC-SHA256 under
a pepper that is not in the database; keys have 178 random bits, so no slow hash is needed. The newest pepper signs
new keys, and all of them recognise old ones. With APERTURE_KEY_REVEAL an encrypted copy is kept, bound to its digest.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache

from django.conf import settings
from django.utils import timezone

from accounts import cipher
from accounts.models import APIKey, Organization, User

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX = "sg-"
FORM = re.compile(r"sg-([0-9A-Za-z]{30})([0-9A-Za-z]{6})")


class NoCopy(LookupError):
    """This key cannot be shown again."""


def checksum(body: str) -> str:
    """Return the six base62 characters of the CRC32 of BODY."""
    number = zlib.crc32(body.encode("ascii"))
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits


def generate() -> str:
    """Return a new key in clear text."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(30))
    return PREFIX + body + checksum(body)


def well_formed(key: str) -> bool:
    """Tell whether KEY could be one of ours: its form and checksum."""
    match = FORM.fullmatch(key)
    return match is not None and checksum(match[1]) == match[2]


def digests(key: str) -> list[bytes]:
    """Return the 32-byte digest of KEY under each pepper, newest first."""
    data = key.encode("ascii")
    found = []
    for begun in _macs(tuple(settings.KEY_PEPPERS)):
        mac = begun.copy()
        mac.update(data)
        found.append(mac.digest())
    return found


@lru_cache(maxsize=4)
def _macs(peppers: tuple[str, ...]) -> list[hmac.HMAC]:
    """Return an HMAC begun with each pepper: copying one costs a third of beginning it."""
    return [hmac.new(pepper.encode(), digestmod=hashlib.sha256) for pepper in peppers]


def mask(key: str) -> str:
    """Return what may be shown of KEY: `sg-ab…wxyz`."""
    return f"{key[:5]}…{key[-4:]}"


def issue(row: APIKey) -> str:
    """Save ROW, which is new, with a new key, and return the key's clear text, which is nowhere else."""
    key = _put_new_key(row)
    row.save(force_insert=True)
    return key


def renew(row: APIKey) -> str:
    """Save ROW with another secret and return its clear text; what becomes of the former one is `rotation`'s business.

    Name, bounds and usage stay.
    """
    key = _put_new_key(row)
    row.last_used_at = None
    row.save(update_fields=["display", "digest", "pepper_version", "encrypted_copy", "issued_at", "last_used_at"])
    return key


def _put_new_key(row: APIKey) -> str:
    key = generate()
    digest = digests(key)[0]
    row.display = mask(key)
    row.digest = digest
    row.issued_at = timezone.now()
    # For the operator's own query: while peppers are only ever added, it names the one that this key needs.
    row.pepper_version = len(settings.KEY_PEPPERS)
    row.encrypted_copy = cipher.seal(key, _purpose(digest)) if settings.KEY_REVEAL else None
    return key


def mint(
    *,
    user: User,
    organization: Organization | None = None,
    name: str = "default",
    model_globs: Sequence[str] = (),
    scopes: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    expires_at: datetime | None = None,
) -> tuple[APIKey, str]:
    """Make a key for USER and return its row and its clear text."""
    row = APIKey(
        organization=organization or user.personal_organization,
        user=user,
        name=name,
        model_globs=list(model_globs),
        scopes=list(scopes),
        labels=dict(labels or {}),
        expires_at=expires_at,
    )
    return row, issue(row)


def reveal(row: APIKey) -> str:
    """Return a key in clear text, or raise NoCopy; who may ask, and the audit line, are the caller's business."""
    if row.encrypted_copy is None:
        raise NoCopy(
            f"No copy of key {row.display} was kept. Copies are kept of keys made while APERTURE_KEY_REVEAL=1; "
            "make a new key instead."
        )
    try:
        return cipher.unseal(bytes(row.encrypted_copy), _purpose(bytes(row.digest)))
    except cipher.UnreadableSecret as error:
        raise NoCopy(f"The copy of key {row.display} does not open: {error}") from None


def _purpose(digest: bytes) -> str:
    return f"key:{digest.hex()}"
