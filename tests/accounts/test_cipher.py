"""Ciphertexts open for their own purpose and with any of the installation's keys."""

import pytest
from cryptography.fernet import Fernet
from pytest_django import Settings

from accounts import cipher


def test_a_secret_opens_for_its_own_purpose_only() -> None:
    sealed = cipher.seal("ключ \x00 secret", "credential:1")
    assert cipher.unseal(sealed, "credential:1") == "ключ \x00 secret"
    with pytest.raises(cipher.UnreadableSecret, match="another row"):
        cipher.unseal(sealed, "credential:2")


def test_an_older_key_still_opens_and_a_removed_one_does_not(settings: Settings) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    settings.ENCRYPTION_KEYS = [old]
    sealed = cipher.seal("secret", "purpose")
    settings.ENCRYPTION_KEYS = [new, old]
    assert cipher.unseal(sealed, "purpose") == "secret"
    settings.ENCRYPTION_KEYS = [new]
    with pytest.raises(cipher.UnreadableSecret, match="encryption keys"):
        cipher.unseal(sealed, "purpose")
