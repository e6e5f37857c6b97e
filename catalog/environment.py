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
    existing = {
        provider.slug: provider for provider in Provider.objects.filter(slug__in=given).prefetch_related("credentials")
    }
    made = {}
    for vendor in vendors.VENDORS:
        provider = existing.get(vendor.slug)
        named = given.get(vendor.slug, {})
        if provider is None and named:
            seeded = _make_provider(vendor, named)
            if seeded:
                made[vendor.slug] = seeded
        elif provider and provider.source == Provider.ENVIRONMENT and at_home(provider, vendor):
            _store(provider, named)
    return made


@transaction.atomic
def _make_provider(vendor: Vendor, named: Mapping[str, str]) -> Seeded | None:
    """Make a vendor's provider with its models; None where it was made before and then deleted."""
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
    """Store the keys that are new or changed, where the operator has not said otherwise."""
    existing = {row.name: row for row in provider.credentials.all()}
    for name, secret in named.items():
        row = existing.get(name)
        if row is None:
            wanted = first_time(f"credential:{provider.slug}:{name}")
        else:
            same = row.host == provider.host and row.fingerprint == credentials.fingerprint(secret)
            wanted = row.enabled and row.source == Credential.ENVIRONMENT and not same
        if wanted:
            credentials.store(provider, secret, name=name, source=Credential.ENVIRONMENT)


def at_home(provider: Provider, vendor: Vendor) -> bool:
    """Tell whether a provider still has an address of its vendor's."""
    return urlsplit(provider.base_url).hostname in vendor.hosts


def first_time(name: str) -> bool:
    """Remember that what is called NAME is being made; False where it was made before."""
    return Once.objects.get_or_create(name=name)[1]
