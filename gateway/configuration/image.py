"""The configuration's rows as plain data, and the only reader of them.

An image is, for each kind of row, the columns of each row by its natural key. Two images compare as dictionaries, so
what an import would change is the difference of two of them. Secrets are in no image: a credential has its
fingerprint and the host that it is bound to.
"""

import copy
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Model as DjangoModel
from django.utils import timezone

from accounts.models import Grant
from catalog import tariff
from catalog.models import Alias, Credential, Model, Price, Provider, Target

Columns = dict[str, Any]
Key = tuple[str | int, ...]
Rows = dict[Key, Columns]

# In the order of writing: what a row refers to comes before it.
KINDS: dict[str, tuple[type[DjangoModel], tuple[str, ...]]] = {
    "provider": (
        Provider,
        (
            "name", "description", "base_url", "authorization", "auth_mode", "timeout_s", "flags", "cost_basis",
            "model_cost_map", "preference", "add_headers", "source", "enabled",
        ),
    ),
    "credential": (Credential, ("host", "fingerprint", "source", "enabled")),
    "model": (
        Model,
        (
            "name", "owner", "description", "best_for", "kind", "supports_tools", "supports_vision", "supports_audio",
            "supports_json_schema", "supports_reasoning", "context_tokens", "output_tokens_max", "timeout_s", "listed",
            "source", "enabled",
        ),
    ),
    "alias": (Alias, ("model",)),
    "target": (Target, ("weight", "preference", "source", "enabled")),
    "price": (Price, (*Price.PARTS, "source")),
    "grant": (
        Grant,
        ("name", "subjects", "role", "model_globs", "quotas", "hooks", "add_headers", "source", "enabled"),
    ),
}  # fmt: skip


@dataclass(slots=True)
class Image:
    """Rows by kind and key, and whether an active user may use the admin.

    Keys: provider (slug), credential (slug, name), model (public id), alias (name), target and its current price
    (public id, slug, upstream id), grant (its id; one that is not stored yet has a negative one). A price has its
    tiers with it (`tiers`, a list of their columns): they begin and end together.
    """

    rows: dict[str, Rows] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    has_staff: bool = False

    def __getitem__(self, kind: str) -> Rows:
        return self.rows[kind]

    def copy(self) -> "Image":
        """Return an image that can be changed without changing this one."""
        return Image(copy.deepcopy(self.rows), self.has_staff)


def blank(kind: str) -> Columns:
    """Return the columns of a new row of this kind."""
    model, names = KINDS[kind]
    columns = {name: model._meta.get_field(name).get_default() for name in names}  # type: ignore[union-attr]
    return columns | {"tiers": []} if kind == "price" else columns


def load() -> Image:
    """Return the image of the database as it is now."""
    image = Image(has_staff=get_user_model().objects.filter(is_active=True, is_staff=True).exists())

    def columns(kind: str, row: DjangoModel) -> Columns:
        return {name: getattr(row, name) for name in KINDS[kind][1]}

    for provider in Provider.objects.order_by("slug"):
        image["provider"][(provider.slug,)] = columns("provider", provider)
    for credential in Credential.objects.select_related("provider").order_by("provider__slug", "name"):
        image["credential"][credential.provider.slug, credential.name] = columns("credential", credential)
    for model in Model.objects.order_by("public_id"):
        image["model"][(model.public_id,)] = columns("model", model)
    for alias in Alias.objects.select_related("model").order_by("name"):
        image["alias"][(alias.name,)] = {"model": alias.model.public_id}
    by_id: dict[int, Key] = {}
    targets = Target.objects.select_related("model", "provider")
    for target in targets.order_by("model__public_id", "provider__slug", "upstream_id"):
        key = by_id[target.pk] = (target.model.public_id, target.provider.slug, target.upstream_id)
        image["target"][key] = columns("target", target)
    prices: dict[int, list[Price]] = defaultdict(list)
    for price in Price.objects.all():
        prices[price.target_id].append(price)
    now = timezone.now()
    for target_id, place in by_id.items():
        current = tariff.in_force(prices[target_id], now)
        if current:
            tiers = [
                {name: getattr(tier, name) for name in (*Price.TIER_COLUMNS, *Price.PARTS)} for tier in current[1:]
            ]
            image["price"][place] = columns("price", current[0]) | {"tiers": tiers}
    for grant in Grant.objects.order_by("id"):
        image["grant"][(grant.pk,)] = columns("grant", grant)
    return image
