"""Subscriptions: an organization is on the plan that its subscription pays for, and on Free when that ends.

A subscription belongs to the organization whose customer it names at Stripe, and to the plan that has its price. The
plan of an organization changes only when the subscription itself begins, ends or changes, so a plan that an operator
chose is left alone otherwise. Whatever ends, posted credit stays.
"""

from datetime import UTC, datetime

from django.db import transaction
from django.utils import timezone

from billing import ledger
from billing.models import Plan, StripeCustomer, Subscription, Wallet
from billing.money import NANOS_PER_CENT
from billing.payments import stripe_api
from billing.payments.mismatch import Mismatch, identifier
from billing.payments.stripe_api import Thing


def follow(stripe_id: str) -> Subscription | None:
    """Bring a subscription to what Stripe says of it now; return its row, or None if its customer is not ours."""
    row = Subscription.objects.filter(stripe_id=stripe_id).first() or _first_seen(stripe_api.subscription(stripe_id))
    if row is None:
        return None
    with transaction.atomic():
        row = Subscription.objects.select_for_update().get(pk=row.pk)
        # Asked under the lock: of two that follow it at once, the later one has the later answer.
        _apply(row, stripe_api.subscription(stripe_id))
    return row


def _first_seen(subscription: Thing) -> Subscription | None:
    customer = StripeCustomer.objects.filter(stripe_id=identifier(subscription["customer"])).first()
    if customer is None:
        return None
    price_id = _item(subscription)["price"]["id"]
    plan = plan_of(price_id, subscription)
    return Subscription.objects.get_or_create(
        stripe_id=subscription["id"],
        defaults={
            "organization_id": customer.pk,
            "plan": plan,
            "stripe_price_id": price_id,
            "price_cents": plan.price_nanos // NANOS_PER_CENT,
        },
    )[0]


def plan_of(price_id: str, thing: Thing) -> Plan:
    """Return the plan that has a price of Stripe's; raise Mismatch if none has."""
    plan = Plan.objects.filter(stripe_price_id=price_id).order_by("position", "pk").first() if price_id else None
    if plan is None:
        raise Mismatch(
            f"{thing['object']} {thing['id']}: no plan has the Stripe price {price_id!r}. Put it into its plan's "
            "Stripe price id, then process the event again."
        )
    return plan


def _item(subscription: Thing) -> Thing:
    items: list[Thing] = subscription["items"]["data"]
    if len(items) != 1:
        raise Mismatch(f"subscription {subscription['id']} has {len(items)} prices; a plan's has exactly one.")
    return items[0]


def _apply(row: Subscription, subscription: Thing) -> None:
    item = _item(subscription)
    entitled, plan = row.entitles, row.plan
    if item["price"]["id"] != row.stripe_price_id:
        row.plan = plan_of(item["price"]["id"], subscription)
        row.stripe_price_id = item["price"]["id"]
        row.price_cents = row.plan.price_nanos // NANOS_PER_CENT
    row.status = subscription["status"]
    row.cancel_at_period_end = bool(subscription.get("cancel_at_period_end"))
    row.period_begins_at = _moment(item.get("current_period_start"))
    row.period_ends_at = _moment(item.get("current_period_end"))
    row.seen_at = timezone.now()
    row.save()
    if row.entitles and not (entitled and row.plan_id == plan.pk):
        ledger.set_plan(row.organization_id, row.plan)
    elif entitled and not row.entitles:
        _end(row)


def _end(row: Subscription) -> None:
    """Put the organization back where it was without this subscription, unless it is on another plan by now."""
    others = Subscription.objects.filter(organization_id=row.organization_id, status__in=Subscription.ENTITLING)
    other = others.exclude(pk=row.pk).order_by("-pk").first()
    if Wallet.objects.filter(pk=row.organization_id, plan_id=row.plan_id).exists():
        ledger.set_plan(row.organization_id, other.plan if other else free_plan())


def free_plan() -> Plan:
    """Return the plan of those who pay for none: Free, or the first one where an operator has deleted it."""
    return Plan.objects.filter(slug=Plan.FREE).first() or Plan.objects.order_by("position", "pk")[0]


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
