"""Who may see what live, by the session of a browser: decided when a page opens, and again while it is open.

* Owners and admins of an organization see its requests and its balance.
* Plain members see the requests of their own keys.
* Operators, who may see all usage in the admin, see every request.

Invariant: nobody is a viewer whose session has ended, who was switched off, or whose password was changed elsewhere.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.models import Session
from django.db import connection
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts.models import Membership, Organization, User
from billing.models import Wallet
from billing.money import dollars
from gateway import live

PERMISSION = "billing.view_usage"
# What is posted and held, in dollars, by organization.
Balances = dict[int, dict[str, str]]
Asked = TypeVar("Asked")
Found = TypeVar("Found")
OVERSEERS = (Membership.OWNER, Membership.ADMIN)


@dataclass(frozen=True)
class Ticket:
    """What a page shows at the door: its session, and whether it asks for the operators' view."""

    session_key: str
    as_operator: bool


@dataclass(frozen=True)
class Viewer:
    """Whom a ticket lets in: the groups whose events it gets, and the organizations whose balance it sees."""

    user_id: int
    groups: frozenset[str]
    organization_ids: frozenset[int] = frozenset()


class NotPermitted(Exception):
    """A user who is signed in, and may not see what it asks for."""


async def admit(ticket: Ticket) -> Viewer | None:
    """Return the viewer of a ticket, or None where nobody is signed in; raise NotPermitted or django.db.Error."""
    return await asyncio.to_thread(_disconnecting, _admit, ticket)


async def look(tickets: Collection[Ticket]) -> tuple[dict[Ticket, Viewer], Balances]:
    """Return who of these is still let in, and the balances that they see; raise django.db.Error."""
    return await asyncio.to_thread(_disconnecting, _look, tickets)


def _disconnecting(function: Callable[[Asked], Found], asked: Asked) -> Found:
    """Call a function in this thread, and leave no connection to it."""
    try:
        return function(asked)
    finally:
        connection.close()


def _admit(ticket: Ticket) -> Viewer | None:
    user = _users([ticket]).get(ticket.session_key)
    if user is None:
        return None
    viewer = _viewers({ticket: user}).get(ticket)
    if viewer is None:
        raise NotPermitted
    return viewer


def _look(asked: Collection[Ticket]) -> tuple[dict[Ticket, Viewer], Balances]:
    tickets = set(asked)
    users = _users(tickets)
    viewers = _viewers({ticket: users[ticket.session_key] for ticket in tickets if ticket.session_key in users})
    organization_ids: set[int] = set().union(*(viewer.organization_ids for viewer in viewers.values()))
    wallets = Wallet.objects.filter(pk__in=organization_ids)
    return viewers, {
        wallet.pk: {"posted": dollars(wallet.posted_nanos), "held": dollars(wallet.held_nanos)} for wallet in wallets
    }


def _users(tickets: Iterable[Ticket]) -> dict[str, User]:
    """Return who is signed in, by session: what `django.contrib.auth.get_user` decides, for many at once."""
    sessions = Session.objects.filter(
        session_key__in={ticket.session_key for ticket in tickets}, expire_date__gt=timezone.now()
    )
    contents = {session.session_key: session.get_decoded() for session in sessions}
    ids = {
        key: int(content[SESSION_KEY])
        for key, content in contents.items()
        if content.get(BACKEND_SESSION_KEY) in settings.AUTHENTICATION_BACKENDS
    }
    users = User.objects.filter(is_active=True).in_bulk(ids.values())
    return {
        key: users[user_id]
        for key, user_id in ids.items()
        if user_id in users
        and constant_time_compare(contents[key].get(HASH_SESSION_KEY, ""), users[user_id].get_session_auth_hash())
    }


def _viewers(users: Mapping[Ticket, User]) -> dict[Ticket, Viewer]:
    roles: dict[int, dict[int, str]] = defaultdict(dict)
    user_ids = {user.pk for user in users.values()}
    for user_id, organization_id, role in Membership.objects.filter(
        user__in=user_ids, organization__is_active=True
    ).values_list("user_id", "organization_id", "role"):
        roles[user_id][organization_id] = role
    for user_id, organization_id in Organization.objects.filter(personal_user__in=user_ids, is_active=True).values_list(
        "personal_user_id", "pk"
    ):
        if user_id is not None:
            roles[user_id][organization_id] = Membership.OWNER
    found = {}
    for ticket, user in users.items():
        if not ticket.as_operator:
            found[ticket] = _member(user.pk, roles[user.pk])
        elif user.is_staff and user.has_perm(PERMISSION):
            found[ticket] = Viewer(user.pk, frozenset({live.OPERATORS}))
    return found


def _member(user_id: int, roles: Mapping[int, str]) -> Viewer:
    overseen = frozenset(organization_id for organization_id, role in roles.items() if role in OVERSEERS)
    groups = {live.organization_group(organization_id) for organization_id in overseen}
    groups |= {live.member_group(organization_id, user_id) for organization_id in roles.keys() - overseen}
    return Viewer(user_id, frozenset(groups), overseen)
