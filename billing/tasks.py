"""Background tasks of money: each calls one verb. Nothing waits on them to serve a request.

Each may run twice, late, or on several nodes at once: the verbs they call see to that. `aperture_site.celery` says
when they run.
"""

from contextlib import suppress
from pathlib import Path

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from billing import alerts, archive, idempotency, monthly_credit, partitions, rollups
from billing import reconcile as books


@shared_task
def ensure_partitions() -> None:
    """Make the usage table's next months."""
    partitions.ensure(timezone.now())


@shared_task(soft_time_limit=3000, time_limit=3060)
def detach_old_months() -> None:
    """Take the months that are no longer kept out of the usage table, and their hours out of the sums."""
    now, keep_months = timezone.now(), settings.USAGE_MONTHS
    if keep_months:
        kept = partitions.kept_since(now, keep_months)
        # What is detached is not added up any more.
        with suppress(rollups.AlreadyRunning):
            rollups.run(rollups.clock())
        if rollups.reached(kept):
            partitions.retire(now, keep_months)
            rollups.forget_hours(kept)
    if settings.USAGE_ARCHIVE_DIR:
        archive.run(Path(settings.USAGE_ARCHIVE_DIR))


@shared_task
def prune_idempotency_keys() -> None:
    """Forget the keys of more than a day ago."""
    idempotency.prune(timezone.now())


@shared_task(soft_time_limit=3000, time_limit=3060)
def roll_up_usage() -> None:
    """Add usage up by hour and day."""
    with suppress(rollups.AlreadyRunning):
        rollups.run(rollups.clock())


@shared_task(soft_time_limit=3000, time_limit=3060)
def reconcile() -> None:
    """Compare the records of money with each other; the admin lists what differs."""
    # Another node's task does it at this moment: as good.
    with suppress(books.AlreadyRunning):
        books.run(timezone.now())


@shared_task
def report_overdue_holds() -> None:
    """Report holds that nobody closes although their lease ended; the web processes close them, this only tells."""
    books.report_overdue_holds(timezone.now())


@shared_task
def post_monthly_credit() -> None:
    """Post the monthly credit of plans that were given by hand."""
    monthly_credit.post_due(timezone.now())


@shared_task
def send_alerts() -> None:
    """Tell by mail of spending limits that are being used up, and of balances that have become low."""
    now = timezone.now()
    alerts.watch_limits(now)
    alerts.watch_balances(now)
