"""A reset key's former secret is dead in under a second in each of two web processes, whatever else is broken."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.utils import timezone

from accounts import keys, rotation
from accounts.models import APIKey
from billing.models import Limit
from tests.gateway import http
from tests.gateway.conftest import APPLICATION, BOUNDS
from tests.gateway.installation import Installation
from tests.gateway.own_valkey import OwnValkey, own_valkey
from tests.servers import WebProcess, start_web

pytestmark = pytest.mark.server

PROMISED_S = 1.0
TRIES = 10
SERVERS = ("daphne", "uvicorn")

MUTE = """
CREATE OR REPLACE FUNCTION aperture_bump_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_ARGV[0] = 'keys' THEN
        UPDATE accounts_version SET keys = keys + 1;
    ELSE
        UPDATE accounts_version SET catalog = catalog + 1;
    END IF;
    RETURN NULL;
END $$
"""


class Pair:
    """Two web processes over one database, and their Valkey."""

    def __init__(self, webs: list[WebProcess], installed: Installation, valkey: OwnValkey) -> None:
        self.webs = webs
        self.installed = installed
        self.valkey = valkey

    def key(self) -> tuple[APIKey, str]:
        """Return a key of Alice's that both processes have in memory."""
        row, secret = keys.mint(user=self.installed.users["alice"])
        assert self.statuses(secret) == [200, 200]
        return row, secret

    def statuses(self, secret: str) -> list[int]:
        """Return what a chat with this secret gets in each process."""
        return [chat(web, secret) for web in self.webs]

    def refused_after_s(self, secret: str, change: Callable[[], object]) -> list[float]:
        """Return how long after the beginning of CHANGE each process answered the last request of a steady loop."""
        with ThreadPoolExecutor(2) as pool:
            loops = [pool.submit(last_success_at, web, secret) for web in self.webs]
            time.sleep(0.1)
            began_at = time.monotonic()
            change()
            return [max(0.0, loop.result() - began_at) for loop in loops]


def chat(web: WebProcess, secret: str) -> int:
    return http.call(web.port, "POST", "/v1/chat/completions", key=secret, body=http.chat("chaos/ok")).status


def last_success_at(web: WebProcess, secret: str) -> float:
    """Ask without a pause until 20 requests in a row were refused; return when the last good one began."""
    last, refused, until = 0.0, 0, time.monotonic() + 10
    while refused < 20 and time.monotonic() < until:
        asked_at = time.monotonic()
        status = chat(web, secret)
        assert status in (200, 401)
        refused = refused + 1 if status == 401 else 0
        last = asked_at if status == 200 else last
    assert refused == 20
    return last


@pytest.fixture(scope="module")
def pair(installation: Installation, engines: Path) -> Iterator[Pair]:
    with own_valkey() as valkey, ExitStack() as stack:
        environment = BOUNDS | {"DATABASE_URL": installation.database_url, "REDIS_URL": valkey.url}
        webs = [stack.enter_context(start_web(server, APPLICATION, engines, **environment)) for server in SERVERS]
        yield Pair(webs, installation, valkey)


@pytest.fixture
def without_valkey(pair: Pair) -> Iterator[None]:
    pair.valkey.kill()
    yield
    pair.valkey.start()


@pytest.fixture
def without_notifications(pair: Pair) -> Iterator[None]:
    """Nobody is told of a change: only the poll finds it."""
    from django.db import connection

    from accounts import triggers

    with connection.cursor() as cursor:
        cursor.execute(MUTE)
    yield
    with connection.cursor() as cursor:
        cursor.execute(triggers.FUNCTION)


def assert_ten_resets_are_in_time(pair: Pair, situation: str) -> None:
    key, secret = pair.key()
    times: list[float] = []
    for _ in range(TRIES):
        given: list[str] = []
        times += pair.refused_after_s(secret, lambda given=given: given.append(rotation.reset(key)))  # type: ignore[misc]
        secret = given[0]
        assert pair.statuses(secret) == [200, 200]
    print(f"{situation}: refused after {sorted(times)[TRIES]:.3f} s in the median, {max(times):.3f} s at most")
    assert len(times) == 2 * TRIES and max(times) < PROMISED_S


def test_ten_resets_reach_both_processes_within_a_second(pair: Pair) -> None:
    assert_ten_resets_are_in_time(pair, "all is well")


@pytest.mark.usefixtures("without_valkey")
def test_ten_resets_reach_both_processes_within_a_second_without_valkey(pair: Pair) -> None:
    assert_ten_resets_are_in_time(pair, "without Valkey")


@pytest.mark.usefixtures("without_notifications")
def test_ten_resets_reach_both_processes_within_a_second_without_notifications(pair: Pair) -> None:
    assert_ten_resets_are_in_time(pair, "without notifications")


def test_in_an_overlap_both_secrets_work_and_then_the_former_one_has_expired(pair: Pair) -> None:
    key, former = pair.key()
    secret = rotation.reset(key, overlap_s=2)
    assert pair.statuses(former) == pair.statuses(secret) == [200, 200]
    time.sleep(2)
    assert pair.statuses(former) == [401, 401] and pair.statuses(secret) == [200, 200]


@pytest.mark.parametrize("end", [rotation.end_overlap, lambda key: key.revoke(timezone.now())])
def test_an_overlap_that_is_ended_early_is_over_within_a_second(pair: Pair, end: Callable[[APIKey], object]) -> None:
    key, former = pair.key()
    rotation.reset(key, overlap_s=3600)
    assert pair.statuses(former) == [200, 200]
    assert max(pair.refused_after_s(former, lambda: end(key))) < PROMISED_S


def test_a_new_secret_brings_no_fresh_limit(pair: Pair) -> None:
    key, former = pair.key()
    Limit.objects.create(scope=Limit.KEY, key=key, kind=Limit.REQUESTS_PER_DAY, amount=3)
    deadline = time.monotonic() + 5
    while chat(pair.webs[0], former) == 200:
        assert time.monotonic() < deadline
    secret = rotation.reset(key, overlap_s=60)
    assert pair.statuses(secret) == pair.statuses(former) == [429, 429]
