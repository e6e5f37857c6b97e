"""Redeem codes: each credits once, whoever sends it how often, and guessing ends soon."""

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from django.core.cache import cache
from django.db import IntegrityError
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Membership, Organization, User
from billing import money, redeem
from billing.models import House, Kind, RedeemBatch, RedeemCode, Transfer, Wallet
from tests.races import at_once

ADDRESS = ip_address("203.0.113.7")


@pytest.fixture(autouse=True)
def no_tries_yet(engines: object) -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def make(count: int = 1, *, expires_at: datetime | None = None, note: str = "Conference") -> list[str]:
    return redeem.make(redeem.NewBatch(uuid.uuid4(), note, money.of_dollars(5), count, expires_at), None)[1]


def user(email: str = "ada@example.com") -> User:
    return User.objects.ensure(email)


def send(code: str, who: User | None = None, **fields: Any) -> Transfer:
    who = who or user()
    values: dict[str, Any] = {"address": ADDRESS, "now": timezone.now()} | fields
    return redeem.redeem(who, who.personal_organization.pk, code, **values)


@pytest.mark.django_db
def test_a_code_credits_the_organization_and_makes_it_prepaid() -> None:
    (code,) = make()
    ada = user()
    transfer = send(code)
    row = RedeemCode.objects.get()
    assert (transfer.debit_id, transfer.credit_id) == (House.PROMOTIONS, ada.personal_organization.pk)
    assert (transfer.kind, transfer.amount_nanos) == (Kind.REDEEM, 5_000_000_000)
    assert (transfer.reference, transfer.actor_id) == (f"redeem:{row.pk}", ada.pk)
    assert (row.user, row.organization, row.redeemed_at is None) == (ada, ada.personal_organization, False)
    wallet = Wallet.objects.get(pk=ada.personal_organization.pk)
    assert (wallet.posted_nanos, wallet.mode) == (5_000_000_000, Wallet.PREPAID)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "typed",
    [
        str.lower,
        lambda code: code.replace("-", " "),
        lambda code: f" {code[3:]}\n",
        lambda code: code.replace("0", "o").replace("1", "l"),
    ],
)
def test_a_code_is_read_as_people_type_it(typed: Any) -> None:
    (code,) = make()
    assert send(typed(code)).amount_nanos == 5_000_000_000


def test_a_code_that_begins_like_the_prefix_is_read_with_and_without_it() -> None:
    body = "APAPAPAPAPAPAPAP"
    assert redeem.digests(body) == redeem.digests(f"AP-{body}") != []


@pytest.mark.django_db
def test_only_digests_are_kept_and_an_older_pepper_still_reads_them(settings: Settings) -> None:
    (code,) = make()
    stored = bytes(RedeemCode.objects.get().digest)
    assert len(stored) == 32
    settings.KEY_PEPPERS = ["a newer pepper", *settings.KEY_PEPPERS]
    assert redeem.digests(code)[0] != stored
    assert send(code).amount_nanos == 5_000_000_000


@pytest.mark.django_db
@pytest.mark.parametrize("code", ["", "AP", "AP-0000-0000-0000-000U", "AP-0000-0000-0000-0000", "Ü" * 16, "0" * 5000])
def test_what_is_no_code_says_so(code: str) -> None:
    make()
    with pytest.raises(redeem.NotRedeemed, match="There is no such code"):
        send(code)


@pytest.mark.django_db
def test_a_code_that_gives_nothing_any_more_says_why() -> None:
    now = timezone.now()
    (used,), (expired,), (stopped,) = make(), make(expires_at=now + timedelta(days=1)), make(note="stopped")
    send(used)
    RedeemBatch.objects.filter(note="stopped").update(stopped_at=now)
    for code, why, when in (
        (used, "redeemed already", now),
        (expired, "expired on", now + timedelta(days=1)),
        (stopped, "no longer valid", now),
    ):
        with pytest.raises(redeem.NotRedeemed, match=why):
            send(code, now=when)
    assert Transfer.objects.count() == 1


@pytest.mark.django_db
def test_only_a_member_redeems_for_an_organization() -> None:
    (code,) = make()
    other = Organization.objects.create(name="Other")
    with pytest.raises(redeem.NotRedeemed, match="not a member"):
        redeem.redeem(user(), other.pk, code, address=ADDRESS, now=timezone.now())
    Membership.objects.create(organization=other, user=user())
    assert redeem.redeem(user(), other.pk, code, address=ADDRESS, now=timezone.now()).credit_id == other.pk


@pytest.mark.django_db
def test_a_user_that_guesses_is_stopped_even_with_a_code_that_is_right() -> None:
    (code,) = make()
    for _ in range(redeem.TRIES_PER_USER):
        with pytest.raises(redeem.NotRedeemed, match="no such code"):
            send("AP-0000-0000-0000-0000")
    with pytest.raises(redeem.TooManyTries):
        send(code, address=ip_address("198.51.100.1"))
    assert send(code, user("bob@example.com")).amount_nanos == 5_000_000_000


@pytest.mark.django_db
def test_an_address_that_guesses_with_many_users_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redeem, "TRIES_PER_ADDRESS", 3)
    for number in range(3):
        with pytest.raises(redeem.NotRedeemed, match="no such code"):
            address = ip_address(f"2001:db8:1:2::{number}")
            send("AP-0000-0000-0000-0000", user(f"u{number}@example.com"), address=address)
    with pytest.raises(redeem.TooManyTries):
        send("AP-0000-0000-0000-0000", user("u4@example.com"), address=ip_address("2001:db8:1:2:ffff::1"))
    with pytest.raises(redeem.NotRedeemed, match="no such code"):
        send("AP-0000-0000-0000-0000", user("u5@example.com"), address=ip_address("2001:db8:1:3::1"))


@pytest.mark.django_db
def test_nothing_is_redeemed_while_tries_cannot_be_counted(settings: Settings) -> None:
    (code,) = make()
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }
    with pytest.raises(redeem.NotRedeemed, match="at the moment"):
        send(code)
    assert not Transfer.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_code_that_two_send_at_once_credits_once() -> None:
    (code,) = make()
    people = [user("ada@example.com"), user("bob@example.com")]
    outcomes = at_once(*[lambda who=who: send(code, who) for who in people], refusal=redeem.NotRedeemed)
    assert [str(each) for each in outcomes if isinstance(each, Exception)] == ["This code was redeemed already."]
    assert Transfer.objects.count() == 1
    assert sum(Wallet.objects.values_list("posted_nanos", flat=True)) == 5_000_000_000


@pytest.mark.django_db
def test_a_page_that_is_sent_twice_makes_one_batch() -> None:
    new = redeem.NewBatch(uuid.uuid4(), "Conference", money.of_dollars(5), 2, None)
    assert len(set(redeem.make(new, None)[1])) == 2
    assert redeem.make(new, None)[1] == []
    assert RedeemCode.objects.count() == 2


@pytest.mark.django_db
def test_a_code_is_redeemed_by_somebody_or_by_nobody() -> None:
    make()
    with pytest.raises(IntegrityError, match="redeem_code_redeemed_by_somebody"):
        RedeemCode.objects.update(redeemed_at=timezone.now())
