"""Fetch newer price data than the installed package has, and bring prices up to what is the newest.

Off the hot path, once a day or by hand; of several at once one does it. A feed counts only if it was read to its end,
the installed package parses it and finds in it what is served here, and it is neither older nor much smaller than what
is read now: any other changes nothing. Prices are brought up whether or not there was a newer feed, for one that was
announced may have begun since.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connection
from django.db.models import QuerySet

from catalog import price_data, price_list, seeding
from catalog.models import PriceData, Proposal, Provider
from catalog.price_list import Extent, PriceListError
from gateway import alarms, networks, outbound

logger = logging.getLogger(__name__)

FEED_BYTES_MAX = 32 * 1024 * 1024
TIMEOUT_S = 60.0
# Of the models that are known now, how many a feed may lack.
MODELS_SHARE_MIN = 0.75
ETAG_CHARS_MAX = 256
TRY = "SELECT pg_try_advisory_lock(hashtext('aperture_price_refresh'))"
UNLOCK = "SELECT pg_advisory_unlock(hashtext('aperture_price_refresh'))"


class RefreshFailed(RuntimeError):
    """Something went wrong; the message says what, and what did not change."""


@dataclass(slots=True)
class Outcome:
    """What a refresh did: what became of the feed, how many prices were written, and how many wait for the operator."""

    feed: str
    written: int = 0
    waiting: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.feed}; {self.written} prices written, {self.waiting} waiting"


def run(now: datetime) -> Outcome:
    """Refresh now; every failure is among the Outcome's problems, none raises."""
    with _alone() as mine:
        if not mine:
            return Outcome("another refresh is running")
        try:
            outcome = Outcome(fetch(now))
        except RefreshFailed as error:
            outcome = Outcome("nothing fetched", problems=[str(error)])
        for provider in _providers():
            try:
                outcome.written += seeding.price_targets(provider, now=now)
            except PriceListError as error:
                outcome.problems.append(f"{provider.slug}: {error}")
        outcome.waiting = _waiting().count()
        tell(now)
    logger.info("price refresh: %s", outcome)
    return outcome


def fetch(now: datetime) -> str:
    """Fetch the feed and keep it where it is newer; return what became of it, in words. Raise RefreshFailed."""
    if not settings.PRICE_DATA_URL:
        return "fetching is off"
    kept, old = _present(now)
    headers = {"if-none-match": kept.etag} if kept and kept.etag else {}
    policy = networks.operator_policy(settings.PRIVATE_UPSTREAMS)
    try:
        answer = async_to_sync(outbound.fetch)(
            "GET", settings.PRICE_DATA_URL,
            policy=policy, headers=headers, timeout_s=TIMEOUT_S, bytes_max=FEED_BYTES_MAX,
        )  # fmt: skip
    except outbound.OutboundError as error:
        raise RefreshFailed(f"No price data was fetched: {error}") from error
    if answer.status == 304 and kept and headers:
        price_data.confirm(kept, now)
        return "unchanged"
    if answer.status != 200:
        raise RefreshFailed(f"No price data was fetched: the server answered {answer.status}.")
    data = price_data.packed(answer.body)
    current = bytes(kept.content) if kept else b""
    if data != current:
        _check(data, old, now)
    etag = answer.headers.get("etag", "")
    # Only what could be sent back.
    price_data.keep(data, etag if len(etag) <= ETAG_CHARS_MAX and etag.isascii() else "", now)
    return "unchanged" if data == current else "fetched"


def _present(now: datetime) -> tuple[PriceData | None, Extent]:
    """Return the kept data that is read now, or None where the package's is, and its extent. Raise RefreshFailed."""
    kept = price_data.kept(now)
    if kept:
        try:
            return kept, price_list.inspect(bytes(kept.content), {}, now.date())
        except PriceListError as error:
            logger.warning("the kept price data is fetched anew, for it cannot be read: %s", error)
    try:
        return None, price_list.inspect(b"", {}, now.date())
    except PriceListError as error:
        raise RefreshFailed(f"The installed price data cannot be read: {error}") from error


def _check(data: bytes, old: Extent, now: datetime) -> None:
    """Raise RefreshFailed unless DATA may replace what is read now, which is this OLD."""
    try:
        new = price_list.inspect(data, seeding.asked_for(_providers()), now.date())
    except PriceListError as error:
        raise RefreshFailed(f"The fetched price data does not parse, and is not used: {error}") from error
    if new.models < MODELS_SHARE_MIN * old.models:
        raise RefreshFailed(
            f"The fetched price data has {new.models} models where {old.models} are known, and is not used."
        )
    if old.begun_on and (new.begun_on is None or new.begun_on < old.begun_on):
        raise RefreshFailed(
            f"The fetched price data is older than what is known: its newest price began on {new.begun_on}, "
            f"the present one's on {old.begun_on}. It is not used."
        )


def tell(now: datetime) -> int:
    """Mail the operator what waits and was not told yet, in one mail; return how many prices that were."""
    due = [row for row in _waiting().filter(told_at=None).select_related("provider") if _note(row, None, now)]
    if due and not alarms.send(alarms.addresses(), *_written(due)):
        for row in due:
            _note(row, now, None)
        return 0
    return len(due)


def _note(row: Proposal, before: datetime | None, after: datetime | None) -> bool:
    return Proposal.objects.filter(pk=row.pk, told_at=before).update(told_at=after) == 1


def _written(due: list[Proposal]) -> tuple[str, str]:
    """Return the subject and body of a mail about these."""
    more = f" and {len(due) - 1} more" if len(due) > 1 else ""
    lines = "\n".join(f"* {row}: {row.reason}." for row in due)
    body = (
        f"The price data names prices (dollars per million tokens) that moved so far that they are not believed unseen:"
        f"\n\n{lines}\n\nThe present prices stay until you accept the new ones, or for good if you ignore them.\n\n"
        f"{settings.PUBLIC_URL}/admin/catalog/proposal/?kind__exact=price&state__exact=open\n"
    )
    return f"Aperture: the price of {due[0]}{more} waits for you", body


def _waiting() -> QuerySet[Proposal]:
    rows = Proposal.objects.filter(kind=Proposal.PRICE, state=Proposal.OPEN, provider__enabled=True)
    return rows.order_by("provider__slug", "upstream_id")


def _providers() -> QuerySet[Provider]:
    return Provider.objects.filter(enabled=True).exclude(source=Provider.DEMO).order_by("slug")


@contextmanager
def _alone() -> Iterator[bool]:
    """Hold the lock of a refresh, which ends with the connection; false where somebody else has it."""
    with connection.cursor() as cursor:
        cursor.execute(TRY)
        row = cursor.fetchone()
    mine = bool(row and row[0])
    try:
        yield mine
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute(UNLOCK)
