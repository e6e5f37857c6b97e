"""How requests and answers differ after they went through a dialect, and whether that is declared."""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from gateway.wire.accumulate import fold, unfold
from gateway.wire.canonical import AnyTool, Part, Request, Response, Text, ToolResult
from gateway.wire.codec import Dialect, Rendered, Reply
from gateway.wire.events import Ended, Event
from gateway.wire.registry import DIALECTS
from gateway.wire.sse import Framer
from tests.gateway.wire.losses import ANSWER_FORMS, ANSWER_LOSSES, FORMS, LOSSES
from tests.gateway.wire.scenarios import CREATED

replace = msgspec.structs.replace
CUTS = (1, 7, 2, 50, 3)
EMPTY: tuple[Any, ...] = (None, "", (), {}, False, 0)


# --- Requests -------------------------------------------------------------------------------------------------------
def read(dialect: Dialect, rendered: Rendered, request: Request) -> Request:
    """Return a rendered request as one who speaks the dialect reads it."""
    in_path = ":" in rendered.path
    asked = dialect.read(rendered.body, request.model if in_path else None, request.stream if in_path else None)
    return dialect.parse_request(asked)


def declared(name: str, scenario: str, before: Request, after: Request, dropped: tuple[str, ...]) -> None:
    """Assert that two requests differ in a dialect's declared losses only, and that these are told."""
    losses = LOSSES[name] | dict.fromkeys(FORMS[name].get(scenario, ()), "")
    found = differences(before, after)
    extensions = set(before.extensions) if before.dialect != name else set()
    if extensions:
        found -= {"-extensions"}
        assert extensions <= set(dropped)
    assert found <= set(losses)
    assert list(dropped) == sorted(set(dropped))
    told = {losses[path] for path in found} - {""}
    assert told <= set(dropped)
    assert set(dropped) <= told | extensions


def differences(before: Request, after: Request) -> set[str]:
    """Return the paths at which two requests differ; whether usage is wanted is between caller and gateway."""
    apart = ("messages", "dialect", "model", "tools", "reasoning", "output", "wants_usage")
    found = fields_differ("", before, after, apart)
    for name in ("reasoning", "output"):
        whole = getattr(before, name), getattr(after, name)
        if None in whole:
            found |= sign(name, *whole)
        else:
            found |= fields_differ(name + ".", *whole)
    one, other = spoken(before), spoken(after)
    found |= parts_differ("messages", [part for _, part in one], [part for _, part in other])
    if [who for who, _ in one] != [who for who, _ in other] and not found:
        found.add("messages.role")
    found |= parts_differ("tools", before.tools, after.tools)
    return found


def spoken(request: Request) -> list[tuple[tuple[str, str], Part]]:
    """Return who says what; texts that some dialects join by newlines are taken apart again."""
    found: list[tuple[tuple[str, str], Part]] = []
    for message in request.messages:
        for part in message.parts:
            pieces: list[Part] = [part]
            if isinstance(part, Text):
                pieces = [replace(part, text=text) for text in re.split("\n+", part.text)]
            found += [((message.role, message.name), piece) for piece in pieces]
    return found


def parts_differ(path: str, before: Iterable[Any], after: Iterable[Any]) -> set[str]:
    """Return the paths at which two lists of parts or tools differ: the order, kinds that are there or not, fields."""
    one, other = list(before), list(after)
    if one != other and sorted(map(repr, one)) == sorted(map(repr, other)):
        return {f"{path}.order"}
    found = set()
    for x, y in aligned(one, other):
        name = type(y if x is None else x).__name__
        if x is None or y is None:
            found.add(f"{'+' if x is None else '-'}{path}.{name}")
            continue
        found |= fields_differ(f"{path}.{name}.", x, y, ("parts",))
        if isinstance(x, ToolResult):
            found |= parts_differ(f"{path}.{name}.parts", x.parts, y.parts)
    return found


def aligned(one: list[Any], other: list[Any]) -> list[tuple[Any, Any]]:
    """Return both lists side by side with the least that differs; None stands for what only one of them has."""
    best: dict[tuple[int, int], tuple[int, list[tuple[Any, Any]]]] = {(0, 0): (0, [])}
    for a, b in itertools.product(range(len(one) + 1), range(len(other) + 1)):
        ways = []
        if a:
            ways.append((best[a - 1, b], (one[a - 1], None), 1))
        if b:
            ways.append((best[a, b - 1], (None, other[b - 1]), 1))
        if a and b and type(one[a - 1]) is type(other[b - 1]):
            ways.append((best[a - 1, b - 1], (one[a - 1], other[b - 1]), int(one[a - 1] != other[b - 1])))
        if ways:
            before, pair, cost = min(ways, key=lambda way: way[0][0] + way[2])
            best[a, b] = (before[0] + cost, [*before[1], pair])
    return best[len(one), len(other)][1]


def fields_differ(path: str, one: Any, other: Any, without: tuple[str, ...] = ()) -> set[str]:
    """Return the paths of the fields in which two structs differ."""
    names = [name for name in one.__struct_fields__ if name not in without]
    return set().union(*(sign(path + name, getattr(one, name), getattr(other, name)) for name in names))


def sign(path: str, one: Any, other: Any) -> set[str]:
    """Return a path whose values differ: with `+` what was filled in, with `-` what was left out, else what changed."""
    if one == other:
        return set()
    return {f"-{path}" if other in EMPTY else f"+{path}" if one in EMPTY else path}


def answers_differ(before: Response, after: Response) -> set[str]:
    """Return the paths at which two answers differ; ids and times are made anew for a caller."""
    found = set()
    if len(before.choices) != len(after.choices):
        found.add("choices")
    for one, other in zip(before.choices, after.choices, strict=False):
        found |= fields_differ("", one, other, ("parts",))
        found |= parts_differ("parts", one.parts, other.parts)
    if before.usage is None or after.usage is None:
        found |= sign("usage", before.usage, after.usage)
    else:
        found |= fields_differ("usage.", before.usage, after.usage)
    return found


# --- Answers --------------------------------------------------------------------------------------------------------
def reply(tools: tuple[AnyTool, ...] = ()) -> Reply:
    """Return what an answer is made with to a request that offered these tools."""
    return Reply("0123456789abcdef", "m", CREATED, tools=tools)


def whole(name: str, answer: Response, tools: tuple[AnyTool, ...] = ()) -> Response:
    """Return an answer as one reads it who gets it in one piece."""
    body = DIALECTS[name].render_response(answer, reply(tools), None)
    return DIALECTS[name].parse_response(body)


def stream(name: str, answer: Response, tools: tuple[AnyTool, ...] = ()) -> bytes:
    """Return an answer as a stream."""
    encoder = DIALECTS[name].stream_encoder(reply(tools))
    return encoder.encode([event for event in unfold(answer) if not isinstance(event, Ended)]) + encoder.finish(b"0.5")


def pieces(data: bytes) -> Iterator[bytes]:
    """Yield a stream in odd pieces, put together to whole events again."""
    framer, sizes, at = Framer(1 << 20), itertools.cycle(CUTS), 0
    while at < len(data):
        size = next(sizes)
        yield framer.feed(data[at : at + size])
        at += size
    yield framer.flush()


def decoded(name: str, data: bytes) -> Response:
    """Return a stream as one reads it who speaks its dialect."""
    decoder = DIALECTS[name].stream_decoder()
    events: list[Event] = [event for block in pieces(data) if block for event in decoder.feed(block)]
    events += decoder.finish()
    assert isinstance(events[-1], Ended)
    assert sum(isinstance(event, Ended) for event in events) == 1
    return fold(events)


def answer_losses(name: str, scenario: str) -> set[str]:
    return ANSWER_LOSSES[name] | set(ANSWER_FORMS[name].get(scenario, ()))


def nameless(answer: Response) -> Response:
    return replace(answer, id="", created=0)
