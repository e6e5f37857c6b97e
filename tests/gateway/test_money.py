"""Money through the real stack: what is admitted, what is charged, and what happens when everybody comes at once.

The scripted model costs $2 a million tokens in and $10 out; the caller pays 1.2 times that.
"""

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from accounts.models import Grant
from catalog.models import Model, Price, Target
from tests.gateway import http
from tests.gateway.bills import CHAT, DOLLAR, OUTPUT_NANOS, a_body, ask, price
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
    connections.close_all()
    gateway.follow()


@contextmanager
def changed(gateway: Gateway, table: str, **columns: Any) -> Iterator[None]:
    """Change columns of every row of a table for the length of the block, as the gateway sees it."""
    before = gateway.installed.query(f"SELECT id, {', '.join(columns)} FROM {table} LIMIT 1")[0]
    try:
        _set(gateway, table, columns)
        yield
    finally:
        _set(gateway, table, {name: before[name] for name in columns})


def _set(gateway: Gateway, table: str, columns: dict[str, Any]) -> None:
    assigned = ", ".join(f"{name} = %s" for name in columns)
    gateway.installed.query(f"UPDATE {table} SET {assigned} RETURNING 1", *columns.values())
    gateway.follow()


@pytest.fixture
def someone(gateway: Gateway) -> Any:
    """Make somebody with credit; return the key and the organization's id."""

    def make(nanos: int) -> tuple[str, int]:
        name = f"someone{next(NAMES)}"
        organization_id = prepaid(gateway.installed, name, nanos)
        return gateway.installed.keys[name], organization_id

    return make


@pytest.fixture(scope="module")
def second(gateway: Gateway, engines: Path, bounds: dict[str, str]) -> Iterator[WebProcess]:
    """Another web process on the same database."""
    with start_web("daphne", APPLICATION, engines, DATABASE_URL=gateway.installed.database_url, **bounds) as web:
        yield web


# --- What it costs ----------------------------------------------------------------------------------------------------
def test_an_answer_costs_exactly_what_was_used_times_the_markup(gateway: Gateway, someone: Any) -> None:
    key, organization_id = someone(DOLLAR)
    body = a_body(max_tokens=100)
    answer = ask(gateway.port, key, body)
    paid = price(body, 10)
    assert answer.header("x-aperture-cost") == f"0.{paid:09d}"
    assert gateway.installed.balance(organization_id) == (DOLLAR - paid, 0)
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["charge_nanos"], row["markup_ppm"]) == (paid, 1_200_000)
    assert row["cost_nanos"] * 12 == paid * 10


def test_a_free_model_costs_its_caller_nothing_and_the_house_what_it_costs(gateway: Gateway, someone: Any) -> None:
    key, organization_id = someone(0)
    answer = ask(gateway.port, key, a_body("chaos/bill:free"))
    assert (answer.status, answer.header("x-aperture-cost")) == (200, "0.000000000")
    assert gateway.installed.balance(organization_id) == (0, 0)
    [row] = gateway.installed.usage(answer.request_id)
    assert row["cost_nanos"] > row["charge_nanos"] == 0


def test_a_bare_id_that_a_free_and_a_paid_model_share_is_not_free_for_the_paid_one(
    gateway: Gateway, someone: Any
) -> None:
    key, _ = someone(0)
    paid = Model.objects.create(public_id="zz/shared")
    free = Model.objects.create(public_id="aa/shared:free")
    for model, preference in ((paid, 9), (free, 1)):
        target = Target.objects.create(
            model=model, provider=gateway.installed.providers["chaos"], upstream_id="ok", preference=preference
        )
        Price.objects.create(target=target, effective_at=timezone.now() - timedelta(days=1), input=10**9, output=10**9)
    connections.close_all()
    gateway.follow()
    assert ask(gateway.port, key, a_body("zz/shared")).status == 402
    assert ask(gateway.port, key, a_body("aa/shared:free")).status == 200
    assert ask(gateway.port, key, a_body("ok")).status == 402


def test_a_failed_request_costs_nothing(gateway: Gateway, someone: Any) -> None:
    key, organization_id = someone(DOLLAR)
    for scenario in ("status-500-json", "error-in-200", "reset-before-head", "status-429-json"):
        assert ask(gateway.port, key, a_body(f"chaos/{scenario}")).status >= 400
    assert gateway.installed.balance(organization_id) == (DOLLAR, 0)


def test_a_stream_shows_its_cost_in_the_last_chunk_when_asked(gateway: Gateway, someone: Any) -> None:
    key, organization_id = someone(DOLLAR)
    body = a_body(stream=True, usage={"include": True})
    *_, last, done = http.events(ask(gateway.port, key, body).body)
    assert done == b"[DONE]"
    usage = json.loads(last)["usage"]
    assert usage["cost"] * DOLLAR == pytest.approx(price(body, 10))
    assert usage["completion_tokens"] == 10
    assert gateway.installed.balance(organization_id)[0] == DOLLAR - price(body, 10)
    sent = gateway.upstream.last("bill").json
    assert "usage" not in sent
    assert sent["stream_options"] == {"include_usage": True}


def test_a_json_answer_shows_its_cost_in_its_usage_when_asked(gateway: Gateway, someone: Any) -> None:
    key, _ = someone(DOLLAR)
    body = a_body(usage={"include": True})
    assert ask(gateway.port, key, body).json["usage"]["cost"] * DOLLAR == pytest.approx(price(body, 10))


def test_metadata_stays_on_the_usage_row_as_labels(gateway: Gateway, someone: Any) -> None:
    key, _ = someone(DOLLAR)
    answer = ask(gateway.port, key, a_body(told={"team": "search\x00"}))
    [row] = gateway.installed.usage(answer.request_id)
    assert row["labels"]["team"] == "search"


def test_a_finished_request_can_be_looked_up_by_its_owner_only(gateway: Gateway, someone: Any) -> None:
    key, _ = someone(DOLLAR)
    body = a_body()
    request_id = ask(gateway.port, key, body).request_id
    found = gateway.call("GET", f"/v1/generation?id={request_id}", key=key)
    assert found.status == 200
    data = found.json["data"]
    assert data["id"] == request_id
    assert data["total_cost"] * DOLLAR == pytest.approx(price(body, 10))
    assert (data["tokens_completion"], data["model"]) == (10, "chaos/bill")
    for stranger, asked in ((gateway.installed.key, request_id), (key, "no-id"), (key, "")):
        assert gateway.call("GET", f"/v1/generation?id={asked}", key=stranger).status == 404
    assert gateway.call("GET", f"/v1/generation?id={request_id}", key="").status == 401


def test_auth_me_tells_plan_and_balance(gateway: Gateway, someone: Any) -> None:
    key, _ = someone(3 * DOLLAR // 2)
    told = gateway.call("GET", "/auth/me", key=key).json
    assert told["plan"] == "free"
    assert told["balance"] == {"mode": "prepaid", "posted": "1.50", "held": "0.00", "available": "1.50"}


def test_parallel_streams_are_all_charged(gateway: Gateway, someone: Any) -> None:
    """LiteLLM 34875: four of five streams were recorded at $0, for two handlers raced on one dictionary."""
    key, organization_id = someone(100 * DOLLAR)
    body = a_body(stream=True, told={"pieces": 5, "pause": 0.01})
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda _: ask(gateway.port, key, body), range(50)))
    charges = [gateway.installed.usage(answer.request_id)[0]["charge_nanos"] for answer in answers]
    assert charges == [price(body, 10)] * 50
    assert gateway.installed.balance(organization_id) == (100 * DOLLAR - sum(charges), 0)


@pytest.mark.parametrize("options", [None, {"include_usage": False}, {}])
def test_a_caller_that_asks_for_no_usage_pays_all_the_same(gateway: Gateway, someone: Any, options: Any) -> None:
    """LiteLLM 22280: whoever left `stream_options.include_usage` out was not charged."""
    key, organization_id = someone(DOLLAR)
    body = a_body(stream=True, stream_options=options)
    answer = ask(gateway.port, key, body)
    assert b'"usage"' not in answer.body
    assert gateway.installed.balance(organization_id) == (DOLLAR - price(body, 10), 0)


def test_an_explicit_zero_stays_zero(gateway: Gateway, someone: Any) -> None:
    """LiteLLM 37992: a usage of zero was replaced by an estimate, and charged."""
    key, organization_id = someone(DOLLAR)
    body = a_body().replace(json.loads(a_body())["metadata"]["prompt"].encode(), b"000000").replace(b"0010", b"0000")
    answer = ask(gateway.port, key, body)
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["usage_source"], row["charge_nanos"]) == ("provider", 0)
    assert gateway.installed.balance(organization_id) == (DOLLAR, 0)


# --- What is admitted -------------------------------------------------------------------------------------------------
def test_an_empty_wallet_is_told_where_to_top_up(gateway: Gateway, someone: Any) -> None:
    key, _ = someone(0)
    calls = len(gateway.upstream.exchanges)
    answer = ask(gateway.port, key, a_body())
    assert (answer.status, answer.error["type"], answer.error["code"]) == (402,) + ("insufficient_credits",) * 2
    assert answer.error["message"].endswith("/account")
    assert len(gateway.upstream.exchanges) == calls


def test_an_explicit_limit_that_cannot_be_paid_is_told_how_many_tokens_could(gateway: Gateway, someone: Any) -> None:
    body = a_body(max_tokens=1000)
    key, _ = someone(price(body, 500))
    answer = ask(gateway.port, key, body)
    assert answer.status == 402
    assert "pays for 500" in answer.error["message"]


def test_without_a_limit_a_small_balance_caps_the_answer_to_what_it_pays(gateway: Gateway, someone: Any) -> None:
    body = a_body()
    key, organization_id = someone(price(body, 300))
    answer = ask(gateway.port, key, body)
    assert (answer.status, answer.header("x-aperture-max-tokens")) == (200, "300")
    assert gateway.upstream.last("bill").json["max_tokens"] == 300
    assert gateway.installed.balance(organization_id) == (290 * OUTPUT_NANOS, 0)


def test_a_rich_wallet_sends_no_cap(gateway: Gateway, someone: Any) -> None:
    key, _ = someone(10 * DOLLAR)
    answer = ask(gateway.port, key, a_body())
    assert answer.header("x-aperture-max-tokens") == ""
    assert "max_tokens" not in gateway.upstream.last("bill").json


@pytest.mark.parametrize(
    "fields",
    [{"n": 2**64 - 1}, {"n": 0}, {"n": -3}, {"n": 1.5}, {"n": "2"}, {"max_tokens": -1}, {"max_tokens": 10**18}],
)
def test_a_multiplier_that_would_overflow_is_refused(gateway: Gateway, someone: Any, fields: dict[str, Any]) -> None:
    """CVE-2026-71479 of new-api: an unbounded `n` wrapped around and credited its caller."""
    key, organization_id = someone(DOLLAR)
    answer = ask(gateway.port, key, a_body(**fields))
    assert (answer.status, answer.error["code"]) == (400, "invalid_parameter")
    assert gateway.installed.balance(organization_id) == (DOLLAR, 0)


def test_several_answers_are_held_for(gateway: Gateway, someone: Any) -> None:
    body = a_body(n=3, max_tokens=100)
    key, _ = someone(price(body, 300) - 1)
    assert ask(gateway.port, key, body).status == 402


def test_a_rich_wallet_is_held_like_any_other_and_errors_give_it_back(gateway: Gateway, someone: Any) -> None:
    """one-api and new-api trusted balances above 100 estimates, and leaked holds on errors (new-api 4429)."""
    key, organization_id = someone(10**6 * DOLLAR)
    body = a_body(max_tokens=100, told={"gate": "rich"})
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, gateway.port, key, body)
        gateway.upstream.wait(lambda: b'"rich"' in gateway.upstream.exchanges[-1].body)
        assert gateway.installed.balance(organization_id)[1] == price(body, 100)
        open_gates.add("rich")
        running.result()
    for scenario in ("status-500-json", "reset-after-head", "truncated-json"):
        ask(gateway.port, key, a_body(f"chaos/{scenario}"))
    assert gateway.installed.balance(organization_id)[1] == 0


def test_a_model_whose_cost_nobody_knows_is_not_sold(gateway: Gateway, someone: Any) -> None:
    """LiteLLM 35524: without an estimate there was no hold, and everything passed."""
    key, _ = someone(DOLLAR)
    answer = ask(gateway.port, key, a_body("refused/ok"))
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert "no price" in answer.error["message"]


def together(jobs: list[tuple[int, str, bytes]], decided: int, gate: str) -> list[http.Answer]:
    """Send all at once; open the gate when DECIDED of them have been answered; return all answers."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        asking: set[Future[http.Answer]] = {pool.submit(ask, *job) for job in jobs}
        until = time.monotonic() + 20
        while sum(each.done() for each in asking) < decided and time.monotonic() < until:
            time.sleep(0.02)
        open_gates.add(gate)
        done, _ = wait(asking)
    return [each.result() for each in done]


@pytest.mark.parametrize("processes", [1, 2])
def test_200_parallel_requests_on_a_balance_for_exactly_10(
    gateway: Gateway, second: WebProcess, someone: Any, processes: int
) -> None:
    gate = f"gate{processes}"
    body = a_body(max_tokens=10, told={"gate": gate})
    key, organization_id = someone(10 * price(body, 10))
    ports = [gateway.port, second.port][:processes]
    answers = together([(ports[number % processes], key, body) for number in range(200)], 190, gate)
    assert sorted(answer.status for answer in answers) == [200] * 10 + [402] * 190
    assert gateway.installed.balance(organization_id) == (0, 0)


# --- Streams ----------------------------------------------------------------------------------------------------------
def test_a_stream_that_outgrows_its_hold_is_extended(gateway: Gateway, someone: Any) -> None:
    key, organization_id = someone(10 * DOLLAR)
    with changed(gateway, "catalog_model", output_tokens_typical=5):
        body = a_body(stream=True, told={"pieces": 40, "pause": 0.005, "completion": "80"})
        answer = ask(gateway.port, key, body)
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert gateway.installed.balance(organization_id) == (10 * DOLLAR - price(body, 80), 0)


def test_a_stream_whose_wallet_is_empty_ends_for_its_length_and_says_why(gateway: Gateway, someone: Any) -> None:
    with changed(gateway, "catalog_model", output_tokens_typical=20, output_tokens_max=20):
        body = a_body(stream=True, told={"pieces": 2000, "pause": 0.002, "completion": "9999"})
        key, organization_id = someone(price(body, 25))
        answer = ask(gateway.port, key, body)
    *_, cut, last = http.events(answer.body)
    assert json.loads(cut)["choices"][0]["finish_reason"] == "length"
    assert json.loads(last)["error"]["code"] == "insufficient_credits"
    assert b"[DONE]" not in answer.body
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["status"], row["error_code"], row["usage_source"]) == (402, "insufficient_credits", "partial")
    assert 20 <= row["output_tokens"] <= 40
    assert gateway.installed.balance(organization_id)[1] == 0


def test_a_client_that_leaves_pays_for_what_was_delivered(gateway: Gateway, someone: Any) -> None:
    key, organization_id = someone(DOLLAR)
    body = a_body(stream=True, told={"pieces": 500, "pause": 0.01})
    headers = {"Content-Type": "application/json"}
    with http.opened(gateway.port, "POST", CHAT, key=key, body=body, headers=headers) as response:
        request_id = response.getheader("x-aperture-request-id") or ""
        response.read(3000)
    gateway.upstream.wait(lambda: bool(gateway.installed.usage(request_id)))
    [row] = gateway.installed.usage(request_id)
    assert (row["status"], row["error_code"], row["usage_source"]) == (499, "client_closed", "partial")
    assert gateway.installed.balance(organization_id) == (DOLLAR - row["charge_nanos"], 0)
    assert row["charge_nanos"] > 0
    gateway.upstream.wait(lambda: gateway.upstream.last("bill").closed_at is not None)


def test_where_the_vendor_charges_on_the_stream_is_read_to_its_end_for_the_bill(gateway: Gateway, someone: Any) -> None:
    """Bedrock, Groq and others charge in full after a disconnect (LiteLLM 14457: recorded as nothing)."""
    key, organization_id = someone(DOLLAR)
    body = a_body(stream=True, told={"pieces": 60, "pause": 0.01, "completion": "77"})
    headers = {"Content-Type": "application/json"}
    with changed(gateway, "catalog_provider", on_disconnect="drain"):
        with http.opened(gateway.port, "POST", CHAT, key=key, body=body, headers=headers) as response:
            request_id = response.getheader("x-aperture-request-id") or ""
            response.read(600)
        gateway.upstream.wait(lambda: bool(gateway.installed.usage(request_id)))
    [row] = gateway.installed.usage(request_id)
    assert (row["status"], row["usage_source"], row["output_tokens"]) == (499, "provider", 77)
    assert gateway.installed.balance(organization_id) == (DOLLAR - price(body, 77), 0)


def test_a_stream_that_produced_nothing_and_failed_is_not_charged(gateway: Gateway, someone: Any) -> None:
    """new-api 4168 and sub2api 4408: the prompt was charged for a stream that produced nothing."""
    key, organization_id = someone(DOLLAR)
    ask(gateway.port, key, a_body("chaos/reset-mid-1", stream=True))
    assert gateway.installed.balance(organization_id) == (DOLLAR, 0)


@pytest.mark.parametrize("counts", ["first", "all"])
def test_a_stream_that_counts_its_prompt_and_fails_without_output_is_not_charged(
    gateway: Gateway, someone: Any, counts: str
) -> None:
    key, organization_id = someone(DOLLAR)
    told = {"counts": counts, "pieces": 0, "fails": 1, "completion": "0"}
    ask(gateway.port, key, a_body(stream=True, told=told))
    assert gateway.installed.balance(organization_id) == (DOLLAR, 0)


def test_a_stream_that_counted_only_its_first_chunk_and_fails_is_charged_what_was_delivered(
    gateway: Gateway, someone: Any
) -> None:
    """LiteLLM 39893: a first event's `output_tokens: 1` was priced as the answer."""
    key, organization_id = someone(DOLLAR)
    told = {"counts": "first", "pieces": 60, "fails": 1, "completion": "1"}
    answer = ask(gateway.port, key, a_body(stream=True, told=told))
    [row] = gateway.installed.usage(answer.request_id)
    assert row["usage_source"] == "partial"
    assert row["output_tokens"] >= 60
    assert gateway.installed.balance(organization_id) == (DOLLAR - row["charge_nanos"], 0)


def test_a_stream_that_shows_costs_and_fails_is_delivered_up_to_its_error(gateway: Gateway, someone: Any) -> None:
    key, _ = someone(DOLLAR)
    told = {"counts": "all", "pieces": 5, "fails": 1}
    answer = ask(gateway.port, key, a_body(stream=True, told=told, usage={"include": True}))
    *_, last, failure = http.events(answer.body)
    assert json.loads(last)["choices"][0]["delta"]["content"] == "piece 4 "
    assert "error" in json.loads(failure)


# --- Repeated requests ------------------------------------------------------------------------------------------------
def test_an_idempotency_key_answers_and_charges_once(gateway: Gateway, someone: Any) -> None:
    key, organization_id = someone(DOLLAR)
    body = a_body()
    first = ask(gateway.port, key, body, Idempotency_Key="order-1")
    again = ask(gateway.port, key, body, Idempotency_Key="order-1")
    other = ask(gateway.port, key, a_body(text="other"), Idempotency_Key="order-1")
    assert (first.status, again.status, other.status) == (200, 409, 422)
    assert again.error["code"] == "idempotency_conflict"
    assert first.request_id in again.error["message"]
    assert other.error["code"] == "idempotency_mismatch"
    assert gateway.installed.balance(organization_id)[0] == DOLLAR - price(body, 10)


def test_an_idempotency_key_whose_request_runs_is_a_conflict(gateway: Gateway, someone: Any) -> None:
    key, _ = someone(DOLLAR)
    body = a_body(told={"gate": "idempotent"})
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, gateway.port, key, body, Idempotency_Key="k")
        gateway.upstream.wait(lambda: gateway.upstream.last("bill").body.find(b"idempotent") > 0)
        assert ask(gateway.port, key, body, Idempotency_Key="k").status == 409
        open_gates.add("idempotent")
        assert running.result().status == 200


# --- Crashes ----------------------------------------------------------------------------------------------------------
def test_what_a_killed_process_left_is_settled_from_its_last_mark(
    gateway: Gateway, engines: Path, someone: Any
) -> None:
    lease = {"APERTURE_HOLD_LEASE_SECONDS": "1.5", "DATABASE_URL": gateway.installed.database_url}
    key, organization_id = someone(DOLLAR)
    with start_web("uvicorn", APPLICATION, engines, **lease) as web:
        body = a_body(stream=True, told={"pieces": 2000, "pause": 0.01})
        headers = {"Content-Type": "application/json"}
        with http.opened(web.port, "POST", CHAT, key=key, body=body, headers=headers) as response:
            request_id = response.getheader("x-aperture-request-id") or ""
            # Longer than a renewal takes to come.
            until = time.monotonic() + 2
            while time.monotonic() < until:
                response.read1(4096)
            assert gateway.installed.balance(organization_id)[1] > 0
            web.process.kill()
            web.process.wait()
    with start_web("uvicorn", APPLICATION, engines, **lease):
        gateway.upstream.wait(lambda: bool(gateway.installed.usage(request_id)), timeout_s=10)
    [row] = gateway.installed.usage(request_id)
    assert (row["status"], row["error_code"], row["usage_source"]) == (500, "gateway_lost", "partial")
    assert row["output_tokens"] > 10
    assert gateway.installed.balance(organization_id) == (DOLLAR - row["charge_nanos"], 0)


def test_a_server_that_is_told_to_stop_settles_what_runs(gateway: Gateway, engines: Path, someone: Any) -> None:
    """LiteLLM 34805: what was still in a buffer at SIGTERM was never charged."""
    key, organization_id = someone(DOLLAR)
    body = a_body(stream=True, told={"pieces": 30, "pause": 0.03})
    with start_web("uvicorn", APPLICATION, engines, DATABASE_URL=gateway.installed.database_url) as web:
        headers = {"Content-Type": "application/json"}
        with http.opened(web.port, "POST", CHAT, key=key, body=body, headers=headers) as response:
            response.read1(64)
            web.signal()
            received = response.read()
        assert web.wait(15) == 0
    assert received.endswith(b"data: [DONE]\n\n")
    assert gateway.installed.balance(organization_id) == (DOLLAR - price(body, 10), 0)


@pytest.mark.parametrize("on_disconnect", ["close", "drain"])
def test_a_server_that_cuts_what_runs_too_long_leaves_no_hold(
    gateway: Gateway, engines: Path, someone: Any, on_disconnect: str
) -> None:
    """A hold whose request was cancelled with its server stayed until a sweeper came, its last seconds uncharged."""
    key, organization_id = someone(DOLLAR)
    environment = {
        "DATABASE_URL": gateway.installed.database_url,
        "APERTURE_DRAIN_SECONDS": "0.3",
        "APERTURE_SETTLE_TIMEOUT_SECONDS": "1",
    }
    gate = f"cut-{on_disconnect}"
    headers = {"Content-Type": "application/json"}
    streaming = a_body(stream=True, told={"pieces": 2000, "pause": 0.01})
    with (
        changed(gateway, "catalog_provider", on_disconnect=on_disconnect),
        start_web(gateway.server, APPLICATION, engines, **environment) as web,
        ThreadPoolExecutor(1) as pool,
    ):
        whole = pool.submit(ask, web.port, key, a_body(told={"gate": gate}))
        gateway.upstream.wait(lambda: any(gate.encode() in each.body for each in gateway.upstream.exchanges))
        with http.opened(web.port, "POST", CHAT, key=key, body=streaming, headers=headers) as response:
            request_id = response.getheader("x-aperture-request-id") or ""
            response.read1(3000)
            web.signal()
            assert web.wait(15) == 0
        open_gates.add(gate)
        wait([whole])
    [row] = gateway.installed.usage(request_id)
    assert row["charge_nanos"] > 0
    assert gateway.installed.balance(organization_id) == (DOLLAR - row["charge_nanos"], 0)
    found = gateway.installed.query("SELECT status FROM billing_usage WHERE organization_id = %s", organization_id)
    assert len(found) == 2
