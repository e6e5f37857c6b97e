"""Celery's side of payments: each task is a name for one verb. None of them is needed to serve a request."""

from typing import Any

from celery import shared_task

from billing.payments import inbox, reconciliation, refunds, stripe_api


@shared_task(name=inbox.TASK)
def process(event_id: str, **_: Any) -> None:
    """Process an event that has just arrived."""
    inbox.process(event_id)


@shared_task(name="billing.payments.sweep")
def sweep(**_: Any) -> None:
    """Process the events that are due, and look after refunds without an answer."""
    if stripe_api.is_on():
        inbox.sweep()
        refunds.resume()


@shared_task(name="billing.payments.reconcile")
def reconcile(**_: Any) -> None:
    """Post what webhooks have missed, and forget old events."""
    if stripe_api.is_on():
        reconciliation.reconcile()
        inbox.prune()
