"""Every finished request leaves exactly one row, whatever happens to the database meanwhile."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from billing import connection as billing_connection
from billing import journal as journal_module
from billing.journal import Journal, NotDurable, UsageRow
from gateway.exchange import new_request_id
from tests.wire import STRAIGHT, eventually, own_connection, sql, wired

pytestmark = pytest.mark.django_db(transaction=True)


def a_row(**fields: Any) -> UsageRow:
    row = UsageRow(
        request_id=new_request_id(),
        key_id=1,
        user_id=1,
        organization_id=1,
        provider_id=None,
        target_id=2,
        price_id=None,
        model="m",
        dialect="openai_chat",
        streamed=False,
        status=200,
        error_code="",
        input_tokens=1,
        cache_read_tokens=0,
        cache_write_tokens=0,
        output_tokens=1,
        reasoning_tokens=0,
        audio_tokens=0,
        usage_source="provider",
        cost_nanos=7,
        first_byte_ms=None,
        duration_ms=5,
        session_id="",
        client="é\u2028",
    )
    return msgspec.structs.replace(row, **fields)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Journal]:
    journal = Journal()
    journal.start()
    try:
        yield journal
    finally:
        await journal.stop(5)
        assert journal.queue == []


async def count() -> int:
    return int((await sql("SELECT count(*) FROM billing_usage"))[0][0])


async def until_written(journal: Journal) -> None:
    async def written() -> bool:
        return not journal.queue

    await eventually(written)


@contextlib.asynccontextmanager
async def locked() -> AsyncIterator[None]:
    async with own_connection() as other, other.transaction():
        await other.execute("LOCK TABLE billing_usage")
        yield


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(journal_module, "WRITE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(journal_module, "RETRY_DELAY_S", 0.05)
    yield


async def test_a_row_is_in_the_table_with_every_value_when_record_returns() -> None:
    row = a_row(first_byte_ms=3, provider_id=9, price_id=2**40, cost_nanos=2**62)
    async with running() as journal:
        await journal.record(row, 5)
        columns = ", ".join(UsageRow.__struct_fields__)
        found = (await sql(f"SELECT {columns}, now() - created_at < interval '1 minute' FROM billing_usage"))[0]
    assert (str(found[0]), *found[1:-1]) == tuple(getattr(row, name) for name in UsageRow.__struct_fields__)
    assert found[-1] is True


async def test_many_rows_take_few_commits() -> None:
    async with running() as journal:
        await asyncio.gather(*(journal.record(a_row(), 5) for _ in range(700)))
        rows, commits = (await sql("SELECT count(*), count(DISTINCT xmin::text) FROM billing_usage"))[0]
    assert rows == 700
    assert commits <= 4


@pytest.mark.parametrize(
    "fault",
    [
        {"client": "a\x00b"},
        {"client": "\ud800"},
        {"cost_nanos": -1},
        {"cost_nanos": 2**63},
        {"cost_nanos": 2**70},
        {"model": "m" * 300},
        {"request_id": "no uuid"},
        {"status": None},
    ],
    ids=str,
)
async def test_a_row_that_no_database_takes_is_refused_alone(
    fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [a_row() for _ in range(9)]
    rows.insert(4, a_row(**fault))
    async with running() as journal:
        outcomes = await asyncio.gather(*(journal.record(row, 5) for row in rows), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(NotDurable) == 1
        assert isinstance(outcomes[4], NotDurable)
        assert await count() == 9
        await journal.record(a_row(), 5)
    assert "refuses a usage row" in caplog.text


async def test_the_same_request_is_written_once() -> None:
    row = a_row()
    async with running() as journal:
        await asyncio.gather(journal.record(row, 5), journal.record(row, 5))
        await journal.record(row, 5)
        assert await count() == 1


async def test_a_backend_that_is_terminated_in_the_middle_costs_nothing() -> None:
    async with running() as journal:
        await journal.record(a_row(), 5)
        async with locked():
            waiting = [asyncio.create_task(journal.record(a_row(), 10)) for _ in range(5)]
            await asyncio.sleep(0.1)
            await sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aperture-journal'"
            )
            await asyncio.sleep(0.1)
        await asyncio.gather(*waiting)
        assert await count() == 6


async def test_a_commit_whose_answer_was_lost_is_not_written_twice(quick: None) -> None:
    async with wired() as wire, running() as journal:
        await journal.record(a_row(), 5)
        wire.mute = True
        waiting = asyncio.create_task(journal.record(a_row(), 10))

        async def both() -> bool:
            return await count() == 2

        await eventually(both)
        assert not waiting.done()
        wire.cut()
        wire.mute = False
        await waiting
        assert await count() == 2


async def test_a_silent_database_is_told_of_in_time_and_the_row_is_written_later(quick: None) -> None:
    async with wired() as wire, running() as journal:
        await journal.record(a_row(), 5)
        wire.freeze()
        began_at = time.monotonic()
        with pytest.raises(NotDurable):
            await journal.record(a_row(), 0.3)
        assert time.monotonic() - began_at < 2
        assert len(journal.queue) == 1
        wire.thaw()
        await until_written(journal)
        assert await count() == 2


async def test_a_database_that_only_reads_for_now_loses_no_row(quick: None) -> None:
    read_only = {"options": "-c default_transaction_read_only=on"}
    try:
        billing_connection.parameters = lambda: STRAIGHT() | read_only
        async with running() as journal:
            with pytest.raises(NotDurable):
                await journal.record(a_row(), 0.1)
            read_only.clear()
            await until_written(journal)
            assert await count() == 1
    finally:
        billing_connection.parameters = STRAIGHT


async def test_a_caller_that_gives_up_waiting_leaves_its_row(quick: None) -> None:
    async with running() as journal:
        async with locked():
            waiting = asyncio.create_task(journal.record(a_row(), 10))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert len(journal.queue) == 1
        await journal.record(a_row(), 5)
        assert await count() == 2


async def test_stopping_writes_even_what_nobody_waits_for() -> None:
    journal = Journal()
    journal.start()
    async with locked():
        tasks = [asyncio.create_task(journal.record(a_row(), 10)) for _ in range(3)]
        await asyncio.sleep(0.05)
        tasks[0].cancel()
        stopping = asyncio.create_task(journal.stop(5))
        await asyncio.sleep(0.05)
        assert not stopping.done()
    await stopping
    await asyncio.gather(*tasks[1:])
    assert await count() == 3


async def test_stopping_ends_in_time_and_says_what_was_lost(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    journal.start()
    async with locked():
        task = asyncio.create_task(journal.record(a_row(), 10))
        await asyncio.sleep(0.05)
        began_at = time.monotonic()
        await journal.stop(0.2)
        assert time.monotonic() - began_at < 2
    assert "1 usage rows were not written" in caplog.text
    for late in (task, journal.record(a_row(), 10)):
        with pytest.raises(NotDurable):
            await late
    assert await count() == 0
