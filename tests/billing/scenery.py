"""Rows of usage, wallets, journals and requests for the tests of money."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from accounts.models import Organization
from billing import ledger
from billing.holds import Ask, Held
from billing.journal import Journal
from billing.models import House, Kind, Wallet
from billing.money import Money
from billing.usage import UsageRow
from gateway.exchange import new_request_id
from tests.wire import eventually, orm, own_connection, sql


def a_row(**fields: Any) -> UsageRow:
    """A finished request's row; its organization is 1."""
    row = UsageRow(
        request_id=new_request_id(),
        key_id=1,
        user_id=1,
        organization_id=1,
        target_id=2,
        duration_ms=5,
        input_tokens=1,
        output_tokens=1,
        status=200,
        model="m",
        dialect="openai_chat",
        usage_source="provider",
        client="é\u2028",
    )
    return msgspec.structs.replace(row, **fields)


async def an_organization(credit: int | None = None) -> int:
    """Return the id of a new organization; with CREDIT nano-dollars its wallet is prepaid, else unmetered."""

    def make() -> int:
        organization = Organization.objects.create(name="Alice's")
        if credit is not None:
            ledger.wallet_of(organization.pk)
            Wallet.objects.filter(pk=organization.pk).update(mode=Wallet.PREPAID)
        if credit:
            ledger.credit(organization.pk, Money(credit), Kind.TOP_UP, House.CLEARING)
        return int(organization.pk)

    return await orm(make)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Journal]:
    """A journal that writes, and has written everything in the end."""
    journal = Journal()
    journal.start()
    try:
        yield journal
    finally:
        await journal.stop(5)
        assert journal.queue == []


def an_ask(organization_id: int, amount: int, *, least: int | None = None, full: int | None = None, **more: Any) -> Ask:
    """A request that wants to hold AMOUNT."""
    return Ask(
        a_row(organization_id=organization_id, status=500, error_code="gateway_lost", usage_source="none"),
        wanted_nanos=amount,
        least_nanos=amount if least is None else least,
        full_nanos=amount if full is None else full,
        **more,
    )


def a_settlement(held: Held, charge: int, **fields: Any) -> UsageRow:
    """The row of a request that ended with this charge, and as much cost."""
    about = {"cost_nanos": charge, "charge_nanos": charge} | fields
    return a_row(request_id=held.request_id, organization_id=held.organization_id, **about)


async def balance(organization_id: int) -> tuple[int, int]:
    """Return what is posted and what is held."""
    found = await sql("SELECT posted_nanos, held_nanos FROM billing_wallet WHERE organization_id = %s", organization_id)
    return found[0][0], found[0][1]


async def usage_count() -> int:
    """Return how many rows of usage there are."""
    return int((await sql("SELECT count(*) FROM billing_usage"))[0][0])


async def holds_count() -> int:
    """Return how many holds are open."""
    return int((await sql("SELECT count(*) FROM billing_hold"))[0][0])


async def until_written(journal: Journal) -> None:
    """Wait until nothing is queued."""

    async def written() -> bool:
        return not journal.queue and not journal.writing

    await eventually(written)


@contextlib.asynccontextmanager
async def locked(table: str) -> AsyncIterator[None]:
    """Nobody else gets at this table meanwhile."""
    async with own_connection() as other, other.transaction():
        await other.execute(f"LOCK TABLE {table}".encode())
        yield
