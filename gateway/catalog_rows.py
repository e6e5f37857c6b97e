"""Read the catalog's rows with one connection and turn them into a snapshot, outside the ORM.

A provider whose credential does not open, or a row whose JSON is not what the models write, is left out with an error
in the log: the rest keeps working.
"""

import logging
from collections import defaultdict
from typing import Any

import psycopg
from django.conf import settings
from psycopg.rows import dict_row

from accounts import cipher, subjects
from accounts.headers import FRAMING_HEADERS
from billing.pricing import Rates
from catalog import addresses, credentials, vendors
from catalog.models import Provider
from gateway import limits, snapshot, spending
from gateway.wire.registry import DIALECTS

logger = logging.getLogger(__name__)

QUERIES = {
    "providers": "SELECT * FROM catalog_provider WHERE enabled",
    "credentials": "SELECT * FROM catalog_credential WHERE enabled ORDER BY name",
    "models": "SELECT * FROM catalog_model WHERE enabled",
    "aliases": "SELECT name, model_id FROM catalog_alias",
    "targets": "SELECT * FROM catalog_target WHERE enabled",
    # In the order that `billing.pricing` wants: of one moment, the tiers before the price that they are tiers of.
    "prices": "SELECT *, extract(epoch FROM effective_at)::float8 AS effective FROM catalog_price "
    "ORDER BY effective_at DESC, above_context_tokens IS NULL AND service_tier = '', id DESC",
    "standings": "SELECT provider_id, credential_id, target_id, basis, state, reason, "
    "extract(epoch FROM trusted_until_at)::float8 AS trusted_until FROM catalog_standing "
    "WHERE state IN ('down', 'refused') AND trusted_until_at IS NOT NULL",
    "grants": "SELECT subjects, role, model_globs, add_headers, quotas FROM accounts_grant WHERE enabled ORDER BY id",
    "limits": "SELECT * FROM billing_limit WHERE enabled ORDER BY id",
    "spending_limits": "SELECT id, name, subject, enabled FROM billing_spendinglimit ORDER BY id",
}
# What a row raises that only SQL by hand, or another encryption key, can have written.
MALFORMED = (cipher.UnreadableSecret, KeyError, ValueError, TypeError, AttributeError)
Rows = dict[str, list[dict[str, Any]]]


async def read(raw: psycopg.AsyncConnection) -> tuple[int, Rows]:
    """Return the catalog's version and its rows, all of one moment."""
    async with raw.transaction(), raw.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await cursor.execute("SELECT catalog FROM accounts_version")
        version = await cursor.fetchone()
        rows = {}
        for name, query in QUERIES.items():
            await cursor.execute(query)
            rows[name] = await cursor.fetchall()
    if version is None:
        raise psycopg.OperationalError("accounts_version holds no row; run the migrations")
    return version["catalog"], rows


def assemble(version: int, rows: Rows, now: float) -> snapshot.Snapshot:
    """Return the snapshot that these rows make at NOW, in seconds since 1970."""
    found = Standings(rows, now)
    providers = _providers(rows, found)
    prices = _grouped(rows["prices"], "target_id")
    targets: dict[int, list[tuple[dict[str, Any], snapshot.Provider]]] = defaultdict(list)
    for row in rows["targets"]:
        if row["provider_id"] in providers:
            targets[row["model_id"]].append((row, providers[row["provider_id"]]))
    preferences = {row["id"]: row["preference"] for row in rows["providers"]}
    aliases = _grouped(rows["aliases"], "model_id")
    models = []
    for row in rows["models"]:
        built = [
            _target(row, target, provider, preferences[provider.id], prices.get(target["id"], []), found.target(target))
            for target, provider in targets[row["id"]]
            if provider.headers and _sellable(prices.get(target["id"], []), now)
        ]
        if built:
            models.append((_model(row, built), [alias["name"] for alias in aliases.get(row["id"], [])]))
    return snapshot.build(version, models, _grants(rows), _rules(rows), spending_limits=_spending_limits(rows))


def _sellable(prices: list[dict[str, Any]], now: float) -> bool:
    return settings.MODE != "resale" or any(
        price["effective"] <= now and price["above_context_tokens"] is None and not price["service_tier"]
        for price in prices
    )


def next_turn_at(rows: Rows, now: float) -> float:
    """Return when the next price begins or the next bad state lapses, in seconds since 1970.

    What can be sold, or is in the plan, changes then, and no row does; a state that was renewed is read again.
    """
    begins = (price["effective"] for price in rows["prices"])
    lapses = (standing["trusted_until"] for standing in rows["standings"])
    return min((at for at in (*begins, *lapses) if at > now), default=float("inf"))


class Standings:
    """What is out at a moment, by the ids of rows; of a provider whose checks are off nothing is.

    A state that was found with another address, secret or upstream id says nothing, nor does one that has lapsed.
    """

    def __init__(self, rows: Rows, now: float) -> None:
        providers = {row["id"]: row for row in rows["providers"] if row["check_by"] != Provider.OFF}
        self.providers: dict[int, str] = {}
        self.credentials: dict[int, str] = {}
        self.targets: dict[int, tuple[str, str]] = {}
        for row in rows["standings"]:
            provider = providers.get(row["provider_id"])
            if provider is None or row["trusted_until"] <= now:
                continue
            if row["credential_id"] is not None:
                self.credentials[row["credential_id"]] = row["basis"]
            elif row["target_id"] is not None:
                self.targets[row["target_id"]] = (row["basis"], row["state"])
            elif row["basis"] == provider["base_url"]:
                self.providers[row["provider_id"]] = row["state"]

    def credential(self, row: dict[str, Any]) -> bool:
        """Tell whether a credential is refused."""
        return bool(self.credentials.get(row["id"]) == row["fingerprint"])

    def target(self, row: dict[str, Any]) -> str:
        """Return the state that keeps a target out: its provider's, else its own; "" for none."""
        basis, state = self.targets.get(row["id"], ("", ""))
        own = state if basis == row["upstream_id"] else ""
        return self.providers.get(row["provider_id"], "") or own


def _grouped(rows: list[dict[str, Any]], column: str) -> dict[int, list[dict[str, Any]]]:
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row[column]].append(row)
    return groups


def _providers(rows: Rows, found: Standings) -> dict[int, snapshot.Provider]:
    # One that is refused comes last: where there is another, that is used.
    secrets = _grouped(sorted(rows["credentials"], key=found.credential), "provider_id")
    built = {}
    for row in rows["providers"]:
        try:
            built[row["id"]] = _provider(row, secrets.get(row["id"], []))
        except MALFORMED as error:
            logger.error("provider %s is left out: %s", row["slug"], error)
    return built


def _grants(rows: Rows) -> list[snapshot.Grant]:
    built = []
    for row in rows["grants"]:
        try:
            built.append(_grant(row))
        except MALFORMED as error:
            logger.error("the grant of %s is left out: %s", row["subjects"], error)
    return built


def _rules(rows: Rows) -> limits.Rules:
    name = limits.Namer(settings.SECRET_KEY)
    return limits.Rules(limits.rules_of(rows["limits"]), name, settings.SANDBOX_ADDRESS_FACTOR)


def _spending_limits(rows: Rows) -> spending.SpendingLimits:
    found = [spending.limit_of(row) for row in rows["spending_limits"]]
    for limit in found:
        if limit.enabled and limit.problem:
            logger.error("the spending limit %r %s: whoever it binds is refused", limit.name, limit.problem)
    return spending.gather(found)


def _provider(row: dict[str, Any], secret_rows: list[dict[str, Any]]) -> snapshot.Provider:
    opened = [
        cipher.unseal(bytes(each["encrypted"]), credentials.purpose(row["id"], each["name"], each["host"]))
        for each in secret_rows
        if each["host"] == addresses.host_of(row["base_url"])
    ]
    spoken = [flag for flag in row["flags"] if flag in DIALECTS]
    secret = opened[0] if opened and row["auth_mode"] != Provider.NONE else ""
    return snapshot.Provider(
        id=row["id"],
        slug=row["slug"],
        base_url=row["base_url"],
        flags=tuple(spoken),
        headers={flag: _added_headers(row) | _authorization(row, flag, secret) for flag in spoken},
        secrets=tuple(opened),
        builtin=row["source"] == Provider.DEMO,
        timeout_s=row["timeout_s"],
        drains=row["on_disconnect"] == Provider.DRAIN
        or (row["on_disconnect"] == Provider.AUTO and vendors.charges_on(row["base_url"])),
        forwarded=_forwarded(row["forward_headers"]),
        mends=row["mends"],
    )


def _authorization(row: dict[str, Any], dialect: str, secret: str) -> dict[str, str]:
    """Return the header that shows a provider its secret; some vendors want it otherwise for each dialect."""
    if not secret:
        return {}
    vendor = vendors.vendor_of(row["slug"], row["base_url"])
    native = vendor.native_authorizations.get(dialect) if vendor else None
    return credentials.authorization(native or row["authorization"], secret)


def _forwarded(entries: list[str]) -> dict[bytes, snapshot.Forwarded]:
    """Return the headers that entries such as `openai-beta` and `anthropic-beta: context-1m-* files-*` let through."""
    found = {}
    for entry in entries:
        name, _, patterns = entry.partition(":")
        found[name.strip().lower().encode("latin-1")] = snapshot.Forwarded(tuple(patterns.split()))
    return found


def _added_headers(row: dict[str, Any]) -> dict[str, str]:
    """Return a row's headers without those that forms and imports refuse, for SQL by hand can write them too."""
    headers = {str(name): str(value) for name, value in row["add_headers"].items()}
    return {name: value for name, value in headers.items() if name.lower() not in FRAMING_HEADERS}


def _target(
    model: dict[str, Any],
    row: dict[str, Any],
    provider: snapshot.Provider,
    preference: int,
    prices: list[dict[str, Any]],
    out: str,
) -> snapshot.Target:
    return snapshot.Target(
        id=row["id"],
        provider=provider,
        upstream_id=row["upstream_id"],
        weight=row["weight"],
        preference=preference if row["preference"] is None else row["preference"],
        timeout_s=model["timeout_s"] or provider.timeout_s,
        prices=tuple(rates(price) for price in prices),
        names=(model["public_id"], f"{provider.slug}/{row['upstream_id']}", f"{provider.slug}/{model['public_id']}"),
        out=out,
    )


def rates(row: dict[str, Any]) -> Rates:
    """Return a price's row, with its `effective` in seconds since 1970, as rates: each part has one."""

    def rate(part: str, instead: int) -> int:
        value = row[part]
        return instead if value is None else int(value)

    cache_write_5m = rate("cache_write_5m", row["input"])
    return Rates(
        price_id=row["id"],
        effective_at=row["effective"],
        input=row["input"],
        output=row["output"],
        cache_read=rate("cache_read", row["input"]),
        cache_write_5m=cache_write_5m,
        cache_write_1h=rate("cache_write_1h", cache_write_5m),
        audio_input=rate("audio_input", row["input"]),
        image_input=rate("image_input", row["input"]),
        reasoning=rate("reasoning", row["output"]),
        audio_output=rate("audio_output", row["output"]),
        web_search=rate("web_search", 0),
        above_context_tokens=row["above_context_tokens"],
        service_tier=row["service_tier"],
    )


def _model(row: dict[str, Any], targets: list[snapshot.Target]) -> snapshot.Model:
    listed = row["listed"]
    if listed is None:
        listed = snapshot.is_one_model(target.upstream_id for target in targets)
    return snapshot.Model(
        public_id=row["public_id"],
        name=row["name"],
        owner=row["owner"],
        kind=row["kind"],
        created_at=int(row["created_at"].timestamp()),
        listed=listed,
        context_tokens=row["context_tokens"],
        output_tokens_max=row["output_tokens_max"],
        output_tokens_typical=row["output_tokens_typical"],
        targets=snapshot.order(targets),
    )


def _grant(row: dict[str, Any]) -> snapshot.Grant:
    return snapshot.Grant(
        subjects=frozenset(subjects.normal(subject) for subject in row["subjects"]),
        role=row["role"],
        model_globs=tuple(row["model_globs"]),
        add_headers=_added_headers(row),
        quotas=tuple(row["quotas"]),
    )
