"""What start-up makes by itself: an operator's sign-in, a first grant, the demo, and the environment's providers.

Invariants: everything is made once; what an operator changes or deletes afterwards stays so. A password and a key in
clear text are printed when they are made and are nowhere else. A later start, with nothing to do, costs a few queries.
"""

import json
import secrets
from collections.abc import Iterable
from typing import TextIO

from django.conf import settings
from django.db import transaction

from gateway import demo_model

ADMIN_EMAIL = "admin@aperture.local"
DEMO_EMAIL = "demo@aperture.local"
DEMO_SLUG = "demo"
DEMO_MODEL = "demo/chat:free"

Lines = list[tuple[str, str]]


def run(stdout: TextIO, address: str, loopback: str) -> None:
    """Make what is missing and print what is new; ADDRESS is for people, LOOPBACK for this machine itself."""
    with transaction.atomic():
        signing_in = make_admin(address)
        make_first_grant()
        demo = bring_up_demo(address, loopback)
    write_section(stdout, "The first sign-in (shown once)", signing_in)
    write_section(stdout, "A demo key (shown once), and a request that works when pasted", demo)
    write_section(stdout, "Providers from the environment", make_environment_providers())


def make_admin(address: str) -> Lines:
    """Make the first operator where there is none; return how to sign in."""
    from accounts.models import User

    if User.objects.filter(is_superuser=True).exists():
        return []
    password = secrets.token_urlsafe(12)
    user = User.objects.filter(email=ADMIN_EMAIL).first()
    if user:
        user.is_staff = user.is_superuser = user.is_active = True
        user.set_password(password)
        user.save()
    else:
        User.objects.create_superuser(ADMIN_EMAIL, password)
    return [("Admin", f"{address}/admin/"), ("E-mail", ADMIN_EMAIL), ("Password", password)]


def make_first_grant() -> None:
    """Let everyone call everything on a fresh installation, unless somebody has said otherwise already.

    In resale mode too: a customer without a grant could not even use the sandbox, and what he may spend is the
    wallet's business. Its source is the operator, so no import touches it.
    """
    from accounts.models import Grant
    from catalog.environment import first_time

    if first_time("grant:everyone") and not Grant.objects.exists():
        Grant.objects.create(
            name="everyone", subjects=["everyone"], role=Grant.USER, model_globs=["**"], source=Grant.ADMIN
        )


def bring_up_demo(address: str, loopback: str) -> Lines:
    """Make the demo provider, its models, a user and a key; later, follow the port. Return what to show."""
    from catalog import credentials
    from catalog.environment import first_time
    from catalog.models import Provider

    base_url = f"{loopback}/demo"
    provider = Provider.objects.filter(slug=DEMO_SLUG).first()
    if not settings.DEMO:
        if provider and provider.source == Provider.DEMO and provider.enabled:
            provider.enabled = False
            provider.save(update_fields=["enabled"])
        return []
    if provider is None:
        return make_demo(base_url, address) if first_time("provider:demo") else []
    if provider.source == Provider.DEMO:
        # Asked for before the address changes: that takes away what is bound to the old one.
        open_to_us = provider.credentials.filter(name="default", source=Provider.DEMO, enabled=True).exists()
        if provider.base_url != base_url:
            provider.base_url = base_url
            provider.save(update_fields=["base_url"])
        if open_to_us:
            credentials.store(provider, settings.DEMO_SECRET, source=Provider.DEMO)
    return []


def make_demo(base_url: str, address: str) -> Lines:
    """Make everything that the demo needs; return the key and a request with it."""
    from accounts import keys
    from accounts.models import Grant, User
    from catalog import credentials
    from catalog.models import Model, Price, Provider, Target

    provider = Provider.objects.create(
        slug=DEMO_SLUG,
        name="Demo",
        description="Built in. Repeats what it is told, so that all can be tried before a vendor's key is there.",
        base_url=base_url,
        source=Provider.DEMO,
    )
    credentials.store(provider, settings.DEMO_SECRET, source=Provider.DEMO)
    for public_id, upstream_id, name, kind in (
        (DEMO_MODEL, demo_model.CHAT, "Demo chat", Model.CHAT),
        ("demo/embed:free", demo_model.EMBEDDING, "Demo embeddings", Model.EMBEDDING),
    ):
        model, _ = Model.objects.get_or_create(
            public_id=public_id,
            defaults={
                "name": name,
                "owner": "Aperture",
                "best_for": "Trying things out",
                "kind": kind,
                "supports_tools": kind == Model.CHAT,
                "supports_json_schema": kind == Model.CHAT,
                "context_tokens": 128_000 if kind == Model.CHAT else 8_192,
                "listed": True,
                "source": Model.DEMO,
            },
        )
        target = Target.objects.create(model=model, provider=provider, upstream_id=upstream_id, source=Target.DEMO)
        Price.objects.create(target=target, input=0, output=0, source=Price.SEED)
    user = User.objects.filter(email=DEMO_EMAIL).first() or User.objects.create_user(DEMO_EMAIL, name="Demo")
    # The key works at once, also where the operator's own grants do not cover it.
    Grant.objects.create(
        name="demo", subjects=[f"user:{DEMO_EMAIL}"], role=Grant.USER, model_globs=["demo/**"], source=Grant.DEMO
    )
    _, key = keys.mint(user=user, name="demo")
    return [
        ("Base URL", f"{address}/api/v1"),
        ("API key", key),
        ("Model", DEMO_MODEL),
        ("", curl(address, key)),
    ]


def curl(address: str, key: str) -> str:
    """Return a command for a POSIX shell that asks the demo model something."""
    body = json.dumps({"model": DEMO_MODEL, "messages": [{"role": "user", "content": "Hello, Aperture"}]})
    return (
        f"curl {address}/api/v1/chat/completions -H 'Authorization: Bearer {key}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )


def make_environment_providers() -> Lines:
    """Make the providers of the vendors' keys; return one line for each new one, or for what went wrong."""
    from catalog import environment
    from catalog.price_list import PriceListError

    try:
        made = environment.make_providers(settings.VENDOR_KEYS)
    except PriceListError as error:
        return [("Not made", f"{error} The next start tries again.")]
    return [(slug, str(seeded)) for slug, seeded in made.items()]


def write_section(stdout: TextIO, title: str, lines: Iterable[tuple[str, str]]) -> None:
    """Print a title and its lines with their names in one column; nothing at all where there are no lines."""
    shown = list(lines)
    if not shown:
        return
    width = max(len(name) for name, _ in shown) + 2
    stdout.write(f"{title}\n\n")
    for name, value in shown:
        stdout.write(f"  {name.ljust(width)}{value}\n" if name else f"\n  {value}\n")
    stdout.write("\n")
