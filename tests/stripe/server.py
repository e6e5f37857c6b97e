"""The fake Stripe over HTTP: form bodies, keys, idempotency, lists, `expand`, the page that pays, signed webhooks."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import stripe

from tests.local_server import Asked, LocalServer, Reply, serving
from tests.stripe.account import TAX_PERCENT, Account, Refusal, Thing

KEY = "sk_test_of_the_tests"
SECRET = "whsec_of_the_tests"

# Sends a body and its signature, and returns the status of the answer.
Post = Callable[[bytes, str], int]

LISTS = {
    "checkout/sessions": "checkout.session",
    "customers": "customer",
    "disputes": "dispute",
    "invoice_payments": "invoice_payment",
    "invoices": "invoice",
    "prices": "price",
    "products": "product",
    "refunds": "refund",
    "subscriptions": "subscription",
}


def form(text: str) -> Thing:
    """Read a form with nested names: `a[b][0]=c` is {"a": {"b": {"0": "c"}}}."""
    found: Thing = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        *path, last = re.findall(r"[^\[\]]+", name)
        inner = found
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return found


class FakeStripe(Account):
    """One account and its API. `faults` are answered, in turn, instead of the next requests that make something."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[int] = []
        self.on_read: Callable[[str], None] | None = None
        self.after_fault = False
        self.delivered: list[str] = []
        self._sent = 0
        self._answers: dict[str, tuple[Any, Reply]] = {}

    # --- The API ------------------------------------------------------------------------------------------------------
    def answer(self, asked: Asked) -> Reply:
        """Answer one request."""
        address = urlsplit(asked.path)
        try:
            if address.path.startswith("/pay/"):
                return self._page(address.path.removeprefix("/pay/"), asked)
            if asked.headers.get("authorization") != f"Bearer {KEY}":
                raise Refusal(401, "Invalid API Key provided: sk_****", "authentication_error")
            path = address.path.removeprefix("/v1/")
            if asked.method == "GET":
                return Reply(200, self._read(path, form(address.query)))
            return self._write_once(asked, path, form(asked.body.decode()))
        except Refusal as refusal:
            error = {"type": refusal.kind, "message": str(refusal), "code": refusal.code}
            return Reply(refusal.status, {"error": error}, {"content-type": "application/json"})

    def _write_once(self, asked: Asked, path: str, params: Thing) -> Reply:
        """Answer a key that was seen with what it was answered then; the same key with other words is an error."""
        key = asked.headers.get("idempotency-key", "")
        words = (asked.method, path, params)
        if key in self._answers:
            seen, reply = self._answers[key]
            if seen != words:
                message = "Keys for idempotent requests can only be used with the same parameters."
                raise Refusal(400, message, "idempotency_error")
            return Reply(reply.status, copy.deepcopy(reply.body), {"idempotent-replayed": "true"})
        fault = self.faults.pop(0) if self.faults else 0
        if fault and not self.after_fault:
            raise Refusal(fault, "Something went wrong.", "api_error")
        reply = Reply(200, copy.deepcopy(self._write(asked.method, path, params)))
        if key:
            self._answers[key] = (words, reply)
        if fault:
            raise Refusal(fault, "It was done, and the answer was lost.", "api_error")
        return reply

    def _read(self, path: str, params: Thing) -> Thing:
        if self.on_read:
            self.on_read(path)
        kind = LISTS.get(path)
        if kind:
            return self._list(kind, path, params)
        if path == "events":
            return self._page_of(list(reversed(self.events)), path, params)
        folder, _, identifier = path.rpartition("/")
        return self._shown(self.get(identifier, LISTS[folder]), params)

    def _list(self, kind: str, path: str, params: Thing) -> Thing:
        names = ("customer", "payment_intent", "status", "subscription", "invoice")
        found = self.all(kind, **{name: params[name] for name in names if name in params})
        if "payment" in params:
            found = [each for each in found if each["payment"] == params["payment"]]
        return self._page_of(found, path, params)

    def _page_of(self, found: list[Thing], path: str, params: Thing) -> Thing:
        since = int(params.get("created", {}).get("gte", 0))
        found = [each for each in found if each["created"] >= since]
        if "starting_after" in params:
            ids = [each["id"] for each in found]
            found = found[ids.index(params["starting_after"]) + 1 :]
        limit = int(params.get("limit", 10))
        page = [self._shown(each, params) for each in found[:limit]]
        return {"object": "list", "url": f"/v1/{path}", "data": page, "has_more": len(found) > limit}

    def _shown(self, thing: Thing, params: Thing) -> Thing:
        shown = copy.deepcopy(thing)
        wanted = list(params.get("expand", {}).values())
        if "payments" not in wanted:
            shown.pop("payments", None)
        for path in wanted:
            inner: Any = shown
            for part in path.split("."):
                if isinstance(inner.get(part), str):
                    inner[part] = copy.deepcopy(self.things[inner[part]])
                inner = inner.get(part) or {}
        return shown

    def _write(self, method: str, path: str, params: Thing) -> Thing:
        folder, _, last = path.rpartition("/")
        if path == "customers":
            return self.make("customer", "cus", **params)
        if path == "products":
            return self.make("product", "prod", **params)
        if path == "prices":
            return self.make("price", "price", **(params | {"unit_amount": int(params["unit_amount"])}))
        if path == "checkout/sessions":
            return self._session(params)
        if path == "billing_portal/sessions":
            self.get(params["customer"], "customer")
            return self.make("billing_portal.session", "bps", url=f"{self.base_url}/portal", **params)
        if path == "refunds":
            return self.refund(params["payment_intent"], int(params["amount"]), params.get("metadata"))
        if folder == "subscriptions":
            subscription = self.get(last, "subscription")
            return self.cancel(subscription) if method == "DELETE" else self.change(subscription, params)
        if last == "expire":
            return self.expire(self.get(folder.rpartition("/")[2], "checkout.session"))
        raise Refusal(404, f"Unrecognized request URL ({method}: /v1/{path}).")

    def _session(self, params: Thing) -> Thing:
        self.get(params["customer"], "customer")
        (line,) = params["line_items"].values()
        amount = (
            self.get(line["price"], "price")["unit_amount"]
            if "price" in line
            else int(line["price_data"]["unit_amount"])
        )
        tax = amount * TAX_PERCENT // 100 if params.get("automatic_tax", {}).get("enabled") == "true" else 0
        session = self.make(
            "checkout.session",
            "cs",
            mode=params["mode"],
            customer=params["customer"],
            currency="usd",
            status="open",
            payment_status="unpaid",
            amount_subtotal=amount,
            amount_total=amount + tax,
            total_details={"amount_tax": tax, "amount_discount": 0, "amount_shipping": 0},
            client_reference_id=params.get("client_reference_id"),
            success_url=params["success_url"],
            price=line.get("price"),
            invoice_creation=params.get("invoice_creation"),
            payment_intent=None,
            subscription=None,
            invoice=None,
        )
        session["url"] = f"{self.base_url}/pay/{session['id']}"
        return session

    def _page(self, session_id: str, asked: Asked) -> Reply:
        """Show the hosted page; pay when its form is sent."""
        session = self.get(session_id, "checkout.session")
        if asked.method == "GET":
            total = f"${session['amount_total'] / 100:.2f}"
            page = f'<form method="post"><p>Pay {total}</p><input name="card"><button>Pay</button></form>'
            return Reply(200, page.encode(), {"content-type": "text/html"})
        said = self.pay(session, form(asked.body.decode()).get("card", "4242"))
        if said != "Thank you.":
            return Reply(402, said.encode())
        return Reply(303, b"", {"location": session["success_url"]})

    # --- Webhooks -----------------------------------------------------------------------------------------------------
    def new_events(self) -> list[Thing]:
        """Return the events since the last time, in order; the caller may lose, double or shuffle them."""
        fresh, self._sent = self.events[self._sent :], len(self.events)
        return fresh

    def send(self, event: Thing, post: Post, *, secret: str = SECRET, timestamp: int | None = None) -> int:
        """Sign an event and send it; return the status."""
        body = json.dumps(event, indent=2)
        signature = stripe.WebhookSignature.generate_signature_header(body, secret, timestamp)
        status = post(body.encode(), signature)
        if status == 200:
            self.delivered.append(event["id"])
        return status

    def deliver(self, post: Post) -> list[int]:
        """Send what is new, in order, and once more what was not taken; return the last statuses."""
        statuses = []
        for event in self.new_events():
            status = self.send(event, post)
            statuses.append(status if status == 200 else self.send(event, post))
        return statuses


@contextmanager
def running() -> Iterator[tuple[FakeStripe, LocalServer]]:
    """Serve a fresh account on a free loopback port."""
    fake = FakeStripe()
    with serving(fake.answer) as server:
        fake.base_url = server.url
        yield fake, server
