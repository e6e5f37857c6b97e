"""Acme, whose owner is Alice; Dora administers it, Bob is a member, and Charlie has nothing to do with it."""

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from django.core.cache import cache
from django.db import connection
from django.test import Client

from accounts import keys
from accounts.models import Membership, Organization, User
from billing import ledger
from billing.models import House, Kind, Transfer, Usage, UsageDay, Wallet
from billing.money import of_dollars

API = "/api/billing"
READ, WRITE = "billing:read", "billing:write"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@dataclass
class Acme:
    """The organization and its people."""

    organization: Organization
    alice: User
    bob: User
    charlie: User
    dora: User

    @property
    def id(self) -> int:
        """The organization's id."""
        return self.organization.pk

    def key(self, user: User, *scopes: str, **about: Any) -> str:
        """Return a new key of a member in clear text."""
        row, clear = keys.mint(user=user, organization=self.organization, **about)
        row.scopes = list(scopes)
        row.save(update_fields=["scopes"])
        return clear

    def browser(self, user: User) -> Client:
        """Return a browser in which this user is signed in and that checks CSRF like the real one."""
        client = Client(enforce_csrf_checks=True)
        client.force_login(user)
        return client


def found_acme() -> Acme:
    """Make the organization and its people."""
    cache.clear()
    alice, bob, charlie, dora = (
        User.objects.create_user(f"{name}@example.com") for name in ("alice", "bob", "charlie", "dora")
    )
    organization = Organization.objects.create(name="Acme")
    for user, role in ((alice, Membership.OWNER), (bob, Membership.MEMBER), (dora, Membership.ADMIN)):
        Membership.objects.create(organization=organization, user=user, role=role)
    return Acme(organization, alice, bob, charlie, dora)


def bearer(key: str) -> dict[str, Any]:
    """Return the header that carries a key, as the test client takes it."""
    return {"HTTP_AUTHORIZATION": f"Bearer {key}"}


def credited(acme: Acme, dollars: str, kind: Kind = Kind.TOP_UP, **about: Any) -> Transfer:
    """Give Acme credit."""
    line = ledger.credit(acme.id, of_dollars(dollars), kind, House.CLEARING, **about)
    assert line is not None
    line.refresh_from_db()
    return line


def charged(acme: Acme, dollars: str) -> Transfer:
    """Charge Acme for a request."""
    line = ledger.debit(acme.id, of_dollars(dollars), Kind.CHARGE, House.REVENUE, request_id=str(uuid.uuid4()))
    assert line is not None
    return line


def a_day(acme: Acme, day: date, **about: Any) -> UsageDay:
    """Make a row of sums."""
    return UsageDay.objects.create(
        **{"organization_id": acme.id, "day": day, "key_id": 1, "user_id": acme.alice.pk, "model": "m"} | about
    )


def request_id_at(moment: datetime, number: int = 0) -> uuid.UUID:
    """Return a request id of this moment."""
    millis = round(moment.timestamp() * 1000)
    return uuid.UUID(int=(millis << 80) | (7 << 76) | (2 << 62) | number)


def a_request(acme: Acme, moment: datetime, number: int = 0, **about: Any) -> Usage:
    """Make the row of a finished request that began at this moment."""
    fields: dict[str, Any] = {
        "request_id": request_id_at(moment, number),
        "organization_id": acme.id,
        "key_id": 1,
        "user_id": acme.alice.pk,
        "model": "m",
        "dialect": "openai_chat",
        "status": 200,
        "usage_source": "provider",
        "duration_ms": 5,
    }
    return Usage.objects.create(**fields | about)


def many_requests(acme: Acme, rows: int, *, neighbours: int = 0) -> None:
    """Make as many requests of Acme's, each a millisecond after the other, among those of its neighbours."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_usage (request_id, key_id, user_id, organization_id, duration_ms, status, model,"
            " dialect, usage_source, error_code, service_tier, session_id, client)"
            " SELECT (lpad(to_hex(%s + number), 12, '0') || '70008000' || lpad(to_hex(number), 12, '0'))::uuid,"
            " 1, 1, %s + number %% %s, 1, 200, 'm', 'openai_chat', 'provider', '', '', '', ''"
            " FROM generate_series(1, %s) AS number",
            [round(NOON.timestamp() * 1000), acme.id, neighbours + 1, rows * (neighbours + 1)],
        )
        cursor.execute("ANALYZE billing_usage")


def wallet(acme: Acme) -> Wallet:
    """Return Acme's wallet as it is now."""
    return Wallet.objects.get(pk=acme.id)
