"""Who may ask the money API for what: every address, every kind of caller."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.middleware.csrf import _get_new_csrf_string
from django.test import Client
from django.urls import URLPattern
from django.utils import timezone

from accounts import keys
from accounts.models import APIKey, Membership
from billing import ledger
from billing.api import errors, transfers, urls
from gateway import errors as gateway_errors
from tests.billing.api_scenery import API, READ, WRITE, Acme, bearer, credited, found_acme, wallet

pytestmark = pytest.mark.django_db

PUBLIC = {"plans"}
MANAGERS_ONLY = {"ledger", "ledger.csv", "receipts", "receipts/<int:receipt_id>"}
WRITES = {"settings": "PATCH", "redeem": "POST", "top-up": "POST", "subscribe": "POST", "portal": "POST"}
BODIES: dict[str, dict[str, Any]] = {
    "settings": {"low_balance_nanos": 5},
    "redeem": {"code": "AP-0000"},
    "top-up": {"amount": "25.00"},
    "subscribe": {"plan": "pro"},
    "portal": {},
}


def addresses() -> list[str]:
    """Return every address of the API; one that is new is in the matrix at once."""
    return [str(each.pattern) for each in urls.urlpatterns if isinstance(each, URLPattern) and str(each.pattern)]


@pytest.fixture
def acme() -> Acme:
    return found_acme()


def ask(client: Client, acme: Acme, address: str, query: str = "", **headers: Any) -> Any:
    """Send the request that this address is for."""
    receipt = credited(acme, "1.00").pk
    path = f"{API}/{re.sub('<int:receipt_id>', str(receipt), address)}{query}"
    if address in WRITES:
        return client.generic(WRITES[address], path, json.dumps(BODIES[address]), "application/json", **headers)
    return client.get(path, **headers)


def code(answer: Any) -> str:
    """Return the code of an error, whose envelope is complete."""
    body = json.loads(answer.content)
    assert body["request_id"] == answer["x-aperture-request-id"]
    assert body["error"]["message"]
    row = gateway_errors.TABLE.get(body["error"]["code"])
    assert row is None or (row.status, row.type) == (answer.status_code, body["error"]["type"])
    return str(body["error"]["code"])


def test_every_address_is_in_the_matrix() -> None:
    assert set(WRITES) | PUBLIC | MANAGERS_ONLY < set(addresses())
    assert len(addresses()) == len(set(addresses()))


@pytest.mark.parametrize("address", addresses())
def test_nobody_gets_nothing(acme: Acme, address: str) -> None:
    answer = ask(Client(), acme, address)
    if address in PUBLIC:
        assert answer.status_code == 200
    else:
        assert (answer.status_code, code(answer)) == (401, "invalid_api_key")
        assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("address", [each for each in addresses() if each not in PUBLIC])
def test_for_an_outsider_the_organization_does_not_exist(acme: Acme, address: str) -> None:
    before = wallet_state(acme)
    browser = acme.browser(acme.charlie)
    token = csrf(browser)
    for query in (f"?organization={acme.id}", "?organization=999999", "?organization=x", "?organization=" + "9" * 30):
        answer = ask(browser, acme, address, query, HTTP_X_CSRFTOKEN=token)
        assert (answer.status_code, code(answer)) == (404, "not_found")
    row, clear = keys.mint(user=acme.charlie)
    row.scopes = [READ, WRITE]
    row.save()
    answer = ask(Client(), acme, address, f"?organization={acme.id}", **bearer(clear))
    assert (answer.status_code, code(answer)) == (404, "not_found")
    assert wallet_state(acme) == before


@pytest.mark.parametrize("address", [each for each in addresses() if each not in PUBLIC])
def test_a_member_reads_balance_and_usage_and_no_more(acme: Acme, address: str) -> None:
    browser = acme.browser(acme.bob)
    answers = [
        ask(browser, acme, address, f"?organization={acme.id}", HTTP_X_CSRFTOKEN=csrf(browser)),
        ask(Client(), acme, address, **bearer(acme.key(acme.bob, READ, WRITE))),
    ]
    for answer in answers:
        if address in WRITES or address in MANAGERS_ONLY:
            assert (answer.status_code, code(answer)) == (403, "role_required")
        else:
            assert answer.status_code == 200


@pytest.mark.parametrize("address", [each for each in addresses() if each not in PUBLIC])
def test_an_administrator_reads_everything_and_writes_nothing(acme: Acme, address: str) -> None:
    answer = ask(Client(), acme, address, **bearer(acme.key(acme.dora, READ, WRITE)))
    assert answer.status_code == (403 if address in WRITES else 200)


@pytest.mark.parametrize("address", [each for each in addresses() if each not in PUBLIC])
def test_a_key_without_the_scope_is_refused(acme: Acme, address: str) -> None:
    other = [READ] if address in WRITES else [WRITE]
    for scopes in ([], ["inference"], other):
        answer = ask(Client(), acme, address, **bearer(acme.key(acme.alice, *scopes)))
        if not scopes and address not in WRITES:
            assert answer.status_code == 200
        else:
            assert (answer.status_code, code(answer)) == (403, "scope_required")


@pytest.mark.parametrize("address", [each for each in addresses() if each not in PUBLIC])
def test_the_owner_may(acme: Acme, address: str) -> None:
    answer = ask(Client(), acme, address, **bearer(acme.key(acme.alice, READ, WRITE)))
    if address == "redeem":
        assert "no such code" in json.loads(answer.content)["error"]["message"]
    elif address in ("top-up", "subscribe", "portal"):
        assert (answer.status_code, code(answer)) == (503, "card_payments_off")
    else:
        assert answer.status_code == 200


@pytest.mark.parametrize("address", list(WRITES))
def test_a_browser_that_shows_no_csrf_token_changes_nothing(acme: Acme, address: str) -> None:
    answer = ask(acme.browser(acme.alice), acme, address, f"?organization={acme.id}")
    assert (answer.status_code, code(answer)) == (403, "csrf_failed")


def test_a_browser_with_its_token_changes_something(acme: Acme) -> None:
    browser = acme.browser(acme.alice)
    answer = ask(browser, acme, "settings", f"?organization={acme.id}", HTTP_X_CSRFTOKEN=csrf(browser))
    assert answer.status_code == 200
    assert wallet(acme).low_balance_nanos == 5


def test_without_a_name_a_browser_means_its_own_organization(acme: Acme) -> None:
    answer = acme.browser(acme.charlie).get(f"{API}/balance")
    assert answer.json()["organization"]["id"] == acme.charlie.personal_organization.pk


def test_a_bad_key_is_refused_beside_a_good_session(acme: Acme) -> None:
    assert acme.browser(acme.alice).get(f"{API}/balance", **bearer("sg-nonsense")).status_code == 401


def refused(acme: Acme, **headers: Any) -> str:
    return code(Client().get(f"{API}/balance", **headers))


def test_keys_are_refused_as_the_gateway_refuses_them(acme: Acme) -> None:
    key = acme.key(acme.alice)
    row = APIKey.objects.get()
    now = timezone.now()

    def with_row(**fields: Any) -> str:
        APIKey.objects.filter(pk=row.pk).update(**fields)
        return refused(acme, **bearer(key))

    assert with_row(ip_allowlist=["203.0.113.0/24"]) == "ip_restricted"
    assert with_row(ip_allowlist=["nonsense"]) == "invalid_api_key"
    assert with_row(ip_allowlist=[], expires_at=now - timedelta(seconds=1)) == "api_key_expired"
    assert with_row(expires_at=None, revoked_at=now) == "invalid_api_key"
    APIKey.objects.filter(pk=row.pk).update(revoked_at=None, ip_allowlist=["127.0.0.0/8"])
    for model, field in ((acme.alice, "is_active"), (acme.organization, "is_active")):
        setattr(model, field, False)
        model.save()
        assert refused(acme, **bearer(key)) == "invalid_api_key"
        setattr(model, field, True)
        model.save()
    assert Client().get(f"{API}/balance", **bearer(key)).status_code == 200
    Membership.objects.filter(user=acme.alice, organization=acme.organization).delete()
    assert refused(acme, **bearer(key)) == "invalid_api_key"
    for header in ("Basic eDp5", "Bearer", "Bearer sg-", "Bearer é", f"Token {key}"):
        assert refused(acme, HTTP_AUTHORIZATION=header) == "invalid_api_key"


def test_the_use_of_a_key_is_noted(acme: Acme) -> None:
    Client().get(f"{API}/balance", **bearer(acme.key(acme.alice)))
    assert APIKey.objects.get().last_used_at is not None


def test_an_address_that_guesses_has_to_wait_and_others_have_not(acme: Acme, settings: Any) -> None:
    settings.FAILED_KEYS_PER_MINUTE = 3
    key = acme.key(acme.alice)

    def status(address: str, key: str) -> int:
        return int(Client(REMOTE_ADDR=address).get(f"{API}/balance", **bearer(key)).status_code)

    assert [status(f"2001:db8::{number}", "sg-wrong") for number in range(4)] == [401, 401, 401, 429]
    # The whole /64 is one, even with a good key; its neighbour is another.
    assert status("2001:db8::ffff", key) == 429
    assert status("2001:db8:0:1::1", key) == 200
    answer = Client(REMOTE_ADDR="2001:db8::1").get(f"{API}/balance", **bearer(key))
    assert (answer["Retry-After"], code(answer)) == ("60", "requests_per_minute")


def test_where_failures_cannot_be_counted_good_keys_work(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("Valkey is away")

    for name in ("get", "add", "incr"):
        monkeypatch.setattr(type(cache._connections[cache._alias]), name, broken)  # type: ignore[attr-defined]
    assert refused(acme, **bearer("sg-wrong")) == "invalid_api_key"
    assert Client().get(f"{API}/balance", **bearer(acme.key(acme.alice))).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"balance": "100"},
        {"posted_nanos": 10**12},
        {"is_staff": True},
        {"plan": "enterprise"},
        {"plan_id": 3},
        {"mode": "unmetered"},
        {"frozen_at": None},
        {"overdraft_nanos": 10**12},
        {"low_balance_nanos": 5, "organization": 1},
        {"low_balance_nanos": "much"},
        {"low_balance_nanos": -1},
        {"low_balance_nanos": 2**63},
        {},
    ],
)
def test_nothing_but_the_low_balance_can_be_set(acme: Acme, body: dict[str, Any]) -> None:
    credited(acme, "1.00")
    before = wallet_state(acme)
    answer = Client().patch(
        f"{API}/settings", json.dumps(body), "application/json", **bearer(acme.key(acme.alice, WRITE))
    )
    assert (answer.status_code, code(answer)) == (400, "invalid_parameter")
    assert json.loads(answer.content)["error"]["param"] in {*body, "low_balance_nanos"}
    assert wallet_state(acme) == before
    acme.alice.refresh_from_db()
    assert not acme.alice.is_staff


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("{", "application/json", 400),
        ("[1]", "application/json", 400),
        ('{"low_balance_nanos": NaN}', "application/json", 400),
        ("[" * 60_000, "application/json", 400),
        ("\xff", "application/json; charset=latin-1", 400),
        ('{"low_balance_nanos": 1}' + " " * 70_000, "application/json", 413),
        ("low_balance_nanos=1", "application/x-www-form-urlencoded", 415),
        ("x", "text/plain", 415),
    ],
)
def test_bodies_that_are_no_small_json_are_refused(acme: Acme, body: str, kind: str, status: int) -> None:
    key = acme.key(acme.alice, WRITE)
    answer = Client().generic("PATCH", f"{API}/settings", body.encode("latin-1"), kind, **bearer(key))
    assert answer.status_code == status
    assert code(answer) in {"invalid_json", "request_too_large", "unsupported_media_type"}


def test_what_is_no_address_or_no_method_is_told_in_the_envelope(acme: Acme) -> None:
    assert code(Client().get(f"{API}/nothing")) == "not_found"
    assert code(Client().post(f"{API}/")) == "not_found"
    answer = Client().put(f"{API}/balance", **bearer(acme.key(acme.alice)))
    assert (answer.status_code, code(answer)) == (405, "method_not_allowed")
    assert answer["Allow"] == "GET, HEAD"
    assert Client().options(f"{API}/plans").status_code == 405
    assert code(Client().options(f"{API}/balance", **bearer(acme.key(acme.alice)))) == "method_not_allowed"


def test_an_unexpected_failure_tells_nothing(
    acme: Acme, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(organization_id: int) -> None:
        raise RuntimeError("canary 4711")

    monkeypatch.setattr("billing.api.balance.wallet_of", broken)
    answer = Client().get(f"{API}/balance", **bearer(acme.key(acme.alice)))
    assert (answer.status_code, code(answer)) == (500, "internal_error")
    assert b"4711" not in answer.content
    assert answer["x-aperture-request-id"] in caplog.text


def test_answers_are_json_and_kept_by_no_cache(acme: Acme) -> None:
    answer = Client().get(f"{API}/balance", HTTP_ACCEPT="text/html", **bearer(acme.key(acme.alice)))
    assert answer["Content-Type"] == "application/json"
    assert answer["Cache-Control"] == "private, no-store"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_codes_that_the_gateway_has_too_mean_the_same() -> None:
    shared = errors.TABLE.keys() & gateway_errors.TABLE.keys()
    assert len(shared) > 8
    for name in shared:
        assert errors.TABLE[name] == (gateway_errors.TABLE[name].status, gateway_errors.TABLE[name].type)


def csrf(browser: Client) -> str:
    """Give the browser a CSRF cookie and return its token."""
    token: str = _get_new_csrf_string()
    browser.cookies["csrftoken"] = token
    return token


def wallet_state(acme: Acme) -> dict[str, Any]:
    """Return all of Acme's wallet but what the tests' own credits moved."""
    ledger.wallet_of(acme.id)
    kept = ("plan_id", "overdraft_nanos", "frozen_at", "low_balance_nanos", "held_nanos")
    return {name: getattr(wallet(acme), name) for name in kept}


# --- What the documentation says --------------------------------------------------------------------------------------
DOCUMENT = (Path(__file__).parents[2] / "docs" / "billing-api.md").read_text(encoding="utf-8")


def test_every_address_is_documented_with_its_method_and_no_other() -> None:
    documented = {tuple(row) for row in re.findall(r"^\| (GET|POST|PATCH) \| `([^`]+)` \|", DOCUMENT, re.MULTILINE)}
    known = {(WRITES.get(each, "GET"), each.replace("<int:receipt_id>", "ID")) for each in addresses()}
    assert documented == known


def test_every_code_is_documented_here_or_among_the_gateways() -> None:
    documented = re.findall(r"^\| (\d+) \| `(\w+)` \| `(\w+)` \|", DOCUMENT, re.MULTILINE)
    own = {(str(errors.TABLE[code][0]), errors.TABLE[code][1], code) for code in errors.TABLE}
    assert set(documented) == {row for row in own if row[2] not in gateway_errors.TABLE}


def test_every_kind_and_the_shown_balance_are_as_they_are(acme: Acme) -> None:
    [listed] = re.findall(r"`kind` is one of (.*?)\.\n", DOCUMENT, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == set(transfers.KINDS)
    shown = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)]
    line = credited(acme, "25.00")
    headers = bearer(acme.key(acme.alice))
    assert list(shown[0]) == list(Client().get(f"{API}/balance", **headers).json())
    page = Client().get(f"{API}/ledger", **headers).json()
    assert list(shown[1]) == list(page)
    assert list(shown[1]["data"][0]) == list(page["data"][0])
    assert page["data"][0]["id"] == line.pk
