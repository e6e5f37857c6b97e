"""GitHub's signatures of its alerts: ECDSA over P-256 with SHA-256, of the body's very bytes. Pure.

https://docs.github.com/en/code-security/secret-scanning/secret-scanning-partnership-program/secret-scanning-partner-program
"""

import base64
import binascii
import re

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

IDENTIFIER = re.compile(r"[0-9a-fA-F]{64}")
# A DER signature over P-256 has at most 72 bytes.
SIGNATURE = re.compile(r"[0-9A-Za-z+/]{8,100}={0,2}")
KEYS_MAX = 100


class _Listed(msgspec.Struct):
    key_identifier: str
    key: str


class _Listing(msgspec.Struct):
    public_keys: list[_Listed]


class NoKeys(ValueError):
    """A listing of public keys cannot be read, or has none that can be used."""


def could_be_signed(identifier: str, signature: str) -> bool:
    """Tell, without any work, whether the two headers have the form of a signed alert's."""
    return IDENTIFIER.fullmatch(identifier) is not None and SIGNATURE.fullmatch(signature) is not None


def read_keys(listing: bytes) -> dict[str, ec.EllipticCurvePublicKey]:
    """Return the P-256 keys of a listing by their identifiers; raise NoKeys where there is none."""
    try:
        listed = msgspec.json.decode(listing, type=_Listing).public_keys
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NoKeys("The listing is not the JSON of public keys.") from None
    found = {}
    for entry in listed[:KEYS_MAX]:
        try:
            key = load_pem_public_key(entry.key.encode())
        except (ValueError, UnsupportedAlgorithm):
            continue
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            found[entry.key_identifier.lower()] = key
    if not found:
        raise NoKeys("The listing has no P-256 key.")
    return found


def holds(key: ec.EllipticCurvePublicKey, signature: str, body: bytes) -> bool:
    """Tell whether KEY signed exactly BODY; SIGNATURE is base64 of DER."""
    try:
        key.verify(base64.b64decode(signature, validate=True), body, ec.ECDSA(hashes.SHA256()))
    except (binascii.Error, InvalidSignature, ValueError):
        return False
    return True
