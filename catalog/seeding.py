"""Give a provider its models, targets and prices from what is known of its vendor.

Invariants: what exists is never changed: a model or target is made where it is missing and then belongs to the
operator, who disables what is not wanted (a deleted one comes back with the next seeding). Prices follow the
data: changed rates begin as a new row, equal ones write nothing, a target whose newest price is an operator's is left
alone, and a leap (`catalog.leaps`) waits for the operator. No price is made where the data has none.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Any

from django.db import transaction
from django.utils import timezone

from catalog import leaps, price_data, price_list, tariff, vendors
from catalog.models import Alias, Model, Price, Provider, Target
from catalog.price_list import PriceList, Tariff
from catalog.showcase import SHOWCASE, Showpiece, capabilities
from catalog.vendors import Vendor

# What configuration calls a price list (`cost_basis`) → what the data calls it; other names are the same in both.
PRICE_LISTS = {
    "vertex": "google",
    "bedrock": "aws",
    "bedrock-us": "aws",
    "bedrock-eu": "aws",
    "bedrock-ap": "aws",
    "azure-eu": "azure",
    "gemini": "google",
    "xai": "x-ai",
}
# The list of a provider that names none and is no vendor's, by the first of these flags that it has.
PRICE_LISTS_BY_FLAG = {
    "openai_chat": "openai",
    "openai_responses": "openai",
    "anthropic_messages": "anthropic",
    "gemini_generate_content": "google",
    "google_generate_content": "google",
    "google_raw_predict": "google",
    "bedrock_model_invoke": "aws",
    "bedrock_converse": "aws",
}
LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A model that a vendor serves, and the columns it starts with."""

    public_id: str
    upstream_id: str
    featured: bool
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seeded:
    """How many rows were made."""

    models: int = 0
    targets: int = 0
    prices: int = 0

    def __str__(self) -> str:
        return f"{self.models} models, {self.targets} targets, {self.prices} prices"


def attach(provider: Provider, *, now: datetime | None = None) -> Seeded:
    """Make what is missing of the models of this provider's vendor (the twelve first), and price all its targets.

    A provider of no known vendor gets prices only. Raise PriceListError where the price data cannot be read.
    """
    moment = now or timezone.now()
    vendor = vendors.vendor_of(provider.slug, provider.base_url)
    if vendor is None:
        return Seeded(prices=price_targets(provider, now=moment))
    featured = [piece.upstream_ids[vendor.slug] for piece in SHOWCASE if vendor.slug in piece.upstream_ids]
    listing = _load(provider, vendor.price_list, featured, moment)
    with transaction.atomic():
        models, targets = _make(provider, offers(vendor, listing))
        if price_list_of(provider) == vendor.price_list:
            return Seeded(models, targets, _price(provider, listing, moment))
    return Seeded(models, targets, price_targets(provider, now=moment))


def price_targets(provider: Provider, *, now: datetime | None = None) -> int:
    """Write the prices of this provider's targets that the data knows and that changed; return how many.

    Raise PriceListError.
    """
    moment = now or timezone.now()
    name = price_list_of(provider)
    if not name or not provider.targets.exists():
        return 0
    return _price(provider, _load(provider, name, [], moment), moment)


def asked_for(providers: Iterable[Provider]) -> dict[str, set[str]]:
    """Return what these providers' targets are looked up by in the data: ids, by price list."""
    lists: dict[str, set[str]] = defaultdict(set)
    for provider in providers:
        for upstream_id in provider.targets.values_list("upstream_id", flat=True):
            lists[price_list_of(provider)].add(priced_as(provider, upstream_id)[0])
    return lists


def offers(vendor: Vendor, listing: PriceList) -> list[Offer]:
    """Return what a vendor serves: its share of the twelve, then the current models of its price list."""
    featured = [
        _offer_of(piece, piece.upstream_ids[vendor.slug]) for piece in SHOWCASE if vendor.slug in piece.upstream_ids
    ]
    taken = {offer.upstream_id for offer in featured}
    found = list(featured)
    for entry in listing.entries.values():
        upstream_id = entry.id.removeprefix(vendor.price_prefix)
        kind = vendor.kind(upstream_id) if entry.id.startswith(vendor.price_prefix) else None
        gone = entry.deprecated or (vendor.context_known and entry.context_tokens is None)
        if kind is None or gone or not entry.tariff.rates or upstream_id in taken:
            continue
        found.append(offer(vendor.public_id(upstream_id), upstream_id, kind, entry.name, entry.context_tokens))
    return found


def offer(public_id: str, upstream_id: str, kind: str, name: str, context_tokens: int | None) -> Offer:
    """Return the offer of a model under this name, with what its name tells of it."""
    owner = next(
        (
            vendor.owner
            for vendor in vendors.VENDORS
            if vendor.owner and vendor.public_prefix and public_id.startswith(vendor.public_prefix)
        ),
        public_id.partition("/")[0],
    )
    columns = {
        "name": name,
        "owner": owner,
        "kind": kind,
        "context_tokens": context_tokens,
        **capabilities(public_id, kind),
    }
    return Offer(public_id=public_id, upstream_id=upstream_id, featured=False, columns=columns)


@dataclass(frozen=True, slots=True)
class Find:
    """A model that a provider lists and that is not served from it yet, and what the data says of its price."""

    offer: Offer
    tariff: Tariff


def unserved(provider: Provider, names: Iterable[str], *, now: datetime) -> list[Find]:
    """Return what of a listing is no target of the provider yet, is a model that is offered, and has a known price.

    Names and kinds are those of the vendor that offers the id, whoever serves it. Raise PriceListError.
    """
    served = set(provider.targets.values_list("upstream_id", flat=True))
    own = vendors.vendor_of(provider.slug, provider.base_url)
    pieces = (
        {piece.upstream_ids[own.slug]: piece for piece in SHOWCASE if own.slug in piece.upstream_ids} if own else {}
    )
    wanted: dict[str, tuple[Vendor, str]] = {}
    for name in dict.fromkeys(names):
        kind = own.kind(name) if own else None
        if name in served:
            continue
        if own and (kind or name in pieces):
            wanted[name] = (own, kind or Model.CHAT)
        elif own is None and (known := vendors.recognised(name)):
            wanted[name] = known
    if not wanted:
        return []
    listing = _load(provider, price_list_of(provider), list(wanted), now)
    found = []
    for name, (vendor, kind) in wanted.items():
        alias, factor = priced_as(provider, name)
        wanted_tariff = listing.tariff(alias).scaled(factor)
        if not wanted_tariff.rates:
            continue
        entry = listing.entries[listing.matches.get(alias, alias)]
        made = (
            _offer_of(pieces[name], name)
            if name in pieces
            else offer(vendor.public_id(name), name, kind, entry.name, entry.context_tokens)
        )
        found.append(Find(made, wanted_tariff))
    return found


def publish(provider: Provider, offered: Iterable[Offer], *, now: datetime) -> Seeded:
    """Make these models and targets where they are missing, and price them; raise PriceListError."""
    with transaction.atomic():
        models, targets = _make(provider, offered)
        return Seeded(models, targets, price_targets(provider, now=now))


def _offer_of(piece: Showpiece, upstream_id: str) -> Offer:
    columns = {
        "name": piece.name,
        "owner": piece.owner,
        "best_for": piece.best_for,
        "context_tokens": piece.context_tokens,
        "output_tokens_max": piece.output_tokens_max,
        **capabilities(piece.public_id, Model.CHAT),
    }
    return Offer(public_id=piece.public_id, upstream_id=upstream_id, featured=True, columns=columns)


def _make(provider: Provider, offered: Iterable[Offer]) -> tuple[int, int]:
    """Make the models and targets that are missing; return how many of each."""
    served = set(Target.objects.filter(provider=provider).values_list("upstream_id", flat=True))
    pairs = set(Target.objects.filter(provider=provider).values_list("model__public_id", "upstream_id"))
    names = set(Alias.objects.values_list("name", flat=True))
    # What the operator serves from here under a name of his own needs no second one; the twelve keep theirs.
    wanted = [
        offer
        for offer in offered
        if (offer.public_id, offer.upstream_id) not in pairs
        and offer.public_id not in names
        and (offer.featured or offer.upstream_id not in served)
    ]
    known = set(
        Model.objects.filter(public_id__in=[offer.public_id for offer in wanted]).values_list("public_id", flat=True)
    )
    fresh = {offer.public_id: offer for offer in wanted if offer.public_id not in known}
    Model.objects.bulk_create(
        Model(public_id=public_id, source=Model.SEED, **offer.columns) for public_id, offer in fresh.items()
    )
    by_name = Model.objects.in_bulk([offer.public_id for offer in wanted], field_name="public_id")
    Target.objects.bulk_create(
        Target(model=by_name[offer.public_id], provider=provider, upstream_id=offer.upstream_id, source=Target.SEED)
        for offer in wanted
    )
    return len(fresh), len(wanted)


def _load(provider: Provider, name: str, more: Iterable[str], moment: datetime) -> PriceList:
    """Read a price list, with every id matched that this provider serves, and MORE."""
    ids = {*more, *provider.targets.values_list("upstream_id", flat=True)}
    wanted = [priced_as(provider, upstream_id)[0] for upstream_id in ids]
    return price_list.load(name, wanted, moment.date(), price_data.content(moment))


@transaction.atomic
def _price(provider: Provider, listing: PriceList, moment: datetime) -> int:
    """Write what has changed, and queue what moved too far; return how many tariffs were written."""
    # Whoever else prices this provider now would write the same again.
    Provider.objects.select_for_update(no_key=True).filter(pk=provider.pk).first()
    written: dict[int, list[Price]] = defaultdict(list)
    for price in Price.objects.filter(target__provider=provider):
        written[price.target_id].append(price)
    made: list[Price] = []
    count, waiting = 0, set()
    for target in provider.targets.select_related("model"):
        alias, factor = priced_as(provider, target.upstream_id)
        wanted = listing.tariff(alias).scaled(factor)
        if not wanted.rates or not is_news(wanted, written[target.pk]):
            continue
        newest = tariff.in_force(written[target.pk], LAST)
        if newest and (reason := leaps.leap(leaps.tariff_of(newest), wanted)):
            leaps.queue(target, wanted, reason, moment)
            waiting.add(target.upstream_id)
        else:
            count += 1
            made += rows_of(target, wanted, moment)
    leaps.withdraw(provider.pk, waiting)
    Price.objects.bulk_create(made)
    return count


def rows_of(target: Target, wanted: Tariff, moment: datetime) -> list[Price]:
    """Return a tariff of the data as the rows with which it begins."""
    columns = {"target": target, "effective_at": moment, "source": Price.SEED}
    tiers = [Price(**columns, above_context_tokens=above, **each) for above, each in wanted.tiers.items()]
    return [Price(**columns, **wanted.rates), *tiers]


def believe(provider: Provider, upstream_id: str, wanted: Tariff, *, now: datetime) -> int:
    """Begin a price that the operator has accepted, but not over one of his own; return for how many targets."""
    made: list[Price] = []
    count = 0
    for target in provider.targets.filter(upstream_id=upstream_id).prefetch_related("prices"):
        if is_news(wanted, target.prices.all()):
            count += 1
            made += rows_of(target, wanted, now)
    Price.objects.bulk_create(made)
    return count


def is_news(wanted: Tariff, prices: Iterable[Price]) -> bool:
    """Tell whether a tariff of the data begins a new price: not over an operator's, and not when equal.

    The newest counts, also one that has not begun. A service tier can only be an operator's.
    """
    newest = tariff.in_force(prices, LAST)
    if not newest:
        return True
    if any(price.source == Price.OPERATOR for price in newest):
        return False
    sizes: dict[int | None, dict[str, int]] = {None: wanted.rates}
    sizes.update(wanted.tiers.items())
    if [price.above_context_tokens for price in newest] != [None, *sorted(wanted.tiers)]:
        return True
    return any(
        getattr(price, part) != sizes[price.above_context_tokens].get(part) for price in newest for part in Price.PARTS
    )


def price_list_of(provider: Provider) -> str:
    """Return the name of the list that prices a provider: the one it names, its vendor's, or one by its flags."""
    if provider.cost_basis:
        return PRICE_LISTS.get(provider.cost_basis, provider.cost_basis)
    vendor = vendors.vendor_of(provider.slug, provider.base_url)
    if vendor:
        return vendor.price_list
    return next((name for flag, name in PRICE_LISTS_BY_FLAG.items() if flag in provider.flags), "")


def priced_as(provider: Provider, upstream_id: str) -> tuple[str, Decimal]:
    """Return the id by which the price list knows a target, and the factor on its rates.

    The provider's `model_cost_map` says so, by the first entry whose `match` fits; what it does not name is itself.
    """
    for entry in provider.model_cost_map:
        if fnmatchcase(upstream_id, str(entry.get("match", ""))):
            return str(entry.get("as") or upstream_id), factor_of(entry.get("adjustment", 1))
    vendor = vendors.vendor_of(provider.slug, provider.base_url)
    prefix = vendor.price_prefix if vendor and vendor.price_list == price_list_of(provider) else ""
    return prefix + upstream_id, Decimal(1)


def factor_of(adjustment: object) -> Decimal:
    """Return an adjustment of prices as a number; what is none leaves them as they are."""
    try:
        factor = Decimal(str(adjustment))
    except InvalidOperation:
        return Decimal(1)
    return factor if factor.is_finite() and factor >= 0 else Decimal(1)
