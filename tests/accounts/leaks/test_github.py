"""GitHub's alerts: who may send them, what they do to keys, and what is answered."""

import hashlib
import json
import logging
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts import keys, rotation
from accounts.leaks import matches
from accounts.models import APIKey, Leak, RetiredSecret, User
from gateway import leaks
from tests.accounts.leaks.conftest import GitHub
from tests.accounts.leaks.scenery import IDENTIFIER_HEADER, SIGNATURE_HEADER, Signer, alert

pytestmark = pytest.mark.django_db


@pytest.fixture
def bob() -> User:
    return User.objects.create_user("bob@example.com", name="Bob")


@pytest.fixture
def key(bob: User) -> str:
    """A live key of Bob's, in clear text."""
    return keys.mint(user=bob, name="laptop")[1]


def label(token: str, issued: bool, kind: str = "aperture") -> dict[str, str]:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return {"token_hash": digest, "token_type": kind, "label": "true_positive" if issued else "false_positive"}


# --- Who may speak ----------------------------------------------------------------------------------------------------
def test_an_unsigned_alert_is_refused_and_nothing_is_fetched(github: GitHub, key: str) -> None:
    body = alert(key)
    signed = github.signer.headers(body)
    for headers in (
        {"X-Nothing": "1"},
        {IDENTIFIER_HEADER: signed[IDENTIFIER_HEADER]},
        {SIGNATURE_HEADER: signed[SIGNATURE_HEADER]},
        {**signed, IDENTIFIER_HEADER: "a1" * 31},
        {**signed, SIGNATURE_HEADER: "é" * 80},
    ):
        assert github.send(body, headers).status_code == 403
    assert github.server.fetches == []
    assert APIKey.objects.get().revoked_at is None


def test_an_alert_signed_by_another_key_is_refused(github: GitHub, key: str) -> None:
    body = alert(key)
    forged = {IDENTIFIER_HEADER: github.signer.identifier, SIGNATURE_HEADER: Signer("b2" * 32).signature(body)}
    assert github.send(body, forged).status_code == 403
    assert github.send(body, signer=Signer("b2" * 32)).status_code == 403
    assert github.send(body + b"\n", github.signer.headers(body)).status_code == 403
    assert (APIKey.objects.get().revoked_at, Leak.objects.count()) == (None, 0)


def test_a_storm_of_unknown_identifiers_does_not_reach_github(github: GitHub, key: str) -> None:
    statuses = {github.send(alert(key), signer=Signer(f"{number:064x}")).status_code for number in range(30)}
    assert statuses == {403}
    assert len(github.server.fetches) == 1


def test_while_the_keys_cannot_be_fetched_known_ones_serve_and_unknown_ones_are_told_to_come_again(
    github: GitHub, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    github.server.status = 500
    first, second = (keys.mint(user=bob)[1] for _ in range(2))
    answer = github.send(alert(first))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    monkeypatch.setattr(leaks.signing_keys, "_tried_at_s", float("-inf"))
    github.server.status = 200
    assert github.send(alert(first)).status_code == 200
    github.server.status = 500
    monkeypatch.setattr(leaks.signing_keys, "_fetched_at_s", time.monotonic() - 3600)
    monkeypatch.setattr(leaks.signing_keys, "_tried_at_s", time.monotonic() - 3600)
    assert github.send(alert(second)).json() == [label(second, True)]
    assert not APIKey.objects.filter(revoked_at=None).exists()


def test_a_server_of_keys_that_hangs_holds_nobody_for_longer_than_its_own_time(
    github: GitHub, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaks, "FETCH_TIMEOUT_S", 0.2)
    github.server.delay_s = 1.0
    began_at = time.monotonic()
    assert [github.send(alert(key)).status_code for _ in range(5)] == [503] * 5
    assert time.monotonic() - began_at < 1.0
    assert len(github.server.fetches) == 1


def test_a_listing_that_is_too_large_is_not_taken(
    github: GitHub, key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leaks, "LISTING_BYTES_MAX", 100)
    assert github.send(alert(key)).status_code == 503
    assert "answered more than 100 bytes" in caplog.text


def test_a_rotated_key_of_github_s_is_fetched_with_the_etag(
    github: GitHub, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert github.send(alert()).status_code == 200
    newer = Signer("c3" * 32)
    github.server.signers = [newer]
    assert github.send(alert(key), signer=newer).status_code == 403
    monkeypatch.setattr(leaks.signing_keys, "_tried_at_s", time.monotonic() - 301)
    assert github.send(alert(key), signer=newer).json() == [label(key, True)]
    assert [bool(etag) for etag in github.server.fetches] == [False, True]
    assert github.send(alert(key)).status_code == 403


def test_headers_come_in_any_case(github: GitHub, key: str) -> None:
    body = alert(key)
    headers = {name.upper(): value for name, value in github.signer.headers(body).items()}
    assert github.send(body, headers).status_code == 200


def test_only_post_is_taken(github: GitHub, client: Any) -> None:
    assert client.get(leaks.GITHUB_PATH).status_code == 405


# --- What it does -----------------------------------------------------------------------------------------------------
def test_a_live_key_is_revoked_and_noted_with_its_place(github: GitHub, key: str) -> None:
    assert github.send(alert(key)).json() == [label(key, True)]
    row, leak = APIKey.objects.get(), Leak.objects.get()
    assert row.revoked_at is not None
    assert row.revoked_for == APIKey.LEAKED
    assert (leak.key, leak.display, leak.channel, leak.was_live) == (row, row.display, Leak.GITHUB, True)
    assert (leak.url, leak.source) == ("https://github.com/ada/shop/blob/1/a.py", "content")


def test_an_expired_key_cannot_come_back_with_its_leaked_secret(github: GitHub, bob: User) -> None:
    key = keys.mint(user=bob, expires_at=timezone.now() - timedelta(days=1))[1]
    assert github.send(alert(key)).json() == [label(key, True)]
    leak = Leak.objects.get()
    assert (leak.was_live, leak.due_at) == (False, None)
    assert APIKey.objects.get().revoked_at is not None


def test_a_key_that_was_revoked_before_is_a_true_positive_and_stays_what_it_was(github: GitHub, key: str) -> None:
    APIKey.objects.get().revoke(timezone.now())
    before = APIKey.objects.values().get()
    assert github.send(alert(key)).json() == [label(key, True)]
    assert APIKey.objects.values().get() == before
    assert Leak.objects.get().due_at is None


def test_a_former_secret_is_ended_and_the_present_one_works_on(github: GitHub, key: str) -> None:
    rotation.reset(APIKey.objects.get(), overlap_s=3600)
    assert github.send(alert(key)).json() == [label(key, True)]
    assert RetiredSecret.objects.get().accepted_until is None
    assert APIKey.objects.get().revoked_at is None
    assert Leak.objects.get().was_live


def test_a_former_secret_of_an_expired_key_does_not_come_back_with_its_expiry(github: GitHub, key: str) -> None:
    row = APIKey.objects.get()
    rotation.reset(row, overlap_s=3600)
    APIKey.objects.update(expires_at=timezone.now())
    assert github.send(alert(key)).json() == [label(key, True)]
    APIKey.objects.update(expires_at=None)
    assert RetiredSecret.objects.get().accepted_until is None


def test_an_old_former_secret_is_a_true_positive(github: GitHub, key: str) -> None:
    rotation.reset(APIKey.objects.get())
    assert github.send(alert(key)).json() == [label(key, True)]
    assert (APIKey.objects.get().revoked_at, Leak.objects.get().was_live) == (None, False)


def test_what_was_never_issued_here_is_a_false_positive(github: GitHub, key: str) -> None:
    elsewhere, look_alike = keys.generate(), key[:-1] + ("a" if key[-1] != "a" else "b")
    others = [elsewhere, look_alike, "sg-0123456789abcdef0", "ghp_" + "x" * 36, "naïve", "\x00", " " + key]
    assert github.send(alert(*others)).json() == [label(token, False) for token in others]
    assert APIKey.objects.get().revoked_at is None
    assert [(leak.key, leak.display) for leak in Leak.objects.all()] == [(None, keys.mask(elsewhere))]


def test_the_same_alert_again_changes_nothing_and_gets_the_same_labels(github: GitHub, key: str) -> None:
    body = alert(key, keys.generate())
    answers = [github.send(body).json() for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert Leak.objects.count() == 2
    assert Leak.objects.filter(was_live=True, due_at__isnull=False).count() == 1


def test_a_second_place_is_noted_beside_the_first(github: GitHub, key: str) -> None:
    github.send(alert(key))
    github.send(alert(key, url=""))
    assert list(Leak.objects.order_by("pk").values_list("url", "was_live")) == [
        ("https://github.com/ada/shop/blob/1/a.py", True),
        ("", False),
    ]


def test_a_false_positive_that_is_a_key_of_ours_after_all_is_seen_to(github: GitHub, key: str, settings: Any) -> None:
    known = settings.KEY_PEPPERS
    settings.KEY_PEPPERS = ["another", *known[1:]]
    # The oldest pepper is what a place is noted under; with it lost, the row is another one.
    github.send(alert(key))
    settings.KEY_PEPPERS = [*known[:1], "another"]
    assert github.send(alert(key)).json() == [label(key, True)]
    assert Leak.objects.get().was_live


@pytest.mark.parametrize("source", ["commit", "Gist_Content", "a new kind", "", None, 7])
def test_any_source_is_taken(github: GitHub, key: str, source: Any) -> None:
    body = json.dumps([{"token": key, "type": "x", "url": "u", "source": source}]).encode()
    assert github.send(body).status_code == 200
    expected = {"Gist_Content": "gist_content", "a new kind": "a_new_kind", "commit": "commit"}
    assert Leak.objects.get().source == expected.get(source, "unknown")


def test_an_element_that_is_no_match_does_not_save_the_key_in_another(github: GitHub, key: str) -> None:
    body = json.dumps([7, None, {}, {"token": 1}, {"token": ""}, {"token": "x" * 5000}, {"token": key}]).encode()
    assert github.send(body).json() == [label(key, True, "")]
    assert APIKey.objects.get().revoked_at is not None


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{}", b'"x"', b"null", b"[" * 50_000, b"\xff\xfe", b'[{"token": "\xff"}]']
)
def test_a_signed_body_that_is_no_array_is_refused(github: GitHub, body: bytes) -> None:
    assert github.send(body).status_code == 400


def test_a_body_and_an_array_over_their_bounds_are_refused(github: GitHub) -> None:
    large = b" " * (5 * 1024 * 1024 + 1)
    assert github.send(large).status_code == 413
    assert github.send(b"[" + b"7," * matches.MATCHES_MAX + b"7]").status_code == 413


@pytest.mark.quiet
def test_ten_thousand_matches_are_answered_before_github_gives_up(github: GitHub, bob: User) -> None:
    ours = [keys.mint(user=bob, name=f"key {number}")[1] for number in range(200)]
    others = [keys.generate() for _ in range(9_800)]
    body = alert(*ours, *others, url="https://github.com/x")
    began_at = time.monotonic()
    answer = github.send(body)
    assert time.monotonic() - began_at < 30
    labels = answer.json()
    assert [each["label"] for each in labels] == ["true_positive"] * 200 + ["false_positive"] * 9_800
    assert not APIKey.objects.filter(revoked_at=None).exists()
    assert Leak.objects.filter(was_live=True).count() == 200


def test_nothing_that_was_found_reaches_the_log_or_the_database(
    github: GitHub, bob: User, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    elsewhere = keys.generate()
    github.send(alert(key, elsewhere, url=f"https://github.com/x?key={key}"))
    github.send(json.dumps([{"token": key, "type": key, "url": "x\x00" + elsewhere, "source": key}]).encode())
    github.send(alert(key), signer=Signer("d4" * 32))
    with connection.cursor() as cursor:
        cursor.execute("SELECT accounts_leak::text FROM accounts_leak")
        rows = str(cursor.fetchall())
        cursor.execute("SELECT accounts_apikey::text FROM accounts_apikey")
        rows += str(cursor.fetchall())
    assert rows.count(keys.mask(key)) > 0
    for token in (key, elsewhere):
        for text in (caplog.text, rows):
            assert token[3:30] not in text
            assert token[3:30].lower() not in text
