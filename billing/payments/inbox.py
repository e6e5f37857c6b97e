"""The inbox of Stripe's events: stored once when they arrive, processed until that succeeds.

Invariants: an event is stored at most once, under its own id, and only with a valid signature. It is processed at
least once; two workers that process the same one at once do no harm, for what they do is done under the lock of the
payment and keyed in the ledger. A failure is kept on the event and tried again, ever more seldom, at least four times a
day.
"""

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from billing.models import Payment, StripeEvent
from billing.payments import events
from billing.payments.mismatch import Mismatch

logger = logging.getLogger("billing.payments")

TASK = "billing.payments.process"
# Stripe's own tolerance: an older signature may be a copy that somebody kept.
TOLERANCE_S = 300
# A task is sent at once; the sweep comes after it, in case that the broker lost it.
FIRST_SWEEP = timedelta(seconds=30)
LONGEST_WAIT = timedelta(hours=6)
KEPT = timedelta(days=90)
ERROR_MAX = 2000


class Forged(Exception):
    """A message that Stripe did not sign with our secret, or not lately."""


def verified(body: bytes, signature: str) -> dict[str, Any]:
    """Return the event in BODY if one of the webhook's secrets signed exactly these bytes; else raise Forged.

    https://docs.stripe.com/webhooks#verify-manually
    """
    import stripe

    for secret in settings.STRIPE_WEBHOOK_SECRETS:
        try:
            if secret:
                stripe.WebhookSignature.verify_header(body, signature, secret, TOLERANCE_S)
                event = json.loads(body)
                if isinstance(event, dict) and event.get("object") == "event":
                    return event
        except (stripe.SignatureVerificationError, ValueError):
            continue
    raise Forged("No valid signature of Stripe's; check the endpoint's signing secret and this machine's clock.")


def store(event: dict[str, Any]) -> str:
    """Keep an event for processing, once; return its id."""
    row = StripeEvent(
        id=event["id"],
        type=event["type"],
        created=datetime.fromtimestamp(event["created"], UTC),
        payload=event,
        due_at=timezone.now() + FIRST_SWEEP,
    )
    StripeEvent.objects.bulk_create([row], ignore_conflicts=True)
    return row.id


def announce(event_id: str) -> None:
    """Have a worker process an event now; without a broker the sweep does it later."""
    from celery import Celery

    try:
        with Celery(broker=settings.CELERY_BROKER_URL, set_as_current=False) as producer:
            producer.send_task(TASK, [event_id], ignore_result=True, retry=False)
    except Exception as error:  # Whatever fails there: the event is stored, and that is what Stripe is told.
        logger.warning("Stripe event %s waits for the next sweep: %s", event_id, error)


def process(event_id: str) -> bool:
    """Process an event if it was not yet; return whether it is processed. What fails is logged, kept and due again."""
    event = StripeEvent.objects.filter(pk=event_id).first()
    if event is None or event.processed_at is not None:
        return event is not None
    wait = min(FIRST_SWEEP * 2 ** min(event.attempts, 16), LONGEST_WAIT)
    own = StripeEvent.objects.filter(pk=event_id)
    own.update(attempts=F("attempts") + 1, due_at=timezone.now() + wait)
    try:
        events.handle(event.type, event.payload)
    except Exception as error:  # Whatever fails is told where an operator looks, and does not stop the others.
        logger.exception("Stripe event %s (%s) could not be processed", event_id, event.type)
        own.filter(processed_at=None).update(error=f"{type(error).__name__}: {error}"[:ERROR_MAX])
        if isinstance(error, Mismatch) and error.payment_id:
            Payment.objects.filter(pk=error.payment_id).update(error=str(error)[:ERROR_MAX])
        return False
    own.update(processed_at=timezone.now(), error="")
    return True


def sweep() -> int:
    """Process the events that are due; return how many were."""
    due = StripeEvent.objects.filter(processed_at=None, due_at__lte=timezone.now()).order_by("created", "pk")
    return sum(process(event_id) for event_id in list(due.values_list("pk", flat=True)[:200]))


def prune() -> int:
    """Delete events that were processed long ago: they hold names and addresses. Return how many there were."""
    return StripeEvent.objects.filter(processed_at__lt=timezone.now() - KEPT).delete()[0]
