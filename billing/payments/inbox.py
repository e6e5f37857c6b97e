"""The inbox of Stripe's events: stored once when they arrive, processed until that succeeds.

Invariants: an event is stored at most once, under its own id, and only with a valid signature. It is processed at
least once; two workers that process the same one at once do no harm, for what they do is done under the lock of the
payment and keyed in the ledger. A failure is kept on the event and tried again, ever more seldom, at least four times a
day.

The rows are the queue: the web process only inserts them, needs no broker for it and never loads Celery; a task sweeps
them every two seconds.
"""

import json
import logging
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from billing.models import Payment, StripeEvent
from billing.payments import events
from billing.payments.mismatch import Mismatch

logger = logging.getLogger("billing.payments")

# Stripe's own tolerance: an older signature may be a copy that somebody kept.
TOLERANCE_S = 300
# No other worker takes an event while it may be processed; after a failure each wait is twice the one before.
FIRST_WAIT = timedelta(seconds=90)
LONGEST_WAIT = timedelta(hours=6)
KEPT = timedelta(days=90)
SWEEP_S = 60
SWEEP_MAX = 500
ERROR_MAX = 2000
# PostgreSQL's jsonb has no NUL, which a payer may have typed into a name. A backslash before it that is itself escaped
# makes it a text about NUL.
NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


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
                event = json.loads(NUL.sub(rb"\1", body))
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
        due_at=timezone.now(),
    )
    if not (isinstance(row.id, str) and isinstance(row.type, str) and row.id):
        raise ValueError("id and type are texts")
    StripeEvent.objects.bulk_create([row], ignore_conflicts=True)
    return row.id


def process(event_id: str) -> bool:
    """Process an event that is due; return whether that succeeded.

    What fails is logged, kept on the event, and due again.
    """
    own, now = StripeEvent.objects.filter(pk=event_id), timezone.now()
    event = own.filter(processed_at=None, due_at__lte=now).first()
    if event is None:
        return False
    wait = min(FIRST_WAIT * 2 ** min(event.attempts, 16), LONGEST_WAIT)
    # Of two workers that have read the same row, one moves it.
    if not own.filter(processed_at=None, due_at=event.due_at).update(attempts=F("attempts") + 1, due_at=now + wait):
        return False
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


def again(event_id: str) -> bool:
    """Process an event now, whether it was or is waiting for its time; return whether that succeeded."""
    StripeEvent.objects.filter(pk=event_id).update(processed_at=None, due_at=timezone.now())
    return process(event_id)


def sweep() -> int:
    """Process the events that are due, until none is left or the time for one sweep is over; return how many were."""
    ends_at = time.monotonic() + SWEEP_S
    due = StripeEvent.objects.filter(processed_at=None, due_at__lte=timezone.now()).order_by("created", "pk")
    done = 0
    for event_id in list(due.values_list("pk", flat=True)[:SWEEP_MAX]):
        if time.monotonic() > ends_at:
            break
        done += process(event_id)
    return done


def prune() -> int:
    """Delete events that were processed long ago: they hold names and addresses. Return how many there were."""
    return StripeEvent.objects.filter(processed_at__lt=timezone.now() - KEPT).delete()[0]
