"""One look at an upstream, over real sockets: what each kind of answer says of it."""

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from catalog import credentials, health
from catalog.models import Credential, Provider
from gateway import connection, networks, soundings
from gateway.soundings import Sounding, Way
from tests.local_server import Asked, Reply, serving

SECRET = "up-canary-5f1e0d"
OPERATOR = networks.operator_policy(["allow"])
MODELS = Reply(body={"object": "list", "data": [{"id": "small"}, {"id": "large"}]})
CHAT = Reply(body={"choices": [{"message": {"content": "OK"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 2}})


def way(url: str, *, flags: tuple[str, ...] = ("openai_chat",), check_path: str = "") -> Way:
    headers = credentials.authorization("bearer", SECRET)
    return Way(connection.Upstream(url, flags, headers, SECRET), headers, check_path)


async def listing(reply: Reply | Callable[[Asked], Reply], **options: Any) -> tuple[Sounding, list[Asked]]:
    with serving(reply if callable(reply) else lambda _: reply) as server:
        return await soundings.listing(way(server.url), policy=options.pop("policy", OPERATOR), **options), server.asked


async def tiny(reply: Reply | Callable[[Asked], Reply]) -> tuple[Sounding, list[Asked]]:
    with serving(reply if callable(reply) else lambda _: reply) as server:
        there = way(server.url)
        return await soundings.tiny(there, "small", is_embedding=False, policy=OPERATOR), server.asked


async def test_a_listing_is_read_whole_and_timed() -> None:
    sounding, asked = await listing(MODELS)
    assert (sounding.outcome, sounding.models, sounding.whole) == (health.OK, ("small", "large"), True)
    assert 0 <= sounding.latency_ms < 5000
    assert [(each.path, each.headers["authorization"]) for each in asked] == [("/v1/models", f"Bearer {SECRET}")]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(401, {"error": {"message": f"Incorrect API key: {SECRET}"}}), health.REFUSED),
        (Reply(403, {"error": {"message": "Country not supported"}}), health.REFUSED),
        (Reply(402, {"error": {"message": "Pay first"}}), health.REFUSED),
        (Reply(429, {"error": {"code": "insufficient_quota"}}), health.REFUSED),
        (Reply(400, {"error": {"message": "Your credit balance is too low"}}), health.REFUSED),
        (Reply(429, {"error": {"message": "Slow down"}}), health.ALIVE),
        (Reply(403, {"error": {"message": "Missing scopes: api.model.read"}}), health.OK),
        (Reply(404, b"not found"), health.OK),
        (Reply(405, b""), health.OK),
        (Reply(500, {"error": {"message": "Oops"}}), health.FAILED),
        (Reply(503, b"<html>down</html>"), health.FAILED),
        (Reply(301, b"", {"location": "https://elsewhere.example/"}), health.FAILED),
        (Reply(200, b"<html>Welcome</html>"), health.FAILED),
        (Reply(200, {"data": None}), health.FAILED),
        (Reply(200, {"data": [{"no": "id"}]}), health.FAILED),
    ],
)
async def test_a_status_is_judged_by_what_it_says_of_the_upstream(reply: Reply, outcome: str) -> None:
    sounding, asked = await listing(reply)
    assert sounding.outcome == outcome
    assert sounding.models is None
    assert SECRET not in sounding.reason
    assert len(asked) == 1


async def test_a_huge_listing_is_not_read_to_its_end_and_takes_nobody_down() -> None:
    entries = [{"id": "x" * 1000} for _ in range(5000)]
    sounding, _ = await listing(Reply(body={"data": entries}))
    assert (sounding.outcome, sounding.models) == (health.OK, None)
    assert "more than 4194304 bytes" in sounding.reason


async def test_what_no_database_takes_is_kept_out_of_reasons_and_names() -> None:
    hostile = {"error": {"message": "no\0body \ud800 home"}}
    sounding, _ = await listing(Reply(500, json.dumps(hostile).encode()))
    assert sounding.reason == "GET /v1/models answered 500: nobody ? home"
    names = [{"id": name} for name in ("good", "x" * 257, "nul\0", "\ud800", "", "line\nbreak")]
    sounding, _ = await listing(Reply(200, json.dumps({"data": [*names[:4], *names[5:]]}).encode()))
    assert sounding.models == ("good",)


async def test_an_answer_that_is_no_http_tells_nothing_of_the_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def repeat() -> None:
            with server.accept()[0] as client:
                client.sendall(b"authorization: Bearer " + SECRET.encode() + b"\r\n" + client.recv(4096))

        thread = threading.Thread(target=repeat)
        thread.start()
        sounding = await soundings.listing(way(f"http://127.0.0.1:{server.getsockname()[1]}"), policy=OPERATOR)
        thread.join()
    assert sounding.outcome == health.FAILED
    assert SECRET not in sounding.reason


async def test_a_slow_upstream_has_failed_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundings, "LISTING_TIMEOUT_S", 0.2)

    def slow(_asked: Asked) -> Reply:
        time.sleep(0.6)
        return MODELS

    sounding, _ = await listing(slow)
    assert (sounding.outcome, sounding.models) == (health.FAILED, None)
    assert "within 0.2 s" in sounding.reason
    assert 150 <= sounding.latency_ms < 600


async def test_an_address_that_the_policy_closes_is_not_asked() -> None:
    sounding, asked = await listing(MODELS, policy=networks.operator_policy(["forbid"]))
    assert sounding.outcome == health.FAILED
    assert "refused by this installation's policy" in sounding.reason
    assert asked == []


async def test_pages_are_followed_as_far_as_is_asked_for() -> None:
    def paged(asked: Asked) -> Reply:
        if "after_id=b" in asked.path:
            return Reply(body={"data": [{"id": "c"}], "has_more": False})
        return Reply(body={"data": [{"id": "a"}, {"id": "b"}], "has_more": True, "last_id": "b"})

    first, _ = await listing(paged)
    assert (first.models, first.whole) == (("a", "b"), False)
    both, asked = await listing(paged, pages=5)
    assert (both.models, both.whole, both.requests) == (("a", "b", "c"), True, 2)
    assert [each.path for each in asked] == ["/v1/models", "/v1/models?after_id=b"]


async def test_gemini_s_pages_are_followed_too() -> None:
    def paged(asked: Asked) -> Reply:
        if "pageToken=next" in asked.path:
            return Reply(body={"models": [{"name": "models/two"}]})
        return Reply(body={"models": [{"name": "models/one"}], "nextPageToken": "next"})

    with serving(paged) as server:
        there = way(server.url, flags=("gemini_generate_content",))
        sounding = await soundings.listing(there, policy=OPERATOR, pages=5)
    assert (sounding.models, sounding.whole) == (("one", "two"), True)
    assert [each.path for each in server.asked] == [
        "/v1beta/models?pageSize=1000",
        "/v1beta/models?pageSize=1000&pageToken=next",
    ]


async def test_a_tiny_request_tells_what_it_used() -> None:
    sounding, asked = await tiny(CHAT)
    assert (sounding.outcome, sounding.requests) == (health.OK, 1)
    assert sounding.tokens is not None
    assert (sounding.tokens.input, sounding.tokens.output) == (9, 2)
    assert asked[0].json()["max_tokens"] == connection.TOKENS_MAX


@pytest.mark.parametrize(
    ("reply", "outcome", "of_model"),
    [
        (Reply(404, {"error": {"message": "The model small does not exist"}}), health.FAILED, True),
        (Reply(400, {"error": {"message": "small is deprecated"}}), health.FAILED, True),
        (Reply(403, {"error": {"message": "Project has no access to model small"}}), health.FAILED, True),
        (Reply(401, {"error": {"message": SECRET}}), health.REFUSED, False),
        (Reply(503, {"error": {"message": "Overloaded"}}), health.FAILED, False),
        (Reply(200, {"error": {"message": "No."}}), health.FAILED, False),
        (Reply(200, b"<html>"), health.FAILED, False),
        (Reply(429, {"error": {"message": "Slow down"}}), health.ALIVE, False),
    ],
)
async def test_a_refused_model_is_not_its_upstream_s_failure(reply: Reply, outcome: str, of_model: bool) -> None:
    sounding, _ = await tiny(reply)
    assert (sounding.outcome, sounding.of_model) == (outcome, of_model)
    assert SECRET not in sounding.reason


async def test_a_model_that_knows_another_bound_is_asked_again_with_it_and_both_are_counted() -> None:
    def reasoning(asked: Asked) -> Reply:
        if "max_tokens" in asked.json():
            return Reply(400, {"error": {"message": "Use 'max_completion_tokens' instead."}})
        return CHAT

    sounding, asked = await tiny(reasoning)
    assert (sounding.outcome, sounding.requests) == (health.OK, 2)
    assert asked[1].json()["max_completion_tokens"] == connection.TOKENS_MAX


async def test_a_closed_port_says_so() -> None:
    with serving(lambda _: MODELS) as server:
        pass
    sounding = await soundings.listing(way(server.url), policy=OPERATOR)
    assert sounding.outcome == health.FAILED
    assert f"127.0.0.1:{server.port} could not be reached" in sounding.reason


async def test_a_vendor_s_own_page_checks_the_key() -> None:
    with serving(lambda asked: Reply(200 if asked.path == "/v1/key" else 500, {"data": {}})) as server:
        sounding = await soundings.reading(way(server.url, check_path="/v1/key"), policy=OPERATOR)
    assert sounding.outcome == health.OK
    with serving(lambda _: Reply(401, {"error": {"message": f"No auth: {SECRET}"}})) as server:
        sounding = await soundings.reading(way(server.url, check_path="/v1/key"), policy=OPERATOR)
    assert sounding.outcome == health.REFUSED
    assert SECRET not in sounding.reason


@pytest.mark.parametrize(
    ("slug", "base_url", "flags", "listing_header", "check_path"),
    [
        ("anthropic", "https://api.anthropic.com/v1", ["openai_chat", "anthropic_messages"], "x-api-key", ""),
        ("openai", "https://api.openai.com/v1", ["openai_chat"], "Authorization", ""),
        ("openrouter", "https://openrouter.ai/api/v1", ["openai_chat"], "Authorization", "/v1/key"),
        # A mirror need not have the vendor's own page.
        ("openrouter", "http://127.0.0.1:9/v1", ["openai_chat"], "Authorization", ""),
    ],
)
def test_each_vendor_is_asked_its_own_way(
    slug: str, base_url: str, flags: list[str], listing_header: str, check_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "open_credential", lambda _: SECRET)
    there = soundings.way(Provider(slug=slug, base_url=base_url, flags=flags), Credential())
    assert SECRET in there.listing_headers[listing_header]
    assert SECRET in there.upstream.headers["Authorization"]
    assert there.check_path == check_path
    assert ("anthropic-version" in there.listing_headers) == (slug == "anthropic")
