"""Scenarios about streams: how they are cut, what they hold, and how they end."""

import itertools

from tests.upstream import answers
from tests.upstream.answers import DONE, chunk, event, texts, usage_chunk
from tests.upstream.connection import Exchange, Wire
from tests.upstream.faults import EVENT_STREAM, MEGABYTE

# The events of these are counted by the tests.
BROKEN_AFTER = 3
TINY_EVENTS = 20_000
HUGE_EVENT_BYTES = 20 * MEGABYTE
FLOOD_BYTES = 512 * MEGABYTE

SEPARATORS = "a\u2028b\u2029c\u0085d\x0be\x0cf"
INJECTION = "before\n\ndata: [DONE]\n\nevent: error\ndata: {}\n\nafter"


async def _send(wire: Wire, *writes: bytes) -> None:
    """Answer 200 with one HTTP chunk for each of WRITES, and end well."""
    await wire.head(200, *EVENT_STREAM)
    for data in writes:
        await wire.chunk(data)
    await wire.end()


def _good(exchange: Exchange, pieces: list[str]) -> list[bytes]:
    return answers.stream(exchange.model, pieces)


# --- Cuts ---------------------------------------------------------------------------------------------------------
async def cut(size: int, exchange: Exchange, wire: Wire) -> None:
    """A good stream in pieces of SIZE bytes: through characters, `data:` and line ends alike."""
    whole = b"".join(_good(exchange, ["Grüße ", "世界", "👋🏽", "👨‍👩‍👧"]))
    await wire.head(200, *EVENT_STREAM)
    for start in range(0, len(whole), size):
        await wire.chunk(whole[start : start + size])
        if start % (size * 64) == 0:
            await wire.pause(0.001)
    await wire.end()


async def cut_line_end(exchange: Exchange, wire: Wire) -> None:
    """CRLF line ends, each cut between CR and LF, with a pause there."""
    await wire.head(200, *EVENT_STREAM)
    whole = b"".join(_good(exchange, ["one ", "two"])).replace(b"\n", b"\r\n")
    *parts, last = whole.split(b"\r\n")
    await wire.chunk(parts[0] + b"\r")
    for part in parts[1:]:
        await wire.pause(0.002)
        await wire.chunk(b"\n" + part + b"\r")
    await wire.chunk(b"\n" + last)
    await wire.end()


async def bare_cr(exchange: Exchange, wire: Wire) -> None:
    """CR alone as the line end."""
    await _send(wire, *(data.replace(b"\n", b"\r") for data in _good(exchange, ["one ", "two"])))


async def crlf(exchange: Exchange, wire: Wire) -> None:
    """CRLF as the line end."""
    await _send(wire, *(data.replace(b"\n", b"\r\n") for data in _good(exchange, ["one ", "two"])))


async def no_space(exchange: Exchange, wire: Wire) -> None:
    """`data:` without the space."""
    await _send(wire, *(data.replace(b"data: ", b"data:") for data in _good(exchange, ["one ", "two"])))


async def many_lines(exchange: Exchange, wire: Wire) -> None:
    """Each event's JSON over several `data:` lines."""
    events = [data.replace(b',"choices"', b',\ndata: "choices"') for data in _good(exchange, ["one ", "two"])]
    await _send(wire, *events)


async def byte_order_mark(exchange: Exchange, wire: Wire) -> None:
    """A byte order mark at the beginning."""
    first, *rest = _good(exchange, ["one ", "two"])
    await _send(wire, b"\xef\xbb\xbf" + first, *rest)


async def one_write(exchange: Exchange, wire: Wire) -> None:
    """The whole stream in one write."""
    await _send(wire, b"".join(_good(exchange, answers.pieces(20))))


# --- Content ------------------------------------------------------------------------------------------------------
async def text(value: str, exchange: Exchange, wire: Wire) -> None:
    """A good stream with this text."""
    await _send(wire, *_good(exchange, [value]))


async def model_in_text(exchange: Exchange, wire: Wire) -> None:
    """The text speaks of models in JSON, this one's own field included."""
    own = f'{{"model":"{exchange.model}"}}'
    await _send(wire, *_good(exchange, [own, f"model: {exchange.model}", exchange.model]))


async def model_varies(exchange: Exchange, wire: Wire) -> None:
    """The model's name changes on the way: absent, null, dated."""
    names: list[str | None] = [None, exchange.model, exchange.model + "-2026-01-01"]
    events = [event(chunk(name, {"content": f"{number} "})) for number, name in enumerate(names)]
    events.append(event(chunk(exchange.model, {"content": "3 "}).replace(b'"model":"', b'"model" : "')))
    await _send(wire, *events, event(chunk(exchange.model, {}, finish="stop")), DONE)


async def other_fields(exchange: Exchange, wire: Wire) -> None:
    """Comments and `event:`, `id:` and `retry:` lines among good events."""
    first, *rest = _good(exchange, ["one ", "two"])
    lines = b": PROCESSING\n\n", b"event: message\nid: 7\nretry: 3000\n" + first
    await _send(wire, *lines, b": ping\n\n", *rest)


async def reasoning(exchange: Exchange, wire: Wire) -> None:
    """Fields of reasoning models and of none."""
    deltas: list[dict[str, object]] = [
        {"reasoning_content": "hm"},
        {"reasoning": "so", "x_new": {"deep": [True]}},
        {"content": "42"},
    ]
    events = [event(chunk(exchange.model, delta)) for delta in deltas]
    await _send(
        wire, *events, event(chunk(exchange.model, {}, finish="stop")), event(usage_chunk(exchange.model)), DONE
    )


# --- Sizes --------------------------------------------------------------------------------------------------------
async def huge_event(exchange: Exchange, wire: Wire) -> None:
    """One event of 20 MB among good ones."""
    await _send(wire, *_good(exchange, ["one ", "x" * HUGE_EVENT_BYTES]))


async def endless_event(exchange: Exchange, wire: Wire) -> None:
    """An event that never ends."""
    await wire.head(200, *EVENT_STREAM)
    await wire.chunk(texts(exchange.model, [])[0])
    await wire.chunk(b'data: {"choices":[{"delta":{"content":"')
    block = b"y" * MEGABYTE
    for _ in range(HUGE_EVENT_BYTES // MEGABYTE * 20):
        await wire.chunk(block)
    await wire.hang()


async def tiny_events(exchange: Exchange, wire: Wire) -> None:
    """Very many small events."""
    await wire.head(200, *EVENT_STREAM)
    tiny = event(chunk(exchange.model, {"content": "."}))
    for _ in range(TINY_EVENTS // 100):
        await wire.chunk(tiny * 100)
    await wire.chunk(b"".join(texts(exchange.model, [])[1:]) + DONE)
    await wire.end()


async def flood(exchange: Exchange, wire: Wire) -> None:
    """Text as fast as it is taken, until half a gigabyte or the peer's end."""
    await wire.head(200, *EVENT_STREAM)
    data = event(chunk(exchange.model, {"content": "z" * 4096}))
    for _ in range(FLOOD_BYTES // len(data)):
        await wire.chunk(data)
    await wire.end()


# --- Time ---------------------------------------------------------------------------------------------------------
async def drip(pause_s: float, exchange: Exchange, wire: Wire) -> None:
    """An event each PAUSE_S seconds: five, and a good end."""
    await wire.head(200, *EVENT_STREAM)
    for data in _good(exchange, answers.pieces(5)):
        await wire.chunk(data)
        await wire.pause(pause_s)
    await wire.end()


async def endless(exchange: Exchange, wire: Wire) -> None:
    """An event each 20 ms until the peer goes away."""
    await wire.head(200, *EVENT_STREAM)
    for number in itertools.count():
        await wire.chunk(event(chunk(exchange.model, {"content": f"{number} "})))
        await wire.pause(0.02)


async def stall(exchange: Exchange, wire: Wire) -> None:
    """Three events, and then nothing."""
    await wire.head(200, *EVENT_STREAM)
    for data in texts(exchange.model, answers.pieces(5))[:BROKEN_AFTER]:
        await wire.chunk(data)
    await wire.hang()


async def comments_only(exchange: Exchange, wire: Wire) -> None:
    """Comments without end, and no event."""
    await wire.head(200, *EVENT_STREAM)
    while True:
        await wire.chunk(b": OPENROUTER PROCESSING\n\n")
        await wire.pause(0.1)


async def comments_later(exchange: Exchange, wire: Wire) -> None:
    """Three events, and then comments without end."""
    await wire.head(200, *EVENT_STREAM)
    for data in texts(exchange.model, answers.pieces(5))[:BROKEN_AFTER]:
        await wire.chunk(data)
    while True:
        await wire.chunk(b": ping\n\n")
        await wire.pause(0.1)


# --- Ends ---------------------------------------------------------------------------------------------------------
async def reset_mid(count: int, exchange: Exchange, wire: Wire) -> None:
    """COUNT events, and RST."""
    await wire.head(200, *EVENT_STREAM)
    for data in texts(exchange.model, answers.pieces(10))[:count]:
        await wire.chunk(data)
    await wire.pause(0.05)
    wire.reset()


async def cut_json(exchange: Exchange, wire: Wire) -> None:
    """Three events and half of one, and FIN within the body."""
    await wire.head(200, *EVENT_STREAM)
    for data in texts(exchange.model, answers.pieces(5))[:BROKEN_AFTER]:
        await wire.chunk(data)
    await wire.chunk(texts(exchange.model, ["half"])[1][:-20])


async def cut_well(exchange: Exchange, wire: Wire) -> None:
    """Three events, no finish reason, no [DONE], and yet a good end of the body."""
    await _send(wire, *texts(exchange.model, answers.pieces(5))[:BROKEN_AFTER])


async def error_first(exchange: Exchange, wire: Wire) -> None:
    """The stream's first event is an error."""
    await _send(wire, event(answers.error("scripted first event")))


async def error_mid(exchange: Exchange, wire: Wire) -> None:
    """Three events, and an error."""
    events = texts(exchange.model, answers.pieces(5))[:BROKEN_AFTER]
    await _send(wire, *events, event(answers.error("scripted error; sent " + exchange.header("authorization"))), DONE)


async def rubbish_mid(exchange: Exchange, wire: Wire) -> None:
    """Three events, and one that is not JSON."""
    events = texts(exchange.model, answers.pieces(5))
    await _send(wire, *events[:BROKEN_AFTER], event(b"{not json"), *events[BROKEN_AFTER:], DONE)


async def done_missing(exchange: Exchange, wire: Wire) -> None:
    """A finished answer without [DONE]."""
    await _send(wire, *_good(exchange, ["one ", "two"])[:-1])


async def done_double(exchange: Exchange, wire: Wire) -> None:
    """[DONE] twice."""
    await _send(wire, *_good(exchange, ["one ", "two"]), DONE)


async def data_after_done(exchange: Exchange, wire: Wire) -> None:
    """More text behind [DONE]."""
    await _send(wire, *_good(exchange, ["one ", "two"]), *texts(exchange.model, ["late"]))


async def open_after_done(exchange: Exchange, wire: Wire) -> None:
    """[DONE], but the body is not ended and the connection stays."""
    await wire.head(200, *EVENT_STREAM)
    for data in _good(exchange, ["one ", "two"]):
        await wire.chunk(data)
    await wire.hang()


async def reset_after_done(exchange: Exchange, wire: Wire) -> None:
    """[DONE], and RST in place of the body's end."""
    await wire.head(200, *EVENT_STREAM)
    for data in _good(exchange, ["one ", "two"]):
        await wire.chunk(data)
    await wire.pause(0.05)
    wire.reset()


# --- Usage --------------------------------------------------------------------------------------------------------
async def usage_twice(exchange: Exchange, wire: Wire) -> None:
    """Two usage chunks; the second counts."""
    early = {"prompt_tokens": 11, "completion_tokens": 1, "total_tokens": 12}
    events = texts(exchange.model, ["one ", "two"])
    await _send(wire, *events, event(usage_chunk(exchange.model, early)), event(usage_chunk(exchange.model)), DONE)


async def usage_with_choices(exchange: Exchange, wire: Wire) -> None:
    """Usage on the chunk that ends the choice; null on the others."""
    events = [event(chunk(exchange.model, {"content": piece}, usage=None)) for piece in ("one ", "two")]
    last = event(chunk(exchange.model, {}, finish="stop", usage=answers.USAGE))
    await _send(wire, *events, last, DONE)


async def usage_each(exchange: Exchange, wire: Wire) -> None:
    """A growing usage on every chunk."""
    events = []
    for number, piece in enumerate(("one ", "two ", "three"), 1):
        grown = {"prompt_tokens": 11, "completion_tokens": number, "total_tokens": 11 + number}
        events.append(event(chunk(exchange.model, {"content": piece}, usage=grown)))
    await _send(wire, *events, event(chunk(exchange.model, {}, finish="stop", usage=answers.USAGE)), DONE)


async def usage_missing(exchange: Exchange, wire: Wire) -> None:
    """A finished stream without usage."""
    await _send(wire, *texts(exchange.model, ["one ", "two"]), DONE)
