"""Who asks: the holder of an API key, or a browser's session (with CSRF for whatever changes something).

A key that is sent decides alone: a bad one is refused even beside a good session. Addresses that send many bad keys
are refused for a minute before anything is looked up; counted in Valkey, by the /64 for IPv6. Where it does not
answer nothing is counted, for keys are too long to be guessed.
"""

import logging
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.authentication import SessionAuthentication as FrameworkSession
from rest_framework.request import Request

from accounts import acceptance, client_address
from accounts.acceptance import Accepted
from accounts.client_address import Address, network_of
from accounts.models import APIKey, RetiredSecret, User
from billing.api.errors import Fault

logger = logging.getLogger("billing.api")

FAILED_KEYS_WINDOW_S = 60
# A key's last use is told to the minute.
LAST_USED_STEP = timedelta(minutes=1)


def address_of(request: Any) -> Address | None:
    """Return the client's address behind the trusted proxies, or None where it cannot be known."""
    return client_address.find(
        request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""), settings.TRUSTED_PROXIES
    )


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer sg-…`."""

    def authenticate(self, request: Request) -> tuple[User, Accepted] | None:
        """Return the key's user and what the key is good for, or None without an Authorization header."""
        scheme, _, key = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if not scheme:
            return None
        address = address_of(request)
        refuse_guessers(address)
        try:
            if scheme.lower() != "bearer":
                raise acceptance.Refused("invalid_api_key", acceptance.INVALID_KEY)
            accepted = acceptance.accept(key.strip(), address, timezone.now())
        except acceptance.Refused as refusal:
            if refusal.code == "invalid_api_key":
                count_failure(address)
            raise Fault(refusal.code, str(refusal)) from None
        _note_use(accepted)
        return User.objects.get(pk=accepted.user_id), accepted

    def authenticate_header(self, request: Request) -> str:
        """Return how to authenticate."""
        return "Bearer"


class SessionAuthentication(FrameworkSession):
    """Django's session, of an active user."""


def _note_use(accepted: Accepted) -> None:
    now = timezone.now()
    secret: Any = APIKey.objects.filter(pk=accepted.key_id)
    if accepted.former:
        # At most one former secret is still accepted.
        secret = RetiredSecret.objects.filter(key_id=accepted.key_id, accepted_until__gt=now)
    if not secret.filter(last_used_at__gt=now - LAST_USED_STEP).exists():
        secret.update(last_used_at=now)


def _counter(address: Address) -> str:
    return f"billing-api:failed-keys:{network_of(address)}"


def refuse_guessers(address: Address | None) -> None:
    """Raise Fault for an address that has sent too many bad keys within the last minute."""
    if address is None or not settings.FAILED_KEYS_PER_MINUTE:
        return
    try:
        failed = cache.get(_counter(address), 0)
    except Exception as error:
        logger.warning("failed keys are not counted: %s", error)
        return
    if failed >= settings.FAILED_KEYS_PER_MINUTE:
        raise Fault(
            "requests_per_minute",
            f"Too many keys from your address were not valid; check it, and try again in {FAILED_KEYS_WINDOW_S} s.",
            retry_after_s=FAILED_KEYS_WINDOW_S,
        )


def count_failure(address: Address | None) -> None:
    """Count a key that was not valid."""
    if address is None:
        return
    try:
        cache.add(_counter(address), 0, FAILED_KEYS_WINDOW_S)
        cache.incr(_counter(address))
    except Exception as error:
        # ValueError: the window ended between the two.
        logger.warning("a failed key was not counted: %s", error)
