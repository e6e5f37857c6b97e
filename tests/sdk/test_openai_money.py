"""The `openai` package and money: what a call costs, what an empty balance looks like, and where it is looked up."""

import time

import openai
import pytest
from django.db import connections
from openai import OpenAI

from accounts.models import Grant
from tests.gateway.conftest import Gateway
from tests.gateway.rows import prepaid
from tests.sdk.test_openai import HELLO, client_of

pytestmark = pytest.mark.server

# The scripted model reports 11 tokens in, 3 of them cached and free, and 7 out, at $2 and $10 a million, times 1.2.
PAID = (8 * 2_000 + 7 * 10_000) * 12 // 10
DOLLAR = 10**9


@pytest.fixture(scope="module")
def server() -> str:
    return "uvicorn"


@pytest.fixture(scope="module", autouse=True)
def granted(gateway: Gateway) -> None:
    Grant.objects.create(name="everyone", subjects=["everyone"], role=Grant.USER, model_globs=["**"])
    connections.close_all()
    time.sleep(0.8)


def somebody(gateway: Gateway, name: str, nanos: int) -> tuple[OpenAI, int]:
    organization_id = prepaid(gateway.installed, name, nanos)
    return client_of(gateway, gateway.installed.keys[name]), organization_id


def test_a_call_tells_what_it_cost_and_the_balance_is_that_much_less(gateway: Gateway) -> None:
    client, organization_id = somebody(gateway, "dora", DOLLAR)
    raw = client.chat.completions.with_raw_response.create(model="chaos/ok", messages=HELLO, max_tokens=50)
    assert raw.headers["x-aperture-cost"] == f"0.{PAID:09d}"
    assert gateway.installed.balance(organization_id) == (DOLLAR - PAID, 0)
    found = client.get(f"/generation?id={raw.headers['x-aperture-request-id']}", cast_to=object)
    assert isinstance(found, dict)
    assert found["data"]["total_cost"] == PAID / DOLLAR


def test_the_last_chunk_of_a_stream_has_the_cost_when_it_is_asked_for(gateway: Gateway) -> None:
    client, _ = somebody(gateway, "emil", DOLLAR)
    stream = client.chat.completions.create(
        model="chaos/ok", messages=HELLO, max_tokens=50, stream=True, extra_body={"usage": {"include": True}}
    )
    *_, last = list(stream)
    assert last.usage is not None
    assert last.usage.model_extra == {"cost": PAID / DOLLAR}


def test_an_empty_balance_is_an_error_that_says_what_to_do(gateway: Gateway) -> None:
    client, _ = somebody(gateway, "fritz", 0)
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(model="chaos/ok", messages=HELLO)
    assert refused.value.status_code == 402
    assert refused.value.code == "insufficient_credits"
    assert refused.value.message.count("/account")


def test_a_repeated_request_is_not_charged_again(gateway: Gateway) -> None:
    client, organization_id = somebody(gateway, "gerda", DOLLAR)
    headers = {"Idempotency-Key": "order-7"}
    client.chat.completions.create(model="chaos/ok", messages=HELLO, extra_headers=headers)
    with pytest.raises(openai.ConflictError):
        client.chat.completions.create(model="chaos/ok", messages=HELLO, extra_headers=headers)
    assert gateway.installed.balance(organization_id) == (DOLLAR - PAID, 0)
