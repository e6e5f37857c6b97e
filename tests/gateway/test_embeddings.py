"""Embeddings: OpenAI's endpoint and Gemini's two, on both kinds of upstream, and what they cost."""

import base64
import struct
from typing import Any

import pytest

from tests.gateway import fronts, http
from tests.gateway.conftest import Gateway
from tests.upstream.gemini import VECTOR

pytestmark = pytest.mark.server

OPENAI = "/v1/embeddings"
ONE = {"content": {"parts": [{"text": "hello"}]}, "outputDimensionality": 4}
MANY = {"requests": [{"model": "models/whatever", **ONE}, {"model": "models/whatever", **ONE}]}


@pytest.fixture(scope="module", autouse=True)
def vendors(gateway: Gateway) -> int:
    """Four providers of one dialect each, and somebody with credit."""
    fronts.install(gateway)
    return fronts.payer(gateway, "payer", 10**9)


def openai(gateway: Gateway, vendor: str, **fields: Any) -> http.Answer:
    """Ask for an embedding as OpenAI's clients do."""
    return gateway.call("POST", OPENAI, body={"model": f"{vendor}/ok", "input": ["hello", "world"], **fields})


def gemini(gateway: Gateway, vendor: str, verb: str, body: Any, **options: Any) -> http.Answer:
    """Ask for an embedding as Google's clients do."""
    return gateway.call("POST", f"/v1beta/models/{vendor}/ok:{verb}", body=body, **options)


def test_openais_request_and_answer_pass(gateway: Gateway) -> None:
    answer = openai(gateway, "chat", x_unknown=1, dimensions=4)

    sent = gateway.upstream.last("ok")
    assert sent.path == "/v1/embeddings"
    assert sent.json == {"model": "ok", "input": ["hello", "world"], "x_unknown": 1, "dimensions": 4}
    assert answer.body == bytes(sent.payload).replace(b'"model":"ok"', b'"model":"chat/ok"')


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_gemini_embeds_for_openais_callers(gateway: Gateway, encoding: str) -> None:
    answer = openai(gateway, "gemini", encoding_format=encoding, dimensions=4, x_unknown=1)

    assert answer.status == 200, answer.body
    sent = gateway.upstream.last("ok")
    assert sent.path == "/v1beta/models/ok:batchEmbedContents"
    text = {"parts": [{"text": "hello"}]}
    assert sent.json["requests"][0] == {"model": "models/ok", "content": text, "outputDimensionality": 4}
    assert answer.header("x-aperture-dropped") == "x_unknown"
    assert answer.json["model"] == "gemini/ok"
    assert [each["index"] for each in answer.json["data"]] == [0, 1]
    found = answer.json["data"][0]["embedding"]
    if encoding == "base64":
        found = list(struct.unpack("<4f", base64.b64decode(found)))
    assert found == VECTOR
    assert answer.json["usage"]["prompt_tokens"] == answer.json["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(("verb", "body"), [("embedContent", ONE), ("batchEmbedContents", MANY)])
def test_geminis_own_requests_and_answers_pass(gateway: Gateway, verb: str, body: Any) -> None:
    answer = gemini(gateway, "gemini", verb, body)

    sent = gateway.upstream.last("ok")
    assert sent.path == f"/v1beta/models/ok:{verb}"
    inner = sent.json if verb == "embedContent" else sent.json["requests"][1]
    assert inner == {**ONE, "model": "models/ok"}
    assert answer.body == bytes(sent.payload)


@pytest.mark.parametrize(("verb", "body"), [("embedContent", ONE), ("batchEmbedContents", MANY)])
def test_openai_embeds_for_geminis_callers(gateway: Gateway, verb: str, body: Any) -> None:
    answer = gemini(gateway, "chat", verb, body)

    assert answer.status == 200, answer.body
    sent = gateway.upstream.last("ok")
    inputs = ["hello"] if verb == "embedContent" else ["hello", "hello"]
    assert sent.path == "/v1/embeddings"
    assert sent.json == {"model": "ok", "input": inputs, "encoding_format": "float", "dimensions": 4}
    vectors = [answer.json["embedding"]] if verb == "embedContent" else answer.json["embeddings"]
    assert len(vectors) == len(inputs)
    assert all(len(vector["values"]) == 4 for vector in vectors)


@pytest.mark.parametrize(
    ("dialect", "vendor", "counted"),
    [
        ("openai_embeddings", "chat", True),
        ("openai_embeddings", "gemini", False),
        ("gemini_embeddings", "gemini", True),
        ("gemini_embeddings", "chat", True),
    ],
)
def test_embeddings_are_metered_and_charged(
    gateway: Gateway, vendors: int, dialect: str, vendor: str, counted: bool
) -> None:
    key = gateway.installed.keys["payer"]
    before, _ = gateway.installed.balance(vendors)
    if dialect == "openai_embeddings":
        answer = gateway.call("POST", OPENAI, key=key, body={"model": f"{vendor}/ok", "input": "hello"})
    else:
        answer = gemini(gateway, vendor, "embedContent", ONE, key=key)

    assert answer.status == 200, answer.body
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["dialect"], row["usage_source"]) == (dialect, "provider" if counted else "estimate")
    assert (row["input_tokens"], row["output_tokens"]) == (5 if counted else row["input_tokens"], 0)
    assert row["cost_nanos"] == row["input_tokens"] * 2_000 > 0
    assert row["charge_nanos"] > row["cost_nanos"]
    assert gateway.installed.balance(vendors) == (before - row["charge_nanos"], 0)


def test_the_cost_is_shown_to_who_asks_for_it(gateway: Gateway) -> None:
    for vendor in ("chat", "gemini"):
        answer = openai(gateway, vendor, usage={"include": True})
        assert f"{answer.json['usage']['cost']:.9f}" == answer.header("x-aperture-cost")


@pytest.mark.parametrize("vendor", ["messages", "responses"])
def test_a_vendor_that_has_no_embeddings_is_named(gateway: Gateway, vendor: str) -> None:
    answer = openai(gateway, vendor)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unsupported_parameter", "model")
    assert vendor in answer.error["message"]

    found = gemini(gateway, vendor, "embedContent", ONE)
    assert (found.status, fronts.error_of("gemini", found)[0]) == (400, "unsupported_parameter")


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda gateway: openai(gateway, "gemini", input=[[1, 2]]), "unsupported_content"),
        (lambda gateway: openai(gateway, "gemini", input=[]), "invalid_parameter"),
    ],
    ids=["tokens", "nothing"],
)
def test_what_gemini_does_not_embed_is_refused(gateway: Gateway, call: Any, code: str) -> None:
    before = len(gateway.upstream.exchanges)
    answer = call(gateway)
    assert (answer.status, answer.error["code"]) == (400, code)
    assert len(gateway.upstream.exchanges) == before


@pytest.mark.parametrize("vendor", ["chat", "gemini"])
@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("batchEmbedContents", {"requests": "x"}),
        ("batchEmbedContents", {"requests": [1]}),
    ],
)
def test_a_batch_that_is_none_is_refused_in_googles_envelope(
    gateway: Gateway, vendor: str, verb: str, body: Any
) -> None:
    answer = gemini(gateway, vendor, verb, body)
    assert (answer.status, fronts.error_of("gemini", answer)[0]) == (400, "invalid_parameter")


def test_an_answer_without_vectors_is_the_upstreams_failure_and_costs_nothing(gateway: Gateway) -> None:
    answer = gemini(gateway, "chat", "embedContent", ONE)
    assert answer.status == 200
    broken = gateway.call("POST", "/v1beta/models/chaos/list-200:embedContent", body=ONE)

    assert (broken.status, fronts.error_of("gemini", broken)[0]) == (502, "upstream_failed")
    [row] = gateway.installed.usage(broken.request_id)
    assert (row["status"], row["charge_nanos"]) == (502, 0)


def test_a_stream_of_vectors_is_none(gateway: Gateway) -> None:
    assert openai(gateway, "chat", stream=True).json["object"] == "list"


def test_an_unknown_verb_is_told_which_there_are(gateway: Gateway) -> None:
    answer = gemini(gateway, "gemini", "embedText", ONE)
    assert answer.status == 404
    assert "batchEmbedContents" in fronts.error_of("gemini", answer)[1]
