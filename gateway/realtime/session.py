"""One realtime session: the way to its upstream, and the frames of both directions.

The upstream is dialled before the client is accepted, so that its refusal is an HTTP answer. Then each direction is a
loop that takes a frame only when the one before it was taken: who reads slowly slows who writes. Whatever ends one of
the two ends the session: what runs is settled first, then the client is told why, then both sides are closed.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from django.conf import settings

from gateway import rejection, upstream
from gateway.body import ClientGone
from gateway.errors import Fault
from gateway.exchange import Exchange, new_request_id
from gateway.realtime import events
from gateway.realtime.account import Account, Create
from gateway.realtime.events import Event, OtherModel
from gateway.realtime.slices import Opened
from gateway.routes import plan
from gateway.runtime import Runtime
from gateway.session import find as find_session
from gateway.sockets import Opening, Socket
from gateway.wire import openai_chat

logger = logging.getLogger(__name__)

PATH = "/v1/realtime"
SUBPROTOCOL = "realtime"
# Whoever speaks OpenAI's HTTP at its base URL may have its sockets there too; no flag of its own tells.
SPEAKS = ("openai_chat", "openai_responses")


SESSION_EVENTS = ("session.created", "session.updated")
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
CLIENT_GONE = Fault("stream_aborted", "The client closed the connection.", rejection=(499, "client_closed"))
OUR_OWN = Fault("internal_error", "The gateway failed; the request id tells the operator where.")


class End(msgspec.Struct, frozen=True):
    """Why a session ends: what the rows of what was running say, how each side is closed, and the client's last event.

    A code of None: that side has closed already.
    """

    fault: Fault
    client_code: int | None
    upstream_code: int | None
    said: str | None = None


async def serve(runtime: Runtime, exchange: Exchange, opening: Opening) -> None:
    """Serve one WebSocket of `/realtime`; raise Fault while it is not accepted, or ClientGone."""
    opened = resolve(exchange, opening.query)
    account = Account(runtime, exchange, opened)
    line: upstream.Socket | None = None
    try:
        await account.stand()
        line = await dial(runtime, exchange, opened)
        client = await opening.accept([(b"x-aperture-upstream", opened.target.provider.slug.encode("latin-1"))])
    except Fault as fault:
        fault.provider = opened.target.provider.slug if account.slices.free else None
        await account.fail(fault)
        raise
    except BaseException:
        account.abandon()
        if line is not None:
            await line.close(events.GOING_AWAY)
        raise
    await Session(account, client, line).run(opening.secret.session if opening.secret else b"")


def resolve(exchange: Exchange, query: Mapping[str, str]) -> Opened:
    """Return what a session is asked for; raise Fault 400, 403 or 404."""
    name = query.get("model", "")
    if not name:
        raise Fault("invalid_parameter", "Name the model in the address: /v1/realtime?model=….", param="model")
    planned = plan(exchange.snapshot, exchange.access, name)
    for target in planned.targets:
        if any(flag in target.provider.flags for flag in SPEAKS):
            session_id = find_session(exchange.headers, {}, exchange.caller.key_id) or exchange.request_id
            return Opened(name, planned.model, target, session_id)
    raise Fault(
        "unsupported_parameter",
        f"{planned.targets[0].provider.slug}, which serves this model, has no realtime sessions; ask for another one.",
        param="model",
    )


async def dial(runtime: Runtime, exchange: Exchange, opened: Opened) -> upstream.Socket:
    """Open the upstream's WebSocket; raise Fault where it refuses, or cannot be reached in time."""
    target = opened.target
    dialect = next(flag for flag in SPEAKS if flag in target.provider.flags)
    headers = upstream.request_headers(target, dialect, exchange.headers, exchange.access.headers)
    timeout_s = target.timeout_s or settings.FIRST_BYTE_TIMEOUT_S
    try:
        async with asyncio.timeout(timeout_s):
            return await runtime.upstream.connect(
                target,
                PATH,
                urlencode({"model": target.upstream_id}),
                headers,
                subprotocol=SUBPROTOCOL,
                bytes_max=settings.SOCKET_FRAME_BYTES,
            )
    except TimeoutError:
        raise Fault(
            "upstream_timeout", f"{target.provider.slug} did not answer within {timeout_s:g} s; try again."
        ) from None
    except upstream.SocketRefused as refused:
        retry_after = refused.headers.get("Retry-After")
        raise rejection.of_status(
            target, refused.status, refused.body, openai_chat.DIALECT.parse_error, retry_after, time.time()
        ) from None


class Session:
    """An accepted session."""

    def __init__(self, account: Account, client: Socket, line: upstream.Socket) -> None:
        self.account = account
        self.client = client
        self.line = line
        opened = account.opened
        self.model = opened.asked
        self.upstream_id = opened.target.upstream_id
        self.names = frozenset({self.model, self.upstream_id, *opened.target.names})
        self.slug = opened.target.provider.slug

    async def run(self, settings_first: bytes) -> None:
        """Relay until either side ends it; SETTINGS_FIRST, a JSON object, is what the session is set to at once."""
        directions = [
            asyncio.create_task(self._ending(self._up(settings_first)), name="realtime up"),
            asyncio.create_task(self._ending(self._down()), name="realtime down"),
            asyncio.create_task(self._ending(self._watch()), name="realtime watch"),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            ended = [task.result() for task in directions if task.done()]
            await self._stop(directions)
            # Of two ends at once, the one that tells the client more.
            await self._finish(max(ended, key=lambda end: end.said is not None))
        except asyncio.CancelledError:
            await self._stop(directions)
            raise
        finally:
            self.account.abandon()
            await self.line.close(events.GOING_AWAY)

    async def _stop(self, directions: "list[asyncio.Task[End]]") -> None:
        for task in directions:
            task.cancel()
        await asyncio.wait(directions)

    async def _finish(self, end: End) -> None:
        """Settle what runs, tell the client, and close both sides."""
        said, client_code = end.said, end.client_code
        try:
            await self.account.close(end.fault)
        except Fault as unsettled:
            said = events.failure(unsettled, new_request_id())
            client_code = None if client_code is None else events.closing(unsettled)
        await asyncio.gather(self._close_upstream(end.upstream_code), self._tell(said, client_code, end.fault.code))

    async def _close_upstream(self, code: int | None) -> None:
        if code is not None:
            await self.line.close(code)

    async def _tell(self, said: str | None, code: int | None, reason: str) -> None:
        """Send the client its last event and close; nothing where it has closed already."""
        if code is None:
            return
        try:
            if said is not None:
                await self.client.send(said)
            await self.client.close(code, reason)
        except ClientGone:
            logger.debug("the client of session %s has gone", self.account.opened.session_id)

    async def _ending(self, direction: Coroutine[Any, Any, End]) -> End:
        """Run one direction; return why the session ends, whatever that is."""
        try:
            return await direction
        except Fault as fault:
            said = events.failure(fault, new_request_id())
            return End(fault, events.closing(fault), events.NORMAL, said)
        except ClientGone:
            return End(CLIENT_GONE, None, events.GOING_AWAY)
        except upstream.Broken:
            return self._lost("was lost", None)
        except Exception:
            logger.exception("session %s failed", self.account.opened.session_id)
            said = events.failure(OUR_OWN, new_request_id())
            return End(OUR_OWN, events.FAILED, events.GOING_AWAY, said)

    def _lost(self, why: str, upstream_code: int | None) -> End:
        message = f"The connection to {self.slug} {why}; open another session."
        said = events.lost(message, new_request_id())
        return End(Fault("stream_aborted", message), events.FAILED, upstream_code, said)

    async def _watch(self) -> End:
        """Wait for the end of the client's socket; neither direction sees it while it waits for the upstream."""
        await self.client.ended()
        return self._left()

    def _left(self) -> End:
        code = self.client.close_code
        none = events.NORMAL if code == 1005 else events.GOING_AWAY
        return End(CLIENT_GONE, None, events.carried(code, none))

    # --- From the client ----------------------------------------------------------------------------------------
    async def _up(self, settings_first: bytes) -> End:
        if settings_first:
            await self._hear(events.update(settings_first))
        while (frame := await self.client.receive()) is not None:
            if isinstance(frame, bytes):
                fault = Fault("unsupported_content", "Send events as text frames; sound goes into them as base64.")
                said = events.failure(fault, new_request_id())
                return End(fault, events.UNSUPPORTED, events.NORMAL, said)
            await self._hear(frame)
        return self._left()

    async def _hear(self, frame: str) -> None:
        """Pass one of the client's frames on, or tell it why not."""
        event = events.read(frame)
        if event is None:
            await self._refuse(Fault("invalid_json", "The frame is not a JSON object with a type."), None)
            return
        try:
            frame = events.translated(frame, event, self.names, self.upstream_id)
        except OtherModel as other:
            message = f"This session is for the model {self.model!r}; open another one for another model."
            await self._refuse(Fault("invalid_parameter", message, param=str(other)), event)
            return
        named = events.kept(event) if self.account.exchange.caller.terms.prepaid else None
        if named is not None:
            message = f"{named} names something kept in a vendor's account, which is not yours: send what it holds."
            await self._refuse(Fault("unsupported_content", message, param=named), event)
            return
        if event.type == "response.create" and not await self._asks(event):
            return
        self.account.meter.hear(event)
        await self.line.send(frame)

    async def _asks(self, event: Event) -> bool:
        """Hold for a response that the client asks for; tell whether its limits let it through."""
        self.account.renew(self.client.caller)
        create = Create(event, self.account.meter)
        try:
            await self.account.count(create)
        except Fault as fault:
            await self._refuse(fault, event)
            return False
        self.client.busy = True
        await self.account.hold(create)
        return True

    async def _refuse(self, fault: Fault, event: Event | None) -> None:
        cause = events.text(event.event_id) if event is not None else ""
        await self.client.send(events.failure(fault, new_request_id(), cause or None))

    # --- From the upstream --------------------------------------------------------------------------------------
    async def _down(self) -> End:
        while (frame := await self.line.receive()) is not None:
            if isinstance(frame, bytes):
                return self._lost("brought a binary frame, which its protocol does not have", events.UNSUPPORTED)
            event = events.read(frame)
            if event is not None:
                await self._follow(event)
                frame = events.named(frame, event, self.model)
            await self.client.send(frame)
            if event is not None and event.type in ("response.done", TRANSCRIBED, *SESSION_EVENTS):
                self.account.renew(self.client.caller)
                await self.account.stand()
            self.client.busy = bool(self.account.running or self.account.asked)
        code = self.line.close_code
        if code is None:
            return self._lost("was lost", None)
        fault = Fault("stream_aborted", f"{self.slug} closed the session.")
        return End(fault, events.carried(code, events.NORMAL), None)

    async def _follow(self, event: Event) -> None:
        """Account for an event before the client gets it; raise Fault where nothing pays for what it brings."""
        account = self.account
        if event.is_delta:
            await account.deliver(event)
        elif event.type == "response.created":
            await account.created(event)
        elif event.type == "response.done":
            await account.end(event)
        elif event.type == TRANSCRIBED:
            await account.transcribed(event)
        elif event.type == "error":
            await account.refused(event)
        else:
            account.meter.follow(event)
