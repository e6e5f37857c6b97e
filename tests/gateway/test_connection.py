"""Testing a provider's connection against a real server."""

import re
import socket
import time
from collections.abc import Callable

import pytest

from catalog import credentials
from catalog.models import Model, Provider, Target
from gateway import connection, networks
from tests.local_server import Asked, Reply, serving

SECRET = "up-canary-5f1e0d"
OPERATOR = networks.operator_policy(["allow"])
MODELS = Reply(body={"object": "list", "data": [{"id": "small"}, {"id": "large"}]})
CHAT = Reply(body={"choices": [{"message": {"role": "assistant", "content": "OK"}}]})


def openai_like(models: Reply = MODELS, chat: Reply = CHAT) -> Callable[[Asked], Reply]:
    return lambda asked: models if asked.path.endswith("/models") else chat


def upstream(url: str, *, model: str = "", flags: tuple[str, ...] = ("openai_chat",)) -> connection.Upstream:
    headers = credentials.authorization("bearer", SECRET)
    return connection.Upstream(base_url=url, flags=flags, headers=headers, secret=SECRET, model=model)


async def probe(it: connection.Upstream, timeout_s: float = 5) -> connection.Result:
    return await connection.probe(it, policy=OPERATOR, timeout_s=timeout_s)


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_a_good_upstream_is_listed_asked_once_and_timed(suffix: str) -> None:
    with serving(openai_like()) as server:
        result = await probe(upstream(server.url + suffix))
    assert result.ok
    assert re.fullmatch(r"small answered in \d+ ms; 2 models listed\.", result.message)
    assert [(asked.method, asked.path) for asked in server.asked] == [
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
    ]
    assert all(asked.headers["authorization"] == f"Bearer {SECRET}" for asked in server.asked)
    assert server.asked[1].json()["model"] == "small"


async def test_a_target_s_model_is_asked_rather_than_the_first_listed() -> None:
    with serving(openai_like()) as server:
        result = await probe(upstream(server.url, model="large"))
    assert result.message.startswith("large answered")
    assert server.asked[1].json()["model"] == "large"


async def test_a_refused_credential_is_told_in_the_upstream_s_words_without_the_credential() -> None:
    refusal = Reply(401, {"error": {"message": f"Incorrect API key provided: {SECRET}."}})
    with serving(openai_like(refusal, refusal)) as server:
        result = await probe(upstream(server.url, model="small"))
    assert not result.ok
    assert result.message == "small: POST /v1/chat/completions answered 401: Incorrect API key provided: [redacted]."


async def test_a_closed_port_says_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result = await probe(upstream(f"http://127.0.0.1:{port}", model="small"))
    assert not result.ok
    assert f"127.0.0.1:{port} could not be reached" in result.message


@pytest.mark.parametrize("status", [200, 502])
async def test_a_page_instead_of_an_answer_is_an_error(status: int) -> None:
    page = Reply(status, b"<html><title>Welcome</title></html>", {"content-type": "text/html"})
    with serving(openai_like(page, page)) as server:
        result = await probe(upstream(server.url))
    assert not result.ok
    assert "<title>Welcome</title>" in result.message


async def test_an_error_inside_a_200_is_an_error() -> None:
    with serving(openai_like(chat=Reply(200, {"error": {"message": "No such model."}}))) as server:
        result = await probe(upstream(server.url))
    assert (result.ok, result.message) == (
        False,
        "small: POST /v1/chat/completions answered 200 without a result: No such model.",
    )


async def test_a_silent_upstream_is_given_up() -> None:
    def slow(_asked: Asked) -> Reply:
        time.sleep(0.6)
        return CHAT

    with serving(slow) as server:
        result = await probe(upstream(server.url, model="small"), timeout_s=0.2)
    assert not result.ok
    assert "within 0.2 s" in result.message


async def test_an_upstream_without_a_list_passes_with_a_target() -> None:
    with serving(openai_like(models=Reply(404, b"not found"))) as server:
        result = await probe(upstream(server.url, model="small"))
        nothing_to_ask = await probe(upstream(server.url))
    assert result.ok
    assert "no list of models (GET /v1/models answered 404: not found)" in result.message
    assert (nothing_to_ask.ok, nothing_to_ask.message) == (False, "GET /v1/models answered 404: not found")


async def test_a_redirect_is_shown_and_not_followed() -> None:
    away = Reply(301, b"", {"location": "https://elsewhere.example/"})
    with serving(openai_like(away, away)) as server:
        result = await probe(upstream(server.url, model="small"))
    assert "301 (a redirect to https://elsewhere.example/, not followed)" in result.message
    assert len(server.asked) == 2


async def test_a_model_that_knows_another_bound_is_asked_again_with_it() -> None:
    def reasoning(asked: Asked) -> Reply:
        if asked.path.endswith("/models"):
            return MODELS
        if "max_tokens" in asked.json():
            return Reply(400, {"error": {"message": "Use 'max_completion_tokens' instead."}})
        return CHAT

    with serving(reasoning) as server:
        result = await probe(upstream(server.url))
    assert result.ok
    assert server.asked[2].json()["max_completion_tokens"] == connection.TOKENS_MAX


@pytest.mark.parametrize(
    ("flag", "path"),
    [
        ("anthropic_messages", "/v1/messages"),
        ("openai_responses", "/v1/responses"),
        ("gemini_generate_content", "/v1beta/models/small:generateContent"),
    ],
)
async def test_each_dialect_has_its_own_request(flag: str, path: str) -> None:
    with serving(lambda asked: CHAT if asked.method == "POST" else MODELS) as server:
        result = await probe(upstream(server.url, flags=(flag,)))
    assert result.ok
    assert server.asked[1].path == path


async def test_a_private_upstream_is_refused_where_the_operator_forbids_them() -> None:
    with serving(openai_like()) as server:
        result = await connection.probe(upstream(server.url, model="small"), policy=networks.PUBLIC_ONLY)
    assert (result.ok, server.asked) == (False, [])
    assert "no address that may be reached" in result.message


@pytest.mark.django_db
def test_a_provider_is_tested_with_its_own_credential_and_first_chat_target() -> None:
    with serving(openai_like()) as server:
        provider = Provider.objects.create(slug="local", base_url=server.url, authorization=Provider.X_API_KEY)
        credentials.store(provider, SECRET)
        embedding = Model.objects.create(public_id="embed", kind=Model.EMBEDDING)
        Target.objects.create(model=embedding, provider=provider, upstream_id="embed-up")
        chat = Model.objects.create(public_id="chat")
        Target.objects.create(model=chat, provider=provider, upstream_id="chat-up")
        result = connection.test(provider)
    assert result.ok
    assert result.message.startswith("chat-up answered")
    assert server.asked[1].headers["x-api-key"] == SECRET


@pytest.mark.django_db
def test_a_credential_that_does_not_open_is_an_error_and_nothing_is_sent() -> None:
    with serving(openai_like()) as server:
        provider = Provider.objects.create(slug="local", base_url=server.url)
        row = credentials.store(provider, SECRET)
        row.encrypted = b"rubbish"
        row.save()
        result = connection.test(provider)
    assert (result.ok, server.asked) == (False, [])
    assert result.message.startswith("The credential does not open")
