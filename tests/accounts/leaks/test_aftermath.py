"""What follows a leak: a replacement, a mail, and a note of both."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts import acceptance, handover, keys, rotation
from accounts.leaks import aftermath, revocation
from accounts.leaks.revocation import State
from accounts.models import APIKey, Handover, Leak, Membership, Organization, User
from gateway.runtime import LAST_USED
from tests.races import at_once

pytestmark = pytest.mark.django_db

PLACE = "https://github.com/ada/shop/blob/1/a.py"


@pytest.fixture
def bob() -> User:
    return User.objects.create_user("bob@example.com", name="Bob")


@pytest.fixture
def key(bob: User) -> str:
    """A live key of Bob's, in clear text."""
    fields: dict[str, Any] = {"model_globs": ["openai/*"], "labels": {"project": "search"}, "scopes": ["billing:read"]}
    return keys.mint(user=bob, name="laptop", **fields)[1]


def leak(key: str, *places: str) -> list[State]:
    suspects = [revocation.suspect(key, place, "commit") for place in places or (PLACE,)]
    return revocation.report([each for each in suspects if each], Leak.GITHUB, timezone.now())


def works(key: str) -> bool:
    try:
        acceptance.accept(key, None, timezone.now())
    except acceptance.Refused:
        return False
    return True


def test_a_leaked_key_is_replaced_in_its_own_row_and_handed_over_once(bob: User, key: str) -> None:
    before = APIKey.objects.get()
    leak(key)
    assert not works(key)
    assert aftermath.sweep() == 1
    after = APIKey.objects.get()
    assert (after.pk, after.name, after.revoked_at) == (before.pk, "laptop", None)
    assert (after.model_globs, after.labels, after.scopes) == (before.model_globs, before.labels, before.scopes)
    fresh = handover.collect(bob, after)
    assert fresh is not None
    assert fresh != key
    assert works(fresh)
    assert not works(key)
    assert handover.collect(bob, after) is None
    row = Leak.objects.get()
    assert row.replaced_at is not None
    assert row.told_at is not None
    assert row.due_at is None


def test_the_owner_is_told_where_and_when_and_no_mail_holds_a_key(bob: User, key: str) -> None:
    leak(key, PLACE, f"https://example.com/?q={key}")
    aftermath.sweep()
    [sent] = mail.outbox
    text = f"{sent.subject}\n{sent.body}"
    assert sent.to == ["bob@example.com"]
    assert sent.subject == "Aperture: your API key laptop leaked and is revoked"
    assert PLACE in text
    assert "(commit), reported by GitHub at " in text
    assert "30 days" in text
    fresh = handover.collect(bob, APIKey.objects.get())
    assert fresh is not None
    for secret in (key, fresh):
        assert secret not in text
        assert secret[5:35] not in text


def test_a_key_of_a_team_is_told_of_to_its_user_and_to_the_team_s_owners(bob: User) -> None:
    team = Organization.objects.create(name="Team")
    owner = User.objects.create_user("owner@example.com")
    former = User.objects.create_user("former@example.com", is_active=False)
    Membership.objects.create(organization=team, user=bob)
    for user in (owner, former):
        Membership.objects.create(organization=team, user=user, role=Membership.OWNER)
    leak(keys.mint(user=bob, organization=team)[1])
    aftermath.sweep()
    assert sorted(sent.to[0] for sent in mail.outbox) == ["bob@example.com", "owner@example.com"]


def test_nothing_is_done_twice(key: str) -> None:
    leak(key)
    assert [aftermath.sweep() for _ in range(3)] == [1, 0, 0]
    leak(key)
    leak(key, "elsewhere")
    assert aftermath.sweep() == 0
    assert len(mail.outbox) == 1


def test_a_mail_that_does_not_go_out_is_tried_again_and_the_key_is_replaced_once(key: str, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    leak(key)
    assert aftermath.sweep() == 0
    replaced = bytes(APIKey.objects.get().digest)
    assert Leak.objects.get().due_at is not None
    assert aftermath.sweep() == 0
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    Leak.objects.update(due_at=timezone.now())
    assert aftermath.sweep() == 1
    assert bytes(APIKey.objects.get().digest) == replaced
    assert "waits for you" in mail.outbox[0].body


def test_a_former_secret_is_told_of_and_nothing_is_replaced(bob: User, key: str) -> None:
    present = rotation.reset(APIKey.objects.get(), overlap_s=3600)
    leak(key)
    assert aftermath.sweep() == 1
    assert works(present)
    assert not works(key)
    assert not Handover.objects.exists()
    assert "The present one" in mail.outbox[0].body


def test_the_replacement_of_a_present_secret_ends_the_former_one_too(bob: User, key: str) -> None:
    present = rotation.reset(APIKey.objects.get(), overlap_s=3600)
    assert works(key)
    leak(present)
    assert not works(key)
    aftermath.sweep()
    assert not works(key)
    assert not works(present)


@pytest.mark.parametrize("state", ["switched off", "left", "expired"])
def test_a_key_that_could_not_call_anyway_is_not_replaced(bob: User, state: str) -> None:
    team = Organization.objects.create(name="Team")
    member = Membership.objects.create(organization=team, user=bob)
    row, key = keys.mint(user=bob, organization=team, expires_at=timezone.now() + timedelta(days=1))
    leak(key)
    if state == "switched off":
        User.objects.filter(pk=bob.pk).update(is_active=False)
    elif state == "left":
        member.delete()
    else:
        APIKey.objects.filter(pk=row.pk).update(expires_at=timezone.now())
    assert aftermath.sweep() == 1
    assert APIKey.objects.get().revoked_at is not None
    assert Leak.objects.get().replaced_at is None
    assert [sent.body for sent in mail.outbox if "was not replaced" not in sent.body] == []


def test_one_key_that_cannot_be_followed_up_does_not_stop_the_others(
    bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [keys.mint(user=bob) for _ in range(3)]
    for _, key in pairs:
        leak(key)
    replace = rotation.replace_leaked

    def fail_first(row: APIKey) -> str:
        if row.pk == pairs[0][0].pk:
            raise rotation.AlreadyReset("reset by somebody else")
        return replace(row)

    monkeypatch.setattr(rotation, "replace_leaked", fail_first)
    assert aftermath.sweep() == 2
    assert Leak.objects.filter(due_at__isnull=False).count() == 1


def test_old_false_positives_are_forgotten_and_leaks_are_kept(key: str) -> None:
    long_ago = timezone.now() - timedelta(days=91)
    for token, place, at in (
        (key, PLACE, long_ago),
        (keys.generate(), "long ago", long_ago),
        (keys.generate(), "lately", timezone.now()),
    ):
        found = revocation.suspect(token, place)
        assert found is not None
        revocation.report([found], Leak.GITHUB, at)
    assert aftermath.forget_unknown() == 1
    assert sorted(Leak.objects.values_list("url", flat=True)) == sorted([PLACE, "lately"])


@pytest.mark.parametrize("change", ["DELETE FROM accounts_leak", "UPDATE accounts_leak SET url = '', was_live = false"])
def test_a_report_cannot_be_undone_in_the_database(key: str, change: str) -> None:
    leak(key)
    with (
        pytest.raises(IntegrityError, match="neither changed nor deleted"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(change)
    assert Leak.objects.get().was_live


@pytest.mark.server
@pytest.mark.django_db(transaction=True)
def test_the_same_alert_twice_at_once_revokes_once_and_replaces_once(bob: User) -> None:
    tokens = [keys.mint(user=bob)[1] for _ in range(20)]
    others = [keys.generate() for _ in range(50)]

    def deliver(order: list[str]) -> list[State]:
        suspects = [revocation.suspect(token, PLACE) for token in order]
        return revocation.report([each for each in suspects if each], Leak.GITHUB, timezone.now())

    mixed = tokens + others
    first, second = at_once(lambda: deliver(mixed), lambda: deliver(mixed[::-1]))
    assert sorted([first.count(State.LIVE), second.count(State.LIVE)]) == [0, 20]
    assert Leak.objects.count() == 70
    assert Leak.objects.filter(was_live=True).count() == 20
    done = at_once(aftermath.sweep, aftermath.sweep)
    assert sum(done) == 20
    assert len(mail.outbox) == 20
    assert Handover.objects.filter(sealed__isnull=False).count() == 20


@pytest.mark.server
@pytest.mark.django_db(transaction=True)
def test_a_reset_at_the_same_moment_leaves_no_leaked_secret_alive(bob: User) -> None:
    for _ in range(5):
        row, key = keys.mint(user=bob)
        at_once(lambda key=key: leak(key), lambda row=row: rotation.reset(row, overlap_s=60), refusal=rotation.NotReset)  # type: ignore[misc]
        assert not works(key)
    connection.close()


@pytest.mark.server
@pytest.mark.django_db(transaction=True)
def test_a_report_and_the_note_of_last_uses_do_not_block_each_other(bob: User) -> None:
    rows = [keys.mint(user=bob)[0] for _ in range(3)]
    # Its row is behind the others' by now.
    APIKey.objects.filter(pk=rows[0].pk).update(name="renamed")
    used = [row.pk for row in rows], [row.display for row in rows]
    held, noting = threading.Event(), threading.Event()

    def report() -> None:
        # As a report does, one after the other and in order.
        with transaction.atomic():
            for row in rows:
                APIKey.objects.select_for_update().get(pk=row.pk)
                held.set()
                noting.wait(5)
                time.sleep(0.2)

    def note() -> None:
        held.wait(5)
        noting.set()
        with connection.cursor() as cursor:
            cursor.execute(LAST_USED, used)

    at_once(report, note)
    assert APIKey.objects.filter(last_used_at=None).count() == 0
    connection.close()


@pytest.mark.server
@pytest.mark.django_db(transaction=True)
def test_a_former_secret_s_leak_and_a_reset_do_not_block_each_other(bob: User, monkeypatch: pytest.MonkeyPatch) -> None:
    row, former = keys.mint(user=bob)
    rotation.reset(row, overlap_s=3600)
    reported, looking = threading.Event(), revocation.look_up
    locked = rotation._locked

    def look_late(*about: Any) -> Any:
        reported.set()
        time.sleep(0.3)
        return looking(*about)

    def lock_late(key: APIKey) -> APIKey:
        present = locked(key)
        reported.wait(1)
        return present

    monkeypatch.setattr(revocation, "look_up", look_late)
    monkeypatch.setattr(rotation, "_locked", lock_late)
    states, _ = at_once(lambda: leak(former), lambda: rotation.reset(row, overlap_s=60))
    assert states in ([State.LIVE], [State.DEAD])
    assert not works(former)
    connection.close()
