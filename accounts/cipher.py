"""Encrypt and open what must be shown or used again: upstream secrets, and keys where the operator keeps copies.

Each ciphertext is bound to its purpose (a text such as `credential:7:default:https://api.openai.com`), which is
encrypted with it and compared on opening: a ciphertext moved to another row or host does not open. The newest key
encrypts, all of them decrypt.
"""

import secrets

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

SEPARATOR = b"\x00"


class UnreadableSecret(ValueError):
    """A ciphertext does not open: another key encrypted it, or it belongs to another row or host."""


def box() -> MultiFernet:
    """Return the installation's cipher."""
    return MultiFernet([Fernet(key) for key in settings.ENCRYPTION_KEYS])


def seal(secret: str, purpose: str) -> bytes:
    """Encrypt SECRET so that it opens for this purpose only."""
    return seal_bytes(secret.encode(), purpose)


def seal_bytes(secret: bytes, purpose: str) -> bytes:
    """Encrypt SECRET, which is no text, so that it opens for this purpose only."""
    return box().encrypt(purpose.encode() + SEPARATOR + secret)


def unseal(ciphertext: bytes, purpose: str) -> str:
    """Return the secret, or raise UnreadableSecret."""
    return unseal_bytes(ciphertext, purpose).decode()


def unseal_bytes(ciphertext: bytes, purpose: str) -> bytes:
    """Return a secret that is no text, or raise UnreadableSecret."""
    try:
        bound, _, secret = box().decrypt(ciphertext).partition(SEPARATOR)
    except InvalidToken:
        raise UnreadableSecret("The ciphertext does not open with any of the encryption keys.") from None
    if not secrets.compare_digest(bound, purpose.encode()):
        raise UnreadableSecret("The ciphertext belongs to another row or another host.")
    return secret
