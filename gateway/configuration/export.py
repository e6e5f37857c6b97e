"""Write an image as the document that would bring it about, secrets redacted. Pure.

What the demo brought is left out: its address belongs to one running installation, which makes it again by itself.
"""

import json
from typing import Any

import yaml

from accounts.models import Sourced
from accounts.subjects import EVERYONE
from catalog import flags, rates
from catalog.models import Price
from gateway.configuration import redaction
from gateway.configuration.document import YAML
from gateway.configuration.fields import MACRO
from gateway.configuration.image import Columns, Image, Key, blank
from gateway.configuration.statement import CAPABILITIES


class Dumper(yaml.SafeDumper):
    """Writes texts with Unicode's own line breaks in double quotes: in any other style they do not come back."""


def represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """Return the node of a text."""
    breaks = any(character in value for character in "\x85\u2028\u2029")
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if breaks else None)


Dumper.add_representer(str, represent_text)


def text(image: Image, form: str) -> str:
    """Return the document as JSON or YAML text."""
    data = document(image)
    if form == YAML:
        return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def document(image: Image) -> dict[str, Any]:
    """Return the document's data."""
    providers = {str(slug): provider(image, str(slug)) for (slug,) in kept(image, "provider")}
    models = {str(name): model(image, str(name)) for (name,) in kept(image, "model")}
    grants = [grant(image["grant"][key]) for key in kept(image, "grant")]
    return {"providers": providers, "grants": grants, "models": models}


def kept(image: Image, kind: str) -> list[Key]:
    """Return the keys of the rows that are written."""
    return [key for key, row in image[kind].items() if row["source"] != Sourced.DEMO]


def literal(value: Any) -> Any:
    """Return a value with its macro signs escaped, so that reading gives it back."""
    return MACRO.sub(lambda match: "$" + match[0], value) if isinstance(value, str) else value


def differing(columns: Columns, kind: str, names: dict[str, str]) -> dict[str, Any]:
    """Return the columns that are not at their default, under the document's names."""
    usual = blank(kind)
    return {key: literal(columns[name]) for name, key in names.items() if columns[name] != usual[name]}


def header_list(values: dict[str, str]) -> list[str]:
    """Return headers as the document writes them, redacted."""
    return [literal(f"{name}: {value}") for name, value in redaction.headers(values).items()]


def provider(image: Image, slug: str) -> dict[str, Any]:
    """Return a provider's entry."""
    columns = image["provider"][(slug,)]
    entry: dict[str, Any] = {"baseurl": literal(columns["base_url"])}
    secrets = {
        str(name): redaction.marker(row["fingerprint"])
        for (owner, name), row in image["credential"].items()
        if owner == slug and row["enabled"] and row["source"] != Sourced.DEMO
    }
    if "default" in secrets:
        entry["apikey"] = secrets.pop("default")
    if secrets:
        entry["apikeys"] = secrets
    names = {"name": "name", "description": "description", "authorization": "authorization", "auth_mode": "auth_mode"}
    names |= {"timeout_s": "timeout_s", "cost_basis": "cost_basis", "preference": "preference"}
    entry |= differing(columns, "provider", names)
    entry["compatibility"] = {flag: flag in columns["flags"] for flag in flags.FLAGS}
    if columns["model_cost_map"]:
        entry["model_cost_map"] = [
            {key: literal(value) for key, value in rule.items()} for rule in columns["model_cost_map"]
        ]
    if columns["add_headers"]:
        entry["add_headers"] = header_list(columns["add_headers"])
    if not columns["enabled"]:
        entry["disabled"] = True
    # A target of a model that is left out would come back as a model of its own.
    models = {name for (name,) in kept(image, "model")}
    entry["models"] = sorted(
        {
            literal(str(key[2]))
            for key in kept(image, "target")
            if key[1] == slug and key[0] in models and image["target"][key]["enabled"]
        }
    )
    return entry


def model(image: Image, public_id: str) -> dict[str, Any]:
    """Return a model's entry."""
    columns = image["model"][(public_id,)]
    names = ("name", "owner", "description", "best_for", "kind", "context_tokens", "output_tokens_max", "timeout_s")
    entry = differing(columns, "model", {name: name for name in (*names, "listed")})
    capabilities = differing(columns, "model", {f"supports_{name}": name for name in CAPABILITIES})
    if capabilities:
        entry["capabilities"] = capabilities
    if not columns["enabled"]:
        entry["disabled"] = True
    aliases = sorted(literal(str(name)) for (name,), row in image["alias"].items() if row["model"] == public_id)
    if aliases:
        entry["aliases"] = aliases
    slugs = {slug for (slug,) in kept(image, "provider")}
    entry["targets"] = [target(image, key) for key in kept(image, "target") if key[0] == public_id and key[1] in slugs]
    return entry


def target(image: Image, key: Key) -> dict[str, Any]:
    """Return a target's entry with its current price in dollars."""
    columns = image["target"][key]
    entry: dict[str, Any] = {"provider": key[1], "id": literal(str(key[2]))}
    entry |= differing(columns, "target", {"weight": "weight", "preference": "preference"})
    if not columns["enabled"]:
        entry["disabled"] = True
    price = image["price"].get(key)
    if price:
        entry["price"] = in_dollars(price)
        if price["tiers"]:
            entry["price"]["tiers"] = [
                {name: literal(tier[name]) for name in Price.TIER_COLUMNS if tier[name] not in ("", None)}
                | in_dollars(tier)
                for tier in price["tiers"]
            ]
        if price["source"] != Price.OPERATOR:
            entry["price"]["source"] = price["source"]
    return entry


def in_dollars(price: Columns) -> dict[str, Any]:
    """Return the rates that a price or a tier has."""
    return {part: rates.to_dollars(price[part]) for part in Price.PARTS if price[part] is not None}


def grant(columns: Columns) -> dict[str, Any]:
    """Return a grant's entry in the plain shape."""
    entry: dict[str, Any] = {"src": [literal(source_of(subject)) for subject in columns["subjects"]]}
    entry |= differing(columns, "grant", {"name": "name", "role": "role"})
    for name, key in (("model_globs", "models"), ("quotas", "quotas")):
        if columns[name]:
            entry[key] = [literal(value) for value in columns[name]]
    if columns["hooks"]:
        entry["send_hooks"] = columns["hooks"]
    if columns["add_headers"]:
        entry["add_headers"] = header_list(columns["add_headers"])
    if not columns["enabled"]:
        entry["disabled"] = True
    return entry


def source_of(subject: str) -> str:
    """Return how a `src` list writes a subject."""
    if subject == EVERYONE:
        return "*"
    return subject.removeprefix("user:") if "@" in subject and subject.startswith("user:") else subject
