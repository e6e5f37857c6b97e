"""Responses over a WebSocket: each `response.create` frame is a request of its own, each event of its stream a frame.

Invariants: a response goes the whole way of `gateway.pipeline`, whatever its upstream speaks, with its own id, limits,
hold and usage row; those of one `stream_id` run one after another, those of several beside each other; what a
conversation needs to go on is kept in memory, within bounds, and ends with its connection; a client that goes ends its
responses as it ends streams.

https://developers.openai.com/api/docs/guides/websocket-mode
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any, ClassVar
from weakref import WeakSet

import msgspec
from django.conf import settings

from gateway import pipeline, responses
from gateway.authentication import UNAVAILABLE
from gateway.body import DISCONNECT, ClientGone, Message, Scope
from gateway.draining import draining
from gateway.errors import OPENAI, Fault, render
from gateway.exchange import Exchange, new_request_id
from gateway.fronts import RESPONSES
from gateway.pipeline import NAMED_INSIDE
from gateway.responses import UNKEPT
from gateway.runtime import Runtime
from gateway.sockets import Opening, Socket
from gateway.stored_responses import Kept
from gateway.wire import fields as wire
from gateway.wire import sse
from gateway.wire.codec import Reply
from gateway.wire.events import Used
from gateway.wire.fields import Fields, InvalidRequest, encode
from gateway.wire.openai_responses.decoder import named
from gateway.wire.usage import Tokens

logger = logging.getLogger(__name__)

CREATE = "response.create"
# With which Codex says that it has read a response; nothing waits for it.
SILENT = ("response.processed",)
# OpenAI's own bounds of one connection; what is beyond RUNNING_MAX waits.
RUNNING_MAX = 16
STREAMS_MAX = 32
STREAM_ID = re.compile(r"[A-Za-z0-9_.-]{1,256}")
# Past so many, or so many bytes of them, no frame is taken until a response has ended.
WAITING_MAX = 64
# Of conversations that a connection remembers, the oldest goes first.
REMEMBERED_MAX = 32
# Of all connections of the process together; past it the one that has most forgets first, for warm-ups are free.
ALL_BYTES_MAX = 256 * 1024 * 1024
# What belongs to the handshake, or would be the same for all responses of a connection.
HANDSHAKE = (b"idempotency-key", b"content-length", b"content-type", b"content-encoding")
BETA = b"openai-beta"
WAYS = b"responses_websockets="
# What of an answer's head is told with its first event: no frame has headers.
TOLD = (b"x-aperture-", b"x-ratelimit-", b"retry-after")

# The ends of a stream that a conversation goes on from.
ENDS = ("response.completed", "response.incomplete")
TYPED = b'{"type":'

decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


async def serve(runtime: Runtime, exchange: Exchange, opening: Opening) -> None:
    """GET /responses with an upgrade: answer what is asked until the client goes or the socket is closed."""
    connection = Connection(runtime, exchange, await opening.accept())
    await connection.run()


# --- What a connection remembers ---------------------------------------------------------------------------------
class Memory:
    """The conversations of one connection, by the response that each has come to: whole, as JSON, within bounds."""

    # Those of this process, which have one more bound together.
    alive: ClassVar["WeakSet[Memory]"] = WeakSet()

    def __init__(self, bytes_max: int, count_max: int = REMEMBERED_MAX) -> None:
        self.bytes_max = bytes_max
        self.count_max = count_max
        self.bytes = 0
        # By the id: the stream that it was made on, and its items.
        self.kept: dict[str, tuple[str, bytes]] = {}
        self.alive.add(self)

    def find(self, response_id: str) -> list[Any] | None:
        """Return the items of the conversation that a response ends, None where it is not remembered."""
        found = self.kept.get(response_id)
        return None if found is None else decode_items(found[1])

    def keep(self, response_id: str, stream_id: str, items: bytes, previous_id: str) -> None:
        """Remember a conversation, a list in JSON, in place of what it continues on the same stream."""
        if self.kept.get(previous_id, (None,))[0] == stream_id:
            self._drop(previous_id)
        self._drop(response_id)
        if len(items) > self.bytes_max:
            return
        self.kept[response_id] = (stream_id, items)
        self.bytes += len(items)
        while self.bytes > self.bytes_max or len(self.kept) > self.count_max:
            self._drop(next(iter(self.kept)))
        while sum(each.bytes for each in self.alive) > ALL_BYTES_MAX:
            largest = max(self.alive, key=lambda each: each.bytes)
            largest._drop(next(iter(largest.kept)))

    def close(self) -> None:
        """Forget everything."""
        self.kept.clear()
        self.bytes = 0
        self.alive.discard(self)

    def _drop(self, response_id: str) -> None:
        found = self.kept.pop(response_id, None)
        if found is not None:
            self.bytes -= len(found[1])


# --- The connection -------------------------------------------------------------------------------------------------
class Connection:
    """One socket: takes frames, and has each answered in the order of its stream."""

    def __init__(self, runtime: Runtime, exchange: Exchange, socket: Socket) -> None:
        self.runtime = runtime
        self.socket = socket
        self.scope = exchange.scope
        self.headers = headers_of(exchange)
        self.memory = Memory(settings.MAX_BODY_BYTES)
        self.streams: dict[str, asyncio.Lock] = {"": asyncio.Lock()}
        self.room = asyncio.Semaphore(RUNNING_MAX)
        self.writing = asyncio.Lock()
        # Each task with the bytes that it was asked.
        self.tasks: dict[asyncio.Task[None], int] = {}
        self.running: set[Response] = set()

    async def run(self) -> None:
        """Serve until the socket ends; then end what runs, and wait until all of it is settled."""
        ended = asyncio.ensure_future(self.socket.ended())
        try:
            while (frame := await self.socket.receive()) is not None:
                await self._take(frame)
                # The next may be long in coming.
                del frame
                await self._wait_for_room(ended)
            self._leave()
        except ClientGone:
            self._leave()
        except asyncio.CancelledError:
            for task in self.tasks:
                task.cancel()
            raise
        finally:
            ended.cancel()
            try:
                if self.tasks:
                    await asyncio.wait(self.tasks)
            finally:
                self.memory.close()

    def _leave(self) -> None:
        """The client has gone: end what runs as its streams end, and forget what has not begun."""
        begun = {made.exchange.task for made in self.running}
        for task in self.tasks:
            if task not in begun:
                task.cancel()
        for made in list(self.running):
            made.leave()

    async def _wait_for_room(self, ended: "asyncio.Future[None]") -> None:
        while not ended.done() and (
            len(self.tasks) >= WAITING_MAX or sum(self.tasks.values()) > settings.MAX_BODY_BYTES
        ):
            await asyncio.wait([*self.tasks, ended], return_when=asyncio.FIRST_COMPLETED)

    async def _take(self, frame: str | bytes) -> None:
        """Have one frame answered; what is wrong with it is told, and the socket stays open."""
        try:
            if isinstance(frame, bytes):
                raise Fault("invalid_json", "A binary frame is nothing here: send JSON in text frames.")
            fields = responses.read(frame.encode("utf-8", "replace"))
            kind = value(fields, "type")
            if kind in SILENT:
                return
            stream_id = stream_of(fields)
        except Fault as fault:
            await self._refuse(fault)
            return
        if kind != CREATE:
            said = f"{str(kind)[:64]!r} is no event that is taken here; send {CREATE!r}."
            await self._refuse(Fault("invalid_parameter", said, param="type"), stream_id)
        elif stream_id not in self.streams and len(self.streams) > STREAMS_MAX:
            said = f"This connection has {STREAMS_MAX} streams already: use one of their ids, or another connection."
            await self._refuse(Fault("websocket_stream_limit_reached", said, param="stream_id"), stream_id)
        else:
            self.streams.setdefault(stream_id, asyncio.Lock())
            work = self._answer(fields, stream_id)
            task = asyncio.get_running_loop().create_task(work, name="response over a socket")
            self.tasks[task] = len(frame)
            task.add_done_callback(self._ended)

    async def _refuse(self, fault: Fault, stream_id: str = "") -> None:
        await self.tell(error_event(fault, new_request_id(), {}), stream_id)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self.tasks[task]

    async def _answer(self, fields: Fields, stream_id: str) -> None:
        async with self.streams[stream_id], self.room:
            made = Response(self, fields, stream_id)
            self.running.add(made)
            self.socket.busy = True
            try:
                await made.run()
            except ClientGone:
                logger.debug("the client of response %s has gone", made.exchange.request_id)
            finally:
                self.running.remove(made)
                self.socket.busy = bool(self.running)
                # It and its exchange know each other: what they hold, the request above all, is not to wait for the
                # collector.
                del made.exchange, made.fields

    async def tell(self, data: bytes, stream_id: str) -> None:
        """Send one event, JSON, with the name of its stream; raise ClientGone."""
        if stream_id and data.startswith(b"{"):
            data = begun_with(b'"stream_id":"%b"' % stream_id.encode(), data)
        async with self.writing:
            await self.socket.send(data.decode("utf-8", "replace"))


def value(fields: Fields, name: str) -> Any:
    """Return a field, None where it is absent; raise Fault 400."""
    try:
        return wire.value(fields, name)
    except InvalidRequest as error:
        raise Fault(error.code, str(error), param=error.param) from None


def flag(fields: Fields, name: str, *, default: bool) -> bool:
    """Return a field that is true or false; raise Fault 400."""
    found = value(fields, name)
    if found is None or isinstance(found, bool):
        return default if found is None else found
    raise Fault("invalid_parameter", f"{name} is neither true nor false.", param=name)


def stream_of(fields: Fields) -> str:
    """Return the stream that a frame names, "" for the one without a name; raise Fault 400."""
    stream_id = value(fields, "stream_id")
    if stream_id is None:
        return ""
    if not isinstance(stream_id, str) or STREAM_ID.fullmatch(stream_id) is None:
        raise Fault(
            "invalid_stream_id",
            "stream_id is no text of 1 to 256 letters, digits, underscores, hyphens and periods.",
            param="stream_id",
        )
    return stream_id


def headers_of(exchange: Exchange) -> dict[bytes, bytes]:
    """Return what a handshake's headers say of each request that is made over its socket."""
    headers = {name: value for name, value in exchange.headers.items() if name not in HANDSHAKE}
    if BETA in headers:
        wanted = [each for each in headers.pop(BETA).split(b",") if not each.strip().startswith(WAYS)]
        if wanted:
            headers[BETA] = b",".join(wanted).strip()
    return headers


def error_event(fault: Fault, request_id: str, headers: dict[str, str]) -> bytes:
    """Return a fault as the `error` event that a socket has in place of a status and headers.

    OpenAI's packages read the headers inside the error, Codex beside it.
    """
    told = msgspec.json.decode(render(fault, OPENAI, request_id))
    headers = shown(fault.headers()) | headers
    told["error"]["headers"] = headers
    return encode({"type": "error", "status": fault.status, **told, "headers": headers})


def typed(data: bytes, kind: str) -> bytes:
    """Return an event's data with its type, which some servers tell in the line before it alone."""
    try:
        has_type = "type" in decode_fields(data)
    except (ValueError, RecursionError):
        return data
    return data if has_type else begun_with(b'"type":%b' % encode(kind), data)


def begun_with(first: bytes, data: bytes) -> bytes:
    """Return a JSON object, as bytes, with one more member before its others."""
    rest = data.lstrip()[1:].lstrip()
    return b"{%b%b" % (first, rest if rest.startswith(b"}") else b"," + rest)


def shown(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return what is told of an answer's headers where there are none."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name.lower().startswith(TOLD)}


# --- One response ---------------------------------------------------------------------------------------------------
class Response:
    """One response of a connection: an exchange whose client is the socket. It belongs to the task that makes it."""

    def __init__(self, connection: Connection, fields: Fields, stream_id: str) -> None:
        self.connection = connection
        self.fields = fields
        self.stream_id = stream_id
        self.previous_id = ""
        # Whether the conversation that it continues is this connection's alone.
        self.continues_own = False
        self.has_gone = False
        self.callbacks: list[Callable[[], None]] = []
        self.headers: dict[str, str] = {}
        self.has_begun = self.has_ended = False
        scope: Scope = {**connection.scope, "type": "http", "method": "POST"}
        scope["extensions"] = {DISCONNECT: {"call": self.watch}}
        self.exchange = Exchange(scope, self.receive, self.send, connection.headers)
        self.exchange.caller = connection.socket.caller

    def watch(self, callback: Callable[[], None]) -> None:
        """Have a callback called when the client goes, or has gone (`body.DISCONNECT`)."""
        if self.has_gone:
            callback()
        else:
            self.callbacks.append(callback)

    def leave(self) -> None:
        """The client has gone."""
        self.has_gone = True
        for callback in self.callbacks:
            callback()

    async def receive(self) -> Message:
        """Return what a client says beside its request: that it has gone, and `watch` tells that."""
        raise ClientGone

    async def run(self) -> None:
        """Make the response; what goes wrong before its end is told as an error event. Raise ClientGone."""
        exchange, fault = self.exchange, None
        try:
            await self._make()
        except Fault as refused:
            fault = refused
        except Exception:
            # A client that has gone is told as that, by `send` and by the pipeline.
            if self.has_gone or self.connection.socket.close_code is not None:
                raise ClientGone from None
            logger.exception("request %s failed", exchange.request_id)
            fault = Fault("internal_error", "The gateway failed; the request id tells the operator where.")
        finally:
            pipeline.leave(exchange)
        if fault is not None and not self.has_ended:
            headers = {"x-aperture-request-id": exchange.request_id}
            if exchange.limited is not None:
                headers |= shown(await exchange.limited.headers())
            await self.connection.tell(error_event(fault, exchange.request_id, headers), self.stream_id)

    async def _make(self) -> None:
        runtime, exchange, fields = self.connection.runtime, self.exchange, self.fields
        if draining.active:
            raise Fault("draining", "The server is restarting; try again.", retry_after_s=1)
        if runtime.freshness.stale() and not await runtime.freshness.wait():
            raise Fault("storage_unavailable", UNAVAILABLE, retry_after_s=1)
        runtime.used_keys.add((exchange.caller.key_id, exchange.caller.display))
        pipeline.enter(runtime, exchange, self.connection.socket.caller)
        generates = self._understand()
        await responses.complete(exchange, fields, self._before)
        if self.continues_own and exchange.storing is not None:
            # What is stored never leads to what is not.
            exchange.storing.input, exchange.storing.previous_id = msgspec.json.decode(fields["input"]), ""
        if generates:
            call = pipeline.prepare(exchange, encode(fields), RESPONSES, NAMED_INSIDE)
            await pipeline.proceed(runtime, exchange, call)
        else:
            await self._warm_up()

    def _understand(self) -> bool:
        """Take what a socket's request has beside HTTP's out of it; return whether anything is to be generated."""
        fields = self.fields
        generates = flag(fields, "generate", default=True)
        if flag(fields, "background", default=False):
            said = "A response over a WebSocket is not made in the background; POST it."
            raise Fault("unsupported_parameter", said, param="background")
        for name in ("type", "stream_id", "generate"):
            fields.pop(name, None)
        fields["stream"] = msgspec.Raw(b"true")
        return generates

    async def _before(self, response_id: str) -> list[Any]:
        self.previous_id = response_id
        found = self.connection.memory.find(response_id)
        if found is None:
            return await responses.conversation(self.connection.runtime, self.exchange, response_id)
        self.continues_own = True
        return found

    async def _warm_up(self) -> None:
        """Answer without a model: what was sent is remembered, and can be continued. It is free."""
        exchange, model = self.exchange, wire.model(self.fields)
        echoed = {name: msgspec.json.decode(raw) for name, raw in self.fields.items() if name not in wire.CONVERSATION}
        encoder = RESPONSES.front.stream_encoder(Reply(exchange.request_id, model, int(time.time()), fields=echoed))
        begun = encoder.encode([Used(Tokens())])
        ended = encoder.finish(b"0")
        if exchange.storing is not None:
            ended = await exchange.storing.end(self.connection.runtime, ended)
        exchange.answered = True
        await exchange.send({"type": "http.response.start", "status": 200, "headers": []})
        await exchange.send({"type": "http.response.body", "body": begun + ended})

    # --- What its client gets -------------------------------------------------------------------------------------
    async def send(self, message: Message) -> None:
        """Send what is a piece of an answer over HTTP as frames; raise OSError once the client has gone."""
        if message["type"] == "http.response.start":
            self.headers = shown(message["headers"])
            return
        for event in sse.split(message.get("body", b"")):
            data = sse.data_of(event)
            # A comment has none.
            if data:
                await self._tell(data if data.startswith(TYPED) else typed(data, named(event)))
        self.has_ended = not message.get("more_body", False)

    async def _tell(self, data: bytes) -> None:
        if not self.has_begun:
            self.has_begun = True
            headers = {"x-aperture-request-id": self.exchange.request_id} | self.headers
            if data.startswith(b"{"):
                data = begun_with(b'"headers":%b' % encode(headers), data)
        if b'"response.completed"' in data or b'"response.incomplete"' in data:
            self._remember(data)
        try:
            await self.connection.tell(data, self.stream_id)
        except ClientGone:
            raise ConnectionError("The client has gone.") from None

    def _remember(self, data: bytes) -> None:
        """Remember the conversation where this event is its end, unless it is stored."""
        try:
            found = msgspec.json.decode(data)
            if found.get("type") not in ENDS:
                return
            response = found["response"]
            if self.exchange.storing is not None and response.get("store") is True:
                return
            made = responses.replayed(Kept(response["id"], "", "", [], response))
            raw = bytes(self.fields.get("input", b"[]"))
            given = decode_items(raw) if raw.startswith(b"[") else responses.items_of(msgspec.json.decode(raw))
            items = encode([*given, *made])
            self.connection.memory.keep(str(response["id"]), self.stream_id, items, self.previous_id)
        except UNKEPT as error:
            logger.warning("a response is not remembered: %s", type(error).__name__)
