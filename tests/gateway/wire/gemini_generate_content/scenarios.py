"""The fixtures: one folder a scenario, with what Gemini's documentation shows of it."""

from pathlib import Path
from typing import Any

import msgspec

from gateway.wire.codec import Reply
from gateway.wire.events import Event
from gateway.wire.gemini_generate_content import DIALECT
from gateway.wire.sse import Framer

ROOT = Path(__file__).parent / "fixtures"
MODEL = "gemini-2.5-flash"
REPLY = Reply(request_id="req1", model=MODEL, created=1_700_000_000)


def having(name: str) -> list[str]:
    """Return the scenarios that have a file of this name."""
    return sorted(path.parent.name for path in ROOT.glob(f"*/{name}"))


def data(scenario: str, name: str) -> bytes:
    """Return a file of a scenario."""
    return (ROOT / scenario / name).read_bytes()


def value(scenario: str, name: str, otherwise: str = "") -> Any:
    """Return a file's JSON, of another file where there is none of the name."""
    path = ROOT / scenario / name
    return msgspec.json.decode(path.read_bytes() if path.exists() else data(scenario, otherwise))


def decoded(stream: bytes, pieces: list[bytes] | None = None) -> list[Event]:
    """Return the events of a stream, in the pieces that it comes in."""
    framer, decoder = Framer(10**6), DIALECT.stream_decoder()
    events: list[Event] = []
    for piece in [stream] if pieces is None else pieces:
        events += decoder.feed(framer.feed(piece))
    return events + decoder.feed(framer.flush()) + decoder.finish()


def merged(events: list[Event]) -> bytes:
    """Return events as a stream for a caller."""
    encoder = DIALECT.stream_encoder(REPLY)
    return encoder.encode(events) + encoder.finish(b"")
