"""Background tasks of the gateway: nothing waits on them to serve a request."""

from celery import shared_task
from django.utils import timezone

from catalog import standings
from gateway import alarms, checks, discovery, price_refresh
from gateway.models import StoredResponse


@shared_task
def forget_stored_responses() -> None:
    """Delete what was kept for as long as it is kept."""
    StoredResponse.objects.filter(expires_at__lte=timezone.now()).delete()


@shared_task
def check_upstreams() -> None:
    """Check the providers that are due, and tell the operator of what went down or came back."""
    checks.run_due(timezone.now())
    alarms.tell(timezone.now())


@shared_task
def forget_checks() -> None:
    """Delete old checks, and old changes of state."""
    standings.prune(timezone.now())


@shared_task
def discover_models() -> None:
    """Compare what providers list with what is served from them."""
    discovery.run_due(timezone.now())


@shared_task
def refresh_prices() -> None:
    """Fetch the newest price data, begin the prices that changed, and put those that moved too far to the operator."""
    outcome = price_refresh.run(timezone.now())
    if outcome.problems:
        raise price_refresh.RefreshFailed("; ".join(outcome.problems))
