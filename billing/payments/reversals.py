"""Refunds and disputes: what goes back to a card is taken back from the wallet, in proportion and once.

Every refund and dispute has a row. Its first sight takes the credit (below zero too); failure or victory returns
exactly what was taken; nothing is taken after that. A dispute freezes the wallet when it is first seen, so an operator
who lifts the freeze is not overruled by an old message.

Books: a payment brought `amount` without tax into clearing, of which the wallet got `credit` and revenue the rest (or
promotions paid what was missing). A reversal moves its share of both the other way. Tax is not in the ledger.
"""

from dataclasses import dataclass
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from billing import ledger, money
from billing.models import House, Kind, Payment, Reversal, Transfer, Wallet
from billing.money import Money
from billing.payments import stripe_api
from billing.payments.stripe_api import Thing

REFUND_FAILED = {"failed", "canceled"}
DISPUTE_WON = {"won"}
# Inquiries, and disputes that never became one: no money has moved.
NOT_YET_DISPUTED = {"warning_needs_response", "warning_under_review", "warning_closed", "prevented"}


@dataclass(frozen=True)
class Reported:
    """A refund or a dispute as Stripe describes it now; `live` while the money is away from us."""

    kind: str
    stripe_id: str
    amount_cents: int
    live: bool
    token: str = ""


def of_refund(refund: Thing) -> Reported:
    """Read a refund of Stripe's. The token is a hint: it finds a row of ours, which must then agree."""
    token = (refund.get("metadata") or {}).get("aperture_refund", "")
    live = refund["status"] not in REFUND_FAILED
    return Reported(Reversal.REFUND, refund["id"], refund["amount"], live, token)


def of_dispute(dispute: Thing) -> Reported | None:
    """Read a dispute of Stripe's; None while it is a mere inquiry."""
    if dispute["status"] in NOT_YET_DISPUTED:
        return None
    return Reported(Reversal.DISPUTE, dispute["id"], dispute["amount"], dispute["status"] not in DISPUTE_WON)


def reported(intent_id: str | None) -> list[Reported]:
    """Ask Stripe for everything that went back of a payment."""
    if intent_id is None:
        return []
    found = [of_refund(each) for each in stripe_api.refunds(intent_id)]
    return found + [each for each in map(of_dispute, stripe_api.disputes(intent_id)) if each]


def follow(payment: Payment, all_reported: list[Reported]) -> None:
    """Bring a paid payment's reversals to what Stripe reported. The payment's row is locked by the caller."""
    for each in all_reported:
        row = _row_of(payment, each)
        if row is None:
            row = _first_seen(payment, each)
        elif row.status == Reversal.ASKED:
            row.stripe_id, row.status = each.stripe_id, Reversal.TAKEN
            row.save(update_fields=["stripe_id", "status"])
        if row.status == Reversal.TAKEN and not each.live:
            give_back(row)


def _row_of(payment: Payment, each: Reported) -> Reversal | None:
    row = payment.reversals.filter(stripe_id=each.stripe_id).first()
    if row is None and each.token:
        asked = payment.reversals.filter(status=Reversal.ASKED, stripe_id=None, amount_cents=each.amount_cents)
        row = next((own for own in asked if str(own.token) == each.token), None)
    return row


def _first_seen(payment: Payment, each: Reported) -> Reversal:
    net, credit = shares(payment, each.amount_cents) if each.live else (money.ZERO, money.ZERO)
    row = Reversal(
        payment=payment,
        kind=each.kind,
        status=Reversal.TAKEN if each.live else Reversal.RETURNED,
        stripe_id=each.stripe_id,
        reference=f"stripe:{each.kind}:{each.stripe_id}",
        amount_cents=each.amount_cents,
        reason=f"{each.kind} {each.stripe_id} at Stripe",
    )
    take(row, net, credit)
    if each.live and each.kind == Reversal.DISPUTE:
        _freeze(row)
    return row


def shares(payment: Payment, amount_cents: int) -> tuple[Money, Money]:
    """Return what AMOUNT_CENTS more going back means without tax, and for the wallet.

    Shares are those of the running total, less what was taken: parts of any size add up to the whole, to the
    nano-dollar, and never to more.
    """
    live = payment.reversals.exclude(status=Reversal.RETURNED)
    taken = live.aggregate(cents=Sum("amount_cents"), net=Sum("net_nanos"), credit=Sum("credit_nanos"))
    total = max(payment.total_cents, 1)
    back = min((taken["cents"] or 0) + amount_cents, total)
    net = money.ratio(money.of_cents(payment.amount_cents).nanos * back, total) - (taken["net"] or 0)
    credit = money.ratio(payment.credit_nanos * back, total) - (taken["credit"] or 0)
    return Money(max(net, 0)), Money(max(credit, 0))


def take(row: Reversal, net: Money, credit: Money, actor_id: int | None = None) -> None:
    """Save a new reversal and take its credit from the wallet, the rest from where the payment's went."""
    row.net_nanos, row.credit_nanos = net.nanos, credit.nanos
    row.save()
    kind = Kind.DISPUTE if row.kind == Reversal.DISPUTE else Kind.REFUND
    about: dict[str, Any] = {"kind": kind, "reason": row.reason, "actor_id": actor_id}
    postings = []
    if credit:
        wallet_id = row.payment.organization_id
        postings.append(ledger.Posting(wallet_id, House.CLEARING, credit, reference=row.reference, **about))
    if net > credit:
        postings.append(
            ledger.Posting(House.REVENUE, House.CLEARING, net - credit, reference=f"{row.reference}:rest", **about)
        )
    elif credit > net:
        postings.append(
            ledger.Posting(House.CLEARING, House.PROMOTIONS, credit - net, reference=f"{row.reference}:rest", **about)
        )
    ledger.post(*postings)


def give_back(row: Reversal) -> None:
    """Return exactly what was taken: the refund did not happen, or the dispute is won."""
    kind = Kind.DISPUTE_WON if row.kind == Reversal.DISPUTE else Kind.CORRECTION
    # What an operator has corrected meanwhile is returned already; the lock is the one that a correction takes.
    ledger.lock([row.payment.organization_id])
    own = Transfer.objects.filter(reference__in=[row.reference, f"{row.reference}:rest"])
    taken = own.filter(corrections=None).order_by("pk")
    ledger.post(
        *(
            ledger.Posting(
                transfer.credit_id,
                transfer.debit_id,
                Money(transfer.amount_nanos),
                kind,
                reference=f"{transfer.reference}:returned",
                reason=f"{row.reason}: returned",
                corrects_id=transfer.pk,
            )
            for transfer in taken
        )
    )
    row.status = Reversal.RETURNED
    row.save(update_fields=["status"])
    if row.kind == Reversal.DISPUTE:
        _unfreeze(row)


def _freeze(row: Reversal) -> None:
    # Locked first, so that another dispute's end is seen whole or waits.
    ledger.lock([row.payment.organization_id])
    now = timezone.now()
    if Wallet.objects.filter(pk=row.payment.organization_id, frozen_at=None).update(frozen_at=now):
        row.froze_at = now
        row.save(update_fields=["froze_at"])


def _unfreeze(row: Reversal) -> None:
    """Lift the freeze of disputes once none is open or lost; one that an operator set stays."""
    ledger.lock([row.payment.organization_id])
    disputes = Reversal.objects.filter(payment__organization_id=row.payment.organization_id, kind=Reversal.DISPUTE)
    if not disputes.filter(status=Reversal.TAKEN).exists():
        own = disputes.exclude(froze_at=None).values("froze_at")
        Wallet.objects.filter(pk=row.payment.organization_id, frozen_at__in=own).update(frozen_at=None)
