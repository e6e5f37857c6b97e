"""Any conversation goes through each dialect with the declared losses alone, and no bytes do harm."""

import gc
import json
import time
import types
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.wire import sse
from gateway.wire.accumulate import fold, unfold
from gateway.wire.canonical import Choice, Part, Response, Text, Thinking, ToolCall
from gateway.wire.codec import Dialect, Unreadable, Unsupported
from gateway.wire.events import Ended, Event, PartDelta, PartEnded, PartStarted, Started
from gateway.wire.fields import InvalidRequest
from gateway.wire.registry import DIALECTS
from gateway.wire.translation import Translation
from tests.gateway.wire import strategies
from tests.gateway.wire.differences import (
    answer_losses,
    answers_differ,
    declared,
    decoded,
    nameless,
    read,
    reply,
    stream,
    whole,
)
from tests.gateway.wire.losses import REFUSED, UPSTREAM_IDS
from tests.gateway.wire.scenarios import SCENARIOS

few = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
many = settings(max_examples=120, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32)
each_dialect = pytest.mark.parametrize("name", DIALECTS)


# --- What is good -----------------------------------------------------------------------------------------------------
@each_dialect
@given(st.data())
@few
def test_any_conversation_comes_through(name: str, data: st.DataObject) -> None:
    request = data.draw(strategies.requests(data.draw(st.sampled_from(list(DIALECTS)))))
    rendered = DIALECTS[name].render_request(request, UPSTREAM_IDS[name], None)
    assert rendered.body
    declared(name, "effort", request, read(DIALECTS[name], rendered, request), rendered.dropped)


@each_dialect
@given(strategies.plain_answers)
@few
def test_any_answer_comes_through_whole_and_streamed(name: str, answer: Response) -> None:
    at_once = whole(name, answer)
    assert answers_differ(answer, at_once) <= answer_losses(name, "") | {"finish", "usage.input"}
    assert nameless(decoded(name, stream(name, answer))) == nameless(at_once)


# --- What is not ------------------------------------------------------------------------------------------------------
def bodies(name: str) -> list[Any]:
    """Return the requests of all scenarios as JSON."""
    requests = [
        msgspec.structs.replace(each.request, dialect=name)
        for key, each in SCENARIOS.items()
        if key not in REFUSED[name]
    ]
    return [json.loads(DIALECTS[name].render_request(each, UPSTREAM_IDS[name], None).body) for each in requests]


def answers(name: str) -> list[Any]:
    """Return the answers of all scenarios as JSON."""
    found = [
        DIALECTS[name].render_response(each.response, reply(each.request.tools), None) for each in SCENARIOS.values()
    ]
    return [json.loads(body) for body in found]


def streams(name: str) -> list[bytes]:
    """Return the answers of all scenarios as streams."""
    return [stream(name, each.response, each.request.tools) for each in SCENARIOS.values()]


BODIES = {name: bodies(name) for name in DIALECTS}
ANSWERS = {name: answers(name) for name in DIALECTS}
STREAMS = {name: streams(name) for name in DIALECTS}


def bad(value: Any, random: Random) -> bytes:
    """Return a value's JSON, spoilt in its values and sometimes in its bytes."""
    data = strategies.dumped(strategies.spoilt(value, random))
    return strategies.torn(data, random) if random.random() < 0.2 else data


def take(dialect: Dialect, body: bytes) -> None:
    """Do with a request all that may be done."""
    in_path = "generate" in dialect.name
    asked = dialect.read(body, "m" if in_path else None, False if in_path else None)
    dialect.passed(asked, "up", None)
    request = dialect.parse_request(asked)
    for name, other in DIALECTS.items():
        try:
            other.render_request(request, UPSTREAM_IDS[name], 100)
        except Unsupported as error:
            assert error.param
            assert str(error)


@each_dialect
@given(seeds)
@many
def test_a_spoilt_request_is_invalid_or_unsupported_and_nothing_else(name: str, seed: int) -> None:
    random = Random(seed)
    body = bad(random.choice(BODIES[name]), random)
    try:
        take(DIALECTS[name], body)
    except (InvalidRequest, Unsupported) as error:
        assert error.code
        assert len(str(error)) < 500


@each_dialect
@given(seeds)
@many
def test_a_spoilt_answer_is_unreadable_or_can_be_told(name: str, seed: int) -> None:
    random = Random(seed)
    body = bad(random.choice(ANSWERS[name]), random)
    dialect = DIALECTS[name]
    dialect.parse_error(body)
    for make in (lambda: dialect.read_answer(body), lambda: dialect.renamed(body, "m", b"0.5")):
        tolerated(make)
    try:
        answer = dialect.parse_response(body)
    except Unreadable as error:
        assert str(error).startswith("sent ")
        return
    assert fold(unfold(answer)) == answer
    for front in DIALECTS.values():
        front.render_response(answer, reply(), b"0.5")


def tolerated(make: Callable[[], object]) -> None:
    try:
        make()
    except Unreadable:
        return


def spoilt_event(event: bytes, random: Random) -> bytes:
    before, _, rest = event.partition(b"data: ")
    try:
        value = json.loads(rest)
    except ValueError:
        return strategies.torn(event, random)
    return before + b"data: " + strategies.dumped(strategies.spoilt(value, random)) + b"\n\n"


def spoilt_stream(data: bytes, random: Random) -> bytes:
    """Return a stream of which some events are spoilt, lost, doubled or out of order."""
    events = sse.split(data)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(events))
        what = random.random()
        if what < 0.15:
            events[at] = b""
        elif what < 0.3:
            events.insert(random.randrange(len(events)), events[at])
        elif what < 0.4:
            events[at] = strategies.torn(events[at], random)
        else:
            events[at] = spoilt_event(events[at], random)
    return b"".join(events)


@each_dialect
@given(seeds)
@many
def test_a_spoilt_stream_is_unreadable_or_can_be_told(name: str, seed: int) -> None:
    random = Random(seed)
    data = spoilt_stream(random.choice(STREAMS[name]), random)
    for front in DIALECTS.values():
        translation = Translation(DIALECTS[name].stream_decoder(), front.stream_encoder(reply()))
        try:
            translation.feed(data)
            translation.end()
        except Unreadable as error:
            assert str(error).startswith("sent ")
            translation.broken(b'{"error":{}}', cut=False)
            continue
        translation.delivered_tokens()
        translation.closing(b"0.5") if translation.complete else translation.broken(b'{"error":{}}', cut=True)


@each_dialect
@given(seeds)
@many
def test_a_spoilt_stream_passes_or_is_unreadable(name: str, seed: int) -> None:
    random = Random(seed)
    dialect = DIALECTS[name]
    in_path = "generate" in name
    asked = dialect.read(
        json.dumps({**BODIES[name][0], "model": "m"}).encode(), "m" if in_path else None, True if in_path else None
    )
    relay = dialect.relay(asked, reply())
    try:
        relay.feed(spoilt_stream(random.choice(STREAMS[name]), random))
        relay.end()
    except Unreadable:
        assert relay.broken(b'{"error":{}}', cut=False)
        return
    assert relay.delivered_tokens() >= 0
    usage = relay.final_usage()
    assert usage is None or min(usage.input, usage.output, usage.reasoning) >= 0
    assert relay.produced() in (True, False)
    assert relay.closing(b"0.5") if relay.complete else relay.broken(b'{"error":{}}', cut=True)


RUBBISH = [
    b"",
    b"null",
    b"[]",
    b"7",
    b'"x"',
    b"\xff",
    b"{",
    b"[" * 100_000,
    b"{}",
    b'{"error":null}',
    b'{"error":[]}',
    b'{"error":"x"}',
    b'{"error":{"message":[],"code":{},"type":7,"param":1,"status":{}}}',
    b"<html>",
    b'{"a":' * 100_000,
]


@each_dialect
@pytest.mark.parametrize("data", RUBBISH, ids=range(len(RUBBISH)))
def test_rubbish_is_read_by_nobody(name: str, data: bytes) -> None:
    dialect = DIALECTS[name]
    assert dialect.parse_error(data) is not None
    for make in (
        lambda: dialect.parse_response(data),
        lambda: dialect.stream_decoder().feed(b"data: " + data + b"\n\n"),
        lambda: dialect.read_answer(data),
        lambda: dialect.renamed(data, "m", None),
    ):
        tolerated(make)
    with pytest.raises(InvalidRequest):
        dialect.parse_request(dialect.read(data, None, None))


# --- Bounds -----------------------------------------------------------------------------------------------------------
def held_bytes(root: object) -> int:
    """Return about how many bytes of texts and bytes an object holds."""
    seen: set[int] = set()
    left, total = [root], 0
    while left:
        value = left.pop()
        if id(value) in seen or isinstance(value, type | types.ModuleType | types.FunctionType | types.MethodType):
            continue
        seen.add(id(value))
        total += len(value) if isinstance(value, str | bytes | bytearray) else 0
        left += gc.get_referents(value)
    return total


TEXT = "lorem ipsum " * 100
PARTS = 20


def long_answer() -> Iterator[Event]:
    """Yield an answer of many parts, none of which is small."""
    yield Started("r", "m")
    for index in range(PARTS):
        yield PartStarted(index, Thinking("") if index % 2 else Text(""))
        yield from [PartDelta(index, TEXT)] * 50
        yield PartEnded(index)


@each_dialect
def test_a_decoder_holds_no_more_than_the_part_that_is_open(name: str) -> None:
    data = DIALECTS[name].stream_encoder(reply()).encode(list(long_answer()))
    decoder = DIALECTS[name].stream_decoder()
    before, most = held_bytes(decoder), 0
    for number, event in enumerate(sse.split(data)):
        decoder.feed(event)
        if number % 20 == 0:
            most = max(most, held_bytes(decoder) - before)
    assert most < 2 * 50 * len(TEXT)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Keep the collector out of what is timed: it walks all that the test process holds."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.quiet
@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(("part", "count"), [(Text("x" * 20), 8000), (ToolCall("", "look", "{}"), 500)])
@each_dialect
def test_time_is_in_proportion_to_length(name: str, part: Part, count: int) -> None:
    dialect = DIALECTS[name]

    def taken(length: int) -> float:
        answer = Response("r", "m", (Choice((part,) * length),))
        before = time.process_time()
        fold(dialect.stream_decoder().feed(stream(name, answer)))
        dialect.parse_response(dialect.render_response(answer, reply(), None))
        return time.process_time() - before

    few_s, many_s = (min(taken(length) for _ in range(3)) for length in (count // 10, count))
    assert many_s < 25 * few_s


@each_dialect
def test_nothing_comes_after_the_end(name: str) -> None:
    data = STREAMS[name][0]
    decoder = DIALECTS[name].stream_decoder()
    events = decoder.feed(data + data) + decoder.feed(data) + decoder.finish()
    assert isinstance(events[-1], Ended)
    assert sum(isinstance(event, Ended) for event in events) == 1
