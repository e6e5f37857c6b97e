"""The built-in demo upstream: a tiny ASGI application that speaks OpenAI's API over HTTP, under /demo/v1.

It lets a fresh installation answer before any vendor's key is there, through the whole real path: the gateway calls
it over HTTP like any other provider. Only that provider's credential opens it (`settings.DEMO_SECRET`).
Followed: https://platform.openai.com/docs/api-reference/chat and /embeddings.
"""

import asyncio
import base64
import hashlib
import hmac
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import msgspec
from django.conf import settings

from gateway import demo_model
from gateway.body import Receive, Scope, Send
from gateway.demo_model import Answer, BadRequest

PREFIX = "/demo"
BODY_BYTES_MAX = 4 * 1024 * 1024
TOKENS_A_CHUNK = 4
# Slow enough to be seen as a stream, fast enough not to be waited for.
CHUNK_PAUSE_S = 0.01
MADE_AT = 1_767_225_600
JSON = b"application/json"

Answering = Callable[[dict[str, Any], str, Send], Awaitable[None]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one HTTP request whose path begins with /demo/v1/."""
    method, path = scope["method"], scope["path"].removeprefix(PREFIX)
    if not authorized(scope["headers"], settings.DEMO_SECRET):
        await refuse(
            send, 401, "The demo upstream takes the credential of the provider called demo only.", "invalid_api_key"
        )
        return
    if path == "/v1/models" or path.startswith("/v1/models/"):
        await models(method, path.removeprefix("/v1/models").strip("/"), send)
        return
    answering = ROUTES.get(path)
    if answering is None:
        await refuse(send, 404, f"The demo upstream has no {path}.", "not_found")
    elif method != "POST":
        await refuse(send, 405, f"{path} takes POST.", "method_not_allowed", allow=b"POST")
    else:
        await post(answering, receive, send)


async def post(answering: Answering, receive: Receive, send: Send) -> None:
    """Read the body and answer it, or say what is wrong with it."""
    try:
        body = await read(receive)
        if body is None:
            return
        try:
            request = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            raise BadRequest("The body is not JSON.", code="invalid_json") from None
        if not isinstance(request, dict):
            raise BadRequest("The body must be a JSON object.", code="invalid_json")
        await answering(request, hashlib.sha256(body).hexdigest()[:24], send)
    except BadRequest as error:
        missing = error.code == "model_not_found"
        await refuse(send, 404 if missing else 400, str(error), error.code or "invalid_value", param=error.param)


async def models(method: str, name: str, send: Send) -> None:
    """List both models, or show one."""
    if method != "GET":
        await refuse(send, 405, "/v1/models takes GET.", "method_not_allowed", allow=b"GET")
        return
    rows = [{"id": model, "object": "model", "created": MADE_AT, "owned_by": "aperture"} for model in demo_model.MODELS]
    if not name:
        await answer_json(send, 200, {"object": "list", "data": rows})
        return
    row = next((row for row in rows if row["id"] == name), None)
    if row:
        await answer_json(send, 200, row)
    else:
        await refuse(send, 404, f"The model {name!r} does not exist.", "model_not_found", param="model")


async def chat(request: dict[str, Any], digest: str, send: Send) -> None:
    """Answer /v1/chat/completions, whole or as a stream."""
    check_model(request, demo_model.CHAT)
    choices = demo_model.check_integer(request, "n", 1, demo_model.CHOICES_MAX) or 1
    answer = demo_model.answer(request)
    head = {"id": f"chatcmpl-{digest}", "created": int(time.time()), "model": demo_model.CHAT}
    if request.get("stream"):
        options = request.get("stream_options") or {}
        counted = isinstance(options, dict) and bool(options.get("include_usage"))
        await stream(send, chunks(answer, choices, head, digest, counted))
        return
    listed = [
        {
            "index": index,
            "message": message(answer, digest, index),
            "logprobs": None,
            "finish_reason": answer.finish_reason,
        }
        for index in range(choices)
    ]
    await answer_json(
        send, 200, {**head, "object": "chat.completion", "choices": listed, "usage": usage(answer, choices)}
    )


def message(answer: Answer, digest: str, index: int) -> dict[str, Any]:
    """Return a choice's message."""
    if not answer.tool:
        return {"role": "assistant", "content": answer.text, "refusal": None}
    call = {
        "id": call_id(digest, index),
        "type": "function",
        "function": {"name": answer.tool, "arguments": answer.text},
    }
    return {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}


def chunks(
    answer: Answer, choices: int, head: Mapping[str, Any], digest: str, counted: bool
) -> Iterator[Mapping[str, Any]]:
    """Yield the chunks of a stream, choice after choice, and at last the usage where it is asked for."""
    tail = {"usage": None} if counted else {}

    def chunk(index: int, delta: Mapping[str, Any], reason: str | None = None) -> Mapping[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**head, "object": "chat.completion.chunk", "choices": [choice], **tail}

    for index in range(choices):
        if answer.tool:
            function = {"name": answer.tool, "arguments": ""}
            call = {"index": 0, "id": call_id(digest, index), "type": "function", "function": function}
            yield chunk(index, {"role": "assistant", "content": None, "tool_calls": [call]})
        else:
            yield chunk(index, {"role": "assistant", "content": ""})
        for start in range(0, len(answer.tokens), TOKENS_A_CHUNK):
            text = "".join(answer.tokens[start : start + TOKENS_A_CHUNK])
            yield chunk(
                index,
                {"tool_calls": [{"index": 0, "function": {"arguments": text}}]} if answer.tool else {"content": text},
            )
        yield chunk(index, {}, answer.finish_reason)
    if counted:
        yield {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage(answer, choices)}


def call_id(digest: str, index: int) -> str:
    """Return the id of a choice's tool call."""
    return f"call_{digest}{index}"


def usage(answer: Answer, choices: int) -> dict[str, Any]:
    """Return the usage of a chat in OpenAI's form."""
    output = len(answer.tokens) * choices
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": output,
        "total_tokens": answer.prompt_tokens + output,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


async def embeddings(request: dict[str, Any], _digest: str, send: Send) -> None:
    """Answer /v1/embeddings, as numbers or as base64 of little-endian floats."""
    check_model(request, demo_model.EMBEDDING)
    inputs = demo_model.check_inputs(request)
    wanted = demo_model.check_integer(request, "dimensions", 1, demo_model.DIMENSIONS_MAX) or demo_model.DIMENSIONS
    form = request.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise BadRequest("encoding_format must be float or base64.", "encoding_format")
    vectors = [demo_model.embedding(words, wanted) for words in inputs]
    data = [
        {"object": "embedding", "index": index, "embedding": vector if form == "float" else packed(vector)}
        for index, vector in enumerate(vectors)
    ]
    tokens = sum(map(len, inputs))
    counted = {"prompt_tokens": tokens, "total_tokens": tokens}
    await answer_json(send, 200, {"object": "list", "data": data, "model": demo_model.EMBEDDING, "usage": counted})


def packed(vector: list[float]) -> str:
    """Return base64 of little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def check_model(request: Mapping[str, Any], expected: str) -> None:
    """Raise BadRequest unless the request asks for the model of this path."""
    if request.get("model") != expected:
        raise BadRequest(
            f"The model {request.get('model')!r} does not exist here; write {expected}.", "model", "model_not_found"
        )


def authorized(headers: list[tuple[bytes, bytes]], secret: str) -> bool:
    """Tell whether the request bears the secret; the comparison takes the same time for every wrong one."""
    shown = next((value for name, value in headers if name == b"authorization"), b"")
    return hmac.compare_digest(shown, b"Bearer " + secret.encode())


async def read(receive: Receive) -> bytes | None:
    """Return the whole body, None where the client left; raise BadRequest for one that is too large."""
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        body += event.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            raise BadRequest(f"The demo upstream takes bodies of at most {BODY_BYTES_MAX} bytes.")
        if not event.get("more_body"):
            return bytes(body)


async def stream(send: Send, events: Iterator[Mapping[str, Any]]) -> None:
    """Send chunks as server-sent events, and the closing mark."""
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for event in events:
        line = b"data: " + msgspec.json.encode(event) + b"\n\n"
        await send({"type": "http.response.body", "body": line, "more_body": True})
        await asyncio.sleep(CHUNK_PAUSE_S)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


async def answer_json(send: Send, status: int, value: Any, allow: bytes = b"") -> None:
    """Send one JSON answer."""
    body = msgspec.json.encode(value)
    headers = [(b"content-type", JSON), (b"content-length", str(len(body)).encode())]
    if allow:
        headers.append((b"allow", allow))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def refuse(
    send: Send, status: int, text: str, code: str, *, param: str | None = None, allow: bytes = b""
) -> None:
    """Send an error in OpenAI's form."""
    error = {"message": text, "type": "invalid_request_error", "param": param, "code": code}
    await answer_json(send, status, {"error": error}, allow)


ROUTES: dict[str, Answering] = {"/v1/chat/completions": chat, "/v1/embeddings": embeddings}
