"""Every call to Stripe, and the only import of its package's client; what comes back are plain dictionaries.

The package takes a sixth of a second to load, so it is imported at the first call and never when a web process starts.
Its API version is the one the package was made for, whatever the account's default is. What moves money carries an
idempotency key of a stored row; the package gives every other call one for its own retries.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.conf import settings

if TYPE_CHECKING:
    from stripe import StripeClient
    from stripe._stripe_object import StripeObject

TIMEOUT_S = 20
RETRIES = 2
PAGE = 100

Thing = dict[str, Any]


class CardPaymentsOff(Exception):
    """No Stripe keys are set."""

    def __init__(self) -> None:
        super().__init__("Card payment is off on this installation. Its operator can switch it on with Stripe's keys.")


def is_on() -> bool:
    """Say whether payments by card can be taken: with a key to call Stripe, and a secret that its webhooks need."""
    return bool(settings.STRIPE_SECRET_KEY and settings.STRIPE_WEBHOOK_SECRETS)


def client() -> "StripeClient":
    """Return the client of the configured account; raise CardPaymentsOff without one."""
    if not is_on():
        raise CardPaymentsOff
    return _client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE)


@lru_cache(maxsize=2)
def _client(key: str, api_base: str) -> "StripeClient":
    import stripe

    return stripe.StripeClient(
        key,
        base_addresses={"api": api_base},
        max_network_retries=RETRIES,
        http_client=stripe.RequestsClient(timeout=TIMEOUT_S),
    )


def _plain(thing: "StripeObject") -> Thing:
    return thing.to_dict()


# --- What makes something ---------------------------------------------------------------------------------------------
def make_customer(params: Any) -> Thing:
    return _plain(client().v1.customers.create(params))


def make_session(params: Any, key: str) -> Thing:
    return _plain(client().v1.checkout.sessions.create(params, {"idempotency_key": key}))


def make_portal_session(params: Any) -> Thing:
    return _plain(client().v1.billing_portal.sessions.create(params))


def make_refund(params: Any, key: str) -> Thing:
    return _plain(client().v1.refunds.create(params, {"idempotency_key": key}))


# --- What is so now ---------------------------------------------------------------------------------------------------
def session(session_id: str) -> Thing:
    """Return a Checkout session with its invoice, its payment intent and that one's latest charge."""
    expand = ["invoice", "payment_intent.latest_charge"]
    return _plain(client().v1.checkout.sessions.retrieve(session_id, {"expand": expand}))


def session_of(**about: str) -> Thing | None:
    """Return the newest Checkout session of a `payment_intent` or a `subscription`."""
    params: Any = {**about, "limit": 1}
    return next((_plain(each) for each in client().v1.checkout.sessions.list(params).data), None)


def invoice(invoice_id: str) -> Thing:
    """Return an invoice with its payments."""
    return _plain(client().v1.invoices.retrieve(invoice_id, {"expand": ["payments"]}))


def invoice_of(intent_id: str) -> str | None:
    """Return the id of the invoice that a payment intent paid."""
    found = client().v1.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": intent_id}, "limit": 1}
    )
    return next((str(_plain(each)["invoice"]) for each in found.data), None)


def subscription(subscription_id: str) -> Thing:
    return _plain(client().v1.subscriptions.retrieve(subscription_id))


def refunds(intent_id: str) -> list[Thing]:
    """Return all refunds of a payment, oldest first."""
    return _oldest_first(client().v1.refunds.list({"payment_intent": intent_id, "limit": PAGE}))


def disputes(intent_id: str) -> list[Thing]:
    """Return all disputes of a payment, oldest first."""
    return _oldest_first(client().v1.disputes.list({"payment_intent": intent_id, "limit": PAGE}))


def _oldest_first(found: Any) -> list[Thing]:
    return sorted((_plain(each) for each in found.auto_paging_iter()), key=lambda each: (each["created"], each["id"]))


# --- What happened since ----------------------------------------------------------------------------------------------
def sessions_since(moment_s: int) -> Iterator[Thing]:
    """Yield the completed Checkout sessions that were made since this Unix time."""
    found = client().v1.checkout.sessions.list({"created": {"gte": moment_s}, "status": "complete", "limit": PAGE})
    return (_plain(each) for each in found.auto_paging_iter())


def invoices_since(moment_s: int) -> Iterator[Thing]:
    """Yield the paid invoices that were made since this Unix time."""
    found = client().v1.invoices.list({"created": {"gte": moment_s}, "status": "paid", "limit": PAGE})
    return (_plain(each) for each in found.auto_paging_iter())


def refunds_since(moment_s: int) -> Iterator[Thing]:
    """Yield the refunds that were made since this Unix time."""
    found = client().v1.refunds.list({"created": {"gte": moment_s}, "limit": PAGE})
    return (_plain(each) for each in found.auto_paging_iter())


def disputes_since(moment_s: int) -> Iterator[Thing]:
    """Yield the disputes that were opened since this Unix time."""
    found = client().v1.disputes.list({"created": {"gte": moment_s}, "limit": PAGE})
    return (_plain(each) for each in found.auto_paging_iter())
