"""TruffleHog's verifier: who may ask, and what the status says."""

import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.leaks import aftermath
from accounts.models import APIKey, Leak, User
from gateway import leaks

pytestmark = pytest.mark.django_db

TOKEN = "a long random text of the operator's"


@pytest.fixture(autouse=True)
def verifier(settings: Any) -> None:
    settings.LEAK_VERIFIER_TOKENS = [TOKEN, "the one before"]


@pytest.fixture
def key() -> str:
    return keys.mint(user=User.objects.create_user("bob@example.com"))[1]


def ask(body: Any, authorization: str = f"Bearer {TOKEN}") -> int:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"authorization": authorization} if authorization else {}
    return Client().post(leaks.TRUFFLEHOG_PATH, data, content_type="application/json", headers=headers).status_code


def about(*texts: str) -> dict[str, Any]:
    return {"ApertureApiKey": {"token": list(texts)}}


def test_a_live_key_is_verified_and_by_then_revoked(key: str) -> None:
    assert ask(about(key, key)) == 200
    assert APIKey.objects.get().revoked_at is not None
    leak = Leak.objects.get()
    assert (leak.channel, leak.was_live) == (Leak.TRUFFLEHOG, True)
    assert aftermath.sweep() == 1


def test_a_key_that_is_dead_is_rotated(key: str) -> None:
    assert [ask(about(key)) for _ in range(3)] == [200, 403, 403]
    aftermath.sweep()
    assert ask(about(key)) == 403
    other = keys.mint(user=User.objects.get())[0]
    other.revoke(timezone.now())
    assert Leak.objects.count() == 1


def test_a_single_text_is_taken_too(key: str) -> None:
    assert ask({"ApertureApiKey": {"token": key}}) == 200


def test_a_rule_whose_match_is_longer_than_its_group_is_understood(key: str) -> None:
    assert ask(about(f'"{key}"', key)) == 200


@pytest.mark.parametrize("text", ["sg-0123456789abcdef0", "naïve", "", "\x00"])
def test_what_is_no_key_of_ours_is_neither_and_leaves_no_row(text: str) -> None:
    assert ask(about(text)) == 404
    assert ask(about(keys.generate())) == 404
    assert not Leak.objects.exists()


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer wrong", TOKEN, f"Basic {TOKEN}", "Bearer \xe9", f"Bearer {TOKEN}x"],
)
def test_a_wrong_bearer_token_is_401_and_changes_nothing(key: str, authorization: str) -> None:
    assert ask(about(key), authorization) == 401
    assert APIKey.objects.get().revoked_at is None


def test_a_new_and_an_old_token_hold_while_one_replaces_the_other(key: str) -> None:
    assert ask(about(key), "bearer the one before") == 200


def test_without_a_token_of_the_operator_s_the_verifier_is_off(key: str, settings: Any) -> None:
    settings.LEAK_VERIFIER_TOKENS = []
    for authorization in ("", "Bearer ", "Bearer x"):
        assert ask(about(key), authorization) == 503
    assert APIKey.objects.get().revoked_at is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        [],
        {},
        {"Other": {"token": "x"}},
        {"ApertureApiKey": []},
        about(),
        {"ApertureApiKey": {"token": [1]}},
        {"ApertureApiKey": {"token": 1}},
    ],
)
def test_a_body_that_is_none_of_the_verifier_s_is_refused(body: Any) -> None:
    assert ask(body) == 400


def test_a_body_over_the_bound_is_refused() -> None:
    assert ask(b" " * (64 * 1024 + 1)) == 413
