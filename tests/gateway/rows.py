"""Make the rows that the gateway's tests share: providers that lie, their models, three people, and their keys."""

from datetime import timedelta

from django.db import connections
from django.utils import timezone

from accounts import keys
from accounts.models import APIKey, Grant, User
from billing import ledger
from billing.models import House, Kind, Wallet
from billing.money import Money
from catalog import credentials
from catalog.models import Alias, Model, Price, Provider, Target
from tests.gateway.installation import CREDENTIAL, Installation
from tests.upstream.scenarios import SCENARIOS

# Scenarios that never answer are given up early, and so are tested early.
TIMEOUT_S = 0.6
HASTY = ("silent", "slow-first-byte-2")
DOLLAR_NANOS = 10**9


def install(addresses: dict[str, str], *, database_url: str, redis_url: str) -> Installation:
    """Fill the database that Django is connected to; ADDRESSES are those of the providers."""
    installed = Installation(database_url, redis_url)
    _providers(installed, addresses)
    _people(installed)
    connections.close_all()
    return installed


def _providers(installed: Installation, addresses: dict[str, str]) -> None:
    for slug, address in addresses.items():
        provider = Provider.objects.create(slug=slug, base_url=address)
        credentials.store(provider, CREDENTIAL)
        installed.providers[slug] = provider
        if slug != "chaos":
            model = Model.objects.create(public_id=f"{slug}/ok")
            Target.objects.create(model=model, provider=provider, upstream_id="ok")
    models = Model.objects.bulk_create(
        Model(public_id=f"chaos/{name}", timeout_s=TIMEOUT_S if name in HASTY else None) for name in SCENARIOS
    )
    chaos = installed.providers["chaos"]
    targets = Target.objects.bulk_create(
        Target(model=model, provider=chaos, upstream_id=model.public_id.removeprefix("chaos/")) for model in models
    )
    since = timezone.now() - timedelta(days=1)
    Price.objects.bulk_create(
        Price(target=target, effective_at=since, input=2 * DOLLAR_NANOS, output=10 * DOLLAR_NANOS, cache_read=0)
        for target in targets
    )
    Alias.objects.create(name="nickname", model=next(each for each in models if each.public_id == "chaos/ok"))


def prepaid(installed: Installation, name: str, nanos: int) -> int:
    """Make a person with a key of this name and so much credit, and no grant; return the organization's id."""
    user = User.objects.create_user(f"{name}@example.com")
    installed.keys[name] = keys.mint(user=user)[1]
    organization_id = user.personal.pk
    ledger.wallet_of(organization_id)
    Wallet.objects.filter(pk=organization_id).update(mode=Wallet.PREPAID)
    if nanos:
        ledger.credit(organization_id, Money(nanos), Kind.TOP_UP, House.CLEARING)
    connections.close_all()
    return int(organization_id)


def _people(installed: Installation) -> None:
    for name in ("alice", "bob", "charlie"):
        installed.users[name] = User.objects.create_user(f"{name}@example.com")
        installed.keys[name] = keys.mint(user=installed.users[name])[1]
    Grant.objects.create(name="alice", subjects=["user:alice@example.com"], role=Grant.USER, model_globs=["**"])
    Grant.objects.create(name="bob", subjects=["user:bob@example.com"], role=Grant.USER, model_globs=["chaos/ok"])
    alice = installed.users["alice"]
    installed.keys["limited"] = keys.mint(user=alice, model_globs=["chaos/ok"])[1]
    installed.keys["expired"] = keys.mint(user=alice, expires_at=timezone.now() - timedelta(hours=1))[1]
    changes: dict[str, dict[str, object]] = {
        "revoked": {"revoked_at": timezone.now()},
        "elsewhere": {"ip_allowlist": ["10.1.2.0/24"]},
    }
    for name, change in changes.items():
        row, installed.keys[name] = keys.mint(user=alice)
        APIKey.objects.filter(pk=row.pk).update(**change)
    installed.keys["unknown"] = keys.generate()
