"""The money API's tables as CSV: complete, harmless in a spreadsheet, and sent while they are read."""

import csv as standard_csv
import io
import tracemalloc
from datetime import date, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from accounts import keys
from billing import ledger
from billing.api import csv
from tests.billing.api_scenery import (
    API,
    NOON,
    Acme,
    a_day,
    a_request,
    charged,
    credited,
    found_acme,
    many_requests,
)
from tests.wire import orm

pytestmark = pytest.mark.django_db(transaction=True)


async def acme_with(make: Any) -> tuple[Acme, str]:
    """Return Acme, filled by a function, and its owner's key."""

    def filled() -> tuple[Acme, str]:
        acme = found_acme()
        make(acme)
        return acme, acme.key(acme.alice)

    return await orm(filled)


async def answered(key: str, address: str, **query: Any) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    return await AsyncClient().get(f"{API}/{address}", query, headers=headers)


async def table(key: str, address: str, **query: Any) -> list[dict[str, str]]:
    """Return the rows of an exported table."""
    answer = await answered(key, address, **query)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"].startswith("attachment; filename=")
    text = b"".join([piece async for piece in answer.streaming_content]).decode()
    return list(standard_csv.DictReader(io.StringIO(text, newline="")))


async def test_the_ledger_is_a_table_with_signed_numbers() -> None:
    def make(acme: Acme) -> None:
        ledger.correct(credited(acme, "5.00", reference="=cmd|'/c calc'!A1"), reason="wrong")
        charged(acme, "0.000000001")

    _, key = await acme_with(make)
    rows = await table(key, "ledger.csv")
    assert [(row["kind"], row["amount"], row["amount_nanos"]) for row in rows] == [
        ("charge", "-0.000000001", "-1"),
        ("correction", "-5.00", "-5000000000"),
        ("top_up", "5.00", "5000000000"),
    ]
    assert rows[1]["corrects"] == rows[2]["id"]
    assert rows[2]["corrected_by"] == rows[1]["id"]
    assert rows[2]["reference"] == "'=cmd|'/c calc'!A1"
    assert [row["amount"] for row in await table(key, "ledger.csv", kind="charge")] == ["-0.000000001"]


async def test_usage_is_a_table_by_day_user_key_and_model() -> None:
    def make(acme: Acme) -> None:
        row, _ = keys.mint(user=acme.bob, organization=acme.organization, name="@SUM(1)")
        for day in (2, 1):
            a_day(acme, date(2026, 11, day), key_id=row.pk, user_id=acme.bob.pk, model="+a", charge_nanos=day)

    _, key = await acme_with(make)
    rows = await table(key, "usage.csv", **{"from": "2026-11-01", "to": "2026-11-30"})
    assert [(row["day"], row["charge"]) for row in rows] == [
        ("2026-11-01", "0.000000001"),
        ("2026-11-02", "0.000000002"),
    ]
    assert (rows[0]["model"], rows[0]["key_name"], rows[0]["user_email"]) == ("'+a", "'@SUM(1)", "bob@example.com")


async def test_requests_are_a_table() -> None:
    def make(acme: Acme) -> None:
        a_request(acme, NOON, 1, model="-m", labels={"a": "é"}, charge_nanos=5, client='line\r\nbreak "quoted"')

    _, key = await acme_with(make)
    [row] = await table(key, "usage/requests.csv")
    assert (row["model"], row["labels"], row["total_cost_nanos"]) == ("'-m", '{"a": "é"}', "5")
    assert row["client"] == 'line\r\nbreak "quoted"'


@pytest.mark.parametrize("address", ["ledger.csv", "usage.csv", "usage/requests.csv"])
async def test_batches_follow_one_another_without_gap_or_repetition(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv, "BATCH_ROWS", 3)

    def make(acme: Acme) -> None:
        for number in range(9):
            credited(acme, "0.01")
            a_day(acme, date(2026, 11, 1 + number // 4), model=f"m{number % 4}", key_id=number % 2)
            if address != "usage.csv":
                # It would count in its day.
                a_request(acme, NOON + timedelta(seconds=number // 2), number)

    _, key = await acme_with(make)
    days = {"from": "2026-11-01", "to": "2026-11-30"} if address == "usage.csv" else {}
    rows = await table(key, address, **days)
    assert len(rows) == len({tuple(row.values()) for row in rows}) == 9


async def test_what_is_wrong_with_the_question_is_still_told_by_the_status() -> None:
    _, key = await acme_with(lambda acme: None)
    assert (await answered(key, "ledger.csv", kind="x")).status_code == 400
    assert await table(key, "ledger.csv") == []


async def test_a_long_table_needs_no_more_memory_than_a_batch() -> None:
    _, key = await acme_with(lambda acme: many_requests(acme, 20_000))
    answer = await answered(key, "usage/requests.csv")
    size = rows = 0
    tracemalloc.start()
    try:
        async for piece in answer.streaming_content:
            size += len(piece)
            rows += piece.count(b"\r\n")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 20_001
    assert size > 2_000_000
    # All rows at once would be some 40 MB.
    assert peak < 8_000_000
    await sync_to_async(answer.close)()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_is_a_formula(start: str) -> None:
    assert csv.cell(f"{start}1+1") == f"'{start}1+1"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-5, "-5"), ("-0.05", "-0.05"), (None, ""), (True, "true"), (2**63, str(2**63)), ("a=b", "a=b"), ({}, "{}")],
)
def test_numbers_and_plain_texts_stay_as_they_are(value: Any, shown: str) -> None:
    assert csv.cell(value) == shown
