"""A first start makes and prints what is needed to begin; later ones make nothing, quickly."""

import re
import shlex
import time
from io import StringIO
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from accounts import keys
from accounts.models import APIKey, Grant, User, Version
from aperture_site import first_start
from catalog import credentials
from catalog.models import Credential, Model, Once, Provider
from catalog.price_list import PriceListError

ADDRESS = "https://ai.example.com"
LOOPBACK = "http://127.0.0.1:8000"


def start(address: str = ADDRESS, loopback: str = LOOPBACK) -> str:
    out = StringIO()
    first_start.run(out, address, loopback)
    return out.getvalue()


def printed(text: str, name: str) -> str:
    found = re.search(rf"^  {name} +(\S+)$", text, re.MULTILINE)
    assert found, f"{name} was not printed"
    return found[1]


@pytest.fixture(autouse=True)
def _no_keys_of_the_machine(settings: Settings) -> None:
    settings.VENDOR_KEYS = {}
    settings.DEMO = True


@pytest.mark.django_db
def test_the_first_start_prints_a_sign_in_that_works() -> None:
    text = start()
    admin = User.objects.get(email=printed(text, "E-mail"))
    assert admin.is_superuser
    assert admin.is_staff
    assert admin.check_password(printed(text, "Password"))
    assert printed(text, "Admin") == f"{ADDRESS}/admin/"


@pytest.mark.django_db
def test_the_first_start_prints_a_key_and_a_command_that_can_be_pasted() -> None:
    text = start()
    key = printed(text, "API key")
    assert APIKey.objects.get(digest=keys.digests(key)[0]).user.email == first_start.DEMO_EMAIL
    line = next(line for line in text.splitlines() if line.startswith("  curl "))
    words = shlex.split(line)
    assert words[1] == f"{ADDRESS}/api/v1/chat/completions"
    assert f"Authorization: Bearer {key}" in words
    assert '"model": "demo/chat:free"' in words[-1]


@pytest.mark.django_db
def test_the_demo_has_a_provider_two_free_models_and_a_credential() -> None:
    start()
    provider = Provider.objects.get(slug="demo")
    assert (provider.source, provider.base_url, provider.flags) == ("demo", f"{LOOPBACK}/demo", ["openai_chat"])
    assert credentials.open_credential(provider.credentials.get())
    models = Model.objects.order_by("public_id")
    assert [(model.public_id, model.kind, model.listed, model.owner) for model in models] == [
        ("demo/chat:free", "chat", True, "Aperture"),
        ("demo/embed:free", "embedding", True, "Aperture"),
    ]
    assert [target.prices.get().input for target in provider.targets.all()] == [0, 0]


@pytest.mark.django_db
@pytest.mark.parametrize("mode", ["team", "resale"])
def test_a_fresh_installation_lets_everyone_call_everything(settings: Settings, mode: str) -> None:
    settings.MODE = mode
    start()
    grant = Grant.objects.get(name="everyone")
    assert (grant.subjects, grant.role, grant.model_globs, grant.source) == (["everyone"], "user", ["**"], "admin")


@pytest.mark.django_db
def test_grants_that_are_there_already_are_not_widened() -> None:
    Grant.objects.create(name="own", subjects=["group:staff"], role=Grant.USER, source=Grant.FILE)
    start()
    assert set(Grant.objects.values_list("name", flat=True)) == {"own", "demo"}
    assert Grant.objects.get(name="demo").model_globs == ["demo/**"]


@pytest.mark.quiet
@pytest.mark.django_db(transaction=True)
def test_a_second_start_prints_nothing_writes_nothing_and_is_quick(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    # The flush after another test may have taken the row.
    Version.objects.get_or_create(pk=1)
    start()
    before = Version.objects.get()
    assert before.catalog > 0
    took_s = []
    for _ in range(3):
        began_s = time.perf_counter()
        with django_assert_max_num_queries(10):
            assert start() == ""
        took_s.append(time.perf_counter() - began_s)
    # The quickest: other processes of this machine may hold one up.
    assert min(took_s) < 0.1
    after = Version.objects.get()
    assert (after.catalog, after.keys) == (before.catalog, before.keys)


@pytest.mark.django_db
def test_another_port_is_followed_with_a_credential_that_opens() -> None:
    start()
    assert start(loopback="http://127.0.0.1:9000") == ""
    provider = Provider.objects.get(slug="demo")
    assert provider.base_url == "http://127.0.0.1:9000/demo"
    assert credentials.open_credential(provider.credentials.get())


@pytest.mark.django_db
def test_what_the_operator_deleted_or_disabled_stays_so() -> None:
    start()
    Provider.objects.filter(slug="demo").delete()
    Grant.objects.all().delete()
    assert start() == ""
    assert not Provider.objects.exists()
    assert not Grant.objects.exists()


@pytest.mark.django_db
def test_a_disabled_demo_credential_stays_disabled() -> None:
    start()
    Credential.objects.update(enabled=False)
    start(loopback="http://127.0.0.1:9000")
    start()
    assert not Credential.objects.filter(enabled=True).exists()


@pytest.mark.django_db
def test_without_the_demo_there_is_none_and_one_that_was_there_is_disabled(settings: Settings) -> None:
    settings.DEMO = False
    text = start()
    assert "curl" not in text
    assert not Provider.objects.exists()
    settings.DEMO = True
    assert "curl" in start()
    settings.DEMO = False
    start()
    assert not Provider.objects.get(slug="demo").enabled


@pytest.mark.django_db
def test_a_provider_of_the_operators_called_demo_is_left_alone() -> None:
    Provider.objects.create(slug="demo", base_url="https://demo.example.com")
    assert "curl" not in start()
    assert Provider.objects.get().base_url == "https://demo.example.com"
    assert not Credential.objects.exists()


@pytest.mark.django_db
def test_an_installation_without_an_operator_gets_one_again() -> None:
    start()
    User.objects.filter(is_superuser=True).update(is_superuser=False)
    text = start()
    assert User.objects.get(is_superuser=True).check_password(printed(text, "Password"))
    assert "curl" not in text


@pytest.mark.django_db
def test_providers_of_the_environment_are_made_and_named(settings: Settings) -> None:
    settings.VENDOR_KEYS = {"deepseek": {"default": "sk-canary"}}
    text = start()
    assert re.search(r"^  deepseek  5 models, 5 targets, 5 prices$", text, re.MULTILINE)
    assert "sk-canary" not in text


@pytest.mark.django_db
def test_price_data_that_cannot_be_read_stops_no_start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise PriceListError("The price list 'x' could not be read.")

    settings.VENDOR_KEYS = {"deepseek": {"default": "sk-canary"}}
    with monkeypatch.context() as patched:
        patched.setattr("catalog.price_list.load", broken)
        assert "could not be read" in start()
    assert not Once.objects.filter(name="provider:deepseek").exists()
    assert "deepseek" in start()
