"""The bodies that the scripted upstream answers with: OpenAI's shapes, plus fields that nobody knows. Pure."""

import base64 as coding
import json
import struct
from typing import Any

CREATED = 1_700_000_000
TEXT = "Grüße, 世界 👋🏽!"
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 3}}
DONE = b"data: [DONE]\n\n"


def dump(value: Any) -> bytes:
    """Return VALUE as compact JSON with its characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def completion(model: str, text: str = TEXT, *, usage: Any = USAGE, **extra: Any) -> bytes:
    """Return a chat completion."""
    return dump(
        {
            "id": "chatcmpl-scripted",
            "object": "chat.completion",
            "created": CREATED,
            "model": model,
            "x_vendor": {"kept": [1, 2.50, None]},
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "x_unknown": "kept"},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": usage,
            **extra,
        }
    )


def chunk(model: str | None, delta: dict[str, Any], *, finish: str | None = None, **extra: Any) -> bytes:
    """Return the JSON of one streamed chunk; MODEL None leaves the field out."""
    named = {} if model is None else {"model": model}
    return dump(
        {
            "id": "chatcmpl-scripted",
            "object": "chat.completion.chunk",
            "created": CREATED,
            **named,
            "x_vendor": {"kept": True},
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            **extra,
        }
    )


def usage_chunk(model: str, usage: Any = USAGE) -> bytes:
    """Return the JSON of the chunk that carries usage alone."""
    return dump(
        {
            "id": "chatcmpl-scripted",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": model,
            "choices": [],
            "usage": usage,
        }
    )


def event(data: bytes) -> bytes:
    """Return DATA as a server-sent event."""
    return b"data: " + data + b"\n\n"


def texts(model: str | None, pieces: list[str]) -> list[bytes]:
    """Return the events of an answer in PIECES: the role, each piece, and the end."""
    return [
        event(chunk(model, {"role": "assistant", "content": ""})),
        *(event(chunk(model, {"content": piece})) for piece in pieces),
        event(chunk(model, {}, finish="stop")),
    ]


def stream(model: str, pieces: list[str], *, usage: Any = USAGE) -> list[bytes]:
    """Return a whole good stream's events, its usage chunk and [DONE] included."""
    return [*texts(model, pieces), event(usage_chunk(model, usage)), DONE]


def pieces(count: int) -> list[str]:
    """Return COUNT pieces of text."""
    return [f"piece {number} " for number in range(count)]


def error(message: str, *, code: str = "upstream_code", kind: str = "upstream_type") -> bytes:
    """Return an error in OpenAI's envelope."""
    return dump({"error": {"message": message, "type": kind, "param": "temperature", "code": code}})


def embeddings(model: str, inputs: int, *, base64: bool) -> bytes:
    """Return INPUTS embeddings of four dimensions."""
    vector = [0.5, -0.25, 0.125, 1.0]
    packed = coding.b64encode(struct.pack("<4f", *vector)).decode()
    data = [
        {"object": "embedding", "index": index, "embedding": packed if base64 else vector} for index in range(inputs)
    ]
    return dump({"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}})
