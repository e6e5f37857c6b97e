"""A storm: requests come, grow, end and are given up at any await, while the way to the database breaks and thaws."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone

from billing import journal as journal_module
from billing import reconcile
from billing.holds import Held, Refusal
from billing.journal import Journal, NotDurable
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
from tests.wire import Wire, orm, sql, wired

pytestmark = pytest.mark.django_db(transaction=True)

REQUESTS = 60


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(journal_module, "WRITE_TIMEOUT_S", 0.15)
    monkeypatch.setattr(journal_module, "RETRY_DELAY_S", 0.02)
    yield


async def a_request(chance: random.Random, journal: Journal, organization: int, buckets: Any, paid: list[int]) -> None:
    """One request, as the pipeline runs it, by someone who may leave at any moment."""
    key = chance.choice([None, None, "k", "l"])
    ask = an_ask(organization, chance.randrange(0, 200), buckets=buckets, idempotency_key=key, body_digest=b"d")
    held: Held | None = None
    try:
        held = await journal.hold(ask, 0.3)
        for _ in range(chance.randrange(2)):
            with contextlib.suppress(Refusal, NotDurable):
                await journal.extend(held, chance.randrange(100), 0.2)
            await asyncio.sleep(chance.random() * 0.05)
    except (Refusal, NotDurable):
        return
    except asyncio.CancelledError:
        if held is None:
            return
    charge = chance.choice([0, 7, 50, 300])
    paid.append(charge)
    try:
        await journal.settle(held, a_settlement(held, charge, status=200 if charge else 502), 0.3)
    except NotDurable:
        if chance.random() < 0.5:
            journal.revoke(held, status=503, error_code="storage_unavailable")
            paid.remove(charge)


async def weather(chance: random.Random, wire: Wire) -> None:
    while True:
        await asyncio.sleep(chance.random() * 0.2)
        what = chance.randrange(4)
        if what == 0:
            wire.cut()
        elif what == 1:
            wire.mute = True
            await asyncio.sleep(chance.random() * 0.3)
            wire.cut()
            wire.mute = False
        elif what == 2:
            wire.freeze()
            await asyncio.sleep(chance.random() * 0.3)
            wire.thaw()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("metered", [True, False])
@pytest.mark.parametrize("limited", [True, False])
async def test_the_books_are_right_after_a_storm(seed: int, metered: bool, limited: bool) -> None:
    chance = random.Random(f"{seed}{metered}{limited}")
    organization = await an_organization(10**6 if metered else None)
    limit = await orm(lambda: SpendingLimit.objects.create(name="storm", capacity_nanos=10**7, hard=False).pk)
    buckets = ((limit, ""),) if limited else ()
    paid: list[int] = []
    async with wired() as wire, running() as one, running() as two:
        stormy = asyncio.create_task(weather(chance, wire))
        tasks = []
        for _ in range(REQUESTS):
            journal = chance.choice([one, two])
            tasks.append(asyncio.create_task(a_request(chance, journal, organization, buckets, paid)))
            await asyncio.sleep(chance.random() * 0.05)
            if chance.random() < 0.3:
                chance.choice(tasks).cancel()
        await asyncio.wait(tasks)
        stormy.cancel()
        wire.thaw()
        wire.mute = False
        for journal in (one, two):
            await until_written(journal)
            assert not journal.running
    # A commit that was still under way when its ask was given up is what a sweeper is for.
    assert await holds_count() == 0
    assert await sql("SELECT held_nanos FROM billing_bucket") == ([(0,)] if limited else [])
    assert await orm(lambda: reconcile.run(timezone.now())) == []
    if metered:
        assert await balance(organization) == (10**6 - sum(paid), 0)
    assert await usage_count() >= len(paid)
    assert [task.exception() for task in tasks if not task.cancelled() and task.exception()] == []
