"""Whose key it is, and the refusals that come before a body is read."""

import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from gateway.authentication import authenticate, key_of
from gateway.errors import Fault
from gateway.failed_keys import FailedKeys
from gateway.limiter import Limiter
from gateway.runtime import Runtime
from gateway.snapshot import Caller
from tests.gateway.scenery import a_caller


@pytest.mark.parametrize(
    ("headers", "query", "key"),
    [
        ({}, b"", ""),
        ({b"authorization": b"Bearer k"}, b"", "k"),
        ({b"authorization": b"bEARER  k "}, b"", "k"),
        ({b"authorization": b"Basic k"}, b"", ""),
        ({b"authorization": b"Basic k", b"x-api-key": b" x "}, b"", "x"),
        ({b"authorization": b"Bearer"}, b"key=q", "q"),
        ({b"x-goog-api-key": b"g", b"x-api-key": b"x"}, b"key=q", "x"),
        ({b"x-goog-api-key": b"g"}, b"key=q", "g"),
        ({}, b"a=1&key=q%2Bx&key=z", "q+x"),
        ({}, b"monkey=q", ""),
        ({}, b"key=", ""),
        ({b"authorization": b"Bearer \xff\xfe"}, b"", "ÿþ"),
        ({}, b"key=%ff\xff", "\ufffdÿ"),
    ],
)
def test_the_key_is_where_the_vendors_clients_put_it(headers: dict[bytes, bytes], query: bytes, key: str) -> None:
    assert key_of(headers, query) == key


def a_runtime(found: Caller | Exception | None, *, stale: bool = False, returns: bool = False) -> Runtime:
    """A runtime whose memory knows one caller."""

    async def find(_key: str) -> Caller | None:
        if isinstance(found, Exception):
            raise found
        return found

    async def wait() -> bool:
        return returns

    freshness = SimpleNamespace(stale=lambda: stale, wait=wait)
    callers = SimpleNamespace(find=find, remembered=lambda _key: None, was_good=lambda _key: False)
    made = SimpleNamespace(freshness=freshness, callers=callers, trusted_proxies=[ip_network("10.0.0.0/8")])
    made.used_keys = set()
    made.failed_keys = FailedKeys(Limiter("redis://127.0.0.1:1/0"), "secret", 0)
    return cast(Runtime, made)


def asked(runtime: Runtime, peer: Any = ("203.0.113.9", 1), forwarded_for: bytes = b"") -> Awaitable[Caller]:
    headers = [(b"authorization", b"Bearer k"), (b"x-forwarded-for", forwarded_for)]
    return authenticate(runtime, {"query_string": b"", "client": peer, "headers": headers}, dict(headers))


async def refusal(ask: Callable[[], Awaitable[Caller]]) -> tuple[int, str, str]:
    with pytest.raises(Fault) as refused:
        await ask()
    return refused.value.status, refused.value.code, refused.value.message


async def test_a_good_key_is_its_caller_and_is_noted_as_used() -> None:
    runtime, caller = a_runtime(a_caller()), a_caller(key_id=7, expires_at=time.time() + 60)
    assert (await asked(runtime)).key_id == 1
    runtime = a_runtime(caller)
    assert await asked(runtime) is caller
    assert runtime.used_keys == {(7, caller.display)}


async def test_absent_unknown_and_revoked_keys_read_the_same() -> None:
    unknown = await refusal(lambda: asked(a_runtime(None)))
    revoked = await refusal(lambda: asked(a_runtime(a_caller(revoked=True, expires_at=1.0))))
    assert unknown == revoked
    assert unknown[:2] == (401, "invalid_api_key")


async def test_an_expired_key_is_told_so_and_is_not_noted() -> None:
    runtime = a_runtime(a_caller(expires_at=time.time() - 0.01))
    assert (await refusal(lambda: asked(runtime)))[:2] == (401, "api_key_expired")
    assert runtime.used_keys == set()


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "allowed"),
    [
        (("192.0.2.7", 1), b"", True),
        (("::ffff:192.0.2.7", 1), b"", True),
        (("203.0.113.9", 1), b"", False),
        (("203.0.113.9", 1), b"192.0.2.7", False),
        (("10.0.0.1", 1), b"192.0.2.7", True),
        (("10.0.0.1", 1), b"192.0.2.7, 203.0.113.9", False),
        (("10.0.0.1", 1), b"\xff", False),
        (None, b"192.0.2.7", False),
        (("", 0), b"192.0.2.7", False),
    ],
)
async def test_a_key_that_is_limited_to_networks_works_from_them_only(
    peer: Any, forwarded_for: bytes, allowed: bool
) -> None:
    runtime = a_runtime(a_caller(networks=(ip_network("192.0.2.0/24"),)))
    if allowed:
        assert await asked(runtime, peer, forwarded_for)
    else:
        assert (await refusal(lambda: asked(runtime, peer, forwarded_for)))[:2] == (403, "ip_restricted")


@pytest.mark.parametrize("error", [psycopg.OperationalError("secret host"), TimeoutError(), ConnectionResetError()])
async def test_a_key_that_cannot_be_checked_is_a_503_that_says_when_to_return(error: Exception) -> None:
    with pytest.raises(Fault) as refused:
        await asked(a_runtime(error))
    assert (refused.value.status, refused.value.code) == (503, "storage_unavailable")
    assert refused.value.headers() == [(b"retry-after", b"1")]
    assert "secret" not in refused.value.message


async def test_stale_memory_is_waited_for_and_never_believed() -> None:
    assert (await refusal(lambda: asked(a_runtime(a_caller(), stale=True))))[:2] == (503, "storage_unavailable")
    assert await asked(a_runtime(a_caller(), stale=True, returns=True))
