"""Scenarios about connections, statuses, headers, framing and whole bodies."""

import asyncio
import datetime
import functools
import gzip
import struct
import zlib
from collections.abc import Awaitable, Callable

from tests.upstream import answers
from tests.upstream.connection import Exchange, Wire

Scenario = Callable[[Exchange, Wire], Awaitable[None]]

EVENT_STREAM = ("Content-Type: text/event-stream", "Transfer-Encoding: chunked")
JSON_CHUNKED = ("Content-Type: application/json", "Transfer-Encoding: chunked")
MEGABYTE = 1024 * 1024
# Far above any cap of the gateway, and never in memory here.
HUGE_MEGABYTES = 1024


# --- Good answers -------------------------------------------------------------------------------------------------
async def ok(exchange: Exchange, wire: Wire) -> None:
    """A good answer in the form that was asked for."""
    if exchange.path.endswith("/embeddings"):
        inputs = exchange.json["input"]
        count = len(inputs) if isinstance(inputs, list) and not isinstance(inputs[0], int) else 1
        base64 = exchange.json.get("encoding_format") == "base64"
        await wire.whole(200, answers.embeddings(exchange.model, count, base64=base64))
    elif exchange.streams:
        await wire.head(200, *EVENT_STREAM)
        for event in answers.stream(exchange.model, ["Grüße, ", "世界 ", "👋🏽!"]):
            await wire.chunk(event)
        await wire.end()
    else:
        await wire.whole(200, answers.completion(exchange.model))


async def repeats(exchange: Exchange, wire: Wire) -> None:
    """The answer's text is the last message's."""
    text = exchange.json["messages"][-1]["content"]
    if exchange.streams:
        await wire.head(200, *EVENT_STREAM)
        for event in answers.stream(exchange.model, [text]):
            await wire.chunk(event)
        await wire.end()
    else:
        await wire.whole(200, answers.completion(exchange.model, text))


async def tool_call(exchange: Exchange, wire: Wire) -> None:
    """A call of a tool, its arguments in two pieces when streamed."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Köln"}'}}
    if not exchange.streams:
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        await wire.whole(200, answers.completion(exchange.model, choices=[choice]))
        return
    first = {**call, "index": 0, "function": {"name": "weather", "arguments": '{"city":'}}
    deltas = [{"role": "assistant", "tool_calls": [first]}]
    deltas.append({"tool_calls": [{"index": 0, "function": {"arguments": '"Köln"}'}}]})
    await wire.head(200, *EVENT_STREAM)
    for delta in deltas:
        await wire.chunk(answers.event(answers.chunk(exchange.model, delta)))
    await wire.chunk(answers.event(answers.chunk(exchange.model, {}, finish="tool_calls")))
    await wire.chunk(answers.event(answers.usage_chunk(exchange.model)))
    await wire.chunk(answers.DONE)
    await wire.end()


# --- Connections --------------------------------------------------------------------------------------------------
async def silent(exchange: Exchange, wire: Wire) -> None:
    """The request is taken and nothing comes back."""
    await wire.hang()


async def silent_after_head(exchange: Exchange, wire: Wire) -> None:
    """The head of a stream, and then nothing."""
    await wire.head(200, *EVENT_STREAM)
    await wire.hang()


async def reset_before_head(exchange: Exchange, wire: Wire) -> None:
    """RST in place of an answer."""
    wire.reset()


async def reset_after_head(exchange: Exchange, wire: Wire) -> None:
    """RST behind a good head."""
    await wire.head(200, *(EVENT_STREAM if exchange.streams else JSON_CHUNKED))
    await wire.pause(0.02)
    wire.reset()


async def empty_reply(exchange: Exchange, wire: Wire) -> None:
    """FIN in place of an answer."""


async def stale(exchange: Exchange, wire: Wire) -> None:
    """Good on a new connection; on a used one, closed just as the request arrives."""
    if not exchange.reused:
        await ok(exchange, wire)


async def garbage_status(exchange: Exchange, wire: Wire) -> None:
    """Bytes that are not HTTP."""
    await wire.raw(b"220 mail.example ESMTP\r\nnot http at all\r\n\r\n")


async def half_head(exchange: Exchange, wire: Wire) -> None:
    """The connection ends within the headers."""
    await wire.raw(b"HTTP/1.1 200 OK\r\nContent-Type: applica")


async def huge_head(exchange: Exchange, wire: Wire) -> None:
    """A header of one megabyte."""
    await wire.head(200, "Content-Length: 2", "X-Padding: " + "a" * MEGABYTE)
    await wire.raw(b"{}")


# --- Statuses -----------------------------------------------------------------------------------------------------
HTML = "<html><head><title>{0}</title></head><body><h1>{0} Scripted</h1><hr>nginx</body></html>"


async def status(code: int, body: str, exchange: Exchange, wire: Wire) -> None:
    """An error status with a body of one kind. The JSON one quotes the credential, as careless upstreams do."""
    if body == "json":
        credential = exchange.header("authorization") or exchange.header("x-api-key")
        message = f"scripted {code}; you sent {credential}"
        await wire.whole(code, answers.error(message, code=f"upstream_{code}"))
    elif body == "html":
        await wire.whole(code, HTML.format(code).encode(), content_type="text/html; charset=utf-8")
    elif body == "empty":
        await wire.whole(code, b"", content_type="text/plain")
    else:
        await huge(code, exchange, wire)


async def huge(code: int, exchange: Exchange, wire: Wire) -> None:
    """A body of one gigabyte."""
    await wire.head(code, *JSON_CHUNKED)
    megabyte = b"x" * MEGABYTE
    for _ in range(HUGE_MEGABYTES):
        await wire.chunk(megabyte)
    await wire.end()


async def retry_after(value: str, exchange: Exchange, wire: Wire) -> None:
    """429 with a Retry-After; `date` stands for an HTTP date in 7 seconds."""
    if value == "date":
        at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=7)
        value = at.strftime("%a, %d %b %Y %H:%M:%S GMT")
    await wire.whole(429, answers.error("slow down", code="rate_limit_exceeded"), f"Retry-After: {value}")


async def redirect(code: int, exchange: Exchange, wire: Wire) -> None:
    """A redirect to this same server."""
    await wire.whole(code, b"", f"Location: http://{exchange.header('host')}/v1/redirected", content_type="text/plain")


async def switching(exchange: Exchange, wire: Wire) -> None:
    """101: a protocol that nobody asked for."""
    await wire.head(101, "Upgrade: websocket", "Connection: Upgrade", reason="Switching Protocols")
    await wire.hang()


async def continue_100(exchange: Exchange, wire: Wire) -> None:
    """An interim answer before the good one."""
    await wire.head(100, reason="Continue")
    await ok(exchange, wire)


async def early_hints_103(exchange: Exchange, wire: Wire) -> None:
    """Two interim answers before the good one."""
    await wire.head(103, "Link: </style.css>; rel=preload", reason="Early Hints")
    await wire.head(103, "Link: </script.js>; rel=preload", reason="Early Hints")
    await ok(exchange, wire)


async def vendor_headers(exchange: Exchange, wire: Wire) -> None:
    """A good answer with headers that concern the operator, or the connection, alone."""
    await wire.whole(
        200,
        answers.completion(exchange.model),
        "Set-Cookie: session=upstream-cookie",
        "Server: upstream-server",
        "OpenAI-Organization: org-operator",
        "X-Hop: one",
        "Connection: keep-alive, x-hop",
        "X-RateLimit-Remaining-Requests: 12345",
        "X-Aperture-Request-Id: forged",
    )


# --- Framing ------------------------------------------------------------------------------------------------------
async def chunk_extensions(exchange: Exchange, wire: Wire) -> None:
    """Chunks with extensions."""
    body = answers.completion(exchange.model)
    wire.remember(body)
    await wire.head(200, *JSON_CHUNKED)
    half = len(body) // 2
    for part in (body[:half], body[half:]):
        await wire.raw(b'%x;name="value; x";other\r\n%b\r\n' % (len(part), part))
    await wire.end()


async def trailers(exchange: Exchange, wire: Wire) -> None:
    """A chunked body with trailing fields."""
    await wire.head(200, *JSON_CHUNKED, "Trailer: X-Checksum")
    await wire.chunk(answers.completion(exchange.model))
    await wire.raw(b"0\r\nX-Checksum: abc\r\nSet-Cookie: trailing=1\r\n\r\n")
    wire.kept = True


async def http10_close(exchange: Exchange, wire: Wire) -> None:
    """HTTP/1.0: the body ends with the connection."""
    if exchange.streams:
        body = b"".join(answers.stream(exchange.model, ["one ", "two"]))
        kind = b"text/event-stream"
    else:
        body, kind = answers.completion(exchange.model), b"application/json"
    wire.remember(body)
    await wire.raw(b"HTTP/1.0 200 OK\r\nContent-Type: %b\r\n\r\n%b" % (kind, body))


async def bad_chunk(exchange: Exchange, wire: Wire) -> None:
    """A chunk whose size is no number, behind a good one."""
    await wire.head(200, *(EVENT_STREAM if exchange.streams else JSON_CHUNKED))
    await wire.chunk(answers.texts(exchange.model, [])[0] if exchange.streams else b'{"id":')
    await wire.pause(0.05)
    await wire.raw(b"zz\r\nrubbish\r\n")


async def short_body(exchange: Exchange, wire: Wire) -> None:
    """Fewer bytes than Content-Length says, and then FIN."""
    body = answers.completion(exchange.model)
    await wire.head(200, "Content-Type: application/json", f"Content-Length: {len(body) + 100}")
    await wire.raw(body)


async def slow_body(exchange: Exchange, wire: Wire) -> None:
    """Half of a JSON body, and then nothing."""
    body = answers.completion(exchange.model)
    await wire.head(200, "Content-Type: application/json", f"Content-Length: {len(body)}")
    await wire.raw(body[: len(body) // 2])
    await wire.hang()


async def patient_body(exchange: Exchange, wire: Wire) -> None:
    """Blank lines for a while, as vendors send to keep a slow answer's connection open, and then the answer."""
    body = b"\n" * 6 + answers.completion(exchange.model)
    await wire.head(200, "Content-Type: application/json", f"Content-Length: {len(body)}")
    for at in range(6):
        await wire.raw(body[at : at + 1])
        await wire.pause(0.4)
    await wire.raw(body[6:])


async def slow_first_byte(seconds: float, exchange: Exchange, wire: Wire) -> None:
    """A good answer after a while."""
    await wire.pause(seconds)
    await ok(exchange, wire)


# --- Bodies -------------------------------------------------------------------------------------------------------
async def body(data: bytes, content_type: str, exchange: Exchange, wire: Wire) -> None:
    """A 200 with these bytes, whatever was asked for."""
    await wire.whole(200, data, content_type=content_type)


async def error_in_200(exchange: Exchange, wire: Wire) -> None:
    """An error under a good status."""
    await wire.whole(200, answers.error("scripted error in a 200"))


async def truncated_json(exchange: Exchange, wire: Wire) -> None:
    """JSON that stops in the middle, its length honest."""
    whole = answers.completion(exchange.model)
    await wire.whole(200, whole[: len(whole) // 2])


async def json_for_stream(exchange: Exchange, wire: Wire) -> None:
    """JSON, also when a stream was asked for."""
    await wire.whole(200, answers.completion(exchange.model))


async def stream_for_json(exchange: Exchange, wire: Wire) -> None:
    """A stream, also when JSON was asked for."""
    await wire.head(200, *EVENT_STREAM)
    for event in answers.stream(exchange.model, ["one ", "two"]):
        await wire.chunk(event)
    await wire.end()


async def wrong_type(exchange: Exchange, wire: Wire) -> None:
    """The right bytes under the wrong content type."""
    if not exchange.streams:
        await wire.whole(200, answers.completion(exchange.model), content_type="text/plain")
        return
    await wire.head(200, "Content-Type: text/plain; charset=utf-8", "Transfer-Encoding: chunked")
    for event in answers.stream(exchange.model, ["one ", "two"]):
        await wire.chunk(event)
    await wire.end()


async def coded(how: str, exchange: Exchange, wire: Wire) -> None:
    """A body under Content-Encoding: gzip, though `identity` was asked for."""
    plain = answers.completion(exchange.model)
    if exchange.streams:
        plain = b"".join(answers.stream(exchange.model, ["one ", "two"]))
    data = await asyncio.to_thread(bomb) if how == "bomb" else gzip.compress(plain)
    wire.remember(plain)
    data = data[: len(data) // 2] if how == "cut" else data
    length = len(data) + (50 if how == "lying" else 0)
    coding = "br" if how == "unknown" else "gzip"
    kind = "text/event-stream" if exchange.streams else "application/json"
    await wire.head(200, f"Content-Type: {kind}", f"Content-Encoding: {coding}", f"Content-Length: {length}")
    await wire.raw(data)
    wire.kept = how != "lying"


@functools.cache
def bomb() -> bytes:
    """Return some hundred KB of gzip that hold 400 MB of JSON text: one megabyte, compressed once and repeated."""
    start, megabyte = b'{"id":"', b"a" * MEGABYTE
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    head = deflate.compress(start) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(megabyte) + deflate.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(start)
    for _ in range(400):
        checksum = zlib.crc32(megabyte, checksum)
    trailer = struct.pack("<II", checksum, len(start) + 400 * MEGABYTE)
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + head + 400 * block + deflate.flush() + trailer


async def usage(value: object, exchange: Exchange, wire: Wire) -> None:
    """A good answer whose usage is not."""
    if not exchange.streams:
        await wire.whole(200, answers.completion(exchange.model, usage=value))
        return
    await wire.head(200, *EVENT_STREAM)
    for event in answers.stream(exchange.model, ["one ", "two"], usage=value):
        await wire.chunk(event)
    await wire.end()
