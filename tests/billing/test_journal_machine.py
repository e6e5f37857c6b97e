"""Any interleaving of hold, extend, settle, void, expire, top-up, refund and dispute, on two nodes, keeps the books."""

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import ledger
from billing.holds import Held, HoldClosed, InsufficientCredits
from billing.journal import Journal
from billing.leases import Leases
from billing.models import House, Kind
from billing.money import Money
from tests.billing.scenery import a_settlement, an_ask, an_organization, running, until_written
from tests.wire import orm, sql

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.server]

AMOUNTS = st.integers(1, 400)
STEP = st.one_of(
    st.tuples(st.just("hold"), AMOUNTS),
    st.tuples(st.just("hold"), st.just(0)),
    st.tuples(st.just("extend"), AMOUNTS),
    st.tuples(st.just("settle"), st.integers(0, 600)),
    st.tuples(st.just("settle_again"), AMOUNTS),
    st.tuples(st.just("void"), st.just(0)),
    st.tuples(st.just("expire"), AMOUNTS),
    st.tuples(st.just("top_up"), AMOUNTS),
    st.tuples(st.just("refund"), AMOUNTS),
    st.tuples(st.just("dispute"), AMOUNTS),
)
# Each inner list runs at once.
PLAYS = st.lists(st.lists(STEP, min_size=1, max_size=6), min_size=1, max_size=8)


class Play:
    """One organization on two nodes, and what its wallet must have in the end."""

    def __init__(self, organization: int, nodes: list[Journal]) -> None:
        self.organization = organization
        self.nodes = nodes
        self.open: list[tuple[Journal, Held]] = []
        self.closed: list[tuple[Journal, Held]] = []
        self.expected = 1000
        self.turn = 0

    async def step(self, name: str, amount: int) -> None:
        """Do one thing; what needs an open hold and finds none does nothing."""
        self.turn += 1
        node = self.nodes[self.turn % 2]
        if name == "hold":
            await self.hold(node, amount)
        elif name in ("top_up", "refund", "dispute"):
            await orm(lambda: self.post(name, amount))
        elif name == "settle_again" and self.closed:
            owner, held = self.closed[amount % len(self.closed)]
            await owner.settle(held, a_settlement(held, amount), 5)
        elif name == "extend" and self.open:
            owner, held = self.open[amount % len(self.open)]
            with contextlib.suppress(InsufficientCredits, HoldClosed):
                await owner.extend(held, amount, 5)
        elif name in ("settle", "void", "expire") and self.open:
            owner, held = self.open.pop(amount % len(self.open))
            await getattr(self, name)(owner, held, amount)
            self.closed.append((owner, held))

    async def hold(self, node: Journal, amount: int) -> None:
        try:
            self.open.append((node, await node.hold(an_ask(self.organization, amount), 5)))
        except InsufficientCredits as refusal:
            assert amount > refusal.available_nanos or refusal.available_nanos == 0

    async def settle(self, owner: Journal, held: Held, amount: int) -> None:
        self.expected -= amount
        await owner.settle(held, a_settlement(held, amount), 5)

    async def void(self, owner: Journal, held: Held, _amount: int) -> None:
        await owner.settle(held, a_settlement(held, 0, status=502), 5)

    async def expire(self, owner: Journal, held: Held, _amount: int) -> None:
        owner.running.pop(held.request_id)
        await sql("UPDATE billing_hold SET lease_until = now() - interval '1 s' WHERE request_id = %s", held.request_id)
        for node in self.nodes:
            leases = Leases(node)
            leases.connected_at = float("-inf")
            await leases.sweep()
            await until_written(node)
            await leases.stop()

    def post(self, name: str, amount: int) -> None:
        money = Money(amount)
        if name == "top_up":
            ledger.credit(self.organization, money, Kind.TOP_UP, House.CLEARING)
            self.expected += amount
        elif name == "dispute":
            ledger.debit(self.organization, money, Kind.DISPUTE, House.CLEARING)
            self.expected -= amount
        else:
            try:
                ledger.debit_available(self.organization, money, Kind.REFUND, House.CLEARING)
                self.expected -= amount
            except ledger.NoCredit:
                pass

    async def check(self) -> None:
        """The invariants, asked of the database itself."""
        [(posted, held, overdraft)] = await sql(
            "SELECT posted_nanos, held_nanos, overdraft_nanos FROM billing_wallet WHERE organization_id = %s",
            self.organization,
        )
        assert posted == self.expected
        assert held == sum(each.amount_nanos for _, each in self.open)
        [(sums, holds, twice, settled)] = await sql(
            """
            SELECT (SELECT coalesce(sum(CASE WHEN credit_id = %(id)s THEN amount_nanos ELSE -amount_nanos END), 0)
                      FROM billing_transfer WHERE %(id)s IN (debit_id, credit_id)),
                   (SELECT coalesce(sum(amount_nanos), 0) FROM billing_hold WHERE organization_id = %(id)s),
                   (SELECT count(*) FROM billing_hold JOIN billing_usage USING (request_id)),
                   (SELECT count(*) FROM billing_usage WHERE organization_id = %(id)s)
            """.replace("%(id)s", str(self.organization))
        )
        assert (sums, holds, twice, settled) == (posted, held, 0, len(self.closed))
        assert overdraft == 0


async def play(rounds: list[list[tuple[str, int]]]) -> bool:
    """Play, and tell whether the wallet has what it must have, with nothing held."""
    organization = await an_organization(1000)
    async with running() as one, running() as two:
        game = Play(organization, [one, two])
        for together in rounds:
            await asyncio.gather(*(game.step(*step) for step in together))
            await game.check()
        for owner, held in game.open:
            await owner.settle(held, a_settlement(held, 0, status=502), 5)
    [(posted, held)] = await sql(
        "SELECT posted_nanos, held_nanos FROM billing_wallet WHERE organization_id = %s", organization
    )
    return (posted, held) == (game.expected, 0)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(PLAYS)
def test_any_interleaving_keeps_the_books(transactional_db: Any, rounds: list[list[tuple[str, int]]]) -> None:
    assert asyncio.run(play(rounds))
