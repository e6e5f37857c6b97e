"""Mails about spending limits and balances: one for each share and period, to whom it concerns."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from accounts import keys
from accounts.models import Membership, Organization, User
from billing import alerts, buckets, ledger
from billing.models import Bucket, House, Kind, SpendingLimit, Wallet
from billing.money import of_dollars

pytestmark = pytest.mark.django_db

DOLLAR = 10**9
NOON = datetime(2026, 2, 14, 12, tzinfo=UTC)


@pytest.fixture
def staff() -> User:
    return User.objects.create_user("operator@example.com", is_staff=True)


def a_bucket(*, subject: str = "", spent: int = 0, **fields: Any) -> Bucket:
    plain = {"name": "team", "capacity_nanos": 100 * DOLLAR, "kind": "calendar", "period": "month"}
    limit = SpendingLimit.objects.create(**plain | fields)
    return Bucket.objects.create(limit=limit, subject=subject, spent_nanos=spent * DOLLAR, measured_at=NOON)


def spend(row: Bucket, dollars: int, at: datetime) -> None:
    Bucket.objects.filter(pk=row.pk).update(spent_nanos=dollars * DOLLAR, measured_at=at)


def subjects() -> list[str]:
    found = [message.subject.split(":")[1].split(" %")[0].strip() for message in mail.outbox]
    mail.outbox.clear()
    return found


def test_each_share_is_told_once_in_a_period(staff: User) -> None:
    row = a_bucket()
    seen = []
    for minute, dollars in enumerate((10, 49, 50, 60, 79, 80, 99, 99, 100, 120, 120)):
        spend(row, dollars, NOON)
        alerts.watch_limits(NOON + timedelta(minutes=minute))
        seen.append(subjects())
    assert seen == [[], [], ["50"], [], [], ["80"], [], [], ["100"], [], []]


def test_a_jump_over_several_shares_is_one_mail(staff: User) -> None:
    a_bucket(spent=97)
    assert alerts.watch_limits(NOON) == 1
    [message] = mail.outbox
    assert message.to == ["operator@example.com"]
    assert message.subject == "Aperture: 97 % of the spending limit team is used"
    assert "$97.00 of $100.00 is spent. $3.00 is left." in message.body
    assert "requests are refused until there is enough again" in message.body
    assert "starts anew with each month" in message.body
    assert "full again at 2026-03-01 00:00 UTC" in message.body


def test_a_budget_s_shares_are_told_again_in_the_next_period(staff: User) -> None:
    row = a_bucket(spent=90)
    alerts.watch_limits(NOON)
    march = datetime(2026, 3, 1, 0, 1, tzinfo=UTC)
    alerts.watch_limits(march)
    assert subjects() == ["90"]
    assert Bucket.objects.get().alerted_percent == 0
    spend(row, 85, march)
    alerts.watch_limits(march + timedelta(minutes=1))
    assert subjects() == ["85"]


def test_the_next_period_s_jump_is_told_though_no_look_came_between(staff: User) -> None:
    row = a_bucket(spent=100)
    alerts.watch_limits(datetime(2026, 2, 28, 22, tzinfo=UTC))
    march = datetime(2026, 3, 1, 0, 1, tzinfo=UTC)
    spend(row, 55, march)
    alerts.watch_limits(march)
    assert subjects() == ["100", "55"]


def test_a_quota_that_swings_around_a_share_is_told_once_a_period(staff: User) -> None:
    row = a_bucket(kind="refill", rate_nanos=0, period="day")
    for hour in range(60):
        spend(row, 81 if hour % 2 else 79, NOON + timedelta(hours=hour))
        alerts.watch_limits(NOON + timedelta(hours=hour))
    assert subjects() == ["79", "81", "81", "81"]


def test_a_quota_that_stays_full_is_not_told_again(staff: User) -> None:
    a_bucket(kind="refill", rate_nanos=0, period="hour", spent=100)
    for hour in range(50):
        alerts.watch_limits(NOON + timedelta(hours=hour))
    assert subjects() == ["100"]


def test_a_minute_s_budget_tells_at_most_once_an_hour(staff: User) -> None:
    row = a_bucket(period="minute")
    for minute in range(120):
        spend(row, 100, NOON + timedelta(minutes=minute))
        alerts.watch_limits(NOON + timedelta(minutes=minute))
    assert subjects() == ["100", "100"]


def test_a_soft_limit_tells_too_and_says_so(staff: User) -> None:
    a_bucket(hard=False, spent=150)
    alerts.watch_limits(NOON)
    assert "It refuses nothing" in mail.outbox[0].body


def test_the_text_of_a_quota_s_mail(staff: User) -> None:
    a_bucket(name="by-hand", kind="refill", rate_nanos=0, spent=80)
    a_bucket(name="daily", kind="refill", rate_nanos=24 * DOLLAR, period="day", spent=80)
    alerts.watch_limits(NOON)
    by_hand, daily = (message.body for message in mail.outbox)
    assert "an operator can refill it" in by_hand
    assert "It refills by $24.00 in a day." in daily
    assert "full again at 2026-02-17 20:00 UTC" in daily


def test_the_largest_capacity_that_a_column_holds(staff: User) -> None:
    row = a_bucket(capacity_nanos=2**63 - 1)
    Bucket.objects.filter(pk=row.pk).update(spent_nanos=2**62 + 2**60)
    assert alerts.watch_limits(NOON) == 1


def test_a_limit_that_is_off_or_zero_tells_nothing(staff: User) -> None:
    a_bucket(name="off", enabled=False, spent=100)
    a_bucket(name="zero", capacity_nanos=0, spent=1)
    assert alerts.watch_limits(NOON) == 0


def test_who_is_told(staff: User) -> None:
    ann, bob, gone = (User.objects.create_user(f"{name}@example.com") for name in ("ann", "bob", "gone"))
    User.objects.filter(pk=gone.pk).update(is_active=False)
    team = Organization.objects.create(name="Team")
    Membership.objects.create(organization=team, user=ann, role=Membership.OWNER)
    Membership.objects.create(organization=team, user=bob)
    key, _ = keys.mint(user=ann, organization=team)
    expected = {
        (f"user:{bob.pk}", ""): ["bob@example.com"],
        (f"user:{gone.pk}", ""): ["operator@example.com"],
        ("", "user:ann@example.com"): ["ann@example.com"],
        ("", f"org:{team.pk}"): ["ann@example.com"],
        ("", f"key:{key.pk}"): ["ann@example.com"],
        ("", "everyone"): ["operator@example.com"],
        ("", "group:research"): ["operator@example.com"],
        ("", ""): ["operator@example.com"],
    }
    for (subject, binds), told in expected.items():
        assert alerts.watchers(SpendingLimit(name="x", subject=binds), subject) == told


def test_a_mail_that_could_not_be_sent_is_sent_with_the_next_look(
    staff: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    row = a_bucket(spent=60)
    with monkeypatch.context() as patch:
        patch.setattr("django.core.mail.EmailMessage.send", lambda self: 1 / 0)
        assert alerts.watch_limits(NOON) == 0
    assert "could not be sent" in caplog.text
    row.refresh_from_db()
    assert (row.alerted_percent, row.alerted_at) == (0, None)
    assert alerts.watch_limits(NOON) == 1


def test_two_workers_send_one_mail(staff: User, monkeypatch: pytest.MonkeyPatch) -> None:
    a_bucket(spent=60)
    again = buckets.standings

    def slowly(rows: Any, now: datetime) -> list[buckets.Standing]:
        # The other worker comes in between, once.
        monkeypatch.setattr(alerts, "standings", again)
        alerts.watch_limits(NOON)
        return again(rows, now)

    monkeypatch.setattr(alerts, "standings", slowly)
    alerts.watch_limits(NOON)
    assert subjects() == ["60"]


# --- Balances ---------------------------------------------------------------------------------------------------------
def test_a_low_balance_is_told_once_until_it_rose() -> None:
    ann = User.objects.create_user("ann@example.com")
    organization = ann.personal.pk
    ledger.credit(organization, of_dollars(10), Kind.TOP_UP, House.CLEARING)
    Wallet.objects.update(low_balance_nanos=5 * DOLLAR)
    now = timezone.now()
    told = []
    for dollars in (-1, -4, -1, -1, 6, -6, -1):
        move = ledger.credit if dollars > 0 else ledger.debit
        move(organization, of_dollars(abs(dollars)), Kind.CREDIT if dollars > 0 else Kind.DEBIT, House.ADJUSTMENTS)
        told.append(alerts.watch_balances(now))
    assert told == [0, 0, 1, 0, 0, 1, 0]
    first, second = mail.outbox
    assert first.to == second.to == ["ann@example.com"]
    assert first.subject == "Aperture: the balance is below $5.00"
    assert "is $4.00" in first.body
    assert first.body.strip().endswith("/account")


def test_an_unmetered_wallet_and_one_without_a_mark_tell_nothing() -> None:
    for number, mode in enumerate((Wallet.UNMETERED, Wallet.PREPAID)):
        user = User.objects.create_user(f"user{number}@example.com")
        ledger.wallet_of(user.personal.pk)
        Wallet.objects.filter(pk=user.personal.pk).update(
            mode=mode, low_balance_nanos=DOLLAR if mode == Wallet.UNMETERED else None
        )
    assert alerts.watch_balances(timezone.now()) == 0
    assert not mail.outbox
