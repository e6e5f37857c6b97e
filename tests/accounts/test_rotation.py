"""A key that gets another secret stays what it is, and its former one is dead, at once or when its overlap ends."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts import acceptance, handover, keys, rotation
from accounts.models import APIKey, RetiredSecret, User
from tests.races import at_once

pytestmark = pytest.mark.django_db

EVERYTHING: dict[str, Any] = {
    "name": "laptop",
    "model_globs": ["openai/*"],
    "scopes": ["billing:read"],
    "labels": {"project": "search"},
    "expires_at": datetime(2099, 1, 1, tzinfo=UTC),
}


@pytest.fixture
def user() -> User:
    return User.objects.create_user("alice@example.com")


def minted(user: User, **about: Any) -> tuple[APIKey, str]:
    return keys.mint(user=user, **about)


def outcome(secret: str, at: datetime | None = None) -> str:
    """Return how this secret fares: accepted, or the code of its refusal."""
    try:
        acceptance.accept(secret, None, at or timezone.now())
    except acceptance.Refused as refusal:
        return refusal.code
    return "accepted"


# --- A reset ----------------------------------------------------------------------------------------------------------
def test_the_former_secret_is_dead_and_the_new_one_works(user: User) -> None:
    key, former = minted(user)
    secret = rotation.reset(key)
    assert keys.well_formed(secret) and secret != former
    assert outcome(former) == "invalid_api_key"
    assert outcome(secret) == "accepted"


def test_a_key_stays_what_it_was(user: User) -> None:
    key, _ = minted(user, **EVERYTHING)
    APIKey.objects.filter(pk=key.pk).update(ip_allowlist=["203.0.113.0/24"], rotate_after_days=90)
    key.refresh_from_db()
    kept = ("id", "organization_id", "user_id", "created_at", "ip_allowlist", "rotate_after_days", *EVERYTHING)
    before = {name: getattr(key, name) for name in kept}
    rotation.reset(key)
    assert {name: getattr(APIKey.objects.get(), name) for name in kept} == before


def test_the_chain_of_secrets_is_kept(user: User) -> None:
    key, _ = minted(user)
    shown = [key.display]
    for _ in range(3):
        rotation.reset(key)
        shown.append(key.display)
    rows = list(RetiredSecret.objects.order_by("retired_at"))
    assert [row.display for row in rows] == shown[:-1]
    times = [moment for row in rows for moment in (row.issued_at, row.retired_at)]
    assert times == sorted(times)
    assert {row.reason for row in rows} == {"reset"}


def test_the_new_secret_is_in_no_row(user: User) -> None:
    key, _ = minted(user)
    secret = rotation.reset(key)
    with connection.cursor() as cursor:
        for table in ("accounts_apikey", "accounts_retiredsecret", "accounts_handover"):
            cursor.execute(f"SELECT count(*) FROM {table} row WHERE row::text LIKE %s", [f"%{secret[3:20]}%"])
            assert cursor.fetchone()[0] == 0


def test_a_copy_is_kept_of_the_new_secret_only(user: User, settings: Any) -> None:
    settings.KEY_REVEAL = True
    key, _ = minted(user)
    secret = rotation.reset(key)
    assert keys.reveal(APIKey.objects.get()) == secret


def revoked(key: APIKey) -> None:
    key.revoke(timezone.now())


def expired(key: APIKey) -> None:
    APIKey.objects.filter(pk=key.pk).update(expires_at=timezone.now())


@pytest.mark.parametrize(("kill", "why"), [(revoked, "revoked, for good"), (expired, "has expired")])
def test_a_dead_key_is_not_reset(user: User, kill: Callable[[APIKey], None], why: str) -> None:
    key, former = minted(user)
    kill(key)
    with pytest.raises(rotation.DeadKey, match=why):
        rotation.reset(key)
    assert not RetiredSecret.objects.exists()
    assert outcome(former) != "accepted"


def test_a_secret_that_somebody_else_replaced_is_not_replaced_again(user: User) -> None:
    key, _ = minted(user)
    mine = APIKey.objects.get()
    secret = rotation.reset(key)
    with pytest.raises(rotation.AlreadyReset, match="somebody else"):
        rotation.reset(mine)
    assert outcome(secret) == "accepted"


@pytest.mark.django_db(transaction=True)
def test_of_many_resets_at_once_one_wins_and_the_others_are_told(user: User) -> None:
    minted(user)
    seen = [APIKey.objects.get() for _ in range(6)]
    calls = [lambda key=key: rotation.reset(key) for key in seen]
    found = at_once(*calls, refusal=rotation.NotReset)
    won = [each for each in found if isinstance(each, str)]
    assert len(won) == 1
    assert [type(each) for each in found if not isinstance(each, str)] == [rotation.AlreadyReset] * 5
    assert outcome(won[0]) == "accepted"
    assert RetiredSecret.objects.count() == 1


# --- Overlap ----------------------------------------------------------------------------------------------------------
def test_in_the_overlap_both_secrets_work_and_stand_for_the_same_key(user: User) -> None:
    key, former = minted(user)
    secret = rotation.reset(key, overlap_s=3600)
    both = [acceptance.accept(each, None, timezone.now()) for each in (former, secret)]
    assert {each.key_id for each in both} == {key.pk} and [each.former for each in both] == [True, False]


def test_after_the_overlap_the_former_secret_has_expired(user: User) -> None:
    key, former = minted(user)
    secret = rotation.reset(key, overlap_s=60)
    later = timezone.now() + timedelta(seconds=61)
    assert outcome(former, later) == "api_key_expired"
    assert outcome(secret, later) == "accepted"


def test_an_overlap_outlasts_neither_the_keys_expiry_nor_its_revocation(user: User) -> None:
    key, former = minted(user, expires_at=timezone.now() + timedelta(seconds=30))
    secret = rotation.reset(key, overlap_s=3600)
    assert outcome(former, timezone.now() + timedelta(seconds=31)) == "api_key_expired"
    key.revoke(timezone.now())
    assert outcome(former) == outcome(secret) == "invalid_api_key"


def test_a_second_reset_ends_the_overlap_of_the_first(user: User) -> None:
    key, first = minted(user)
    second = rotation.reset(key, overlap_s=3600)
    third = rotation.reset(key, overlap_s=3600)
    assert [outcome(each) for each in (first, second, third)] == ["invalid_api_key", "accepted", "accepted"]


def test_an_overlap_can_be_ended_early(user: User) -> None:
    key, former = minted(user)
    rotation.reset(key, overlap_s=3600)
    assert rotation.end_overlap(key) == 1
    assert outcome(former) == "invalid_api_key"
    assert rotation.end_overlap(key) == 0


@pytest.mark.parametrize("overlap_s", [-1, rotation.OVERLAP_S_MAX + 1])
def test_an_overlap_is_at_most_a_week(user: User, overlap_s: int) -> None:
    key, former = minted(user)
    with pytest.raises(rotation.OverlapOutOfBounds, match="a week"):
        rotation.reset(key, overlap_s=overlap_s)
    assert outcome(former) == "accepted"


# --- Leaks ------------------------------------------------------------------------------------------------------------
def test_a_leaked_key_lives_again_with_another_secret(user: User) -> None:
    key, leaked = minted(user)
    key.revoke(timezone.now(), APIKey.LEAKED)
    assert outcome(leaked) == "invalid_api_key"
    secret = rotation.replace_leaked(key)
    assert (outcome(leaked), outcome(secret)) == ("invalid_api_key", "accepted")
    assert (key.pk, key.revoked_for) == (APIKey.objects.get().pk, "")


@pytest.mark.parametrize("reason", [None, ""])
def test_only_a_leaked_key_is_replaced(user: User, reason: str | None) -> None:
    key, _ = minted(user)
    if reason is not None:
        key.revoke(timezone.now(), reason)
    with pytest.raises(rotation.DeadKey, match="not revoked for a leak"):
        rotation.replace_leaked(key)


def test_a_secret_is_recognised_whether_present_or_former(user: User) -> None:
    key, former = minted(user)
    secret = rotation.reset(key)
    assert rotation.whose(secret) == (key, None)
    assert rotation.whose(former) == (key, RetiredSecret.objects.get())
    assert rotation.whose(keys.generate()) is None
    assert rotation.whose("sg-öäü") is None


def test_a_reset_takes_a_waiting_secret_away(user: User) -> None:
    key, secret = minted(user)
    handover.leave(key, secret, expires_at=timezone.now() + timedelta(days=1))
    rotation.reset(key)
    assert handover.waiting(key) is None
