"""Spending limits through the real stack: who is refused, with what answer, and when it may come again.

The scripted model costs $2 a million tokens in and $10 out; a prepaid caller pays 1.2 times that.
"""

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from accounts import rotation
from accounts.models import APIKey, Grant
from billing.models import SpendingLimit
from tests.gateway import http
from tests.gateway.bills import DOLLAR, a_body, ask, price
from tests.gateway.conftest import APPLICATION, Gateway
from tests.gateway.rows import prepaid
from tests.servers import WebProcess, start_web
from tests.upstream.bills import open_gates

pytestmark = pytest.mark.server

NAMES = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def granted(gateway: Gateway) -> None:
    """Everybody may call everything."""
    Grant.objects.create(name="everyone", subjects=["everyone"], role=Grant.USER, model_globs=["**"])
    seen(gateway)


@pytest.fixture
def someone(gateway: Gateway) -> Any:
    """Make somebody with $10; return name and key."""

    def make(nanos: int = 10 * DOLLAR) -> tuple[str, str]:
        name = f"spender{next(NAMES)}"
        prepaid(gateway.installed, name, nanos)
        return name, gateway.installed.keys[name]

    return make


@pytest.fixture
def limited(gateway: Gateway) -> Iterator[Any]:
    """Make limits, as the gateway sees them; they are gone afterwards."""
    made: list[int] = []

    def make(**fields: Any) -> SpendingLimit:
        limit = SpendingLimit.objects.create(**{"name": f"limit-{next(NAMES)}"} | fields)
        made.append(limit.pk)
        seen(gateway)
        return limit

    yield make
    SpendingLimit.objects.filter(pk__in=made).delete()
    seen(gateway)


def seen(gateway: Gateway, *others: WebProcess) -> None:
    """Wait until the gateway has seen what was changed."""
    connections.close_all()
    gateway.follow(*others)


def bucket(gateway: Gateway, limit: SpendingLimit, subject: str = "") -> tuple[int, int]:
    """Return what a bucket has spent and held."""
    query = "SELECT spent_nanos, held_nanos FROM billing_bucket WHERE limit_id = %s AND subject = %s"
    [row] = gateway.installed.query(query, limit.pk, subject)
    return row["spent_nanos"], row["held_nanos"]


# --- What is refused, and how -----------------------------------------------------------------------------------------
def test_a_quota_that_is_used_up_is_a_429_that_tells_when_to_come_again(
    gateway: Gateway, someone: Any, limited: Any
) -> None:
    name, key = someone()
    body = a_body(max_tokens=10)
    cost = price(body, 10)
    # One more than two requests; a request's worth is back after 100 seconds.
    limit = limited(
        capacity_nanos=2 * cost + 1, rate_nanos=cost * 36, period="hour", subject=f"user:{name}@example.com"
    )
    first = [ask(gateway.port, key, body).status for _ in range(2)]
    assert first == [200, 200]
    calls = len(gateway.upstream.exchanges)
    answer = ask(gateway.port, key, body)
    assert (answer.status, answer.error["type"], answer.error["code"]) == (429, "billing_error", "quota_exceeded")
    assert repr(limit.name) in answer.error["message"]
    assert answer.json["request_id"] == answer.request_id
    told = int(answer.header("retry-after"))
    assert 95 <= told <= 100
    assert f"in {told} s" in answer.error["message"]
    assert len(gateway.upstream.exchanges) == calls
    # It has refilled for 98 of the seconds: not enough. For all of them: enough.
    gateway.installed.query(
        "UPDATE billing_bucket SET measured_at = measured_at - interval '1 s' * %s WHERE limit_id = %s RETURNING 1",
        told - 2,
        limit.pk,
    )
    assert 1 <= int(ask(gateway.port, key, body).header("retry-after")) <= 2
    time.sleep(2)
    assert ask(gateway.port, key, body).status == 200
    assert bucket(gateway, limit)[1] == 0


def test_the_refusal_comes_in_the_caller_s_own_envelope(gateway: Gateway, someone: Any, limited: Any) -> None:
    name, key = someone()
    limited(capacity_nanos=1, subject=f"user:{name}@example.com")
    answer = ask(gateway.port, key, a_body(), anthropic_version="2023-06-01")
    assert answer.status == 429
    assert answer.json["error"]["code"] == "quota_exceeded"


def test_a_budget_that_is_used_up_is_a_402_that_tells_when_it_starts_anew(
    gateway: Gateway, someone: Any, limited: Any
) -> None:
    name, key = someone()
    body = a_body(max_tokens=10)
    cost = price(body, 10)
    limited(capacity_nanos=cost + 1, kind="calendar", period="month", subject=f"user:{name}@example.com")
    assert ask(gateway.port, key, body).status == 200
    answer = ask(gateway.port, key, body)
    assert (answer.status, answer.error["type"], answer.error["code"]) == (402, "billing_error", "budget_exceeded")
    assert answer.header("retry-after") == ""
    assert "starts anew at 20" in answer.error["message"]
    assert "-01 00:00 UTC" in answer.error["message"]


@pytest.mark.parametrize("kind", ["refill", "calendar"])
def test_an_estimate_above_the_capacity_is_refused_without_a_time(
    gateway: Gateway, someone: Any, limited: Any, kind: str
) -> None:
    name, key = someone()
    body = a_body(max_tokens=1000)
    limited(capacity_nanos=price(body, 1000) - 1, rate_nanos=DOLLAR, kind=kind, subject=f"user:{name}@example.com")
    answer = ask(gateway.port, key, body)
    assert answer.status == {"refill": 429, "calendar": 402}[kind]
    assert answer.header("retry-after") == ""
    assert "ask for fewer output tokens" in answer.error["message"]
    assert ask(gateway.port, key, a_body(max_tokens=100)).status == 200


def test_zero_dollars_refuse_everything_even_what_is_free(gateway: Gateway, someone: Any, limited: Any) -> None:
    name, key = someone()
    limited(capacity_nanos=0, rate_nanos=DOLLAR, subject=f"user:{name}@example.com")
    for model in ("chaos/bill", "chaos/bill:free"):
        answer = ask(gateway.port, key, a_body(model))
        assert (answer.status, answer.header("retry-after")) == (429, "")
        assert "is $0" in answer.error["message"]


def test_a_soft_limit_only_tells(gateway: Gateway, someone: Any, limited: Any) -> None:
    name, key = someone()
    limit = limited(capacity_nanos=1, hard=False, subject=f"user:{name}@example.com")
    body = a_body(max_tokens=10)
    assert [ask(gateway.port, key, body).status for _ in range(2)] == [200, 200]
    assert bucket(gateway, limit) == (2 * price(body, 10), 0)


def test_a_spending_limit_is_told_before_an_empty_wallet(gateway: Gateway, someone: Any, limited: Any) -> None:
    name, key = someone(0)
    assert ask(gateway.port, key, a_body()).error["code"] == "insufficient_credits"
    limited(capacity_nanos=1, subject=f"user:{name}@example.com")
    assert ask(gateway.port, key, a_body()).error["code"] == "quota_exceeded"


def test_a_failed_request_counts_against_no_limit(gateway: Gateway, someone: Any, limited: Any) -> None:
    name, key = someone()
    limit = limited(capacity_nanos=DOLLAR, subject=f"user:{name}@example.com")
    for scenario in ("status-500-json", "error-in-200", "reset-before-head"):
        assert ask(gateway.port, key, a_body(f"chaos/{scenario}")).status >= 400
    assert bucket(gateway, limit) == (0, 0)


def test_a_stream_that_outgrows_its_limit_ends_with_length_and_the_reason(
    gateway: Gateway, someone: Any, limited: Any
) -> None:
    name, key = someone()
    told = {"pieces": 4000, "pause": 0.0002, "completion": "8000"}
    body = a_body(stream=True, max_tokens=100, told=told)
    limited(capacity_nanos=price(body, 150), subject=f"user:{name}@example.com")
    answer = ask(gateway.port, key, body)
    *_, cut, reason = http.events(answer.body)
    assert json.loads(cut)["choices"][0]["finish_reason"] == "length"
    assert json.loads(reason)["error"]["code"] == "quota_exceeded"


# --- Whom it binds ----------------------------------------------------------------------------------------------------
def test_a_bucket_for_each_user_separates_alice_and_bob(gateway: Gateway, limited: Any) -> None:
    """A team's wallets are unmetered: what counts is what it costs the house."""
    body = a_body("chaos/bill", max_tokens=10)
    cost = price(body, 10) * 10 // 12
    limit = limited(name="daily-<user>", capacity_nanos=cost + 1)
    grant = Grant.objects.create(subjects=["user:alice@example.com", "user:bob@example.com"], quotas=["daily-<user>"])
    seen(gateway)
    try:
        alice, bob, charlie = (gateway.installed.keys[name] for name in ("alice", "bob", "charlie"))
        assert [ask(gateway.port, key, body).status for key in (alice, alice, bob, bob)] == [200, 429, 200, 429]
        assert [ask(gateway.port, charlie, body).status for _ in range(2)] == [200, 200]
        for name in ("alice", "bob"):
            assert bucket(gateway, limit, f"user:{gateway.installed.users[name].pk}") == (cost, 0)
    finally:
        grant.delete()


def test_a_shared_limit_is_one_bucket_for_all(gateway: Gateway, someone: Any, limited: Any) -> None:
    spenders = [someone() for _ in range(2)]
    body = a_body(max_tokens=10)
    limit = limited(capacity_nanos=price(body, 10) + 1)
    subjects = [f"user:{name}@example.com" for name, _ in spenders]
    grant = Grant.objects.create(subjects=subjects, quotas=[limit.name])
    seen(gateway)
    try:
        assert [ask(gateway.port, key, body).status for _, key in spenders] == [200, 429]
    finally:
        grant.delete()


def test_a_key_that_gets_another_secret_gets_no_fresh_budget(gateway: Gateway, someone: Any, limited: Any) -> None:
    name, former = someone()
    key, body = APIKey.objects.get(user__email=f"{name}@example.com"), a_body(max_tokens=10)
    limit = limited(capacity_nanos=price(body, 10) + 1, subject=f"key:{key.pk}")
    assert [ask(gateway.port, former, body).status for _ in range(2)] == [200, 429]
    secret = rotation.reset(key, overlap_s=60)
    assert [ask(gateway.port, each, body).status for each in (secret, former)] == [429, 429]
    assert bucket(gateway, limit) == (price(body, 10), 0)


def test_a_grant_that_names_a_missing_limit_fails_closed(gateway: Gateway, someone: Any) -> None:
    name, key = someone()
    assert ask(gateway.port, key, a_body()).status == 200
    grant = Grant.objects.create(subjects=[f"user:{name}@example.com"], quotas=["nobody-defined-this"])
    seen(gateway)
    try:
        answer = ask(gateway.port, key, a_body("chaos/bill:free"))
        assert (answer.status, answer.error["code"], answer.header("retry-after")) == (429, "quota_exceeded", "")
        assert "'nobody-defined-this'" in answer.error["message"]
    finally:
        grant.delete()
        seen(gateway)
    assert ask(gateway.port, key, a_body()).status == 200


def test_a_broken_definition_fails_closed(gateway: Gateway, someone: Any, limited: Any) -> None:
    name, key = someone()
    limited(name="daily-<node>", capacity_nanos=DOLLAR, subject=f"user:{name}@example.com")
    answer = ask(gateway.port, key, a_body())
    assert (answer.status, answer.header("retry-after")) == (429, "")
    assert "'daily-<node>' has the unsupported template" in answer.error["message"]


def test_what_a_caller_writes_in_its_metadata_binds_and_frees_nobody(
    gateway: Gateway, someone: Any, limited: Any
) -> None:
    _, key = someone()
    limited(capacity_nanos=0, subject="tag:team=search")
    assert ask(gateway.port, key, a_body(told={"team": "search"})).status == 200


# --- Asking what is left ----------------------------------------------------------------------------------------------
def test_a_key_reads_what_is_left_and_an_admin_s_key_refills_it(gateway: Gateway, someone: Any, limited: Any) -> None:
    (name, key), (boss, boss_key) = someone(), someone()
    APIKey.objects.filter(user__email__in=[f"{each}@example.com" for each in (name, boss)]).update(
        scopes=["billing:read", "billing:write"]
    )
    body = a_body(max_tokens=10)
    cost = price(body, 10)
    limit = limited(name=f"q{next(NAMES)}-<user>", capacity_nanos=cost + 1, subject=f"user:{name}@example.com")
    shown = limit.name.replace("<user>", f"{name}@example.com")
    [fresh] = gateway.call("GET", "/api/quotas", key=key).json["buckets"]
    assert (fresh["name"], fresh["current"], fresh["full_at"] is not None) == (shown, cost + 1, True)
    assert [ask(gateway.port, key, body).status for _ in range(2)] == [200, 429]
    used = gateway.call("GET", f"/api/quotas/{shown}", key=key)
    assert (used.json["current"], used.json["spent"], used.json["full_at"]) == (1, cost, None)
    sent = {"body": {"bucket": shown}, "headers": {"Content-Type": "application/json"}}
    refused = gateway.call("POST", "/api/quotas/refill", key=key, **sent)
    assert (refused.status, refused.error["type"], refused.json["request_id"]) == (
        403, "permission_denied", refused.request_id,
    )  # fmt: skip
    Grant.objects.create(subjects=[f"user:{boss}@example.com"], role=Grant.ADMIN)
    connections.close_all()
    refilled = gateway.call("POST", "/api/quotas/refill", key=boss_key, **sent)
    assert (refilled.status, refilled.json["refilled"], refilled.json["bucket"]["current"]) == (200, cost, cost + 1)
    assert ask(gateway.port, key, body).status == 200


# --- Everybody at once ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def second(gateway: Gateway, engines: Path, bounds: dict[str, str]) -> Iterator[WebProcess]:
    """Another web process on the same database."""
    with start_web("daphne", APPLICATION, engines, DATABASE_URL=gateway.installed.database_url, **bounds) as web:
        yield web


@pytest.mark.parametrize("processes", [1, 2])
def test_200_parallel_requests_on_a_limit_for_exactly_10(
    gateway: Gateway, second: WebProcess, someone: Any, limited: Any, processes: int
) -> None:
    gate = f"spending-gate{processes}"
    name, key = someone()
    body = a_body(max_tokens=10, told={"gate": gate})
    limit = limited(capacity_nanos=10 * price(body, 10), subject=f"user:{name}@example.com")
    seen(gateway, second)
    ports = [gateway.port, second.port][:processes]
    with ThreadPoolExecutor(200) as pool:
        asking: set[Future[http.Answer]] = {
            pool.submit(ask, ports[number % processes], key, body) for number in range(200)
        }
        until = time.monotonic() + 20
        while sum(each.done() for each in asking) < 190 and time.monotonic() < until:
            time.sleep(0.02)
        open_gates.add(gate)
        done, _ = wait(asking)
    assert sorted(each.result().status for each in done) == [200] * 10 + [429] * 190
    assert bucket(gateway, limit) == (10 * price(body, 10), 0)
