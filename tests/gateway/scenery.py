"""Plain snapshots for tests of pure decisions: providers, targets, models, callers and their accesses."""

from typing import Any

import msgspec

from billing.pricing import Rates
from gateway import snapshot
from gateway.snapshot import Access, Caller, Grant, Model, Provider, Snapshot, Target, Terms

RATES = Rates(
    price_id=1,
    effective_at=0.0,
    input=2_000_000,
    output=4_000_000,
    cache_read=1_000_000,
    cache_write_5m=2_000_000,
    cache_write_1h=2_000_000,
    audio_input=3_000_000,
    image_input=2_000_000,
    reasoning=5_000_000,
    audio_output=6_000_000,
)

UNMETERED = Terms(plan="free", plan_id=1, prepaid=False, funded=False)


def a_provider(slug: str = "openai", **fields: Any) -> Provider:
    plain = Provider(
        sum(slug.encode()), slug, "http://127.0.0.1:9", ("openai_chat",), {"openai_chat": {}}, (), False, None
    )
    return msgspec.structs.replace(plain, **fields)


def a_target(public_id: str, provider: str = "openai", upstream_id: str = "up", **fields: Any) -> Target:
    plain = Target(
        id=hash((public_id, provider, upstream_id)),
        provider=a_provider(provider),
        upstream_id=upstream_id,
        weight=1,
        preference=0,
        timeout_s=None,
        prices=(RATES,),
        names=(public_id, f"{provider}/{upstream_id}", f"{provider}/{public_id}"),
    )
    return msgspec.structs.replace(plain, **fields)


def a_model(public_id: str, *targets: Target, **fields: Any) -> Model:
    plain = Model(public_id, "", "", "chat", 0, True, None, None, snapshot.order(targets or (a_target(public_id),)))
    return msgspec.structs.replace(plain, **fields)


def a_grant(*globs: str, subjects: tuple[str, ...] = ("everyone",), role: str = "user", **headers: str) -> Grant:
    return Grant(frozenset(subjects), role, globs, headers)


def a_caller(*globs: str, **fields: Any) -> Caller:
    plain = Caller(
        1,
        "sg-ab…wxyz",
        "laptop",
        2,
        "bob@example.com",
        3,
        "Bob",
        frozenset({"everyone"}),
        {},
        globs,
        (),
        None,
        False,
        UNMETERED,
    )
    return msgspec.structs.replace(plain, **fields)


def a_snapshot(*models: Model | tuple[Model, list[str]], grants: tuple[Grant, ...] = (a_grant("**"),)) -> Snapshot:
    return snapshot.build(7, [each if isinstance(each, tuple) else (each, []) for each in models], grants)


def access_of(view: Snapshot, *own_globs: str) -> Access:
    return view.access(a_caller(*own_globs))
