"""What the money API tells of balance, plans and ledger, to the nano-dollar."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing import ledger
from billing.api import amounts, transfers
from billing.models import House, Kind, Plan, Transfer, Wallet
from billing.money import Money, of_dollars
from tests.billing.api_scenery import API, Acme, bearer, charged, credited, found_acme

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Acme:
    return found_acme()


def get(acme: Acme, address: str, status: int = 200, **query: Any) -> Any:
    """Ask with the owner's key; a float anywhere in the answer fails."""
    answer = Client().get(f"{API}/{address}", query, **bearer(acme.key(acme.alice)))
    assert answer.status_code == status, answer.content
    return json.loads(answer.content, parse_float=no_float)


def no_float(text: str) -> None:
    raise AssertionError(f"{text} is a float")


# --- Balance ----------------------------------------------------------------------------------------------------------
def test_posted_held_and_available_are_apart_and_exact(acme: Acme) -> None:
    credited(acme, "12.340000001")
    hold(acme, 40_000_000)
    Wallet.objects.update(overdraft_nanos=1_000_000_000, frozen_at=datetime(2026, 1, 2, tzinfo=UTC))
    assert get(acme, "balance") == {
        "organization": {"id": acme.id, "name": "Acme"},
        "mode": "prepaid",
        "plan": {"slug": "free", "name": "Free"},
        "frozen": True,
        "frozen_at": "2026-01-02T00:00:00.000000Z",
        "currency": "USD",
        "posted": "12.340000001",
        "posted_nanos": 12_340_000_001,
        "held": "0.04",
        "held_nanos": 40_000_000,
        "overdraft": "1.00",
        "overdraft_nanos": 1_000_000_000,
        "available": "13.300000001",
        "available_nanos": 13_300_000_001,
        "available_tokens": "133000.00001",
        "low_balance_nanos": None,
    }


def hold(acme: Acme, nanos: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_hold (request_id, organization_id, amount_nanos, metered, bucket_ids, lease_until,"
            " unfinished) VALUES (gen_random_uuid(), %s, %s, true, '{}', now() + interval '1 minute', '{}')",
            [acme.id, nanos],
        )


def test_an_organization_that_never_paid_has_an_empty_wallet(acme: Acme) -> None:
    found = get(acme, "balance")
    assert (found["mode"], found["posted_nanos"], found["frozen"]) == ("unmetered", 0, False)


def test_the_largest_balance_is_exact(acme: Acme) -> None:
    credited(acme, "9223372036.854775807")
    found = get(acme, "balance")
    assert (found["posted"], found["posted_nanos"]) == ("9223372036.854775807", 2**63 - 1)


@pytest.mark.parametrize(
    ("nanos", "tokens"),
    [(0, "0"), (100_000, "1"), (1, "0.00001"), (-150_000, "-1.5"), (2**63 - 1, "92233720368547.75807")],
)
def test_a_token_is_a_hundredth_of_a_cent(nanos: int, tokens: str) -> None:
    assert amounts.tokens(nanos) == tokens


def test_the_low_balance_is_set_and_taken_away(acme: Acme) -> None:
    key = acme.key(acme.alice, "billing:write")
    for value in (2_500_000_000, None):
        answer = Client().patch(
            f"{API}/settings", json.dumps({"low_balance_nanos": value}), "application/json", **bearer(key)
        )
        assert answer.json()["low_balance_nanos"] == value
        assert Wallet.objects.get().low_balance_nanos == value


# --- Plans ------------------------------------------------------------------------------------------------------------
def test_anybody_sees_the_public_plans(acme: Acme) -> None:
    Plan.objects.filter(slug="pro").update(price_nanos=20_000_000_000, monthly_credit_nanos=5_000_000_000)
    Plan.objects.create(slug="secret", name="Secret", public=False)
    plans = {plan["slug"]: plan for plan in Client().get(f"{API}/plans").json()["data"]}
    assert set(plans) == {"free", "pro", "enterprise"}
    pro = plans["pro"]
    assert (pro["price"], pro["price_nanos"], pro["monthly_credit"]) == ("20.00", 20_000_000_000, "5.00")
    assert (pro["markup"], pro["monthly_credit_tokens"]) == ("1.2", "50000")
    assert "stripe_price_id" not in pro


# --- Ledger -----------------------------------------------------------------------------------------------------------
def test_lines_are_seen_from_the_wallet_newest_first_and_say_what_they_correct(acme: Acme) -> None:
    top_up = credited(acme, "5.00", reference="stripe:checkout:1", reason="internal", actor_id=acme.alice.pk)
    charge = charged(acme, "0.000000001")
    correction = ledger.correct(top_up, reason="the card was stolen")
    lines = get(acme, "ledger")["data"]
    assert [(line["id"], line["kind"], line["amount"], line["amount_nanos"]) for line in lines] == [
        (correction.pk, "correction", "-5.00", -5_000_000_000),
        (charge.pk, "charge", "-0.000000001", -1),
        (top_up.pk, "top_up", "5.00", 5_000_000_000),
    ]
    assert [(line["corrects"], line["corrected_by"]) for line in lines] == [
        (top_up.pk, None),
        (None, None),
        (None, correction.pk),
    ]
    assert lines[1]["request_id"] == str(charge.request_id)
    assert lines[2]["reference"] == "stripe:checkout:1"
    # Why and by whom is the operator's business.
    assert not {"reason", "actor_id"} & set(lines[0])


def test_another_wallets_lines_are_never_there(acme: Acme) -> None:
    ledger.credit(acme.charlie.personal_organization.pk, of_dollars("1.00"), Kind.TOP_UP, House.CLEARING)
    ledger.post(ledger.Posting(House.UPSTREAM_COST, House.UPSTREAM_PAYABLE, Money(5), Kind.COST))
    assert get(acme, "ledger") == {"data": [], "next_before": None}


def test_pages_follow_one_another_without_gap_or_repetition(acme: Acme) -> None:
    made = [(credited if number % 3 else charged)(acme, "0.01").pk for number in range(11)]
    seen: list[int] = []
    query: dict[str, Any] = {"limit": 4}
    while True:
        page = get(acme, "ledger", **query)
        seen += [line["id"] for line in page["data"]]
        # What comes meanwhile belongs to no later page.
        credited(acme, "1.00")
        if page["next_before"] is None:
            break
        query["before"] = page["next_before"]
    assert seen == made[::-1]


def test_lines_are_found_by_kind(acme: Acme) -> None:
    for kind in (Kind.TOP_UP, Kind.REDEEM):
        credited(acme, "1.00", kind)
    charged(acme, "0.50")
    ledger.debit(acme.id, of_dollars("0.25"), Kind.REFUND, House.REFUNDS)
    assert [line["amount"] for line in get(acme, "ledger", kind="redeem")["data"]] == ["1.00"]
    assert [line["amount"] for line in get(acme, "ledger", kind="charge")["data"]] == ["-0.50"]
    assert [line["amount"] for line in get(acme, "ledger", kind="refund")["data"]] == ["-0.25"]


def test_lines_are_found_by_time(acme: Acme) -> None:
    now = timezone.now()
    made = [backdated(acme, now - timedelta(days=days)) for days in (90, 60, 30, 2, 1)]
    cases = [
        ({"from": now - timedelta(days=45)}, made[2:]),
        ({"to": now - timedelta(days=45)}, made[:2]),
        ({"from": now - timedelta(days=70), "to": now - timedelta(days=1.5)}, made[1:4]),
        ({"from": now - timedelta(days=2)}, made[3:]),
        ({"to": now - timedelta(days=2)}, made[:3]),
        ({"from": now + timedelta(days=1)}, []),
        ({"to": now - timedelta(days=365)}, []),
        ({"from": datetime.min.replace(tzinfo=UTC), "to": datetime.max.replace(tzinfo=UTC)}, made),
    ]
    for query, expected in cases:
        moments: dict[str, Any] = {name: moment.isoformat() for name, moment in query.items()}
        found = get(acme, "ledger", **moments)
        assert [line["id"] for line in found["data"]] == expected[::-1], query


def backdated(acme: Acme, moment: datetime) -> int:
    """Return the id of a credit that was posted at this moment."""
    ledger.wallet_of(acme.id)
    return Transfer.objects.create(
        created_at=moment, amount_nanos=1, debit_id=House.CLEARING, credit_id=acme.id, kind=Kind.TOP_UP
    ).pk


def test_a_moment_is_found_among_the_ids_by_halving(acme: Acme) -> None:
    now = timezone.now()
    for hours in range(200, 0, -1):
        backdated(acme, now - timedelta(hours=hours))
    with CaptureQueriesContext(connection) as queries:
        found = transfers.id_range(now - timedelta(hours=100), None)
    first = Transfer.objects.order_by("pk")[98].pk
    assert found is not None
    assert first <= found[0] <= first + 1
    assert len(queries) < 40


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 501}, "limit"),
        ({"before": "x"}, "before"),
        ({"before": 10**30}, "before"),
        ({"kind": "cost"}, "kind"),
        ({"from": "yesterday"}, "from"),
        ({"form": "2026-01-01"}, "form"),
    ],
)
def test_a_question_that_is_not_understood_names_its_part(acme: Acme, query: dict[str, Any], param: str) -> None:
    error = get(acme, "ledger", 400, **query)["error"]
    assert (error["code"], error["param"]) == ("invalid_parameter", param)


def test_a_page_reads_each_side_by_its_index_and_no_more_than_it_shows(acme: Acme) -> None:
    with connection.cursor() as cursor:
        ledger.wallet_of(acme.id)
        cursor.execute(
            "INSERT INTO billing_transfer (amount_nanos, debit_id, credit_id, kind, request_id)"
            " SELECT 1, %s, -3, 1, gen_random_uuid() FROM generate_series(1, 20000)",
            [acme.id],
        )
        cursor.execute("ANALYZE billing_transfer")
    ledger.debit(acme.id, of_dollars("0.25"), Kind.REFUND, House.REFUNDS)
    for query in ({}, {"kind": "refund"}, {"kind": "top_up"}):
        with CaptureQueriesContext(connection) as queries:
            transfers.page(acme.id, query, 51)
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {queries[-1]['sql']}")
            plan = cursor.fetchone()[0][0]["Plan"]
        assert rows_read(plan) <= 2 * 51 + 2, json.dumps(plan, indent=1)


def rows_read(plan: dict[str, Any]) -> int:
    """Return how many rows a plan's scans read, those that a filter then dropped included."""
    own = 0 if "Plans" in plan else plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return int(own) + sum(rows_read(part) for part in plan.get("Plans", []))
