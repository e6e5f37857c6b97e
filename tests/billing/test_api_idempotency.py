"""A write that is sent twice with one Idempotency-Key is done once and answered the same."""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.db.models import F
from django.test import Client

from billing import connection as billing_connection
from billing import ledger, money, redeem
from billing.api import balance
from billing.api.errors import Fault
from billing.models import ApiIdempotency, Transfer
from tests.billing.api_scenery import API, WRITE, Acme, bearer, found_acme, wallet
from tests.races import at_once

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.server]


@pytest.fixture
def acme() -> Acme:
    acme = found_acme()
    ledger.wallet_of(acme.id)
    return acme


@pytest.fixture
def key(acme: Acme) -> str:
    return acme.key(acme.alice, WRITE)


def write(key: str, method: str, address: str, body: Any, once: str | None) -> Any:
    headers: dict[str, Any] = {"HTTP_IDEMPOTENCY_KEY": once} if once is not None else {}
    text = body if isinstance(body, str) else json.dumps(body)
    return Client().generic(method, f"{API}/{address}", text, "application/json", **bearer(key), **headers)


def set_low(key: str, nanos: Any, once: str | None = "k") -> Any:
    return write(key, "PATCH", "settings", {"low_balance_nanos": nanos}, once)


def use_code(key: str, code: str, once: str | None = "k") -> Any:
    return write(key, "POST", "redeem", {"code": code}, once)


def a_code(dollars: int = 5) -> str:
    [code] = redeem.make(redeem.NewBatch(uuid.uuid4(), "Fair", money.of_dollars(dollars), 1, None), None)[1]
    return code


def error(answer: Any) -> str:
    return str(answer.json()["error"]["code"])


def test_the_second_one_gets_the_first_ones_answer_and_does_nothing(acme: Acme, key: str) -> None:
    code = a_code()
    first, second = use_code(key, code), use_code(key, code)
    assert first.status_code == second.status_code == 200
    assert first.content == second.content
    assert first.json()["balance"]["posted"] == first.json()["transfer"]["amount"] == "5.00"
    assert ("Idempotent-Replayed" in first, second["Idempotent-Replayed"]) == (False, "true")
    assert Transfer.objects.count() == 1


def test_without_a_key_each_is_done_by_itself(acme: Acme, key: str) -> None:
    code = a_code()
    assert use_code(key, code, None).status_code == 200
    again = use_code(key, code, None)
    assert (again.status_code, again.json()["error"]["param"]) == (400, "code")
    assert not ApiIdempotency.objects.exists()


def test_a_failure_is_answered_again_too(acme: Acme, key: str) -> None:
    first, second = use_code(key, "AP-0000-0000-0000-0000"), use_code(key, "AP-0000-0000-0000-0000")
    assert (first.status_code, second.status_code) == (400, 400)
    assert first.content == second.content
    assert second["Idempotent-Replayed"] == "true"


def test_an_unexpected_failure_undoes_everything_and_is_answered_again(
    acme: Acme, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = a_code()
    with monkeypatch.context() as broken:
        broken.setattr("billing.api.balance.shape", lambda wallet: 1 / 0)
        first = use_code(key, code)
    second = use_code(key, code)
    assert (first.status_code, error(first)) == (500, "internal_error")
    assert first.content == second.content
    assert not Transfer.objects.exists()
    assert use_code(key, code, "another").status_code == 200


def test_another_body_is_refused(acme: Acme, key: str) -> None:
    set_low(key, 1)
    answer = set_low(key, 2)
    assert (answer.status_code, error(answer)) == (422, "idempotency_mismatch")
    assert wallet(acme).low_balance_nanos == 1


def test_what_was_refused_before_it_began_is_not_kept(acme: Acme, key: str) -> None:
    reader = acme.key(acme.bob, WRITE)
    for answer in (set_low(key, -1), write(key, "PATCH", "settings", "{", "k"), set_low(reader, 1), set_low("sg-x", 1)):
        assert answer.status_code in (400, 401, 403)
    assert not ApiIdempotency.objects.exists()
    assert set_low(key, 7).json()["low_balance_nanos"] == 7


def test_too_many_tries_are_not_kept(acme: Acme, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redeem, "TRIES_PER_USER", 0)
    answer = use_code(key, a_code())
    assert (answer.status_code, error(answer), answer["Retry-After"]) == (429, "too_many_tries", "3600")
    assert not ApiIdempotency.objects.exists()


def test_tries_that_cannot_be_counted_are_not_kept(acme: Acme, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any) -> None:
        raise redeem.NotCounted

    monkeypatch.setattr(redeem, "count_try", away)
    answer = use_code(key, a_code())
    assert (answer.status_code, error(answer)) == (503, "limits_unavailable")
    assert not ApiIdempotency.objects.exists()


def test_organizations_and_addresses_have_their_own_keys(acme: Acme, key: str) -> None:
    owner = acme.browser(acme.alice)
    owner.handler.enforce_csrf_checks = False
    assert set_low(key, 1).status_code == 200
    assert use_code(key, a_code()).status_code == 200
    mine = owner.patch(f"{API}/settings", '{"low_balance_nanos": 2}', "application/json", HTTP_IDEMPOTENCY_KEY="k")
    assert mine.json()["low_balance_nanos"] == 2
    assert ApiIdempotency.objects.count() == 3


def test_after_a_day_a_key_is_new(acme: Acme, key: str) -> None:
    set_low(key, 1)
    ApiIdempotency.objects.update(created_at=F("created_at") - timedelta(hours=23, minutes=59))
    assert set_low(key, 2).status_code == 422
    ApiIdempotency.objects.update(created_at=F("created_at") - timedelta(minutes=2))
    assert set_low(key, 2).json()["low_balance_nanos"] == 2
    assert ApiIdempotency.objects.count() == 1


@pytest.mark.parametrize("once", ["", "x" * 256, "é", "a\tb"])
def test_a_key_that_is_none_is_refused(acme: Acme, key: str, once: str) -> None:
    answer = set_low(key, 1, once)
    assert (answer.status_code, error(answer)) == (400, "invalid_parameter")
    assert wallet(acme).low_balance_nanos is None


def test_the_longest_key_works(acme: Acme, key: str) -> None:
    assert set_low(key, 1, "x" * 255).content == set_low(key, 1, "x" * 255).content


# --- At the same time -------------------------------------------------------------------------------------------------
@contextmanager
def wallet_locked(acme: Acme) -> Iterator[None]:
    """Somebody else holds Acme's wallet, so a write on it waits."""
    with psycopg.connect(**billing_connection.parameters()) as other:
        other.execute("SELECT 1 FROM billing_wallet WHERE organization_id = %s FOR UPDATE", [acme.id])
        yield


def waiting_for_a_row() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND query LIKE 'UPDATE%%billing_wallet%%'"
        )
        return bool(cursor.fetchone()[0])


def test_while_one_runs_its_duplicates_are_refused_and_then_get_its_answer(acme: Acme, key: str) -> None:
    answers: list[Any] = []

    def first() -> None:
        answers.append(set_low(key, 5))
        connections.close_all()

    thread = threading.Thread(target=first)
    with wallet_locked(acme):
        thread.start()
        while not waiting_for_a_row():
            thread.join(0.01)
        running, other_body = set_low(key, 5), set_low(key, 6)
        free = use_code(key, "AP-0000-0000-0000-0000")
    thread.join(10)
    assert [(each.status_code, error(each)) for each in (running, other_body)] == [(409, "idempotency_conflict")] * 2
    # Another address is another key.
    assert free.status_code == 400
    assert answers[0].status_code == 200
    assert set_low(key, 5).content == answers[0].content


def test_of_many_at_once_one_is_done(acme: Acme, key: str) -> None:
    code = a_code()
    answers = at_once(*[lambda: use_code(key, code)] * 8)
    done = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert done
    assert len({answer.content for answer in done}) == 1
    assert sum("Idempotent-Replayed" not in answer for answer in done) == 1
    assert Transfer.objects.count() == 1
    assert wallet(acme).posted_nanos == 5_000_000_000


def test_different_keys_do_not_wait_for_one_another(acme: Acme, key: str) -> None:
    codes = [a_code(1) for _ in range(4)]
    answers = at_once(*[lambda code=code: use_code(key, code, code) for code in codes])
    assert [answer.status_code for answer in answers] == [200] * 4
    assert wallet(acme).posted_nanos == 4_000_000_000


def test_a_writer_that_is_gone_leaves_its_key_free(acme: Acme, key: str) -> None:
    def killed() -> Any:
        return set_low(key, 5)

    thread = threading.Thread(target=lambda: at_once(killed))
    with wallet_locked(acme):
        thread.start()
        while not waiting_for_a_row():
            thread.join(0.01)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock' AND query LIKE 'UPDATE%%billing_wallet%%'"
            )
        thread.join(10)
    assert not thread.is_alive()
    assert not ApiIdempotency.objects.exists()
    assert set_low(key, 5).status_code == 200


def test_no_lock_is_left(acme: Acme, key: str) -> None:
    set_low(key, 1)
    set_low(key, 1)
    set_low(key, 2)
    use_code(key, "AP-0000-0000-0000-0000", "other")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert cursor.fetchone() == (0,)


def test_a_write_that_asks_another_service_commits_as_it_goes(
    acme: Acme, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from billing.api import idempotency

    calls = []

    def patch(view: balance.Settings, request: Any) -> Any:
        def work() -> Any:
            calls.append(connection.in_atomic_block)
            raise Fault("storage_unavailable" if len(calls) == 1 else "not_found", "The service said no.")

        return idempotency.once(view, request, work, one_transaction=False)

    monkeypatch.setattr(balance.Settings, "patch", patch)
    assert [set_low(key, 1).status_code for _ in range(3)] == [503, 404, 404]
    assert calls == [False, False]
