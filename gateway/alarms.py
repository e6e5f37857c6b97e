"""Tell the operator of providers and credentials that go out and come back: once, by one mail for all that is new.

What is told is noted before it is sent, by an update that names what was noted before, so of two workers one sends it;
where no mail could be sent the note is taken back, and the next look tries again. `catalog.health.to_tell` decides.
"""

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db.models import Count, Q

from accounts.models import User
from catalog import health, standings
from catalog.models import Provider, Standing

logger = logging.getLogger(__name__)


def tell(now: datetime) -> int:
    """Tell of everything that is to be told now, in one mail to each operator; return how many standings that were."""
    due = []
    for row in _candidates(now):
        state = health.to_tell(standings.condition(row), row.told, row.falls, now)
        if state and _note(row, row.told, row.told_at, state, now):
            due.append((row, state))
    if due and not send(addresses(), *_written(due)):
        for row, state in due:
            _note(row, state, now, row.told, row.told_at)
        return 0
    return len(due)


def _candidates(now: datetime) -> Iterable[Any]:
    """Return the standings of providers and credentials that are out, or of which that was told last."""
    fell = Q(changes__after__in=health.OUT, changes__at__gte=now - health.FLAPPING)
    return (
        Standing.objects.filter(Q(state__in=health.OUT) | Q(told__in=health.OUT), target=None, provider__enabled=True)
        .exclude(provider__check_by=Provider.OFF)
        .select_related("provider", "credential")
        .annotate(falls=Count("changes", filter=fell))
        .order_by("provider__slug", "pk")
    )


def _note(row: Standing, before: str, before_at: datetime | None, after: str, at: datetime | None) -> bool:
    same = Standing.objects.filter(pk=row.pk, told=before, told_at=before_at)
    return same.update(told=after, told_at=at) == 1


def _written(due: Iterable[tuple[Standing, str]]) -> tuple[str, str]:
    """Return the subject and body of a mail about these."""
    heads, lines = [], []
    for row, state in due:
        what = "is back" if state == health.UP else f"is {state}"
        heads.append(f"{row.subject} {what}")
        since = f"since {row.since_at:%Y-%m-%d %H:%M:%S} UTC" if row.since_at else ""
        lines.append(f"* {row.subject} {what} {since}".rstrip() + (f": {row.reason}" if row.reason else "."))
    more = f" and {len(heads) - 1} more" if len(heads) > 1 else ""
    body = "\n".join(lines) + (
        "\n\nA provider that is down or refuses its credentials is left out where another one serves the same model, "
        "and comes back by itself with the first check that succeeds.\n\n"
    )
    return f"Aperture: {heads[0]}{more}", f"{body}{settings.PUBLIC_URL}/admin/catalog/provider/\n"


def addresses() -> list[str]:
    """Return who is told: those of APERTURE_ALERT_EMAILS, else everybody who may use the admin."""
    if settings.ALERT_EMAILS:
        return list(settings.ALERT_EMAILS)
    staff = User.objects.filter(is_staff=True, is_active=True)
    return list(staff.order_by("email").values_list("email", flat=True))


def send(to: list[str], subject: str, body: str) -> bool:
    """Send one mail to each address; return False if none could be sent though there was somebody to send to."""
    subject, sent = " ".join(subject.split()), 0
    for address in to:
        try:
            sent += EmailMessage(subject, body, to=[address], connection=get_connection()).send()
        except Exception as error:
            # Whatever a mail server does, the other mails are sent.
            logger.warning("a mail about an upstream could not be sent: %s", type(error).__name__)
    return bool(sent) or not to
