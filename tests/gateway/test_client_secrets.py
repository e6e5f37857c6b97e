"""Client secrets: what makes them, what they say, and that they open realtime sockets while their key is good."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from openai import AsyncOpenAI, OpenAI

from accounts import cipher
from gateway import client_secrets
from gateway.client_secrets import ClientSecret, seal, unseal
from gateway.errors import Fault
from tests.gateway.conftest import Gateway
from tests.gateway.installation import Installation
from tests.gateway.test_sockets import APP, KEY_ITEM, PROMISED_S, SMALL, closed, dial, minted, refusal, row_of
from tests.servers import start_web
from tests.upstream.server import ScriptedUpstream

SECRET = ClientSecret(b"d" * 32, 2_000_000_000, b'{"model":"m"}', "m")
# What a subprotocol may consist of (RFC 9110, section 5.6.2): a browser throws at anything else.
TOKEN = re.compile(r"[0-9A-Za-z!#$%&'*+.^_`|~-]+")


# --- Their text -------------------------------------------------------------------------------------------------------
def test_a_secret_says_what_was_put_in() -> None:
    value = seal(SECRET)
    assert unseal(value, 1_999_999_999) == SECRET
    assert value.startswith("ek_")
    assert TOKEN.fullmatch(value)


def test_two_secrets_are_never_alike() -> None:
    assert seal(SECRET) != seal(SECRET)


def test_an_expired_secret_is_told_so() -> None:
    with pytest.raises(Fault) as fault:
        unseal(seal(SECRET), 2_000_000_000)
    assert (fault.value.status, fault.value.code) == (401, "api_key_expired")


@pytest.mark.parametrize(
    "value", ["ek_", "ek_x", "ek_\u00e9", "ek_" + "A" * 30_000, seal(SECRET)[:-3] + "AAA", "ek_" + seal(SECRET)[5:]]
)
def test_what_is_not_ours_is_none(value: str) -> None:
    assert unseal(value, 0) is None


def test_another_ciphertext_of_ours_is_none() -> None:
    assert unseal("ek_" + cipher.seal("a credential", "credential:1").decode().rstrip("="), 0) is None


def test_a_long_configuration_still_fits_into_a_head() -> None:
    instructions = " ".join(f"Rule {number}: be brief, be kind, be right." for number in range(380))
    session = json.dumps({"instructions": instructions}).encode()
    assert 14_000 < len(session) < client_secrets.SESSION_BYTES_MAX
    assert len(seal(ClientSecret(b"d" * 32, 1, session, ""))) < 8000


# --- Making them, over HTTP -------------------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=["daphne", pytest.param("uvicorn", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> str:
    """Both."""
    return str(request.param)


@pytest.fixture(scope="module")
def gateway(server: str, installation: Installation, upstream: ScriptedUpstream, engines: Path) -> Iterator[Gateway]:
    """A web process whose realtime route is the tests' own."""
    with start_web(server, APP, engines, DATABASE_URL=installation.database_url, **SMALL) as web:
        yield Gateway(web, upstream, installation, server)


def make(gateway: Gateway, key: str | None = None, path: str = "/v1/realtime/client_secrets", **fields: Any) -> Any:
    """Ask for a secret."""
    return gateway.call("POST", path, key=key, body=fields)


@pytest.mark.server
@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
def test_a_secret_comes_in_openai_s_shape(gateway: Gateway, base: str) -> None:
    session = {
        "type": "realtime",
        "model": "chaos/ok",
        "instructions": "Be brief.",
        "audio": {"output": {"voice": "x"}},
    }
    answer = make(
        gateway,
        path=f"{base}/realtime/client_secrets",
        session=session,
        expires_after={"anchor": "created_at", "seconds": 60},
    )
    assert answer.status == 200, answer.body
    made = answer.json
    assert made["value"].startswith("ek_")
    assert abs(made["expires_at"] - time.time() - 60) < 5
    assert made["session"] | session == made["session"]
    assert made["session"]["object"] == "realtime.session"
    assert made["session"]["id"].startswith("sess_")


@pytest.mark.server
def test_nothing_has_to_be_said(gateway: Gateway) -> None:
    made = gateway.call("POST", "/v1/realtime/client_secrets", body={}).json
    assert abs(made["expires_at"] - time.time() - 600) < 5
    assert made["session"]["type"] == "realtime"


@pytest.mark.server
@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"expires_after": {"anchor": "created_at", "seconds": 9}}, 400, "invalid_parameter", "expires_after"),
        ({"expires_after": {"anchor": "created_at", "seconds": 7201}}, 400, "invalid_parameter", "expires_after"),
        ({"expires_after": {"anchor": "yesterday"}}, 400, "invalid_parameter", "expires_after"),
        ({"session": {"type": "video"}}, 400, "invalid_parameter", "session"),
        ({"session": []}, 400, "invalid_parameter", "session"),
        ({"session": {"model": 3}}, 400, "invalid_parameter", "session"),
        ({"session": {"instructions": "x" * 17_000}}, 413, "request_too_large", "session"),
        ({"session": {"model": "no/such"}}, 404, "model_not_found", "model"),
    ],
)
def test_what_cannot_be_made_is_refused(
    gateway: Gateway, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    answer = make(gateway, **fields)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (status, code, param)


@pytest.mark.server
def test_a_key_that_may_not_call_a_model_makes_no_secret_for_it(gateway: Gateway) -> None:
    answer = make(gateway, gateway.installed.keys["limited"], session={"model": "chaos/silent"})
    assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
    assert make(gateway, "sg-nothing").status == 401


# --- Using them -------------------------------------------------------------------------------------------------------
@pytest.mark.server
def test_a_secret_opens_a_socket_with_its_session(gateway: Gateway) -> None:
    session = {"type": "realtime", "model": "chaos/ok", "instructions": "Be brief."}
    value = make(gateway, session=session).json["value"]
    with dial(gateway.port, does="seen", subprotocols=["realtime", KEY_ITEM + value]) as client:
        seen = json.loads(client.recv(timeout=5))
        assert client.subprotocol == "realtime"
    assert seen["session"] == session
    assert seen["query"]["model"] == "chaos/ok"
    assert seen["caller"] == "alice@example.com"
    assert value not in json.dumps(seen)
    with dial(gateway.port, value, does="seen", path="/v1/realtime?model=chaos/ok") as client:
        assert json.loads(client.recv(timeout=5))["session"] == session


@pytest.mark.server
def test_openai_s_package_makes_a_secret_and_opens_a_socket_with_it(gateway: Gateway) -> None:
    address = f"http://127.0.0.1:{gateway.port}/v1"
    with OpenAI(api_key=gateway.installed.key, base_url=address) as client:
        made = client.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 30},
            session={"type": "realtime", "model": "chaos/ok", "instructions": "Be brief."},
        )
    assert abs(made.expires_at - time.time() - 30) < 5
    assert made.session.type == "realtime"
    assert made.session.instructions == "Be brief."

    async def speak() -> str:
        async with (
            AsyncOpenAI(api_key=made.value, base_url=address) as client,
            client.realtime.connect(model="chaos/ok") as connection,
        ):
            await connection.session.update(session={"type": "realtime"})
            return str(json.loads(await connection.recv_bytes())["type"])

    assert asyncio.run(speak()) == "session.update"


@pytest.mark.server
def test_a_secret_is_for_its_model_alone(gateway: Gateway) -> None:
    value = make(gateway, session={"model": "chaos/ok"}).json["value"]
    status, error, _ = refusal(gateway.port, value, path="/v1/realtime?model=chaos/silent")
    assert (status, error["code"]) == (403, "model_not_allowed")


@pytest.mark.server
def test_a_transcription_s_model_is_the_one_that_transcribes(gateway: Gateway) -> None:
    session = {"type": "transcription", "audio": {"input": {"transcription": {"model": "chaos/ok"}}}}
    value = make(gateway, session=session).json["value"]
    with dial(gateway.port, value, does="seen") as client:
        assert json.loads(client.recv(timeout=5))["query"]["model"] == "chaos/ok"


@pytest.mark.server
def test_a_secret_opens_nothing_else(gateway: Gateway) -> None:
    value = make(gateway).json["value"]
    assert gateway.chat("ok", key=value).status == 401
    assert gateway.call("GET", "/v1/models", key=value).status == 401
    assert make(gateway, value).status == 401
    assert refusal(gateway.port, value, path="/v1/models")[0] == 426


@pytest.mark.server
def test_a_secret_dies_with_its_key_and_takes_its_sockets_along(gateway: Gateway) -> None:
    key = minted(gateway.installed)
    value = make(gateway, key).json["value"]
    with dial(gateway.port, value) as client:
        client.send("hello")
        assert client.recv(timeout=5) == "hello"
        row_of(key).revoke(timezone.now())
        code, _, after_s = closed(client)
        assert (code, after_s < PROMISED_S) == (1008, True)
    status, error, _ = refusal(gateway.port, value)
    assert (status, error["code"]) == (401, "invalid_api_key")


@pytest.mark.server
def test_a_secret_s_sockets_count_as_its_key_s(gateway: Gateway) -> None:
    key = minted(gateway.installed)
    values = [make(gateway, key).json["value"] for _ in range(2)]
    opened = [dial(gateway.port, values[number % 2]) for number in range(8)]
    assert refusal(gateway.port, values[0])[0] == 429
    for client in opened:
        client.close()


@pytest.mark.server
def test_nothing_of_a_secret_is_kept_or_logged(gateway: Gateway) -> None:
    value = make(gateway, session={"instructions": "canary-instructions"}).json["value"]
    with dial(gateway.port, value) as client:
        client.send("hello")
        client.recv(timeout=5)
    for text in (gateway.installed.database_text(), gateway.web.log):
        assert value not in text
        assert "canary-instructions" not in text
