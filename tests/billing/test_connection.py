"""A connection comes back after whatever befell it, and never keeps anybody longer than was said."""

import asyncio
import time

import psycopg
import pytest

from billing import connection as connection_module
from billing.connection import Connection
from tests.billing.scenery import an_organization
from tests.wire import own_connection, sql, wired

pytestmark = pytest.mark.django_db(transaction=True)


async def answer(connection: Connection, timeout_s: float = 5.0) -> int:
    async with connection.using(timeout_s) as raw:
        row = await (await raw.execute("SELECT 1")).fetchone()
    assert row is not None
    return int(row[0])


async def test_it_is_kept_while_it_works_and_closed_when_its_use_fails() -> None:
    connection = Connection("aperture-test")
    assert await answer(connection) == 1
    first = connection.raw
    assert await answer(connection) == 1
    assert connection.raw is first
    with pytest.raises(psycopg.errors.UndefinedTable):
        async with connection.using(5) as raw:
            await raw.execute("SELECT * FROM nowhere")
    assert first is not None
    assert first.closed
    assert await answer(connection) == 1
    await connection.close()
    assert connection.raw is None


async def test_it_opens_anew_after_its_backend_was_terminated() -> None:
    connection = Connection("aperture-test")
    await answer(connection)
    await sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aperture-test'")
    with pytest.raises(psycopg.OperationalError):
        await answer(connection)
    assert await answer(connection) == 1
    await connection.close()


async def test_a_server_that_falls_silent_keeps_nobody_longer_than_the_timeout() -> None:
    async with wired() as wire:
        connection = Connection("aperture-test")
        await answer(connection)
        wire.freeze()
        began_at = time.monotonic()
        with pytest.raises((psycopg.OperationalError, TimeoutError)):
            await answer(connection, 0.2)
        with pytest.raises((psycopg.OperationalError, TimeoutError)):
            await answer(connection, 0.2)
        assert time.monotonic() - began_at < 1
        wire.thaw()
        assert await answer(connection) == 1
        await connection.close()


async def test_a_statement_that_waits_for_a_lock_ends_with_the_timeout() -> None:
    connection = Connection("aperture-test")
    async with own_connection() as other, other.transaction():
        await other.execute("LOCK TABLE accounts_version")
        began_at = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            async with connection.using(0.2) as raw:
                await raw.execute("SELECT * FROM accounts_version FOR UPDATE")
        assert time.monotonic() - began_at < 1
    assert await answer(connection) == 1
    await connection.close()


async def test_what_a_broken_connection_left_in_the_database_ends_before_the_next_one_is_used() -> None:
    connection = Connection("aperture-test")
    alice = await an_organization(1000)
    async with own_connection() as other, other.transaction():
        await other.execute("LOCK TABLE billing_wallet")
        with pytest.raises(psycopg.OperationalError):
            async with connection.using(0.2) as raw:
                await raw.execute("UPDATE billing_wallet SET overdraft_nanos = 8")
        assert await answer(connection) == 1
        mine = await sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'aperture-test'")
        assert connection.raw is not None
        assert mine == [(connection.raw.info.backend_pid,)]
    found = await sql("SELECT overdraft_nanos FROM billing_wallet WHERE organization_id = %s", alice)
    assert found == [(0,)]
    await connection.close()


async def test_one_use_waits_for_another_but_no_longer_than_its_own_timeout() -> None:
    connection = Connection("aperture-test")
    async with connection.using(5):
        with pytest.raises(TimeoutError):
            await answer(connection, 0.05)
    assert await asyncio.gather(*(answer(connection) for _ in range(5))) == [1] * 5
    await connection.close()


async def test_cancelling_a_use_frees_the_connection() -> None:
    connection = Connection("aperture-test")
    await answer(connection)

    async def sleep() -> None:
        async with connection.using(60) as raw:
            await raw.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(sleep())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await answer(connection) == 1
    await connection.close()


async def test_a_process_that_is_cut_off_in_the_middle_of_a_transaction_does_not_keep_its_locks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "IDLE_TRANSACTION_S", 0.3)
    alice = await an_organization(1000)
    lock = "SELECT 1 FROM billing_wallet WHERE organization_id = %s FOR UPDATE"
    async with wired() as wire, own_connection() as other:
        async with Connection("aperture-test").using(5) as raw:
            await raw.execute("BEGIN")
            await raw.execute(lock, (alice,))
            wire.freeze()
            await other.execute("SET lock_timeout = '3s'")
            locked = await other.execute(lock, (alice,))
            assert await locked.fetchall() == [(1,)]
        await raw.close()
