"""Spending limits take holds like wallets, in the same transaction: nobody spends past one, whoever asks together."""

import asyncio
import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from billing.holds import BucketKey, Expire, Held, HoldClosed, InsufficientCredits, OverLimit, Settle
from billing.journal import Journal
from billing.leases import Leases
from billing.models import SpendingLimit
from tests.billing.scenery import (
    a_settlement,
    an_ask,
    an_organization,
    balance,
    holds_count,
    running,
    until_written,
    usage_count,
)
from tests.wire import orm, sql

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.server]

SHARED = ""
NUMBERS = itertools.count()


async def a_limit(capacity: int, **fields: Any) -> int:
    """Return the id of a new limit that never refills by itself."""
    name = f"limit-{next(NUMBERS)}"
    return int(await orm(lambda: SpendingLimit.objects.create(name=name, capacity_nanos=capacity, **fields).pk))


async def bucket(limit: int, subject: str = SHARED) -> tuple[int, int]:
    """Return what a bucket has spent and held."""
    query = "SELECT spent_nanos, held_nanos FROM billing_bucket WHERE limit_id = %s AND subject = %s"
    [found] = await sql(query, limit, subject)
    return found[0], found[1]


def keys(*limits: int) -> tuple[BucketKey, ...]:
    return tuple((limit, SHARED) for limit in limits)


async def all_at_once(
    journals: Iterable[Journal], count: int, organization: int, amount: int, limits: Any
) -> list[Any]:
    """Ask COUNT times, on the journals in turn, and return every outcome."""
    nodes = list(journals)
    asks = [
        nodes[number % len(nodes)].hold(an_ask(organization, amount, buckets=limits), 10) for number in range(count)
    ]
    return await asyncio.gather(*asks, return_exceptions=True)


def admitted(outcomes: list[Any]) -> list[Held]:
    """Return the holds; everything else must be a spending limit's refusal."""
    assert all(isinstance(outcome, Held | OverLimit) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Held)]


# --- Everybody at once ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("kind", ["refill", "calendar"])
async def test_200_parallel_asks_on_a_bucket_for_exactly_10(nodes: int, kind: str) -> None:
    alice, limit = await an_organization(), await a_limit(1000, kind=kind, period="month")
    async with running() as one, running() as two:
        outcomes = await all_at_once([one, two][:nodes], 200, alice, 100, keys(limit))
        holds = admitted(outcomes)
        assert len(holds) == 10
        assert await bucket(limit) == (0, 1000)
        for held in holds:
            await one.settle(held, a_settlement(held, 100), 5)
    assert await bucket(limit) == (1000, 0)


async def test_eight_first_requests_of_a_bucket_that_does_not_exist_yet() -> None:
    """LiteLLM 40095: the budget's row did not exist, so all of them passed."""
    alice, limit = await an_organization(), await a_limit(250)
    async with running() as one, running() as two:
        outcomes = await all_at_once([one, two], 8, alice, 100, keys(limit))
    assert len(admitted(outcomes)) == 2
    assert await sql("SELECT count(*) FROM billing_bucket") == [(1,)]


@pytest.mark.parametrize("order", [1, -1])
async def test_limits_that_nodes_name_in_opposite_orders_do_not_wait_crosswise(order: int) -> None:
    alice = await an_organization()
    limits = [await a_limit(10**6) for _ in range(4)]
    async with running() as one, running() as two:
        for _ in range(20):
            first = all_at_once([one], 5, alice, 10, keys(*limits))
            second = all_at_once([two], 5, alice, 10, keys(*limits[::order]))
            assert len(admitted([*await first, *await second])) == 10
    assert [await bucket(limit) for limit in limits] == [(0, 2000)] * 4


# --- All or nothing ---------------------------------------------------------------------------------------------------
async def test_a_wallet_and_two_buckets_are_held_together_or_not_at_all() -> None:
    alice = await an_organization(1000)
    wide, narrow = await a_limit(5000), await a_limit(300)
    async with running() as journal:
        await journal.hold(an_ask(alice, 200, buckets=keys(wide, narrow)), 5)
        with pytest.raises(OverLimit) as refusal:
            await journal.hold(an_ask(alice, 200, buckets=keys(wide, narrow)), 5)
        assert (refusal.value.shortage.left, refusal.value.shortage.amount) == (100, 200)
        with pytest.raises(InsufficientCredits):
            await journal.hold(an_ask(alice, 900, buckets=keys(wide)), 5)
    assert await balance(alice) == (1000, 200)
    assert [await bucket(wide), await bucket(narrow)] == [(0, 200), (0, 200)]


async def test_a_spending_limit_is_told_before_an_empty_wallet() -> None:
    alice, limit = await an_organization(0), await a_limit(50)
    async with running() as journal:
        with pytest.raises(OverLimit):
            await journal.hold(an_ask(alice, 100, buckets=keys(limit)), 5)
        with pytest.raises(InsufficientCredits):
            await journal.hold(an_ask(alice, 50, buckets=keys(limit)), 5)
    assert await bucket(limit) == (0, 0)


async def test_of_several_shortages_the_one_that_lasts_longest_is_told() -> None:
    alice = await an_organization()
    quick = await a_limit(100, rate_nanos=10, period="minute")
    slow = await a_limit(99, rate_nanos=1, period="minute")
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 99, buckets=keys(quick, slow)), 5)
        await journal.settle(held, a_settlement(held, 99), 5)
        with pytest.raises(OverLimit) as refusal:
            await journal.hold(an_ask(alice, 60, buckets=keys(quick, slow)), 5)
    assert refusal.value.shortage.capacity == 99
    assert refusal.value.shortage.retry_after_s == pytest.approx(3600, abs=60)


async def test_an_empty_bucket_admits_nothing_not_even_what_costs_nothing() -> None:
    alice, zero = await an_organization(), await a_limit(0)
    async with running() as journal:
        with pytest.raises(OverLimit) as refusal:
            await journal.hold(an_ask(alice, 0, buckets=keys(zero)), 5)
    assert refusal.value.shortage.retry_after_s is None


async def test_a_soft_limit_counts_and_refuses_nothing() -> None:
    alice, soft = await an_organization(), await a_limit(10, hard=False)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 100, buckets=keys(soft)), 5)
        await journal.settle(held, a_settlement(held, 90), 5)
        await journal.hold(an_ask(alice, 100, buckets=keys(soft)), 5)
    assert await bucket(soft) == (90, 100)


# --- What is counted --------------------------------------------------------------------------------------------------
async def test_an_unmetered_wallet_counts_its_cost_and_a_prepaid_one_its_charge() -> None:
    team, buyer = await an_organization(), await an_organization(1000)
    limit = await a_limit(1000)
    async with running() as journal:
        for organization in (team, buyer):
            held = await journal.hold(an_ask(organization, 200, buckets=keys(limit)), 5)
            await journal.settle(held, a_settlement(held, 120, cost_nanos=100), 5)
    assert await bucket(limit) == (100 + 120, 0)
    assert await balance(buyer) == (880, 0)


async def test_a_failed_request_and_one_that_nobody_waited_for_are_given_back() -> None:
    alice, limit = await an_organization(1000), await a_limit(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 200, buckets=keys(limit)), 5)
        await journal.settle(held, a_settlement(held, 0, status=502), 5)
        left = asyncio.create_task(journal.hold(an_ask(alice, 200, buckets=keys(limit)), 5))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        await until_written(journal)
        assert await holds_count() == 0
    assert await bucket(limit) == (0, 0)


async def test_a_request_whose_hold_was_lost_is_counted_when_it_ends() -> None:
    alice, limit = await an_organization(1000), await a_limit(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 200, buckets=keys(limit)), 5)
        await sql("DELETE FROM billing_hold")
        await sql("UPDATE billing_bucket SET held_nanos = 0")
        await journal.settle(held, a_settlement(held, 120), 5)
    assert await bucket(limit) == (120, 0)
    assert await balance(alice) == (880, 0)


async def test_a_stream_that_outgrows_its_hold_takes_more_until_there_is_no_more() -> None:
    alice, limit = await an_organization(), await a_limit(500)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 100, buckets=keys(limit)), 5)
        await journal.extend(held, 400, 5)
        assert await bucket(limit) == (0, 500)
        with pytest.raises(OverLimit):
            await journal.extend(held, 1, 5)
        await journal.settle(held, a_settlement(held, 700), 5)
        assert await bucket(limit) == (700, 0)
        with pytest.raises(OverLimit):
            await journal.hold(an_ask(alice, 1, buckets=keys(limit)), 5)


async def test_a_killed_process_s_holds_are_given_back_by_a_sweeper() -> None:
    alice, limit = await an_organization(), await a_limit(1000)
    async with running() as lost, running() as other:
        await lost.hold(an_ask(alice, 300, buckets=keys(limit)), 5)
        lost.running.clear()
        await sql("UPDATE billing_hold SET lease_until = now() - interval '1 s'")
        leases = Leases(other)
        leases.connected_at = float("-inf")
        await leases.sweep()
        await until_written(other)
        await leases.stop()
    assert await bucket(limit) == (0, 0)


async def test_users_have_buckets_of_their_own() -> None:
    alice, limit = await an_organization(), await a_limit(100)
    async with running() as journal:
        await journal.hold(an_ask(alice, 100, buckets=((limit, "user:1"),)), 5)
        await journal.hold(an_ask(alice, 100, buckets=((limit, "user:2"),)), 5)
        with pytest.raises(OverLimit):
            await journal.hold(an_ask(alice, 100, buckets=((limit, "user:1"),)), 5)
    assert await bucket(limit, "user:1") == await bucket(limit, "user:2") == (0, 100)


# --- Meanwhile --------------------------------------------------------------------------------------------------------
async def test_a_limit_that_was_deleted_meanwhile_binds_nobody_and_its_holds_settle() -> None:
    alice, limit, kept = await an_organization(1000), await a_limit(100), await a_limit(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 100, buckets=keys(limit, kept)), 5)
        await orm(lambda: SpendingLimit.objects.filter(pk=limit).delete())
        again = await journal.hold(an_ask(alice, 100, buckets=keys(limit, kept)), 5)
        for each in (held, again):
            await journal.settle(each, a_settlement(each, 100), 5)
    assert await bucket(kept) == (200, 0)
    assert await balance(alice) == (800, 0)
    assert await usage_count() == 2


async def test_a_bucket_that_was_deleted_alone_is_made_again() -> None:
    alice, limit = await an_organization(), await a_limit(100)
    async with running() as journal:
        await journal.hold(an_ask(alice, 100, buckets=keys(limit)), 5)
        await sql("DELETE FROM billing_bucket")
        await journal.hold(an_ask(alice, 100, buckets=keys(limit)), 5)
    assert await bucket(limit) == (0, 100)


async def test_a_changed_definition_counts_at_once() -> None:
    alice, limit = await an_organization(), await a_limit(100)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 100, buckets=keys(limit)), 5)
        await journal.settle(held, a_settlement(held, 100), 5)
        await sql("UPDATE billing_spendinglimit SET capacity_nanos = 150")
        await journal.hold(an_ask(alice, 50, buckets=keys(limit)), 5)
        await sql("UPDATE billing_spendinglimit SET capacity_nanos = 20")
        with pytest.raises(OverLimit) as refusal:
            await journal.hold(an_ask(alice, 1, buckets=keys(limit)), 5)
    assert refusal.value.shortage.left == 0


# --- A budget's boundary ----------------------------------------------------------------------------------------------
async def test_two_nodes_at_a_budget_s_boundary_reset_it_once_and_lose_nothing() -> None:
    alice, limit = await an_organization(), await a_limit(1000, kind="calendar", period="month")
    async with running() as one, running() as two:
        old = admitted(await all_at_once([one, two], 10, alice, 100, keys(limit)))
        # A month passes while they run; all of it was spent and is still held.
        await sql("UPDATE billing_bucket SET spent_nanos = 900, measured_at = now() - interval '32 days'")
        await asyncio.gather(*(one.settle(held, a_settlement(held, 30), 5) for held in old))
        fresh = admitted(await all_at_once([one, two], 20, alice, 100, keys(limit)))
        assert await bucket(limit) == (300, 700)
        await asyncio.gather(*(two.settle(held, a_settlement(held, 100), 5) for held in fresh))
    assert len(fresh) == 7
    assert await bucket(limit) == (1000, 0)


async def test_what_is_given_back_after_a_reset_makes_no_credit() -> None:
    """Spending must never be negative after a reset: nobody gains by what was held or charged before it."""
    alice, limit = await an_organization(1000), await a_limit(1000, kind="calendar", period="day")
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 400, buckets=keys(limit)), 5)
        row = a_settlement(held, 400)
        await journal.settle(held, row, 5)
        await sql("UPDATE billing_bucket SET measured_at = now() - interval '2 days'")
        again = a_settlement(held, 0, status=503)
        # The same settlement is taken back, for nobody got the answer.
        late = Settle(held, again)
        late.revoked = True
        journal.submit(late)
        await until_written(journal)
    assert await bucket(limit) == (0, 0)
    assert await balance(alice) == (1000, 0)


# --- Any play ---------------------------------------------------------------------------------------------------------
STEPS = st.lists(
    st.tuples(st.sampled_from(["hold", "settle", "void", "extend", "refill"]), st.integers(0, 400)), max_size=25
)


async def play(steps: list[tuple[str, int]]) -> bool:
    """Play, checking after each step; tell whether what was settled is gone from the wallet."""
    alice, limits = await an_organization(2000), [await a_limit(1000), await a_limit(600)]
    spent, spent_of = 0, dict.fromkeys(limits, 0)
    held: list[tuple[Journal, Held]] = []
    async with running() as one, running() as two:
        for number, (what, amount) in enumerate(steps):
            node = (one, two)[number % 2]
            try:
                if what == "hold":
                    held.append((node, await node.hold(an_ask(alice, amount, buckets=keys(*limits)), 5)))
                elif what == "refill":
                    await sql("UPDATE billing_bucket SET spent_nanos = 0 WHERE limit_id = %s", limits[0])
                    spent_of[limits[0]] = 0
                elif held:
                    owner, mine = held[amount % len(held)]
                    if what == "extend":
                        await owner.extend(mine, amount, 5)
                        continue
                    held.remove((owner, mine))
                    charge = amount if what == "settle" else 0
                    await owner.settle(mine, a_settlement(mine, charge, status=200 if charge else 502), 5)
                    spent += charge
                    spent_of = {limit: so_far + charge for limit, so_far in spent_of.items()}
            except (OverLimit, InsufficientCredits):
                pass
            open_nanos = sum(each.amount_nanos for _, each in held)
            assert await balance(alice) == (2000 - spent, open_nanos)
            if await sql("SELECT 1 FROM billing_bucket WHERE limit_id = %s", limits[0]):
                assert [await bucket(limit) for limit in limits] == [(spent_of[limit], open_nanos) for limit in limits]
    return (await balance(alice))[0] == 2000 - spent


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_any_play_keeps_wallet_and_buckets_together(transactional_db: Any, steps: list[tuple[str, int]]) -> None:
    assert asyncio.run(play(steps))


# --- Streams that grow while something else goes wrong ----------------------------------------------------------------
async def test_a_stream_that_ends_while_it_asks_for_more_leaves_nothing_held() -> None:
    alice, limit = await an_organization(), await a_limit(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 100, buckets=keys(limit)), 5)
        # Both are queued before the writer runs: the client left while the extension was on its way.
        growing = asyncio.create_task(journal.extend(held, 50, 5))
        await asyncio.sleep(0)
        growing.cancel()
        await journal.settle(held, a_settlement(held, 70), 5)
        await asyncio.wait([growing])
    assert await bucket(limit) == (70, 0)


async def test_a_stream_whose_hold_was_swept_cannot_grow_and_holds_nothing() -> None:
    alice, limit = await an_organization(), await a_limit(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 100, buckets=keys(limit)), 5)
        await sql("UPDATE billing_hold SET lease_until = now() - interval '1 s'")
        journal.submit(Expire(held.request_id, alice, held.bucket_ids))
        await until_written(journal)
        with pytest.raises(HoldClosed):
            await journal.extend(held, 50, 5)
    assert await bucket(limit) == (0, 0)


async def test_an_extension_that_was_committed_and_given_up_is_held_once() -> None:
    alice, limit = await an_organization(1000), await a_limit(1000)
    async with running() as journal:
        held = await journal.hold(an_ask(alice, 100, buckets=keys(limit)), 5)
        await journal.extend(held, 50, 5)
        # The commit was not acknowledged in time, so the request knows nothing of it.
        held.amount_nanos = 100
        await journal.extend(held, 50, 5)
        assert await bucket(limit) == (0, 150)
        held.amount_nanos = 100
        await journal.extend(held, 80, 5)
        assert (held.amount_nanos, await balance(alice), await bucket(limit)) == (180, (1000, 180), (0, 180))
        await journal.settle(held, a_settlement(held, 20), 5)
    assert (await balance(alice), await bucket(limit)) == ((980, 0), (20, 0))
