"""The ledger: the one owner of every INSERT of transfers.

`post` is for people, payments and tasks, through Django; the SQL below is for `journal`, which settles requests in
groups. Both lock the wallets they move in the order of their ids, and both leave `posted` to the trigger.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from django.conf import settings
from django.db import transaction

from billing.models import House, Kind, Plan, Transfer, Wallet
from billing.money import ZERO, Money

# One wallet for each organization, on the terms of the installation; `journal` and `wallet_of` make it on first need.
OPEN_WALLETS = """
INSERT INTO billing_wallet
       (organization_id, mode, plan_id, posted_nanos, held_nanos, overdraft_nanos, funded, created_at)
SELECT organization.id, %(mode)s,
       (SELECT id FROM billing_plan ORDER BY slug <> 'free', position, id LIMIT 1), 0, 0, 0, false, now()
  FROM accounts_organization AS organization WHERE organization.id = ANY(%(ids)s) ORDER BY organization.id
ON CONFLICT (organization_id) DO NOTHING
"""

# $1 is a JSON array of objects with these five fields.
INSERT_TRANSFERS = """
INSERT INTO billing_transfer (amount_nanos, debit_id, credit_id, request_id, kind)
SELECT amount_nanos, debit_id, credit_id, request_id, kind
  FROM json_populate_recordset(NULL::billing_transfer, %s::json)
"""


class NoCredit(Exception):
    """A debit that the wallet's available credit does not cover."""


class Posting(msgspec.Struct, frozen=True):
    """A transfer to be made. A `reference` is a business key: it is posted once, whoever comes first."""

    debit_id: int
    credit_id: int
    amount: Money
    kind: Kind
    reference: str | None = None
    reason: str | None = None
    actor_id: int | None = None
    request_id: str | None = None
    corrects_id: int | None = None


def initial_mode() -> str:
    """Return the mode of a new wallet: a team's is unmetered until it is credited."""
    return Wallet.PREPAID if settings.MODE == "resale" else Wallet.UNMETERED


def wallet_of(organization_id: int) -> Wallet:
    """Return an organization's wallet, opened now if it has none."""
    from django.db import connection

    wallet = Wallet.objects.filter(pk=organization_id).first()
    if wallet is None:
        with connection.cursor() as cursor:
            cursor.execute(OPEN_WALLETS, {"mode": initial_mode(), "ids": [organization_id]})
        wallet = Wallet.objects.get(pk=organization_id)
    return wallet


def post(*postings: Posting) -> list[Transfer]:
    """Post all of them in one transaction, but those whose reference was posted before; return the new transfers.

    A wallet that gets credit is prepaid from then on.
    """
    for posting in postings:
        if posting.amount <= ZERO:
            raise ValueError(f"A transfer moves more than nothing, not {posting.amount}.")
    with transaction.atomic():
        lock(account for posting in postings for account in (posting.debit_id, posting.credit_id))
        fresh = _unposted(postings)
        made = [Transfer.objects.create(**_row(posting)) for posting in fresh]
        credited = [posting.credit_id for posting in fresh if posting.credit_id > 0]
        Wallet.objects.filter(pk__in=credited, mode=Wallet.UNMETERED).update(mode=Wallet.PREPAID)
    return made


def lock(accounts: Any) -> dict[int, Wallet]:
    """Open and lock the wallets among these accounts, in the order in which everybody does; return them by id.

    Call it inside a transaction.
    """
    ids = sorted({account for account in accounts if account > 0})
    for organization_id in ids:
        wallet_of(organization_id)
    return {wallet.pk: wallet for wallet in Wallet.objects.select_for_update().filter(pk__in=ids).order_by("pk")}


def _unposted(postings: Sequence[Posting]) -> list[Posting]:
    """Return the postings whose reference is new. The wallets are locked, so nobody posts one meanwhile."""
    references = [posting.reference for posting in postings if posting.reference is not None]
    posted = set(Transfer.objects.filter(reference__in=references).values_list("reference", flat=True))
    return [posting for posting in postings if posting.reference is None or posting.reference not in posted]


def _row(posting: Posting) -> dict[str, Any]:
    fields = msgspec.structs.asdict(posting)
    return fields | {"amount_nanos": fields.pop("amount").nanos}


def credit(organization_id: int, amount: Money, kind: Kind, source: House, **about: Any) -> Transfer | None:
    """Give an organization credit from a house account; return the transfer, or None if its reference was posted."""
    made = post(Posting(source, organization_id, amount, kind, **about))
    return made[0] if made else None


def debit(organization_id: int, amount: Money, kind: Kind, target: House, **about: Any) -> Transfer | None:
    """Take money from an organization, below zero too; return the transfer, or None if its reference was posted.

    What must stay above zero (a refund of unused credit, an operator's debit) asks `debit_available`.
    """
    made = post(Posting(organization_id, target, amount, kind, **about))
    return made[0] if made else None


def debit_available(organization_id: int, amount: Money, kind: Kind, target: House, **about: Any) -> Transfer | None:
    """Like `debit`, but raise NoCredit if posted less held does not cover it."""
    with transaction.atomic():
        wallet = lock([organization_id])[organization_id]
        free = Money(wallet.posted_nanos - wallet.held_nanos)
        if amount > free:
            raise NoCredit(f"Only ${free} of the balance is available, not ${amount}.")
        return debit(organization_id, amount, kind, target, **about)


def correct(transfer: Transfer, *, reason: str, actor_id: int | None = None) -> Transfer:
    """Post the opposite of a transfer and name it; raise ValueError if it was corrected before."""
    with transaction.atomic():
        lock([transfer.debit_id, transfer.credit_id])
        # Between two house accounts there is no wallet to lock, so the transfer itself is.
        Transfer.objects.select_for_update().get(pk=transfer.pk)
        if transfer.corrections.exists():
            raise ValueError(f"Transfer {transfer.pk} was corrected already.")
        return post(
            Posting(
                transfer.credit_id,
                transfer.debit_id,
                Money(transfer.amount_nanos),
                Kind.CORRECTION,
                corrects_id=transfer.pk,
                reason=reason,
                actor_id=actor_id,
            )
        )[0]


def set_plan(organization_id: int, plan: Plan) -> None:
    """Put an organization on a plan. What is posted stays posted."""
    wallet_of(organization_id)
    Wallet.objects.filter(pk=organization_id).update(plan=plan)
