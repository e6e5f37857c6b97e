"""Celery's side of payments: each task is a name for one verb. None of them is needed to serve a request."""

from celery import shared_task
from django.core.cache import cache

from billing.payments import inbox, reconciliation, refunds, stripe_api

SWEEPING = "billing.payments.sweeping"
# Longer than a sweep takes with its last call to Stripe timing out, for the case that its worker is killed.
SWEEPING_S = 180


@shared_task(name="billing.payments.sweep")
def sweep() -> None:
    """Process the events that are due, and look after refunds without an answer.

    One at a time: while Stripe does not answer, sweeps must not take all of the worker's threads.
    """
    if stripe_api.is_on() and cache.add(SWEEPING, 1, SWEEPING_S):
        try:
            inbox.sweep()
            refunds.resume()
        finally:
            cache.delete(SWEEPING)


@shared_task(name="billing.payments.reconcile", soft_time_limit=1800, time_limit=1860)
def reconcile() -> None:
    """Post what webhooks have missed, and forget old events."""
    if stripe_api.is_on():
        reconciliation.reconcile()
        inbox.prune()
