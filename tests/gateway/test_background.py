"""Responses in the background: queued, complete, failed, cancelled from any process, and lost with their process."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.responses import RENEW_EVERY_S
from tests.gateway import fronts, http
from tests.gateway.conftest import APPLICATION, BOUNDS, Gateway
from tests.gateway.fronts import FRONTS, TEXT, said_whole
from tests.gateway.installation import CANARY
from tests.servers import start_web

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def vendors(gateway: Gateway) -> int:
    """Four providers of one dialect each, and somebody with credit."""
    fronts.install(gateway)
    return fronts.payer(gateway, "payer", 10**9)


def start(gateway: Gateway, model: str, *, port: int = 0, key: str = "", **fields: Any) -> Any:
    """Ask for a response in the background; return what is answered at once."""
    body = {"model": model, "input": "hello", "store": True, "background": True, **fields}
    key = key or gateway.installed.key
    answer = http.call(port or gateway.port, "POST", "/v1/responses", key=key, body=body)
    assert answer.status == 200, answer.body
    assert answer.json["status"] == "queued"
    return answer.json


def status_of(gateway: Gateway, response_id: str, **options: Any) -> str:
    """Return how far a response is."""
    return str(gateway.call("GET", f"/v1/responses/{response_id}", **options).json["status"])


def until(condition: Callable[[], bool], timeout_s: float = 8.0) -> None:
    """Wait until something holds."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def complete(gateway: Gateway, response_id: str, **options: Any) -> Any:
    """Wait until a response has ended, and return it."""
    until(lambda: status_of(gateway, response_id, **options) not in ("queued", "in_progress"))
    return gateway.call("GET", f"/v1/responses/{response_id}", **options).json


@pytest.mark.parametrize("vendor", FRONTS)
def test_a_response_is_made_while_nobody_waits(gateway: Gateway, vendors: int, vendor: str) -> None:
    key, before = gateway.installed.keys["payer"], gateway.installed.balance(vendors)[0]
    made = start(gateway, f"{vendor}/slow-first-byte-0.3", key=key)
    assert status_of(gateway, made["id"], key=key) in ("queued", "in_progress")
    found = complete(gateway, made["id"], key=key)

    assert (found["id"], found["status"], found["background"]) == (made["id"], "completed", True)
    assert (found["store"], found["model"]) == (True, f"{vendor}/slow-first-byte-0.3")
    assert said_whole("responses", found) == TEXT
    sent = gateway.upstream.last("slow-first-byte-0.3").json
    assert "background" not in sent
    assert not sent.get("stream")
    [row] = gateway.installed.query("SELECT * FROM billing_usage ORDER BY created_at DESC LIMIT 1")
    assert (row["status"], row["model"], row["output_tokens"]) == (200, made["model"], 7)
    assert gateway.installed.balance(vendors) == (before - row["charge_nanos"], 0)


def test_it_can_be_continued_once_it_is_complete(gateway: Gateway) -> None:
    made = start(gateway, "chat/slow-first-byte-0.3")
    body = {"model": "messages/agent", "input": "and now?", "previous_response_id": made["id"], "store": True}
    early = gateway.call("POST", "/v1/responses", body=body)
    assert (early.status, early.error["param"]) == (400, "previous_response_id")
    complete(gateway, made["id"])
    answer = gateway.call("POST", "/v1/responses", body=body)
    assert (answer.status, answer.json["previous_response_id"]) == (200, made["id"])
    later = complete(gateway, start(gateway, "chat/agent", previous_response_id=answer.json["id"])["id"])
    assert later["previous_response_id"] == answer.json["id"]


@pytest.mark.parametrize(
    ("model", "code"),
    [("chat/status-500-json", "upstream_failed"), ("chat/status-400-json", "upstream_400")],
)
def test_a_response_that_fails_says_why(gateway: Gateway, model: str, code: str) -> None:
    found = complete(gateway, start(gateway, model)["id"])
    assert (found["status"], found["error"]["code"], found["output"]) == ("failed", code, [])
    assert found["error"]["message"]


def test_what_can_be_refused_at_once_is(gateway: Gateway) -> None:
    body = {"model": "chat/agent", "input": "hello", "background": True}
    for fields, param in (
        ({}, "background"),
        ({"store": False}, "background"),
        ({"store": True, "stream": True}, "stream"),
        ({"store": True, "background": 1}, "background"),
        ({"store": True, "model": "none"}, "model"),
    ):
        answer = gateway.call("POST", "/v1/responses", body={**body, **fields})
        assert answer.error["param"] == param


def test_a_response_is_cancelled_and_its_upstream_left(gateway: Gateway) -> None:
    left = "SELECT * FROM billing_usage WHERE model = 'chat/slow-first-byte-2'"
    made = start(gateway, "chat/slow-first-byte-2")
    gateway.upstream.wait(lambda: bool(gateway.upstream.of("slow-first-byte-2")))
    answer = gateway.call("POST", f"/v1/responses/{made['id']}/cancel")

    assert (answer.status, answer.json["status"]) == (200, "cancelled")
    gateway.upstream.wait(lambda: gateway.upstream.last("slow-first-byte-2").closed_at is not None, 1.5)
    assert gateway.call("POST", f"/v1/responses/{made['id']}/cancel").json["status"] == "cancelled"
    until(lambda: bool(gateway.installed.query(left)))
    [row] = gateway.installed.query(left)
    assert (row["error_code"], row["cost_nanos"]) == ("client_closed", 0)
    assert status_of(gateway, made["id"]) == "cancelled"


def test_one_that_has_ended_stays_as_it_is_and_others_cannot_be_cancelled(gateway: Gateway) -> None:
    made = start(gateway, "chat/agent")
    complete(gateway, made["id"])
    assert gateway.call("POST", f"/v1/responses/{made['id']}/cancel").json["status"] == "completed"
    waited = gateway.call("POST", "/v1/responses", body={"model": "chat/agent", "input": "hello", "store": True}).json
    refused = gateway.call("POST", f"/v1/responses/{waited['id']}/cancel")
    assert (refused.status, refused.error["code"]) == (400, "invalid_parameter")


def test_one_that_is_deleted_ends_and_leaves_nothing(gateway: Gateway) -> None:
    made = start(gateway, "messages/slow-first-byte-2")
    count = len(gateway.upstream.of("slow-first-byte-2"))
    gateway.upstream.wait(lambda: len(gateway.upstream.of("slow-first-byte-2")) >= count)
    assert gateway.call("DELETE", f"/v1/responses/{made['id']}").json["deleted"] is True
    assert gateway.call("GET", f"/v1/responses/{made['id']}").status == 404
    time.sleep(0.3)
    assert gateway.call("GET", f"/v1/responses/{made['id']}").status == 404


def test_the_client_that_began_it_may_go(gateway: Gateway) -> None:
    """`start` closes its connection; a response that only its client's presence kept alive would be cancelled."""
    made = start(gateway, "gemini/slow-first-byte-0.3")
    assert complete(gateway, made["id"])["status"] == "completed"


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_another_process_shows_and_cancels_it(gateway: Gateway, engines: Path, kind: str) -> None:
    address = gateway.installed.database_url
    bounds = BOUNDS | {"APERTURE_FIRST_BYTE_TIMEOUT_SECONDS": "20"}
    with start_web(kind, APPLICATION, engines, DATABASE_URL=address, **bounds) as other:
        gateway.follow(other)
        made = start(gateway, "responses/silent", port=other.port)
        assert status_of(gateway, made["id"]) == "queued"
        gateway.upstream.wait(lambda: bool(gateway.upstream.of("silent")))
        assert gateway.call("POST", f"/v1/responses/{made['id']}/cancel").json["status"] == "cancelled"
        gateway.upstream.wait(lambda: gateway.upstream.last("silent").closed_at is not None, RENEW_EVERY_S + 3)
        assert (
            http.call(other.port, "GET", f"/v1/responses/{made['id']}", key=gateway.installed.key).json["status"]
            == "cancelled"
        )


def test_one_whose_process_was_killed_has_failed_once_its_lease_is_over(gateway: Gateway, engines: Path) -> None:
    with start_web("daphne", APPLICATION, engines, DATABASE_URL=gateway.installed.database_url, **BOUNDS) as other:
        gateway.follow(other)
        made = start(gateway, "chat/slow-first-byte-2", port=other.port)
        os.kill(other.pid, signal.SIGKILL)
        other.process.wait()
    assert status_of(gateway, made["id"]) in ("queued", "in_progress")
    [row] = gateway.installed.query(
        "UPDATE gateway_storedresponse SET lease_until = lease_until - interval '31 s' WHERE response_id = %s "
        "RETURNING lease_until",
        made["id"],
    )
    assert row["lease_until"] is not None
    found = gateway.call("GET", f"/v1/responses/{made['id']}").json
    assert (found["status"], found["error"]["code"]) == ("failed", "server_error")


def test_a_server_that_stops_waits_for_it_and_one_that_cannot_says_so(gateway: Gateway, engines: Path) -> None:
    address = gateway.installed.database_url
    for drain_s, scenario, status in (("5", "slow-first-byte-0.3", "completed"), ("0.2", "silent", "failed")):
        environment = BOUNDS | {"APERTURE_DRAIN_SECONDS": drain_s, "APERTURE_FIRST_BYTE_TIMEOUT_SECONDS": "20"}
        with start_web("daphne", APPLICATION, engines, DATABASE_URL=address, **environment) as other:
            gateway.follow(other)
            made = start(gateway, f"chat/{scenario}", port=other.port, key=gateway.installed.keys["payer"])
            other.signal()
            assert other.wait(15) == 0
        assert status_of(gateway, made["id"], key=gateway.installed.keys["payer"]) == status
    [row] = gateway.installed.query("SELECT sum(held_nanos)::bigint AS held FROM billing_wallet")
    assert row["held"] == 0


def test_nothing_of_it_is_in_clear(gateway: Gateway) -> None:
    made = start(gateway, "chat/agent", input=CANARY)
    complete(gateway, made["id"])
    for text in (gateway.installed.database_text(), gateway.installed.redis_text(), gateway.web.log):
        assert CANARY not in text
        assert CANARY.encode().hex() not in text


def test_a_response_that_was_deleted_while_it_was_made_does_not_come_back(gateway: Gateway, vendors: int) -> None:
    key = gateway.installed.keys["payer"]
    made = start(gateway, "chat/slow-first-byte-0.3", key=key)
    assert gateway.call("DELETE", f"/v1/responses/{made['id']}", key=key).status == 200
    until(lambda: gateway.installed.balance(vendors)[1] == 0)

    assert gateway.call("GET", f"/v1/responses/{made['id']}", key=key).status == 404
    assert not gateway.installed.query("SELECT 1 FROM gateway_storedresponse WHERE response_id = %s", made["id"])
