"""The admin's pages of what."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from catalog import credentials, health, standings
from catalog.health import Signal
from catalog.models import Alias, Credential, Model, Price, Provider, Standing, Target
from tests.installation import SECRET, Installation, populate, signed_in

pytestmark = pytest.mark.django_db

NEW_SECRET = "up-canary-second-77"


@pytest.fixture
def installation() -> Installation:
    return populate()


@pytest.fixture
def client(installation: Installation) -> Client:
    return signed_in(installation.alice)


def provider_form(*forms: dict[str, Any], initial: int = 0, **fields: Any) -> dict[str, Any]:
    rows = {f"credentials-{number}-{name}": value for number, form in enumerate(forms) for name, value in form.items()}
    return {
        "slug": "anthropic",
        "base_url": "https://api.anthropic.com",
        "authorization": "x-api-key",
        "auth_mode": "override",
        "flags": ["anthropic_messages", "openai_chat"],
        "preference": "0",
        "model_cost_map": "[]",
        "enabled": "on",
        "check_by": "listing",
        "check_interval_s": "60",
        "check_requests_per_day": "",
        "check_nanos_per_day": "0.10",
        "discovery": "queue",
        "credentials-TOTAL_FORMS": len(forms),
        "credentials-INITIAL_FORMS": initial,
        **rows,
        **fields,
    }


def stored(it: Installation, **fields: Any) -> dict[str, Any]:
    return {"id": it.credential.pk, "provider": it.provider.pk, "secret": "", "enabled": "on", **fields}


def test_a_provider_is_made_with_its_credential_which_is_never_shown(client: Client) -> None:
    page = reverse("admin:catalog_provider_add")
    made = client.post(page, provider_form({"name": "default", "secret": NEW_SECRET, "enabled": "on"}), follow=True)
    provider = Provider.objects.get(slug="anthropic")
    row = provider.credentials.select_related("provider").get()
    assert credentials.open_credential(row) == NEW_SECRET
    assert (provider.flags, row.source) == (["anthropic_messages", "openai_chat"], "admin")
    assert NEW_SECRET not in made.content.decode()
    shown = client.get(reverse("admin:catalog_provider_change", args=[provider.pk])).content.decode()
    assert row.fingerprint in shown
    assert NEW_SECRET not in shown
    assert not any(NEW_SECRET in entry.change_message for entry in LogEntry.objects.all())


def test_a_refused_form_gives_the_secret_back_to_nobody(client: Client) -> None:
    form = provider_form({"name": "default", "secret": NEW_SECRET, "enabled": "on"}, slug="not an id")
    refused = client.post(reverse("admin:catalog_provider_add"), form)
    assert refused.status_code == 200
    assert NEW_SECRET not in refused.content.decode()
    assert not Provider.objects.filter(base_url__contains="anthropic").exists()


def test_an_empty_secret_keeps_the_stored_one_and_a_new_one_replaces_it(
    client: Client, installation: Installation
) -> None:
    page = reverse("admin:catalog_provider_change", args=[installation.provider.pk])
    same = {"slug": "openai", "base_url": installation.provider.base_url}
    client.post(page, provider_form(stored(installation, enabled=""), initial=1, **same))
    row = Credential.objects.select_related("provider").get()
    assert (credentials.open_credential(row), row.enabled) == (SECRET, False)
    client.post(page, provider_form(stored(installation, secret=NEW_SECRET), initial=1, **same))
    row = Credential.objects.select_related("provider").get()
    assert (credentials.open_credential(row), row.enabled, row.name) == (NEW_SECRET, True, "default")


@pytest.mark.parametrize("change", [{}, {"enabled": ""}])
def test_another_host_drops_the_credentials_and_says_so(
    client: Client, installation: Installation, change: dict[str, str]
) -> None:
    page = reverse("admin:catalog_provider_change", args=[installation.provider.pk])
    form = provider_form(stored(installation, **change), initial=1, slug="openai", base_url="https://evil.example")
    answer = client.post(page, form, follow=True)
    assert not Credential.objects.exists()
    assert "the credentials bound to the old one are dropped: default" in answer.content.decode()


def test_a_secret_entered_with_the_new_host_is_bound_to_it(client: Client, installation: Installation) -> None:
    page = reverse("admin:catalog_provider_change", args=[installation.provider.pk])
    form = stored(installation, secret=NEW_SECRET)
    client.post(page, provider_form(form, initial=1, slug="openai", base_url="https://new.example"))
    row = Credential.objects.select_related("provider").get()
    assert (row.host, credentials.open_credential(row)) == ("https://new.example", NEW_SECRET)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_url", "api.openai.com"),
        ("base_url", "ftp://api.openai.com"),
        ("base_url", "http://["),
        ("base_url", "https://user:pw@api.openai.com"),
        ("base_url", "https://api.openai.com?key=1"),
        ("flags", ["telepathy"]),
        ("add_headers", "no colon"),
        ("slug", "a/b"),
    ],
)
def test_a_provider_that_could_not_work_is_refused(client: Client, field: str, value: Any) -> None:
    refused = client.post(reverse("admin:catalog_provider_add"), provider_form(**{field: value}))
    assert list(refused.context["adminform"].form.errors) == [field]


def test_a_provider_may_be_a_host_without_a_dot(client: Client) -> None:
    client.post(reverse("admin:catalog_provider_add"), provider_form(base_url="http://ollama:11434/v1"))
    assert Provider.objects.get(slug="anthropic").base_url == "http://ollama:11434/v1"


def price_form(**rates: str) -> dict[str, Any]:
    parts = {f"prices-0-{part}": rates.get(part, "") for part in (*Price.PARTS, *Price.TIER_COLUMNS)}
    return {"prices-0-effective_at_0": "2026-01-01", "prices-0-effective_at_1": "00:00:00", **parts}


def target_form(it: Installation, price: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": it.model.pk,
        "provider": it.provider.pk,
        "upstream_id": "gpt-4o",
        "weight": "1",
        "enabled": "on",
        "prices-TOTAL_FORMS": 1,
        "prices-INITIAL_FORMS": 0,
        "prices-2-TOTAL_FORMS": 1,
        "prices-2-INITIAL_FORMS": 1,
        "prices-2-0-id": it.price.pk,
        "prices-2-0-target": it.target.pk,
        **price,
    }


def test_a_price_is_entered_in_dollars_and_kept_in_nanos(client: Client, installation: Installation) -> None:
    page = reverse("admin:catalog_target_change", args=[installation.target.pk])
    client.post(page, target_form(installation, price_form(input="0.075", output="$0.3", web_search="10")))
    price = Price.objects.latest("pk")
    assert (price.input, price.output, price.web_search) == (75_000_000, 300_000_000, 10_000_000_000)
    assert (price.cache_read, price.source) == (None, Price.OPERATOR)
    text = client.get(page).content.decode()
    assert "$0.075" in text
    assert "web search $10.00" in text


def test_a_tier_is_entered_beside_the_price_that_it_is_a_tier_of(client: Client, installation: Installation) -> None:
    target = Target.objects.create(model=installation.model, provider=installation.provider, upstream_id="new")
    page = reverse("admin:catalog_target_change", args=[target.pk])

    def enter(**rates: str) -> str:
        form = target_form(installation, price_form(**rates)) | {"upstream_id": "new", "prices-2-INITIAL_FORMS": 0}
        client.post(page, form | {"prices-2-TOTAL_FORMS": 0})
        return client.get(reverse("admin:catalog_target_changelist")).content.decode()

    assert "above 200,000 tokens" not in enter(input="2", output="10")
    enter(input="4", output="12", above_context_tokens="200000")
    text = enter(input="1", output="2", service_tier=" Flex ")
    assert "$4.00 in, $12.00 out above 200,000 tokens" in text
    assert "$1.00 in, $2.00 out flex" in text
    assert "above 200,000 tokens" in client.get(page).content.decode()


@pytest.mark.parametrize("amount", ["0.0000000001", "cheap", "-1"])
def test_a_price_that_would_be_rounded_or_is_none_is_refused(
    client: Client, installation: Installation, amount: str
) -> None:
    page = reverse("admin:catalog_target_change", args=[installation.target.pk])
    refused = client.post(page, target_form(installation, price_form(input=amount, output="1")))
    assert refused.status_code == 200
    assert Price.objects.count() == 1


def test_a_written_price_never_changes(client: Client, installation: Installation) -> None:
    page = reverse("admin:catalog_target_change", args=[installation.target.pk])
    forged = {"prices-2-0-input": "1", "prices-2-0-output": "1", "prices-2-0-DELETE": "on", "prices-TOTAL_FORMS": 0}
    client.post(page, {**target_form(installation, {}), **forged})
    assert Price.objects.get().input == installation.price.input


def test_the_lists_show_dollars_per_million(client: Client, installation: Installation) -> None:
    for page in (
        reverse("admin:catalog_target_changelist"),
        reverse("admin:catalog_model_change", args=[installation.model.pk]),
    ):
        assert "$2.50 in, $10.00 out" in client.get(page).content.decode()


def test_a_name_means_one_model(client: Client) -> None:
    taken = client.post(reverse("admin:catalog_alias_add"), {"name": "openai/gpt-4o", "model": Model.objects.get().pk})
    assert "already" in str(taken.context["adminform"].form.errors)
    empty = {"targets-TOTAL_FORMS": 0, "targets-INITIAL_FORMS": 0, "aliases-TOTAL_FORMS": 0, "aliases-INITIAL_FORMS": 0}
    page = reverse("admin:catalog_model_add")
    taken = client.post(page, {"public_id": "gpt-4o", "kind": "chat", "listed": "unknown", **empty})
    assert "already" in str(taken.context["adminform"].form.errors)
    client.post(page, {"public_id": "gpt-4.1", "kind": "chat", "listed": "unknown", "enabled": "on", **empty})
    assert Model.objects.get(public_id="gpt-4.1").listed is None
    assert Alias.objects.count() == 1


def test_models_are_found_by_alias_and_by_upstream_id(client: Client) -> None:
    Model.objects.create(public_id="other")
    for words in ("gpt-4o", "OpenAI"):
        text = client.get(reverse("admin:catalog_model_changelist"), {"q": words}).content.decode()
        assert "openai/gpt-4o" in text
        assert ">other<" not in text


@pytest.mark.parametrize(("targets", "found"), [("some", True), ("none", False)])
def test_rows_are_filtered_by_whether_they_have_targets(client: Client, targets: str, found: bool) -> None:
    for name in ("model", "provider"):
        page = reverse(f"admin:catalog_{name}_changelist")
        assert (client.get(page, {"targets": targets}).context["cl"].result_count == 1) is found
    assert Target.objects.count() == 1


def test_a_provider_that_was_changed_is_checked_with_the_next_look(client: Client, installation: Installation) -> None:
    standings.apply(installation.provider, Signal(health.OK, timezone.now()), trusted_s=300)
    Standing.objects.update(next_at=timezone.now() + timedelta(days=1))
    page = reverse("admin:catalog_provider_change", args=[installation.provider.pk])
    same = {"slug": "openai", "base_url": installation.provider.base_url}
    form = provider_form(stored(installation), initial=1, **same, check_by="request", check_nanos_per_day="0.25")
    assert client.post(page, form).status_code == 302
    installation.provider.refresh_from_db()
    assert (installation.provider.check_by, installation.provider.check_nanos_per_day) == ("request", 250_000_000)
    assert installation.provider.check_requests_per_day is None
    assert Standing.objects.get().next_at is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("check_interval_s", "9"), ("check_interval_s", "86401"), ("check_nanos_per_day", "-1"), ("discovery", "x")],
)
def test_a_check_that_could_not_be_made_is_refused(client: Client, field: str, value: str) -> None:
    refused = client.post(reverse("admin:catalog_provider_add"), provider_form() | {field: value})
    assert list(refused.context["adminform"].form.errors) == [field]
