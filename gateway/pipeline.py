"""One inference request, from its key to its usage row.

    authenticate → read and parse → plan → call → relay → settle

Refusals come in the order of these steps; a body is never read for a key that is not good. Of a plan only the best
target is called. Until the client has a byte, a failure is an HTTP error; after that, an error event in the stream.
"""

import asyncio
import time

import msgspec
from django.conf import settings

from billing.journal import NotDurable
from gateway import limiting, rejection, settlement, upstream
from gateway.authentication import authenticate
from gateway.body import ClientGone, read
from gateway.errors import OPENAI, Fault, render
from gateway.exchange import Exchange
from gateway.relay import relay
from gateway.routes import plan
from gateway.runtime import Runtime
from gateway.session import find as find_session
from gateway.settlement import Charge
from gateway.snapshot import Target
from gateway.upstream import Answer
from gateway.wire import openai_chat
from gateway.wire.openai_chat import Request, StreamRelay

JSON_TYPES = (b"application/json", b"")
NO_CACHE = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"), (b"x-cache", b"MISS")]
# What a usage row says where nobody is told: neither is ever raised.
CLIENT_GONE = Fault("stream_aborted", "The client closed the connection.", rejection=(499, "client_closed"))
OUR_OWN = Fault("internal_error", "The gateway failed.")


class Call(msgspec.Struct, frozen=True):
    """A request that may go out: what was asked, where it goes, and on which route."""

    request: Request
    target: Target
    path: str
    dialect: str
    body: bytes
    session_id: str


async def run(runtime: Runtime, exchange: Exchange, path: str, dialect: str) -> None:
    """Answer one inference request; raise Fault for a failure while the client has nothing yet."""
    try:
        await admit(runtime, exchange)
        body = await receive(exchange)
        call = prepare(exchange, body, path, dialect)
        await limiting.reserve(runtime, exchange, call.target.names[0], lambda: expected_tokens(call))
        exchange.watch_client()
        await answer(runtime, exchange, call)
    finally:
        limiting.release(exchange)
        exchange.close()


async def admit(runtime: Runtime, exchange: Exchange) -> None:
    """Find the caller and what it may do; raise Fault 401, 403 or 503."""
    exchange.caller = await authenticate(runtime, exchange.scope, exchange.headers)
    exchange.snapshot = runtime.freshness.snapshot
    exchange.access = exchange.snapshot.access(exchange.caller)
    limiting.announce(runtime, exchange)
    if not exchange.access.role:
        raise Fault("no_role_granted", "access denied: no role granted")


async def receive(exchange: Exchange) -> bytes:
    """Return the request's body; raise Fault 413, 408 or 415."""
    headers = exchange.headers
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind not in JSON_TYPES:
        raise Fault("unsupported_media_type", "Send the body as `Content-Type: application/json`.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Fault("unsupported_media_type", "Send the body uncompressed; Content-Encoding is not taken.")
    return await read(
        exchange.receive,
        headers.get(b"content-length"),
        exchange.deadline,
        bytes_max=settings.MAX_BODY_BYTES,
        timeout_s=settings.RECEIVE_TIMEOUT_S,
    )


def prepare(exchange: Exchange, body: bytes, path: str, dialect: str) -> Call:
    """Parse the request and choose its target; raise Fault 400, 403 or 404."""
    try:
        request = openai_chat.parse_request(body)
    except openai_chat.InvalidRequest as error:
        if error.model is not None:
            # Whether the model may be called comes before how.
            plan(exchange.snapshot, exchange.access, error.model)
        raise Fault(error.code, str(error), param=error.param) from None
    target = plan(exchange.snapshot, exchange.access, request.model).targets[0]
    return Call(
        request=request,
        target=target,
        path=path,
        dialect=dialect,
        body=openai_chat.render_request(request, target.upstream_id),
        session_id=find_session(exchange.headers, request.fields, exchange.caller.key_id),
    )


def expected_tokens(call: Call) -> tuple[int, int]:
    """Return how many tokens a request may use, and for how many there must be room: all, if it bounds its output."""
    tokens = settlement.estimate(len(call.body), 0).input
    if call.dialect == "openai_embeddings":
        return tokens, tokens
    output = openai_chat.output_tokens_max(call.request)
    return (tokens + settlement.TYPICAL_OUTPUT_TOKENS, tokens) if output is None else (tokens + output, tokens + output)


async def answer(runtime: Runtime, exchange: Exchange, call: Call) -> None:
    """Call the upstream, relay what it says and settle; whatever happens, exactly one usage row is left."""
    response: Answer | None = None
    try:
        response = await send(runtime, exchange, call)
        exchange.first_byte()
        if response.status != 200:
            raise await failed(exchange, call.target, response)
        if call.request.stream and response.content_type == "text/event-stream":
            await stream(runtime, exchange, call, response)
        else:
            await whole(runtime, exchange, call, response)
    except Fault as fault:
        fault.provider = call.target.provider.slug
        exchange.settling()
        await settle(runtime, exchange, call, settlement.NOTHING, fault)
        raise
    except (asyncio.CancelledError, OSError) as error:
        if response is not None:
            response.close()
        if not exchange.left_by(error):
            raise
        exchange.settling()
        await settle(runtime, exchange, call, settlement.NOTHING, CLIENT_GONE)
        raise ClientGone from None
    except Exception:
        exchange.settling()
        await settle(runtime, exchange, call, settlement.NOTHING, OUR_OWN)
        raise
    finally:
        if response is not None:
            response.release()


async def send(runtime: Runtime, exchange: Exchange, call: Call) -> Answer:
    """Send the request to its target and return the answer once it begins; raise Fault."""
    headers = upstream.request_headers(call.target, exchange.headers, exchange.access.headers)
    timeout_s = call.target.timeout_s or settings.FIRST_BYTE_TIMEOUT_S
    try:
        with exchange.deadline.within(timeout_s):
            return await runtime.upstream.post(call.target, call.path, call.body, headers)
    except TimeoutError:
        raise Fault(
            "upstream_timeout",
            f"{call.target.provider.slug} sent nothing for {timeout_s:g} s; "
            "try again, ask for fewer tokens, or stream.",
        ) from None


async def failed(exchange: Exchange, target: Target, response: Answer) -> Fault:
    """Return the fault of an upstream's answer that is no success."""
    try:
        with exchange.deadline.within(settings.IDLE_TIMEOUT_S):
            body = await upstream.read(response, upstream.ERROR_BODY_BYTES_MAX)
    except (upstream.Broken, upstream.Unreadable, TimeoutError):
        body = b""
        response.close()
    return rejection.of_status(target, response.status, body, response.headers.get("Retry-After"), time.time())


async def whole(runtime: Runtime, exchange: Exchange, call: Call, response: Answer) -> None:
    """Read a JSON answer, settle, and send it."""
    data = await read_whole(exchange, call.target, response)
    parsed = check(call, response, data)
    usage = openai_chat.parse_usage(parsed.usage) if openai_chat.present(parsed.usage) else None
    estimated = settlement.estimate(len(call.body), len(data) // settlement.BYTES_PER_TOKEN)
    charged = settlement.charge(call.target, usage, estimated, time.time())
    exchange.settling()
    await settle(runtime, exchange, call, charged, None)
    headers = answer_headers(call, response)
    body = openai_chat.rename(data, openai_chat.encode(call.request.model))
    headers.append((b"x-aperture-cost", settlement.cost_header(charged)))
    headers.append((b"content-length", b"%d" % len(body)))
    exchange.answered = True
    await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": body})


async def read_whole(exchange: Exchange, target: Target, response: Answer) -> bytes:
    """Return a successful answer's whole body, however slowly it comes, unless it falls silent; raise Fault."""
    pieces = []
    try:
        with exchange.deadline.within(settings.IDLE_TIMEOUT_S):
            async for piece in upstream.pieces(response, settings.MAX_ANSWER_BYTES):
                pieces.append(piece)
                exchange.deadline.move(settings.IDLE_TIMEOUT_S)
        return b"".join(pieces)
    except TimeoutError:
        response.close()
        raise Fault(
            "upstream_timeout", f"{target.provider.slug} fell silent for {settings.IDLE_TIMEOUT_S:g} s."
        ) from None
    except upstream.Unreadable as error:
        response.close()
        raise rejection.of_rubbish(target, response.status, b"", str(error)) from None
    except upstream.Broken as error:
        raise upstream.unreachable(target, error) from None


def check(call: Call, response: Answer, data: bytes) -> openai_chat.Answer:
    """Return the parts of an answer that was claimed to be a success; raise Fault where it is none."""
    if call.request.stream:
        raise rejection.of_rubbish(call.target, response.status, data, "answered a stream with something else")
    try:
        if not data.isascii():
            data.decode()
        parsed = openai_chat.decode_answer(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise rejection.of_rubbish(call.target, response.status, data, "sent an answer that is no JSON") from None
    if openai_chat.present(parsed.error):
        raise rejection.of_rubbish(call.target, response.status, data, "reported an error inside its answer")
    return parsed


async def stream(runtime: Runtime, exchange: Exchange, call: Call, response: Answer) -> None:
    """Relay a stream and settle; its last event, `[DONE]` or what ended it, is sent when the charge is durable."""
    relayed = StreamRelay(call.request.model, wants_usage=call.request.wants_usage)

    async def begin() -> None:
        exchange.answered = True
        headers = answer_headers(call, response) + NO_CACHE
        await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})

    fault: Fault | None
    try:
        fault = await relay(response, relayed, call.target, begin, exchange.write)
    except (asyncio.CancelledError, OSError) as error:
        response.close()
        if not exchange.left_by(error):
            raise
        fault = CLIENT_GONE
    if fault is not None and not exchange.answered and fault is not CLIENT_GONE:
        raise early(call.target, fault)
    exchange.settling()
    charged = stream_charge(call, relayed)
    try:
        await settle(runtime, exchange, call, charged, fault)
    except Fault as unsettled:
        if not exchange.answered:
            raise
        fault = unsettled
    if fault is not CLIENT_GONE:
        if not exchange.answered:
            await begin()
        last = openai_chat.DONE if fault is None else b"data: " + render(fault, OPENAI, exchange.request_id) + b"\n\n"
        await exchange.send({"type": "http.response.body", "body": last})


def early(target: Target, fault: Fault) -> Fault:
    """Return the fault that a stream's is while the client has been sent nothing: a failure like any other."""
    if fault.code != "stream_aborted":
        return fault
    shown = fault.upstream or {"provider": target.provider.slug, "status": 200, "body": None}
    return Fault("upstream_failed", fault.message, upstream=shown)


def stream_charge(call: Call, relayed: StreamRelay) -> Charge:
    """Return what a stream costs: the upstream's own count, else what was delivered; nothing for no output."""
    usage = openai_chat.parse_usage(relayed.usage) if relayed.usage else None
    if usage is None and relayed.chunks_count == 0:
        return settlement.NOTHING
    estimated = settlement.estimate(len(call.body), relayed.chunks_count)
    return settlement.charge(call.target, usage, estimated, time.time())


def answer_headers(call: Call, response: Answer) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer that came from an upstream."""
    return [
        *upstream.returned_headers(response),
        (b"x-aperture-upstream", call.target.provider.slug.encode("latin-1")),
    ]


async def settle(runtime: Runtime, exchange: Exchange, call: Call, charged: Charge, fault: Fault | None) -> None:
    """Write the usage row, unless it has been; raise Fault 503 when it is not durable in time."""
    if exchange.settled:
        return
    exchange.settled = True
    finished = settlement.Finished(
        request_id=exchange.request_id,
        model=call.request.model,
        dialect=call.dialect,
        streamed=call.request.stream,
        status=200 if fault is None else fault.status,
        error_code="" if fault is None else fault.code,
        first_byte_ms=exchange.first_byte_ms(),
        duration_ms=exchange.duration_ms(),
        session_id=call.session_id,
        client=exchange.headers.get(b"user-agent", b"").decode("latin-1"),
    )
    row = settlement.row(finished, exchange.caller, call.target, charged)
    try:
        await runtime.journal.record(row, settings.SETTLE_TIMEOUT_S)
    except NotDurable:
        if not call.request.stream:
            # Nobody gets this answer, so nobody pays for it: the row is still queued here.
            row.status, row.error_code, row.cost_nanos = 503, "storage_unavailable", 0
        raise Fault(
            "storage_unavailable", "The database does not answer, so the request could not be settled.", retry_after_s=1
        ) from None
    if charged is not settlement.NOTHING:
        exchange.used_tokens = settlement.tokens(charged)
