"""Work out what the rows would be after a document: an image and a statement in, the next image out. Pure.

A section that is absent changes nothing. Within a present one, a row that a file brought and that is left out is
disabled, never deleted; rows from elsewhere stay as they are unless the document names them, and then they are the
file's.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from accounts.models import Grant, Sourced
from catalog import addresses, credentials
from catalog.models import Price, Provider
from gateway.configuration import redaction
from gateway.configuration.fields import Fields
from gateway.configuration.grants import GrantStatement
from gateway.configuration.image import Columns, Image, Key, blank
from gateway.configuration.naming import Naming
from gateway.configuration.problem import Path, nearest
from gateway.configuration.statement import ModelStatement, ProviderStatement, Statement, TargetStatement

FILE = Sourced.FILE


@dataclass(slots=True)
class Outcome:
    """The next image under construction: what the document named so far, and the problems that showed."""

    after: Image
    statement: Statement
    read: Fields

    def state(self, kind: str, key: Key, columns: Columns) -> Columns:
        """Put a row that the document names in place, and return it."""
        row = self.after[kind].setdefault(key, blank(kind))
        row.update(columns, source=FILE)
        return row


def after(before: Image, statement: Statement, read: Fields) -> Image:
    """Return the image that importing the statement leads to; problems are noted in READ."""
    outcome = Outcome(before.copy(), statement, read)
    for slug, provider in (statement.providers or {}).items():
        state_provider(outcome, slug, provider)
    disable_left_out(outcome.after["provider"], {(slug,) for slug in statement.providers or ()}, statement.providers)
    named: set[Key] = set()
    if statement.models is not None:
        state_models(outcome, statement.models, named)
    if statement.providers is not None:
        attach_listed(outcome, statement.providers, named)
    disable_targets(outcome, named)
    if statement.grants is not None:
        state_grants(outcome, statement.grants)
    warn_of_access(outcome)
    return outcome.after


def disable_left_out(rows: Mapping[Key, Columns], stated: Collection[Key], section: Any) -> None:
    """Disable the file's rows that a present section leaves out."""
    for key, row in rows.items():
        if section is not None and row["source"] == FILE and key not in stated:
            row["enabled"] = False


# --- Providers --------------------------------------------------------------------------------------------------------
def state_provider(outcome: Outcome, slug: str, stated: ProviderStatement) -> None:
    """Put a provider and its credentials in place."""
    old = outcome.after["provider"].get((slug,))
    host = addresses.host_of(stated.columns["base_url"])
    same_host = old is not None and addresses.host_of(old["base_url"]) == host
    stored = old["add_headers"].items() if old and same_host else ()
    path: Path = (*stated.path, "add_headers")
    headers = kept_headers(outcome.read, stated.columns["add_headers"], stored, path, is_new=old is None)
    outcome.state("provider", (slug,), stated.columns | {"add_headers": headers})
    if not stated.columns["base_url"]:
        # A wrong address is a problem already; what would follow from its absence is none.
        return
    for name, secret in stated.secrets.items():
        path = (*stated.path, "apikey") if name == "default" else (*stated.path, "apikeys", name)
        state_credential(outcome, (slug, name), secret, host, path)
    usable = stated.columns["auth_mode"] == Provider.NONE
    rows = outcome.after["credential"]
    for key in [key for key in rows if key[0] == slug]:
        row, name = rows[key], str(key[1])
        if row["host"] != host:
            # A secret never follows its provider to another host.
            del rows[key]
            outcome.read.warn(
                (*stated.path, "baseurl"),
                f"the stored credential {name} belongs to {row['host']}, not to {host}, and is removed; give it again",
            )
        elif name not in stated.secrets and row["source"] == FILE:
            row["enabled"] = False
        usable = usable or (row["enabled"] and row["host"] == host)
    if not usable and stated.columns["enabled"]:
        outcome.read.warn(stated.path, "has no credential; where the upstream needs none, set auth_mode to none")


def state_credential(outcome: Outcome, key: Key, secret: str, host: str, path: Path) -> None:
    """Put a credential in place; a redacted secret keeps the stored one, at the same host only."""
    row = outcome.after["credential"].get(key)
    if not redaction.is_marker(secret):
        outcome.state(
            "credential", key, {"host": host, "fingerprint": credentials.fingerprint(secret), "enabled": True}
        )
    elif row is None:
        outcome.read.warn(path, "is redacted and none is stored; give the key", secret)
    elif row["host"] != host:
        outcome.read.note(path, f"is redacted, but the stored key belongs to {row['host']}; give the key again", secret)
    else:
        if secret != redaction.marker(row["fingerprint"]):
            outcome.read.warn(
                path, f"stands for another key than the stored {row['fingerprint']}, which is kept", secret
            )
        outcome.state("credential", key, {"enabled": True})


def kept_headers(
    read: Fields, stated: dict[str, str], stored: Iterable[tuple[str, str]], path: Path, *, is_new: bool
) -> dict[str, str]:
    """Return the stated headers, each redacted value replaced by the stored one of this name and fingerprint.

    Where the row itself IS_NEW, there is nothing to keep: the header is left out with a warning, as an export that
    comes to another installation needs.
    """
    values = {(name, redaction.marker(credentials.fingerprint(value))): value for name, value in stored}
    found = {}
    for name, value in stated.items():
        if not redaction.is_marker(value):
            found[name] = value
        elif (name, value) in values:
            found[name] = values[name, value]
        elif is_new:
            read.warn(path, f"the value of {name} is redacted and none is stored; left out")
        else:
            read.note(path, f"the value of {name} is redacted and not stored for this address; give it again")
    return found


# --- Models and targets -----------------------------------------------------------------------------------------------
def state_models(outcome: Outcome, models: dict[str, ModelStatement], named: set[Key]) -> None:
    """Put the models of the section in place with their aliases, targets and prices; NAMED collects the targets."""
    aliases = outcome.after["alias"]
    for public_id, stated in models.items():
        outcome.state("model", (public_id,), stated.columns)
        if stated.aliases is not None:
            names = {name for _, name in stated.aliases}
            for key in [key for key, row in aliases.items() if row["model"] == public_id and key[0] not in names]:
                del aliases[key]
    for public_id, stated in models.items():
        state_aliases(outcome, public_id, stated)
        for target in stated.targets or ():
            key = public_id, target.provider, target.upstream_id
            if key in named:
                outcome.read.warn(target.path, "is written twice; the last one counts")
            named.add(key)
            state_target(outcome, key, target, stated.price)


def state_aliases(outcome: Outcome, public_id: str, stated: ModelStatement) -> None:
    """Put a model's aliases in place; a name means one model."""
    rows, read = outcome.after, outcome.read
    if (public_id,) in rows["alias"]:
        read.note(stated.path, f"is an alias of {rows['alias'][(public_id,)]['model']} already", public_id)
    for path, alias in stated.aliases or ():
        holder = rows["alias"].setdefault((alias,), {"model": public_id})["model"]
        if holder != public_id:
            read.note(path, f"is an alias of {holder} already", alias)
        elif (alias,) in rows["model"]:
            read.note(path, "is the public id of a model already", alias)


def state_target(outcome: Outcome, key: Key, stated: TargetStatement, model_price: Columns | None) -> None:
    """Put a target and its price in place."""
    if (stated.provider,) not in outcome.after["provider"]:
        slugs = [str(slug) for (slug,) in outcome.after["provider"]]
        message = f"names a provider that does not exist{nearest(stated.provider, slugs)}"
        outcome.read.note(stated.path, message, stated.provider)
    outcome.state("target", key, stated.columns)
    price = stated.price or model_price
    if price:
        state_price(outcome, key, price)


def state_price(outcome: Outcome, key: Key, price: Columns) -> None:
    """Put a price in place, unless the target has these rates already."""
    old = outcome.after["price"].get(key)
    if old is None or any(old[part] != price[part] for part in (*Price.PARTS, "tiers")):
        outcome.after["price"][key] = dict(price)


def attach_listed(outcome: Outcome, providers: dict[str, ProviderStatement], named: set[Key]) -> None:
    """Give each upstream id that a provider lists a target, at the model that it is; NAMED collects them."""
    rows, models = outcome.after, outcome.statement.models or {}
    naming = Naming(rows)
    for target in named:
        naming.add(target)
    satisfied = {(slug, upstream_id) for _, slug, upstream_id in named}
    for slug, provider in providers.items():
        for path, upstream_id in provider.upstream_ids:
            if (slug, upstream_id) in satisfied:
                continue
            public_id = naming.model_of(slug, upstream_id)
            model = rows["model"].get((public_id,))
            if model is None:
                outcome.state("model", (public_id,), {})
            elif model["source"] == FILE and public_id not in models:
                model["enabled"] = True
            elif not model["enabled"]:
                outcome.read.warn(path, f"is served as the model {public_id}, which is disabled", upstream_id)
            key = public_id, slug, upstream_id
            outcome.state("target", key, {"enabled": True})
            naming.add(key)
            named.add(key)
            price = models[public_id].price if public_id in models else None
            if price:
                state_price(outcome, key, price)


def disable_targets(outcome: Outcome, named: set[Key]) -> None:
    """Disable the file's targets, and then its models, that the document leaves out."""
    rows, statement = outcome.after, outcome.statement
    providers, models = statement.providers, statement.models
    listed = {slug: {text for _, text in provider.upstream_ids} for slug, provider in (providers or {}).items()}
    bereft: set[Key] = set()
    for key, row in rows["target"].items():
        public_id, slug, upstream_id = map(str, key)
        if key in named or row["source"] != FILE or not row["enabled"]:
            continue
        stated = (models or {}).get(public_id)
        by_model = stated is not None and stated.targets is not None
        by_provider = slug in listed and (upstream_id not in listed[slug] or (models is not None and stated is None))
        if by_model or by_provider:
            row["enabled"] = False
            bereft.add((public_id,))
    serving = {(key[0],) for key, row in rows["target"].items() if row["enabled"]}
    wanted = {(key[0],) for key in named} | {(public_id,) for public_id in models or ()}
    for key, row in rows["model"].items():
        if (
            row["source"] == FILE
            and key not in wanted
            and (models is not None or (key in bereft and key not in serving))
        ):
            row["enabled"] = False


# --- Grants -----------------------------------------------------------------------------------------------------------
def content(columns: Columns) -> str:
    """Return what makes two grants the same, whatever the order of their lists."""
    lists = {name: sorted(columns[name]) for name in ("subjects", "model_globs", "quotas")}
    rest = {name: columns[name] for name in ("role", "hooks", "add_headers")}
    return json.dumps(lists | rest, sort_keys=True)


def state_grants(outcome: Outcome, grants: list[GrantStatement]) -> None:
    """Put the grants in place: by their content, or by their name where they have one; the rest are new."""
    rows = outcome.after["grant"]
    stored = [header for row in rows.values() for header in row["add_headers"].items()]
    free: dict[str, list[Key]] = {}
    for key, row in rows.items():
        free.setdefault(content(row), []).append(key)
    taken: set[Key] = set()
    remaining: list[Columns] = []
    for stated in grants:
        columns = dict(stated.columns)
        path = (*stated.path, "add_headers")
        columns["add_headers"] = kept_headers(outcome.read, columns["add_headers"], stored, path, is_new=not stored)
        same = [
            key
            for key in free.get(content(columns), ())
            if key not in taken and columns["name"] in ("", rows[key]["name"])
        ]
        if same:
            best = max(same, key=lambda key: (rows[key]["enabled"] == columns["enabled"], rows[key]["source"] == FILE))
            rows[best].update(source=FILE, enabled=columns["enabled"])
            taken.add(best)
        else:
            remaining.append(columns)
    named = {row["name"]: key for key, row in rows.items() if row["name"] and key not in taken}
    for number, columns in enumerate(remaining):
        key = named.pop(columns["name"], (-number - 1,))
        taken.add(key)
        outcome.state("grant", key, columns)
    disable_left_out(rows, taken, grants)


def warn_of_access(outcome: Outcome) -> None:
    """Warn where nobody could call anything, and where a grant names a provider that does not exist."""
    rows, read = outcome.after, outcome.read
    if rows["provider"] and not any(row["enabled"] for row in rows["grant"].values()):
        read.warn((), "providers are configured but no grant is; all access will be denied")
    names = {str(key[0]).split("/")[0] for kind in ("model", "alias") for key in rows[kind] if "/" in str(key[0])}
    names.update(str(slug) for (slug,) in rows["provider"])
    for grant in outcome.statement.grants or ():
        for pattern in grant.columns["model_globs"]:
            first, slash, _ = pattern.partition("/")
            if slash and not any(character in "*?[{" for character in first) and first not in names:
                read.warn(
                    (*grant.path, "models"),
                    f'models pattern "{pattern}" references provider "{first}" which does not match any declared '
                    f"provider{nearest(first, names)}",
                )


def locks_out(before: Image, image: Image, importer: frozenset[str] | None) -> bool:
    """Tell whether an import would take away the way in.

    With an importer (its subjects): it had the admin role by a grant and would not have it any more. Without one (the
    machine's owner): there was an admin by grant, there would be none, and no active user may use the admin.
    """

    def admin(rows: Image) -> bool:
        return any(
            row["enabled"] and row["role"] == Grant.ADMIN and (importer is None or importer & set(row["subjects"]))
            for row in rows["grant"].values()
        )

    if importer is None and image.has_staff:
        return False
    return admin(before) and not admin(image)
