"""Responses that are kept because their caller asked: found, continued on any model, deleted, expired, encrypted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import fronts, http
from tests.gateway.conftest import APPLICATION, BOUNDS, Gateway
from tests.gateway.fronts import FRONTS, TEXT, ask, said
from tests.gateway.installation import CANARY
from tests.servers import WebProcess, start_web

pytestmark = pytest.mark.server

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture(scope="module", autouse=True)
def vendors(gateway: Gateway) -> None:
    """Four providers of one dialect each, and somebody of another organization."""
    fronts.install(gateway)
    fronts.payer(gateway, "other", 10**9)


def create(gateway: Gateway, model: str, text: str = "hello", **fields: Any) -> Any:
    """Ask for a response and return it; of a stream, what its last event says."""
    answer = ask(gateway, "responses", model, text, **fields)
    assert answer.status == 200, answer.body
    if fields.get("stream"):
        return json.loads(http.events(answer.body)[-1])["response"]
    return answer.json


def fetch(gateway: Gateway, response_id: str, below: str = "", **options: Any) -> http.Answer:
    """GET a stored response, or what is below it."""
    return gateway.call("GET", f"/v1/responses/{response_id}{below}", **options)


def forget(gateway: Gateway) -> None:
    """Delete what is stored: the scripted vendor gives all its responses one id."""
    gateway.installed.query("DELETE FROM gateway_storedresponse RETURNING 1")


# --- Kept, or not -----------------------------------------------------------------------------------------------------
@STREAMED
@pytest.mark.parametrize("vendor", FRONTS)
@pytest.mark.parametrize("store", [None, False])
def test_without_a_wish_nothing_is_kept_and_the_vendor_is_told_so(
    gateway: Gateway, vendor: str, store: bool | None, stream: bool
) -> None:
    forget(gateway)
    asked: dict[str, Any] = {} if store is None else {"store": store}
    found = create(gateway, f"{vendor}/agent", stream=stream, **asked)

    assert found["store"] is False
    if vendor == "responses":
        assert gateway.upstream.last("agent").json["store"] is False
    missing = fetch(gateway, found["id"])
    assert (missing.status, missing.error["code"]) == (404, "not_found")
    assert "store: true" in missing.error["message"]
    assert gateway.installed.query("SELECT 1 FROM gateway_storedresponse") == []


@STREAMED
@pytest.mark.parametrize("vendor", FRONTS)
def test_a_stored_response_is_found_as_it_was_answered(gateway: Gateway, vendor: str, stream: bool) -> None:
    forget(gateway)
    made = create(gateway, f"{vendor}/agent", store=True, stream=stream)

    assert made["store"] is True
    if vendor == "responses":
        assert gateway.upstream.last("agent").json["store"] is False
    found = fetch(gateway, made["id"])
    assert (found.status, found.json) == (200, made)
    assert said("responses", found.body) == TEXT
    items = fetch(gateway, made["id"], "/input_items").json
    assert [(item["role"], item["content"]) for item in items["data"]] == [("user", "hello")]
    assert (items["object"], items["has_more"]) == ("list", False)
    assert fetch(gateway, made["id"], "/nothing").status == 404


def test_input_items_come_in_pages(gateway: Gateway) -> None:
    forget(gateway)
    given = [{"role": "user", "content": f"text {number}"} for number in range(5)]
    made = create(gateway, "chat/agent", input=given, store=True)

    first = fetch(gateway, made["id"], "/input_items?limit=2").json
    assert [item["content"] for item in first["data"]] == ["text 4", "text 3"]
    assert first["has_more"] is True
    rest = fetch(gateway, made["id"], f"/input_items?limit=9&after={first['last_id']}").json
    assert [item["content"] for item in rest["data"]] == ["text 2", "text 1", "text 0"]
    assert rest["has_more"] is False
    rising = fetch(gateway, made["id"], "/input_items?order=asc&limit=x").json
    assert [item["content"] for item in rising["data"]] == [each["content"] for each in given]


def test_a_deleted_response_is_gone_and_its_conversation_with_it(gateway: Gateway) -> None:
    forget(gateway)
    first = create(gateway, "chat/agent", store=True)
    second = create(gateway, "chat/agent", store=True, previous_response_id=first["id"])
    gone = gateway.call("DELETE", f"/v1/responses/{first['id']}")

    assert gone.json == {"id": first["id"], "object": "response", "deleted": True}
    assert fetch(gateway, first["id"]).status == 404
    assert gateway.call("DELETE", f"/v1/responses/{first['id']}").status == 404
    assert fetch(gateway, second["id"]).status == 200
    broken = ask(gateway, "responses", "chat/agent", previous_response_id=second["id"])
    assert (broken.status, broken.error["code"]) == (400, "previous_response_not_found")
    assert broken.error["param"] == "previous_response_id"
    assert first["id"] in broken.error["message"]


def test_nobody_of_another_organization_finds_it(gateway: Gateway) -> None:
    forget(gateway)
    made, other = create(gateway, "chat/agent", store=True), gateway.installed.keys["other"]

    for method, path in (("GET", ""), ("GET", "/input_items"), ("DELETE", ""), ("POST", "/cancel")):
        answer = gateway.call(method, f"/v1/responses/{made['id']}{path}", key=other)
        assert (answer.status, answer.error["code"]) == (404, "not_found")
    continued = ask(gateway, "responses", "chat/agent", previous_response_id=made["id"], key=other)
    unknown = ask(gateway, "responses", "chat/agent", previous_response_id="resp_unknown", key=other)
    assert continued.status == unknown.status == 400
    assert continued.error["message"].replace(made["id"], "resp_unknown") == unknown.error["message"]
    assert fetch(gateway, made["id"]).status == 200


def test_what_is_past_its_time_is_not_found_and_then_deleted(gateway: Gateway) -> None:
    from gateway.tasks import forget_stored_responses

    forget(gateway)
    made = create(gateway, "chat/agent", store=True)
    fresh = create(gateway, "chat/agent", store=True)
    gateway.installed.query(
        "UPDATE gateway_storedresponse SET expires_at = now() - interval '1 s' WHERE response_id = %s RETURNING 1",
        made["id"],
    )
    assert fetch(gateway, made["id"]).status == 404
    assert ask(gateway, "responses", "chat/agent", previous_response_id=made["id"]).status == 400
    forget_stored_responses()
    [left] = gateway.installed.query("SELECT response_id, expires_at - created_at AS kept FROM gateway_storedresponse")
    assert left["response_id"] == fresh["id"]
    assert 29 < left["kept"].total_seconds() / 86_400 <= 30


def test_it_is_encrypted_at_rest(gateway: Gateway) -> None:
    forget(gateway)
    made = create(gateway, "chat/agent", CANARY, store=True)

    assert CANARY in fetch(gateway, made["id"], "/input_items").body.decode()
    for text in (gateway.installed.database_text(), gateway.installed.redis_text(), gateway.web.log):
        assert CANARY not in text
        assert CANARY.encode().hex() not in text
        assert "Grüße" not in text
    assert made["id"] in gateway.installed.database_text(), "the look into the database sees what is there"


@pytest.fixture(scope="module")
def forgetful(gateway: Gateway, engines: Path) -> Iterator[WebProcess]:
    """A web process whose operator allows no stored responses."""
    environment = BOUNDS | {"APERTURE_STORED_RESPONSE_DAYS": "0"}
    with start_web(
        gateway.server, APPLICATION, engines, DATABASE_URL=gateway.installed.database_url, **environment
    ) as web:
        gateway.follow(web)
        yield web


def test_an_operator_may_allow_none(gateway: Gateway, forgetful: WebProcess) -> None:
    forget(gateway)
    key = gateway.installed.key
    body = {"model": "chat/agent", "input": "hello", "store": True}
    answer = http.call(forgetful.port, "POST", "/v1/responses", key=key, body=body)

    assert (answer.status, answer.json["store"]) == (200, False)
    assert http.call(forgetful.port, "GET", f"/v1/responses/{answer.json['id']}", key=key).status == 404
    waited = http.call(forgetful.port, "POST", "/v1/responses", key=key, body={**body, "background": True})
    assert (waited.status, waited.error["code"]) == (400, "unsupported_parameter")
    assert gateway.installed.query("SELECT 1 FROM gateway_storedresponse") == []


# --- Continued --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("vendor", FRONTS)
def test_a_conversation_goes_on_at_any_model(gateway: Gateway, vendor: str) -> None:
    forget(gateway)
    first = create(gateway, "messages/agent", "the first", store=True, reasoning={"effort": "low"})
    second = create(gateway, "chat/agent", "the second", store=True, previous_response_id=first["id"])
    third = create(gateway, f"{vendor}/agent", "the third", previous_response_id=second["id"])

    assert second["previous_response_id"] == first["id"]
    assert third["status"] == "completed"
    sent = fronts.sent_to(gateway, vendor, "agent").body.decode()
    places = [sent.index(text) for text in ("the first", "the second", "the third")]
    assert places == sorted(places)
    assert sent.count("Grüße, 世界") == 2


def test_a_tools_result_alone_goes_on(gateway: Gateway) -> None:
    forget(gateway)
    tool = {
        "type": "function",
        "name": "weather",
        "strict": False,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    first = create(gateway, "gemini/agent", "weather?", store=True, tools=[tool])
    [call] = [item for item in first["output"] if item["type"] == "function_call"]
    result = [{"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}]
    for vendor in FRONTS:
        answer = ask(
            gateway, "responses", f"{vendor}/agent", input=result, tools=[tool], previous_response_id=first["id"]
        )
        assert answer.status == 200, (call, gateway.upstream.last("agent").body, answer.body)
        assert "rain" in said("responses", answer.body)


def test_what_was_never_stored_cannot_be_continued(gateway: Gateway) -> None:
    forget(gateway)
    made = create(gateway, "chat/agent")
    for previous in (made["id"], "resp_unknown", "resp\x00", "x" * 5_000):
        answer = ask(gateway, "responses", "chat/agent", previous_response_id=previous)
        assert (answer.status, answer.error["param"]) == (400, "previous_response_id")
        assert "store: true" in answer.error["message"]
    wrong = ask(gateway, "responses", "chat/agent", previous_response_id=7)
    assert (wrong.status, wrong.error["param"]) == (400, "previous_response_id")


def test_a_conversation_beyond_what_a_body_may_hold_is_refused(gateway: Gateway) -> None:
    forget(gateway)
    long = "x" * 2_500_000
    first = create(gateway, "chat/ok", long, store=True)
    answer = ask(gateway, "responses", "chat/ok", long, previous_response_id=first["id"])
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("text", ['"\\ud800"', '{"a":1}', "7", "[1]"])
def test_an_input_that_is_none_is_the_callers_mistake(gateway: Gateway, text: str) -> None:
    body = b'{"model":"chat/agent","store":true,"input":' + text.encode() + b"}"
    answer = gateway.call("POST", "/v1/responses", body=body, headers={"Content-Type": "application/json"})
    assert answer.status == 400, answer.body
    assert answer.error["type"] == "invalid_request_error"


def test_a_failed_or_cut_answer_says_so_where_it_is_kept(gateway: Gateway) -> None:
    forget(gateway)
    cut = create(gateway, "chat/length", store=True)
    assert fetch(gateway, cut["id"]).json["status"] == cut["status"] == "incomplete"
    assert ask(gateway, "responses", "chat/status-500-json", store=True).status == 502
    assert len(gateway.installed.query("SELECT 1 FROM gateway_storedresponse")) == 1


@pytest.mark.parametrize("response_id", ["resp_unknown", "%00", "x" * 500, "%F0%9F"])
def test_an_id_that_is_none_is_a_404(gateway: Gateway, response_id: str) -> None:
    for method, path in (("GET", ""), ("GET", "/input_items"), ("DELETE", ""), ("POST", "/cancel")):
        assert gateway.call(method, f"/v1/responses/{response_id}{path}").status == 404
    assert gateway.call("POST", f"/v1/responses/{response_id}").status == 404
