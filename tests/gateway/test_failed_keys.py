"""How many keys that are not good an address may send, in one process and over several."""

from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address

import pytest

from gateway.errors import Fault
from gateway.failed_keys import FailedKeys
from gateway.limiter import Limiter
from tests.gateway.own_valkey import OwnValkey, own_valkey

ADDRESS = ip_address("192.0.2.7")


@pytest.fixture(scope="module")
def valkey() -> Iterator[OwnValkey]:
    """A Valkey that the module's tests share."""
    with own_valkey() as server:
        yield server


@pytest.fixture
async def limiter(valkey: OwnValkey) -> AsyncIterator[Limiter]:
    """A process's limiter, with nothing counted."""
    valkey.client().flushall()
    made = Limiter(valkey.url)
    yield made
    await made.close()


def closed(failed: FailedKeys, address: str = "192.0.2.7") -> int | None:
    """Return for how many seconds an address is refused, or None."""
    try:
        failed.check(ip_address(address))
    except Fault as fault:
        assert (fault.status, fault.code) == (429, "requests_per_minute")
        return fault.retry_after_s
    return None


async def test_an_address_is_closed_after_so_many_and_others_are_not(limiter: Limiter) -> None:
    failed = FailedKeys(limiter, "secret", 3)
    for _ in range(3):
        assert closed(failed) is None
        failed.failed(ADDRESS)
    assert closed(failed) in (60, 61)
    assert closed(failed, "192.0.2.8") is None


async def test_ipv6_counts_by_its_64(limiter: Limiter) -> None:
    failed = FailedKeys(limiter, "secret", 1)
    failed.failed(ip_address("2001:db8::1"))
    assert closed(failed, "2001:db8::ffff:2") is not None
    assert closed(failed, "2001:db8:0:1::1") is None


async def test_processes_count_together(limiter: Limiter, valkey: OwnValkey) -> None:
    other = Limiter(valkey.url)
    here, there = FailedKeys(limiter, "secret", 4), FailedKeys(other, "secret", 4)
    for _ in range(3):
        here.failed(ADDRESS)
    await limiter.idle.wait()
    assert closed(there) is None
    for _ in range(2):
        there.failed(ADDRESS)
    await other.idle.wait()
    assert closed(there) in (60, 61)
    # Who was not told yet is told with its next.
    assert closed(here) is None
    here.failed(ADDRESS)
    await limiter.idle.wait()
    assert closed(here) in (60, 61)
    await other.close()


async def test_it_can_be_switched_off_and_then_redis_is_not_asked(limiter: Limiter) -> None:
    failed = FailedKeys(limiter, "secret", 0)
    for _ in range(100):
        failed.failed(ADDRESS)
        assert closed(failed) is None
    assert limiter.calls_count == 0


async def test_clients_whose_address_is_not_known_do_not_close_the_door_to_each_other(limiter: Limiter) -> None:
    failed = FailedKeys(limiter, "secret", 1)
    for _ in range(5):
        failed.check(None)
        failed.failed(None)
    assert limiter.calls_count == 0


async def test_without_redis_each_process_counts_for_itself() -> None:
    lonely = Limiter("redis://127.0.0.1:1/0")
    failed = FailedKeys(lonely, "secret", 2)
    for _ in range(2):
        failed.failed(ADDRESS)
    assert closed(failed) in (60, 61)
    await lonely.close()
