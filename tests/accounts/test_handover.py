"""A new secret that waits for its owner is handed over once, to whom it belongs, and then is in no row any more."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts import acceptance, cipher, handover, keys, rotation
from accounts.models import APIKey, Handover, Membership, Organization, User
from tests.races import at_once

pytestmark = pytest.mark.django_db


def soon() -> datetime:
    return timezone.now() + timedelta(days=3)


@pytest.fixture
def team() -> Organization:
    """Alice owns it, Bob is a member, Charlie is not."""
    team = Organization.objects.create(name="team")
    for name, role in (("alice", Membership.OWNER), ("bob", Membership.MEMBER), ("charlie", None)):
        user = User.objects.create_user(f"{name}@example.com")
        if role:
            Membership.objects.create(user=user, organization=team, role=role)
    return team


def person(name: str) -> User:
    return User.objects.get(email=f"{name}@example.com")


def left_for(name: str, team: Organization) -> tuple[APIKey, str]:
    key, secret = keys.mint(user=person(name), organization=team)
    handover.leave(key, secret, expires_at=soon())
    return key, secret


def test_what_was_left_is_collected_once_and_then_is_nowhere(team: Organization) -> None:
    key, secret = left_for("bob", team)
    assert handover.waiting(key) is not None
    assert handover.collect(person("bob"), key) == secret
    row = Handover.objects.get(key=key)
    assert row.sealed is None and row.collected_by == person("bob") and row.collected_at is not None
    assert handover.collect(person("bob"), key) is None
    assert handover.waiting(key) is None


def test_the_owner_collects_a_members_and_a_member_or_an_outsider_not_the_owners(team: Organization) -> None:
    bobs, bobs_secret = left_for("bob", team)
    alices, alices_secret = left_for("alice", team)
    assert handover.collect(person("charlie"), bobs) is None
    assert handover.collect(person("bob"), alices) is None
    assert handover.collect(person("alice"), bobs) == bobs_secret
    assert handover.collect(person("alice"), alices) == alices_secret


def test_who_has_left_the_organization_collects_nothing(team: Organization) -> None:
    key, _ = left_for("bob", team)
    Membership.objects.get(user=person("bob"), organization=team).delete()
    assert handover.collect(person("bob"), key) is None


def revoked(key: APIKey) -> None:
    key.revoke(timezone.now())


def run_out(key: APIKey) -> None:
    Handover.objects.update(expires_at=timezone.now())


@pytest.mark.parametrize("happen", [revoked, run_out])
def test_what_is_late_or_of_a_revoked_key_is_not_handed_over_and_is_erased(
    team: Organization, happen: Callable[[APIKey], None]
) -> None:
    key, _ = left_for("bob", team)
    assert handover.erase_expired(timezone.now()) == 0
    happen(key)
    assert handover.collect(person("bob"), key) is None
    assert handover.erase_expired(timezone.now()) == 1
    assert Handover.objects.get(key=key).sealed is None


def test_a_former_secret_is_not_handed_over(team: Organization) -> None:
    key, secret = left_for("bob", team)
    new = rotation.reset(key)
    assert handover.collect(person("bob"), key) is None
    with pytest.raises(ValueError, match="not its present secret"):
        handover.leave(key, secret, expires_at=soon())
    handover.leave(key, new, expires_at=soon())
    assert handover.collect(person("bob"), key) == new


def test_what_is_kept_does_not_show_the_secret(team: Organization) -> None:
    key, secret = left_for("bob", team)
    sealed = Handover.objects.get(key=key).sealed
    assert sealed is not None and secret.encode() not in bytes(sealed)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_collect_at_once_one_gets_it(team: Organization) -> None:
    key, secret = left_for("bob", team)

    def collect(_: int) -> str | None:
        try:
            return handover.collect(person("bob"), key)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(collect, range(6)))
    assert sorted(found, key=str) == [None] * 5 + [secret]


@pytest.mark.server
@pytest.mark.django_db(transaction=True)
def test_a_secret_that_is_collected_while_the_key_is_reset_has_the_overlap(
    team: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = left_for("bob", team)
    collecting, unseal = threading.Event(), cipher.unseal

    def unseal_slowly(ciphertext: bytes, purpose: str) -> str:
        collecting.set()
        time.sleep(0.4)
        return unseal(ciphertext, purpose)

    def reset() -> str:
        collecting.wait(5)
        return rotation.reset(APIKey.objects.get(pk=key.pk), overlap_s=3600)

    monkeypatch.setattr(cipher, "unseal", unseal_slowly)
    collected, _ = at_once(lambda: handover.collect(key.user, key), reset)
    assert collected == secret
    assert acceptance.accept(secret, None, timezone.now()).former
