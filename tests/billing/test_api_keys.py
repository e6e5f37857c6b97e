"""The API of keys: Alice owns Acme, Dora administers it, Bob is a member, Charlie has nothing to do with it."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.middleware.csrf import _get_new_csrf_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import acceptance, handover, keys, rotation
from accounts.leaks import aftermath, revocation
from accounts.models import APIKey, Leak, Membership, RetiredSecret, User
from tests.billing.api_scenery import Acme, bearer, found_acme
from tests.races import at_once

pytestmark = pytest.mark.django_db

CHANGES = ("reset", "end-overlap", "revoke", "handover")


@pytest.fixture
def acme() -> Acme:
    return found_acme()


class Browser:
    """Somebody who is signed in, with the CSRF token that its pages carry."""

    def __init__(self, acme: Acme, user: User) -> None:
        self.client, self.token, self.acme = acme.browser(user), _get_new_csrf_string(), acme
        self.client.cookies["csrftoken"] = self.token

    def get(self, path: str = "", query: str = "") -> Any:
        return self.client.get(f"/api/keys{path}{query or f'?organization={self.acme.id}'}")

    def post(self, path: str = "", **body: Any) -> Any:
        return self.client.post(
            f"/api/keys{path}?organization={self.acme.id}",
            json.dumps(body),
            "application/json",
            headers={"X-CSRFToken": self.token},
        )


def row_of(secret: str) -> APIKey:
    return APIKey.objects.get(digest__in=keys.digests(secret))


def accepted(secret: str) -> bool:
    try:
        return bool(acceptance.accept(secret, None, timezone.now()))
    except acceptance.Refused:
        return False


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def ids(answer: Any) -> set[int]:
    assert answer.status_code == 200, answer.content
    return {each["id"] for each in answer.json()["data"]}


# --- Who --------------------------------------------------------------------------------------------------------------
def test_an_owner_sees_all_keys_a_member_the_own_ones_and_an_outsider_none(acme: Acme) -> None:
    alices, bobs = (row_of(acme.key(user)).pk for user in (acme.alice, acme.bob))
    acme.key(acme.charlie)
    Membership.objects.filter(user=acme.charlie, organization=acme.organization).delete()
    assert ids(Browser(acme, acme.alice).get()) >= {alices, bobs}
    assert ids(Browser(acme, acme.bob).get()) == {bobs}
    assert ids(Browser(acme, acme.dora).get()) == set()
    assert refusal(Browser(acme, acme.charlie).get()) == (404, "not_found")


@pytest.mark.parametrize("change", CHANGES)
def test_whoever_may_not_finds_no_key_and_changes_none(acme: Acme, change: str) -> None:
    secret = acme.key(acme.alice)
    key = row_of(secret)
    handover.leave(key, secret, expires_at=timezone.now() + timedelta(days=1))
    for user in (acme.bob, acme.dora, acme.charlie):
        assert refusal(Browser(acme, user).post(f"/{key.pk}/{change}")) == (404, "not_found")
        assert refusal(Browser(acme, user).get(f"/{key.pk}")) == (404, "not_found")
    assert accepted(secret) and handover.waiting(key) is not None
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("change", CHANGES)
def test_an_owner_changes_a_members_key(acme: Acme, change: str) -> None:
    secret = acme.key(acme.bob)
    key = row_of(secret)
    handover.leave(key, secret, expires_at=timezone.now() + timedelta(days=1))
    assert Browser(acme, acme.alice).post(f"/{key.pk}/{change}").status_code == 200


def test_without_a_csrf_token_nothing_changes(acme: Acme) -> None:
    secret = acme.key(acme.alice)
    browser = Browser(acme, acme.alice)
    browser.token = "x"
    for change in CHANGES:
        assert refusal(browser.post(f"/{row_of(secret).pk}/{change}")) == (403, "csrf_failed")
    assert refusal(browser.post(name="new")) == (403, "csrf_failed")
    assert accepted(secret) and APIKey.objects.count() == 1


def test_nobody_is_nobody(acme: Acme) -> None:
    assert refusal(Client().get("/api/keys")) == (401, "invalid_api_key")


# --- What -------------------------------------------------------------------------------------------------------------
def test_a_new_key_is_shown_once_with_the_bounds_that_were_asked_for(acme: Acme) -> None:
    browser = Browser(acme, acme.bob)
    answer = browser.post(
        name="ci",
        models=["openai/*"],
        addresses=["203.0.113.7"],
        scopes=["keys:write"],
        expires_at="2099-01-01T00:00:00Z",
        rotate_after_days=90,
    )
    assert answer.status_code == 201, answer.content
    made, secret = answer.json()["key"], answer.json()["secret"]
    row = row_of(secret)
    assert (row.user, row.organization_id, row.name) == (acme.bob, acme.id, "ci")
    assert (row.model_globs, row.ip_allowlist, row.scopes) == (["openai/*"], ["203.0.113.7/32"], ["keys:write"])
    assert (made["id"], made["display"], made["state"]) == (row.pk, keys.mask(secret), "live")
    assert (made["expires_at"], made["rotate_after_days"]) == ("2099-01-01T00:00:00.000000Z", 90)
    assert secret not in browser.get().content.decode() + browser.get(f"/{row.pk}").content.decode()
    assert answer["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": "x", "labels": {"team": "admins"}}, "labels"),
        ({"name": "x", "addresses": ["10.0.0.300"]}, "addresses"),
        ({"name": "x", "scopes": ["everything"]}, "scopes"),
        ({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "rotate_after_days": 1}, "rotate_after_days"),
    ],
)
def test_what_a_key_cannot_have_is_refused_by_name(acme: Acme, body: dict[str, Any], param: str) -> None:
    answer = Browser(acme, acme.bob).post(**body)
    assert refusal(answer) == (400, "invalid_parameter")
    assert answer.json()["error"]["param"].startswith(param)
    assert not APIKey.objects.exists()


def test_a_loop_that_makes_keys_ends(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.api.keys.LIVE_KEYS_MAX", 2)
    browser = Browser(acme, acme.bob)
    assert [browser.post(name="x").status_code for _ in range(3)] == [201, 201, 400]


@pytest.mark.django_db(transaction=True)
def test_keys_that_are_made_at_once_are_not_more_than_there_may_be(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.api.keys.LIVE_KEYS_MAX", 2)
    browser = Browser(acme, acme.bob)
    made = at_once(*[lambda: browser.post(name="x").status_code] * 8)
    assert sorted(made) == [201, 201, *[400] * 6]


def test_a_reset_gives_the_new_secret_once_and_the_overlap_that_was_asked_for(acme: Acme) -> None:
    former = acme.key(acme.bob)
    key, browser = row_of(former), Browser(acme, acme.bob)
    answer = browser.post(f"/{key.pk}/reset", overlap_seconds=3600).json()
    assert (answer["key"]["state"], answer["key"]["former_display"]) == ("rotating", keys.mask(former))
    assert answer["key"]["former_accepted_until"] is not None
    assert accepted(former) and accepted(answer["secret"])
    ended = browser.post(f"/{key.pk}/end-overlap").json()
    assert (ended["state"], ended["former_display"], accepted(former)) == ("live", None, False)
    again = browser.post(f"/{key.pk}/reset").json()
    assert not accepted(answer["secret"]) and accepted(again["secret"])
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == [
        f"Reset by API: {keys.mask(former)} is refused after 3600 s.",
        "Ended the overlap by API.",
        f"Reset by API: {keys.mask(answer['secret'])} is refused.",
    ]


def test_an_overlap_of_more_than_a_week_is_refused(acme: Acme) -> None:
    secret = acme.key(acme.bob)
    answer = Browser(acme, acme.bob).post(f"/{row_of(secret).pk}/reset", overlap_seconds=rotation.OVERLAP_S_MAX + 1)
    assert refusal(answer) == (400, "invalid_parameter") and accepted(secret)


def test_a_reset_of_a_secret_that_was_replaced_since_is_refused(acme: Acme) -> None:
    secret = acme.key(acme.bob)
    key, browser = row_of(secret), Browser(acme, acme.bob)
    first = browser.post(f"/{key.pk}/reset", display=keys.mask(secret))
    assert refusal(browser.post(f"/{key.pk}/reset", display=keys.mask(secret))) == (409, "key_changed")
    assert accepted(first.json()["secret"])


def test_a_revoked_key_is_refused_and_not_reset(acme: Acme) -> None:
    secret = acme.key(acme.bob)
    key, browser = row_of(secret), Browser(acme, acme.bob)
    assert browser.post(f"/{key.pk}/revoke").json()["state"] == "revoked"
    assert browser.post(f"/{key.pk}/revoke").status_code == 200
    assert not accepted(secret)
    assert refusal(browser.post(f"/{key.pk}/reset")) == (400, "invalid_parameter")
    assert LogEntry.objects.count() == 1


def test_a_leaked_key_that_is_revoked_before_it_is_replaced_stays_dead(acme: Acme) -> None:
    secret = acme.key(acme.bob)
    suspect = revocation.suspect(secret, "https://example.com/paste")
    assert suspect is not None
    revocation.report([suspect], Leak.COMMAND, timezone.now())
    assert Browser(acme, acme.bob).post(f"/{row_of(secret).pk}/revoke").json()["state"] == "revoked"
    aftermath.sweep()
    key = row_of(secret)
    assert key.revoked_at is not None and handover.waiting(key) is None


def test_a_former_secret_s_use_is_not_taken_for_the_present_one_s(acme: Acme) -> None:
    former = acme.key(acme.bob)
    key = row_of(former)
    rotation.reset(key, overlap_s=3600)
    assert by_key(former, f"/{key.pk}").json()["last_used_at"] is None
    used = RetiredSecret.objects.get()
    assert used.last_used_at is not None
    by_key(former, f"/{key.pk}")
    assert RetiredSecret.objects.get().last_used_at == used.last_used_at


def test_a_waiting_secret_is_fetched_once(acme: Acme) -> None:
    secret = acme.key(acme.bob)
    key, browser = row_of(secret), Browser(acme, acme.bob)
    handover.leave(key, secret, expires_at=timezone.now() + timedelta(days=1))
    assert browser.get(f"/{key.pk}").json()["secret_waits_until"] is not None
    assert browser.post(f"/{key.pk}/handover").json()["secret"] == secret
    assert refusal(browser.post(f"/{key.pk}/handover")) == (404, "not_found")
    assert browser.get(f"/{key.pk}").json()["secret_waits_until"] is None


def test_no_secret_stays_in_a_row_whatever_headers_come(acme: Acme) -> None:
    browser = Browser(acme, acme.bob)
    headers = {"X-CSRFToken": browser.token, "Idempotency-Key": "once"}
    made = browser.client.post("/api/keys", json.dumps({"name": "x"}), "application/json", headers=headers).json()
    body = made["secret"][3:30].encode()
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT count(*) FROM "{table}" row WHERE row::text LIKE %s OR row::text LIKE %s',
                           [f"%{body.decode()}%", f"%{body.hex()}%"])  # fmt: skip
            assert cursor.fetchone()[0] == 0, table


def test_many_keys_are_listed_by_few_queries_and_in_pages(acme: Acme) -> None:
    made = [row_of(acme.key(acme.bob, name=str(number))).pk for number in range(7)]
    browser = Browser(acme, acme.bob)
    with CaptureQueriesContext(
        connection,
    ) as few:
        first = browser.get(query=f"?organization={acme.id}&limit=3").json()
    with CaptureQueriesContext(connection) as more:
        rest = browser.get(query=f"?organization={acme.id}&limit=9&before={first['next_before']}").json()
    assert [each["id"] for each in first["data"] + rest["data"]] == made[::-1]
    assert rest["next_before"] is None and len(few) == len(more)


# --- Keys -------------------------------------------------------------------------------------------------------------
def by_key(secret: str, path: str, body: dict[str, Any] | None = None) -> Any:
    client = Client()
    if body is None:
        return client.get(f"/api/keys{path}", **bearer(secret))
    return client.post(f"/api/keys{path}", json.dumps(body), "application/json", **bearer(secret))


def test_a_key_resets_itself_where_its_scope_is_named(acme: Acme) -> None:
    secret = acme.key(acme.bob, "keys:write")
    answer = by_key(secret, f"/{row_of(secret).pk}/reset", {"overlap_seconds": 60})
    assert answer.status_code == 200 and accepted(answer.json()["secret"]) and accepted(secret)


@pytest.mark.parametrize("change", ["reset", "revoke", "end-overlap"])
def test_a_former_secret_does_not_change_the_key_that_replaced_it(acme: Acme, change: str) -> None:
    former = acme.key(acme.bob, "keys:write", "keys:read")
    key = row_of(former)
    present = rotation.reset(key, overlap_s=3600)
    assert refusal(by_key(former, f"/{key.pk}/{change}", {})) == (403, "scope_required")
    assert accepted(present) and accepted(former)
    assert by_key(former, f"/{key.pk}").status_code == 200


@pytest.mark.parametrize("scopes", [(), ("billing:write",), ("keys:read",)])
def test_a_key_without_the_scope_changes_nothing(acme: Acme, scopes: tuple[str, ...]) -> None:
    secret = acme.key(acme.bob, *scopes)
    assert refusal(by_key(secret, f"/{row_of(secret).pk}/reset", {})) == (403, "scope_required")


def test_a_key_neither_changes_another_nor_makes_one_nor_fetches_a_secret(acme: Acme) -> None:
    own, other = acme.key(acme.alice, "keys:write", "keys:read"), acme.key(acme.alice)
    key = row_of(other)
    handover.leave(key, other, expires_at=timezone.now() + timedelta(days=1))
    for change in ("reset", "revoke", "end-overlap"):
        assert refusal(by_key(own, f"/{key.pk}/{change}", {})) == (404, "not_found")
    assert refusal(by_key(own, f"/{key.pk}/handover", {})) == (403, "scope_required")
    assert refusal(by_key(own, "", {"name": "x"})) == (403, "scope_required")
    assert APIKey.objects.count() == 2 and accepted(other)


def test_a_key_lists_what_its_user_manages_in_its_own_organization(acme: Acme) -> None:
    secret = acme.key(acme.alice)
    bobs = row_of(acme.key(acme.bob)).pk
    personal, _ = keys.mint(user=acme.alice)
    assert ids(by_key(secret, "")) == {bobs, row_of(secret).pk}
    assert refusal(by_key(secret, f"/{personal.pk}")) == (404, "not_found")
