"""What people see of buckets, and their refill."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from billing import buckets
from billing.models import Bucket, SpendingLimit
from tests.races import at_once

DOLLAR = 10**9
NOON = datetime(2026, 2, 14, 12, tzinfo=UTC)


def a_limit(**fields: object) -> SpendingLimit:
    return SpendingLimit.objects.create(**{"name": "daily-<user>", "capacity_nanos": 5 * DOLLAR} | fields)


@pytest.mark.django_db
def test_a_bucket_bears_its_owner_s_e_mail() -> None:
    user = User.objects.create_user("ann@example.com")
    limit = a_limit()
    rows = [Bucket(limit=limit, subject=subject, measured_at=NOON) for subject in (f"user:{user.pk}", "user:999")]
    rows.append(Bucket(limit=a_limit(name="all"), subject="", measured_at=NOON))
    names = [standing.name for standing in buckets.standings(rows, NOON)]
    assert names == ["daily-ann@example.com", "daily-user:999", "all"]


@pytest.mark.django_db
def test_what_is_left_and_when_it_is_full() -> None:
    limit = a_limit(rate_nanos=DOLLAR, period="hour")
    row = Bucket(limit=limit, spent_nanos=3 * DOLLAR, held_nanos=DOLLAR, measured_at=NOON)
    standing = buckets.standing(row, None, NOON + timedelta(hours=1))
    assert (standing.left_nanos, standing.used_percent) == (2 * DOLLAR, 40)
    assert standing.full_at == NOON + timedelta(hours=4)
    assert buckets.untouched(limit, "", NOON).left_nanos == 5 * DOLLAR
    assert buckets.untouched(a_limit(name="none", capacity_nanos=0), "", NOON).used_percent == 100


@pytest.mark.django_db
def test_a_bucket_that_takes_longer_than_any_calendar_is_never_full() -> None:
    limit = a_limit(rate_nanos=1, period="minute")
    standing = buckets.standing(Bucket(limit=limit, spent_nanos=5 * DOLLAR, measured_at=NOON), None, NOON)
    assert standing.full_at is None


@pytest.mark.django_db
def test_a_refill_gives_back_no_more_than_was_spent() -> None:
    row = Bucket.objects.create(limit=a_limit(), spent_nanos=3 * DOLLAR, held_nanos=DOLLAR)
    assert buckets.refill(row.pk, DOLLAR) == DOLLAR
    assert buckets.refill(row.pk, 10 * DOLLAR) == 2 * DOLLAR
    assert buckets.refill(row.pk) == 0
    row.refresh_from_db()
    assert (row.spent_nanos, row.held_nanos) == (0, DOLLAR)
    with pytest.raises(Bucket.DoesNotExist):
        buckets.refill(row.pk + 1)


@pytest.mark.django_db(transaction=True)
def test_refills_at_once_lose_nothing() -> None:
    row = Bucket.objects.create(limit=a_limit(), spent_nanos=100, measured_at=timezone.now())

    assert sum(at_once(*[lambda: buckets.refill(row.pk, 7)] * 8)) == 56
    row.refresh_from_db()
    assert row.spent_nanos == 44
