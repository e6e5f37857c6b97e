"""An export is the document that brings the same installation about, secrets apart."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Grant, User
from catalog import credentials
from catalog.models import Alias, Model, Price, Provider, Target
from gateway.configuration import document, export, image, importing, outcome, statement
from gateway.configuration.fields import Fields
from gateway.configuration.image import Columns, Image, blank
from gateway.configuration.statement import COST_BASES

SLUGS = ["openai", "azure", "own.server"]
NAMES = ["gpt-5", "openai/gpt-5", "azure/gpt-5", "claude-4.5", "a b", "best", "${X}", "ünï"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(
    ["${HOME}", "$${HOME}", "$$${A}${B}", "null", "1e3", "- x: y", "a\x85b\u2028c"]
)
COUNTS = st.none() | st.integers(0, 2**31 - 1)
NANOS = st.integers(0, 10**14)
HEADERS = st.dictionaries(st.sampled_from(["X-Team", "X-Region"]), st.sampled_from(["a", "${b}", "c: d", ""]))


@st.composite
def rows(draw: st.DrawFn, /, row: str, **strategies: st.SearchStrategy[Any]) -> Columns:
    columns = blank(row) | {name: draw(strategy) for name, strategy in strategies.items()}
    return columns | {"source": "file"}


def tier_of(tier: dict[str, Any]) -> tuple[str, int]:
    above = tier["above_context_tokens"]
    return tier["service_tier"], -1 if above is None else above


PROVIDERS = rows(
    "provider", name=TEXTS, description=TEXTS, base_url=st.sampled_from(["https://a.example/", "http://b.example/v1"]),
    authorization=st.sampled_from(["bearer", "x-api-key"]), auth_mode=st.sampled_from(["override", "none"]),
    timeout_s=st.none() | st.floats(0.1, 86_400), flags=st.sampled_from([[], ["openai_chat"], ["openai_responses"]]),
    cost_basis=st.sampled_from(["", *COST_BASES]), preference=st.integers(-9, 9), add_headers=HEADERS,
    model_cost_map=st.sampled_from([[], [{"match": "gpt-*", "as": "${x}", "adjustment": 1.5}]]), enabled=st.booleans(),
)  # fmt: skip
MODELS = rows(
    "model", name=TEXTS, owner=TEXTS, best_for=TEXTS, description=TEXTS, kind=st.sampled_from(["chat", "embedding"]),
    supports_tools=st.booleans(), supports_vision=st.booleans(), context_tokens=COUNTS, output_tokens_max=COUNTS,
    listed=st.none() | st.booleans(), enabled=st.booleans(), timeout_s=st.none() | st.floats(0.1, 600),
)  # fmt: skip
TARGETS = rows("target", weight=st.integers(0, 5), preference=st.none() | st.integers(-5, 5), enabled=st.booleans())
TIERS = st.builds(
    lambda tier, rates: dict.fromkeys(Price.PARTS) | tier | rates,
    st.sampled_from([("", 0), ("", 200_000), ("flex", None), ("flex", 1)]).map(
        lambda tier: dict(zip(Price.TIER_COLUMNS, tier, strict=True))
    ),
    st.fixed_dictionaries({"input": NANOS, "output": NANOS, "reasoning": st.none() | NANOS}),
)
PRICES = rows(
    "price", input=NANOS, output=NANOS, cache_read=st.none() | NANOS, web_search=st.none() | NANOS,
    tiers=st.lists(TIERS, max_size=3, unique_by=tier_of).map(lambda tiers: sorted(tiers, key=tier_of)),
)  # fmt: skip
GRANTS = rows(
    "grant", name=st.sampled_from(["", "one"]), enabled=st.booleans(), role=st.sampled_from(["", "user", "admin"]),
    subjects=st.lists(st.sampled_from(["everyone", "group:a", "key:1", "tag:t=x", "user:a@b.c", "user:x"]), unique=True)
    .map(sorted), model_globs=st.lists(st.sampled_from(["**", "openai/*", "${x}/*"]), unique=True),
    quotas=st.lists(st.sampled_from(["daily", "user:<user>"]), unique=True), add_headers=HEADERS,
    hooks=st.sampled_from([[], [{"name": "h", "events": ["${x}"]}]]),
)  # fmt: skip


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Any installation that the database could hold."""
    drawn = Image()
    slugs = draw(st.lists(st.sampled_from(SLUGS), unique=True))
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    cut = draw(st.integers(0, len(names)))
    models, aliases = names[:cut], names[cut:]
    for slug in slugs:
        drawn["provider"][(slug,)] = draw(PROVIDERS)
    for name in models:
        drawn["model"][(name,)] = draw(MODELS)
    for name in aliases if models else ():
        drawn["alias"][(name,)] = {"model": draw(st.sampled_from(models))}
    if slugs and models:
        keys = st.tuples(st.sampled_from(models), st.sampled_from(slugs), st.sampled_from(NAMES))
        for key in draw(st.lists(keys, unique=True, max_size=6)):
            drawn["target"][key] = draw(TARGETS)
            if draw(st.booleans()):
                drawn["price"][key] = draw(PRICES) | {"source": draw(st.sampled_from(["seed", "operator"]))}
    for number, row in enumerate(draw(st.lists(GRANTS, max_size=4))):
        drawn["grant"][(-number - 1,)] = row
    return drawn


@given(images(), st.sampled_from(["json", "yaml"]))
def test_an_export_into_an_empty_installation_is_the_same_installation(drawn: Image, form: str) -> None:
    text = document.read(export.text(drawn, form), f"export.{form}")
    wanted = statement.of(text, {})
    assert not [problem for problem in wanted.problems if problem.fatal]
    read = Fields(text.positions, {})
    reborn = outcome.after(Image(), wanted, read)
    assert not [problem for problem in read.problems if problem.fatal]
    assert reborn.rows == drawn.rows


@given(images())
def test_importing_ones_own_export_changes_nothing(drawn: Image) -> None:
    wanted = statement.of(document.Document(export.document(drawn)), {})
    assert outcome.after(drawn, wanted, Fields({}, {})).rows == drawn.rows


def installation() -> None:
    """An operator's installation with every kind of row."""
    user = User.objects.create_user("ann@example.com")
    provider = Provider.objects.create(
        slug="openai", base_url="https://api.openai.com/v1", add_headers={"X-Token": "header-secret", "X-Team": "a"}
    )
    credentials.store(provider, "sk-one")
    credentials.store(provider, "sk-two", name="second")
    model = Model.objects.create(public_id="openai/gpt-5", context_tokens=400_000, supports_vision=True)
    Alias.objects.create(name="best", model=model)
    target = Target.objects.create(model=model, provider=provider, upstream_id="gpt-5", weight=3)
    Price.objects.create(target=target, input=1_250_000_000, output=10_000_000_000, source=Price.SEED)
    Grant.objects.create(subjects=[f"user:{user.email}"], role="admin", model_globs=["**"])
    demo = Provider.objects.create(slug="demo", base_url="http://127.0.0.1:1", source=Provider.DEMO)
    Target.objects.create(model=model, provider=demo, upstream_id="demo", source=Target.DEMO)


@pytest.mark.django_db
def test_an_export_holds_no_secret_and_no_demo_row() -> None:
    installation()
    text = export.text(image.load(), "json")
    for leaked in ("sk-one", "sk-two", "header-secret", "demo"):
        assert leaked not in text
    entry = json.loads(text)["providers"]["openai"]
    assert entry["apikey"] == f"REDACTED:{credentials.fingerprint('sk-one')}"
    assert entry["apikeys"] == {"second": f"REDACTED:{credentials.fingerprint('sk-two')}"}
    assert sorted(entry["add_headers"]) == [
        "X-Team: a",
        f"X-Token: REDACTED:{credentials.fingerprint('header-secret')}",
    ]
    assert entry["models"] == ["gpt-5"]


@pytest.mark.django_db
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_the_same_database_takes_its_export_and_keeps_every_value(form: str) -> None:
    installation()
    before = image.load()
    report = importing.apply(export.text(before, form), name=f"x.{form}", environment={})
    assert report.applied, report.problems
    assert {name for change in report.changes for name in change.after or {}} == {"source"}
    assert importing.apply(export.text(image.load(), form), name=f"x.{form}", environment={}).changes == []
    stored = Provider.objects.get(slug="openai").credentials.order_by("name")
    assert [credentials.open_credential(row) for row in stored] == ["sk-one", "sk-two"]


@pytest.mark.django_db
def test_what_is_written_is_what_was_worked_out() -> None:
    installation()
    text = export.text(image.load(), "json")
    for table in (Provider, Model, Grant):
        table.objects.all().delete()
    report = importing.apply(text, environment={})
    assert report.applied, report.problems
    assert "X-Token is redacted" in "\n".join(map(str, report.problems))
    reborn = image.load()
    assert json.loads(export.text(reborn, "json"))["models"] == json.loads(text)["models"]
    assert reborn["provider"][("openai",)]["add_headers"] == {"X-Team": "a"}
    assert [row["subjects"] for row in reborn["grant"].values()] == [["user:ann@example.com"]]
