"""A vendor's key in the environment becomes a provider once, and the operator has the last word."""

import pytest

from catalog import credentials, environment
from catalog.models import Credential, Provider

KEYS = {"deepseek": {"default": "sk-first", "1": "sk-second"}}


def secrets_of(slug: str) -> dict[str, str]:
    rows = Credential.objects.filter(provider__slug=slug)
    return {row.name: credentials.open_credential(row) for row in rows}


@pytest.mark.django_db
def test_a_key_makes_a_provider_with_its_models_and_every_credential() -> None:
    assert list(environment.make_providers(KEYS)) == ["deepseek"]
    provider = Provider.objects.get()
    assert (provider.slug, provider.name, provider.source) == ("deepseek", "DeepSeek", "environment")
    assert provider.base_url == "https://api.deepseek.com"
    assert provider.targets.filter(model__public_id="deepseek/deepseek-r1", upstream_id="deepseek-reasoner").exists()
    assert secrets_of("deepseek") == {"default": "sk-first", "1": "sk-second"}


@pytest.mark.django_db
def test_without_keys_nothing_is_made() -> None:
    assert environment.make_providers({"openai": {}, "deepseek": {}}) == {}
    assert not Provider.objects.exists()


@pytest.mark.django_db
def test_a_reseller_ranks_below_the_vendors_themselves() -> None:
    environment.make_providers({"openrouter": {"default": "sk-or"}})
    assert Provider.objects.get().preference < 0


@pytest.mark.django_db
def test_a_restart_takes_changed_and_further_keys_and_makes_nothing_else() -> None:
    environment.make_providers(KEYS)
    targets = Provider.objects.get().targets.count()
    assert environment.make_providers({"deepseek": {"default": "sk-changed", "2": "sk-third"}}) == {}
    assert secrets_of("deepseek") == {"default": "sk-changed", "1": "sk-second", "2": "sk-third"}
    assert Provider.objects.get().targets.count() == targets


@pytest.mark.django_db
def test_a_restart_enables_nothing_again() -> None:
    environment.make_providers(KEYS)
    Provider.objects.update(enabled=False)
    Credential.objects.update(enabled=False)
    environment.make_providers({"deepseek": {"default": "sk-changed"}})
    assert not Provider.objects.filter(enabled=True).exists()
    assert not Credential.objects.filter(enabled=True).exists()


@pytest.mark.django_db
def test_what_was_deleted_stays_deleted() -> None:
    environment.make_providers(KEYS)
    Credential.objects.filter(name="1").delete()
    environment.make_providers(KEYS)
    assert set(secrets_of("deepseek")) == {"default"}
    Provider.objects.all().delete()
    assert environment.make_providers(KEYS) == {}
    assert not Provider.objects.exists()


@pytest.mark.django_db
def test_a_key_goes_to_no_other_host_than_its_vendors() -> None:
    environment.make_providers(KEYS)
    Provider.objects.update(base_url="https://elsewhere.example.com")
    assert not Credential.objects.exists()
    environment.make_providers({"deepseek": {"default": "sk-changed", "2": "sk-third"}})
    assert not Credential.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("source", [Provider.FILE, Provider.ADMIN])
def test_a_provider_that_somebody_made_is_left_alone(source: str) -> None:
    Provider.objects.create(slug="deepseek", base_url="https://api.deepseek.com", source=source)
    assert environment.make_providers(KEYS) == {}
    assert not Credential.objects.exists()


@pytest.mark.django_db
def test_a_credential_that_the_operator_entered_is_not_replaced() -> None:
    environment.make_providers(KEYS)
    credentials.store(Provider.objects.get(), "sk-by-hand", name="default", source=Credential.ADMIN)
    environment.make_providers(KEYS)
    assert secrets_of("deepseek")["default"] == "sk-by-hand"
