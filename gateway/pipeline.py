"""One inference request, from its key to its usage row.

    authenticate → read and parse → plan → hold → call → relay → settle

Refusals come in the order of these steps; a body is never read for a key that is not good, and no upstream is called
without a durable hold. Of a plan only the best target is called. Until the client has a byte, a failure is an HTTP
error; after that, an error event in the stream.
"""

import asyncio
import copy
import time

import msgspec
from django.conf import settings

from billing import money
from billing.holds import Held, NotDurable
from billing.pricing import Parts
from billing.usage import UsageRow
from gateway import admission, calls, drain, limiting, rejection, settlement, upstream
from gateway.admission import Budget
from gateway.answers import JSON
from gateway.authentication import authenticate
from gateway.body import ClientGone, read
from gateway.calls import Call, Route
from gateway.errors import Fault, render
from gateway.exchange import Exchange
from gateway.relay import BLANK, COMMENT, Reader, relay
from gateway.routes import plan
from gateway.runtime import Runtime
from gateway.session import find as find_session
from gateway.settlement import Charge
from gateway.snapshot import Caller, Target
from gateway.upstream import Answer
from gateway.wire import account_ids, codec
from gateway.wire.fields import Asked, InvalidRequest
from gateway.wire.sse import Framer
from gateway.wire.translation import BYTES_PER_TOKEN

EVENT_BYTES_MAX = 8 * 1024 * 1024
JSON_TYPES = (b"application/json", b"")
NO_CACHE = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"), (b"x-cache", b"MISS")]
EVENT_STREAM = "text/event-stream"
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
# What a usage row says where nobody is told: none of them is ever raised.
CLIENT_GONE = Fault("stream_aborted", "The client closed the connection.", rejection=(499, "client_closed"))
OUR_OWN = Fault("internal_error", "The gateway failed.")
LOST = Fault(
    "internal_error",
    "The gateway was killed.",
    rejection=(settlement.LOST.status, settlement.LOST.error_code),
)


class Named(msgspec.Struct, frozen=True):
    """What a route's path and query say of a request whose body does not: Gemini's model and kind of answer."""

    model: str | None = None
    stream: bool | None = None
    array: bool = False


NAMED_INSIDE = Named()


async def run(runtime: Runtime, exchange: Exchange, route: Route, named: Named = NAMED_INSIDE) -> None:
    """Answer one inference request; raise Fault for a failure while the client has nothing yet."""
    try:
        await admit(runtime, exchange)
        permit(exchange, route)
        body = await receive(exchange)
        await proceed(runtime, exchange, prepare(exchange, body, route, named))
    finally:
        leave(exchange)


async def proceed(runtime: Runtime, exchange: Exchange, call: Call) -> None:
    """Count the request in its limits and answer it."""
    await limiting.reserve(runtime, exchange, call.model, call.quote)
    if call.asked.stream or not call.target.provider.drains:
        exchange.watch_client()
    await answer(runtime, exchange, call)


def leave(exchange: Exchange) -> None:
    """End what was begun for the request, unless its answer goes on without it."""
    if not exchange.detached:
        limiting.release(exchange)
    exchange.close()


async def admit(runtime: Runtime, exchange: Exchange) -> None:
    """Find the caller and what it may do; raise Fault 401, 403 or 503."""
    enter(runtime, exchange, await authenticate(runtime, exchange.scope, exchange.headers))


def enter(runtime: Runtime, exchange: Exchange, caller: Caller) -> None:
    """Note who asks and what it may do; raise Fault 403 where that is nothing."""
    exchange.caller = caller
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


def permit(exchange: Exchange, route: Route) -> None:
    """Raise Fault 403 where the caller's plan does not have the route."""
    terms = exchange.caller.terms
    if route.front.name == "anthropic_messages" and terms.prepaid and not terms.native_anthropic:
        having = " or ".join(terms.native_anthropic_plans) or "a plan that has it"
        raise Fault("plan_required", f"The native Anthropic endpoint needs {having}; /v1/chat/completions needs none.")


def prepare(exchange: Exchange, body: bytes, route: Route, named: Named) -> Call:
    """Parse the request, choose its target and translate it; raise Fault 400, 403 or 404."""
    try:
        asked = route.front.read(body, named.model, named.stream)
        if calls.meant(route, asked) is not route:
            route = calls.meant(route, asked)
            asked = route.front.read(body, named.model, named.stream)
        keep_apart(exchange, asked, body)
    except InvalidRequest as error:
        if error.model is not None:
            # Whether the model may be called comes before how.
            plan(exchange.snapshot, exchange.access, error.model)
        raise Fault(error.code, str(error), param=error.param) from None
    planned = plan(exchange.snapshot, exchange.access, asked.model)
    # Of the planned targets the first is called; the hold would be the dearest one's of those that are tried.
    attempts = planned.targets[:1]
    target = attempts[0]
    dialect = calls.spoken(route, target)
    longest_tokens = planned.model.output_tokens_max
    translated = calls.translated(route, dialect, asked, target, body, longest_tokens=longest_tokens)
    request = None if translated is None else translated.request
    return Call(
        route=route,
        upstream=dialect,
        asked=asked,
        translated=translated,
        model=planned.model.public_id,
        target=target,
        body=body,
        session_id=find_session(exchange.headers, asked.fields, exchange.caller.key_id),
        quote=admission.quote(asked, planned.model, attempts, exchange.caller, body, answers=not route.ways),
        reply=calls.reply(route, asked, request, exchange.request_id, int(time.time()), array=named.array),
    )


def keep_apart(exchange: Exchange, asked: Asked, body: bytes) -> None:
    """Raise Fault 400 where a customer names what is kept in the operator's account at a vendor."""
    if exchange.caller.terms.prepaid:
        path = account_ids.named(body, asked.fields)
        if path is not None:
            raise Fault(
                "unsupported_content",
                f"{path} names something kept in a vendor's account, which is not yours: send what it holds.",
                param=path[:200],
            )


async def answer(runtime: Runtime, exchange: Exchange, call: Call) -> None:
    """Call the upstream, relay what it says and settle; whatever happens, exactly one usage row is left."""
    response: Answer | None = None
    try:
        held = await hold(runtime, exchange, call)
        response = await send(runtime, exchange, call)
        exchange.first_byte()
        if response.status != 200:
            raise await failed(exchange, call, response)
        if call.asked.stream and response.content_type == EVENT_STREAM:
            await stream(runtime, exchange, call, held, response)
        else:
            await whole(runtime, exchange, call, response)
    except Fault as fault:
        if exchange.held is not None:
            fault.provider = call.target.provider.slug
        exchange.settling()
        await settle(runtime, exchange, call, settlement.NOTHING, fault)
        raise
    except (asyncio.CancelledError, OSError) as error:
        if response is not None:
            response.close()
        if not exchange.left_by(error):
            # The server stops, and there may be no time to wait for anything.
            abandon(runtime, exchange)
            raise
        exchange.settling()
        await settle(runtime, exchange, call, settlement.NOTHING, CLIENT_GONE)
        raise ClientGone from None
    except Exception:
        exchange.settling()
        await settle(runtime, exchange, call, settlement.NOTHING, OUR_OWN)
        raise
    finally:
        if response is not None and not exchange.detached:
            response.release()


async def hold(runtime: Runtime, exchange: Exchange, call: Call) -> Held:
    """Hold what the request may cost; raise Fault 402, 409, 422, 429 or 503 before any upstream is called."""
    key = exchange.headers.get(b"idempotency-key")
    binding = exchange.access.spending
    if binding.problem:
        raise Fault("quota_exceeded", binding.problem)
    row = exchange.row = settlement.opened(asked_for(exchange, call), exchange.caller, call.target)
    asked = admission.ask(
        call.quote, row, None if key is None else key.decode("latin-1"), call.body, buckets=binding.buckets
    )
    exchange.held = held = await admission.hold(runtime.journal, asked, call.quote)
    if runtime.live.watched:
        runtime.live.started(row, exchange.caller, call.target.provider.slug)
    return held


async def send(runtime: Runtime, exchange: Exchange, call: Call) -> Answer:
    """Send the request to its target and return the answer once it begins; raise Fault."""
    rendered = calls.rendered(call, cap_of(exchange, call))
    exchange.dropped = rendered.dropped
    headers = upstream.request_headers(
        call.target, call.upstream.name, exchange.headers if call.passes else {}, exchange.access.headers
    )
    timeout_s = call.target.timeout_s or settings.FIRST_BYTE_TIMEOUT_S
    try:
        with exchange.deadline.within(timeout_s):
            return await runtime.upstream.post(call.target, rendered, headers)
    except TimeoutError:
        raise Fault(
            "upstream_timeout",
            f"{call.target.provider.slug} sent nothing for {timeout_s:g} s; "
            "try again, ask for fewer tokens, or stream.",
        ) from None


def cap_of(exchange: Exchange, call: Call) -> int | None:
    """Return the cap on the answer's tokens where the hold does not pay for more, and remember it for the caller."""
    held = exchange.held
    if held is None or not held.capped:
        return None
    exchange.capped_tokens = call.quote.output_tokens(held.amount_nanos)
    return exchange.capped_tokens


async def failed(exchange: Exchange, call: Call, response: Answer) -> Fault:
    """Return the fault of an upstream's answer that is no success."""
    try:
        with exchange.deadline.within(settings.IDLE_TIMEOUT_S):
            body = await upstream.read(response, upstream.ERROR_BODY_BYTES_MAX)
    except (upstream.Broken, upstream.Unreadable, TimeoutError):
        body = b""
        response.close()
    retry_after = response.headers.get("Retry-After")
    return rejection.of_status(call.target, response.status, body, call.upstream.parse_error, retry_after, time.time())


async def whole(runtime: Runtime, exchange: Exchange, call: Call, response: Answer) -> None:
    """Read a JSON answer, settle, and send it."""
    data = await read_whole(exchange, call.target, response)
    found = check(call, response, data)
    made = 0 if call.route.ways else len(data) // BYTES_PER_TOKEN
    estimated = Parts(input=call.quote.input_tokens, output=made)
    charged = settlement.charge(call.target, found.usage, estimated, time.time(), call.quote.markup_ppm)
    cost = cost_of(exchange, charged)
    # Written before it is charged: what cannot be written for the caller is not charged either.
    try:
        body = calls.written(call, data, found, cost)
    except codec.Unreadable as error:
        raise rejection.of_rubbish(call.target, response.status, data, str(error)) from None
    exchange.settling()
    await settle(runtime, exchange, call, charged, None)
    if exchange.storing is not None:
        body = await exchange.storing.whole(runtime, body)
    headers = answer_headers(exchange, call, response, JSON)
    headers.append((b"x-aperture-cost", cost))
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


def check(call: Call, response: Answer, data: bytes) -> calls.Whole:
    """Return what an answer says that was claimed to be a success; raise Fault where it is none."""
    if call.asked.stream:
        raise rejection.of_rubbish(call.target, response.status, data, "answered a stream with something else")
    try:
        return calls.read(call, data)
    except codec.Unreadable as error:
        raise rejection.of_rubbish(call.target, response.status, data, str(error)) from None


async def stream(runtime: Runtime, exchange: Exchange, call: Call, held: Held, response: Answer) -> None:
    """Relay a stream and settle; its last event, `[DONE]` or what ended it, is sent when the charge is durable."""
    relayed = calls.relay(call)
    held.mark = lambda: ended(exchange, copy.copy(exchange.row), stream_charge(call, relayed, LOST), LOST)
    budget = Budget(runtime.journal, held, call.quote)
    framer = Framer(EVENT_BYTES_MAX)

    async def begin() -> None:
        exchange.answered = True
        headers = answer_headers(exchange, call, response, JSON if call.reply.array else EVENTS) + NO_CACHE
        await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
        if runtime.live.watched:
            runtime.live.first_token(exchange.request_id)

    fault: Fault | None
    try:
        reader = Reader(begin, exchange.write, BLANK if call.reply.array else COMMENT)
        fault = await relay(response, relayed, framer, call.target, budget, reader)
    except (asyncio.CancelledError, OSError) as error:
        if not exchange.left_by(error):
            response.close()
            raise
        fault = CLIENT_GONE
        exchange.settling()
        if call.target.provider.drains and drain.has_room():
            exchange.detached = True
            drain.start(response, relayed, framer, lambda: drained(runtime, exchange, call, relayed))
            return
        response.close()
    if fault is not None and not exchange.answered and fault is not CLIENT_GONE:
        raise early(call.target, fault)
    exchange.settling()
    try:
        charged = await finish(runtime, exchange, call, relayed, fault)
    except Fault as unsettled:
        if not exchange.answered:
            raise
        charged, fault = settlement.NOTHING, unsettled
    if fault is not CLIENT_GONE:
        if not exchange.answered:
            await begin()
        last = last_events(exchange, call, relayed, charged, fault)
        if exchange.storing is not None:
            last = await exchange.storing.end(runtime, last)
        await exchange.send({"type": "http.response.body", "body": last})


async def finish(runtime: Runtime, exchange: Exchange, call: Call, relayed: codec.Relay, fault: Fault | None) -> Charge:
    """Settle a stream as it was relayed, and return its charge; raise Fault 503."""
    charged = stream_charge(call, relayed, fault)
    await settle(runtime, exchange, call, charged, fault)
    return charged


async def drained(runtime: Runtime, exchange: Exchange, call: Call, relayed: codec.Relay) -> None:
    """Settle a stream that was read to its end without its client, and end it in its limits."""
    try:
        await finish(runtime, exchange, call, relayed, CLIENT_GONE)
    finally:
        limiting.release(exchange)


def last_events(exchange: Exchange, call: Call, relayed: codec.Relay, charged: Charge, fault: Fault | None) -> bytes:
    """Return how a settled stream ends: with what was kept back of it, or with what went wrong."""
    if fault is None:
        return relayed.closing(cost_of(exchange, charged))
    error = render(fault, call.route.front.envelope, exchange.request_id)
    return relayed.broken(error, cut=fault.code in admission.CUTS)


def early(target: Target, fault: Fault) -> Fault:
    """Return the fault that a stream's is while the client has been sent nothing: a failure like any other."""
    if fault.code != "stream_aborted":
        return fault
    shown = fault.upstream or {"provider": target.provider.slug, "status": 200, "body": None}
    return Fault("upstream_failed", fault.message, upstream=shown)


def stream_charge(call: Call, relayed: codec.Relay, fault: Fault | None) -> Charge:
    """Return what a stream costs: the upstream's own count, else what was delivered; nothing for no output."""
    usage = relayed.final_usage()
    if (usage is None or fault is not None) and not relayed.produced():
        return settlement.NOTHING
    now, markup_ppm = time.time(), call.quote.markup_ppm
    delivered = Parts(input=call.quote.input_tokens, output=relayed.delivered_tokens())
    if usage is None and fault is not None:
        return settlement.priced(call.target, delivered, "partial", now, markup_ppm)
    return settlement.charge(call.target, usage, delivered, now, markup_ppm)


def cost_of(exchange: Exchange, charged: Charge) -> bytes:
    """Return what the request costs its caller, in dollars."""
    held = exchange.held
    return money.dollars(0 if held is None else settlement.shown_nanos(charged, metered=held.metered)).encode()


def answer_headers(
    exchange: Exchange, call: Call, response: Answer, kind: tuple[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer that came from an upstream; KIND is its content type where it is ours."""
    ours = not call.passes or call.reply.array
    headers = [
        *([kind] if ours else upstream.returned_headers(response)),
        *calls.losses(exchange.dropped),
        (b"x-aperture-upstream", call.target.provider.slug.encode("latin-1")),
    ]
    if exchange.capped_tokens is not None:
        headers.append((b"x-aperture-max-tokens", b"%d" % exchange.capped_tokens))
    return headers


async def settle(runtime: Runtime, exchange: Exchange, call: Call, charged: Charge, fault: Fault | None) -> None:
    """Settle the hold, unless it has been; raise Fault 503 when that is not durable in time."""
    held = exchange.held
    if held is None or exchange.settled:
        return
    exchange.settled = True
    exchange.used_tokens = settlement.tokens(charged)
    try:
        await runtime.journal.settle(held, ended(exchange, exchange.row, charged, fault), settings.SETTLE_TIMEOUT_S)
    except NotDurable:
        if not call.asked.stream:
            # Nobody gets this answer, so nobody pays for it.
            exchange.used_tokens = None
            runtime.journal.revoke(held, status=503, error_code="storage_unavailable")
        unsettled(runtime, exchange, call)
        raise Fault(
            "storage_unavailable", "The database does not answer, so the request could not be settled.", retry_after_s=1
        ) from None
    if runtime.live.watched:
        shown = settlement.shown_nanos(charged, metered=held.metered)
        runtime.live.finished(exchange.row, shown, exchange.caller, call.target.provider.slug)


def unsettled(runtime: Runtime, exchange: Exchange, call: Call) -> None:
    """Tell who watches that a request ended without being settled: what it costs, if anything, is not known yet."""
    if runtime.live.watched:
        row = msgspec.structs.replace(exchange.row, status=503, error_code="storage_unavailable")
        runtime.live.finished(row, None, exchange.caller, call.target.provider.slug)


def abandon(runtime: Runtime, exchange: Exchange) -> None:
    """Settle a request that is broken off: what was delivered is charged, and nothing if nothing was."""
    if exchange.held is not None and not exchange.settled:
        exchange.settled = True
        runtime.journal.leave(exchange.held)


def asked_for(exchange: Exchange, call: Call) -> settlement.Asked:
    """Return what a usage row says of a request before it is called."""
    return settlement.Asked(
        request_id=exchange.request_id,
        model=call.asked.model,
        dialect=call.route.name,
        streamed=call.asked.stream,
        session_id=call.session_id,
        client=exchange.headers.get(b"user-agent", b"").decode("latin-1"),
        labels=call.asked.labels,
    )


def ended(exchange: Exchange, row: UsageRow, charged: Charge, fault: Fault | None) -> UsageRow:
    """Fill in the row of a request that ends now."""
    status, code = (200, "") if fault is None else (fault.status, fault.code)
    ending = settlement.Ending(status, code, exchange.first_byte_ms(), exchange.duration_ms())
    return settlement.ended(row, charged, ending)
