"""Ordinary requests in one statement: it admits and settles what a whole transaction would have, and nothing else."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from django.utils import timezone

from billing import journal as journal_module
from billing import reconcile, shortcut
from billing.group import Group, Known
from billing.holds import Ask, Entry, Held, InsufficientCredits, Settle
from billing.journal import Journal, NotDurable
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
from tests.wire import eventually, orm, own_connection, sql, wired

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.server]


@pytest.fixture(autouse=True)
def in_whole(monkeypatch: pytest.MonkeyPatch) -> list[Group]:
    """The groups that were decided in a transaction of two round trips."""
    groups: list[Group] = []
    write = Group.write

    async def noted(group: Group, raw: psycopg.AsyncConnection) -> None:
        groups.append(group)
        await write(group, raw)

    monkeypatch.setattr(Group, "write", noted)
    return groups


async def known(journal: Journal, *organization_ids: int) -> None:
    """Have the journal learn of these wallets."""
    for organization_id in organization_ids:
        held = await journal.hold(an_ask(organization_id, 0), 5)
        await journal.settle(held, a_settlement(held, 0), 5)


async def together(journal: Journal, *entries: Entry) -> list[Any]:
    """Queue all of them before the writer runs; return what each is told."""
    for entry in entries:
        entry.future = asyncio.get_running_loop().create_future()
        journal.submit(entry)
    waiting = [entry.future for entry in entries if entry.future is not None]
    return await asyncio.gather(*waiting, return_exceptions=True)


async def the_books_are_right() -> None:
    assert await orm(lambda: reconcile.run(timezone.now())) == []


async def test_a_hold_and_a_settlement_are_a_statement_each(in_whole: list[Group]) -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        await known(journal, alice)
        in_whole.clear()
        held = await journal.hold(an_ask(alice, 300, least=10, full=900), 5)
        assert (held.amount_nanos, held.metered, held.capped, held.bucket_ids) == (300, True, False, [])
        assert await balance(alice) == (1000, 300)
        await journal.settle(held, a_settlement(held, 120, cost_nanos=100, output_tokens=7), 5)
        assert await balance(alice) == (880, 0)
    assert in_whole == []
    assert await usage_count() == 2
    assert await sql("SELECT sum(output_tokens), sum(charge_nanos) FROM billing_usage_by_day") == [(8, 120)]
    await the_books_are_right()


async def test_what_ends_and_what_begins_go_together(in_whole: list[Group]) -> None:
    alice, bob = await an_organization(1000), await an_organization()
    async with running() as journal:
        await known(journal, alice, bob)
        held = [await journal.hold(an_ask(each, 100), 5) for each in (alice, bob)]
        in_whole.clear()
        entries = [Settle(each, a_settlement(each, 70)) for each in held]
        outcomes = await together(journal, an_ask(alice, 500), *entries, an_ask(bob, 500))
        assert [type(outcome) for outcome in outcomes] == [Held, type(None), type(None), Held]
        assert (outcomes[0].metered, outcomes[3].metered) == (True, False)
    assert in_whole == []
    assert (await balance(alice), await balance(bob)) == ((930, 500), (0, 0))
    assert sorted(await sql("SELECT charge_nanos FROM billing_usage")) == [(0,), (0,), (0,), (70,)]
    await the_books_are_right()


async def test_what_was_settled_before_is_not_settled_again_and_the_others_of_its_group_are(
    in_whole: list[Group],
) -> None:
    alice = await an_organization(1000)
    async with running() as journal, running() as other:
        for each in (journal, other):
            await known(each, alice)
        held = [await journal.hold(an_ask(alice, 100), 5) for _ in range(2)]
        await other.settle(held[0], a_settlement(held[0], 30), 5)
        in_whole.clear()
        entries = [Settle(held[0], a_settlement(held[0], 99)), Settle(held[1], a_settlement(held[1], 50))]
        outcomes = await together(journal, *entries, an_ask(alice, 5))
        assert outcomes[:2] == [None, None]
        assert isinstance(outcomes[2], Held)
        assert len(in_whole) == 1
    assert await balance(alice) == (920, 5)
    assert await usage_count() == 4
    await the_books_are_right()


async def test_the_same_request_twice_in_one_group_is_settled_once() -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        await known(journal, alice)
        held = await journal.hold(an_ask(alice, 100), 5)
        await together(journal, *(Settle(held, a_settlement(held, 30)) for _ in range(2)))
    assert await balance(alice) == (970, 0)


async def test_a_wallet_that_was_frozen_meanwhile_admits_nothing_and_a_thawed_one_does(in_whole: list[Group]) -> None:
    alice, bob = await an_organization(1000), await an_organization()
    async with running() as journal:
        await known(journal, alice, bob)
        held = await journal.hold(an_ask(alice, 100), 5)
        await sql("UPDATE billing_wallet SET frozen_at = now()")
        asks = [an_ask(each, 0) for each in (alice, bob)]
        outcomes = await together(journal, *asks, Settle(held, a_settlement(held, 60)))
        assert [getattr(outcome, "frozen", None) for outcome in outcomes] == [True, True, None]
        await sql("UPDATE billing_wallet SET frozen_at = NULL")
        in_whole.clear()
        for _ in range(2):
            await journal.hold(an_ask(alice, 1), 5)
        assert len(in_whole) == 1
    assert await balance(alice) == (940, 2)


async def test_a_wallet_whose_mode_changes_pays_for_what_was_held_while_it_was_prepaid() -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        await known(journal, alice)
        paying = await journal.hold(an_ask(alice, 100), 5)
        await sql("UPDATE billing_wallet SET mode = 'unmetered'")
        recorded = await journal.hold(an_ask(alice, 10**9), 5)
        assert not recorded.metered
        await sql("UPDATE billing_wallet SET mode = 'prepaid'")
        with pytest.raises(InsufficientCredits):
            await journal.hold(an_ask(alice, 10**9), 5)
        await together(journal, *(Settle(each, a_settlement(each, 60)) for each in (paying, recorded)))
    assert await balance(alice) == (940, 0)
    await the_books_are_right()


async def test_a_wallet_that_cannot_pay_for_all_is_decided_ask_by_ask(in_whole: list[Group]) -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        await known(journal, alice)
        in_whole.clear()
        outcomes = await together(
            journal, an_ask(alice, 600), an_ask(alice, 600), an_ask(alice, 300, least=5, full=500)
        )
        assert isinstance(outcomes[1], InsufficientCredits)
        assert outcomes[1].available_nanos == 400
        assert (outcomes[0].amount_nanos, outcomes[0].capped) == (600, False)
        assert (outcomes[2].amount_nanos, outcomes[2].capped) == (300, True)
        assert len(in_whole) == 1
    assert await balance(alice) == (1000, 900)


async def test_a_charge_above_its_hold_is_counted_before_what_begins_with_it() -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        await known(journal, alice)
        held = await journal.hold(an_ask(alice, 100), 5)
        _, refused = await together(journal, Settle(held, a_settlement(held, 950)), an_ask(alice, 100))
        assert isinstance(refused, InsufficientCredits)
        assert refused.available_nanos == 50
    assert await balance(alice) == (50, 0)


async def test_an_overdraft_is_credit_here_too(in_whole: list[Group]) -> None:
    alice = await an_organization(100)
    await sql("UPDATE billing_wallet SET overdraft_nanos = 500")
    async with running() as journal:
        await known(journal, alice)
        in_whole.clear()
        await journal.hold(an_ask(alice, 600), 5)
        assert in_whole == []
        with pytest.raises(InsufficientCredits):
            await journal.hold(an_ask(alice, 1), 5)
    assert await balance(alice) == (100, 600)


async def test_where_the_guard_of_the_database_speaks_a_whole_transaction_decides(
    monkeypatch: pytest.MonkeyPatch, in_whole: list[Group]
) -> None:
    monkeypatch.setattr(shortcut, "BEGIN", shortcut.BEGIN.replace(">= needed_nanos", ">= needed_nanos - 1000000"))
    alice = await an_organization(100)
    async with running() as journal:
        await known(journal, alice)
        in_whole.clear()
        outcomes = await together(journal, an_ask(alice, 80), an_ask(alice, 80))
        assert isinstance(outcomes[0], Held)
        assert isinstance(outcomes[1], InsufficientCredits)
        assert len(in_whole) == 1
    assert await balance(alice) == (100, 80)


async def test_a_row_that_is_there_already_is_refused_alone(caplog: pytest.LogCaptureFixture) -> None:
    alice = await an_organization(1000)
    async with running() as journal:
        await known(journal, alice)
        held = [await journal.hold(an_ask(alice, 100), 5) for _ in range(3)]
        await sql(
            "INSERT INTO billing_usage SELECT row.* FROM (SELECT * FROM billing_usage LIMIT 1) AS used, LATERAL "
            "jsonb_populate_record(NULL::billing_usage, to_jsonb(used) || jsonb_build_object('request_id', %s::text))"
            " AS row",
            held[1].request_id,
        )
        outcomes = await together(journal, *(Settle(each, a_settlement(each, 10)) for each in held))
        assert [type(outcome) for outcome in outcomes] == [type(None), NotDurable, type(None)]
    assert await balance(alice) == (980, 100)
    assert "refuses an entry" in caplog.text


async def test_what_fails_at_the_commit_was_not_written() -> None:
    """The statement had its answer before the commit that follows it."""
    alice = await an_organization(1000)
    async with running() as journal:
        await known(journal, alice)
        async with own_connection() as other:
            await other.execute(
                "CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$BEGIN RAISE check_violation USING MESSAGE = 'at the commit'; END$$"
            )
            await other.execute(
                "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON billing_hold DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse()"
            )
            try:
                with pytest.raises(NotDurable):
                    await journal.hold(an_ask(alice, 100), 5)
            finally:
                await other.execute("DROP TRIGGER refuse ON billing_hold")
        await until_written(journal)
        assert await balance(alice) == (1000, 0)
        await journal.hold(an_ask(alice, 100), 5)
    assert await balance(alice) == (1000, 100)


async def test_a_statement_whose_answer_was_lost_is_looked_for_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, in_whole: list[Group]
) -> None:
    monkeypatch.setattr(journal_module, "WRITE_TIMEOUT_S", 0.2)
    alice = await an_organization(1000)
    async with wired() as wire, running() as journal:
        await known(journal, alice)
        settled = await journal.hold(an_ask(alice, 100), 5)
        in_whole.clear()
        wire.mute = True
        ask = an_ask(alice, 200)
        waiting = asyncio.create_task(together(journal, Settle(settled, a_settlement(settled, 30)), ask))

        async def committed() -> bool:
            return await balance(alice) == (970, 200)

        await eventually(committed)
        wire.cut()
        wire.mute = False
        outcomes = await waiting
        assert outcomes[0] is None
        assert outcomes[1].amount_nanos == 200
        assert [list(group.outcomes) for group in in_whole[-1:]] == [[*in_whole[-1].settles.values(), ask]]
    assert await balance(alice) == (970, 200)
    assert await usage_count() == 2
    await the_books_are_right()


async def a_client(journal: Journal, wallets: Sequence[int], chance: random.Random) -> None:
    """Ask and settle in any order of the wallets."""
    for _ in range(8):
        asks = [an_ask(each, 40, least=1, full=60) for each in chance.sample(wallets, 6)]
        held: list[Held] = await together(journal, *asks)
        chance.shuffle(held)
        await together(journal, *(Settle(each, a_settlement(each, chance.randrange(40))) for each in held))


async def test_two_writers_with_many_common_wallets_never_wait_crosswise(in_whole: list[Group]) -> None:
    chance = random.Random(7)
    wallets = [await an_organization(None if number % 4 == 0 else 3000) for number in range(16)]
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = await sql(deadlocks)
    async with running() as one, running() as two:
        for journal in (one, two):
            await known(journal, *wallets)
        in_whole.clear()
        await asyncio.gather(*(a_client(each, wallets, random.Random(chance.random())) for each in (one, two) * 6))
    # Every wallet could pay: nothing was refused, and no guard had to speak.
    assert in_whole == []
    assert await sql(deadlocks) == before
    assert await holds_count() == 0
    assert (
        await sql(
            "SELECT organization_id FROM billing_wallet AS wallet WHERE held_nanos <> 0 OR posted_nanos <> 3000 - "
            "(SELECT sum(charge_nanos) FROM billing_usage AS used WHERE used.organization_id = wallet.organization_id)"
            " AND mode = 'prepaid'"
        )
        == []
    )
    await the_books_are_right()


def test_only_what_is_ordinary_takes_it() -> None:
    learned = Known({1}, {}, {2})
    ask = an_ask(1, 5)
    held = Held(ask, 5, [], metered=True, capped=False)
    failed = a_row(request_id=held.request_id, status=502)
    keyed = Held(an_ask(1, 5, idempotency_key="k"), 5, [], metered=True, capped=False)
    tried, revoked = an_ask(1, 5), Settle(held, failed)
    tried.attempted = revoked.revoked = True
    assert shortcut.ordinary([ask, Settle(held, failed), Settle(keyed, a_row(charge_nanos=1))], learned)
    others: list[Ask | Settle] = [
        tried,
        revoked,
        an_ask(3, 5),
        an_ask(2, 5),
        an_ask(1, 5, buckets=((1, ""),)),
        an_ask(1, 5, idempotency_key="k"),
        Settle(keyed, failed),
        Settle(Held(ask, 5, [9], metered=True, capped=False), a_row()),
    ]
    assert not any(shortcut.ordinary([ask, other], learned) for other in others)
