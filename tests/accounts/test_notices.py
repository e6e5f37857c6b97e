"""The owner is told a week and a day before a key expires, and when it has, once each."""

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from accounts import keys, notices, tasks
from accounts.models import APIKey, KeyNotice, Membership, Organization, User

pytestmark = pytest.mark.django_db

NOW = timezone.now()
DAY = timedelta(days=1)
# Nobody listens there.
SMTP = "django.core.mail.backends.smtp.EmailBackend"


@pytest.fixture
def user() -> User:
    return User.objects.create_user("alice@example.com")


def expiring(user: User, days: float, age_days: float = 100, **about: Any) -> APIKey:
    """Return a key that expires in so many days, and was made so long ago."""
    key, _ = keys.mint(user=user, **about)
    APIKey.objects.filter(pk=key.pk).update(expires_at=NOW + days * DAY, created_at=NOW - age_days * DAY)
    key.refresh_from_db()
    return key


def told(*days: float) -> list[int]:
    return [notices.tell_of_expiry(NOW + each * DAY) for each in days]


def test_three_mails_once_each(user: User) -> None:
    expiring(user, 10)
    assert told(0, 2.9, 3.1, 3.2, 8.9, 9.1, 9.2, 9.9, 10, 10.1, 11) == [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]
    endings = ("expires within a week", "expires within a day", "has expired")
    assert [each.subject.endswith(ending) for each, ending in zip(mail.outbox, endings, strict=True)] == [True] * 3


def test_an_expiry_that_is_moved_is_told_anew(user: User) -> None:
    key = expiring(user, 5)
    assert told(0, 1) == [1, 0]
    APIKey.objects.filter(pk=key.pk).update(expires_at=NOW + 20 * DAY)
    assert told(1, 12, 14) == [0, 0, 1]


def test_a_key_made_for_a_short_time_is_not_announced_at_once(user: User) -> None:
    expiring(user, 3, age_days=0)
    expiring(user, 0.1, age_days=0)
    assert told(0, 0.05) == [0, 0]
    assert told(2.5) == [2]


def test_what_was_revoked_or_expired_long_ago_is_not_told_of(user: User) -> None:
    expiring(user, 3).revoke(NOW)
    expiring(user, -30)
    assert told(0) == [0]


def test_a_mail_that_could_not_be_sent_is_tried_again(user: User, settings: Any) -> None:
    expiring(user, 5)
    working = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = SMTP, "127.0.0.1", 1
    assert told(0) == [0] and not KeyNotice.objects.exists()
    settings.EMAIL_BACKEND = working
    assert told(0, 0) == [1, 0]


def test_a_mail_that_was_broken_off_is_tried_again(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    expiring(user, 5)

    def broken_off(*_about: Any) -> bool:
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr("accounts.mail.send", broken_off)
        told(0)
    assert told(0, 0) == [1, 0]


def test_the_owners_of_the_organization_are_told_where_the_user_is_switched_off(user: User) -> None:
    team = Organization.objects.create(name="team")
    Membership.objects.create(organization=team, user=user, role=Membership.OWNER)
    bob = User.objects.create_user("bob@example.com")
    Membership.objects.create(organization=team, user=bob)
    expiring(bob, 5, organization=team)
    User.objects.filter(pk=bob.pk).update(is_active=False)
    assert told(0) == [1]
    assert [each.to for each in mail.outbox] == [["alice@example.com"]]


def test_whoever_has_left_the_organization_is_told_nothing_of_its_keys(user: User) -> None:
    team = Organization.objects.create(name="team")
    Membership.objects.create(organization=team, user=user, role=Membership.OWNER)
    expiring(User.objects.create_user("bob@example.com"), 5, organization=team)
    assert told(0) == [1]
    assert [each.to for each in mail.outbox] == [["alice@example.com"]]


def test_the_tasks_do_what_they_are_named_for(user: User, settings: Any) -> None:
    settings.KEY_REVEAL = True
    expiring(user, 5)
    key, _ = keys.mint(user=user)
    key.revoke(NOW)
    tasks.tell_of_key_expiry()
    tasks.rotate_old_keys()
    tasks.tidy_keys()
    assert len(mail.outbox) == 1
    assert APIKey.objects.get(pk=key.pk).encrypted_copy is None
