"""The Responses API around its one question and answer: what is stored, continued, run in the background, cancelled.

A response is kept only if its caller asks for it (`store: true`; absent means no, other than at OpenAI) and the
operator allows it. No upstream ever stores one: it is always told not to, and the conversation that
`previous_response_id` names is put together here, so that it goes on at any model of any vendor.

https://platform.openai.com/docs/api-reference/responses
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec
import psycopg
from django.conf import settings

from gateway import background, pipeline, stored_responses
from gateway.answers import answer
from gateway.body import ClientGone, Message
from gateway.calls import Call
from gateway.errors import OPENAI, Fault, render
from gateway.exchange import Exchange
from gateway.fronts import RESPONSES
from gateway.models import StoredResponse
from gateway.pipeline import NAMED_INSIDE
from gateway.routes import plan
from gateway.runtime import Runtime
from gateway.stored_responses import Kept
from gateway.wire import fields as wire
from gateway.wire import sse
from gateway.wire.fields import InvalidRequest, encode

logger = logging.getLogger(__name__)

ID_CHARS_MAX = 128
LEASE_S = 30.0
RENEW_EVERY_S = 5.0
ITEMS_MAX = 100
# The endings of a stream that hold the whole response.
TERMINAL = ("response.completed", "response.incomplete", "response.failed")

# What an upstream's answer may hold that JSON lets through and nothing else takes: halves of surrogates, nesting,
# numbers without bound, a NUL in an id, and what is no object.
UNKEPT = (ValueError, RecursionError, OverflowError, TypeError, KeyError, psycopg.Error)

# (id of a response): the items of the conversation that it ends.
Before = Callable[[str], Awaitable[list[Any]]]

_running: dict[str, "Background"] = {}


class Storing(msgspec.Struct):
    """What is to be kept of a request once it is answered."""

    organization_id: int
    input: list[Any]
    previous_id: str = ""

    async def whole(self, runtime: Runtime, body: bytes) -> bytes:
        """Keep a whole answer; return it as its caller gets it."""
        try:
            return encode(await self.keep(runtime, msgspec.json.decode(body)))
        except UNKEPT as error:
            # It is charged: what cannot be kept is answered all the same.
            logger.warning("a response is not stored: %s", type(error).__name__)
            return body

    async def end(self, runtime: Runtime, events: bytes) -> bytes:
        """Keep the answer that a stream's last EVENTS tell; return them as their reader gets them."""
        return b"".join([await self._ended(runtime, event) for event in sse.split(events)])

    async def _ended(self, runtime: Runtime, event: bytes) -> bytes:
        data = sse.data_of(event)
        try:
            found = msgspec.json.decode(data) if data.startswith(b"{") else {}
            if found.get("type") not in TERMINAL:
                return event
            found["response"] = await self.keep(runtime, found["response"])
            return b"event: %s\ndata: %s\n\n" % (found["type"].encode(), encode(found))
        except UNKEPT as error:
            logger.warning("a response is not stored: %s", type(error).__name__)
            return event

    async def keep(self, runtime: Runtime, response: dict[str, Any]) -> dict[str, Any]:
        """Keep a response; return it as its caller gets it, which says whether that could be."""
        response = response | {"previous_response_id": self.previous_id or None}
        response_id = response.get("id")
        if not isinstance(response_id, str) or not 0 < len(response_id) <= ID_CHARS_MAX:
            return response
        status = str(response.get("status") or StoredResponse.COMPLETED)[:16]
        kept = Kept(response_id, self.previous_id, status, self.input, response | {"store": True})
        try:
            stored = await stored_responses.keep(
                runtime.reads, self.organization_id, kept, days=settings.STORED_RESPONSE_DAYS
            )
        except Fault as fault:
            # It is charged and durable; that it is not stored is no reason to withhold it.
            logger.warning("response %s is not stored: %s", response_id, fault.message)
            stored = False
        return response | {"store": stored}


async def create(runtime: Runtime, exchange: Exchange, _rest: str) -> None:
    """POST /responses."""
    try:
        call = await accept(runtime, exchange)
        if exchange.background:
            await start(runtime, exchange, call)
        else:
            await pipeline.proceed(runtime, exchange, call)
    finally:
        pipeline.leave(exchange)


async def socket_only(_runtime: Runtime, _exchange: Exchange, _rest: str) -> None:
    """GET /responses: what opens a WebSocket, and nothing else."""
    raise Fault("websocket_upgrade_required", "A plain GET is nothing here: POST a request, or GET /responses/{id}.")


async def accept(runtime: Runtime, exchange: Exchange) -> Call:
    """Return the call that a request is, its conversation put together; raise Fault."""
    await pipeline.admit(runtime, exchange)
    body = await pipeline.receive(exchange)
    fields = read(body)

    async def before(response_id: str) -> list[Any]:
        return await conversation(runtime, exchange, response_id)

    await complete(exchange, fields, before)
    return pipeline.prepare(exchange, encode(fields), RESPONSES, NAMED_INSIDE)


def read(body: bytes) -> wire.Fields:
    """Return a request's top-level fields; raise Fault 400."""
    try:
        return wire.read(body)
    except InvalidRequest as error:
        raise Fault(error.code, str(error), param=error.param) from None


async def conversation(runtime: Runtime, exchange: Exchange, response_id: str) -> list[Any]:
    """Return the items of the stored conversation that a response ends, oldest first; raise Fault 400, 413 or 503."""
    before = await stored_responses.conversation(runtime.reads, exchange.caller.organization_id, response_id)
    return [item for kept in before for item in replayed(kept)]


async def complete(exchange: Exchange, fields: wire.Fields, before: Before) -> None:
    """Put a request's conversation together in its FIELDS, and note what is to be kept of it; raise Fault.

    BEFORE gives the items of the conversation that the response with an id ends.
    """
    try:
        # Whether the model may be called comes before how.
        plan(exchange.snapshot, exchange.access, wire.model(fields))
        stored, unwaited = wire.flag(fields, "store"), wire.flag(fields, "background")
        streamed = wire.flag(fields, "stream")
        previous_id = wire.value(fields, "previous_response_id") or ""
        own = items_of(wire.value(fields, "input"))
    except InvalidRequest as error:
        raise Fault(error.code, str(error), param=error.param) from None
    if wire.present(fields.get("conversation", msgspec.Raw(b"null"))):
        # Kept at the vendor under the one account of all callers, whatever `store` says.
        raise Fault(
            "unsupported_parameter",
            "No vendor keeps a conversation for callers here: continue one with previous_response_id.",
            param="conversation",
        )
    if not isinstance(previous_id, str):
        raise Fault("invalid_parameter", "previous_response_id is no text.", param="previous_response_id")
    keeps = stored and settings.STORED_RESPONSE_DAYS > 0
    check_background(background=unwaited, keeps=keeps, streamed=streamed)
    if previous_id:
        fields["input"] = msgspec.Raw(encode(await before(previous_id) + own))
        if len(fields["input"]) > settings.MAX_BODY_BYTES:
            raise stored_responses.too_long()
    if keeps:
        exchange.storing = Storing(exchange.caller.organization_id, own, previous_id)
    exchange.background = unwaited
    for name in ("previous_response_id", "background"):
        fields.pop(name, None)
    fields["store"] = msgspec.Raw(b"false")


def check_background(*, background: bool, keeps: bool, streamed: bool) -> None:
    """Raise Fault 400 for a background response that nobody could fetch, or that is to be streamed."""
    if background and not keeps:
        raise Fault(
            "unsupported_parameter",
            "background needs `store: true`, and an operator who allows stored responses.",
            param="background",
        )
    if background and streamed:
        raise Fault("unsupported_parameter", "A background response is not streamed; GET it by its id.", param="stream")


def items_of(found: Any) -> list[Any]:
    """Return a request's input as items; what is neither a text nor a list is left for the dialect to refuse."""
    if isinstance(found, str):
        return [{"type": "message", "role": "user", "content": found}]
    return found if isinstance(found, list) else []


def replayed(kept: Kept) -> list[Any]:
    """Return a stored response's items as input for the next; a thought that its vendor alone kept is left out."""
    output = kept.response.get("output") or []
    return kept.input + [
        item
        for item in output
        if isinstance(item, dict) and (item.get("type") != "reasoning" or item.get("encrypted_content") is not None)
    ]


# --- In the background -------------------------------------------------------------------------------------------
class Background:
    """A response that is made while nobody waits: an exchange whose client is the database."""

    def __init__(self, runtime: Runtime, exchange: Exchange, call: Call, stub: dict[str, Any]) -> None:
        self.runtime = runtime
        self.call = call
        self.stub = stub
        self.storing = exchange.storing or Storing(exchange.caller.organization_id, [])
        self.cancelled = asyncio.Event()
        self.pieces: list[bytes] = []
        # Whoever asked may hang up: the server's word for that is not this exchange's.
        self.exchange = Exchange({**exchange.scope, "extensions": {}}, self.receive, self.send, exchange.headers)
        self.exchange.request_id = exchange.request_id
        self.exchange.caller, self.exchange.access = exchange.caller, exchange.access
        self.exchange.snapshot, self.exchange.limited = exchange.snapshot, exchange.limited
        # Its limits end with it, not with the request that began it.
        exchange.limited = None

    async def receive(self) -> Message:
        """Wait until the response is cancelled: that is when its client goes."""
        await self.cancelled.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a piece of the answer."""
        self.pieces.append(message.get("body", b""))

    async def run(self) -> None:
        """Make the response and keep it, or what became of it."""
        renewing = asyncio.ensure_future(self.renew())
        try:
            await pipeline.proceed(self.runtime, self.exchange, self.call)
            response = msgspec.json.decode(b"".join(self.pieces))
        except Fault as fault:
            error = msgspec.json.decode(render(fault, OPENAI, self.exchange.request_id))["error"]
            response = self.stub | {"status": StoredResponse.FAILED, "error": error}
        except ClientGone:
            return
        except asyncio.CancelledError:
            await self.keep(self.stub | {"status": StoredResponse.FAILED, "error": stored_responses.STOPPED})
            raise
        finally:
            pipeline.leave(self.exchange)
            renewing.cancel()
        # Under the id that its caller knows.
        response |= {name: self.stub[name] for name in ("id", "background", "store", "previous_response_id")}
        await self.keep(response)

    async def keep(self, response: dict[str, Any], lease_s: float | None = None) -> bool:
        """Write the response as far as it is, with a lease while it runs; return whether that could be.

        Raise Fault 503.
        """
        storing = self.storing
        kept = Kept(self.stub["id"], storing.previous_id, response["status"], storing.input, response)
        reads, organization_id = self.runtime.reads, storing.organization_id
        if lease_s is None:
            return await stored_responses.finish(reads, organization_id, kept)
        return await stored_responses.keep(
            reads, organization_id, kept, days=settings.STORED_RESPONSE_DAYS, lease_s=lease_s
        )

    async def renew(self) -> None:
        """Say now and then that somebody works on it, and notice when another process has cancelled it."""
        organization_id, response_id = self.storing.organization_id, self.stub["id"]
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                if not await stored_responses.renew(self.runtime.reads, organization_id, response_id, LEASE_S):
                    self.cancelled.set()
                    return
            except Fault:
                logger.warning("the lease of response %s could not be renewed", response_id)


async def start(runtime: Runtime, exchange: Exchange, call: Call) -> None:
    """Answer that the response is queued, and make it beside everything else."""
    if not background.has_room():
        raise Fault("concurrency", "Too many background responses run here; try again.", retry_after_s=1)
    stub = {
        "id": f"resp_{exchange.request_id.replace('-', '')}",
        "object": "response",
        "created_at": call.reply.created,
        "status": StoredResponse.QUEUED,
        "background": True,
        "error": None,
        "incomplete_details": None,
        "model": call.asked.model,
        "output": [],
        "previous_response_id": (exchange.storing and exchange.storing.previous_id) or None,
        "store": True,
    }
    ready = asyncio.get_running_loop().create_future()
    background.start(_background(runtime, exchange, call, stub, ready), "background response")
    await ready
    await answer(exchange, 200, stub)


async def _background(
    runtime: Runtime, exchange: Exchange, call: Call, stub: dict[str, Any], ready: "asyncio.Future[None]"
) -> None:
    # An exchange belongs to the task that it is made in.
    made = Background(runtime, exchange, call, stub)
    try:
        if not await made.keep(stub, LEASE_S):
            raise stored_responses.too_long()
    except Exception as error:
        # Whatever it was, somebody waits for it.
        ready.set_exception(error)
        return
    ready.set_result(None)
    _running[stub["id"]] = made
    try:
        await made.run()
    except Fault as fault:
        logger.warning("response %s was made and is not stored: %s", stub["id"], fault.message)
    except Exception:
        logger.exception("response %s failed", stub["id"])
    finally:
        del _running[stub["id"]]


# --- What was stored ----------------------------------------------------------------------------------------------
async def get(runtime: Runtime, exchange: Exchange, rest: str) -> None:
    """GET /responses/{id} and /responses/{id}/input_items."""
    await pipeline.admit(runtime, exchange)
    response_id, _, below = rest.partition("/")
    if below not in ("", "input_items"):
        raise Fault("not_found", f"A response has no {below[:64]!r}; it has input_items.")
    kept = await stored_responses.find(runtime.reads, exchange.caller.organization_id, response_id)
    query = parse_qs(exchange.scope.get("query_string", b"").decode("latin-1"))
    await answer(exchange, 200, page(kept, query) if below else kept.response)


def page(kept: Kept, query: dict[str, list[str]]) -> dict[str, Any]:
    """Return one page of what was asked with a response: newest first unless `order=asc`, `limit` at once."""
    items = [
        {"id": f"item_{kept.response_id}_{number}"} | item
        for number, item in enumerate(kept.input)
        if isinstance(item, dict)
    ]
    if query.get("order", ["desc"])[0] != "asc":
        items.reverse()
    after = query.get("after", [""])[0]
    position = next((number for number, item in enumerate(items, 1) if item["id"] == after), 0)
    limit = query.get("limit", ["20"])[0]
    size = min(max(int(limit), 1), ITEMS_MAX) if limit.isascii() and limit.isdigit() and len(limit) < 5 else 20
    shown = items[position : position + size]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": position + size < len(items),
    }


async def delete(runtime: Runtime, exchange: Exchange, response_id: str) -> None:
    """DELETE /responses/{id}: also ends one that runs."""
    await pipeline.admit(runtime, exchange)
    organization_id = exchange.caller.organization_id
    await stored_responses.find(runtime.reads, organization_id, response_id)
    await stored_responses.delete(runtime.reads, organization_id, response_id)
    interrupt(organization_id, response_id)
    await answer(exchange, 200, {"id": response_id, "object": "response", "deleted": True})


async def cancel(runtime: Runtime, exchange: Exchange, rest: str) -> None:
    """POST /responses/{id}/cancel: ends a background response; one that has ended stays as it is."""
    response_id, _, verb = rest.partition("/")
    if verb != "cancel":
        raise Fault("not_found", f"There is no {verb[:64]!r} of a response; there is cancel.")
    await pipeline.admit(runtime, exchange)
    organization_id = exchange.caller.organization_id
    kept = await stored_responses.find(runtime.reads, organization_id, response_id)
    if not kept.response.get("background"):
        raise Fault("invalid_parameter", "Only a background response can be cancelled.")
    if await stored_responses.cancel(runtime.reads, organization_id, response_id):
        interrupt(organization_id, response_id)
        kept = await stored_responses.find(runtime.reads, organization_id, response_id)
    await answer(exchange, 200, kept.response)


def interrupt(organization_id: int, response_id: str) -> None:
    """Stop making a response, where it is made in this process; another's notices within RENEW_EVERY_S."""
    made = _running.get(response_id)
    if made is not None and made.storing.organization_id == organization_id:
        made.cancelled.set()
