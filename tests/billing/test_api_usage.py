"""What the money API tells of usage: sums by day, model, key and user, and single requests."""

import json
import time
from datetime import date, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import keys
from billing import rollups
from billing.models import UsageDay
from tests.billing.api_scenery import (
    API,
    NOON,
    Acme,
    a_day,
    a_request,
    bearer,
    found_acme,
    many_requests,
    request_id_at,
)

pytestmark = pytest.mark.django_db
MONDAY = date(2026, 11, 16)
TUESDAY = date(2026, 11, 17)
WEEK: dict[str, Any] = {"from": "2026-11-16", "to": "2026-11-22"}


@pytest.fixture
def acme() -> Acme:
    return found_acme()


def get(acme: Acme, address: str = "usage", status: int = 200, **query: Any) -> Any:
    answer = Client().get(f"{API}/{address}", query, **bearer(acme.key(acme.bob)))
    assert answer.status_code == status, answer.content
    return answer.json()


def brief(found: Any, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in found["data"]]


# --- Sums -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def week(acme: Acme) -> Any:
    row, _ = keys.mint(user=acme.bob, organization=acme.organization, name="laptop")
    a_day(acme, MONDAY, model="a", requests_count=2, input_tokens=10, charge_nanos=5)
    a_day(acme, MONDAY, model="b", requests_count=1, failed_count=1, charge_nanos=2**40, key_id=row.pk)
    a_day(acme, TUESDAY, model="a", requests_count=4, charge_nanos=1, cost_nanos=3, user_id=acme.bob.pk, key_id=row.pk)
    a_day(acme, MONDAY - timedelta(days=1), charge_nanos=10**12)
    UsageDay.objects.create(organization_id=acme.id + 1, day=MONDAY, key_id=1, user_id=1, model="a", charge_nanos=7)
    return row


def test_by_day_the_newest_is_first_and_the_total_is_of_all(acme: Acme, week: Any) -> None:
    found = get(acme, **WEEK)
    assert brief(found, "day", "requests_count", "charge", "charge_nanos") == [
        ("2026-11-17", 4, "0.000000001", 1),
        ("2026-11-16", 3, "1099.511627781", 2**40 + 5),
    ]
    total = found["total"]
    assert (total["requests_count"], total["failed_count"], total["input_tokens"]) == (7, 1, 10)
    assert (total["charge_nanos"], found["truncated"]) == (2**40 + 6, False)


def test_by_model_and_by_key_the_dearest_is_first(acme: Acme, week: Any) -> None:
    assert brief(get(acme, group_by="model", **WEEK), "model", "charge_nanos") == [("b", 2**40), ("a", 6)]
    found = get(acme, group_by="key", **WEEK)
    shown = ("key", "key_name", "key_display", "charge_nanos")
    assert brief(found, *shown) == [(week.pk, "laptop", week.display, 2**40 + 1), (1, None, None, 5)]
    assert get(acme, group_by="user", **WEEK)["data"][1]["user_email"] == "bob@example.com"


def test_groups_combine(acme: Acme, week: Any) -> None:
    found = get(acme, group_by="day,model", **WEEK)
    assert brief(found, "day", "model", "charge_nanos") == [
        ("2026-11-17", "a", 1),
        ("2026-11-16", "b", 2**40),
        ("2026-11-16", "a", 5),
    ]


def test_filters_narrow_rows_and_total(acme: Acme, week: Any) -> None:
    found = get(acme, model="a", key=week.pk, **WEEK)
    assert brief(found, "day", "charge_nanos") == [("2026-11-17", 1)]
    assert found["total"]["charge_nanos"] == 1
    assert get(acme, user=acme.bob.pk, **WEEK)["total"]["requests_count"] == 4


def test_thirty_days_are_meant_where_none_are_named(acme: Acme) -> None:
    today = timezone.now().date()
    for days in (0, 29, 30):
        a_day(acme, today - timedelta(days=days), requests_count=1)
    found = get(acme)
    assert (found["from"], found["to"]) == ((today - timedelta(days=29)).isoformat(), today.isoformat())
    assert found["total"]["requests_count"] == 2


def test_sums_are_exact_beyond_what_a_column_holds(acme: Acme) -> None:
    for key in (1, 2, 3):
        a_day(acme, MONDAY, key_id=key, input_tokens=2**63 - 1)
    assert get(acme, **WEEK)["total"]["input_tokens"] == 3 * (2**63 - 1)


def test_what_upstreams_cost_is_told_to_a_team_only(acme: Acme, week: Any, settings: Any) -> None:
    settings.MODE = "team"
    assert get(acme, **WEEK)["total"]["cost_nanos"] == 3
    settings.MODE = "resale"
    found = get(acme, **WEEK)
    assert not {"cost", "cost_nanos"} & (set(found["total"]) | set(found["data"][0]))


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"group_by": "organization"}, "group_by"),
        ({"group_by": "day,day"}, "group_by"),
        ({"group_by": ""}, "group_by"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "from"),
        ({"from": "0001-01-01", "to": "9999-12-31"}, "from"),
        ({"key": "laptop"}, "key"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_question_that_is_not_understood_names_its_part(acme: Acme, query: dict[str, Any], param: str) -> None:
    assert get(acme, status=400, **query)["error"]["param"] == param


def test_the_earliest_day_has_no_days_before_it(acme: Acme) -> None:
    assert get(acme, to="0001-01-05")["from"] == "0001-01-01"


def test_requests_of_this_hour_count_at_once_and_only_once(acme: Acme) -> None:
    now = timezone.now()
    a_request(acme, now, charge_nanos=5, input_tokens=3)
    a_request(acme, now, 1, status=502, error_code="upstream_failed")

    def total() -> tuple[int, ...]:
        found = get(acme, to=now.date().isoformat())["total"]
        return tuple(found[name] for name in ("requests_count", "failed_count", "input_tokens", "charge_nanos"))

    assert total() == (2, 1, 3, 5)
    rollups.run(now + timedelta(hours=2))
    assert total() == (2, 1, 3, 5)


def test_a_busy_year_is_told_at_once(acme: Acme) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_usageday (organization_id, day, key_id, user_id, model, requests_count, failed_count,"
            " input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_tokens,"
            " cost_nanos, charge_nanos, provider_id, duration_ms)"
            " SELECT %s, DATE '2026-01-01' + day, key, 1, 'model ' || model, 80, 1, 9, 9, 9, 9, 9, 9, 9, 9, 1, 1"
            " FROM generate_series(0, 323) AS day, generate_series(1, 10) AS key, generate_series(1, 10) AS model",
            [acme.id],
        )
        cursor.execute("ANALYZE billing_usageday")
    key = acme.key(acme.bob)
    took_s = []
    for grouping in ("day", "model", "key"):
        began_at = time.perf_counter()
        query = {"from": "2026-10-22", "to": "2026-11-20", "group_by": grouping}
        answer = Client().get(f"{API}/usage", query, **bearer(key))
        took_s.append(time.perf_counter() - began_at)
        assert answer.json()["total"]["requests_count"] == 30 * 100 * 80
    assert min(took_s) < 0.2


def test_more_groups_than_fit_are_told_apart_from_all(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.api.usage_days.ROWS_MAX", 2)
    for number in range(3):
        a_day(acme, MONDAY, model=f"m{number}", charge_nanos=number)
    found = get(acme, group_by="model", **WEEK)
    assert (brief(found, "model"), found["truncated"]) == ([("m2",), ("m1",)], True)
    assert found["total"]["charge_nanos"] == 3


# --- Requests ---------------------------------------------------------------------------------------------------------
def test_a_request_shows_what_was_paid(acme: Acme, settings: Any) -> None:
    settings.MODE = "resale"
    a_request(
        acme,
        NOON,
        cost_nanos=1_000,
        charge_nanos=1_200,
        markup_ppm=1_200_000,
        input_tokens=9,
        labels={"project": "search"},
    )
    [row] = get(acme, "usage/requests")["data"]
    assert (row["total_cost"], row["total_cost_nanos"]) == ("0.0000012", 1_200)
    assert (row["began_at"], row["input_tokens"]) == ("2026-11-20T12:00:00.000000Z", 9)
    assert row["labels"] == {"project": "search"}
    hidden = {"cost_nanos", "upstream_cost", "markup_ppm", "provider_id", "target_id", "price_id", "organization_id"}
    assert not hidden & set(row)
    settings.MODE = "team"
    assert get(acme, "usage/requests")["data"][0]["upstream_cost_nanos"] == 1_000


def test_requests_come_newest_first_in_pages(acme: Acme) -> None:
    for number in range(7):
        a_request(acme, NOON + timedelta(seconds=number // 2), number)
    a_request(acme, NOON, 99, organization_id=acme.id + 1)
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        page = get(acme, "usage/requests", **query)
        seen += [row["request_id"] for row in page["data"]]
        if page["next_before"] is None:
            break
        query["before"] = page["next_before"]
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(set(seen)) == 7


def test_requests_are_found_by_time_key_user_model_session_and_outcome(acme: Acme) -> None:
    hour = timedelta(hours=1)
    a_request(acme, NOON, 1, key_id=1, model="a", session_id="s")
    a_request(acme, NOON + hour, 2, key_id=2, status=402, user_id=acme.bob.pk)
    a_request(acme, NOON + 2 * hour, 3, status=502)

    def found(**query: Any) -> set[int]:
        rows = get(acme, "usage/requests", **query)["data"]
        return {int(row["request_id"][-2:], 16) for row in rows}

    assert found(**{"from": (NOON + hour).isoformat()}) == {2, 3}
    assert found(to=(NOON + hour).isoformat()) == {1}
    assert found(**{"from": "1960-01-01T00:00", "to": "9999-01-01T00:00"}) == {1, 2, 3}
    assert found(key=2) == found(user=acme.bob.pk) == found(outcome="refused") == {2}
    assert found(model="a") == found(session="s") == found(outcome="succeeded") == {1}
    assert found(outcome="failed") == {3}


def test_another_organizations_request_is_no_place_to_go_on_from(acme: Acme) -> None:
    a_request(acme, NOON, 1, organization_id=acme.id + 1)
    a_request(acme, NOON - timedelta(hours=1), 2)
    page = get(acme, "usage/requests", before=str(request_id_at(NOON, 1)))
    assert len(page["data"]) == 1
    assert get(acme, "usage/requests", 400, before="1")["error"]["param"] == "before"


def test_a_page_reads_only_what_it_shows(acme: Acme) -> None:
    many_requests(acme, 500, neighbours=99)
    with CaptureQueriesContext(connection) as queries:
        get(acme, "usage/requests", limit=50)
    [statement] = [query["sql"] for query in queries if '"billing_usage"' in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        plan = cursor.fetchone()[0][0]["Plan"]
    assert rows_read(plan) <= 51 + 10, json.dumps(plan, indent=1)


def rows_read(plan: dict[str, Any]) -> int:
    own = 0 if "Plans" in plan else plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return int(own) + sum(rows_read(part) for part in plan.get("Plans", []))


def test_a_search_that_takes_too_long_says_so(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.api.view.READ_TIMEOUT_MS", 1)
    many_requests(acme, 50_000)
    error = get(acme, "usage/requests", 400, model="none of them")["error"]
    assert error["code"] == "invalid_parameter"
    assert "shorter range" in error["message"]
