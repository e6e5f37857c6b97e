"""Whatever happens to the database meanwhile: what was admitted is held, what ended is settled, each exactly once."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone

from billing import connection as billing_connection
from billing import journal as journal_module
from billing import reconcile
from billing.group import Group
from billing.holds import InsufficientCredits, Repeated
from billing.journal import Journal, NotDurable
from billing.usage import UsageRow
from tests.billing.scenery import (
    a_row,
    a_settlement,
    an_ask,
    an_organization,
    balance,
    holds_count,
    locked,
    running,
    until_written,
    usage_count,
)
from tests.wire import STRAIGHT, eventually, orm, own_connection, sql, wired

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.server]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(journal_module, "WRITE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(journal_module, "RETRY_DELAY_S", 0.05)
    yield


# --- Holding ----------------------------------------------------------------------------------------------------------
async def test_a_hold_is_in_the_wallet_when_it_is_granted() -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 300), 5)
        assert (held.amount_nanos, held.metered, held.capped) == (300, True, False)
        assert await balance(alice) == (1000, 300)


async def test_settling_charges_exactly_and_gives_the_rest_back() -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 300), 5)
        await journal.settle(held, a_settlement(held, 120, cost_nanos=100), 5)
        assert await balance(alice) == (880, 0)
        assert await holds_count() == 0
    columns = "debit_id, credit_id, amount_nanos, kind"
    lines = await sql(f"SELECT {columns} FROM billing_transfer WHERE request_id IS NOT NULL")
    assert sorted(lines) == [(-1, -2, 100, 2), (alice, -3, 120, 1)]


async def test_a_request_that_failed_costs_nothing() -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 300), 5)
        await journal.settle(held, a_settlement(held, 0, status=502), 5)
    assert await balance(alice) == (1000, 0)


async def test_a_charge_above_its_hold_always_posts_and_then_nothing_is_admitted() -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 900), 5)
        await journal.settle(held, a_settlement(held, 1500), 5)
        assert await balance(alice) == (-500, 0)
        with pytest.raises(InsufficientCredits):
            await journal.hold(an_ask(alice, 0), 5)


async def test_parallel_asks_never_hold_more_than_there_is() -> None:
    alice = await an_organization(1000)
    async with running() as first, running() as second:
        asks = [journal.hold(an_ask(alice, 100), 5) for journal in (first, second) for _ in range(100)]
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
        assert sum(isinstance(outcome, InsufficientCredits) for outcome in outcomes) == 190
        assert await balance(alice) == (1000, 1000)


async def test_eight_first_requests_of_a_wallet_that_does_not_exist_yet(settings: Any) -> None:
    """LiteLLM 40095: the budget's row did not exist, so all of them passed."""
    settings.MODE = "resale"
    alice = await an_organization()
    async with running() as journal, running() as other:
        asks = [each.hold(an_ask(alice, 100), 5) for each in (journal, other) for _ in range(4)]
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
    assert all(isinstance(outcome, InsufficientCredits) for outcome in outcomes)
    assert await balance(alice) == (0, 0)


async def test_an_unmetered_wallet_refuses_nothing_and_pays_nothing_but_costs_are_recorded() -> None:
    alice = await an_organization()
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 10**15), 5)
        assert not held.metered
        await journal.settle(held, a_settlement(held, 70, cost_nanos=70), 5)
    assert await balance(alice) == (0, 0)
    assert await sql("SELECT kind, amount_nanos FROM billing_transfer") == [(2, 70)]


async def test_a_wallet_that_cannot_pay_the_maximum_caps_the_request() -> None:
    alice = await an_organization(500)
    async with running() as journal:
        rich = await journal.hold(an_ask(alice, 100, least=10, full=500), 5)
        assert (rich.amount_nanos, rich.capped) == (100, False)
        poorer = await journal.hold(an_ask(alice, 100, least=10, full=500), 5)
        assert (poorer.amount_nanos, poorer.capped) == (100, True)
        poorest = await journal.hold(an_ask(alice, 400, least=10, full=500), 5)
        assert (poorest.amount_nanos, poorest.capped) == (300, True)
        with pytest.raises(InsufficientCredits) as refusal:
            await journal.hold(an_ask(alice, 100, least=10, full=500), 5)
        assert refusal.value.available_nanos == 0


async def test_a_frozen_wallet_admits_nothing() -> None:
    alice = await an_organization(500)
    await sql("UPDATE billing_wallet SET frozen_at = now()")
    async with running() as journal:
        with pytest.raises(InsufficientCredits) as refusal:
            await journal.hold(an_ask(alice, 0), 5)
    assert refusal.value.frozen


async def test_a_stream_that_grows_holds_more_while_there_is_more() -> None:
    alice = await an_organization(500)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 100), 5)
        await journal.extend(held, 350, 5)
        assert held.amount_nanos == 450
        assert await balance(alice) == (500, 450)
        with pytest.raises(InsufficientCredits) as refusal:
            await journal.extend(held, 51, 5)
        assert refusal.value.available_nanos == 50
        await journal.settle(held, a_settlement(held, 460), 5)
    assert await balance(alice) == (40, 0)


async def test_a_wallet_that_was_frozen_meanwhile_lets_no_stream_grow() -> None:
    alice = await an_organization(500)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 100), 5)
        await sql("UPDATE billing_wallet SET frozen_at = now()")
        with pytest.raises(InsufficientCredits) as refusal:
            await journal.extend(held, 50, 5)
        assert refusal.value.frozen
        await journal.settle(held, a_settlement(held, 100), 5)
    assert await balance(alice) == (400, 0)


async def test_what_is_released_pays_for_what_is_admitted_in_the_same_group() -> None:
    alice = await an_organization(100)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 100), 5)
        # Both are queued before the writer runs.
        settling = asyncio.create_task(journal.settle(held, a_settlement(held, 40), 5))
        asking = asyncio.create_task(journal.hold(an_ask(alice, 60), 5))
        await asyncio.gather(settling, asking)
    assert await balance(alice) == (60, 60)


async def test_an_ask_that_is_cancelled_leaves_no_hold() -> None:
    alice = await an_organization(500)
    async with running() as journal:
        async with locked("billing_hold"):
            asking = asyncio.create_task(journal.hold(an_ask(alice, 100), 5))
            queued = asyncio.create_task(journal.hold(an_ask(alice, 100), 5))
            await asyncio.sleep(0.1)
            late = asyncio.create_task(journal.hold(an_ask(alice, 100), 5))
            await asyncio.sleep(0.05)
            for task in (asking, late):
                task.cancel()
            await asyncio.wait([asking, late])
        await queued
        await until_written(journal)
        assert await balance(alice) == (500, 100)
        assert list(journal.running) == [queued.result().request_id]


async def test_a_hold_whose_commit_was_never_answered_is_withdrawn(quick: None) -> None:
    alice = await an_organization(500)
    async with wired() as wire, running() as journal:
        await journal.hold(an_ask(alice, 100), 5)
        wire.mute = True
        with pytest.raises(NotDurable):
            await journal.hold(an_ask(alice, 200), 0.3)
        wire.cut()
        wire.mute = False
        await until_written(journal)
        assert await balance(alice) == (500, 100)


async def test_a_hold_whose_commit_was_answered_late_is_held_once(quick: None) -> None:
    alice = await an_organization(500)
    async with wired() as wire, running() as journal:
        await journal.hold(an_ask(alice, 100), 5)
        wire.mute = True
        waiting = asyncio.create_task(journal.hold(an_ask(alice, 200), 10))

        async def held() -> bool:
            return await balance(alice) == (500, 300)

        # The first half of the group waits for an answer too, so nothing is held before the wire speaks again.
        await asyncio.sleep(0.1)
        wire.cut()
        wire.mute = False
        assert (await waiting).amount_nanos == 200
        await eventually(held)


# --- Repeated requests ------------------------------------------------------------------------------------------------
async def test_an_idempotency_key_admits_one_request_while_it_runs_and_after_it_was_charged() -> None:
    alice, bob = await an_organization(500), await an_organization(500)
    async with running() as journal, running() as other:
        asks = [each.hold(an_ask(alice, 10, idempotency_key="k", body_digest=b"d"), 5) for each in (journal, other) * 4]
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
        held = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(held) == 1
        refused = [outcome for outcome in outcomes if isinstance(outcome, Repeated)]
        assert len(refused) == 7
        assert all(each.same and each.running and each.request_id == held[0].request_id for each in refused)
        await journal.hold(an_ask(bob, 10, idempotency_key="k", body_digest=b"d"), 5)
        await journal.settle(held[0], a_settlement(held[0], 5), 5)
        with pytest.raises(Repeated) as repeated:
            await journal.hold(an_ask(alice, 10, idempotency_key="k", body_digest=b"other"), 5)
        assert (repeated.value.same, repeated.value.running) == (False, False)


async def test_an_idempotency_key_admits_one_request_of_a_wallet_that_only_records() -> None:
    """No wallet is locked for it, so two nodes decide side by side."""
    alice = await an_organization()
    async with running() as journal, running() as other:
        for node in (journal, other):
            await node.hold(an_ask(alice, 10), 5)
        async with locked("billing_idempotencykey"):
            asks = [
                asyncio.create_task(each.hold(an_ask(alice, 10, idempotency_key="k", body_digest=b"d"), 5))
                for each in (journal, other)
            ]
            await asyncio.sleep(0.2)
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
    assert sum(isinstance(outcome, Repeated) for outcome in outcomes) == 1, outcomes


async def test_an_ask_that_finds_its_own_late_hold_leaves_none() -> None:
    """The first try's commit was still under way when the second came."""
    alice = await an_organization()
    ask = an_ask(alice, 10)
    ask.attempted = True
    async with running() as journal, own_connection() as other:
        async with other.transaction():
            await other.execute(
                "INSERT INTO billing_hold (request_id, organization_id, amount_nanos, metered, bucket_ids, unfinished,"
                " lease_until) VALUES (%s, %s, 10, false, '{}', '{}', now() + interval '1 minute')",
                (ask.row.request_id, alice),
            )
            asking = asyncio.create_task(journal.hold(ask, 5))
            await asyncio.sleep(0.2)
        outcome = (await asyncio.gather(asking, return_exceptions=True))[0]
        await until_written(journal)
        assert await holds_count() == (0 if isinstance(outcome, NotDurable) else 1)


async def test_a_request_that_failed_gives_its_idempotency_key_back() -> None:
    alice = await an_organization(500)
    async with running() as journal:
        for _ in range(2):
            held = await journal.hold(an_ask(alice, 10, idempotency_key="k", body_digest=b"d"), 5)
            assert held.amount_nanos == 10
            await journal.settle(held, a_settlement(held, 0, status=502), 5)


# --- Settling ---------------------------------------------------------------------------------------------------------
async def test_a_row_is_in_the_table_with_every_value_when_settle_returns() -> None:
    alice = await an_organization(0)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 0), 5)
        row = a_settlement(held, 2**40, first_byte_ms=3, provider_id=9, price_id=2**40, labels={"team": "é"})
        await journal.settle(held, row, 5)
    columns = ", ".join(UsageRow.__struct_fields__)
    found = (await sql(f"SELECT {columns}, now() - created_at < interval '1 minute' FROM billing_usage"))[0]
    assert (str(found[0]), *found[1:-1]) == tuple(getattr(row, name) for name in UsageRow.__struct_fields__)
    assert found[-1] is True


async def test_the_day_has_the_sums_of_its_rows() -> None:
    alice = await an_organization(10_000)
    async with running() as journal:
        for charge, status in ((100, 200), (0, 502), (50, 200)):
            held = await journal.hold(an_ask(alice, 200), 5)
            await journal.settle(held, a_settlement(held, charge, status=status, output_tokens=7), 5)
    columns = "sum(requests_count), sum(failed_count), sum(output_tokens), sum(cost_nanos), sum(charge_nanos)"
    today = (await sql("SELECT (now() AT TIME ZONE 'UTC')::date"))[0][0]
    assert await sql(f"SELECT day, {columns} FROM billing_usage_by_day GROUP BY day") == [(today, 3, 1, 21, 150, 150)]


async def test_many_requests_take_few_commits() -> None:
    alice = await an_organization(10**9)
    async with running() as journal:
        held = await asyncio.gather(*(journal.hold(an_ask(alice, 10), 5) for _ in range(700)))
        await asyncio.gather(*(journal.settle(each, a_settlement(each, 10), 5) for each in held))
    rows, commits = (await sql("SELECT count(*), count(DISTINCT xmin::text) FROM billing_usage"))[0]
    assert rows == 700
    assert commits <= 4
    assert await balance(alice) == (10**9 - 7000, 0)


@pytest.mark.parametrize(
    "fault",
    [
        {"client": "a\x00b"},
        {"client": "\ud800"},
        {"cost_nanos": -1},
        {"charge_nanos": -1},
        {"cost_nanos": 2**63},
        {"cost_nanos": 2**70},
        {"model": "m" * 300},
        {"status": None},
    ],
    ids=str,
)
async def test_a_row_that_no_database_takes_is_refused_alone(
    fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    alice = await an_organization(10**6)
    async with running() as journal:
        held = await asyncio.gather(*(journal.hold(an_ask(alice, 10), 5) for _ in range(10)))
        rows = [a_settlement(each, 5, **(fault if place == 4 else {})) for place, each in enumerate(held)]
        settling = (journal.settle(each, row, 5) for each, row in zip(held, rows, strict=True))
        outcomes = await asyncio.gather(*settling, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(NotDurable) == 1
        assert isinstance(outcomes[4], NotDurable)
        assert await usage_count() == 9
        assert await balance(alice) == (10**6 - 45, 10)
    assert "refuses an entry" in caplog.text


async def test_the_same_request_is_settled_once() -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 300), 5)
        row = a_settlement(held, 120)
        await asyncio.gather(journal.settle(held, row, 5), journal.settle(held, row, 5))
        await journal.settle(held, row, 5)
    assert await balance(alice) == (880, 0)
    assert await usage_count() == 1


async def test_a_backend_that_is_terminated_in_the_middle_costs_nothing() -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        held = [await journal.hold(an_ask(alice, 100), 5) for _ in range(5)]
        async with locked("billing_usage"):
            waiting = [asyncio.create_task(journal.settle(each, a_settlement(each, 10), 10)) for each in held]
            await asyncio.sleep(0.1)
            await sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aperture-journal'"
            )
            await asyncio.sleep(0.1)
        await asyncio.gather(*waiting)
    assert await balance(alice) == (950, 0)
    assert await usage_count() == 5


async def test_a_commit_whose_answer_was_lost_is_not_written_twice(quick: None) -> None:
    alice = await an_organization(1000)
    async with wired() as wire, running() as journal:
        held = await journal.hold(an_ask(alice, 100), 5)
        async with locked("billing_usage"):
            waiting = asyncio.create_task(journal.settle(held, a_settlement(held, 30), 10))
            # By now the group is decided, and its last statements are on their way.
            await asyncio.sleep(0.1)
            wire.mute = True

        async def posted() -> bool:
            return await balance(alice) == (970, 0)

        await eventually(posted)
        assert not waiting.done()
        wire.cut()
        wire.mute = False
        await waiting
    assert await balance(alice) == (970, 0)
    assert await usage_count() == 1


async def test_an_answer_that_nobody_got_is_not_charged_though_its_commit_was_lost(quick: None) -> None:
    alice = await an_organization(1000)
    async with wired() as wire, running() as journal:
        held = await journal.hold(an_ask(alice, 100), 5)
        async with locked("billing_usage"):
            waiting = asyncio.create_task(journal.settle(held, a_settlement(held, 30), 0.3))
            await asyncio.sleep(0.1)
            wire.mute = True
        with pytest.raises(NotDurable):
            await waiting
        assert await balance(alice) == (970, 0)
        journal.revoke(held, status=503, error_code="storage_unavailable")
        wire.cut()
        wire.mute = False
        await until_written(journal)
    assert await balance(alice) == (1000, 0)
    assert await sql("SELECT status, charge_nanos, cost_nanos FROM billing_usage") == [(503, 0, 30)]
    assert await sql("SELECT charge_nanos, failed_count, requests_count FROM billing_usage_by_day") == [(0, 1, 1)]
    assert await orm(lambda: reconcile.run(timezone.now())) == []


async def test_an_answer_that_nobody_got_is_not_charged(quick: None) -> None:
    alice = await an_organization(1000)
    async with wired() as wire, running() as journal:
        held = await journal.hold(an_ask(alice, 100), 5)
        wire.freeze()
        with pytest.raises(NotDurable):
            await journal.settle(held, a_settlement(held, 30), 0.3)
        journal.revoke(held, status=503, error_code="storage_unavailable")
        wire.thaw()
        await until_written(journal)
    assert await balance(alice) == (1000, 0)
    assert await sql("SELECT status, charge_nanos FROM billing_usage") == [(503, 0)]


async def test_taking_back_what_is_being_written_leaves_its_row_as_it_was_decided() -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 100), 5)
        row = a_settlement(held, 30)
        async with locked("billing_usage"):
            settling = asyncio.create_task(journal.settle(held, row, 5))
            await asyncio.sleep(0.1)
            journal.revoke(held, status=503, error_code="storage_unavailable")
            assert (row.status, row.charge_nanos) == (200, 30)
            # Had it to be written again, both would be in one group.
            [again] = journal.queue
            group = Group([*journal.writing, again], journal.known)
            assert list(group.settles.values()) == [again]
        await settling
        await until_written(journal)
    assert await balance(alice) == (1000, 0)
    assert await sql("SELECT status, charge_nanos FROM billing_usage") == [(503, 0)]
    assert await orm(lambda: reconcile.run(timezone.now())) == []


async def test_a_silent_database_is_told_of_in_time_and_the_settlement_is_written_later(quick: None) -> None:
    alice = await an_organization(1000)
    async with wired() as wire, running() as journal:
        held = await journal.hold(an_ask(alice, 100), 5)
        wire.freeze()
        began_at = time.monotonic()
        with pytest.raises(NotDurable):
            await journal.settle(held, a_settlement(held, 30), 0.3)
        with pytest.raises(NotDurable):
            await journal.hold(an_ask(alice, 100), 0.3)
        assert time.monotonic() - began_at < 2
        wire.thaw()
        await until_written(journal)
    assert await balance(alice) == (970, 0)


async def test_a_database_that_only_reads_for_now_loses_nothing(quick: None) -> None:
    alice = await an_organization(1000)
    read_only: dict[str, Any] = {}
    try:
        billing_connection.parameters = lambda: STRAIGHT() | read_only
        async with running() as journal:
            held = await journal.hold(an_ask(alice, 100), 5)
            read_only["options"] = "-c default_transaction_read_only=on"
            await journal.connection.close()
            with pytest.raises(NotDurable):
                await journal.settle(held, a_settlement(held, 30), 0.1)
            read_only.clear()
            await until_written(journal)
    finally:
        billing_connection.parameters = STRAIGHT
    assert await balance(alice) == (970, 0)


async def test_a_caller_that_gives_up_waiting_leaves_its_settlement(quick: None) -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 100), 5)
        async with locked("billing_usage"):
            waiting = asyncio.create_task(journal.settle(held, a_settlement(held, 30), 10))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await until_written(journal)
    assert await balance(alice) == (970, 0)


async def test_stopping_writes_even_what_nobody_waits_for() -> None:
    alice = await an_organization(1000)
    journal = Journal()
    journal.start()
    held = [await journal.hold(an_ask(alice, 100), 5) for _ in range(3)]
    async with locked("billing_usage"):
        tasks = [asyncio.create_task(journal.settle(each, a_settlement(each, 30), 10)) for each in held]
        await asyncio.sleep(0.05)
        tasks[0].cancel()
        stopping = asyncio.create_task(journal.stop(5))
        await asyncio.sleep(0.05)
        assert not stopping.done()
    await stopping
    await asyncio.gather(*tasks[1:])
    assert await balance(alice) == (910, 0)


async def test_stopping_ends_in_time_and_says_what_was_lost(caplog: pytest.LogCaptureFixture) -> None:
    alice = await an_organization(1000)
    journal = Journal()
    journal.start()
    held = await journal.hold(an_ask(alice, 100), 5)
    async with locked("billing_usage"):
        task = asyncio.create_task(journal.settle(held, a_settlement(held, 30), 10))
        await asyncio.sleep(0.05)
        began_at = time.monotonic()
        await journal.stop(0.2)
        assert time.monotonic() - began_at < 2
    assert "1 settlements were not written" in caplog.text
    for late in (task, journal.settle(held, a_row(), 10)):
        with pytest.raises(NotDurable):
            await late
    assert await balance(alice) == (1000, 100)
