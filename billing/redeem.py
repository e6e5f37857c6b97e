"""Make and redeem codes: `AP-` and 16 characters of Crockford's base32 (80 random bits), in groups of four.

What is stored is an HMAC under the pepper of API keys (`accounts.keys`), so the table alone redeems nothing. Case,
spaces and hyphens do not matter, and what people misread is read as it was meant (https://www.crockford.com/base32.html).

Invariants: a code credits once, whatever is sent at once (its row is locked, and the transfer's reference is its id);
tries are counted before the code is looked at, by user and by address, and where they cannot be counted nothing is
redeemed.
"""

import secrets
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from django.core.cache import cache
from django.db import transaction

from accounts import keys
from accounts.client_address import Address, network_of
from accounts.models import Membership, User
from billing import ledger
from billing.models import House, Kind, RedeemBatch, RedeemCode, Transfer
from billing.money import Money

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
PREFIX = "AP"
CODE_CHARACTERS = 16
MISREAD = str.maketrans("OIL", "011", "- \t\r\n")
# An address is shared by an office, a user is one.
TRIES_PER_USER, TRIES_PER_ADDRESS = 10, 50
TRIES_WINDOW = timedelta(hours=1)


class NotRedeemed(Exception):
    """The code was not redeemed; the message says why, to whoever sent it."""


class TooManyTries(NotRedeemed):
    """The user or its address tried too often; `retry_after` is how long to wait at most."""

    def __init__(self) -> None:
        super().__init__(f"Too many tries. Wait {TRIES_WINDOW // timedelta(minutes=1)} minutes and try again.")
        self.retry_after = TRIES_WINDOW


class NotCounted(NotRedeemed):
    """A try could not be counted, so nothing was tried."""

    def __init__(self) -> None:
        super().__init__("Codes cannot be redeemed at the moment. Try again in a minute.")


class NewBatch(msgspec.Struct, frozen=True):
    """What a batch shall be; `form` is the token of the page that asks for it."""

    form: UUID
    note: str
    amount: Money
    codes_count: int
    expires_at: datetime | None


def generate() -> str:
    """Return a new code in clear text."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(CODE_CHARACTERS))
    return "-".join([PREFIX, *(body[start : start + 4] for start in range(0, CODE_CHARACTERS, 4))])


def digests(code: str) -> list[bytes]:
    """Return the digests of what somebody typed, newest pepper first; none if it cannot be a code."""
    body = code.upper().translate(MISREAD)
    if len(body) > CODE_CHARACTERS:
        body = body.removeprefix(PREFIX)
    if len(body) != CODE_CHARACTERS or not set(body) <= set(ALPHABET):
        return []
    # No API key begins so: one table's digests are of no use in the other.
    return keys.digests(f"redeem:{body}")


def make(new: NewBatch, actor: User | None) -> tuple[RedeemBatch, list[str]]:
    """Make a batch and return its codes, which are nowhere else; a page that was sent before makes nothing: `[]`."""
    with transaction.atomic():
        batch, made = RedeemBatch.objects.get_or_create(
            form=new.form,
            defaults={
                "note": new.note,
                "amount_nanos": new.amount.nanos,
                "codes_count": new.codes_count,
                "expires_at": new.expires_at,
                "actor": actor,
            },
        )
        codes = [generate() for _ in range(new.codes_count if made else 0)]
        RedeemCode.objects.bulk_create(
            [RedeemCode(batch=batch, digest=digests(code)[0]) for code in codes], batch_size=1000
        )
    return batch, codes


def redeem(user: User, organization_id: int, code: str, *, address: Address | None, now: datetime) -> Transfer:
    """Give the code's amount to the organization, of which USER is a member; raise NotRedeemed."""
    count_try(user, address)
    if not Membership.objects.filter(user=user, organization_id=organization_id).exists():
        raise NotRedeemed("You are not a member of this organization.")
    with transaction.atomic():
        found = (
            RedeemCode.objects.select_for_update(of=("self",))
            .select_related("batch")
            .filter(digest__in=digests(code))
            .first()
        )
        row = valid(found, now)
        transfer = ledger.credit(
            organization_id,
            Money(row.batch.amount_nanos),
            Kind.REDEEM,
            House.PROMOTIONS,
            reference=f"redeem:{row.pk}",
            actor_id=user.pk,
            reason=f"Code of the batch {row.batch.note}",
        )
        if transfer is None:
            raise NotRedeemed("This code was redeemed already.")
        row.redeemed_at, row.organization_id, row.user = now, organization_id, user
        row.save(update_fields=["redeemed_at", "organization", "user"])
    return transfer


def valid(row: RedeemCode | None, now: datetime) -> RedeemCode:
    """Return the row; raise NotRedeemed where it gives nothing (any more)."""
    if row is None:
        raise NotRedeemed("There is no such code. Look for a mistyped character.")
    if row.redeemed_at is not None:
        raise NotRedeemed("This code was redeemed already.")
    if row.batch.stopped_at is not None:
        raise NotRedeemed("This code is no longer valid.")
    if row.batch.expires_at is not None and row.batch.expires_at <= now:
        raise NotRedeemed(f"This code expired on {row.batch.expires_at:%Y-%m-%d}.")
    return row


def count_try(user: User, address: Address | None) -> None:
    """Count a try; raise TooManyTries, or NotCounted."""
    for subject, tries_max in ((f"user:{user.pk}", TRIES_PER_USER), (network_of(address), TRIES_PER_ADDRESS)):
        key = f"redeem:{subject}"
        try:
            cache.add(key, 0, TRIES_WINDOW.total_seconds())
            tries = cache.incr(key)
        except Exception as error:
            raise NotCounted from error
        if tries > tries_max:
            raise TooManyTries
