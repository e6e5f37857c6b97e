"""Every front on every upstream through a real server: what passes, what is translated, what is lost, what it costs."""

from typing import Any

import pytest

from tests.gateway import fronts
from tests.gateway.conftest import Gateway
from tests.gateway.fronts import COST_NANOS, FRONTS, TEXT, ask, error_of, said

pytestmark = pytest.mark.server

WAYS = [(front, vendor, stream) for front in FRONTS for vendor in FRONTS for stream in (False, True)]
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module", autouse=True)
def vendors(gateway: Gateway) -> None:
    """Four providers of one dialect each."""
    fronts.install(gateway)


@pytest.fixture(scope="module")
def payer(gateway: Gateway, vendors: None) -> int:
    """Somebody with ten dollars, a plan that has every route, and a key."""
    return fronts.payer(gateway, "payer", 10 * 10**9)


# --- The same dialect -------------------------------------------------------------------------------------------------
@STREAMED
@pytest.mark.parametrize("front", FRONTS)
def test_of_the_same_dialect_every_byte_passes_but_the_models_name(gateway: Gateway, front: str, stream: bool) -> None:
    usage: Any = {"stream_options": {"include_usage": True}} if front == "chat" and stream else {}
    answer = ask(gateway, front, f"{front}/ok", stream=stream, x_unknown={"kept": 1}, **usage)

    sent = bytes(gateway.upstream.last("ok").payload)
    assert answer.status == 200, answer.body
    name = b'"modelVersion":' if front == "gemini" else b'"model":'
    assert answer.body == sent.replace(name + b'"ok"', name + f'"{front}/ok"'.encode())
    assert answer.header("x-aperture-dropped") == ""


@pytest.mark.parametrize("front", FRONTS)
def test_of_the_same_dialect_the_request_passes_with_what_nobody_knows(gateway: Gateway, front: str) -> None:
    ask(gateway, front, f"{front}/ok", x_unknown={"kept": [1, 2.5, None]})

    sent = gateway.upstream.last("ok")
    assert b'{"kept": [1, 2.5, null]}' in sent.body
    asked = fronts.body_of(front, "ok", x_unknown={"kept": [1, 2.5, None]})
    assert sent.json == asked | ({"store": False} if front == "responses" else {})


@pytest.mark.parametrize("front", FRONTS)
def test_a_stream_cut_anywhere_passes_as_it_is(gateway: Gateway, front: str) -> None:
    answer = ask(gateway, front, f"{front}/cut-1", stream=True)
    assert said(front, answer.body, stream=True).startswith("Grüße")


# --- Every pair -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("front", "vendor", "stream"), WAYS)
def test_every_front_speaks_with_every_upstream_and_is_charged_what_it_billed(
    gateway: Gateway, payer: int, front: str, vendor: str, stream: bool
) -> None:
    before, _ = gateway.installed.balance(payer)
    answer = ask(gateway, front, f"{vendor}/agent", stream=stream, key=gateway.installed.keys["payer"])

    assert answer.status == 200, answer.body
    assert said(front, answer.body, stream=stream) == TEXT
    assert answer.header("x-aperture-upstream") == vendor
    [row] = gateway.installed.usage(answer.request_id)
    assert (row["model"], row["dialect"], row["streamed"]) == (f"{vendor}/agent", fronts.DIALECTS[front], stream)
    assert (row["status"], row["usage_source"]) == (200, "provider")
    assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (8, 3, 7)
    charged = COST_NANOS * row["markup_ppm"] // 10**6
    assert charged > COST_NANOS
    assert (row["cost_nanos"], row["charge_nanos"]) == (COST_NANOS, charged)
    assert gateway.installed.balance(payer) == (before - charged, 0)
    if not stream:
        assert answer.header("x-aperture-cost") == f"0.{charged:09d}"


@pytest.mark.parametrize(("front", "vendor", "stream"), WAYS)
def test_an_upstreams_name_for_the_model_is_never_told(gateway: Gateway, front: str, vendor: str, stream: bool) -> None:
    answer = ask(gateway, front, f"{vendor}/agent", stream=stream)
    field = b'"modelVersion":"' if front == "gemini" else b'"model":"'
    assert answer.body.count(field) == answer.body.count(field + f"{vendor}/agent".encode()) > 0


@pytest.mark.parametrize("front", FRONTS)
def test_what_an_upstream_does_not_know_is_dropped_and_named(gateway: Gateway, front: str) -> None:
    each: dict[str, dict[str, Any]] = {
        "chat": {"logit_bias": {"5": 1}},
        "responses": {"truncation": "auto"},
        "messages": {"top_k": 5},
        "gemini": {"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]},
    }
    lost = each[front]
    other = "messages" if front != "messages" else "responses"
    answer = ask(gateway, front, f"{other}/agent", x_unknown=1, **lost)

    assert answer.status == 200, answer.body
    dropped = answer.header("x-aperture-dropped").split(", ")
    assert {"xUnknown" if front == "gemini" else "x_unknown", *lost} <= set(dropped)
    assert b"x_unknown" not in gateway.upstream.last("agent").body


CONTENT: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("messages", {"messages": [{"role": "user", "content": [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]}]}),
    "responses": ("chat", {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]}]}),
    "messages": ("chat", {"messages": [{"role": "user", "content": [
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}}]}]}),
    "gemini": ("messages", {"contents": [{"role": "user", "parts": [
        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}]}]}),
}  # fmt: skip


@pytest.mark.parametrize("front", FRONTS)
def test_content_that_cannot_be_carried_is_refused_before_anything_is_called(gateway: Gateway, front: str) -> None:
    vendor, fields = CONTENT[front]
    before, rows = len(gateway.upstream.exchanges), gateway.installed.usage_count()
    answer = ask(gateway, front, f"{vendor}/agent", **fields)

    code, message = error_of(front, answer)
    assert (answer.status, code) == (400, "unsupported_content"), answer.body
    assert "udio" in message or "file" in message
    assert len(gateway.upstream.exchanges) == before
    assert gateway.installed.usage_count() == rows


# --- Conversations that another vendor signed -------------------------------------------------------------------------
def thought_of(gateway: Gateway, vendor: str) -> list[dict[str, Any]]:
    """Return what a Messages caller gets that lets another vendor think."""
    answer = ask(gateway, "messages", f"{vendor}/agent", thinking={"type": "enabled", "budget_tokens": 1024})
    return list(answer.json["content"])


@pytest.mark.parametrize("vendor", FRONTS)
def test_a_thought_goes_to_another_vendor_without_its_signature(gateway: Gateway, vendor: str) -> None:
    content = thought_of(gateway, vendor)
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": "again"},
    ]
    for other in FRONTS:
        answer = ask(gateway, "messages", f"{other}/agent", messages=messages)
        assert answer.status == 200, (vendor, other, answer.body)
        assert said("messages", answer.body) == TEXT


@pytest.mark.parametrize("vendor", ["responses", "chat"])
def test_a_conversation_that_a_vendor_would_keep_is_refused(gateway: Gateway, vendor: str) -> None:
    body = {"model": f"{vendor}/ok", "input": "x", "conversation": "conv_1"}
    answer = gateway.call("POST", "/v1/responses", body=body)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (
        400,
        "unsupported_parameter",
        "conversation",
    )
