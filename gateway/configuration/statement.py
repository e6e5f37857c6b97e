"""What a document's author wants, checked field by field, still without a look at the database. Pure.

Providers and grants are complete statements: a field that is left out has its default. A model's entry states only
the fields it names, because capabilities and prices come from the price data as well.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from catalog import addresses, flags, rates
from catalog.models import NAME_LENGTH_MAX, SLUG, TIER_NAME, Model, Price, Provider
from gateway.configuration import redaction
from gateway.configuration.document import Document
from gateway.configuration.fields import INTEGER_MAX, Fields
from gateway.configuration.grants import GrantStatement, read_grants
from gateway.configuration.problem import Path, Problem, nearest

SECTIONS = ("providers", "grants", "models")
LATER_SECTIONS = (
    "quotas", "hooks", "exporters", "auto_cost_basis", "mcp", "connectors", "database", "flags", "sandboxes",
    "chat_models",
)  # fmt: skip
PROVIDER_KEYS = (
    "baseurl", "apikey", "apikeys", "authorization", "auth_mode", "timeout_s", "models", "name", "description",
    "compatibility", "cost_basis", "model_cost_map", "preference", "disabled", "add_headers",
)  # fmt: skip
MODEL_KEYS = (
    "name", "owner", "description", "best_for", "kind", "aliases", "targets", "context_tokens", "output_tokens_max",
    "capabilities", "timeout_s", "listed", "disabled", "price",
)  # fmt: skip
TARGET_KEYS = ("provider", "id", "weight", "preference", "disabled", "price")
CAPABILITIES = ("tools", "vision", "audio", "json_schema", "reasoning")
COST_BASES = (
    "anthropic", "openai", "google", "vertex", "bedrock", "bedrock-us", "bedrock-eu", "bedrock-ap", "azure", "azure-eu",
    "openrouter", "vercel",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProviderStatement:
    """A provider's columns, its secrets by name, and the upstream ids that it serves."""

    path: Path
    columns: dict[str, Any]
    secrets: dict[str, str]
    upstream_ids: list[tuple[Path, str]]


@dataclass(frozen=True, slots=True)
class TargetStatement:
    """A model's target: the columns it names, and its price in nano-dollars by part if it names one."""

    path: Path
    provider: str
    upstream_id: str
    columns: dict[str, Any]
    price: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ModelStatement:
    """The columns that a model's entry names; aliases and targets are None where it names none."""

    path: Path
    columns: dict[str, Any]
    aliases: list[tuple[Path, str]] | None
    targets: list[TargetStatement] | None
    price: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Statement:
    """The sections of a document; one that is absent is None and says nothing."""

    providers: dict[str, ProviderStatement] | None = None
    grants: list[GrantStatement] | None = None
    models: dict[str, ModelStatement] | None = None
    problems: list[Problem] = field(default_factory=list)


def of(document: Document, environment: Mapping[str, str]) -> Statement:
    """Return what a document states, with every problem found; macros are replaced from ENVIRONMENT."""
    read = Fields(document.positions, environment, document.problems)
    data = document.data
    if data is None and document.problems:
        return Statement(problems=read.problems)
    if not isinstance(data, dict):
        read.mistyped((), data, dict)
        return Statement(problems=read.problems)
    read.unknown_keys(data, (), (*SECTIONS, "temp_grants"), LATER_SECTIONS)
    if "temp_grants" in data:
        read.note(("temp_grants",), "the old form of grants is not read; write each as an entry of grants")
    if not any(section in data for section in SECTIONS):
        read.note((), f"config must not be empty: it has none of {', '.join(SECTIONS)}")
    providers: dict[str, ProviderStatement] = {}
    models: dict[str, ModelStatement] = {}

    def provider(slug: str, path: Path, entry: dict[str, Any]) -> None:
        providers[slug] = read_provider(read, slug, path, entry)

    def model(public_id: str, path: Path, entry: dict[str, Any]) -> None:
        models[public_id] = read_model(read, public_id, path, entry)

    read.each(read.mapping(data, (), "providers"), ("providers",), provider)
    read.each(read.mapping(data, (), "models"), ("models",), model)
    grants = read_grants(read, read.items(data, (), "grants"), ("grants",))
    return Statement(
        providers if "providers" in data else None,
        grants if "grants" in data else None,
        models if "models" in data else None,
        read.problems,
    )


# --- Providers --------------------------------------------------------------------------------------------------------
def read_provider(read: Fields, slug: str, path: Path, data: dict[str, Any]) -> ProviderStatement:
    """Return a provider's statement."""
    read.unknown_keys(data, path, PROVIDER_KEYS, ("upstream", "tailnet"))
    if SLUG.regex.search(slug) is None:  # type: ignore[union-attr]
        read.note(path, "a provider's id is up to 64 letters, digits, dots, dashes and underscores", slug)
    columns = {
        "name": read.text(data, path, "name", longest=150),
        "description": read.text(data, path, "description", longest=10_000),
        "base_url": read_base_url(read, data, path),
        "authorization": read.choice(data, path, "authorization", [a for a, _ in Provider.AUTHORIZATIONS], "bearer"),
        "auth_mode": read.choice(data, path, "auth_mode", [mode for mode, _ in Provider.AUTH_MODES], "override"),
        "timeout_s": read.seconds(data, path, "timeout_s"),
        "flags": read_flags(read, data, path),
        "cost_basis": read_cost_basis(read, data, path),
        "model_cost_map": read_cost_map(read, data, path),
        "preference": read.integer(data, path, "preference", default=0, least=-INTEGER_MAX),
        "add_headers": read.headers(data, path, "add_headers"),
        "enabled": not read.flag(data, path, "disabled"),
    }
    if "models" not in data:
        read.warn(path, "names no models, so it serves none")
    ids = read.texts(read.items(data, path, "models"), (*path, "models"), longest=NAME_LENGTH_MAX)
    return ProviderStatement(path, columns, read_secrets(read, data, path), ids)


def read_base_url(read: Fields, data: dict[str, Any], path: Path) -> str:
    """Return the address as given, or note why it is none."""
    here = (*path, "baseurl")
    if not data.get("baseurl"):
        read.note(path, f"provider {path[-1]} has no baseurl configured")
        return ""
    text = read.text(data, path, "baseurl")
    if text and not addresses.is_readable(text):
        read.note(here, "must be an address such as https://api.openai.com")
        return ""
    parts = urlsplit(text)
    if parts.username is not None or parts.query or parts.fragment:
        read.note(here, "must hold no user name, query or fragment; a key belongs in apikey")
    return text


def read_flags(read: Fields, data: dict[str, Any], path: Path) -> list[str]:
    """Return the flags that are on: exactly what the block says, and the default where there is no block."""
    if "compatibility" not in data:
        return flags.default()
    block, here = read.mapping(data, path, "compatibility"), (*path, "compatibility")
    read.unknown_keys(block, here, tuple(flags.FLAGS))
    on = [flag for flag in flags.FLAGS if read.flag(block, here, flag)]
    if not on:
        read.warn(here, "switches no dialect on, so nothing can be sent to this provider")
    return on


def read_cost_basis(read: Fields, data: dict[str, Any], path: Path) -> str:
    """Return the price list's name; an unknown one is kept with a warning."""
    basis = read.text(data, path, "cost_basis", longest=32)
    if basis and basis not in COST_BASES:
        read.warn((*path, "cost_basis"), f"is no known price list{nearest(basis, COST_BASES)}", data["cost_basis"])
    return basis


def read_cost_map(read: Fields, data: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Return the price aliases in their order: `match` (a glob), `as`, and `adjustment` where it is not 1."""
    here, rules = (*path, "model_cost_map"), []
    for place, entry in read.objects(read.items(data, path, "model_cost_map"), here):
        read.unknown_keys(entry, place, ("match", "as", "adjustment"))
        rule: dict[str, Any] = {key: read.text(entry, place, key, longest=NAME_LENGTH_MAX) for key in ("match", "as")}
        for key in ("match", "as"):
            if not entry.get(key):
                read.note(place, f"lacks {key}")
        adjustment = entry.get("adjustment", 1)
        if not isinstance(adjustment, int | float) or isinstance(adjustment, bool) or not 0 <= adjustment <= 1000:
            read.note((*place, "adjustment"), "must be a number from 0 to 1000")
        elif adjustment != 1:
            rule["adjustment"] = adjustment
        rules.append(rule)
    return rules


def read_secrets(read: Fields, data: dict[str, Any], path: Path) -> dict[str, str]:
    """Return the provider's secrets by name: `apikey` is the default one, `apikeys` holds further ones."""
    more, here = read.mapping(data, path, "apikeys"), (*path, "apikeys")
    found = {"default": ((*path, "apikey"), read.text(data, path, "apikey", longest=20_000, secret=True))}
    for name in more:
        if name == "default" or not 0 < len(name) <= 64:
            read.note((*here, name), "a further key's name has 1 to 64 characters and is not default")
        else:
            found[name] = (*here, name), read.text(more, here, name, longest=20_000, secret=True)
    for place, secret in found.values():
        if secret.startswith("keyfile::"):
            read.warn(place, "service-account files are not supported by this version; it is sent as it stands")
        elif redaction.is_placeholder(secret):
            read.warn(place, "looks like an example's placeholder; put the provider's real key here")
        elif any(ord(character) < 32 or ord(character) > 126 for character in secret):
            read.note(place, "holds a character that cannot be sent in a header")
    return {name: secret for name, (_, secret) in found.items() if secret}


# --- Models -----------------------------------------------------------------------------------------------------------
def read_model(read: Fields, public_id: str, path: Path, data: dict[str, Any]) -> ModelStatement:
    """Return a model's statement."""
    read.unknown_keys(data, path, MODEL_KEYS)
    if not 0 < len(public_id) <= NAME_LENGTH_MAX or "\0" in public_id or public_id != public_id.strip():
        read.note(path, f"a model's id has 1 to {NAME_LENGTH_MAX} characters and no space around it")
    longest = {"name": 150, "owner": 100, "best_for": 200, "description": 10_000}
    columns: dict[str, Any] = {key: read.text(data, path, key, longest=longest[key]) for key in longest if key in data}
    if "kind" in data:
        columns["kind"] = read.choice(data, path, "kind", [kind for kind, _ in Model.KINDS], Model.CHAT)
    for key in ("context_tokens", "output_tokens_max"):
        if key in data:
            columns[key] = read.integer(data, path, key)
    if "timeout_s" in data:
        columns["timeout_s"] = read.seconds(data, path, "timeout_s")
    if "listed" in data:
        columns["listed"] = None if data["listed"] is None else read.flag(data, path, "listed")
    capabilities, here = read.mapping(data, path, "capabilities"), (*path, "capabilities")
    read.unknown_keys(capabilities, here, CAPABILITIES)
    for key in CAPABILITIES:
        if key in capabilities:
            columns[f"supports_{key}"] = read.flag(capabilities, here, key)
    columns["enabled"] = not read.flag(data, path, "disabled")
    aliases = read.texts(read.items(data, path, "aliases"), (*path, "aliases"), longest=NAME_LENGTH_MAX)
    targets = [
        read_target(read, place, entry)
        for place, entry in read.objects(read.items(data, path, "targets"), (*path, "targets"))
    ]
    return ModelStatement(
        path,
        columns,
        aliases if "aliases" in data else None,
        targets if "targets" in data else None,
        read_price(read, data, path),
    )


def read_target(read: Fields, path: Path, data: dict[str, Any]) -> TargetStatement:
    """Return a target's statement."""
    read.unknown_keys(data, path, TARGET_KEYS)
    for key in ("provider", "id"):
        if not data.get(key):
            read.note(path, f"a target needs {key}")
    columns: dict[str, Any] = {"enabled": not read.flag(data, path, "disabled")}
    if "weight" in data:
        columns["weight"] = read.integer(data, path, "weight", default=1)
    if "preference" in data:
        columns["preference"] = read.integer(data, path, "preference", least=-INTEGER_MAX)
    return TargetStatement(
        path,
        read.text(data, path, "provider", longest=64),
        read.text(data, path, "id", longest=NAME_LENGTH_MAX),
        columns,
        read_price(read, data, path),
    )


def read_price(read: Fields, data: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """Return a price in nano-dollars by part; the document has dollars per million tokens (per thousand searches)."""
    if "price" not in data:
        return None
    entry, here = read.mapping(data, path, "price"), (*path, "price")
    read.unknown_keys(entry, here, (*Price.PARTS, "source", "tiers"))
    price = read_rates(read, entry, here)
    price["source"] = read.choice(entry, here, "source", [Price.SEED, Price.OPERATOR], Price.OPERATOR)
    price["tiers"] = read_tiers(read, entry, here)
    return price


def read_rates(read: Fields, entry: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the rate of each part in nano-dollars, None for those that the document leaves out."""
    found: dict[str, Any] = dict.fromkeys(Price.PARTS)
    for part in Price.PARTS:
        if entry.get(part) is not None:
            found[part] = read_nanos(read, entry[part], (*path, part))
    for part in ("input", "output"):
        if entry.get(part) is None:
            read.note(path, f"lacks {part}: dollars per million tokens")
    return found


def read_tiers(read: Fields, entry: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Return a price's tiers, each with all its rates, in the order in which they are kept."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    here = (*path, "tiers")
    for place, tier in read.objects(read.items(entry, path, "tiers"), here):
        read.unknown_keys(tier, place, (*Price.PARTS, *Price.TIER_COLUMNS))
        service = read.text(tier, place, "service_tier", longest=16)
        above = read.integer(tier, place, "above_context_tokens")
        if service and TIER_NAME.regex.search(service) is None:  # type: ignore[union-attr]
            read.note((*place, "service_tier"), "has small letters, digits, dots, dashes and underscores", service)
        if not service and above is None:
            read.note(place, "needs above_context_tokens, service_tier, or both: it would be the price itself")
        key = service, -1 if above is None else above
        if key in found:
            read.note(place, "is a tier that stands here already")
        found[key] = {"service_tier": service, "above_context_tokens": above, **read_rates(read, tier, place)}
    return [found[key] for key in sorted(found)]


def read_nanos(read: Fields, value: Any, path: Path) -> int:
    """Return dollars as whole nano-dollars."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError):
            return rates.to_nanos(str(value))
    read.note(path, 'must be dollars such as "1.25", not negative, with at most 9 decimals', value)
    return 0
