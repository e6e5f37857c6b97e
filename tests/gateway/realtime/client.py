"""A client of realtime sessions, and what a test asks of one. Imports no model: Django may not be up yet."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.gateway.conftest import Gateway

# Dollars a million tokens: OpenAI's for gpt-realtime.
RATES = {"input": 4, "cache_read": 0.4, "output": 16, "audio_input": 32, "audio_output": 64}
TYPICAL_TOKENS = 100
# What a model that only transcribes asks for sound.
WHISPER_AUDIO = 6


class Client:
    """A client of the GA protocol that keeps every event."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []

    async def send(self, kind: str, **fields: Any) -> None:
        """Send one event."""
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def until(self, kind: str) -> dict[str, Any]:
        """Return the next event of a type; keep those before it."""
        while True:
            event: dict[str, Any] = json.loads(await asyncio.wait_for(self.connection.recv(), 10))
            self.events.append(event)
            if event["type"] == kind:
                return event

    async def rest(self) -> int | None:
        """Read until the connection closes; return its code."""
        try:
            while True:
                self.events.append(json.loads(await asyncio.wait_for(self.connection.recv(), 10)))
        except ConnectionClosed:
            return self.connection.close_code

    async def said(self, text: str) -> None:
        """Say something in writing."""
        content = [{"type": "input_text", "text": text}]
        await self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await self.until("conversation.item.done")

    async def quiet(self) -> None:
        """Have no voice detected, and answers in writing."""
        session = {"type": "realtime", "audio": {"input": {"turn_detection": None}}, "output_modalities": ["text"]}
        await self.send("session.update", session=session)
        await self.until("session.updated")

    async def turn(self, **asked: Any) -> dict[str, Any]:
        """Ask for a response; return it as it ended."""
        await self.send("response.create", **({"response": asked} if asked else {}))
        done: dict[str, Any] = (await self.until("response.done"))["response"]
        return done

    def kinds(self) -> list[str]:
        """Return the types of the events so far."""
        return [event["type"] for event in self.events]


def opened(gateway: Gateway, model: str, key: str | None = None, **options: Any) -> connect:
    """Open a session."""
    port = options.pop("port", gateway.port)
    address = f"ws://127.0.0.1:{port}/v1/realtime?model={model}"
    key = gateway.installed.key if key is None else key
    headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
    options.setdefault("subprotocols", ["realtime"])
    return connect(address, additional_headers=headers, compression=None, max_size=2**24, **options)


def rows(gateway: Gateway, session_id: str, count: int = 1) -> list[dict[str, Any]]:
    """Return the usage rows of a session, oldest first, once there are so many."""

    def found() -> list[dict[str, Any]]:
        statement = "SELECT * FROM billing_usage WHERE session_id = %s ORDER BY request_id"
        return gateway.installed.query(statement, session_id)

    gateway.upstream.wait(lambda: len(found()) >= count)
    return found()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a client to its end, in a loop of its own."""
    return asyncio.run(coroutine)


def price(usage: dict[str, Any]) -> int:
    """Return what the house pays for a usage object, in nano-dollars."""
    into, out = usage["input_token_details"], usage["output_token_details"]
    cached = into["cached_tokens_details"]
    exact: float = (
        (into["text_tokens"] - cached["text_tokens"]) * RATES["input"]
        + (into["audio_tokens"] - cached["audio_tokens"]) * RATES["audio_input"]
        + into["cached_tokens"] * RATES["cache_read"]
        + out["text_tokens"] * RATES["output"]
        + out["audio_tokens"] * RATES["audio_output"]
    )
    return round(exact * 1000)
