"""A shop: an organization whose owner is signed in, and the fake Stripe whose webhooks reach the real view."""

import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.test import Client

from accounts.models import Organization, User
from billing import ledger
from billing.models import Payment, Plan, StripeEvent, Subscription, Transfer, Wallet
from billing.money import shown
from billing.payments import inbox
from tests.stripe.server import FakeStripe

WEBHOOK = "/webhooks/stripe"


@dataclass
class Shop:
    """What a test does, as a payer, as Stripe and as a worker."""

    fake: FakeStripe
    user: User
    browser: Client

    @property
    def organization(self) -> Organization:
        return self.user.personal_organization

    @property
    def wallet(self) -> Wallet:
        return ledger.wallet_of(self.organization.pk)

    @property
    def balance(self) -> str:
        return shown(self.wallet.posted_nanos)

    # --- The payer ----------------------------------------------------------------------------------------------------
    def ask(self, page: str, **fields: str) -> Any:
        """Send one of our own forms."""
        return self.browser.post(f"/account/{page}", fields)

    def begin(self, amount: str = "25.00") -> Payment:
        """Begin a top-up, and stop at Stripe's page."""
        assert self.ask("top-up", amount=amount).status_code == 303
        return Payment.objects.latest("pk")

    def pay(self, payment: Payment, card: str = "4242") -> int:
        """Send the form of Stripe's page; return its status."""
        data = urllib.parse.urlencode({"card": card}).encode()
        address = f"{self.fake.base_url}/pay/{payment.stripe_session_id}"
        try:
            with urllib.request.build_opener(_Stay).open(urllib.request.Request(address, data)) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def top_up(self, amount: str = "25.00") -> Payment:
        """Top up, with every webhook delivered."""
        payment = self.begin(amount)
        assert self.pay(payment) == 303
        self.deliver()
        payment.refresh_from_db()
        assert payment.status == Payment.PAID
        return payment

    def sell(self, slug: str = "pro") -> Plan:
        """Give a plan its price at Stripe."""
        plan = Plan.objects.get(slug=slug)
        price = self.fake.make("price", "price", unit_amount=plan.price_nanos // 10_000_000, currency="usd")
        plan.stripe_price_id = price["id"]
        plan.save()
        return plan

    def subscribe(self, plan: Plan) -> Subscription:
        """Subscribe, with every webhook delivered."""
        assert self.ask("subscribe", plan=plan.slug).status_code == 303
        assert self.pay(Payment.objects.latest("pk")) == 303
        self.deliver()
        return Subscription.objects.latest("pk")

    # --- Stripe -------------------------------------------------------------------------------------------------------
    def post(self, body: bytes, signature: str) -> int:
        """Deliver a webhook from nobody who is signed in, and let a worker sweep."""
        answer = Client(enforce_csrf_checks=True).post(
            WEBHOOK, body, content_type="application/json", headers={"stripe-signature": signature}
        )
        if answer.status_code == 200:
            inbox.sweep()
        return int(answer.status_code)

    def deliver(self) -> None:
        assert set(self.fake.deliver(self.post)) <= {200}

    def deliver_only(self, *beginnings: str, times: int = 1) -> None:
        """Deliver the new events whose type begins so, in the order of the beginnings; lose the others."""
        events = self.fake.new_events()
        for beginning in beginnings:
            for event in [each for each in events if each["type"].startswith(beginning)]:
                for _ in range(times):
                    assert self.fake.send(event, self.post) == 200

    # --- The books ----------------------------------------------------------------------------------------------------
    def lines(self) -> list[tuple[str, str]]:
        """Return the wallet's transfers: kind, and dollars with their sign."""
        own = self.organization.pk
        return [
            (line.get_kind_display(), shown(line.amount_nanos * (1 if line.credit_id == own else -1)))
            for line in Transfer.objects.filter(Q(credit_id=own) | Q(debit_id=own)).order_by("pk")
        ]

    def errors(self) -> list[str]:
        return [event.error for event in StripeEvent.objects.exclude(error="").order_by("created", "pk")]


class _Stay(urllib.request.HTTPRedirectHandler):
    """Do not follow to our own address: nothing listens there."""

    def http_error_303(self, *answer: Any) -> Any:
        return answer[1]
