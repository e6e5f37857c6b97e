"""Requests of each front on four providers of one dialect each, and what is looked for in their answers.

What the scripted vendors bill is the same for all: 8 tokens in, 3 more from a cache, 7 out.
"""

import json
from typing import Any

from tests.gateway import http
from tests.gateway.conftest import Gateway
from tests.sdk import vendors
from tests.upstream.connection import Exchange

FRONTS = tuple(vendors.VENDORS)
DIALECTS = vendors.VENDORS
SCENARIOS = (
    *vendors.SCENARIOS,
    "status-401-json", "drip-0.1", "slow-first-byte-0.3", "slow-first-byte-2", "stall-mid-stream", "stall-late",
    "cut-json", "cut-well", "silent", "reset-mid-3", "error-first-event", "error-mid-stream", "rubbish-mid-stream",
    "cut-1", "bill",
)  # fmt: skip
TEXT = "Grüße, 世界 👋🏽!"
# In billionths of a dollar, at $2 a million tokens in and $10 out; what came from a cache is free.
COST_NANOS = 8 * 2_000 + 7 * 10_000
SSE = {"gemini": "?alt=sse"}


def install(gateway: Gateway) -> None:
    """Make the four providers, unless another server of the module found them missing, and wait for the process."""
    if not gateway.installed.query("SELECT 1 FROM catalog_provider WHERE slug = 'chat'"):
        vendors.install(gateway.installed, gateway.upstream.base_url, tuple(dict.fromkeys(SCENARIOS)))
    gateway.follow()


def payer(gateway: Gateway, name: str, nanos: int, plan: str = "pro") -> int:
    """Make a person with a key of this name, so much credit, a plan, and a grant of all; return the organization."""
    from django.db import connections

    from accounts.models import Grant
    from billing.models import Plan, Wallet
    from tests.gateway.rows import prepaid

    organization_id = prepaid(gateway.installed, name, nanos)
    Wallet.objects.filter(pk=organization_id).update(plan=Plan.objects.get(slug=plan))
    Grant.objects.create(name=name, subjects=[f"user:{name}@example.com"], role=Grant.USER, model_globs=["**"])
    connections.close_all()
    gateway.follow()
    return organization_id


def path_of(front: str, model: str, *, stream: bool = False, base: str = "/v1") -> str:
    """Return where a front's requests are sent."""
    if front == "gemini":
        return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")
    return base + {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}[front]


def body_of(front: str, model: str, text: str = "hello", *, stream: bool = False, **fields: Any) -> dict[str, Any]:
    """Return a front's request for MODEL."""
    message = {"role": "user", "content": text}
    bodies: dict[str, dict[str, Any]] = {
        "chat": {"model": model, "messages": [message]},
        "responses": {"model": model, "input": text},
        "messages": {"model": model, "max_tokens": 2000, "messages": [message]},
        "gemini": {"contents": [{"role": "user", "parts": [{"text": text}]}]},
    }
    body = bodies[front]
    if stream and front != "gemini":
        body["stream"] = True
    return body | fields


def ask(
    gateway: Gateway,
    front: str,
    model: str,
    text: str = "hello",
    *,
    stream: bool = False,
    key: str | None = None,
    headers: http.Headers | None = None,
    **fields: Any,
) -> http.Answer:
    """Ask a model through a front, and read the answer to its end."""
    body = body_of(front, model, text, stream=stream, **fields)
    return gateway.call("POST", path_of(front, model, stream=stream), key=key, body=body, headers=headers)


def said(front: str, body: bytes, *, stream: bool = False) -> str:
    """Return the text of an answer that is complete; fail where it has no proper end."""
    return said_in_stream(front, body) if stream else said_whole(front, json.loads(body))


def said_whole(front: str, found: Any) -> str:
    """Return the text of a whole answer."""
    if front == "chat":
        return str(found["choices"][0]["message"]["content"])
    if front == "responses":
        return "".join(
            part["text"] for item in found["output"] if item["type"] == "message" for part in item["content"]
        )
    if front == "messages":
        return "".join(block["text"] for block in found["content"] if block["type"] == "text")
    return "".join(part["text"] for part in found["candidates"][0]["content"]["parts"] if not part.get("thought"))


def said_in_stream(front: str, body: bytes) -> str:
    """Return the text of a stream that came to its end."""
    events = http.events(body)
    if front == "chat":
        assert events.pop() == b"[DONE]"
    found = [json.loads(event) for event in events]
    if front == "chat":
        return "".join(choice["delta"].get("content") or "" for chunk in found for choice in chunk["choices"])
    if front == "responses":
        assert found[-1]["type"] == "response.completed"
        return "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
    if front == "messages":
        assert found[-1]["type"] == "message_stop"
        deltas = [event["delta"] for event in found if event["type"] == "content_block_delta"]
        return "".join(delta["text"] for delta in deltas if delta["type"] == "text_delta")
    assert found[-1]["candidates"][0]["finishReason"] == "STOP"
    return "".join(said_whole("gemini", chunk) for chunk in found if chunk["candidates"][0].get("content"))


def error_of(front: str, answer: http.Answer) -> tuple[str, str]:
    """Return an error's code and message; fail where it is not in the front's own envelope."""
    document = answer.json
    assert document["request_id"] == answer.request_id
    error = document["error"]
    if front == "messages":
        assert document["type"] == "error"
        assert error["type"].endswith("_error") or error["type"] == "request_too_large"
        return error["code"], error["message"]
    if front == "gemini":
        assert error["code"] == answer.status
        assert error["status"].isupper()
        return error["reason"], error["message"]
    assert error["type"]
    return error["code"], error["message"]


def is_complete(front: str, body: bytes) -> bool:
    """Tell whether a stream has its proper end."""
    last = http.events(body)[-1]
    if front == "chat":
        return last == b"[DONE]"
    found = json.loads(last)
    if front == "gemini":
        return "finishReason" in found["candidates"][0]
    return found["type"] in ("response.completed", "message_stop")


def sent_to(gateway: Gateway, vendor: str, name: str) -> Exchange:
    """Return the newest request that a vendor got for the scenario NAME, under its own id of the model."""
    return gateway.upstream.last(vendors.UPSTREAM_IDS.get((vendor, name), name))
