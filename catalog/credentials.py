"""Store and open a provider's secrets.

A credential is bound to its provider, its name and its provider's host (`accounts.cipher`). It never follows a
provider to another host: the database deletes it when the base URL's host changes, however that was done (migration
0002), and `open_credential` refuses one whose host is not its provider's.
"""

import hashlib

from django.db import transaction

from accounts.cipher import UnreadableSecret, seal, unseal
from catalog import standings
from catalog.models import Credential, Provider

__all__ = ["UnreadableSecret", "authorization", "fingerprint", "open_credential", "purpose", "store"]

# How a provider is shown its secret: the header's name, and what stands before the secret.
AUTHORIZATIONS = {
    Provider.BEARER: ("Authorization", "Bearer "),
    Provider.X_API_KEY: (Provider.X_API_KEY, ""),
    Provider.X_GOOG_API_KEY: (Provider.X_GOOG_API_KEY, ""),
}


def fingerprint(secret: str) -> str:
    """Return eight hexadecimal digits by which people tell secrets apart."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def purpose(provider_id: int, name: str, host: str) -> str:
    """Return what a provider's credential is bound to."""
    return f"credential:{provider_id}:{name}:{host}"


@transaction.atomic
def store(provider: Provider, secret: str, *, name: str = "default", source: str = Credential.ADMIN) -> Credential:
    """Set the provider's credential of this name; an equal one that still opens is left as it is."""
    existing = Credential.objects.filter(provider=provider, name=name).first()
    if existing and existing.host == provider.host and existing.fingerprint == fingerprint(secret):
        return existing
    row, _ = Credential.objects.update_or_create(
        provider=provider,
        name=name,
        defaults={
            "encrypted": seal(secret, purpose(provider.pk, name, provider.host)),
            "host": provider.host,
            "fingerprint": fingerprint(secret),
            "source": source,
            "enabled": True,
        },
    )
    standings.look_soon(provider)
    return row


def open_credential(row: Credential) -> str:
    """Return a credential's secret, or raise UnreadableSecret; ROW comes with its provider."""
    return unseal(bytes(row.encrypted), purpose(row.provider_id, row.name, row.provider.host))


def authorization(kind: str, secret: str) -> dict[str, str]:
    """Return the header by which a provider of this kind is shown its secret."""
    name, prefix = AUTHORIZATIONS[kind]
    return {name: prefix + secret}
