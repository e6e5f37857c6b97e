"""What a bucket has left and when it has enough: the arithmetic alone."""

import itertools
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from billing import spending
from billing.spending import CALENDAR, PERIOD_S, REFILL, Bucket

DOLLAR = 10**9
NOON = datetime(2026, 2, 14, 12, 0, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
PERIODS = st.sampled_from(list(PERIOD_S))
SPANS = st.timedeltas(timedelta(0), timedelta(days=90))
AMOUNTS = st.integers(0, 10**13)


def a_bucket(**fields: Any) -> Bucket:
    plain = Bucket(
        id=1, name="daily", kind=REFILL, capacity=10 * DOLLAR, rate=5 * DOLLAR, period="day", hard=True, spent=0,
        held=0, measured_at=NOON,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **fields)


BUCKETS = st.builds(
    Bucket, id=st.just(1), name=st.just("q"), kind=st.just(REFILL), capacity=AMOUNTS, rate=AMOUNTS, period=PERIODS,
    hard=st.just(True), spent=AMOUNTS, held=st.just(0), measured_at=MOMENTS,
)  # fmt: skip


def later(bucket: Bucket, span: timedelta) -> Bucket:
    """Return a copy of the bucket, brought up to date that much later."""
    fresh = msgspec.structs.replace(bucket)
    spending.refresh(fresh, bucket.measured_at + span)
    return fresh


# --- Continuous refill ------------------------------------------------------------------------------------------------
def test_five_dollars_a_day_are_half_back_after_half_a_day() -> None:
    bucket = later(a_bucket(spent=10 * DOLLAR), timedelta(hours=12))
    assert spending.left(bucket) == 5 * DOLLAR // 2


@pytest.mark.parametrize(
    ("period", "seconds"), [("minute", 60), ("hour", 3600), ("week", 604_800), ("month", 2_592_000)]
)
def test_a_period_s_rate_is_back_after_the_period(period: str, seconds: int) -> None:
    bucket = later(a_bucket(spent=10 * DOLLAR, period=period), timedelta(seconds=seconds))
    assert spending.left(bucket) == 5 * DOLLAR


@given(BUCKETS, SPANS)
def test_a_refill_never_goes_above_the_capacity_nor_takes_anything_away(bucket: Bucket, span: timedelta) -> None:
    fresh = later(bucket, span)
    assert spending.left(bucket) <= spending.left(fresh) <= max(fresh.capacity, spending.left(bucket))
    assert fresh.spent >= 0


@given(BUCKETS, st.lists(SPANS, min_size=1, max_size=8))
def test_refreshing_often_gives_back_what_refreshing_once_does(bucket: Bucket, spans: list[timedelta]) -> None:
    once = later(bucket, sum(spans, timedelta(0)))
    often = bucket
    for span in spans:
        often = later(often, span)
    assert often == once


def test_a_slow_rate_comes_back_under_a_load_of_thousands_a_second() -> None:
    """Rounded down at each of them, a cent a month would never come back."""
    bucket = a_bucket(spent=DOLLAR, rate=DOLLAR // 100, period="month")
    for number in range(1, 20_001):
        spending.refresh(bucket, NOON + timedelta(microseconds=100 * number))
    assert DOLLAR - bucket.spent in (7, 8)


@given(BUCKETS, SPANS)
def test_a_clock_that_goes_back_changes_nothing(bucket: Bucket, span: timedelta) -> None:
    before = msgspec.structs.replace(bucket)
    spending.refresh(bucket, bucket.measured_at - span)
    assert bucket == before


# --- When it has enough -----------------------------------------------------------------------------------------------
@st.composite
def shortages(draw: st.DrawFn) -> tuple[Bucket, int]:
    """A bucket that refills, and an amount that it has not now and will have."""
    capacity = draw(st.integers(1, 10**13))
    amount = draw(st.integers(1, capacity))
    spent = draw(st.integers(capacity - amount + 1, 2 * 10**13))
    # So that the wait is some years at most.
    rate = draw(st.integers(10**6, 10**13))
    bucket = draw(BUCKETS)
    return msgspec.structs.replace(bucket, capacity=capacity, spent=spent, rate=rate), amount


@given(shortages())
def test_waiting_as_told_is_enough_and_one_second_less_is_not(drawn: tuple[Bucket, int]) -> None:
    bucket, amount = drawn
    short = spending.shortage(bucket, amount)
    assert short is not None
    wait = short.retry_after_s
    assert wait is not None
    assert wait >= 1
    assume(wait < 10**9)
    assert spending.shortage(later(bucket, timedelta(seconds=wait)), amount) is None
    assert spending.shortage(later(bucket, timedelta(seconds=wait - 1)), amount) is not None


def test_waiting_is_enough_however_often_others_ask_meanwhile() -> None:
    bucket = a_bucket(spent=10 * DOLLAR, rate=7)
    short = spending.shortage(bucket, 1)
    assert short is not None
    assert short.retry_after_s is not None
    end = NOON + timedelta(seconds=short.retry_after_s)
    for part in range(1, 1000):
        spending.refresh(bucket, NOON + (end - NOON) * part / 1000)
    spending.refresh(bucket, end)
    assert spending.shortage(bucket, 1) is None


@pytest.mark.parametrize(
    ("fields", "amount"),
    [({}, 10 * DOLLAR + 1), ({"kind": CALENDAR}, 10 * DOLLAR + 1), ({"rate": 0, "spent": 10 * DOLLAR}, 1),
     ({"capacity": 0}, 1), ({"capacity": 0, "kind": CALENDAR}, 1)],
)  # fmt: skip
def test_what_never_fits_is_not_worth_waiting_for(fields: dict[str, Any], amount: int) -> None:
    short = spending.shortage(a_bucket(**fields), amount)
    assert short is not None
    assert (short.retry_after_s, short.anew_at) == (None, None)


def test_a_soft_limit_refuses_nothing() -> None:
    assert spending.shortage(a_bucket(hard=False, spent=50 * DOLLAR), 10**15) is None


def test_what_is_held_is_not_left() -> None:
    assert spending.left(a_bucket(spent=DOLLAR, held=2 * DOLLAR)) == 7 * DOLLAR


def test_an_overdrawn_bucket_says_that_nothing_is_left() -> None:
    short = spending.shortage(a_bucket(spent=11 * DOLLAR), 1)
    assert short is not None
    assert short.left == 0
    assert short.retry_after_s == -(-(DOLLAR + 1) * 86_400 // (5 * DOLLAR))


# --- The calendar -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("period", "now", "start", "end"),
    [
        ("minute", "2026-02-14T12:34:56.789", "2026-02-14T12:34", "2026-02-14T12:35"),
        ("hour", "2026-02-14T23:59:59", "2026-02-14T23:00", "2026-02-15T00:00"),
        ("day", "2026-02-28T00:00", "2026-02-28T00:00", "2026-03-01T00:00"),
        ("week", "2026-02-15T23:59", "2026-02-09T00:00", "2026-02-16T00:00"),
        ("week", "2026-02-16T00:00", "2026-02-16T00:00", "2026-02-23T00:00"),
        ("week", "2027-01-02T12:00", "2026-12-28T00:00", "2027-01-04T00:00"),
        ("month", "2026-01-31T23:59", "2026-01-01T00:00", "2026-02-01T00:00"),
        ("month", "2026-02-28T23:59", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("month", "2028-02-29T12:00", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("month", "2026-12-31T23:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        # The day on which most of Europe loses an hour.
        ("day", "2026-03-29T02:30", "2026-03-29T00:00", "2026-03-30T00:00"),
    ],
)
def test_the_bounds_of_periods(period: str, now: str, start: str, end: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert spending.period_start(period, moment) == datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert spending.period_end(period, moment) == datetime.fromisoformat(end).replace(tzinfo=UTC)


@given(MOMENTS, PERIODS, st.integers(-14, 14))
def test_periods_are_utc_s_wherever_the_moment_is_told(moment: datetime, period: str, hours: int) -> None:
    elsewhere = moment.astimezone(timezone(timedelta(hours=hours)))
    start, end = spending.period_start(period, elsewhere), spending.period_end(period, elsewhere)
    assert start <= moment < end
    assert spending.period_start(period, end) == end
    assert start.utcoffset() == timedelta(0)


@given(MOMENTS, PERIODS, AMOUNTS)
def test_a_budget_starts_anew_at_the_boundary_and_not_before(moment: datetime, period: str, spent: int) -> None:
    bucket = a_bucket(kind=CALENDAR, period=period, spent=spent, measured_at=moment)
    end = spending.period_end(period, moment)
    early = msgspec.structs.replace(bucket)
    spending.refresh(early, end - timedelta(microseconds=1))
    assert early.spent == spent
    spending.refresh(bucket, end)
    assert bucket.spent == 0


def test_a_budget_is_reset_once_though_two_nodes_clocks_differ_at_the_boundary() -> None:
    midnight = datetime(2026, 2, 15, tzinfo=UTC)
    bucket = a_bucket(kind=CALENDAR, spent=DOLLAR, measured_at=midnight - timedelta(seconds=1))
    spending.refresh(bucket, midnight + timedelta(seconds=1))
    bucket.spent += 3
    for seconds in (-1, 0, 1, 2):
        spending.refresh(bucket, midnight + timedelta(seconds=seconds))
        assert bucket.spent == 3


@given(MOMENTS, PERIODS)
def test_the_wait_for_a_budget_is_exact(moment: datetime, period: str) -> None:
    bucket = a_bucket(kind=CALENDAR, period=period, spent=10 * DOLLAR, measured_at=moment)
    short = spending.shortage(bucket, 1)
    assert short is not None
    assert short.retry_after_s is not None
    assert short.anew_at == spending.period_end(period, moment)
    assert spending.shortage(later(bucket, timedelta(seconds=short.retry_after_s)), 1) is None
    assert spending.shortage(later(bucket, timedelta(seconds=short.retry_after_s - 1)), 1) is not None


# --- Definitions ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["daily", "daily-<user>", "daily:<user>", "<user>"])
@pytest.mark.parametrize("subject", ["", "everyone", "user:a@b.c", "group:a b", "tag:x=y", "key:1", "org:22"])
def test_definitions_that_can_be_read(name: str, subject: str) -> None:
    assert spending.problem(name, subject) == ""


@pytest.mark.parametrize(
    ("name", "subject"),
    [("daily:<node>", ""), ("a<", ""), ("a>", ""), ("<>", ""), ("a<user", ""), ("<user>.<user>", ""),
     ("q", "org:x"), ("q", "key:"),
     ("q", "label:x"), ("q", "everyone "), ("q", "user:")],
)  # fmt: skip
def test_definitions_that_cannot(name: str, subject: str) -> None:
    assert spending.problem(name, subject)


def test_only_a_template_makes_a_bucket_for_each_user() -> None:
    names = ("daily", "daily-<user>")
    found = [spending.bucket_subject(name, user) for name, user in itertools.product(names, (1, 2))]
    assert found == ["", "", "user:1", "user:2"]
