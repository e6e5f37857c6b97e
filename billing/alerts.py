"""Mails about money: a spending limit that is being used up, a balance that has become low.

Off the hot path: a task looks every minute. A mail is noted before it is sent, by an update that names what was noted
before, so of two workers one sends it; a mail that could not be sent is tried again with the next look.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from django.db.models import F, Q, QuerySet

from accounts import mail
from accounts.models import APIKey, Membership, User
from billing import money, spending
from billing.buckets import Standing, standings
from billing.models import Bucket, SpendingLimit, Wallet
from billing.spending import OWN

# Shares of a capacity, in percent.
SHARES = (50, 80, 100)
# However short a limit's period is, the same share is not told again sooner.
PAUSE = timedelta(hours=1)


# --- Spending limits --------------------------------------------------------------------------------------------------
def watch_limits(now: datetime) -> int:
    """Tell of each bucket that has passed a share of its capacity, once in a period; return how many were told."""
    told = 0
    candidates = Bucket.objects.filter(limit__enabled=True, limit__capacity_nanos__gt=0).filter(
        Q(alerted_percent__gt=0) | Q(spent_nanos__gte=F("limit__capacity_nanos") / (100 // SHARES[0]))
    )
    rows = list(candidates.select_related("limit").order_by("pk"))
    for row, standing in zip(rows, standings(rows, now), strict=True):
        noted, share = due(standing, row.alerted_percent, row.alerted_at, now)
        if share is None:
            if noted != row.alerted_percent:
                _note(row, noted, row.alerted_at)
        elif _note(row, share, now):
            if send(watchers(row.limit, row.subject), "limit", _about(standing, share)):
                told += 1
            else:
                Bucket.objects.filter(pk=row.pk, alerted_percent=share, alerted_at=now).update(
                    alerted_percent=row.alerted_percent, alerted_at=row.alerted_at
                )
    return told


def due(standing: Standing, alerted_percent: int, alerted_at: datetime | None, now: datetime) -> tuple[int, int | None]:
    """Return the share that counts as told, and the one that is to be told now, if there is one.

    A budget's shares are told anew in each period. A quota's are once it has fallen below them and a period has passed.
    """
    bucket = standing.bucket
    reached = max((share for share in SHARES if standing.used_percent >= share), default=0)
    told = alerted_percent
    if alerted_at is not None and now - alerted_at >= PAUSE:
        if bucket.kind == spending.CALENDAR:
            if spending.period_start(bucket.period, now) > alerted_at:
                told = 0
        elif (now - alerted_at).total_seconds() >= spending.PERIOD_S[bucket.period]:
            told = min(told, reached)
    return told, reached if reached > told else None


def _note(row: Bucket, percent: int, at: datetime | None) -> bool:
    same = Bucket.objects.filter(pk=row.pk, alerted_percent=row.alerted_percent, alerted_at=row.alerted_at)
    return same.update(alerted_percent=percent, alerted_at=at) == 1


def _about(standing: Standing, share: int) -> dict[str, object]:
    bucket = standing.bucket
    return {
        "name": standing.name,
        "share": share,
        "used_percent": standing.used_percent,
        "spent": money.shown(bucket.spent),
        "capacity": money.shown(bucket.capacity),
        "left": money.shown(max(0, standing.left_nanos)),
        "hard": bucket.hard,
        "full_at": standing.full_at,
        "by_calendar": bucket.kind == spending.CALENDAR,
        "rate": money.shown(bucket.rate) if bucket.rate else "",
        "period": bucket.period,
    }


def watchers(limit: SpendingLimit, subject: str) -> list[str]:
    """Return who is told of a limit's bucket: its owner, else the owners of whom it binds, else the operators."""
    kind, _, name = limit.subject.partition(":")
    found: list[str] = []
    if subject.startswith(OWN):
        found = _emails(User.objects.filter(pk=int(subject.removeprefix(OWN))))
    elif kind == "user":
        found = _emails(User.objects.filter(email__iexact=name))
    elif kind == "org":
        found = owners([int(name)])
    elif kind == "key":
        found = owners(APIKey.objects.filter(pk=int(name)).values_list("organization_id", flat=True))
    return found or _emails(User.objects.filter(is_staff=True))


def owners(organization_ids: Iterable[int]) -> list[str]:
    """Return the e-mails of the organizations' owners."""
    held = Membership.objects.filter(organization_id__in=organization_ids, role=Membership.OWNER)
    return _emails(User.objects.filter(memberships__in=held))


def _emails(users: QuerySet[User]) -> list[str]:
    return list(users.filter(is_active=True).order_by("email").values_list("email", flat=True).distinct())


# --- Balances ---------------------------------------------------------------------------------------------------------
def watch_balances(now: datetime) -> int:
    """Tell the owners of each prepaid wallet that fell below its mark; again only after it rose; return how many."""
    marked = Wallet.objects.filter(mode=Wallet.PREPAID)
    risen = Q(posted_nanos__gte=F("low_balance_nanos")) | Q(low_balance_nanos=None)
    marked.filter(risen, low_balance_told_at__isnull=False).update(low_balance_told_at=None)
    fallen = marked.filter(posted_nanos__lt=F("low_balance_nanos"), low_balance_told_at=None)
    told = 0
    for wallet in fallen.select_related("organization"):
        if not fallen.filter(pk=wallet.pk).update(low_balance_told_at=now):
            continue
        about = {
            "organization": wallet.organization.name,
            "balance": money.shown(wallet.posted_nanos),
            "mark": money.shown(wallet.low_balance_nanos or 0),
            "held": money.shown(wallet.held_nanos),
        }
        if send(owners([wallet.pk]), "balance", about):
            told += 1
        else:
            Wallet.objects.filter(pk=wallet.pk, low_balance_told_at=now).update(low_balance_told_at=None)
    return told


def send(addresses: list[str], template: str, about: Mapping[str, object]) -> bool:
    """Send one mail about money to each address; return False if none could be sent though somebody was to get it."""
    return mail.send(addresses, f"billing/mail/{template}.txt", about)
