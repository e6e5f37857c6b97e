"""Requests to the scripted model that bills what it is told to, and what they cost a prepaid caller.

It costs $2 a million tokens in and $10 out; the caller pays 1.2 times that.
"""

import json
from typing import Any

from gateway import estimate
from tests.gateway import http

CHAT = "/v1/chat/completions"
INPUT_NANOS, OUTPUT_NANOS = 2_400, 12_000
DOLLAR = 10**9


def a_body(model: str = "chaos/bill", *, stream: bool = False, **fields: Any) -> bytes:
    """Return a request whose metadata names its own estimated input: what the upstream then reports."""
    told = {"prompt": "000000", "completion": "0010"} | {
        key: str(value) for key, value in fields.pop("told", {}).items()
    }
    body = http.chat(model, stream=stream, metadata=told, **fields)
    told["prompt"] = f"{estimate.input_tokens(json.dumps(body).encode()):06d}"
    return json.dumps(body).encode()


def price(body: bytes, output_tokens: int) -> int:
    """Return what a caller pays for a request with so many tokens of output."""
    return estimate.input_tokens(body) * INPUT_NANOS + output_tokens * OUTPUT_NANOS


def ask(port: int, key: str, body: bytes, **headers: str) -> http.Answer:
    """Send a body as it is, with further headers."""
    sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    return http.call(port, "POST", CHAT, key=key, body=body, headers=sent)
