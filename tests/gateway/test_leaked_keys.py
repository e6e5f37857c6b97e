"""Alerts of leaked keys at a real web process: the key is dead in under a second, and guessing gets nobody far."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from accounts import keys
from accounts.leaks import aftermath
from accounts.models import APIKey
from tests.accounts.leaks.scenery import IDENTIFIER_HEADER, KeyServer, Signer, alert, key_server
from tests.gateway import http
from tests.gateway.conftest import APPLICATION, BOUNDS, Gateway
from tests.gateway.installation import Installation
from tests.servers import WebProcess, start_web
from tests.upstream.server import ScriptedUpstream

pytestmark = pytest.mark.server

PROMISED_S = 1.0
PATH = "/leaks/github"
TOKEN = "verifier-4b1f"
SIGNER = Signer("a1" * 32)
MIB = 1024 * 1024
# All processes count together: each server's clients have addresses of their own.
NETWORKS = {"daphne": "203.0.113", "uvicorn": "198.51.100"}


@pytest.fixture(scope="module", params=["daphne", pytest.param("uvicorn", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def listing() -> Iterator[KeyServer]:
    with key_server(SIGNER) as served:
        yield served


@pytest.fixture(scope="module")
def bounds(listing: KeyServer) -> dict[str, str]:
    return {**BOUNDS, "APERTURE_LEAK_KEYS_URL": listing.url, "APERTURE_LEAK_VERIFIER_TOKEN": TOKEN}


@pytest.fixture
def key(gateway: Gateway) -> str:
    """A key of Alice's that works now, and that the process has in memory."""
    clear = keys.mint(user=gateway.installed.users["alice"])[1]
    assert gateway.chat("ok", key=clear).status == 200
    return clear


def send(web: WebProcess, body: bytes, signer: Signer = SIGNER) -> http.Answer:
    return http.call(web.port, "POST", PATH, body=body, headers=signer.headers(body))


def assert_dead_within_a_second(gateway: Gateway, key: str, since: float) -> None:
    while gateway.chat("ok", key=key).status != 401:
        assert time.monotonic() - since < PROMISED_S
        time.sleep(0.01)
    assert time.monotonic() - since < PROMISED_S


def test_a_key_in_an_alert_is_dead_in_under_a_second_and_its_replacement_works(gateway: Gateway, key: str) -> None:
    began_at = time.monotonic()
    answer = send(gateway.web, alert(key))
    assert answer.status == 200
    assert answer.json[0]["label"] == "true_positive"
    assert_dead_within_a_second(gateway, key, began_at)
    row = APIKey.objects.get(digest=keys.digests(key)[0])
    assert aftermath.follow_up(row.pk)
    assert gateway.chat("ok", key=key).status == 401
    assert key not in gateway.web.log
    assert key[5:30] not in gateway.installed.database_text() + gateway.installed.redis_text() + gateway.web.log


def test_a_key_that_trufflehog_verifies_is_dead_in_under_a_second(gateway: Gateway, key: str) -> None:
    body = json.dumps({"ApertureApiKey": {"token": [key]}}).encode()
    began_at = time.monotonic()
    statuses = [http.call(gateway.port, "POST", "/leaks/trufflehog", key=TOKEN, body=body).status for _ in range(2)]
    assert statuses == [200, 403]
    assert_dead_within_a_second(gateway, key, began_at)


def test_an_unsigned_body_is_refused_before_it_is_sent(gateway: Gateway) -> None:
    """Django would take the whole body first, and keep it on the disk."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {5 * MIB}\r\n\r\n"
    began_at = time.monotonic()
    assert http.raw(gateway.port, head.encode()).startswith(b"HTTP/1.1 403")
    assert time.monotonic() - began_at < 1


def test_a_body_over_the_bound_is_refused_before_it_is_sent(gateway: Gateway, listing: KeyServer) -> None:
    headers = "".join(f"{name}: {value}\r\n" for name, value in SIGNER.headers(b"").items())
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {5 * MIB + 1}\r\n\r\n"
    assert http.raw(gateway.port, head.encode()).startswith(b"HTTP/1.1 413")


def test_an_alert_of_ten_thousand_matches_is_answered_in_time(gateway: Gateway, key: str) -> None:
    body = alert(*(keys.generate() for _ in range(9_999)), key)
    began_at = time.monotonic()
    answer = send(gateway.web, body)
    assert answer.status == 200
    assert [each["label"] for each in answer.json].count("true_positive") == 1
    assert time.monotonic() - began_at < 6


def test_a_storm_of_unknown_identifiers_reaches_github_s_keys_at_most_once(
    gateway: Gateway, listing: KeyServer
) -> None:
    assert send(gateway.web, alert()).status == 200
    before = len(listing.fetches)
    statuses = {send(gateway.web, alert(), Signer(f"{number:064x}")).status for number in range(40)}
    assert statuses == {403}
    assert len(listing.fetches) - before <= 1


@pytest.fixture(scope="module")
def counting(
    server: str, installation: Installation, upstream: ScriptedUpstream, engines: Path, bounds: dict[str, str]
) -> Iterator[WebProcess]:
    """A web process that lets an address fail three times a minute, behind a proxy that it trusts."""
    limits = {"APERTURE_FAILED_KEYS_PER_MINUTE": "3", "APERTURE_TRUSTED_PROXIES": "127.0.0.1"}
    with start_web(server, APPLICATION, engines, DATABASE_URL=installation.database_url, **bounds | limits) as web:
        yield web


@pytest.mark.parametrize("path", [PATH, "/leaks/trufflehog"])
def test_an_address_that_fails_is_told_to_wait_and_another_is_not(counting: WebProcess, server: str, path: str) -> None:
    refused = {PATH: 403, "/leaks/trufflehog": 401}[path]

    def from_address(address: str) -> http.Answer:
        forged = {IDENTIFIER_HEADER: "f" * 64} if path == PATH else {"Authorization": "Bearer wrong"}
        return http.call(counting.port, "POST", path, body=b"[]", headers={"X-Forwarded-For": address, **forged})

    tried = [from_address(f"{NETWORKS[server]}.{len(path)}") for _ in range(5)]
    assert [answer.status for answer in tried] == [refused] * 3 + [429] * 2
    assert 0 < int(tried[-1].header("retry-after")) <= 61
    assert from_address(f"{NETWORKS[server]}.2{len(path)}").status == refused


def test_badly_signed_alerts_count_too(counting: WebProcess, server: str) -> None:
    headers = Signer("e" * 64).headers(b"[]") | {"X-Forwarded-For": f"{NETWORKS[server]}.99"}
    statuses = [http.call(counting.port, "POST", PATH, body=b"[]", headers=headers).status for _ in range(5)]
    assert statuses == [403] * 3 + [429] * 2
