"""Who is calling: the key's place in the request, and the refusals that come before a body is read."""

import time
from collections.abc import Mapping
from urllib.parse import parse_qs

import psycopg

from accounts import acceptance
from accounts.client_address import Address, Network, find
from gateway.body import Scope
from gateway.errors import Fault
from gateway.runtime import Runtime
from gateway.snapshot import Caller

UNAVAILABLE = "The database does not answer, so keys cannot be checked; try again shortly."


def key_of(headers: Mapping[bytes, bytes], query: bytes) -> str:
    """Return the key that a request carries, or an empty text.

    Looked for in Authorization (Bearer), x-api-key, x-goog-api-key and the query's `key`, in this order.
    """
    authorization = headers.get(b"authorization", b"")
    if authorization[:7].lower() == b"bearer ":
        return authorization[7:].strip().decode("latin-1")
    for header in (b"x-api-key", b"x-goog-api-key"):
        if header in headers:
            return headers[header].strip().decode("latin-1")
    return parse_qs(query.decode("latin-1")).get("key", [""])[0] if b"key=" in query else ""


async def authenticate(runtime: Runtime, scope: Scope, headers: Mapping[bytes, bytes]) -> Caller:
    """Return the caller; raise Fault: 401, 403 for the address, 503 where keys cannot be checked."""
    if runtime.freshness.stale() and not await runtime.freshness.wait():
        raise Fault("storage_unavailable", UNAVAILABLE, retry_after_s=1)
    key = key_of(headers, scope.get("query_string", b""))
    caller = runtime.callers.remembered(key)
    if caller is None or caller.revoked:
        caller = await look_up(runtime, scope, key)
    return checked(runtime, scope, caller)


async def authenticate_secret(runtime: Runtime, scope: Scope, digest: bytes | None) -> Caller:
    """Return the caller whose key made a client secret, by that key's DIGEST, None where the secret is not ours.

    Raises Fault as `authenticate` does.
    """
    if runtime.freshness.stale() and not await runtime.freshness.wait():
        raise Fault("storage_unavailable", UNAVAILABLE, retry_after_s=1)
    address = address_of(scope, runtime.trusted_proxies)
    if digest is None:
        runtime.failed_keys.check(address)
    try:
        caller = None if digest is None else await runtime.callers.find_digest(digest)
    except (psycopg.Error, OSError, TimeoutError):
        raise Fault("storage_unavailable", UNAVAILABLE, retry_after_s=1) from None
    if caller is None or caller.revoked:
        runtime.failed_keys.failed(address)
        raise Fault("invalid_api_key", acceptance.INVALID_KEY)
    return checked(runtime, scope, caller)


def checked(runtime: Runtime, scope: Scope, caller: Caller) -> Caller:
    """Return CALLER, whose key is good, and note its use; raise Fault 401 once it expired, 403 for the address."""
    if caller.expires_at is not None and caller.expires_at <= time.time():
        raise Fault("api_key_expired", acceptance.EXPIRED)
    if caller.networks:
        check_address(caller, scope, runtime.trusted_proxies)
    runtime.used_keys.add((caller.key_id, caller.display))
    return caller


async def look_up(runtime: Runtime, scope: Scope, key: str) -> Caller:
    """Return the caller of a key that is not known as good; raise Fault 401, 429 for an address that guesses, or 503.

    A key that was good before the last change of keys is looked up even where its address sends bad ones.
    """
    if not key:
        raise Fault("invalid_api_key", acceptance.INVALID_KEY)
    address = address_of(scope, runtime.trusted_proxies)
    if not runtime.callers.was_good(key):
        runtime.failed_keys.check(address)
    try:
        caller = await runtime.callers.find(key)
    except (psycopg.Error, OSError, TimeoutError):
        raise Fault("storage_unavailable", UNAVAILABLE, retry_after_s=1) from None
    if caller is None or caller.revoked:
        runtime.failed_keys.failed(address)
        raise Fault("invalid_api_key", acceptance.INVALID_KEY)
    return caller


def check_address(caller: Caller, scope: Scope, trusted: list[Network]) -> None:
    """Raise Fault unless the client's address is one that the key may be used from."""
    address = address_of(scope, trusted)
    if not acceptance.from_one_of(caller.networks, address):
        raise Fault("ip_restricted", acceptance.WRONG_ADDRESS)


def address_of(scope: Scope, trusted: list[Network]) -> Address | None:
    """Return the client's address, or None where it cannot be known.

    Some proxies add a line of their own instead of lengthening one: all lines are one list (RFC 9110, section 5.3).
    """
    peer = scope.get("client") or ("", 0)
    hops = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    return find(str(peer[0]), hops.decode("latin-1"), trusted)
