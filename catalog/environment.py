"""Providers from the vendors' keys in the environment (`settings.VENDOR_KEYS`), made once.

Invariants: a provider or credential is made from the environment a single time, ever (`Once` remembers): what an
operator disabled or deleted stays so. A changed key replaces the secret of an enabled credential that came from the
environment, and never goes to a host that is not the vendor's. A key that is gone from the environment stays stored.
A provider that a file or an operator made under the vendor's name is theirs and is left alone.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from django.db import transaction

from catalog import credentials, seeding, vendors
from catalog.models import Credential, Once, Provider
from catalog.seeding import Seeded
from catalog.vendors import Vendor


def make_providers(keys: Mapping[str, Mapping[str, str]]) -> dict[str, Seeded]:
    """Make or refresh the provider of each vendor that has keys; return what was seeded for each new one.

    KEYS is by vendor slug, then by the credential's name (`default`, `1`, `2` …).
    """
    given = {slug: named for slug, named in keys.items() if named}
    if not given:
        return {}
    made = {}
    for vendor in vendors.VENDORS:
        if vendor.slug in given:
            seeded = _make_provider(vendor, given[vendor.slug])
            if seeded:
                made[vendor.slug] = seeded
    return made


@transaction.atomic
def _make_provider(vendor: Vendor, named: Mapping[str, str]) -> Seeded | None:
    """Make one vendor's provider with its models, or bring its credentials up to date; None where none was made."""
    provider = Provider.objects.filter(slug=vendor.slug).first()
    if provider:
        if provider.source == Provider.ENVIRONMENT and urlsplit(provider.base_url).hostname in vendor.hosts:
            _store(provider, named)
        return None
    if not first_time(f"provider:{vendor.slug}"):
        return None
    provider = Provider.objects.create(
        slug=vendor.slug,
        name=vendor.name,
        description=f"Made from {vendor.variable}.",
        base_url=vendor.base_url,
        authorization=vendor.authorization,
        flags=list(vendor.flags),
        preference=vendor.preference,
        source=Provider.ENVIRONMENT,
    )
    _store(provider, named)
    return seeding.attach(provider)


def _store(provider: Provider, named: Mapping[str, str]) -> None:
    existing = {row.name: row for row in Credential.objects.filter(provider=provider)}
    for name, secret in named.items():
        row = existing.get(name)
        ours = row is not None and row.enabled and row.source == Credential.ENVIRONMENT
        if ours or (row is None and first_time(f"credential:{provider.slug}:{name}")):
            credentials.store(provider, secret, name=name, source=Credential.ENVIRONMENT)


def first_time(name: str) -> bool:
    """Remember that what is called NAME is being made; False where it was made before."""
    return Once.objects.get_or_create(name=name)[1]
