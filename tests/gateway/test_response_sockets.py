"""Responses over a WebSocket, as a client meets them: real web processes, every kind of upstream, rows of usage."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from gateway import response_sockets
from gateway.body import ClientGone
from gateway.errors import Fault
from gateway.exchange import Exchange
from gateway.response_sockets import Memory, Response, error_event, headers_of
from tests.gateway import fronts
from tests.gateway.conftest import APPLICATION, BOUNDS, Gateway
from tests.gateway.fronts import COST_NANOS, FRONTS, TEXT
from tests.servers import start_web

server_test = pytest.mark.server
WAIT_S = 15.0
ENDS = ("response.completed", "response.incomplete", "response.failed", "error")


# --- What a connection remembers, and says of itself ------------------------------------------------------------------
def test_a_conversation_takes_the_place_of_what_it_continues_on_its_stream_alone() -> None:
    memory = Memory(1_000)
    memory.keep("r1", "main", b'[{"n":1}]', "")
    memory.keep("fork", "critic", b'[{"n":1},{"n":2}]', "r1")
    assert memory.find("r1") is not None
    memory.keep("r2", "main", b'[{"n":1},{"n":3}]', "r1")

    assert memory.find("r1") is None
    assert [bytes(item) for item in memory.find("r2") or []] == [b'{"n":1}', b'{"n":3}']
    assert memory.find("fork") is not None
    assert memory.bytes == len(b'[{"n":1},{"n":2}]') + len(b'[{"n":1},{"n":3}]')


def test_what_is_remembered_is_bounded_in_number_and_bytes_and_the_oldest_goes_first() -> None:
    memory = Memory(100, count_max=3)
    for number in range(5):
        memory.keep(f"r{number}", "", b"[1]", "")
    assert list(memory.kept) == ["r2", "r3", "r4"]
    memory.keep("large", "", b"[" + b"1" * 95 + b"]", "")
    assert list(memory.kept) == ["r4", "large"]
    memory.keep("too large", "", b"[" + b"1" * 200 + b"]", "large")
    assert (list(memory.kept), memory.bytes) == (["r4"], 3)


def test_of_all_connections_the_one_that_has_most_forgets_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_sockets, "ALL_BYTES_MAX", 100)
    small, greedy = Memory(1_000), Memory(1_000)
    small.keep("mine", "", b"[1]", "")
    for number in range(4):
        greedy.keep(f"g{number}", "", b"[" + b"1" * 38 + b"]", "")
    small.keep("also mine", "", b"[1]", "")
    assert (list(small.kept), list(greedy.kept)) == (["mine", "also mine"], ["g2", "g3"])
    for memory in (small, greedy):
        memory.close()
        assert (memory.bytes, memory in Memory.alive) == (0, False)


async def test_the_handshake_s_own_headers_are_no_request_s() -> None:
    told = {
        b"user-agent": b"codex",
        b"idempotency-key": b"one",
        b"openai-beta": b"responses_websockets=2026-02-06, assistants=v2",
    }
    exchange = Exchange({"headers": []}, never, never, told)  # type: ignore[arg-type]
    assert headers_of(exchange) == {b"user-agent": b"codex", b"openai-beta": b"assistants=v2"}
    exchange.close()


async def never() -> None:
    """Receive or send nothing."""


def test_an_error_event_has_its_status_and_headers_where_clients_look_for_them() -> None:
    fault = Fault("requests_per_minute", "Slow down.", retry_after_s=7)
    told = json.loads(error_event(fault, "id", {"x-ratelimit-limit-requests": "1"}))
    headers = {"retry-after": "7", "x-ratelimit-limit-requests": "1"}
    assert (told["type"], told["status"], told["headers"]) == ("error", 429, headers)
    assert told["error"] == {
        "message": "Slow down.", "type": "rate_limit_exceeded", "code": "requests_per_minute", "headers": headers
    }  # fmt: skip


class Told:
    """A connection of which the frames are looked at alone."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {"headers": [], "path": "/v1/responses"}
        self.headers: dict[bytes, bytes] = {}
        self.memory = Memory(1_000)
        self.socket = SimpleNamespace(close_code=None, caller=None)
        self.events: list[Any] = []

    async def tell(self, data: bytes, stream_id: str) -> None:
        """Note a frame."""
        self.events.append(json.loads(data) | {"stream_id": stream_id})


class Failing(Response):
    """A response that fails in a way that nobody thought of, after its beginning."""

    async def _make(self) -> None:
        event = b'event: response.created\ndata: {"response":{}}\n\n: a comment\n\n'
        await self.send(
            {"type": "http.response.start", "headers": [(b"x-aperture-upstream", b"chat"), (b"date", b"x")]}
        )
        await self.send({"type": "http.response.body", "body": event, "more_body": True})
        raise OSError("a file is missing")


async def test_whatever_breaks_a_response_its_client_does_not_wait_for_ever() -> None:
    connection = Told()
    made = Failing(connection, {}, "main")  # type: ignore[arg-type]
    await made.run()

    begun, error = connection.events
    assert (begun["type"], begun["stream_id"]) == ("response.created", "main")
    told = {"x-aperture-request-id": made.exchange.request_id, "x-aperture-upstream": "chat"}
    assert begun["headers"] == told
    assert (error["status"], error["error"]["code"]) == (500, "internal_error")
    assert error["request_id"] == made.exchange.request_id


async def test_a_response_whose_client_has_gone_says_nothing_more() -> None:
    connection = Told()
    made = Failing(connection, {}, "")  # type: ignore[arg-type]
    called: list[str] = []
    made.watch(lambda: called.append("before"))
    made.leave()
    made.watch(lambda: called.append("after"))
    with pytest.raises(ClientGone):
        await made.run()
    assert called == ["before", "after"]
    assert [event["type"] for event in connection.events] == ["response.created"]


# --- Over real sockets ----------------------------------------------------------------------------------------------
class Talk:
    """A client's end of one connection."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def send(self, model: str = "chat/agent", text: str = "hello", **fields: Any) -> None:
        """Ask for a response, as Codex does: nothing is stored unless FIELDS say so."""
        given = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]
        asked = {"type": "response.create", "model": model, "store": False, "input": given}
        self.socket.send(json.dumps(asked | fields))

    def next(self) -> Any:
        """Return the next event."""
        return json.loads(self.socket.recv(timeout=WAIT_S))

    def rest(self) -> list[Any]:
        """Return the events up to the end of a response, that end or error last."""
        found = [self.next()]
        while found[-1]["type"] not in ENDS:
            found.append(self.next())
        return found

    def ask(self, model: str = "chat/agent", text: str = "hello", **fields: Any) -> Any:
        """Ask, and return the response that its last event tells, which is its proper end."""
        self.send(model, text, **fields)
        last = self.rest()[-1]
        assert last["type"] == "response.completed", last
        return last["response"]

    def refused(self, **fields: Any) -> tuple[int, str]:
        """Ask, and return the status and code of the error that is the only answer."""
        self.send(**fields)
        return self.error()

    def error(self) -> tuple[int, str]:
        """Return the status and code of the next event, which is an error."""
        event = self.next()
        assert event["type"] == "error", event
        assert len(event["error"]["message"]) > 10
        return event["status"], event["error"]["code"]


@contextmanager
def talking(gateway: Gateway, key: str = "", base: str = "/v1", max_queue: int | None = None) -> Iterator[Talk]:
    """Open a connection; with MAX_QUEUE no more than that many frames are read that nobody asked for."""
    headers = {
        "Authorization": f"Bearer {key or gateway.installed.key}",
        "OpenAI-Beta": "responses_websockets=2026-02-06",
    }
    url = f"ws://127.0.0.1:{gateway.port}{base}/responses"
    with connect(url, additional_headers=headers, proxy=None, max_size=None, max_queue=max_queue) as socket:
        yield Talk(socket)


@pytest.fixture(scope="module", params=["daphne", pytest.param("uvicorn", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> str:
    """Sockets are each server's own affair: both."""
    return str(request.param)


@pytest.fixture(scope="module")
def vendors(gateway: Gateway) -> Gateway:
    """The gateway with four providers of one dialect each."""
    fronts.install(gateway)
    return gateway


@pytest.fixture
def talk(vendors: Gateway) -> Iterator[Talk]:
    """An open connection of Alice's."""
    with talking(vendors) as opened:
        yield opened


def said(response: Any) -> str:
    """Return a response's text."""
    return fronts.said("responses", json.dumps(response).encode())


def received(gateway: Gateway, scenario: str = "agent") -> str:
    """Return the body that the upstream got last."""
    return gateway.upstream.last(scenario).body.decode()


def row_of(gateway: Gateway, request_id: str) -> dict[str, Any]:
    """Wait for a response's usage row, and return it: there is exactly one."""
    gateway.upstream.wait(lambda: bool(gateway.installed.usage(request_id)))
    [row] = gateway.installed.usage(request_id)
    return row


@server_test
@pytest.mark.parametrize("vendor", FRONTS)
def test_a_response_streams_its_events_as_frames_and_costs_what_it_costs_over_http(
    vendors: Gateway, talk: Talk, vendor: str
) -> None:
    talk.send(f"{vendor}/agent", stream=False)
    events = talk.rest()

    assert [events[0]["type"], events[-1]["type"]] == ["response.created", "response.completed"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"]["model"] == f"{vendor}/agent"
    told = events[0]["headers"]
    assert told["x-aperture-upstream"] == vendor
    assert all("headers" not in event for event in events[1:])
    row = row_of(vendors, told["x-aperture-request-id"])
    assert (row["status"], row["streamed"], row["dialect"], row["model"]) == (
        200, True, "openai_responses", f"{vendor}/agent"
    )  # fmt: skip
    assert row["cost_nanos"] == COST_NANOS


@server_test
@pytest.mark.parametrize("vendor", FRONTS)
def test_a_conversation_goes_on_though_nothing_is_stored_on_any_vendor(
    vendors: Gateway, talk: Talk, vendor: str
) -> None:
    first = talk.ask(f"{vendor}/agent", "my first words")
    assert said(first) == TEXT
    second = talk.ask(f"{vendor}/agent", "my second words", previous_response_id=first["id"])
    third = talk.ask(f"{vendor}/agent", "my third words", previous_response_id=second["id"])

    got = received(vendors, vendors.upstream.exchanges[-1].model)
    assert [got.count(f"my {number} words") for number in ("first", "second", "third")] == [1, 1, 1]
    assert got.count("世界") + got.count("\\u4e16\\u754c") == 2
    assert "previous_response_id" not in got
    assert said(third) == TEXT
    assert vendors.installed.query("SELECT 1 FROM gateway_storedresponse") == []


@server_test
def test_it_goes_on_at_another_vendor_and_below_the_other_base(vendors: Gateway) -> None:
    with talking(vendors, base="/api/v1") as talk:
        first = talk.ask("messages/agent", "my first words")
        talk.ask("chat/agent", "my second words", previous_response_id=first["id"])
    assert "my first words" in received(vendors)


@server_test
def test_another_connection_knows_nothing_of_it_and_says_so_in_openai_s_words(vendors: Gateway, talk: Talk) -> None:
    made = talk.ask("chat/agent")
    with talking(vendors) as other:
        other.send("chat/agent", previous_response_id=made["id"], stream_id="main")
        event = other.next()
        assert (event["status"], event["error"]["code"]) == (400, "previous_response_not_found")
        assert (event["error"]["param"], event["stream_id"]) == ("previous_response_id", "main")
        assert event["error"]["type"] == "invalid_request_error"
        assert said(other.ask("chat/agent")) == TEXT
    assert said(talk.ask("chat/agent", previous_response_id=made["id"])) == TEXT


@server_test
def test_a_warm_up_calls_and_costs_nothing_and_can_be_continued(vendors: Gateway, talk: Talk) -> None:
    rows, exchanges = vendors.installed.usage_count(), len(vendors.upstream.exchanges)
    talk.send("responses/agent", "known beforehand", generate=False, instructions="be brief")
    events = talk.rest()
    assert [events[0]["type"], events[-1]["type"]] == ["response.created", "response.completed"]
    warm = events[-1]["response"]
    assert (warm["output"], warm["usage"]["total_tokens"], warm["status"]) == ([], 0, "completed")
    assert (warm["model"], warm["instructions"]) == ("responses/agent", "be brief")
    assert len(vendors.upstream.exchanges) == exchanges

    talk.ask("responses/agent", "and now", previous_response_id=warm["id"])
    assert "known beforehand" in received(vendors)
    assert "generate" not in vendors.upstream.last("agent").json
    vendors.upstream.wait(lambda: vendors.installed.usage_count() > rows)
    assert vendors.installed.usage_count() == rows + 1


@server_test
def test_a_warm_up_of_a_model_that_is_not_granted_is_refused(vendors: Gateway, talk: Talk) -> None:
    assert talk.refused(model="nobody/knows", generate=False) == (404, "model_not_found")
    assert talk.refused(generate="no") == (400, "invalid_parameter")


@server_test
def test_a_warm_up_may_be_stored_and_is_continued_from_anywhere(vendors: Gateway, talk: Talk) -> None:
    warm = talk.ask("chat/agent", "known beforehand", generate=False, store=True)
    assert warm["store"] is True
    with talking(vendors) as other:
        other.ask("chat/agent", "and now", previous_response_id=warm["id"])
    assert "known beforehand" in received(vendors)
    assert vendors.call("DELETE", f"/v1/responses/{warm['id']}").status == 200
    assert talk.refused(previous_response_id=warm["id"]) == (400, "previous_response_not_found")


@server_test
def test_what_is_stored_is_found_over_http_with_all_that_came_before_it(vendors: Gateway, talk: Talk) -> None:
    vendors.installed.query("DELETE FROM gateway_storedresponse RETURNING 1")
    first = talk.ask("messages/agent", "only on this connection")
    second = talk.ask("chat/agent", "to be kept", previous_response_id=first["id"], store=True)
    assert second["store"] is True
    items = vendors.call("GET", f"/v1/responses/{second['id']}/input_items?order=asc").json["data"]
    assert "only on this connection" in json.dumps(items[0])

    with talking(vendors) as other:
        other.ask("gemini/agent", "later", previous_response_id=second["id"])
    got = vendors.upstream.exchanges[-1].body.decode()
    assert "only on this connection" in got
    assert "to be kept" in got
    vendors.installed.query("DELETE FROM gateway_storedresponse RETURNING 1")
    assert talk.refused(previous_response_id=second["id"]) == (400, "previous_response_not_found")


# --- Several of them ------------------------------------------------------------------------------------------------
@server_test
def test_what_is_asked_while_a_response_runs_waits_its_turn(talk: Talk) -> None:
    for _ in range(3):
        talk.send("chat/drip-0.1")
    for _ in range(3):
        events = talk.rest()
        assert [events[0]["type"], events[-1]["type"]] == ["response.created", "response.completed"]
        assert [event["type"] for event in events].count("response.created") == 1


@server_test
def test_streams_with_names_run_beside_each_other_and_their_events_say_whose_they_are(talk: Talk) -> None:
    talk.send("chat/drip-0.1", stream_id="slow")
    assert talk.next()["stream_id"] == "slow"
    talk.send("chat/agent", stream_id="quick.1")
    ended: list[str] = []
    while len(ended) < 2:
        event = talk.next()
        if event["type"] == "response.completed":
            ended.append(event["stream_id"])
    assert ended == ["quick.1", "slow"]


@server_test
def test_the_names_of_streams_are_bounded_in_form_and_number(talk: Talk) -> None:
    for wrong in ("", "a b", "é", "x" * 257, 7):
        assert talk.refused(stream_id=wrong) == (400, "invalid_stream_id")
    for number in range(32):
        assert talk.refused(model="nobody/knows", stream_id=f"s{number}") == (404, "model_not_found")
    talk.send("chat/agent", stream_id="one-too-many")
    event = talk.next()
    assert event["error"]["code"] == "websocket_stream_limit_reached"
    assert event["stream_id"] == "one-too-many"
    assert said(talk.ask("chat/agent", stream_id="s7")) == TEXT
    assert said(talk.ask("chat/agent")) == TEXT


@server_test
def test_a_hundred_at_once_are_all_answered(talk: Talk) -> None:
    for _ in range(100):
        talk.send("nobody/knows")
    assert {talk.error() for _ in range(100)} == {(404, "model_not_found")}


# --- What goes wrong ------------------------------------------------------------------------------------------------
@server_test
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("no json", "invalid_json"),
        ("", "invalid_json"),
        ("[1]", "invalid_json"),
        ("null", "invalid_json"),
        ('"text"', "invalid_json"),
        ("{}", "invalid_parameter"),
        ('{"type":"response.steer"}', "invalid_parameter"),
        ('{"type":["response.create"]}', "invalid_parameter"),
        ('{"type":"response.create"}', "invalid_parameter"),
        ('{"type":"response.create","model":"chat/agent","input":' + "[" * 2_000 + "]" * 2_000 + "}", "invalid_json"),
        ('{"type":"response.create","model":"chat/agent","input":"\\ud800"}', "invalid_json"),
        ('{"type":"response.create","model":"chat/agent","input":"hello","temperature":"x"}', "invalid_parameter"),
        (b"\x00\x01", "invalid_json"),
    ],
    ids=range(13),
)
def test_rubbish_is_told_and_the_socket_stays_open(talk: Talk, frame: str | bytes, code: str) -> None:
    talk.socket.send(frame)
    assert talk.error() == (400, code)
    assert said(talk.ask("chat/agent")) == TEXT


@server_test
def test_that_a_response_was_processed_needs_no_answer(talk: Talk) -> None:
    talk.socket.send('{"type":"response.processed","response_id":"resp_1"}')
    assert said(talk.ask("chat/agent")) == TEXT


@server_test
def test_a_frame_of_two_megabytes_is_a_request_like_any_other(vendors: Gateway, talk: Talk) -> None:
    made = talk.ask("chat/agent", "x" * 2_000_000)
    assert "x" * 2_000_000 in received(vendors)
    talk.ask("chat/agent", "and on", previous_response_id=made["id"])
    assert "x" * 2_000_000 in received(vendors)


@server_test
def test_what_is_for_http_alone_is_refused_or_passed_over(vendors: Gateway, talk: Talk) -> None:
    assert talk.refused(background=True, store=True) == (400, "unsupported_parameter")
    assert talk.refused(conversation="conv_1") == (400, "unsupported_parameter")
    assert said(talk.ask("responses/agent", stream=False, background=False)) == TEXT
    assert set(vendors.upstream.last("agent").json) == {"model", "store", "input", "stream"}


@server_test
@pytest.mark.parametrize("vendor", FRONTS)
def test_what_the_upstream_says_is_told_with_its_status(vendors: Gateway, talk: Talk, vendor: str) -> None:
    talk.send(f"{vendor}/status-429-json")
    event = talk.next()
    assert (event["type"], event["status"]) == ("error", 429)
    assert event["error"]["upstream"]["provider"] == vendor
    row = row_of(vendors, event["request_id"])
    assert (row["status"], row["cost_nanos"]) == (429, 0)
    talk.send(f"{vendor}/reset-mid-3")
    last = talk.rest()[-1]
    assert (last["type"], last["response"]["error"]["code"]) == ("response.failed", "stream_aborted")
    assert talk.refused(previous_response_id=last["response"]["id"]) == (400, "previous_response_not_found")


# --- Money and limits -----------------------------------------------------------------------------------------------
@server_test
def test_each_response_is_held_and_settled_by_itself_until_the_money_is_spent(vendors: Gateway) -> None:
    name, nanos = f"socket-{vendors.server}", 500_000
    organization_id = fronts.payer(vendors, name, nanos)
    paid = "SELECT charge_nanos FROM billing_usage WHERE organization_id = %s AND status = 200"
    with talking(vendors, vendors.installed.keys[name]) as talk:
        endings: list[tuple[Any, ...]] = []
        while ("error", 402, "insufficient_credits") not in endings:
            talk.send("chat/agent", max_output_tokens=16)
            last = talk.rest()[-1]
            endings.append((last["type"], last.get("status"), (last.get("error") or {}).get("code")))
            assert len(endings) < 20, endings
        assert endings[0] == ("response.completed", None, None)
        # The connection goes on: what costs nothing is still answered.
        assert talk.refused(model="nobody/knows") == (404, "model_not_found")
    vendors.upstream.wait(lambda: vendors.installed.balance(organization_id)[1] == 0)
    costs = [row["charge_nanos"] for row in vendors.installed.query(paid, organization_id)]
    assert len(costs) == endings.count(("response.completed", None, None))
    assert vendors.installed.balance(organization_id)[0] == nanos - sum(costs) >= 0


@server_test
def test_a_limit_counts_each_response_and_its_refusal_says_when_to_come_again(vendors: Gateway) -> None:
    from billing.models import Limit

    name = f"limited-socket-{vendors.server}"
    organization_id = fronts.payer(vendors, name, 10**9)
    Limit.objects.create(scope="organization", organization_id=organization_id, kind="requests_per_minute", amount=2)
    vendors.follow()
    with talking(vendors, vendors.installed.keys[name]) as talk:
        talk.send("chat/agent")
        begun = talk.rest()[0]["headers"]
        assert (begun["x-ratelimit-limit-requests"], begun["x-ratelimit-remaining-requests"]) == ("2", "1")
        talk.ask("chat/agent")
        talk.send("chat/agent")
        event = talk.next()
        assert (event["status"], event["error"]["code"]) == (429, "requests_per_minute")
        assert int(event["headers"]["retry-after"]) > 0
        assert event["error"]["headers"]["x-ratelimit-remaining-requests"] == "0"
        # What costs nothing is not counted.
        assert talk.ask("chat/agent", generate=False)["output"] == []


# --- Departures -----------------------------------------------------------------------------------------------------
@server_test
@pytest.mark.parametrize("vendor", FRONTS)
def test_a_client_that_goes_mid_stream_leaves_one_row_each_and_no_upstream(vendors: Gateway, vendor: str) -> None:
    with talking(vendors) as talk:
        talk.send(f"{vendor}/stall-late")
        talk.send("chat/agent", "never begun")
        request_id = talk.next()["headers"]["x-aperture-request-id"]
        while talk.next()["type"] != "response.output_text.delta":
            pass
    sent = vendors.upstream.last("stall-late")
    vendors.upstream.wait(lambda: sent.closed_at is not None)

    row = row_of(vendors, request_id)
    assert (row["status"], row["error_code"]) == (499, "client_closed")
    assert row["output_tokens"] >= 1
    assert row["cost_nanos"] > 0
    assert all("never begun" not in each.body.decode() for each in vendors.upstream.exchanges)


@server_test
def test_where_the_vendor_charges_on_the_stream_is_read_to_its_end(vendors: Gateway) -> None:
    statement = "UPDATE catalog_provider SET on_disconnect = %s WHERE slug = 'chat' RETURNING 1"
    vendors.installed.query(statement, "drain")
    vendors.follow()
    try:
        with talking(vendors) as talk:
            talk.send("chat/drip-0.1")
            request_id = talk.next()["headers"]["x-aperture-request-id"]
        row = row_of(vendors, request_id)
    finally:
        vendors.installed.query(statement, "auto")
        vendors.follow()
    assert (row["status"], row["usage_source"], row["output_tokens"]) == (499, "provider", 7)


@server_test
def test_a_connection_that_is_lost_without_a_word_is_a_departure_too(vendors: Gateway) -> None:
    with talking(vendors) as talk:
        talk.send("chat/stall-late")
        request_id = talk.next()["headers"]["x-aperture-request-id"]
        talk.socket.socket.shutdown(2)
    assert row_of(vendors, request_id)["status"] == 499


@server_test
def test_a_client_that_never_reads_slows_the_upstream_and_takes_bounded_memory(vendors: Gateway) -> None:
    rss_bytes = vendors.web.rss_bytes
    with talking(vendors, max_queue=1) as talk:
        talk.send("chaos/flood")
        grown = []
        for _ in range(10):
            time.sleep(0.1)
            grown.append(vendors.web.rss_bytes - rss_bytes)
        sent = vendors.upstream.last("flood")
        assert max(grown) < 30 * 1024 * 1024
        before = len(sent.payload)
        time.sleep(0.2)
        assert len(sent.payload) == before
        talk.socket.socket.shutdown(2)
    vendors.upstream.wait(lambda: sent.closed_at is not None)


@server_test
def test_a_key_that_is_revoked_ends_its_connection_and_what_runs_on_it(vendors: Gateway) -> None:
    from django.db import connections

    from accounts import keys
    from accounts.models import APIKey

    row, key = keys.mint(user=vendors.installed.users["alice"])
    connections.close_all()
    with talking(vendors, key) as talk:
        talk.send("chat/stall-late")
        request_id = talk.next()["headers"]["x-aperture-request-id"]
        APIKey.objects.filter(pk=row.pk).update(revoked_at=timezone.now())
        connections.close_all()
        with pytest.raises(ConnectionClosed) as closed:
            talk.rest()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    assert row_of(vendors, request_id)["status"] == 499


@server_test
def test_a_server_that_stops_lets_a_response_end_and_then_closes(vendors: Gateway, engines: Path) -> None:
    address = {"DATABASE_URL": vendors.installed.database_url}
    with start_web(vendors.server, APPLICATION, engines, **BOUNDS, **address) as web:
        stopping = Gateway(web, vendors.upstream, vendors.installed, vendors.server)
        with talking(stopping) as talk:
            talk.send("chat/drip-0.1")
            talk.send("chat/agent")
            assert talk.next()["type"] == "response.created"
            web.signal()
            assert talk.rest()[-1]["type"] == "response.completed"
            assert talk.error() == (503, "draining")
            with pytest.raises(ConnectionClosed) as closed:
                talk.next()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        assert web.wait() == 0
