"""The scenarios of OpenAI's Responses, and what its tests share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.wire import sse
from gateway.wire.codec import Reply
from gateway.wire.events import Event, Likely, PartDelta
from gateway.wire.openai_responses import DIALECT

FIXTURES = Path(__file__).parent / "fixtures"
REQUESTS = sorted(path.parent.name for path in FIXTURES.glob("*/request.json"))
ANSWERS = sorted(path.parent.name for path in FIXTURES.glob("*/response.json"))
REPLY = Reply(request_id="q1", model="my/model", created=1761955200)
EVENT_BYTES_MAX = 1 << 20


def load(name: str, file: str) -> Any:
    """Return a scenario's JSON."""
    return msgspec.json.decode(raw(name, file))


def raw(name: str, file: str = "stream.sse") -> bytes:
    """Return a scenario's bytes."""
    return (FIXTURES / name / file).read_bytes()


def line(kind: str, **told: Any) -> bytes:
    """Return one event."""
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode({"type": kind, **told}) + b"\n\n"


def decoded(pieces: Sequence[bytes]) -> list[Event]:
    """Return the events of a stream that comes in these pieces."""
    framer, decoder = sse.Framer(EVENT_BYTES_MAX), DIALECT.stream_decoder()
    events = [event for piece in pieces if (block := framer.feed(piece)) for event in decoder.feed(block)]
    return events + decoder.feed(framer.flush()) + decoder.finish()


def told(stream: bytes) -> list[dict[str, Any]]:
    """Return the data of a stream's events; each must be named like its type."""
    found = []
    for event in sse.split(stream):
        data = msgspec.json.decode(sse.data_of(event))
        assert event.startswith(b"event: %b\n" % data["type"].encode())
        found.append(data)
    return found


def plain(events: Sequence[Event]) -> list[Event]:
    """Return events with neighbouring deltas joined, as another cut may have them."""
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, PartDelta) and isinstance(last, PartDelta) and last.index == event.index:
            joined[-1] = PartDelta(last.index, last.text + event.text)
        elif not isinstance(event, Likely):
            joined.append(event)
    return joined
