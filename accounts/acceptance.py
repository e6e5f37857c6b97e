"""Which API keys are accepted: one rule for everything that asks for one.

The state of a key, its owner and its organization is one SQL expression, so that the gateway, which reads many keys
in one statement of its own, and Django's pages ask the same. A key whose expiry has passed and one that is used from
an address that it does not list are refused by name; all that must not be told apart is `invalid_api_key`.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_network

import msgspec
from django.db import connection

from accounts import keys
from accounts.client_address import Address, Network, within

logger = logging.getLogger(__name__)

# A secret that was replaced is good for its key until the end of its overlap, where it has one.
SECRETS = """(
    SELECT id AS key_id, digest, display, NULL::timestamptz AS until FROM accounts_apikey
     WHERE digest = ANY(%(digests)s)
    UNION ALL
    SELECT key_id, digest, display, accepted_until FROM accounts_retiredsecret
     WHERE digest = ANY(%(digests)s) AND accepted_until IS NOT NULL) s"""
EXPIRES_AT = "least(k.expires_at, s.until)"
KEYS = (
    f"{SECRETS} JOIN accounts_apikey k ON k.id = s.key_id JOIN accounts_user u ON u.id = k.user_id "
    "JOIN accounts_organization o ON o.id = k.organization_id"
)
# Revoked, or owned by somebody who is switched off or has left the organization.
REVOKED = """k.revoked_at IS NOT NULL OR NOT u.is_active OR NOT o.is_active OR NOT (
           o.personal_user_id IS NOT DISTINCT FROM k.user_id
           OR EXISTS (SELECT FROM accounts_membership m
                      WHERE m.user_id = k.user_id AND m.organization_id = k.organization_id)
       )"""
INVALID_KEY = "The API key is missing or not valid; send it as `Authorization: Bearer sg-...`."
EXPIRED = "The API key has expired; make a new one or have its expiry moved."
WRONG_ADDRESS = "This key may not be used from this address; its owner lists those that may."

# The rule is a constant of this module.
FIND = f"""
SELECT k.id, k.user_id, k.organization_id, k.scopes, k.ip_allowlist, {EXPIRES_AT}, {REVOKED} AS revoked,
       s.until IS NOT NULL AS former
  FROM {KEYS}
"""  # noqa: S608


class Refused(Exception):
    """A key that is not accepted: the code of the error table, and the message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Accepted(msgspec.Struct, frozen=True):
    """A key that may be used: whose it is, and what it is good for besides calling models."""

    key_id: int
    user_id: int
    organization_id: int
    scopes: tuple[str, ...]
    # By a secret that was replaced, in its overlap.
    former: bool


def accept(key: str, address: Address | None, now: datetime) -> Accepted:
    """Return whom a key in clear text stands for, asked of the database; raise Refused."""
    row = _row(key)
    if row is None:
        raise Refused("invalid_api_key", INVALID_KEY)
    key_id, user_id, organization_id, scopes, allowed, expires_at, revoked, former = row
    if revoked:
        raise Refused("invalid_api_key", INVALID_KEY)
    if expires_at is not None and expires_at <= now:
        raise Refused("api_key_expired", EXPIRED)
    if allowed and not from_one_of(_networks(key_id, allowed), address):
        raise Refused("ip_restricted", WRONG_ADDRESS)
    return Accepted(key_id, user_id, organization_id, tuple(scopes), former)


def from_one_of(networks: Sequence[Network], address: Address | None) -> bool:
    """Tell whether a key that lists these networks may be used from the client's address; not from an unknown one."""
    return address is not None and within(address, networks)


def _networks(key_id: int, allowed: Sequence[str]) -> list[Network]:
    """Return the networks that a key lists; with one that cannot be read the key is not accepted from anywhere."""
    try:
        return [ip_network(text, strict=False) for text in allowed]
    except ValueError as error:
        logger.error("key %s is refused, for its networks cannot be read: %s", key_id, error)
        raise Refused("invalid_api_key", INVALID_KEY) from None


def _row(key: str) -> tuple[int, int, int, list[str], list[str], datetime | None, bool, bool] | None:
    if not key.isascii() or not keys.well_formed(key):
        return None
    with connection.cursor() as cursor:
        cursor.execute(FIND, {"digests": keys.digests(key)})
        row: tuple[int, int, int, list[str], list[str], datetime | None, bool, bool] | None = cursor.fetchone()
    return row
