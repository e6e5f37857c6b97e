"""What is asked of the journal, and how a group of it is decided. Pure: locked rows go in, writes come out.

In one group, requests that end come first, then those that need more, then new ones, each in the order they came: so
what is released pays for what is admitted, and the state after the group is the one that was decided on.

Invariants: no hold is admitted that takes `posted - held` below the overdraft, nor any, even of nothing, while it is
below; all that a request needs is held, or nothing is; a request is charged what its row says, once, and only if its
hold was metered.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from math import inf
from typing import Any

import msgspec

from billing import spending
from billing.models.transfer import House, Kind
from billing.spending import Bucket, Shortage
from billing.usage import UsageRow

BucketKey = tuple[int, str]
# Where no bucket is concerned, nobody asks for the time.
EPOCH = datetime.fromtimestamp(0, UTC)


class NotDurable(Exception):
    """The database did not take the entry in time."""


class Refusal(Exception):
    """A hold that is not admitted."""


class InsufficientCredits(Refusal):
    """The wallet cannot pay; `available_nanos` is what it could."""

    def __init__(self, available_nanos: int, *, frozen: bool = False) -> None:
        super().__init__(f"{available_nanos} nano-dollars are available")
        self.available_nanos = available_nanos
        self.frozen = frozen


class OverLimit(Refusal):
    """A spending limit cannot pay."""

    def __init__(self, shortage: Shortage) -> None:
        super().__init__(shortage.name)
        self.shortage = shortage


class HoldClosed(Refusal):
    """A running request's hold is gone: it was settled, or a sweeper took its process for dead."""


class Repeated(Refusal):
    """An idempotency key that another request has; `same` tells whether it came with the same body."""

    def __init__(self, request_id: str, *, same: bool, running: bool) -> None:
        super().__init__(request_id)
        self.request_id = request_id
        self.same = same
        self.running = running


class Wallet(msgspec.Struct):
    """A wallet as the journal locked it. Amounts are nano-dollars."""

    organization_id: int
    metered: bool
    frozen: bool
    posted: int
    held: int
    overdraft: int

    @property
    def available(self) -> int:
        """What a new hold can take."""
        return self.posted - self.held + self.overdraft


class Held:
    """An admitted request's hold, kept by the request until it settles."""

    __slots__ = (
        "amount_nanos", "bucket_ids", "capped", "keyed", "mark", "metered", "organization_id", "renewal",
        "renewed_at", "request_id",
    )  # fmt: skip

    def __init__(self, ask: "Ask", amount_nanos: int, bucket_ids: list[int], *, metered: bool, capped: bool) -> None:
        self.request_id = ask.row.request_id
        self.organization_id = ask.row.organization_id
        self.amount_nanos = amount_nanos
        self.bucket_ids = bucket_ids
        self.metered = metered
        self.capped = capped
        # Whether it has an idempotency key.
        self.keyed = ask.idempotency_key is not None
        row = ask.row
        # Returns the row that the request would leave if it ended now. It knows the row alone, so no cycle is left.
        self.mark: Callable[[], UsageRow] = lambda: row
        self.renewed_at = 0.0
        # The renewal that is queued.
        self.renewal: Renew | None = None


class Entry:
    """Something queued, and who waits for it until `give_up_at` (`time.monotonic`)."""

    __slots__ = ("attempted", "future", "give_up_at")

    def __init__(self) -> None:
        # Made by the journal, where somebody waits.
        self.future: asyncio.Future[Any] | None = None
        self.give_up_at = float("inf")
        # Whether its group may have been committed without our knowing.
        self.attempted = False

    def granted(self) -> bool:
        """Tell whether it was answered, and not with an error."""
        future = self.future
        return future is not None and future.done() and not future.cancelled() and future.exception() is None

    def abandoned(self) -> bool:
        """Tell whether nobody waits any more."""
        return self.future is not None and self.future.done()

    def finish(self, outcome: Any = None) -> None:
        """Wake who waits, if anybody still does; an exception is raised there."""
        if self.future is None or self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
            # Nobody may be waiting, and that is no error.
            self.future.exception()
        else:
            self.future.set_result(outcome)


class Ask(Entry):
    """A request to be admitted.

    `wanted_nanos` is held where the wallet has `full_nanos`; where it has less, the hold is what there is, at least
    `least_nanos`, and the request is capped to what that pays. `row` is what it leaves if it is lost.
    """

    __slots__ = ("body_digest", "buckets", "full_nanos", "idempotency_key", "least_nanos", "row", "wanted_nanos")

    def __init__(
        self,
        row: UsageRow,
        *,
        wanted_nanos: int,
        least_nanos: int,
        full_nanos: int,
        buckets: tuple[BucketKey, ...] = (),
        idempotency_key: str | None = None,
        body_digest: bytes = b"",
    ) -> None:
        super().__init__()
        self.row = row
        self.wanted_nanos = wanted_nanos
        self.least_nanos = least_nanos
        self.full_nanos = full_nanos
        self.buckets = buckets
        self.idempotency_key = idempotency_key
        self.body_digest = body_digest


class Extend(Entry):
    """A running request that needs `more_nanos`."""

    __slots__ = ("held", "more_nanos")

    def __init__(self, held: Held, more_nanos: int) -> None:
        super().__init__()
        self.held = held
        self.more_nanos = more_nanos


class Settle(Entry):
    """A request that ended, as its row says. `revoked` is set when nobody gets its answer after all."""

    __slots__ = ("held", "revoked", "row")

    def __init__(self, held: Held, row: UsageRow) -> None:
        super().__init__()
        self.held = held
        self.row = row
        self.revoked = False


class Withdraw(Entry):
    """An ask that was given up: what it may have left is deleted, and nothing is charged."""

    __slots__ = ("ask",)

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self.ask = ask


class Expire(Entry):
    """A hold whose lease has ended, to be closed if it still has."""

    __slots__ = ("bucket_ids", "organization_id", "request_id")

    def __init__(self, request_id: str, organization_id: int, bucket_ids: list[int]) -> None:
        super().__init__()
        self.request_id = request_id
        self.organization_id = organization_id
        self.bucket_ids = bucket_ids


class Renew(Entry):
    """A running request's lease, and the row that it would leave if it were lost now."""

    __slots__ = ("held", "row")

    def __init__(self, held: Held, row: UsageRow) -> None:
        super().__init__()
        self.held = held
        self.row = row

    def finish(self, outcome: Any = None) -> None:
        """The next one is queued anew."""
        self.held.renewal = None
        super().finish(outcome)


class Closed(msgspec.Struct):
    """A hold that this group's transaction has deleted."""

    request_id: str
    organization_id: int
    amount_nanos: int
    metered: bool
    bucket_ids: list[int]
    unfinished: dict[str, Any] | None = None


class TransferRow(msgspec.Struct):
    """A line of the ledger."""

    amount_nanos: int
    debit_id: int
    credit_id: int
    request_id: str
    kind: int


class HoldRow(msgspec.Struct):
    """A row of the table of holds."""

    request_id: str
    organization_id: int
    amount_nanos: int
    metered: bool
    bucket_ids: list[int]
    unfinished: UsageRow


class State(msgspec.Struct):
    """What a group's transaction has locked; deciding changes it."""

    wallets: dict[int, Wallet]
    now: datetime = EPOCH
    buckets: dict[int, Bucket] = {}
    bucket_ids: dict[BucketKey, int] = {}


class Writes(msgspec.Struct):
    """What a group's transaction has to write."""

    transfers: list[TransferRow] = []
    usage: list[UsageRow] = []
    holds: list[HoldRow] = []
    extended: dict[str, int] = {}
    touched: set[int] = set()


def release(closed: Closed, state: State, writes: Writes, spent_nanos: int = 0) -> None:
    """Give back what a deleted hold took, of its wallet and of its buckets, which then have SPENT_NANOS more spent."""
    wallet = state.wallets.get(closed.organization_id)
    if closed.metered and wallet is not None:
        wallet.held -= closed.amount_nanos
    for bucket_id in closed.bucket_ids:
        bucket = state.buckets.get(bucket_id)
        if bucket is not None:
            spending.refresh(bucket, state.now)
            bucket.held -= closed.amount_nanos
            bucket.spent = max(0, bucket.spent + spent_nanos)
            writes.touched.add(bucket_id)


def settle(row: UsageRow, closed: Closed, state: State, writes: Writes) -> None:
    """Close a hold: give back what it took, and charge what the row says to who pays."""
    wallet = state.wallets.get(closed.organization_id)
    if not closed.metered:
        row.charge_nanos = 0
    elif wallet is not None:
        wallet.posted -= row.charge_nanos
    release(closed, state, writes, row.charge_nanos if closed.metered else row.cost_nanos)
    writes.usage.append(row)
    writes.transfers += transfers(row)


def transfers(row: UsageRow) -> list[TransferRow]:
    """Return the ledger's lines for a finished request: what the wallet pays, and what the house owes."""
    lines = []
    if row.charge_nanos:
        lines.append(TransferRow(row.charge_nanos, row.organization_id, House.REVENUE, row.request_id, Kind.CHARGE))
    if row.cost_nanos:
        lines.append(
            TransferRow(row.cost_nanos, House.UPSTREAM_COST, House.UPSTREAM_PAYABLE, row.request_id, Kind.COST)
        )
    return lines


def extend(entry: Extend, found: Closed | None, state: State, writes: Writes) -> int | Refusal:
    """Hold more for a running request; return what is held then, or why not.

    FOUND is its hold as it is in the database. That may be more than the request knows of: an extension was committed,
    and its answer was lost.
    """
    held = entry.held
    if found is None:
        return HoldClosed()
    there = writes.extended.get(held.request_id, found.amount_nanos)
    more = held.amount_nanos + entry.more_nanos - there
    if more <= 0:
        return there
    wallet = state.wallets[held.organization_id]
    buckets = [state.buckets[bucket_id] for bucket_id in held.bucket_ids if bucket_id in state.buckets]
    refusal: Refusal | None = _shortage(buckets, more, state.now)
    if refusal is None and held.metered and (wallet.frozen or wallet.available < more):
        refusal = InsufficientCredits(0 if wallet.frozen else max(0, wallet.available), frozen=wallet.frozen)
    if refusal is not None:
        return refusal
    _take(buckets, more, writes)
    if held.metered:
        wallet.held += more
    writes.extended[held.request_id] = there + more
    return there + more


def admit(ask: Ask, state: State, writes: Writes) -> Held | Refusal:
    """Hold what a request may cost, in its wallet and all its buckets, or return why not."""
    wallet = state.wallets.get(ask.row.organization_id)
    if wallet is None:
        return InsufficientCredits(0)
    found = _amount(ask, wallet)
    if isinstance(found, Refusal):
        amount, capped = ask.wanted_nanos, False
    else:
        amount, capped = found
    bucket_ids = sorted({state.bucket_ids[key] for key in ask.buckets})
    buckets = [state.buckets[bucket_id] for bucket_id in bucket_ids]
    # A spending limit is told before an empty wallet. An empty bucket pays nothing, not even what costs nothing.
    refusal = _shortage(buckets, max(1, amount), state.now)
    if refusal is not None:
        return refusal
    if isinstance(found, Refusal):
        return found
    _take(buckets, amount, writes)
    if wallet.metered:
        wallet.held += amount
    held = Held(ask, amount, bucket_ids, metered=wallet.metered, capped=capped)
    writes.holds.append(HoldRow(held.request_id, held.organization_id, amount, held.metered, bucket_ids, ask.row))
    return held


def _amount(ask: Ask, wallet: Wallet) -> tuple[int, bool] | Refusal:
    """Return what to hold and whether that caps the request, or why nothing can be held."""
    if wallet.frozen:
        return InsufficientCredits(0, frozen=True)
    if not wallet.metered:
        return ask.wanted_nanos, False
    available = wallet.available
    if available < 0 or available < ask.least_nanos:
        return InsufficientCredits(max(0, available))
    if available >= ask.full_nanos:
        return ask.wanted_nanos, False
    return min(ask.wanted_nanos, available), True


def _shortage(buckets: list[Bucket], amount: int, now: datetime) -> OverLimit | None:
    """Return the shortage that lasts longest: who waits for it finds no other."""
    shortages = []
    for bucket in buckets:
        spending.refresh(bucket, now)
        shortage = spending.shortage(bucket, amount)
        if shortage is not None:
            shortages.append(shortage)
    if not shortages:
        return None
    return OverLimit(max(shortages, key=lambda each: inf if each.retry_after_s is None else each.retry_after_s))


def _take(buckets: list[Bucket], amount: int, writes: Writes) -> None:
    for bucket in buckets:
        bucket.held += amount
        writes.touched.add(bucket.id)
