"""A scripted realtime upstream over real WebSockets: OpenAI's GA protocol, and upstreams that break it.

The model's name in the query chooses the script (`ok`, or one of FAULTS); what a session says follows from its own
conversation alone, so that a test can work out the usage. https://platform.openai.com/docs/api-reference/realtime
"""

import asyncio
import base64
import binascii
import http
import itertools
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

FAULTS = {
    "status-401": "refuses the handshake, and quotes the credential",
    "status-429": "refuses the handshake with Retry-After",
    "status-500": "refuses the handshake",
    "cut": "drops the connection after the second delta of a response",
    "bye-4321": "closes with 4321 after its first response",
    "lie-missing": "tells no usage",
    "lie-negative": "tells a negative count",
    "lie-contradiction": "tells more cached tokens than tokens",
    "fail": "ends a response as failed, with nothing made and no usage",
    "slow": "waits 0.2 s before each delta",
    "long": "goes on for 400 deltas",
    "steady": "goes on for 400 deltas, and waits 0.05 s before each",
    "untold": "tells nothing of `response.created`",
    "twice": "tells each `response.done` twice",
    "flood": "says 64 MB as fast as it is read",
    "deaf": "reads nothing",
    "binary": "sends a binary frame after its first response",
}
FRAME_BYTES_MAX = 16 * 1024 * 1024
FLOOD_BYTES = 64 * 1024
PAUSES_S = {"slow": 0.2, "steady": 0.05}
WORDS = ("Hello", " from", " a", " script.")
# What a second of 16-bit sound at 24 kHz is, and how many of the model's tokens it is heard and spoken as.
PCM_BYTES_PER_S = 48_000
HEARD_PER_S, SPOKEN_PER_S = 10, 20
# One delta of sound is a tenth of a second.
DELTA = base64.b64encode(bytes(PCM_BYTES_PER_S // 10)).decode()
DELTA_TOKENS = SPOKEN_PER_S // 10
# Sound of this length is a turn: voice detection takes it for one.
TURN_BYTES = PCM_BYTES_PER_S
WORD_TOKENS = 2
VAD = {"type": "server_vad", "create_response": True, "interrupt_response": True}
TRANSCRIPTION = {
    "whisper-1": {"type": "duration", "seconds": 1.0},
    "gpt-4o-transcribe": {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
        "output_tokens": 6,
        "total_tokens": 20,
    },
}


@dataclass
class Heard:
    """What one connection brought: its query, its headers, and every frame in order."""

    model: str
    headers: dict[str, str]
    frames: list[str | bytes] = field(default_factory=list)
    close_code: int | None = None
    session: "Session | None" = None

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one type."""
        events = [json.loads(frame) for frame in self.frames if isinstance(frame, str)]
        return [event for event in events if event.get("type") == kind]


@dataclass
class Tokens:
    """What a conversation holds, in tokens."""

    text: int = 0
    audio: int = 0


class RealtimeUpstream:
    """A running upstream; `heard` has what each connection brought."""

    def __init__(self, port: int = 0) -> None:
        self.heard: list[Heard] = []
        self.handshakes: list[dict[str, str]] = []
        self.port = port
        self._server: Server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="realtime-upstream", daemon=True)

    @property
    def base_url(self) -> str:
        """The address to give a provider."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def of(self, model: str) -> list[Heard]:
        """The connections for this model."""
        return [heard for heard in list(self.heard) if heard.model == model]

    def wait(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait until CONDITION holds; raise TimeoutError otherwise."""
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(f"not within {timeout_s} s; {len(self.heard)} sessions were opened")
            time.sleep(0.005)

    async def _listen(self) -> None:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            process_request=self._greet,
            subprotocols=None,
            compression=None,
            max_size=FRAME_BYTES_MAX,
            close_timeout=1,
            backlog=1024,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _greet(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake where the script says so."""
        self.handshakes.append({name.lower(): value for name, value in request.headers.raw_items()})
        model = model_of(request)
        refused = re.fullmatch(r"status-(\d+)", model)
        if urlsplit(request.path).path != "/v1/realtime" or not model:
            return refusal(404, "Not here.", {})
        if refused is None:
            return None
        status = int(refused[1])
        shown = request.headers.get("Authorization", "")
        return refusal(status, f"Refused: {shown}", {"Retry-After": "7"} if status == 429 else {})

    async def _serve(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        heard = Heard(model_of(request), {name.lower(): value for name, value in request.headers.raw_items()})
        self.heard.append(heard)
        session = heard.session = Session(connection, heard)
        try:
            await session.run()
        except ConnectionClosed:
            pass
        finally:
            heard.close_code = connection.close_code
            await session.stop()


def model_of(request: Request) -> str:
    """Return the model that a handshake asks for."""
    return parse_qs(urlsplit(request.path).query).get("model", [""])[0]


def refusal(status: int, message: str, headers: dict[str, str]) -> Response:
    """Return an answer in OpenAI's envelope."""
    code = "rate_limit_exceeded" if status == 429 else None
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": code}}).encode()
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close", **headers}
    return Response(status, http.HTTPStatus(status).phrase, Headers(fields), body)


class Session:
    """One connection's conversation."""

    def __init__(self, connection: ServerConnection, heard: Heard) -> None:
        self.connection = connection
        self.heard = heard
        self.script = heard.model
        self.ids = itertools.count(1)
        self.settings: dict[str, Any] = {
            "type": "realtime",
            "object": "realtime.session",
            "id": f"sess_{id(connection):x}",
            "model": heard.model,
            "output_modalities": ["audio"],
            "instructions": "Be brief.",
            "tools": [],
            "max_output_tokens": "inf",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "turn_detection": dict(VAD),
                    "transcription": None,
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"},
            },
        }
        # What the conversation holds, and how much of it an earlier response has read.
        self.context, self.cached = Tokens(), Tokens()
        self.buffered = 0
        self.called = False
        self.said_bytes = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.active: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Answer frames until the connection ends."""
        await self.send("session.created", session=self.settings)
        if self.script == "deaf":
            await self.connection.wait_closed()
        async for frame in self.connection:
            self.heard.frames.append(frame)
            await self.take(frame)

    async def stop(self) -> None:
        """End what still speaks."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def send(self, kind: str, **fields: Any) -> None:
        """Send one event."""
        event = {"type": kind, "event_id": f"event_{next(self.ids)}", **fields}
        await self.connection.send(json.dumps(event))

    async def take(self, frame: str | bytes) -> None:
        """Answer one frame."""
        try:
            event = json.loads(frame)
            kind = event["type"]
        except (ValueError, KeyError, TypeError):
            await self.refuse("invalid_json", "The frame is no event.", None)
            return
        if kind == "session.update":
            merge(self.settings, event["session"])
            await self.send("session.updated", session=self.settings)
        elif kind == "conversation.item.create":
            await self.add(event["item"])
        elif kind == "input_audio_buffer.append":
            await self.append(event)
        elif kind == "input_audio_buffer.commit":
            await self.commit()
        elif kind == "input_audio_buffer.clear":
            self.buffered = 0
            await self.send("input_audio_buffer.cleared")
        elif kind == "response.create":
            await self.create(event)
        elif kind == "response.cancel":
            if self.active is not None:
                self.active.cancel()
        else:
            await self.refuse("unknown_event", f"There is no event {kind!r}.", event.get("event_id"))

    async def refuse(self, code: str, message: str, event_id: str | None) -> None:
        """Tell the client what it did wrong; the session goes on."""
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": None, "event_id": event_id}
        await self.send("error", error=error)

    async def add(self, item: dict[str, Any]) -> None:
        """Take an item into the conversation."""
        item = {"id": f"item_{next(self.ids)}", "object": "realtime.item", "status": "completed", **item}
        for part in item.get("content", ()):
            self.context.text += text_tokens(part.get("text", ""))
            self.context.audio += heard_tokens(size_of(part.get("audio", "")))
        self.context.text += text_tokens(item.get("output", ""))
        self.called = item["type"] == "function_call_output"
        await self.send("conversation.item.added", item=item, previous_item_id=None)
        await self.send("conversation.item.done", item=item, previous_item_id=None)

    async def append(self, event: dict[str, Any]) -> None:
        """Take sound in; a turn of it is answered where voice is detected."""
        try:
            self.buffered += size_of(event["audio"])
        except binascii.Error:
            await self.refuse("invalid_value", "The sound is no base64.", event.get("event_id"))
            return
        if self.settings["audio"]["input"]["turn_detection"] and self.buffered >= TURN_BYTES:
            await self.send("input_audio_buffer.speech_started", audio_start_ms=0, item_id="item_said")
            await self.send("input_audio_buffer.speech_stopped", audio_end_ms=1000, item_id="item_said")
            await self.commit()
            await self.respond({})

    async def commit(self) -> None:
        """Make an item of the sound, and its transcript where one is asked for."""
        self.context.audio += heard_tokens(self.buffered)
        self.buffered = 0
        item = {"id": f"item_{next(self.ids)}", "type": "message", "role": "user", "content": [{"type": "input_audio"}]}
        await self.send("input_audio_buffer.committed", item_id=item["id"], previous_item_id=None)
        await self.send("conversation.item.added", item=item, previous_item_id=None)
        transcription = self.settings["audio"]["input"]["transcription"]
        if transcription:
            await self.send(
                "conversation.item.input_audio_transcription.completed",
                item_id=item["id"],
                content_index=0,
                transcript="hello",
                usage=TRANSCRIPTION[transcription["model"]],
            )

    async def create(self, event: dict[str, Any]) -> None:
        """Answer as the client asks."""
        if self.active is not None and not self.active.done():
            await self.refuse(
                "conversation_already_has_active_response", "A response is active already.", event.get("event_id")
            )
            return
        await self.respond(event.get("response") or {})

    async def respond(self, asked: dict[str, Any]) -> None:
        """Begin a response beside the reading of what the client says."""
        self.active = asyncio.create_task(self.speak(f"resp_{next(self.ids)}", asked))
        self.tasks.add(self.active)
        self.active.add_done_callback(self.tasks.discard)

    async def speak(self, response_id: str, asked: dict[str, Any]) -> None:
        """Send a whole response."""
        modalities = asked.get("output_modalities", self.settings["output_modalities"])
        tools = asked.get("tools", self.settings["tools"])
        made = Tokens()
        response: dict[str, Any] = {"object": "realtime.response", "id": response_id, "status": "in_progress"}
        response |= {"usage": None, "output": [], "output_modalities": modalities, "metadata": asked.get("metadata")}
        if self.script != "untold":
            await self.send("response.created", response=response)
        status = "completed"
        try:
            if self.script == "fail":
                status = "failed"
            elif tools and not self.called:
                await self.call(response_id, tools[0]["name"], made)
            else:
                await self.say(response_id, made, spoken=modalities == ["audio"])
        except asyncio.CancelledError:
            status = "cancelled"
        usage = None if status == "failed" or self.script == "lie-missing" else self.usage(made)
        ended = response | {"status": status, "usage": usage}
        for _ in range(2 if self.script == "twice" else 1):
            await self.send("response.done", response=ended)
        if self.script == "bye-4321":
            await self.connection.close(4321, "bye")
        elif self.script == "binary":
            await self.connection.send(b"\x00sound")

    async def call(self, response_id: str, name: str, made: Tokens) -> None:
        """Call a function."""
        item = {"id": f"item_{next(self.ids)}", "type": "function_call", "name": name, "call_id": "call_1"}
        at = {"response_id": response_id, "output_index": 0, "item_id": item["id"]}
        await self.send("response.output_item.added", response_id=response_id, output_index=0, item=item)
        made.text += WORD_TOKENS
        await self.send("response.function_call_arguments.delta", **at, call_id="call_1", delta='{"city":"Oslo"}')
        done = {"call_id": "call_1", "name": name, "arguments": '{"city":"Oslo"}'}
        await self.send("response.function_call_arguments.done", **at, **done)
        await self.send("response.output_item.done", response_id=response_id, output_index=0, item=item | done)

    async def say(self, response_id: str, made: Tokens, *, spoken: bool) -> None:
        """Speak or write the words."""
        at = {"response_id": response_id, "item_id": f"item_{next(self.ids)}", "output_index": 0, "content_index": 0}
        if self.script == "flood":
            for _ in range(1024):
                await self.send("response.output_text.delta", **at, delta="x" * FLOOD_BYTES)
                self.said_bytes += FLOOD_BYTES
        words = WORDS * 100 if self.script in ("long", "steady") else WORDS
        for number, word in enumerate(words):
            if self.script == "cut" and number == 2:
                self.connection.transport.abort()
            if self.script in PAUSES_S:
                await asyncio.sleep(PAUSES_S[self.script])
            made.text += WORD_TOKENS
            if spoken:
                made.audio += DELTA_TOKENS
                await self.send("response.output_audio_transcript.delta", **at, delta=word)
                await self.send("response.output_audio.delta", **at, delta=DELTA)
            else:
                await self.send("response.output_text.delta", **at, delta=word)
        if spoken:
            await self.send("response.output_audio.done", **at)
            await self.send("response.output_audio_transcript.done", **at, transcript="".join(words))
        else:
            await self.send("response.output_text.done", **at, text="".join(words))

    def usage(self, made: Tokens) -> dict[str, Any]:
        """Return what a response used; from then on what it read and made is part of the conversation."""
        told = usage_of(self.context, self.cached, made)
        self.cached = Tokens(self.context.text, self.context.audio)
        self.context.text += made.text
        self.context.audio += made.audio
        if self.script == "lie-negative":
            told["output_tokens"] = -5
        elif self.script == "lie-contradiction":
            told["input_token_details"]["cached_tokens"] = told["input_tokens"] + 1_000
            told["input_token_details"].pop("cached_tokens_details")
        return told


def usage_of(context: Tokens, cached: Tokens, made: Tokens) -> dict[str, Any]:
    """Return a usage object."""
    into, out = context.text + context.audio, made.text + made.audio
    return {
        "total_tokens": into + out,
        "input_tokens": into,
        "output_tokens": out,
        "input_token_details": {
            "text_tokens": context.text,
            "audio_tokens": context.audio,
            "image_tokens": 0,
            "cached_tokens": cached.text + cached.audio,
            "cached_tokens_details": {"text_tokens": cached.text, "audio_tokens": cached.audio, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": made.text, "audio_tokens": made.audio},
    }


def text_tokens(text: str) -> int:
    """Return what a text counts here."""
    return -(-len(text) // 4)


def heard_tokens(size: int) -> int:
    """Return what sound of so many bytes counts here."""
    return size * HEARD_PER_S // PCM_BYTES_PER_S


def size_of(sound: str) -> int:
    """Return how many bytes base64 stands for."""
    return len(base64.b64decode(sound, validate=True))


def merge(into: dict[str, Any], change: dict[str, Any]) -> None:
    """Change what is named, however deep, and nothing else."""
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = value
