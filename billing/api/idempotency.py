"""`Idempotency-Key` on writes, with Stripe's semantics (https://docs.stripe.com/api/idempotent_requests).

* The first write that began with a key is done, and its status and body are kept for a day, failures too; the same
  key with the same body gets them again. With another body it is refused (422).
* While it runs, its duplicates are refused (409): a lock of PostgreSQL's that a session holds and that a crash frees.
* Nothing is kept of what was refused before it began (who asks, what the body says), nor where nothing was decided:
  too many tries, or a database or another service that did not answer.

What a write changes and its kept answer are one transaction, so neither is there without the other. A write that asks
another service in between cannot be: it commits in steps, and its own business keys keep it from being done twice.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from django.db import connection, transaction
from django.http import HttpResponse, HttpResponseBase
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api import errors
from billing.api.errors import Fault
from billing.api.view import CallerView
from billing.idempotency import LIFETIME
from billing.models import ApiIdempotency

KEY_MAX = 255
REPLAYED_HEADER = "Idempotent-Replayed"
# Statuses by which nothing was decided.
UNDECIDED = {429, 502, 503}
Write = Callable[[], Response]


def once(view: CallerView, request: Request, write: Write, *, one_transaction: bool = True) -> HttpResponseBase:
    """Do WRITE, once for its key if it has one, and return its answer; raise Fault 400, 409 or 422.

    Call it when nothing is left to be refused. Without `one_transaction` WRITE commits as it goes.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        with _effects(one_transaction):
            return write()
    if not 0 < len(key) <= KEY_MAX or not (key.isascii() and key.isprintable()):
        raise Fault("invalid_parameter", f"Idempotency-Key takes 1 to {KEY_MAX} printable ASCII characters.")
    scope = {"organization_id": view.organization.pk, "path": request.path, "key": key}
    body_digest = getattr(request, "body_digest", hashlib.sha256(b"").digest())
    with _alone(f"{view.organization.pk} {request.path} {key}"):
        kept = ApiIdempotency.objects.filter(**scope).first()
        if kept is not None and kept.created_at > timezone.now() - LIFETIME:
            return _again(kept, body_digest)
        with transaction.atomic() if one_transaction else nullcontext():
            response = _done(view, write, one_transaction)
            if response.status_code not in UNDECIDED:
                ApiIdempotency.objects.filter(**scope).delete()
                ApiIdempotency.objects.create(
                    **scope, body_digest=body_digest, status=response.status_code, answer=_rendered(view, response)
                )
    return response


def _done(view: CallerView, write: Write, one_transaction: bool) -> Response:
    """Return the answer of a write; of a failed one nothing stays but the answer."""
    try:
        with _effects(one_transaction):
            return write()
    except Exception as error:
        if errors.fault_of(error).status in UNDECIDED:
            raise
        return errors.envelope(errors.logged(error, view.request_id), view.request_id)


def _effects(one_transaction: bool) -> AbstractContextManager[None]:
    return transaction.atomic() if one_transaction else nullcontext()


def _again(kept: ApiIdempotency, body_digest: bytes) -> HttpResponse:
    """Return the kept answer; raise Fault if the body was another."""
    if bytes(kept.body_digest) != body_digest:
        raise Fault("idempotency_mismatch", "This Idempotency-Key came with another body; use a new key.")
    response = HttpResponse(bytes(kept.answer), status=kept.status, content_type="application/json")
    response[REPLAYED_HEADER] = "true"
    return response


def _rendered(view: CallerView, response: Response) -> bytes:
    rendered = view.get_renderers()[0].render(response.data)
    return rendered if isinstance(rendered, bytes) else rendered.encode()


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Hold the one lock of this name; raise Fault where somebody else does."""
    number = int.from_bytes(hashlib.sha256(f"billing-api {name}".encode()).digest()[:8], signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
        if cursor.fetchone() != (True,):
            raise Fault("idempotency_conflict", "A request with this Idempotency-Key is running; wait for its answer.")
    try:
        yield
    finally:
        # A connection that broke has lost the lock already.
        if connection.connection is not None and not connection.connection.closed:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [number])
