"""The price data of the `genai-prices` package, as rates that `Price` can keep.

Invariant: the package is imported in a child process only (it weighs 30 MB and half a second), never in one that
serves. The child reads a request as JSON on standard input and answers on standard output. Data that was fetched
(`catalog.price_data`) goes in with the request and is read in place of the package's own.

Rates are nano-dollars per million tokens (per thousand searches); what is no whole nano-dollar is rounded up, so the
house never pays more than it counted. Rates by context size are tiers: a request above the size costs the tier's rates
as a whole. Of rates by time of day the dearest are kept, so that a price does not depend on the hour at which it was
read. The data has no service tiers.
"""

import gzip
import json
import logging
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

import msgspec

from catalog.rates import NANOS, RATE_NANOS_MAX

logger = logging.getLogger(__name__)

# Ours → the package's.
PARTS = {
    "input": "input_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "audio_input": "input_audio_mtok",
    "image_input": "input_image_mtok",
    "output": "output_mtok",
    "reasoning": "output_reasoning_mtok",
    "audio_output": "output_audio_mtok",
    "web_search": "web_searches_kcount",
}
CHILD_TIMEOUT_S = 60
# What the database can keep: PostgreSQL's integer for sizes, and the columns of a model's id and name.
CONTEXT_TOKENS_MAX = 2**31 - 1
ID_CHARS_MAX = 256
NAME_CHARS_MAX = 150


class PriceListError(RuntimeError):
    """The price data could not be read."""


class Tariff(msgspec.Struct, frozen=True):
    """Rates of any context size, empty where none are known, and of the tiers by the size that they begin above."""

    rates: dict[str, int] = {}
    tiers: dict[int, dict[str, int]] = {}

    def scaled(self, factor: Decimal) -> "Tariff":
        """Return the tariff times a factor, rounded up."""
        return Tariff(scaled(self.rates, factor), {above: scaled(rates, factor) for above, rates in self.tiers.items()})


UNKNOWN = Tariff()


class Entry(msgspec.Struct, frozen=True):
    """A model of a price list; its tariff is empty where the list has no price per token."""

    id: str
    name: str = ""
    context_tokens: int | None = None
    deprecated: bool = False
    tariff: Tariff = UNKNOWN


class PriceList(msgspec.Struct, frozen=True):
    """A list's entries by id, and which entry prices each id that was asked for."""

    entries: dict[str, Entry] = {}
    matches: dict[str, str] = {}

    def tariff(self, upstream_id: str) -> Tariff:
        """Return the tariff of an id that was asked for; one without rates is unknown."""
        entry = self.entries.get(self.matches.get(upstream_id, upstream_id))
        return entry.tariff if entry else UNKNOWN


class Request(msgspec.Struct, frozen=True, tag=True):
    """What the child is asked: a list's name, ids to match against it, and the day whose prices count."""

    name: str
    ids: list[str]
    day: date
    data: bytes = b""


class Inspection(msgspec.Struct, frozen=True, tag=True):
    """What the child is asked of data as a whole: how much it is, and whether these lists match these ids."""

    lists: dict[str, list[str]]
    day: date
    data: bytes = b""


class Extent(msgspec.Struct, frozen=True):
    """How much price data is: its models, and the newest day on which one of its prices had begun."""

    models: int
    begun_on: date | None = None


def load(name: str, ids: Iterable[str], day: date, data: bytes = b"") -> PriceList:
    """Return the price list called NAME on this day, empty where the data has none; IDS are matched against it.

    DATA is what was fetched (gzip), empty for the package's own, which is also read where the other fails.
    """
    request = Request(name=name, ids=sorted(set(ids)), day=day, data=data)
    try:
        return msgspec.json.decode(_asked(request), type=PriceList)
    except PriceListError as error:
        if data:
            logger.warning("the fetched price data is left aside: %s", error)
            return load(name, ids, day)
        raise PriceListError(f"The price list {name!r} could not be read: {error}") from error


def inspect(data: bytes, lists: Mapping[str, Iterable[str]], day: date) -> Extent:
    """Return the extent of price data, empty for the package's own; raise PriceListError where it cannot be read.

    LISTS has, by price list, the ids that are going to be asked for: matching them is part of reading.
    """
    asked = {name: sorted(set(ids)) for name, ids in lists.items()}
    return msgspec.json.decode(_asked(Inspection(lists=asked, day=day, data=data)), type=Extent)


def _asked(request: Request | Inspection) -> bytes:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "catalog.price_list"],
            input=msgspec.json.encode(request),
            capture_output=True,
            timeout=CHILD_TIMEOUT_S,
            cwd=Path(__file__).resolve().parent.parent,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise PriceListError(error.stderr.decode(errors="replace").strip() or str(error)) from error
    except (subprocess.SubprocessError, OSError) as error:
        raise PriceListError(str(error)) from error
    return done.stdout


def nanos(dollars: Decimal) -> int:
    """Return dollars as nano-dollars, rounded up where that is lossy."""
    return int((dollars * NANOS).to_integral_value(rounding=ROUND_CEILING))


def scaled(rates: Mapping[str, int], factor: Decimal) -> dict[str, int]:
    """Return rates times a factor, rounded up."""
    return {part: int((rate * factor).to_integral_value(rounding=ROUND_CEILING)) for part, rate in rates.items()}


def tariff_of(prices: Sequence[Mapping[str, Any]], *, embedding: bool = False) -> Tariff:
    """Return the dearest rate of each part and tier among prices that hold at different times of day.

    Empty unless input and output are priced per token; embeddings have no output.
    """
    rates = rates_of(prices, embedding=embedding)
    if not rates or not _plausible(rates):
        return UNKNOWN
    starts = {tier.start for price in prices for part in PARTS.values() for tier in tiers_of(price.get(part))}
    tiers = {start: rates_of(prices, above=start, embedding=embedding) for start in sorted(starts)}
    if not all(0 <= start <= CONTEXT_TOKENS_MAX and _plausible(rates) for start, rates in tiers.items()):
        return UNKNOWN
    return Tariff(rates, tiers)


def _plausible(rates: Mapping[str, int]) -> bool:
    """Tell whether the database can keep these rates: one that it refuses would cost a provider all its news."""
    return all(0 <= rate <= RATE_NANOS_MAX for rate in rates.values())


def rates_of(
    prices: Iterable[Mapping[str, Any]], *, above: int | None = None, embedding: bool = False
) -> dict[str, int]:
    """Return the dearest rate of each part among prices, for requests of more than ABOVE tokens (None: for small ones).

    A tier gives its rates at once to the whole request, not to what is above it.
    """
    rates: dict[str, int] = {}
    for price in prices:
        for part, theirs in PARTS.items():
            rate = price.get(theirs)
            if rate is not None:
                dollars: Decimal = getattr(rate, "base", rate)
                for tier in tiers_of(rate):
                    if above is not None and tier.start <= above:
                        dollars = tier.price
                rates[part] = max(rates.get(part, 0), nanos(dollars))
    if embedding:
        rates.setdefault("output", 0)
    return rates if {"input", "output"} <= rates.keys() else {}


def tiers_of(rate: Any) -> list[Any]:
    """Return the tiers of a rate of the package, the lowest first."""
    return sorted(getattr(rate, "tiers", ()), key=lambda tier: int(tier.start))


def active(prices: Any, day: date) -> list[Mapping[str, Any]]:
    """Return the prices of this day, as mappings: the newest that has begun, and those of times of day after it."""
    if not isinstance(prices, list):
        return [vars(prices)]
    found: list[Mapping[str, Any]] = []
    for conditional in prices:
        constraint = conditional.constraint
        starts = getattr(constraint, "start_date", None)
        if constraint is None or (starts is not None and starts <= day):
            found = [vars(conditional.prices)]
        elif starts is None:
            found.append(vars(conditional.prices))
    return found or [vars(prices[0].prices)]


def read(request: Request) -> PriceList:
    """Answer a request from its data or the package's; run in the child only."""
    provider = next((found for found in providers_of(request.data) if found.id == request.name), None)
    if provider is None:
        return PriceList()
    entries = {
        model.id: Entry(
            id=model.id,
            name="".join(filter(str.isprintable, model.name or ""))[:NAME_CHARS_MAX],
            context_tokens=model.context_window if 0 <= (model.context_window or -1) <= CONTEXT_TOKENS_MAX else None,
            deprecated=bool(model.deprecated),
            tariff=tariff_of(active(model.prices, request.day), embedding="embed" in model.id),
        )
        for model in provider.models
        if len(model.id) <= ID_CHARS_MAX and model.id.isprintable()
    }
    matches = {wanted: wanted for wanted in request.ids if wanted in entries}
    for wanted in request.ids:
        model = None if wanted in entries else provider.find_model(wanted)
        if model and model.id in entries:
            matches[wanted] = model.id
    return PriceList(entries=entries, matches=matches)


def extent(inspection: Inspection) -> Extent:
    """Answer an inspection: read all of the data as it is going to be read; run in the child only."""
    providers = providers_of(inspection.data)
    begun: list[date] = []
    for provider in providers:
        for model in provider.models:
            prices = active(model.prices, inspection.day)
            tariff_of(prices)
            starts = (getattr(each.constraint, "start_date", None) for each in _conditional(model.prices))
            begun += (start for start in starts if start is not None and start <= inspection.day)
        for wanted in inspection.lists.get(provider.id, []):
            provider.find_model(wanted)
    return Extent(models=sum(len(provider.models) for provider in providers), begun_on=max(begun, default=None))


def _conditional(prices: Any) -> list[Any]:
    return prices if isinstance(prices, list) else []


def providers_of(data: bytes) -> list[Any]:
    """Return the providers of fetched data, or (empty) the package's; run in the child only."""
    if not data:
        from genai_prices.data import providers

        return providers
    # The package has no public way to read data that it did not fetch itself.
    from genai_prices.types import _providers_from_raw

    raw = json.loads(gzip.decompress(data))
    if not isinstance(raw, list):
        raise ValueError("the data is no list of providers")
    return _providers_from_raw(raw)


def answer(request: bytes) -> bytes:
    """Answer what stands on standard input; run in the child only."""
    asked = msgspec.json.decode(request, type=Request | Inspection)
    return msgspec.json.encode(extent(asked) if isinstance(asked, Inspection) else read(asked))


if __name__ == "__main__":
    try:
        sys.stdout.buffer.write(answer(sys.stdin.buffer.read()))
    except Exception as failure:
        # One line: it becomes a job's error.
        sys.exit(f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}")
