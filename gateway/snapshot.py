"""What can be called, by whom, at what price: an immutable view in memory, built from plain rows. Pure.

A snapshot is replaced as a whole when the catalog's version changes; a request keeps the one it began with. What is
worked out from it for a caller lives in it too, and so ends with it.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import msgspec

from accounts.client_address import Network
from billing.pricing import Rates
from gateway import globs
from gateway.limits import FREE_MODEL, FREE_PLAN, NO_RULES, Limits, Rules
from gateway.spending import NO_LIMITS, UNBOUND, Binding, SpendingLimits, bind


class Forwarded(msgspec.Struct, frozen=True):
    """A header of the caller's that an upstream gets: whole or, with `patterns`, those of its items that match one."""

    patterns: tuple[str, ...] = ()

    def of(self, value: str) -> str:
        """Return what of a header's value is passed on; an empty text for nothing."""
        if not self.patterns:
            return value
        items = [item.strip() for item in value.split(",")]
        return ",".join(item for item in items if any(fnmatchcase(item, pattern) for pattern in self.patterns))


class Provider(msgspec.Struct, frozen=True):
    """An upstream, ready to be called. `headers`, by dialect, hold its credential: never log a provider.

    `flags` are in the order of the catalog, `forwarded` the headers that a caller's request may carry on to it.
    """

    id: int
    slug: str
    base_url: str
    flags: tuple[str, ...]
    headers: Mapping[str, Mapping[str, str]]
    secrets: tuple[str, ...]
    builtin: bool
    timeout_s: float | None
    # Whether an answer is read to its end though its caller has gone.
    drains: bool = False
    forwarded: Mapping[bytes, Forwarded] = {}
    # Whether what this upstream's answers lack is put in on the way through.
    mends: bool = False


class Target(msgspec.Struct, frozen=True):
    """A model at a provider. `names` are what globs may call it: its public id, and provider/ with either id.

    They go with the target, so that a name which several models answer to opens no more than is granted of each.
    """

    id: int
    provider: Provider
    upstream_id: str
    weight: int
    preference: int
    timeout_s: float | None
    prices: tuple[Rates, ...]
    names: tuple[str, ...]
    # Why it is passed over while another target of its model is up: "" for no reason.
    out: str = ""

    @property
    def free(self) -> bool:
        """Whether it costs its callers nothing, whatever it costs the house: by the id of the model that it is of.

        A bare upstream id can join the targets of several models, so the one that was asked for decides nothing.
        """
        return self.names[0].endswith(FREE_MODEL)


class Model(msgspec.Struct, frozen=True):
    """What a name means: its targets, best first."""

    public_id: str
    name: str
    owner: str
    kind: str
    created_at: int
    listed: bool
    context_tokens: int | None
    output_tokens_max: int | None
    targets: tuple[Target, ...]
    # What a request that sets no limit is expected to answer.
    output_tokens_typical: int = 4096


class Grant(msgspec.Struct, frozen=True):
    """Who may call what."""

    subjects: frozenset[str]
    role: str
    model_globs: tuple[str, ...]
    add_headers: Mapping[str, str]
    # Names of spending limits.
    quotas: tuple[str, ...] = ()


class Terms(msgspec.Struct, frozen=True):
    """What an organization's plan and wallet say of its requests."""

    plan: str = FREE_PLAN
    plan_id: int = 0
    prepaid: bool = False
    funded: bool = False
    markup_ppm: int = 1_000_000
    # Whether the plan has the native Anthropic endpoint, and the names of the plans that have it.
    native_anthropic: bool = True
    native_anthropic_plans: tuple[str, ...] = ()


class Caller(msgspec.Struct, frozen=True, eq=False):
    """Whom a key stands for."""

    key_id: int
    display: str
    key_name: str
    user_id: int
    email: str
    organization_id: int
    organization: str
    subjects: frozenset[str]
    labels: Mapping[str, str]
    model_globs: tuple[str, ...]
    networks: tuple[Network, ...]
    expires_at: float | None
    revoked: bool
    terms: Terms = Terms()


class Plan(msgspec.Struct, frozen=True):
    """The targets that a request for one model name may go to, best first."""

    model: Model
    targets: tuple[Target, ...]


class Access(msgspec.Struct, frozen=True):
    """What one caller may do under one snapshot."""

    role: str
    granted: globs.Matcher
    own: globs.Matcher
    headers: Mapping[str, str]
    plans: dict[str, Plan]
    limits: Limits
    spending: Binding = UNBOUND


class Snapshot(msgspec.Struct, frozen=True):
    """The whole view. `names` maps every accepted model name to its model, `aliases` each alias to its public id."""

    version: int
    models: tuple[Model, ...]
    names: Mapping[str, Model]
    aliases: Mapping[str, str]
    grants: tuple[Grant, ...]
    rules: Rules
    accesses: dict[Caller, Access]
    spending_limits: SpendingLimits = NO_LIMITS

    def access(self, caller: Caller) -> Access:
        """Return what the caller may do; worked out once for each caller and snapshot."""
        found = self.accesses.get(caller)
        if found is None:
            if len(self.accesses) >= ACCESSES_MAX:
                self.accesses.clear()
            found = self.accesses[caller] = resolve(
                self.grants, caller, self.aliases, self.rules, spending_limits=self.spending_limits
            )
        return found


ACCESSES_MAX = 20_000


def resolve(
    grants: Iterable[Grant],
    caller: Caller,
    aliases: Mapping[str, str],
    rules: Rules = NO_RULES,
    *,
    spending_limits: SpendingLimits = NO_LIMITS,
) -> Access:
    """Add up the grants that name this caller: the highest role, all globs, all headers, all spending limits.

    A grant that spells out an alias covers the model behind it; a pattern never meets aliases, only public ids.
    """
    matching = [grant for grant in grants if grant.subjects & caller.subjects]
    roles = {grant.role for grant in matching}
    role = "admin" if "admin" in roles else "user" if "user" in roles else ""
    headers: dict[str, str] = {}
    for grant in matching:
        headers |= grant.add_headers
    return Access(
        role=role,
        granted=globs.compile_any(aliases.get(glob, glob) for grant in matching for glob in grant.model_globs),
        own=globs.compile_any(caller.model_globs or ["**"]),
        headers=headers,
        plans={},
        limits=Limits(rules, caller),
        spending=bind(
            spending_limits,
            [name for grant in matching for name in grant.quotas],
            (*caller.subjects, f"org:{caller.organization_id}"),
            caller.user_id,
        ),
    )


def build(
    version: int,
    models: Iterable[tuple[Model, Iterable[str]]],
    grants: Iterable[Grant],
    rules: Rules = NO_RULES,
    *,
    spending_limits: SpendingLimits = NO_LIMITS,
) -> Snapshot:
    """Return a snapshot of MODELS (each with its aliases), GRANTS, the RULES of limits and spending limits.

    A name means, in this order: a public id or alias; `provider/upstream-id` or `provider/public-id`; a bare upstream
    id. Where several models answer to one of the latter, their targets are put together.
    """
    pairs = sorted(((model, tuple(aliases)) for model, aliases in models), key=lambda pair: pair[0].public_id)
    named = {model.public_id: model for model, _ in pairs}
    aliased = {alias: model for model, aliases in pairs for alias in aliases if alias not in named}
    names = aliased | named
    for spelling in (_qualified, _bare):
        found: dict[str, Model] = {}
        for model, _ in pairs:
            for target in model.targets:
                for name in spelling(target):
                    if name not in names:
                        found[name] = _joined(found.get(name), model, target)
        names |= found
    return Snapshot(
        version=version,
        models=tuple(model for model, _ in pairs),
        names=names,
        aliases={alias: model.public_id for alias, model in aliased.items()},
        grants=tuple(grants),
        rules=rules,
        accesses={},
        spending_limits=spending_limits,
    )


def _qualified(target: Target) -> tuple[str, ...]:
    return target.names


def _bare(target: Target) -> tuple[str, ...]:
    return (target.upstream_id,)


def _joined(before: Model | None, model: Model, target: Target) -> Model:
    targets = (*(before.targets if before else ()), target)
    unique = {each.id: each for each in targets}
    return msgspec.structs.replace(before or model, targets=order(unique.values()))


def order(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Return targets best first: highest preference, then weight, then the provider's name."""
    return tuple(
        sorted(targets, key=lambda each: (-each.preference, -each.weight, each.provider.slug, each.upstream_id))
    )


def is_one_model(upstream_ids: Iterable[str]) -> bool:
    """Tell whether upstream ids are one model's spellings, such as `a/claude-4.6` and `claude-4-6`."""
    return len({re.sub(r"[._:]", "-", each.rsplit("/", 1)[-1].lower()) for each in upstream_ids}) <= 1
