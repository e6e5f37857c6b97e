"""The state of the fake Stripe's one account, and what changes it: payers, the clock, banks.

Every change leaves the events that Stripe would send, with the object as it was at that moment. Objects have the shape
of API version 2026-10-28 as far as the product and the `stripe` package read them.
"""

import calendar
import copy
import time
from datetime import UTC, datetime
from typing import Any

Thing = dict[str, Any]

TAX_PERCENT = 20


class Refusal(Exception):
    """An error answer of the API."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", code: str = "") -> None:
        super().__init__(message)
        self.status, self.kind, self.code = status, kind, code


def a_month_after(moment_s: int, anchor_day: int) -> int:
    """Return the same time a month later, on the anchor's day or the month's last."""
    then = datetime.fromtimestamp(moment_s, UTC)
    year, month = (then.year + 1, 1) if then.month == 12 else (then.year, then.month + 1)
    day = min(anchor_day, calendar.monthrange(year, month)[1])
    return int(then.replace(year=year, month=month, day=day).timestamp())


class Account:
    """All objects by id, all events in order, and the clock."""

    def __init__(self) -> None:
        self.things: dict[str, Thing] = {}
        self.events: list[Thing] = []
        self.now_s = int(time.time())
        self.base_url = ""
        self.declined: set[str] = set()
        # What customers have paid too much, and are owed.
        self.balances: dict[str, int] = {}
        self._count = 0

    # --- Objects and events -------------------------------------------------------------------------------------------
    def make(self, kind: str, prefix: str, **fields: Any) -> Thing:
        self._count += 1
        identifier = f"{prefix}_{self._count:06d}"
        thing = {"id": identifier, "object": kind, "created": self.now_s, "livemode": False, "metadata": {}}
        self.things[identifier] = thing | fields
        return self.things[identifier]

    def get(self, identifier: str, kind: str) -> Thing:
        thing = self.things.get(identifier)
        if thing is None or thing["object"] != kind:
            raise Refusal(404, f"No such {kind}: '{identifier}'", code="resource_missing")
        return thing

    def all(self, kind: str, **same: Any) -> list[Thing]:
        """Return objects, newest first, that have these values."""
        found = [each for each in self.things.values() if each["object"] == kind]
        return [each for each in reversed(found) if all(each.get(name) == value for name, value in same.items())]

    def emit(self, kind: str, thing: Thing) -> None:
        shown = {name: value for name, value in thing.items() if name != "payments"}
        self._count += 1
        self.events.append(
            {
                "id": f"evt_{self._count:06d}",
                "object": "event",
                "api_version": "2026-10-28.endive",
                "created": self.now_s,
                "livemode": False,
                "pending_webhooks": 1,
                "request": {"id": None, "idempotency_key": None},
                "type": kind,
                "data": {"object": copy.deepcopy(shown)},
            }
        )

    # --- Paying -------------------------------------------------------------------------------------------------------
    def _charged(self, customer: str, amount: int, status: str = "succeeded") -> Thing:
        intent = self.make(
            "payment_intent", "pi", amount=amount, currency="usd", customer=customer, status=status, latest_charge=None
        )
        if status == "succeeded":
            self._charge(intent)
        return intent

    def _charge(self, intent: Thing) -> None:
        charge = self.make(
            "charge",
            "ch",
            amount=intent["amount"],
            amount_refunded=0,
            currency="usd",
            customer=intent["customer"],
            payment_intent=intent["id"],
            disputed=False,
            refunded=False,
        )
        charge["receipt_url"] = f"{self.base_url}/receipts/{charge['id']}"
        intent["latest_charge"], intent["status"] = charge["id"], "succeeded"
        self.emit("payment_intent.succeeded", intent)
        self.emit("charge.succeeded", charge)

    def _invoice(self, customer: str, lines: list[Thing], tax_percent: int, **fields: Any) -> Thing:
        discounts = sum(each["amount"] for line in lines for each in line.get("discount_amounts", []))
        subtotal = sum(line["amount"] for line in lines) - discounts
        tax = subtotal * tax_percent // 100
        invoice = self.make(
            "invoice",
            "in",
            currency="usd",
            customer=customer,
            status="open",
            subtotal=sum(line["amount"] for line in lines),
            total=subtotal + tax,
            total_excluding_tax=subtotal,
            amount_paid=0,
            amount_due=subtotal + tax,
            billing_reason="manual",
            parent=None,
            lines={"object": "list", "data": lines, "has_more": False, "url": ""},
            payments={"object": "list", "data": [], "has_more": False, "url": ""},
        )
        invoice |= fields
        invoice["number"] = f"APT-{len(self.all('invoice')):04d}"
        invoice["hosted_invoice_url"] = f"{self.base_url}/invoices/{invoice['id']}"
        invoice["invoice_pdf"] = f"{self.base_url}/invoices/{invoice['id']}/pdf"
        return invoice

    def _paid(self, invoice: Thing, intent: Thing) -> None:
        payment = self.make(
            "invoice_payment",
            "inpay",
            invoice=invoice["id"],
            amount_paid=intent["amount"],
            status="paid",
            payment={"type": "payment_intent", "payment_intent": intent["id"]},
        )
        invoice["payments"]["data"].append(payment)
        invoice["status"], invoice["amount_paid"], invoice["amount_due"] = "paid", intent["amount"], 0
        self.emit("invoice.paid", invoice)

    def pay(self, session: Thing, card: str) -> str:
        """Do what the hosted page does when its form is sent; return what it says."""
        if session["status"] != "open":
            raise Refusal(400, f"The session is {session['status']}.")
        if card == "declined":
            return "Your card was declined."
        if session["mode"] == "subscription":
            self._begin(session)
        elif card == "debit":
            intent = self._charged(session["customer"], session["amount_total"], "processing")
            session |= {"status": "complete", "payment_intent": intent["id"]}
            self.emit("checkout.session.completed", session)
        else:
            intent = self._charged(session["customer"], session["amount_total"])
            self._complete(session, intent, "checkout.session.completed")
        return "Thank you."

    def _complete(self, session: Thing, intent: Thing, kind: str) -> None:
        session |= {"status": "complete", "payment_status": "paid", "payment_intent": intent["id"]}
        invoice = None
        if session["invoice_creation"]:
            details = session["total_details"]
            percent = TAX_PERCENT if details["amount_tax"] else 0
            line = {"id": f"il_{session['id']}", "object": "line_item", "amount": session["amount_subtotal"]}
            invoice = self._invoice(session["customer"], [line], percent)
            session["invoice"] = invoice["id"]
        self.emit(kind, session)
        if invoice:
            self._paid(invoice, intent)

    def bank_decides(self, session_id: str, *, paid: bool) -> None:
        """End a delayed payment."""
        session = self.get(session_id, "checkout.session")
        intent = self.get(session["payment_intent"], "payment_intent")
        if paid:
            self._charge(intent)
            self._complete(session, intent, "checkout.session.async_payment_succeeded")
        else:
            intent["status"] = "requires_payment_method"
            self.emit("checkout.session.async_payment_failed", session)

    def expire(self, session: Thing) -> Thing:
        session["status"] = "expired"
        self.emit("checkout.session.expired", session)
        return session

    # --- Subscriptions ------------------------------------------------------------------------------------------------
    def _begin(self, session: Thing) -> None:
        price = self.get(session["price"], "price")
        begins = self.now_s
        anchor = datetime.fromtimestamp(begins, UTC).day
        item = {
            "id": f"si_{session['id']}",
            "object": "subscription_item",
            "price": price,
            "quantity": 1,
            "current_period_start": begins,
            "current_period_end": a_month_after(begins, anchor),
        }
        subscription = self.make(
            "subscription",
            "sub",
            customer=session["customer"],
            status="active",
            cancel_at_period_end=False,
            items={"object": "list", "data": [item], "has_more": False, "url": ""},
            anchor_day=anchor,
            tax_percent=TAX_PERCENT if session["total_details"]["amount_tax"] else 0,
        )
        self.emit("customer.subscription.created", subscription)
        invoice = self._bill(subscription, "subscription_create", [self._line(subscription, price["unit_amount"])])
        session |= {
            "status": "complete",
            "payment_status": "paid",
            "subscription": subscription["id"],
            "invoice": invoice["id"],
        }
        self.emit("checkout.session.completed", session)

    def _line(self, subscription: Thing, amount: int, *, price: str = "", proration: bool = False) -> Thing:
        item = subscription["items"]["data"][0]
        self._count += 1
        return {
            "id": f"il_{self._count:06d}",
            "object": "line_item",
            "amount": amount,
            "currency": "usd",
            "quantity": 1,
            "period": {"start": item["current_period_start"], "end": item["current_period_end"]},
            "parent": {
                "type": "subscription_item_details",
                "subscription_item_details": {"proration": proration, "subscription_item": item["id"]},
            },
            "pricing": {"type": "price_details", "price_details": {"price": price or item["price"]["id"]}},
        }

    def _bill(self, subscription: Thing, reason: str, lines: list[Thing]) -> Thing:
        parent = {"type": "subscription_details", "subscription_details": {"subscription": subscription["id"]}}
        invoice = self._invoice(
            subscription["customer"], lines, subscription["tax_percent"], billing_reason=reason, parent=parent
        )
        balance = self.balances.get(subscription["customer"], 0)
        due = max(invoice["total"] - balance, 0)
        self.balances[subscription["customer"]] = balance - (invoice["total"] - due)
        if due == 0:
            invoice |= {"status": "paid", "amount_due": 0}
            self.emit("invoice.paid", invoice)
        elif subscription["customer"] in self.declined:
            subscription["status"] = "past_due"
            self.emit("invoice.payment_failed", invoice)
        else:
            self._paid(invoice, self._charged(subscription["customer"], due))
            subscription["status"] = "active"
        return invoice

    def advance(self, days: int) -> None:
        """Move the clock, day by day, and renew or end what is due."""
        for _ in range(days):
            self.now_s += 86_400
            for subscription in self.all("subscription"):
                item = subscription["items"]["data"][0]
                if subscription["status"] == "canceled" or item["current_period_end"] > self.now_s:
                    continue
                if subscription["cancel_at_period_end"]:
                    self.cancel(subscription)
                    continue
                item["current_period_start"] = item["current_period_end"]
                item["current_period_end"] = a_month_after(item["current_period_start"], subscription["anchor_day"])
                self.emit("invoice.upcoming", subscription)
                line = self._line(subscription, item["price"]["unit_amount"])
                line["discount_amounts"] = [{"amount": line["amount"] * subscription.get("percent_off", 0) // 100}]
                self._bill(subscription, "subscription_cycle", [line])
                self.emit("customer.subscription.updated", subscription)

    def cancel(self, subscription: Thing) -> Thing:
        subscription["status"] = "canceled"
        self.emit("customer.subscription.deleted", subscription)
        return subscription

    def change(self, subscription: Thing, params: Thing) -> Thing:
        """Change the price in the middle of a period, or when it ends."""
        if "cancel_at_period_end" in params:
            subscription["cancel_at_period_end"] = params["cancel_at_period_end"] == "true"
        for change in params.get("items", {}).values():
            item = subscription["items"]["data"][0]
            old, new = item["price"], self.get(change["price"], "price")
            item["price"] = new
            # With a new period the old price comes back and the new one is paid, each in full; else half of both.
            anew = params.get("billing_cycle_anchor") == "now"
            part = 1 if anew else 2
            lines = [
                self._line(subscription, -old["unit_amount"] // part, price=old["id"], proration=True),
                self._line(subscription, new["unit_amount"] // part, proration=not anew),
            ]
            for line in lines:
                line["discount_amounts"] = [{"amount": line["amount"] * subscription.get("percent_off", 0) // 100}]
            self._bill(subscription, "subscription_update", lines)
        self.emit("customer.subscription.updated", subscription)
        return subscription

    # --- Money back ---------------------------------------------------------------------------------------------------
    def charge_of(self, intent_id: str) -> Thing:
        return self.get(self.get(intent_id, "payment_intent")["latest_charge"] or "", "charge")

    def refund(self, intent_id: str, amount: int | None = None, metadata: Thing | None = None) -> Thing:
        """Refund a payment or a part of it, as the dashboard and the API do."""
        charge = self.charge_of(intent_id)
        left = charge["amount"] - charge["amount_refunded"]
        amount = left if amount is None else amount
        if not 0 < amount <= left or charge["disputed"]:
            raise Refusal(400, f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})")
        refund = self.make(
            "refund",
            "re",
            amount=amount,
            currency="usd",
            charge=charge["id"],
            payment_intent=intent_id,
            status="succeeded",
            metadata=metadata or {},
        )
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        self.emit("refund.created", refund)
        self.emit("charge.refunded", charge)
        return refund

    def fail_refund(self, refund_id: str) -> None:
        """Have the bank return a refund to us."""
        refund = self.get(refund_id, "refund")
        refund["status"] = "failed"
        self.get(refund["charge"], "charge")["amount_refunded"] -= refund["amount"]
        self.emit("refund.failed", refund)

    def dispute(self, intent_id: str, amount: int | None = None, status: str = "needs_response") -> Thing:
        """Have a payer's bank dispute a payment."""
        charge = self.charge_of(intent_id)
        dispute = self.make(
            "dispute",
            "du",
            amount=amount or charge["amount"] - charge["amount_refunded"],
            currency="usd",
            charge=charge["id"],
            payment_intent=intent_id,
            status=status,
            reason="fraudulent",
        )
        charge["disputed"] = True
        self.emit("charge.dispute.created", dispute)
        if status == "needs_response":
            self.emit("charge.dispute.funds_withdrawn", dispute)
        return dispute

    def close_dispute(self, dispute_id: str, outcome: str) -> None:
        """Have the bank decide: won, lost, or warning_closed."""
        dispute = self.get(dispute_id, "dispute")
        dispute["status"] = outcome
        self.emit("charge.dispute.closed", dispute)
        if outcome == "won":
            self.emit("charge.dispute.funds_reinstated", dispute)
