"""GitHub's key server, and an alert's way through Django. Imports no model at its top: Django may not be up yet."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from tests.accounts.leaks.scenery import KeyServer, Signer, key_server


class GitHub:
    """Whoever sends alerts to an installation: its key, its server of keys, and a client."""

    def __init__(self, server: KeyServer) -> None:
        self.server = server
        self.signer = server.signers[0]

    def send(self, body: bytes, headers: dict[str, str] | None = None, *, signer: Signer | None = None) -> Any:
        """Deliver an alert with these headers, or signed."""
        from gateway import leaks

        signed = headers or (signer or self.signer).headers(body)
        return Client().post(leaks.GITHUB_PATH, body, content_type="application/json", headers=signed)


@pytest.fixture
def github(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    from accounts.leaks import signing_keys
    from gateway import leaks

    with key_server(Signer("a1" * 32)) as server:
        settings.LEAK_KEYS_URL = server.url
        monkeypatch.setattr(leaks, "signing_keys", signing_keys.SigningKeys(leaks.fetch_listing))
        yield GitHub(server)
