"""Open holds are renewed while their requests run, and closed from their last mark when nobody does."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from billing import usage
from billing.holds import Held
from billing.journal import Journal
from billing.leases import Leases
from billing.usage import UsageRow
from tests.billing.scenery import (
    a_row,
    a_settlement,
    an_ask,
    an_organization,
    balance,
    holds_count,
    running,
    until_written,
    usage_count,
)
from tests.wire import eventually, sql, wired

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.server]


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    async with running() as journal:
        yield journal


async def expire(held: Held) -> None:
    await sql("UPDATE billing_hold SET lease_until = now() - interval '1 s' WHERE request_id = %s", held.request_id)


async def swept(journal: Journal) -> None:
    """Sweep as a process does that has been connected for long."""
    leases = Leases(journal)
    leases.connected_at = float("-inf")
    await leases.sweep()
    await until_written(journal)
    await leases.stop()


async def test_what_a_killed_process_left_is_settled_from_its_mark(journal: Journal) -> None:
    alice = await an_organization(1000)
    held = await journal.hold(an_ask(alice, 300), 5)
    mark = a_settlement(held, 70, status=500, usage_source="partial", output_tokens=9)
    leases = Leases(journal)
    held.mark, held.renewed_at = lambda: mark, float("-inf")
    leases.renew()
    await until_written(journal)
    journal.running.clear()
    await expire(held)
    await swept(journal)
    assert await balance(alice) == (930, 0)
    assert await sql("SELECT status, usage_source, output_tokens, charge_nanos FROM billing_usage") == [
        (500, "partial", 9, 70)
    ]


async def test_a_request_that_had_delivered_nothing_is_voided(journal: Journal) -> None:
    alice = await an_organization(1000)
    held = await journal.hold(an_ask(alice, 300), 5)
    journal.running.clear()
    await expire(held)
    await swept(journal)
    assert await balance(alice) == (1000, 0)
    assert await sql("SELECT status, error_code, charge_nanos FROM billing_usage") == [(500, "gateway_lost", 0)]


async def test_a_running_request_of_this_process_is_renewed_and_not_swept(journal: Journal) -> None:
    alice = await an_organization(1000)
    held = await journal.hold(an_ask(alice, 300), 5)
    await expire(held)
    await swept(journal)
    assert await holds_count() == 1
    held.renewed_at = float("-inf")
    Leases(journal).renew()
    await until_written(journal)
    assert await sql("SELECT lease_until > now() + interval '50 s' FROM billing_hold") == [(True,)]


async def test_a_hold_that_was_renewed_meanwhile_is_not_closed() -> None:
    alice = await an_organization(1000)
    async with running() as journal, running() as other:
        held = await journal.hold(an_ask(alice, 300), 5)
        await expire(held)
        leases = Leases(other)
        leases.connected_at = float("-inf")
        await leases.sweep()
        await sql("UPDATE billing_hold SET lease_until = now() + interval '60 s'")
        await until_written(other)
        await leases.stop()
        # Whoever was first, the request is decided once.
        await journal.settle(held, a_settlement(held, 10), 5)
        assert await usage_count() == 1
        assert (await balance(alice))[1] == 0


async def test_a_settlement_that_comes_after_the_sweep_changes_nothing() -> None:
    alice = await an_organization(1000)
    async with running() as journal, running() as other:
        held = await journal.hold(an_ask(alice, 300), 5)
        await expire(held)
        await swept(other)
        await journal.settle(held, a_settlement(held, 200), 5)
    assert await balance(alice) == (1000, 0)
    assert await usage_count() == 1


async def test_many_sweepers_close_a_hold_once() -> None:
    alice = await an_organization(10_000)
    async with running() as journal, running() as one, running() as two:
        for _ in range(20):
            held = await journal.hold(an_ask(alice, 100), 5)
            mark = a_settlement(held, 30, status=500, usage_source="partial")
            await sql(
                "UPDATE billing_hold SET unfinished = %s, lease_until = now() - interval '1 s' WHERE request_id = %s",
                msgspec.json.encode(mark).decode(),
                held.request_id,
            )
        await asyncio.gather(swept(one), swept(two))
    assert await balance(alice) == (10_000 - 600, 0)
    assert await usage_count() == 20


async def test_nobody_sweeps_right_after_the_database_was_away(settings: Any) -> None:
    settings.HOLD_LEASE_S = 0.8
    alice = await an_organization(1000)
    async with running() as journal, running() as other:
        held = await journal.hold(an_ask(alice, 300), 5)
        await expire(held)
        leases = Leases(other)
        await leases.sweep()
        await until_written(other)
        assert await holds_count() == 1
        leases.start()

        async def closed() -> bool:
            return await holds_count() == 0

        assert await eventually(closed, 3) > 0.1
        await leases.stop()


@pytest.mark.parametrize("column", UsageRow.__struct_fields__[5:])
def test_a_mark_that_an_older_version_wrote_is_read(column: str) -> None:
    row = a_row()
    stored = msgspec.to_builtins(row)
    del stored[column]
    restored = usage.restored(stored | {"of another version": 1})
    assert type(getattr(restored, column)) in (str, int, bool, type(None))
    assert msgspec.structs.replace(restored, **{column: getattr(row, column)}) == row


async def test_a_long_outage_leaves_one_renewal_for_each_request_with_its_newest_mark(settings: Any) -> None:
    settings.HOLD_LEASE_S = 60
    alice = await an_organization(1000)
    async with running() as journal, wired() as wire:
        held = await journal.hold(an_ask(alice, 100), 5)
        leases = Leases(journal)
        await journal.connection.close()
        wire.cut(refuse=True)
        for tokens in range(1, 41):
            mark = a_settlement(held, tokens, status=500, usage_source="partial", output_tokens=tokens)
            held.mark, held.renewed_at = lambda mark=mark: mark, float("-inf")  # type: ignore[misc]
            leases.renew()
            await asyncio.sleep(0.005)
        assert len(journal.queue) + len(journal.writing) <= 2
        wire.refusing = False
        await until_written(journal)
    assert await sql("SELECT (unfinished->>'output_tokens')::int FROM billing_hold") == [(40,)]
