"""Seeding gives a provider its models and prices, twice the same, and never over an operator's edit."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from accounts.models import Version
from catalog import price_list, seeding, tariff
from catalog.models import Alias, Model, Price, Provider, Target
from catalog.price_list import Entry, PriceList, Tariff
from catalog.seeding import Seeded

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def provider(slug: str = "anthropic", **fields: Any) -> Provider:
    return Provider.objects.create(slug=slug, base_url=fields.pop("base_url", "http://127.0.0.1:9101"), **fields)


def newest(target: Target) -> Price:
    price = target.prices.order_by("-effective_at", "-pk").first()
    assert price is not None
    return price


def cheaper(monkeypatch: pytest.MonkeyPatch, upstream_id: str) -> None:
    """Let the data say that this one model costs a dollar, so that no rate of Sonnet's falls to less than a quarter."""
    rates = {"input": 1 * 10**9, "output": 4 * 10**9, "cache_write_1h": 2 * 10**9, "web_search": 10 * 10**9}
    listing = PriceList(entries={upstream_id: Entry(id=upstream_id, tariff=Tariff(rates))})
    monkeypatch.setattr(price_list, "load", lambda *_: listing)


@pytest.mark.django_db
def test_a_vendor_gets_its_models_targets_and_prices() -> None:
    made = seeding.attach(provider(base_url="https://api.anthropic.com"), now=NOW)
    assert made.models == made.targets == made.prices > 5
    model = Model.objects.get(public_id="anthropic/claude-sonnet-4.6")
    assert (model.owner, model.best_for) == ("Anthropic", "Code editing · long context")
    assert (model.context_tokens, model.timeout_s, model.source) == (1_000_000, 600.0, "seed")
    price = newest(model.targets.get(upstream_id="claude-sonnet-4-6"))
    assert (price.input, price.output, price.cache_read) == (3_000_000_000, 15_000_000_000, 300_000_000)
    assert (price.cache_write_5m, price.cache_write_1h) == (3_750_000_000, 6_000_000_000)
    assert (price.effective_at, price.source) == (NOW, Price.SEED)


@pytest.mark.django_db
def test_two_vendors_of_one_model_are_two_targets_of_it() -> None:
    seeding.attach(provider("deepseek"), now=NOW)
    seeding.attach(provider("openrouter"), now=NOW)
    reasoner = Model.objects.get(public_id="deepseek/deepseek-r1")
    assert set(reasoner.targets.values_list("provider__slug", "upstream_id")) == {
        ("deepseek", "deepseek-reasoner"),
        ("openrouter", "deepseek/deepseek-r1"),
    }
    assert all(target.prices.exists() for target in reasoner.targets.all())


@pytest.mark.django_db(transaction=True)
def test_a_second_seeding_writes_nothing_and_bumps_no_version() -> None:
    # The flush after another test may have taken the row.
    Version.objects.get_or_create(pk=1)
    vendor = provider()
    seeding.attach(vendor, now=NOW)
    before = Version.objects.get().catalog
    assert before > 0
    assert seeding.attach(vendor, now=LATER) == Seeded()
    assert Version.objects.get().catalog == before


@pytest.mark.django_db
def test_changed_data_begins_a_new_price_and_keeps_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = provider()
    seeding.attach(vendor, now=NOW)
    target = Target.objects.get(upstream_id="claude-sonnet-4-6")
    cheaper(monkeypatch, "claude-sonnet-4-6")
    assert seeding.attach(vendor, now=LATER) == Seeded(prices=1)
    assert newest(target).input == 1_000_000_000
    assert newest(target).cache_read is None
    assert list(target.prices.order_by("pk").values_list("effective_at", flat=True)) == [NOW, LATER]


@pytest.mark.django_db
def test_tiers_by_context_size_are_seeded_once_and_go_when_the_data_drops_them(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = provider("google", base_url="https://generativelanguage.googleapis.com/v1beta/openai")
    model = Model.objects.create(public_id="pro")
    target = Target.objects.create(model=model, provider=vendor, upstream_id="gemini-2.5-pro")
    seeding.price_targets(vendor, now=NOW)
    base, long = tariff.in_force(target.prices.all(), NOW)
    assert (base.input, base.output) == (1_250_000_000, 10_000_000_000)
    assert (long.above_context_tokens, long.input, long.output) == (200_000, 2_500_000_000, 15_000_000_000)
    assert seeding.price_targets(vendor, now=LATER) == 0
    rates = {part: rate for part in Price.PARTS if (rate := getattr(base, part)) is not None}
    flat = PriceList(entries={"gemini-2.5-pro": Entry(id="gemini-2.5-pro", tariff=Tariff(rates))})
    monkeypatch.setattr(price_list, "load", lambda *_: flat)
    assert seeding.price_targets(vendor, now=LATER) == 1
    assert [price.tier for price in tariff.in_force(target.prices.all(), LATER)] == [""]


@pytest.mark.django_db
def test_an_operators_price_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = provider()
    seeding.attach(vendor, now=NOW)
    target = Target.objects.get(upstream_id="claude-sonnet-4-6")
    Price.objects.create(target=target, effective_at=NOW, input=5, output=7, source=Price.OPERATOR)
    cheaper(monkeypatch, "claude-sonnet-4-6")
    assert seeding.attach(vendor, now=LATER) == Seeded()
    assert newest(target).input == 5


@pytest.mark.django_db
def test_an_operators_edits_of_models_and_targets_stay() -> None:
    vendor = provider()
    seeding.attach(vendor, now=NOW)
    Model.objects.filter(public_id="anthropic/claude-haiku-4.5").update(name="Ours", enabled=False)
    Target.objects.filter(upstream_id="claude-haiku-4-5").update(enabled=False, weight=7)
    seeding.attach(vendor, now=LATER)
    model = Model.objects.get(public_id="anthropic/claude-haiku-4.5")
    assert (model.name, model.enabled) == ("Ours", False)
    assert model.targets.values_list("enabled", "weight").get() == (False, 7)


@pytest.mark.django_db
def test_a_name_that_an_alias_has_is_not_made_a_model() -> None:
    own = Model.objects.create(public_id="house/writer")
    Alias.objects.create(name="anthropic/claude-haiku-4.5", model=own)
    seeding.attach(provider(), now=NOW)
    assert not Model.objects.filter(public_id="anthropic/claude-haiku-4.5").exists()


@pytest.mark.django_db
def test_what_the_operator_serves_under_his_own_name_gets_no_second_one_and_a_price() -> None:
    vendor = provider("openai")
    own = Model.objects.create(public_id="gpt-4o")
    target = Target.objects.create(model=own, provider=vendor, upstream_id="gpt-4o")
    seeding.attach(vendor, now=NOW)
    assert not Model.objects.filter(public_id="openai/gpt-4o").exists()
    assert newest(target).input == 2_500_000_000


@pytest.mark.django_db
def test_a_stranger_gets_no_models_but_prices_by_its_cost_basis_and_map() -> None:
    house = provider("house", cost_basis="vertex", model_cost_map=[
        {"match": "fast*", "as": "gemini-2.5-flash", "adjustment": 0.5},
    ])  # fmt: skip
    model = Model.objects.create(public_id="fast")
    target = Target.objects.create(model=model, provider=house, upstream_id="fast-1")
    unknown = Target.objects.create(model=model, provider=house, upstream_id="nobody-knows")
    assert seeding.attach(house, now=NOW) == Seeded(prices=1)
    assert newest(target).input == 150_000_000
    assert not unknown.prices.exists()


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"slug": "xai", "base_url": "https://api.x.ai/v1"}, "x-ai"),
        ({"slug": "a", "base_url": "http://127.0.0.1:1", "cost_basis": "bedrock-eu"}, "aws"),
        ({"slug": "a", "base_url": "http://127.0.0.1:1"}, "openai"),
        ({"slug": "a", "base_url": "http://127.0.0.1:1", "flags": ["anthropic_messages"]}, "anthropic"),
        ({"slug": "a", "base_url": "http://127.0.0.1:1", "flags": []}, ""),
    ],
)
def test_the_price_list_is_the_named_one_the_vendors_or_one_by_the_flags(fields: dict[str, Any], name: str) -> None:
    assert seeding.price_list_of(Provider(**fields)) == name


@pytest.mark.parametrize("adjustment", ["x", "NaN", -1, None, "Infinity"])
def test_an_adjustment_that_is_no_number_changes_no_price(adjustment: object) -> None:
    assert seeding.factor_of(adjustment) == 1


@pytest.mark.django_db
def test_the_command_seeds_what_is_named_and_refuses_what_is_not_there() -> None:
    provider("deepseek")
    out = StringIO()
    with transaction.atomic():
        call_command("seed_catalog", "deepseek", stdout=out)
    assert out.getvalue() == "deepseek: 5 models, 5 targets, 5 prices\n"
    with pytest.raises(CommandError, match="no provider called nobody"):
        call_command("seed_catalog", "nobody")


@pytest.mark.django_db
def test_the_command_says_so_when_there_is_no_provider() -> None:
    out = StringIO()
    call_command("seed_catalog", stdout=out)
    assert "There is no provider yet" in out.getvalue()
