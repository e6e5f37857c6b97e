"""Encrypt and open what must be shown again: upstream secrets.

Each ciphertext is bound to its purpose (a text such as `credential:7:https://api.openai.com`), which is encrypted with
it and compared on opening: a ciphertext moved to another row or host does not open. The newest key encrypts, all of
them decrypt.
"""

import hashlib
import secrets
from urllib.parse import urlsplit

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import transaction

from catalog.models import Credential, Provider

SEPARATOR = b"\x00"


class UnreadableSecret(ValueError):  # noqa: N818
    """A ciphertext does not open: another key encrypted it, or it belongs to another row or host."""


def box() -> MultiFernet:
    """Return the installation's cipher."""
    return MultiFernet([Fernet(key) for key in settings.ENCRYPTION_KEYS])


def seal(secret: str, purpose: str) -> bytes:
    """Encrypt SECRET so that it opens for this purpose only."""
    return box().encrypt(purpose.encode() + SEPARATOR + secret.encode())


def unseal(ciphertext: bytes, purpose: str) -> str:
    """Return the secret, or raise UnreadableSecret."""
    try:
        bound, _, secret = box().decrypt(ciphertext).partition(SEPARATOR)
    except InvalidToken:
        raise UnreadableSecret("The ciphertext does not open with any of the encryption keys.") from None
    if not secrets.compare_digest(bound, purpose.encode()):
        raise UnreadableSecret("The ciphertext belongs to another row or another host.")
    return secret.decode()


def fingerprint(secret: str) -> str:
    """Return eight hexadecimal digits by which people tell secrets apart."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def host_of(base_url: str) -> str:
    """Return scheme, host and port of a base URL: what a credential is bound to."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def purpose(provider_id: int, name: str, host: str) -> str:
    """Return what a provider's credential is bound to."""
    return f"credential:{provider_id}:{name}:{host}"


@transaction.atomic
def store(provider: Provider, secret: str, *, name: str = "default", source: str = Credential.ADMIN) -> Credential:
    """Set the provider's credential of this name; an equal one that still opens is left as it is."""
    existing = Credential.objects.filter(provider=provider, name=name).first()
    if existing and existing.host == host_of(provider.base_url) and existing.fingerprint == fingerprint(secret):
        return existing
    row, _ = Credential.objects.update_or_create(
        provider=provider,
        name=name,
        defaults={
            "encrypted": seal(secret, purpose(provider.pk, name, host_of(provider.base_url))),
            "host": host_of(provider.base_url),
            "fingerprint": fingerprint(secret),
            "source": source,
            "enabled": True,
        },
    )
    return row


def open_credential(row: Credential) -> str:
    """Return a credential's secret, or raise UnreadableSecret."""
    return unseal(bytes(row.encrypted), purpose(row.provider_id, row.name, row.host))
