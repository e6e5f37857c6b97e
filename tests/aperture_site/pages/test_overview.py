"""The overview, the landing page and the components."""

from datetime import UTC, date, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts import keys
from accounts.models import User
from aperture_site.pages import chart, periods
from aperture_site.pages.periods import Sums
from aperture_site.templatetags import shown
from tests.aperture_site.pages.scenery import browser, check, see
from tests.billing.api_scenery import Acme, a_day, a_request, credited, found_acme

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Acme:
    return found_acme()


def today() -> date:
    return timezone.now().astimezone(UTC).date()


def test_an_empty_overview_says_what_to_do(acme: Acme, settings: Any) -> None:
    text = see(browser(acme.charlie), "/dashboard")
    assert "What to do next" in text
    assert "Make my first key" in text
    assert f"{settings.PUBLIC_URL}/api/v1" in text


def test_spend_balance_and_the_last_requests_are_exact(acme: Acme) -> None:
    credited(acme, "12.345678901")
    a_day(acme, today(), charge_nanos=1_500_000_001, requests_count=3)
    a_day(acme, today() - timedelta(days=1), charge_nanos=1_000_000_000, requests_count=2)
    a_request(acme, timezone.now() - timedelta(minutes=5), charge_nanos=123, model="openai/gpt-5-mini", client="curl")
    text = see(browser(acme.alice), f"/dashboard?organization={acme.id}")
    assert '$12.34<span class="fine">5678901</span>' in text
    assert "123,456.78901 tokens" in text
    assert "$0.000000123" in text
    assert "openai/gpt-5-mini" in text
    assert "5 min ago" in text
    assert "Spend by day" in text


def test_a_member_sees_the_own_requests_and_no_balance_and_an_outsider_nothing(acme: Acme) -> None:
    credited(acme, "77.00")
    now = timezone.now()
    a_request(acme, now - timedelta(minutes=1), 1, model="model-of-alice")
    a_request(acme, now - timedelta(minutes=2), 2, model="model-of-bob", user_id=acme.bob.pk)
    for place in ("/dashboard", "/dashboard/requests"):
        address = f"{place}?organization={acme.id}"
        owner = browser(acme.alice).get(address).content.decode()
        member = browser(acme.bob).get(address).content.decode()
        assert "model-of-alice" in owner
        assert "model-of-bob" in owner
        assert "model-of-bob" in member
        assert "model-of-alice" not in member
        assert "77.00" not in member
        assert "model-of-alice" in browser(acme.dora).get(address).content.decode()
        assert browser(acme.charlie).get(address).status_code == 404
        assert browser().get(address).status_code == 302
    check(browser(acme.bob).get(f"/dashboard?organization={acme.id}"))


@pytest.mark.parametrize("wrong", ["0", "x", "99999999999999999999999", "1 OR 1=1"])
def test_an_organization_that_does_not_exist_is_not_there(acme: Acme, wrong: str) -> None:
    assert browser(acme.alice).get(f"/dashboard?organization={wrong}").status_code == 404


def test_the_default_key_has_its_reset(acme: Acme) -> None:
    key, _ = keys.mint(user=acme.charlie)
    assert f"/settings/api-keys/{key.pk}/reset" in see(browser(acme.charlie), "/dashboard")


def test_a_year_of_usage_costs_no_more_queries_than_a_day(acme: Acme, django_assert_max_num_queries: Any) -> None:
    keys.mint(user=acme.alice, organization=acme.organization)
    for ago in range(40):
        a_day(acme, today() - timedelta(days=ago), charge_nanos=ago, requests_count=1)
    client = browser(acme.alice)
    with django_assert_max_num_queries(20):
        assert client.get(f"/dashboard?organization={acme.id}").status_code == 200


def test_a_period_is_compared_with_the_same_days_before() -> None:
    day = date(2026, 3, 31)
    days = {day: Sums(300, 3), day - timedelta(days=1): Sums(200, 2), date(2026, 2, 28): Sums(100, 1)}
    now, week, month = periods.periods(day, days)
    assert (now.present.nanos, now.former.nanos, now.change) == (300, 200, "+50 %")
    assert (week.present.nanos, week.change) == (500, "")
    assert (month.present, month.former.nanos, month.change) == (Sums(500, 5), 100, "+400 %")
    assert periods.first_day(day) == date(2026, 2, 1)
    assert periods.periods(day, {})[0].change == ""


def test_the_highest_bar_is_as_high_as_the_chart_and_nothing_is_no_bar() -> None:
    first = date(2026, 1, 1)
    drawn = chart.draw([(first, Sums(0, 0)), (first, Sums(1, 1)), (first, Sums(10**9, 2))])
    assert [bar.height for bar in drawn.bars] == [0, chart.LEAST, chart.HEIGHT]
    assert (drawn.measure, drawn.top) == ("Spend", "$1.00")
    assert chart.draw([(first, Sums(0, 5))]).measure == "Requests"


@pytest.mark.parametrize(
    ("nanos", "text"), [(0, "$0.00"), (1, "$0.000000001"), (-1_500_000_000, "−$1.50"), (10**15, "$1,000,000.00")]
)
def test_amounts_are_written_exactly(nanos: int, text: str) -> None:
    assert shown.dollars(nanos) == text
    assert shown.cents(nanos) + shown.beyond_cents(nanos) == text


def test_the_landing_page_knows_who_is_signed_in() -> None:
    assert 'href="/login"' in see(browser(), "/")
    user = User.objects.create_user("ada@example.com")
    text = see(browser(user), "/")
    assert 'href="/dashboard"' in text
    assert 'href="/login"' not in text


def test_the_components_are_shown_in_debug_only(settings: Any) -> None:
    see(browser(), "/design", 404)
    settings.DEBUG = True
    assert "Components" in see(browser(), "/design")


def test_an_unknown_address_has_a_page_of_ours() -> None:
    assert "There is nothing here" in see(browser(), "/nowhere", 404)
