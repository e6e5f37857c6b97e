"""Importing a document into a real database: what changes, what stays, what is refused."""

import json
import time
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts import keys
from accounts.models import Grant, Group, User, Version
from catalog import credentials, tariff
from catalog.models import Alias, Credential, Model, Price, Provider, Target
from gateway import catalog_rows, snapshot
from gateway.configuration import importing
from gateway.configuration.importing import Report

pytestmark = pytest.mark.django_db

PAGE = """
{
"providers": {
"openai": {
"baseurl": "https://api.openai.com/",
"apikey": "<your-openai-key>",
"models": ["gpt-5", "gpt-5-mini", "gpt-4.1"],
"name": "OpenAI",
"compatibility": {
"openai_chat": true,
"openai_responses": true
}
}
}
}
"""
ADMIN = {"src": ["*"], "role": "admin", "models": "**"}


def house(**changes: Any) -> dict[str, Any]:
    """A document of two providers, two grants and one model."""
    return {
        "providers": {
            "openai": {"baseurl": "https://api.openai.com/", "apikey": "sk-one", "models": ["gpt-5", "gpt-5-mini"]},
            "azure": {
                "baseurl": "https://azure.example.com/v1",
                "apikey": "sk-two",
                "models": ["gpt-5"],
                "add_headers": ["X-Api-Token: header-secret", "X-Team: search"],
                "preference": 5,
            },
        },
        "grants": [ADMIN, {"src": ["ann@example.com"], "models": ["azure/*"], "name": "ann"}],
        "models": {"gpt-5": {"aliases": ["best"], "price": {"input": "1.25", "output": 10}}},
    } | changes


def load(data: dict[str, Any] | str, **options: Any) -> Report:
    content = data if isinstance(data, str) else json.dumps(data)
    return importing.apply(content, environment={}, **options)


def imported(data: dict[str, Any] | str, **options: Any) -> Report:
    report = load(data, **options)
    assert report.applied, report.problems
    return report


def refused(data: dict[str, Any] | str, **options: Any) -> str:
    report = load(data, **options)
    assert report.fatal
    assert not report.applied
    return "\n".join(str(problem) for problem in report.problems if problem.fatal)


def served(public_id: str) -> list[str]:
    targets = Target.objects.filter(model__public_id=public_id, enabled=True).order_by("provider__slug")
    return [f"{target.provider.slug}/{target.upstream_id}" for target in targets]


def versions() -> tuple[int, int]:
    """The version row, after the triggers that wait for the commit have run."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    row = Version.objects.get()
    return row.catalog, row.keys


# --- What an import brings --------------------------------------------------------------------------------------------
def test_the_pages_example_imports_as_it_stands() -> None:
    report = imported(PAGE)
    provider = Provider.objects.get()
    assert (provider.slug, provider.name, provider.base_url) == ("openai", "OpenAI", "https://api.openai.com/")
    assert provider.flags == ["openai_chat", "openai_responses"]
    assert provider.source == Provider.FILE
    assert credentials.open_credential(Credential.objects.get()) == "<your-openai-key>"
    assert {model: served(model) for model in Model.objects.values_list("public_id", flat=True)} == {
        "gpt-5": ["openai/gpt-5"],
        "gpt-5-mini": ["openai/gpt-5-mini"],
        "gpt-4.1": ["openai/gpt-4.1"],
    }
    assert {problem.location for problem in report.problems} == {"providers.openai.apikey", ""}


def seen_by_the_gateway() -> snapshot.Snapshot:
    rows: catalog_rows.Rows = {}
    with connection.cursor() as cursor:
        for name, query in catalog_rows.QUERIES.items():
            cursor.execute(query)
            columns = [column.name for column in cursor.description]
            rows[name] = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    for row in rows["providers"] + rows["grants"]:
        row["add_headers"] = json.loads(row["add_headers"])
    return catalog_rows.assemble(1, rows, time.time())


def test_the_gateway_resolves_the_pages_models_bare_and_with_their_provider() -> None:
    imported(PAGE)
    names = seen_by_the_gateway().names
    for model in ("gpt-5", "gpt-5-mini", "gpt-4.1"):
        for name in (model, f"openai/{model}"):
            assert [target.upstream_id for target in names[name].targets] == [model]


def test_the_gateway_sends_one_model_of_two_providers_to_the_preferred_one() -> None:
    imported(house())
    for name in ("gpt-5", "best"):
        targets = seen_by_the_gateway().names[name].targets
        assert [target.provider.slug for target in targets] == ["azure", "openai"]


def test_an_id_that_several_providers_list_is_one_model_with_several_targets() -> None:
    imported(house())
    assert served("gpt-5") == ["azure/gpt-5", "openai/gpt-5"]
    assert Alias.objects.get().model.public_id == "gpt-5"
    assert {(price.input, price.output) for price in Price.objects.all()} == {(1_250_000_000, 10_000_000_000)}
    assert Price.objects.count() == 2


def test_a_catalogued_model_gets_the_targets_of_its_vendors_ids() -> None:
    for public_id in ("openai/gpt-5", "anthropic/claude-sonnet-4.6"):
        Model.objects.create(public_id=public_id, source=Model.ENVIRONMENT, context_tokens=7)
    document = {
        "providers": {
            "openai": {"baseurl": "https://a.example", "models": ["gpt-5"]},
            "anthropic": {"baseurl": "https://b.example", "models": ["claude-sonnet-4-6"]},
        }
    }
    imported(document)
    assert served("openai/gpt-5") == ["openai/gpt-5"]
    assert served("anthropic/claude-sonnet-4.6") == ["anthropic/claude-sonnet-4-6"]
    assert set(Model.objects.values_list("source", "context_tokens")) == {(Model.ENVIRONMENT, 7)}


def test_a_second_import_changes_no_row_and_bumps_no_version() -> None:
    imported(house())
    before = versions()
    report = imported(house())
    assert report.changes == []
    assert versions() == before


def test_an_import_bumps_the_catalog_once() -> None:
    before = versions()
    imported(house())
    assert versions() == (before[0] + 1, before[1])


# --- What it leaves alone, disables and enables again -----------------------------------------------------------------
def test_a_section_that_is_absent_is_untouched() -> None:
    imported(house())
    imported({"grants": [ADMIN]})
    assert set(Provider.objects.values_list("enabled", flat=True)) == {True}
    assert dict(Grant.objects.values_list("name", "enabled")) == {"": True, "ann": False}


def test_what_a_file_brought_and_leaves_out_is_disabled_and_comes_back() -> None:
    imported(house())
    fewer = house(grants=[ADMIN], models={"gpt-5": {}})
    del fewer["providers"]["azure"]
    fewer["providers"]["openai"]["models"] = ["gpt-5"]
    report = imported(fewer)
    assert {(change.action, change.kind, change.name) for change in report.changes} == {
        ("disabled", "provider", "azure"),
        ("disabled", "model", "gpt-5-mini"),
        ("disabled", "target", "gpt-5-mini → openai/gpt-5-mini"),
        ("disabled", "grant", "ann"),
    }
    assert Provider.objects.count() == 2
    imported(house())
    assert not Provider.objects.filter(enabled=False).exists()
    assert not Model.objects.filter(enabled=False).exists()
    assert not Target.objects.filter(enabled=False).exists()
    assert not Grant.objects.filter(enabled=False).exists()


def test_rows_from_elsewhere_stay_unless_the_document_names_them() -> None:
    own = Provider.objects.create(slug="own", base_url="https://own.example")
    named = Provider.objects.create(slug="openai", base_url="https://api.openai.com", enabled=False)
    grant = Grant.objects.create(subjects=["everyone"], role="user")
    imported(house())
    own.refresh_from_db()
    named.refresh_from_db()
    grant.refresh_from_db()
    assert (own.source, own.enabled) == (Provider.ADMIN, True)
    assert (named.source, named.enabled) == (Provider.FILE, True)
    assert (grant.source, grant.enabled) == (Grant.ADMIN, True)


def test_an_operators_disabled_model_is_not_switched_on_by_a_providers_list() -> None:
    Model.objects.create(public_id="gpt-5", enabled=False)
    report = imported(PAGE)
    assert Model.objects.get(public_id="gpt-5").enabled is False
    assert "served as the model gpt-5, which is disabled" in "\n".join(map(str, report.problems))


def test_a_named_grant_is_changed_and_one_without_name_replaced() -> None:
    imported(house())
    imported({"grants": [{**ADMIN, "models": "openai/**"}, {"src": ["bob@example.com"], "models": "x", "name": "ann"}]})
    rows = Grant.objects.order_by("id").values_list("name", "subjects", "model_globs", "enabled")
    assert [tuple(row) for row in rows] == [
        ("", ["everyone"], ["**"], False),
        ("ann", ["user:bob@example.com"], ["x"], True),
        ("", ["everyone"], ["openai/**"], True),
    ]


def test_a_changed_price_begins_anew_and_the_old_one_stays() -> None:
    imported(house())
    imported(house(models={"gpt-5": {"price": {"input": 2, "output": 10}}}))
    target = Target.objects.get(model__public_id="gpt-5", provider__slug="azure")
    assert [price.input for price in target.prices.order_by("effective_at")] == [1_250_000_000, 2_000_000_000]


def test_a_price_and_its_tiers_begin_and_end_together() -> None:
    tier = {"above_context_tokens": 200_000, "input": 4, "output": 12}
    price = {"input": 2, "output": 10, "tiers": [tier]}
    imported(house(models={"gpt-5": {"price": price}}))
    report = imported(house(models={"gpt-5": {"price": price}}))
    assert report.changes == []
    target = Target.objects.get(model__public_id="gpt-5", provider__slug="azure")
    base, long = tariff.in_force(target.prices.all(), timezone.now())
    assert (base.input, long.above_context_tokens, long.input) == (2_000_000_000, 200_000, 4_000_000_000)
    assert base.effective_at == long.effective_at
    dearer = imported(house(models={"gpt-5": {"price": price | {"tiers": [tier | {"input": 5}]}}}))
    assert [list(change.lines()) for change in dearer.changes if change.name.endswith("azure/gpt-5")] == [
        [
            "changed price gpt-5 → azure/gpt-5",
            "    tiers: above 200000 tokens: input $4.00, output $12.00"
            " → above 200000 tokens: input $5.00, output $12.00",
        ]
    ]
    imported(house(models={"gpt-5": {"price": {"input": 2, "output": 10}}}))
    assert [price.tier for price in tariff.in_force(target.prices.all(), timezone.now())] == [""]


def test_an_alias_moves_to_the_model_that_names_it() -> None:
    imported(house())
    imported({"models": {"gpt-5": {"aliases": []}, "gpt-5-mini": {"aliases": ["best"]}}})
    assert Alias.objects.get().model.public_id == "gpt-5-mini"


# --- Secrets ----------------------------------------------------------------------------------------------------------
def secret(slug: str) -> str:
    return credentials.open_credential(Credential.objects.get(provider__slug=slug))


def test_a_redacted_secret_keeps_the_stored_one() -> None:
    imported(house())
    document = house()
    document["providers"]["openai"]["apikey"] = f"REDACTED:{credentials.fingerprint('sk-one')}"
    document["providers"]["azure"]["add_headers"][0] = (
        f"X-Api-Token: REDACTED:{credentials.fingerprint('header-secret')}"
    )
    assert imported(document).changes == []
    assert secret("openai") == "sk-one"


@pytest.mark.parametrize("what", ["apikey", "header"])
def test_a_redacted_secret_never_follows_to_another_host(what: str) -> None:
    imported(house())
    document = house()
    azure = document["providers"]["azure"]
    azure["baseurl"] = "https://elsewhere.example"
    if what == "apikey":
        azure["apikey"] = f"REDACTED:{credentials.fingerprint('sk-two')}"
    else:
        azure["add_headers"] = [f"X-Api-Token: REDACTED:{credentials.fingerprint('header-secret')}"]
    assert "again" in refused(document)
    assert Provider.objects.get(slug="azure").base_url == "https://azure.example.com/v1"


def test_a_secret_given_again_moves_to_the_new_host() -> None:
    imported(house())
    document = house()
    document["providers"]["azure"]["baseurl"] = "https://elsewhere.example"
    imported(document)
    assert secret("azure") == "sk-two"
    assert Credential.objects.get(provider__slug="azure").host == "https://elsewhere.example"


def test_a_secret_that_is_left_out_is_disabled_and_an_operators_stays() -> None:
    imported(house())
    Credential.objects.filter(provider__slug="azure").update(source=Credential.ADMIN)
    document = house()
    for entry in document["providers"].values():
        del entry["apikey"]
    imported(document)
    assert dict(Credential.objects.values_list("provider__slug", "enabled")) == {"openai": False, "azure": True}


def test_a_difference_shows_fingerprints_and_no_secret() -> None:
    report = load(house(), check=True)
    text = "\n".join(line for change in report.changes for line in change.lines())
    assert credentials.fingerprint("sk-one") in text
    for leaked in ("sk-one", "sk-two", "header-secret"):
        assert leaked not in text
        assert leaked not in repr(report)


# --- What is refused --------------------------------------------------------------------------------------------------
def test_one_error_and_nothing_is_changed() -> None:
    imported(house())
    before = versions()
    document = house()
    document["providers"]["openai"]["name"] = "New"
    document["providers"]["azure"]["timeout_s"] = "soon"
    assert "providers.azure.timeout_s" in refused(document)
    assert load(document, check=True).changes == []
    assert Provider.objects.get(slug="openai").name == ""
    assert versions() == before


def test_a_check_changes_nothing_and_tells_each_field() -> None:
    imported(house())
    document = house()
    document["providers"]["openai"]["timeout_s"] = 30
    report = load(document, check=True)
    assert not report.applied
    assert [list(change.lines()) for change in report.changes] == [
        ["changed provider openai", "    timeout_s: none → 30.0"]
    ]
    added = {"new": {"baseurl": "https://new.example", "auth_mode": "none", "models": []}}
    change = next(change for change in load(house(providers=added), check=True).changes if change.action == "added")
    assert list(change.lines()) == [
        "added provider new",
        "    base_url: https://new.example",
        "    auth_mode: none",
    ]
    assert Provider.objects.get(slug="openai").timeout_s is None


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"a": {"aliases": ["x"]}, "b": {"aliases": ["x"]}}, "models.b.aliases[0]"),
        ({"a": {"aliases": ["gpt-5"]}}, "is the public id of a model already"),
        ({"best": {}}, "is an alias of gpt-5 already"),
        ({"a": {"targets": [{"provider": "opnai", "id": "x"}]}}, "did you mean openai?"),
    ],
)
def test_names_that_clash_and_providers_that_do_not_exist_are_refused(models: dict[str, Any], message: str) -> None:
    imported(house())
    assert message in refused({"models": models})


def test_a_grant_for_a_provider_that_does_not_exist_is_a_warning() -> None:
    report = imported(house(grants=[ADMIN, {"src": ["*"], "models": ["opnai/*", "*/gpt-5", "openai/**"]}]))
    found = [str(problem) for problem in report.problems if problem.location == "grants[1].models"]
    assert len(found) == 1
    assert 'references provider "opnai"' in found[0]


# --- Lock-out ---------------------------------------------------------------------------------------------------------
def test_the_last_admin_grant_cannot_go_where_no_user_may_use_the_admin() -> None:
    imported(house())
    assert "admin role" in refused({"grants": [{"src": ["*"], "role": "user"}]})
    assert Grant.objects.filter(role="admin", enabled=True).count() == 1
    User.objects.create_superuser("root@example.com", "a long password")
    imported({"grants": [{"src": ["*"], "role": "user"}]})


def test_an_importer_keeps_the_admin_role_that_it_has_by_a_grant() -> None:
    ann = User.objects.create_user("ann@example.com")
    User.objects.create_superuser("root@example.com", "a long password")
    imported({"grants": [{"src": ["ann@example.com"], "role": "admin"}]}, importer=ann)
    others = {"grants": [{"src": ["bob@example.com"], "role": "admin"}]}
    assert "ann@example.com" in refused(others, importer=ann)
    Group.objects.create(name="ops").members.add(ann)
    imported({"grants": [{"src": ["group:ops"], "role": "admin"}]}, importer=ann)
    row, _ = keys.mint(user=ann, labels={"team": "x"})
    imported({"grants": [{"src": [f"key:{row.pk}"], "role": "admin"}]}, importer=ann)
    imported({"grants": [{"src": ["tag:team=x"], "role": "admin"}]}, importer=ann)
    imported(others, importer=User.objects.get(email="root@example.com"))
