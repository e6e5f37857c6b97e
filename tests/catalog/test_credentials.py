"""A provider's secrets: bound to their row and host, never following to another."""

import pytest
from django.db import connection

from catalog import credentials
from catalog.models import Credential, Provider

SECRET = "up-canary-3c7d"


@pytest.fixture
def provider(db: None) -> Provider:
    provider = Provider.objects.create(slug="openai", base_url="https://api.example.com/v1")
    credentials.store(provider, SECRET)
    return provider


def test_a_stored_secret_opens_and_its_row_holds_no_clear_text(provider: Provider) -> None:
    row = Credential.objects.get()
    assert credentials.open_credential(row) == SECRET
    assert SECRET.encode() not in bytes(row.encrypted)
    assert row.fingerprint == credentials.fingerprint(SECRET)


def test_storing_the_same_secret_changes_nothing(provider: Provider) -> None:
    before = bytes(Credential.objects.get().encrypted)
    credentials.store(provider, SECRET)
    assert bytes(Credential.objects.get().encrypted) == before


@pytest.mark.parametrize(
    "base_url",
    [
        "https://evil.example/v1",
        "http://api.example.com/v1",
        "https://api.example.com:8443/v1",
        "https://api.example.com.evil",
    ],
)
def test_another_host_drops_the_credentials(provider: Provider, base_url: str) -> None:
    provider.base_url = base_url
    provider.save()
    assert not Credential.objects.exists()


@pytest.mark.parametrize(
    "base_url", ["https://api.example.com", "https://API.example.com/v2/", "https://api.example.com/x"]
)
def test_another_path_on_the_same_host_keeps_them(provider: Provider, base_url: str) -> None:
    provider.base_url = base_url
    provider.save()
    assert credentials.open_credential(Credential.objects.get()) == SECRET


def test_a_bulk_update_and_plain_sql_drop_them_too(provider: Provider) -> None:
    Provider.objects.update(base_url="https://evil.example")
    assert not Credential.objects.exists()
    credentials.store(Provider.objects.get(), SECRET)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE catalog_provider SET base_url = 'https://other.example'")
    assert not Credential.objects.exists()


def test_a_row_put_at_another_provider_or_host_does_not_open(provider: Provider) -> None:
    other = Provider.objects.create(slug="evil", base_url="https://evil.example")
    Credential.objects.update(provider=other)
    with pytest.raises(credentials.UnreadableSecret):
        credentials.open_credential(Credential.objects.get())
    Credential.objects.update(provider=provider, host=other.host)
    Credential.objects.update(name="renamed")
    with pytest.raises(credentials.UnreadableSecret):
        credentials.open_credential(Credential.objects.get())
