"""The fake Stripe keeps the promises that the product relies on, as the real client sees them."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from tests.stripe.server import KEY, FakeStripe, form, running


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with running() as (fake, _):
        yield fake


@pytest.fixture
def client(fake: FakeStripe) -> stripe.StripeClient:
    return stripe.StripeClient(KEY, base_addresses={"api": fake.base_url})


def session(client: stripe.StripeClient, cents: int = 500, key: str = "a key") -> stripe.checkout.Session:
    customer = client.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "customer"})
    price: Any = {"currency": "usd", "unit_amount": cents, "product_data": {"name": "Credit"}}
    return client.v1.checkout.sessions.create(
        {
            "customer": customer.id,
            "mode": "payment",
            "line_items": [{"price_data": price, "quantity": 1}],
            "success_url": "http://127.0.0.1/done",
        },
        {"idempotency_key": key},
    )


def test_a_nested_form_is_read() -> None:
    assert form("a[b][0]=c&a[b][1]=d&e=") == {"a": {"b": {"0": "c", "1": "d"}}, "e": ""}


def test_one_key_makes_one_thing_and_other_words_are_refused(fake: FakeStripe, client: stripe.StripeClient) -> None:
    assert session(client).id == session(client).id
    with pytest.raises(stripe.IdempotencyError):
        session(client, cents=600)
    assert len(fake.all("checkout.session")) == 1
    assert session(client, key="another").id != session(client).id


def test_a_wrong_key_is_refused(fake: FakeStripe) -> None:
    stranger = stripe.StripeClient("sk_test_wrong", base_addresses={"api": fake.base_url})
    with pytest.raises(stripe.AuthenticationError):
        stranger.v1.customers.create({})


def test_what_is_absent_is_said_to_be(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such checkout"):
        client.v1.checkout.sessions.retrieve("cs_absent")


def test_the_page_shows_the_sum_and_pays_once(fake: FakeStripe, client: stripe.StripeClient) -> None:
    made = session(client)
    assert made.url
    with urllib.request.urlopen(made.url) as page:
        assert b"Pay $5.00" in page.read()
    fake.pay(fake.get(made.id, "checkout.session"), "4242")
    seen = client.v1.checkout.sessions.retrieve(made.id, {"expand": ["payment_intent.latest_charge"]})
    assert seen.payment_status == "paid"
    assert isinstance(seen.payment_intent, stripe.PaymentIntent)
    assert isinstance(seen.payment_intent.latest_charge, stripe.Charge)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(made.url, b"card=4242")
    refused.value.close()


def test_lists_come_page_by_page_newest_first(client: stripe.StripeClient) -> None:
    ids = [session(client, key=str(number)).id for number in range(5)]
    found = client.v1.checkout.sessions.list({"limit": 2})
    assert [each.id for each in found.auto_paging_iter()] == ids[::-1]
