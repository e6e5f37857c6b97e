"""A small installation with a row of everything, and the secrets that no page may show."""

import uuid
from dataclasses import dataclass

from django.test import Client

from accounts import keys
from accounts.models import APIKey, Grant, Group, User
from billing.models import Usage
from catalog import credentials
from catalog.models import Alias, Credential, Model, Price, Provider, Target

SECRET = "up-canary-91c2b7aa"


@dataclass
class Installation:
    """Its rows, and the clear text of its one key."""

    alice: User
    bob: User
    key: APIKey
    clear_key: str
    provider: Provider
    credential: Credential
    model: Model
    target: Target
    price: Price
    grant: Grant
    group: Group
    usage: Usage


def populate(base_url: str = "http://127.0.0.1:9") -> Installation:
    """Make Alice, who runs it, Bob, who calls it, and one of everything."""
    alice = User.objects.create_superuser("alice@example.com", "alice's long password")
    bob = User.objects.create_user("bob@example.com", name="Bob")
    key, clear_key = keys.mint(user=bob, name="laptop", model_globs=["openai/*"], labels={"project": "search"})
    provider = Provider.objects.create(slug="openai", base_url=base_url, add_headers={"x-team": "red"})
    credential = credentials.store(provider, SECRET)
    model = Model.objects.create(public_id="openai/gpt-4o", owner="OpenAI")
    Alias.objects.create(name="gpt-4o", model=model)
    target = Target.objects.create(model=model, provider=provider, upstream_id="gpt-4o")
    price = Price.objects.create(target=target, input=2_500_000_000, output=10_000_000_000, cache_read=1_250_000_000)
    group = Group.objects.create(name="research")
    group.members.add(bob)
    grant = Grant.objects.create(subjects=["group:research"], role=Grant.USER, model_globs=["openai/*"])
    usage = Usage.objects.create(
        request_id=uuid.UUID(int=7),
        key_id=key.pk,
        user_id=bob.pk,
        organization_id=key.organization_id,
        provider_id=provider.pk,
        target_id=target.pk,
        model="openai/gpt-4o",
        dialect="openai_chat",
        status=200,
        input_tokens=1000,
        output_tokens=20,
        usage_source="provider",
        cost_nanos=2_700_000,
        duration_ms=840,
    )
    return Installation(
        alice, bob, key, clear_key, provider, credential, model, target, price, grant, group, usage
    )  # fmt: skip


def signed_in(user: User) -> Client:
    """Return a browser in which this user is signed in."""
    client = Client()
    client.force_login(user)
    return client
