"""A secret that became too old is changed, a week after its owner was told, and the new one waits for its owner."""

from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any
from unittest.mock import patch

import pytest
from django.core import mail
from django.utils import timezone

from accounts import acceptance, aging, handover, keys, notices, rotation
from accounts.models import APIKey, KeyNotice, Organization, User

pytestmark = pytest.mark.django_db

NOW = timezone.now()
DAY = timedelta(days=1)
# Nobody listens there.
SMTP = "django.core.mail.backends.smtp.EmailBackend"


@pytest.fixture
def user() -> User:
    return User.objects.create_user("alice@example.com")


def aged(user: User, days: float, **about: Any) -> tuple[APIKey, str]:
    """Return a key whose secret is so old, and the secret."""
    key, secret = keys.mint(user=user)
    APIKey.objects.filter(pk=key.pk).update(created_at=NOW - days * DAY, issued_at=NOW - days * DAY, **about)
    key.refresh_from_db()
    return key, secret


def subjects() -> list[str]:
    """Return what each mail says of the key."""
    return [str(each.subject).partition(") ")[2] for each in mail.outbox]


def accepted(secret: str, days: float = 0) -> bool:
    try:
        return bool(acceptance.accept(secret, None, NOW + days * DAY))
    except acceptance.Refused:
        return False


def watched(*days: float) -> list[int]:
    """Return how many secrets were changed at each of these moments."""
    return [watched_at(NOW + each * DAY) for each in days]


def watched_at(now: datetime) -> int:
    with patch.object(timezone, "now", lambda: now):
        return aging.watch(now)


def test_the_owner_is_told_a_week_and_a_day_before_and_when_it_is_done(user: User) -> None:
    key, former = aged(user, 82, rotate_after_days=90)
    assert watched(0, 0.5) == [0, 0] and mail.outbox == []
    assert watched(1.1, 1.2, 7.2, 7.3) == [0, 0, 0, 0]
    assert subjects() == ["will get another secret", "will get another secret"]
    assert watched(8.2, 8.3) == [1, 0]
    assert subjects()[2:] == ["has another secret: fetch it"]
    assert [each.to for each in mail.outbox] == [["alice@example.com"]] * 3
    key.refresh_from_db()
    secret = handover.collect(user, key)
    assert secret and accepted(secret) and accepted(former)


def test_no_mail_carries_a_secret(user: User) -> None:
    key, former = aged(user, 90, rotate_after_days=90)
    watched(0, 6.5, 7.1, 13.9)
    key.refresh_from_db()
    secret = handover.collect(user, key)
    assert secret is not None
    sent: list[EmailMessage] = list(mail.outbox)  # type: ignore[arg-type]
    assert len(sent) == 4
    for each in mail.outbox:
        for word in (secret, former, secret[5:-4], former[5:-4]):
            assert word not in each.subject + str(each.body)


def test_a_new_policy_changes_nothing_before_the_owner_had_a_week(user: User) -> None:
    Organization.objects.update(key_rotation_days=30)
    aged(user, 400)
    assert watched(0, 1, 6.9) == [0, 0, 0]
    assert watched(7.1) == [1]


def test_a_short_age_is_told_half_of_it_before(user: User) -> None:
    aged(user, 1, rotate_after_days=2)
    assert watched(0, 0.9, 1.1) == [0, 0, 1]
    assert mail.outbox[0].subject.endswith("will get another secret") and len(mail.outbox) == 2


def test_the_shorter_of_the_keys_age_and_its_organizations_counts(user: User) -> None:
    Organization.objects.update(key_rotation_days=60)
    looser, _ = aged(user, 59, rotate_after_days=365)
    stricter, _ = aged(user, 29, rotate_after_days=30)
    aged(user, 20, rotate_after_days=365)
    assert {each.pk for each in aging.bounded(NOW) if each.too_old_at <= NOW + DAY} == {looser.pk, stricter.pk}


def test_keys_without_an_age_and_dead_ones_are_left_alone(user: User) -> None:
    aged(user, 4000)
    aged(user, 400, rotate_after_days=30, revoked_at=NOW)
    aged(user, 400, rotate_after_days=30, expires_at=NOW - DAY)
    assert watched(0, 8) == [0, 0]
    assert mail.outbox == []


def test_a_mail_that_cannot_be_sent_holds_the_change_up(user: User, settings: Any) -> None:
    _, former = aged(user, 400, rotate_after_days=30)
    working = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = SMTP, "127.0.0.1", 1
    assert watched(0, 8) == [0, 0]
    assert not KeyNotice.objects.exists() and accepted(former)
    settings.EMAIL_BACKEND = working
    assert watched(9, 16.1) == [0, 1]


def test_whoever_does_not_fetch_is_told_again_a_day_before_the_former_secret_ends(user: User) -> None:
    key, _ = aged(user, 90, rotate_after_days=90)
    watched(0, 7.1)
    mail.outbox.clear()
    key.refresh_from_db()
    ends_at = key.retired.get().accepted_until
    assert ends_at is not None
    for moment in (ends_at - 2 * DAY, ends_at - DAY / 2, ends_at - DAY / 4):
        notices.tell_of_handovers(moment)
    assert [each.subject.endswith("ends within a day") for each in mail.outbox] == [True]


def test_whoever_resets_the_key_before_it_is_due_is_left_alone(user: User) -> None:
    key, _ = aged(user, 89, rotate_after_days=90)
    watched(0)
    rotation.reset(key)
    assert watched(7.1, 8) == [0, 0]


def test_a_short_age_ends_one_overlap_before_the_next_change(user: User) -> None:
    key, _ = aged(user, 1, rotate_after_days=2)
    assert watched(0, 1.1) == [0, 1]
    key.refresh_from_db()
    first_ends_at = key.retired.get().accepted_until
    assert first_ends_at is not None
    assert watched(2.2, 3.2) == [0, 1]
    assert first_ends_at < key.retired.latest("retired_at").retired_at


def test_a_reset_with_an_overlap_keeps_what_programs_use_while_nobody_has_the_new_secret(user: User) -> None:
    key, used = aged(user, 90, rotate_after_days=90)
    aging.rotate(key, NOW, overlap=7 * DAY)
    secret = rotation.reset(key, overlap_s=60)
    assert accepted(used) and accepted(secret)
    assert not accepted(used, 1)
    assert [row.accepted_until is None for row in key.retired.order_by("pk")] == [False, True]


def test_of_two_workers_one_changes_the_secret(user: User) -> None:
    key, _ = aged(user, 90, rotate_after_days=90)
    other = APIKey.objects.get()
    assert [aging.rotate(each, NOW, overlap=DAY) for each in (key, other)] == [True, False]
    assert key.retired.count() == 1
