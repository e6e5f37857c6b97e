"""The scripted upstream as four vendors: which one a path belongs to, and how each scenario is told in its words.

`agent` looks at the conversation as a vendor would: it refuses what the vendor refuses, calls tools that it is offered,
thinks where it is asked to, answers in a schema. `agent-strict` wants Gemini's signatures back. `writer` takes the same
requests and writes a file by them (`writer`).
"""

import functools
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.upstream import chat, gemini, messages, responses, writer
from tests.upstream.connection import Exchange, Wire
from tests.upstream.faults import EVENT_STREAM, JSON_CHUNKED, Scenario
from tests.upstream.turn import PIECES, Refused, Said, Turn, answer

ERROR_STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504, 529)
# The events of these are counted by the tests.
BROKEN_AFTER = 3


@dataclass(frozen=True)
class Vendor:
    """One vendor's words."""

    read: Callable[[Exchange], Turn]
    whole: Callable[[Exchange, Said], bytes]
    events: Callable[[Exchange, Said], list[bytes]]
    counted: Callable[[Exchange], bytes]
    error: Callable[[int, Refused], bytes]
    failure: Callable[[str, int], list[bytes]]


def _vendor(module: object) -> Vendor:
    return Vendor(**{name: getattr(module, name) for name in Vendor.__dataclass_fields__})


CHAT, RESPONSES, MESSAGES, GEMINI = map(_vendor, (chat, responses, messages, gemini))
PATHS: tuple[tuple[re.Pattern[str], Vendor], ...] = (
    (re.compile(r"/responses(/input_tokens)?$"), RESPONSES),
    (re.compile(r"/messages(/count_tokens)?$"), MESSAGES),
    (re.compile(r"/models/[^/:]+:\w+$"), GEMINI),
    (re.compile(r"/chat/completions$"), CHAT),
)
COUNTS = re.compile(r"/input_tokens$|/count_tokens$|:(countTokens|embedContent|batchEmbedContents)$")


def vendor_of(exchange: Exchange) -> Vendor | None:
    """Return whose path a request names."""
    path = exchange.path.partition("?")[0]
    return next((vendor for pattern, vendor in PATHS if pattern.search(path)), None)


def route(exchange: Exchange) -> Scenario | None:
    """Return what becomes of a request: in its vendor's words, or None where it is another table's."""
    vendor = vendor_of(exchange)
    if exchange.method != "POST" or vendor is None:
        return None
    if COUNTS.search(exchange.path.partition("?")[0]):
        return functools.partial(count, vendor)
    if vendor is CHAT and exchange.model not in CHAT_SCENARIOS:
        return None
    found = SCENARIOS.get(exchange.model)
    return None if found is None else functools.partial(found, vendor)


# --- Scenarios ----------------------------------------------------------------------------------------------------
GOOD = Said(texts=PIECES)


async def _send(wire: Wire, exchange: Exchange, events: list[bytes], *, pause_s: float = 0, ends: bool = True) -> None:
    """Write a stream's events, one HTTP chunk each; Gemini's without `alt=sse` are JSON."""
    array = events and not events[0].startswith((b"data:", b"event:"))
    await wire.head(200, *(JSON_CHUNKED if array else EVENT_STREAM))
    for event in events:
        await wire.chunk(event)
        if pause_s:
            await wire.pause(pause_s)
    if ends:
        await wire.end()


async def count(vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """A count of tokens, or embeddings."""
    await wire.whole(200, vendor.counted(exchange))


async def say(said: Said, vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """An answer, in the form that was asked for."""
    if exchange.streams:
        await _send(wire, exchange, vendor.events(exchange, said))
    else:
        await wire.whole(200, vendor.whole(exchange, said))


async def ok(vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """A good answer, whatever the request holds."""
    await say(GOOD, vendor, exchange, wire)


async def agent(vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """An answer to what was asked, or what the vendor says to a request that it does not take."""
    try:
        turn = vendor.read(exchange)
        writes = exchange.model == "writer"
        said = writer.answer(turn, exchange.body.decode()) if writes else answer(turn, exchange.model)
    except Refused as refused:
        await wire.whole(refused.status, vendor.error(refused.status, refused))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        await wire.whole(400, vendor.error(400, Refused(f"malformed: {type(error).__name__} {error}")))
    else:
        await say(said, vendor, exchange, wire)


async def status(code: int, vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """An error status in the vendor's shape, which quotes the credential as careless upstreams do."""
    names = ("authorization", "x-api-key", "x-goog-api-key")
    credential = next((exchange.header(name) for name in names if exchange.header(name)), "")
    refused = Refused(f"scripted {code}; you sent {credential}", code=f"upstream_{code}", param="temperature")
    more = ("Retry-After: 5",) if code in (429, 529) else ()
    await wire.whole(code, vendor.error(code, refused), *more)


async def drip(pause_s: float, vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """A good stream, an event each PAUSE_S seconds."""
    await _send(wire, exchange, vendor.events(exchange, GOOD), pause_s=pause_s)


async def slow(pause_s: float, vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """A good answer after a while."""
    await wire.pause(pause_s)
    await ok(vendor, exchange, wire)


async def cut(size: int, vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """A good stream in pieces of SIZE bytes."""
    whole = b"".join(vendor.events(exchange, GOOD))
    await wire.head(200, *EVENT_STREAM)
    for start in range(0, len(whole), size):
        await wire.chunk(whole[start : start + size])
    await wire.end()


async def stall(vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """Some events, and then nothing."""
    await _send(wire, exchange, vendor.events(exchange, GOOD)[:BROKEN_AFTER], ends=False)
    await wire.hang()


async def stall_late(vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """A stream until something was said, and then nothing."""
    events = vendor.events(exchange, GOOD)
    await _send(wire, exchange, events[: len(events) * 2 // 3], ends=False)
    await wire.hang()


async def cut_json(vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """Some events and half of one, and FIN within the body."""
    events = vendor.events(exchange, GOOD)
    half = events[BROKEN_AFTER - 1][: len(events[BROKEN_AFTER - 1]) // 2]
    await _send(wire, exchange, [*events[: BROKEN_AFTER - 1], half], ends=False)


async def cut_well(vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """A stream without its last third, and yet a good end of the body."""
    events = vendor.events(exchange, GOOD)
    await _send(wire, exchange, events[: len(events) * 2 // 3])


async def reset_mid(vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """Some events, and RST."""
    await _send(wire, exchange, vendor.events(exchange, GOOD)[:BROKEN_AFTER], ends=False)
    await wire.pause(0.05)
    wire.reset()


async def fails(after: int, vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """AFTER events, and an error in the vendor's shape that quotes the credential."""
    events = vendor.events(exchange, GOOD)[:after]
    credential = exchange.header("authorization") or exchange.header("x-api-key")
    await _send(wire, exchange, [*events, *vendor.failure(f"scripted error; sent {credential}", len(events))])


async def rubbish_mid(vendor: Vendor, exchange: Exchange, wire: Wire) -> None:
    """Some events, and one that is not JSON."""
    events = vendor.events(exchange, GOOD)
    await _send(wire, exchange, [*events[:BROKEN_AFTER], b"data: {not json\n\n", *events[BROKEN_AFTER:]])


SCENARIOS: dict[str, Callable[..., Awaitable[None]]] = {
    "ok": ok,
    "agent": agent,
    "agent-strict": agent,
    "gemini-3-agent": agent,
    "gemini-3-agent-strict": agent,
    "writer": agent,
    "refuses": agent,
    "length": agent,
    **{f"status-{code}-json": functools.partial(status, code) for code in ERROR_STATUSES},
    "drip-0.1": functools.partial(drip, 0.1),
    "slow-first-byte-0.3": functools.partial(slow, 0.3),
    "slow-first-byte-2": functools.partial(slow, 2.0),
    "cut-1": functools.partial(cut, 1),
    "cut-3": functools.partial(cut, 3),
    "stall-mid-stream": stall,
    "stall-late": stall_late,
    "cut-json": cut_json,
    "cut-well": cut_well,
    "reset-mid-3": reset_mid,
    "error-first-event": functools.partial(fails, 0),
    "error-mid-stream": functools.partial(fails, BROKEN_AFTER),
    "rubbish-mid-stream": rubbish_mid,
}
# The others have a form of their own for chat, in `scenarios`.
CHAT_SCENARIOS = frozenset(("agent", "agent-strict", "writer", "refuses", "length", "stall-late"))
