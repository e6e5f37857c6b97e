"""The webhook: who may speak, how much, and what happens when messages come twice, late, shuffled or never."""

import json
import random
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
import stripe
from django.core.cache import cache
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import User
from billing.models import Payment, StripeEvent, Subscription, Transfer, Wallet
from billing.payments import events, inbox, tasks, top_ups, views
from tests.billing.payments.shop import Shop
from tests.installation import signed_in
from tests.races import at_once
from tests.stripe.server import SECRET, FakeStripe

pytestmark = pytest.mark.server


def paid_event(shop: Shop) -> dict[str, Any]:
    """Return the event of a session that was paid."""
    shop.pay(shop.begin())
    return next(event for event in shop.fake.new_events() if event["type"] == "checkout.session.completed")


# --- Who may speak ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("secrets", [[], [""]])
def test_a_webhook_signed_with_an_empty_secret_is_refused(shop: Shop, settings: Any, secrets: list[str]) -> None:
    """CVE-2026-41432 of new-api: the secret was empty by default, so anybody could sign."""
    event = paid_event(shop)
    settings.STRIPE_WEBHOOK_SECRETS = secrets
    assert shop.fake.send(event, shop.post, secret="") in (400, 503)
    assert (StripeEvent.objects.count(), shop.balance) == (0, "0.00")


def test_an_unsigned_webhook_is_refused(shop: Shop) -> None:
    body = json.dumps(paid_event(shop)).encode()
    for signature in ("", "t=1", "v1=00", "t=x,v1=00", f"t={int(time.time())}", "\xe9", "t=1,v1", ","):
        assert shop.post(body, signature) == 400
    assert StripeEvent.objects.count() == 0


def test_a_wrong_signature_is_refused(shop: Shop) -> None:
    assert shop.fake.send(paid_event(shop), shop.post, secret="whsec_wrong") == 400
    assert StripeEvent.objects.count() == 0


def test_a_changed_byte_is_refused(shop: Shop) -> None:
    body = json.dumps(paid_event(shop))
    signature = stripe.WebhookSignature.generate_signature_header(body, SECRET)
    assert shop.post(body.replace("2500", "9500").encode(), signature) == 400
    assert shop.post(b"\xff" + body.encode(), signature) == 400


@pytest.mark.parametrize(("age_s", "status"), [(290, 200), (310, 400)])
def test_an_old_timestamp_is_refused(shop: Shop, age_s: int, status: int) -> None:
    assert shop.fake.send(paid_event(shop), shop.post, timestamp=int(time.time()) - age_s) == status


def test_a_new_and_an_old_secret_hold_while_one_replaces_the_other(shop: Shop, settings: Any) -> None:
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", SECRET]
    event = paid_event(shop)
    assert [shop.fake.send(event, shop.post, secret=each) for each in ("whsec_new", SECRET)] == [200, 200]


@pytest.mark.parametrize(
    "body",
    [
        '{"object": "event"}',
        '{"object": "event", "id": 7, "type": "x", "created": "x"}',
        '{"object": "event", "id": null, "type": "x", "created": 1}',
        '{"object": "event", "id": "evt_1", "type": "x", "created": 1e300}',
        '{"object": "event", "id": "evt_1", "type": "x", "created": 99999999999999}',
        '{"object": "other"}',
        "[]",
        "{",
    ],
)
def test_a_signed_body_that_is_no_event_is_refused(shop: Shop, body: str) -> None:
    signature = stripe.WebhookSignature.generate_signature_header(body, SECRET)
    assert shop.post(body.encode(), signature) == 400
    assert StripeEvent.objects.count() == 0


@pytest.mark.parametrize(
    ("name", "stored"), [("a\u0000b", "ab"), ("\\\u0000", "\\"), (r"a\u0000b", r"a\u0000b"), (r"a\\u0000", r"a\\u0000")]
)
def test_a_name_with_a_nul_is_stored_without_it_and_one_that_only_writes_it_as_it_is(
    shop: Shop, name: str, stored: str
) -> None:
    event = paid_event(shop) | {"note": name}
    assert shop.fake.send(event, shop.post) == 200
    assert (StripeEvent.objects.get().payload["note"], shop.balance) == (stored, "25.00")


def test_a_body_over_the_bound_is_refused_before_its_signature_is_checked(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2026-64868 of new-api: bodies were read whole before the signature. Over sockets: test_small_bodies."""
    monkeypatch.setattr(inbox, "verified", None)
    assert shop.post(b"x" * (views.WEBHOOK_BYTES_MAX + 1), "t=1,v1=0") == 413


def test_without_keys_the_webhook_says_so(shop: Shop, settings: Any) -> None:
    event = paid_event(shop)
    settings.STRIPE_SECRET_KEY = ""
    assert shop.fake.send(event, shop.post) == 503


def test_the_webhook_takes_nothing_but_posts(shop: Shop) -> None:
    assert shop.browser.get("/webhooks/stripe").status_code == 405


# --- Twice, late, shuffled, never -------------------------------------------------------------------------------------
def test_a_replayed_event_is_stored_and_posted_once(shop: Shop) -> None:
    event = paid_event(shop)
    for _ in range(5):
        assert shop.fake.send(event, shop.post) == 200
    assert (StripeEvent.objects.count(), Transfer.objects.count(), shop.balance) == (1, 1, "25.00")
    assert StripeEvent.objects.get().attempts == 1


def test_two_events_of_one_payment_post_it_once(shop: Shop) -> None:
    event = paid_event(shop)
    twin = event | {"id": "evt_twin", "type": "checkout.session.async_payment_succeeded"}
    assert [shop.fake.send(each, shop.post) for each in (event, twin)] == [200, 200]
    assert (StripeEvent.objects.count(), Transfer.objects.count(), shop.balance) == (2, 1, "25.00")


def test_what_an_event_says_is_asked_of_stripe_again(shop: Shop) -> None:
    payment = shop.begin()
    session = shop.fake.get(payment.stripe_session_id or "", "checkout.session")
    shop.fake.emit("checkout.session.completed", session | {"payment_status": "paid", "amount_total": 10**9})
    shop.deliver()
    assert (shop.balance, shop.errors()) == ("0.00", [])


@pytest.mark.parametrize("seed", range(6))
def test_any_order_with_doubles_ends_in_the_same_balance(shop: Shop, seed: int) -> None:
    chance = random.Random(seed)
    payment = shop.begin("100.00")
    shop.pay(payment)
    intent = shop.fake.get(payment.stripe_session_id or "", "checkout.session")["payment_intent"]
    shop.fake.refund(intent, 3000)
    failed = shop.fake.refund(intent, 2000)
    shop.fake.fail_refund(failed["id"])
    dispute = shop.fake.dispute(intent, 1500)
    shop.fake.close_dispute(dispute["id"], "won" if seed % 2 else "lost")
    events = shop.fake.new_events() * 2
    chance.shuffle(events)
    for event in events:
        assert shop.fake.send(event, shop.post) == 200
    assert shop.balance == ("70.00" if seed % 2 else "55.00")
    assert (shop.wallet.frozen_at is None) is bool(seed % 2)
    assert shop.errors() == []


def test_stripe_away_while_processing_is_made_good_by_the_sweep(shop: Shop, settings: Any) -> None:
    event, base = paid_event(shop), settings.STRIPE_API_BASE
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    assert shop.fake.send(event, shop.post) == 200
    stored = StripeEvent.objects.get()
    assert (stored.attempts, stored.processed_at, "APIConnectionError" in stored.error) == (1, None, True)
    settings.STRIPE_API_BASE = base
    assert inbox.sweep() == 0
    StripeEvent.objects.update(due_at=timezone.now())
    assert inbox.sweep() == 1
    stored.refresh_from_db()
    assert (stored.error, stored.processed_at is not None, shop.balance) == ("", True, "25.00")


def test_waits_grow_to_six_hours(shop: Shop) -> None:
    event = StripeEvent.objects.create(
        id="evt_1", type="refund.created", created=timezone.now(), payload={}, due_at=timezone.now()
    )
    waits = []
    for _ in range(12):
        assert not inbox.again(event.pk)
        event.refresh_from_db()
        waits.append(round((event.due_at - timezone.now()) / timedelta(seconds=10)) * 10)
    assert waits == [90, 180, 360, 720, 1440, 2880, 5760, 11520, 21600, 21600, 21600, 21600]


def test_a_task_sweeps_unless_another_does(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    event = paid_event(shop)
    body = json.dumps(event)
    inbox.store(inbox.verified(body.encode(), stripe.WebhookSignature.generate_signature_header(body, SECRET)))
    cache.set(tasks.SWEEPING, 1)
    tasks.sweep()
    assert shop.balance == "0.00"
    cache.delete(tasks.SWEEPING)
    tasks.sweep()
    assert (shop.balance, cache.get(tasks.SWEEPING)) == ("25.00", None)


def test_old_events_are_forgotten_and_open_ones_kept(shop: Shop) -> None:
    old = timezone.now() - timedelta(days=91)
    for name, processed_at in (("old", old), ("open", None), ("new", timezone.now())):
        StripeEvent.objects.create(
            id=name, type="x", created=old, payload={}, due_at=old, processed_at=processed_at
        )  # fmt: skip
    assert inbox.prune() == 1
    assert set(StripeEvent.objects.values_list("pk", flat=True)) == {"open", "new"}


def test_workers_that_process_one_payment_at_once_post_it_once(fake: FakeStripe, transactional_db: None) -> None:
    user = User.objects.create_user("alice@example.com")
    shop = Shop(fake, user, signed_in(user))
    event = paid_event(shop)
    ids = [inbox.store(event | {"id": f"evt_{number}"}) for number in range(4)]
    at_once(*[lambda event_id=event_id: inbox.process(event_id) for event_id in ids * 2])
    assert StripeEvent.objects.filter(processed_at__isnull=False, attempts=1).count() == 4
    assert (Transfer.objects.count(), Wallet.objects.get().posted_nanos) == (1, 25_000_000_000)
    assert Payment.objects.get().status == Payment.PAID


@pytest.mark.parametrize("model", [Payment, Subscription])
def test_stripe_is_asked_under_the_lock_of_our_row(fake: FakeStripe, transactional_db: None, model: Any) -> None:
    """Of two workers, the one that posts last must also have asked last: else an old answer would win."""
    user = User.objects.create_user("alice@example.com")
    shop = Shop(fake, user, signed_in(user))
    shop.top_up()
    shop.subscribe(shop.sell("pro"))
    asked: list[str] = []
    fake.on_read = asked.append
    row = model.objects.earliest("pk")

    def work() -> None:
        try:
            events.subscription(row.stripe_id) if model is Subscription else top_ups.follow(row.pk)
        finally:
            connection.close()

    worker = threading.Thread(target=work)
    with transaction.atomic():
        model.objects.select_for_update().get(pk=row.pk)
        worker.start()
        time.sleep(0.4)
        assert asked == []
    worker.join()
    assert asked


def test_workers_that_follow_one_payment_at_once_take_its_refund_once(fake: FakeStripe, transactional_db: None) -> None:
    user = User.objects.create_user("alice@example.com")
    shop = Shop(fake, user, signed_in(user))
    payment = shop.top_up("25.00")
    fake.refund(payment.stripe_intent_id or "", 1000)
    at_once(*[lambda: events.intent(payment.stripe_intent_id or "")] * 6)
    assert shop.lines() == [("top-up", "25.00"), ("refund", "-10.00")]
