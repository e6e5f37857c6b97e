"""Every front on every upstream, every scenario, whole and streamed: nothing changes but what is declared here.

A request is written in the front's dialect, read, written for the upstream and read as the upstream would; an answer
goes the other way. What a dialect does not carry stands in its table of losses: the canonical path, and the name that
`Rendered.dropped` has to give it ("" where the meaning is kept in another form, so that there is nothing to tell).
"""

import difflib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest

from gateway.wire.accumulate import fold, unfold
from gateway.wire.canonical import Part, Request, Response, Text, Thinking, ToolCall, ToolResult
from gateway.wire.codec import Dialect, Rendered, Reply, Unsupported
from gateway.wire.events import Ended, Event
from gateway.wire.registry import DIALECTS
from gateway.wire.sse import Framer
from gateway.wire.translation import Translation
from tests.gateway.wire.losses import (
    ANSWER_FORMS,
    ANSWER_LOSSES,
    FLAT_ANSWERS,
    FORMS,
    KNOWN,
    LOSSES,
    REFUSED,
    UPSTREAM_IDS,
)
from tests.gateway.wire.scenarios import (
    CREATED,
    ORIGINS,
    SCENARIOS,
    SIGNATURE,
    TOKENS,
    Scenario,
    asking,
    assistant,
    result,
    tool,
    user,
)

replace = msgspec.structs.replace
PAIRS = list(itertools.product(DIALECTS, DIALECTS))
CUTS = (1, 7, 2, 50, 3)
EMPTY: tuple[Any, ...] = (None, "", (), {}, False, 0)


def cases(kind: str, pairs: Iterable[tuple[str, ...]]) -> list[Any]:
    """Return the cases of a test; those that are known to fail have to fail."""
    found = []
    for names, scenario in itertools.product(pairs, SCENARIOS):
        reason = KNOWN.get((kind, *names, scenario)) or KNOWN.get((kind, names[-1], scenario))
        marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
        found.append(pytest.param(*names, scenario, id="-".join((*names, scenario)), marks=marks))
    return found


# --- What differs ---------------------------------------------------------------------------------------------------
def differences(before: Request, after: Request) -> set[str]:
    """Return the paths at which two requests differ."""
    found = fields_differ("", before, after, ("messages", "dialect", "model", "tools", "reasoning", "output"))
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
    """Return who says what; instructions that some dialects join are taken apart again."""
    found: list[tuple[tuple[str, str], Part]] = []
    for message in request.messages:
        for part in message.parts:
            if message.role == "system" and isinstance(part, Text):
                pieces: list[Part] = [replace(part, text=text) for text in part.text.split("\n\n")]
            else:
                pieces = [part]
            found += [((message.role, message.name), piece) for piece in pieces]
    return found


def parts_differ(path: str, before: Iterable[Any], after: Iterable[Any]) -> set[str]:
    """Return the paths at which two lists of parts or tools differ: the order, kinds that are there or not, fields."""
    one, other = list(before), list(after)
    shown: tuple[list[str], list[str]] = (list(map(repr, one)), list(map(repr, other)))
    if shown[0] == shown[1]:
        return set()
    if sorted(shown[0]) == sorted(shown[1]):
        return {f"{path}.order"}
    found = set()
    for kind, a, b, c, d in difflib.SequenceMatcher(None, shown[0], shown[1], autojunk=False).get_opcodes():
        if kind != "equal":
            found |= _stretch_differs(path, one[a:b], other[c:d])
    return found


def _stretch_differs(path: str, one: list[Any], other: list[Any]) -> set[str]:
    kinds = [[type(part).__name__ for part in each] for each in (one, other)]
    first, second = map(Counter, kinds)
    found = {f"-{path}.{kind}" for kind in first - second} | {f"+{path}.{kind}" for kind in second - first}
    for a, b, size in difflib.SequenceMatcher(None, kinds[0], kinds[1], autojunk=False).get_matching_blocks():
        for x, y in zip(one[a : a + size], other[b : b + size], strict=True):
            name = type(x).__name__
            found |= fields_differ(f"{path}.{name}.", x, y, ("parts",))
            if isinstance(x, ToolResult):
                found |= parts_differ(f"{path}.{name}.parts", x.parts, y.parts)
    return found


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


# --- Requests -------------------------------------------------------------------------------------------------------
def read(dialect: Dialect, rendered: Rendered, request: Request) -> Request:
    """Return a rendered request as one who speaks the dialect reads it."""
    in_path = ":" in rendered.path
    asked = dialect.read(rendered.body, request.model if in_path else None, request.stream if in_path else None)
    return dialect.parse_request(asked)


def written(name: str, scenario: str) -> Request:
    """Return a scenario's request as it comes in through a front."""
    request = replace(SCENARIOS[scenario].request, dialect=name)
    dialect = DIALECTS[name]
    return read(dialect, dialect.render_request(request, UPSTREAM_IDS[name], None), request)


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


@pytest.mark.parametrize(("front", "scenario"), cases("written", [(name,) for name in DIALECTS]))
def test_a_caller_s_own_dialect_loses_only_what_it_does_not_have(front: str, scenario: str) -> None:
    request = replace(SCENARIOS[scenario].request, dialect=front)
    if scenario in REFUSED[front]:
        with pytest.raises(Unsupported) as caught:
            DIALECTS[front].render_request(request, UPSTREAM_IDS[front], None)
        assert REFUSED[front][scenario] in caught.value.param
        return
    rendered = DIALECTS[front].render_request(request, UPSTREAM_IDS[front], None)
    declared(front, scenario, request, read(DIALECTS[front], rendered, request), rendered.dropped)


@pytest.mark.parametrize(("front", "upstream", "scenario"), cases("request", PAIRS))
def test_a_request_arrives(front: str, upstream: str, scenario: str) -> None:
    if scenario in REFUSED[front]:
        request = replace(SCENARIOS[scenario].request, dialect=front)
    else:
        request = written(front, scenario)
    if scenario in REFUSED[upstream]:
        with pytest.raises(Unsupported) as caught:
            DIALECTS[upstream].render_request(request, UPSTREAM_IDS[upstream], None)
        assert REFUSED[upstream][scenario] in caught.value.param
        return
    rendered = DIALECTS[upstream].render_request(request, UPSTREAM_IDS[upstream], None)
    arrived = read(DIALECTS[upstream], rendered, request)
    declared(upstream, scenario, request, arrived, rendered.dropped)


@pytest.mark.parametrize(("front", "upstream"), PAIRS)
def test_a_stream_is_asked_for(front: str, upstream: str) -> None:
    request = asking(stream=True)
    dialect = DIALECTS[front]
    came = read(dialect, dialect.render_request(replace(request, dialect=front), UPSTREAM_IDS[front], None), request)
    assert came.stream
    rendered = DIALECTS[upstream].render_request(came, UPSTREAM_IDS[upstream], 77)
    arrived = read(DIALECTS[upstream], rendered, request)
    assert (arrived.stream, arrived.wants_usage, arrived.max_tokens) == (True, True, 77)


# --- Answers --------------------------------------------------------------------------------------------------------
def reply(scenario: Scenario) -> Reply:
    """Return what an answer to a scenario's request is made with."""
    return Reply("0123456789abcdef", "m", CREATED, tools=scenario.request.tools)


def whole(name: str, answer: Response, scenario: Scenario) -> Response:
    """Return an answer as one reads it who gets it in one piece."""
    body = DIALECTS[name].render_response(answer, reply(scenario), None)
    return DIALECTS[name].parse_response(body)


def stream(name: str, answer: Response, scenario: Scenario) -> bytes:
    """Return an answer as a stream."""
    encoder = DIALECTS[name].stream_encoder(reply(scenario))
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


@pytest.mark.parametrize(("name", "scenario"), cases("answer", [(name,) for name in DIALECTS]))
def test_an_answer_is_the_same_whole_and_streamed(name: str, scenario: str) -> None:
    answer = SCENARIOS[scenario].response
    at_once = whole(name, answer, SCENARIOS[scenario])
    assert at_once.model == "m"
    assert answers_differ(answer, at_once) <= answer_losses(name, scenario)
    streamed = decoded(name, stream(name, answer, SCENARIOS[scenario]))
    assert nameless(streamed) == nameless(at_once)


@pytest.mark.parametrize(("front", "upstream", "scenario"), cases("whole", PAIRS))
def test_an_answer_comes_back_whole(front: str, upstream: str, scenario: str) -> None:
    answer = SCENARIOS[scenario].response
    told = whole(upstream, answer, SCENARIOS[scenario])
    got = whole(front, told, SCENARIOS[scenario])
    lost = answers_differ(answer, got)
    # What an upstream has no word for is put back by what the caller offered.
    if scenario not in FLAT_ANSWERS:
        lost -= answer_losses(upstream, scenario)
    assert lost <= answer_losses(front, scenario)
    assert got.usage is not None
    assert sum(msgspec.structs.astuple(got.usage)[:9]) == sum(msgspec.structs.astuple(answer.usage or TOKENS)[:9])


@pytest.mark.parametrize(("front", "upstream", "scenario"), cases("streamed", PAIRS))
def test_an_answer_comes_back_streamed(front: str, upstream: str, scenario: str) -> None:
    data = stream(upstream, SCENARIOS[scenario].response, SCENARIOS[scenario])
    told = decoded(upstream, data)
    translation = Translation(
        DIALECTS[upstream].stream_decoder(), DIALECTS[front].stream_encoder(reply(SCENARIOS[scenario]))
    )
    out = b"".join(translation.feed(block) for block in pieces(data)) + translation.end()
    assert translation.complete
    assert translation.final_usage() == told.usage
    got = decoded(front, out + translation.closing(b"0.5"))
    assert nameless(got) == nameless(whole(front, told, SCENARIOS[scenario]))


# --- A conversation that goes on --------------------------------------------------------------------------------------
@pytest.mark.parametrize("front", DIALECTS)
@pytest.mark.parametrize("upstream", [name for name in ORIGINS if name in DIALECTS])
def test_a_signature_comes_back_to_its_own_vendor(front: str, upstream: str) -> None:
    scenario = SCENARIOS[f"thinking of {upstream}"]
    told = whole(front, scenario.response, scenario)
    returned = conversed(front, told.choices[0].parts)
    thoughts = [part for part in returned if isinstance(part, Thinking)]
    assert [(part.text, part.signature, part.origin) for part in thoughts] == [("Let me think.", SIGNATURE, upstream)]
    assert [part.text for part in returned if isinstance(part, Text)] == ["Hello"]
    request = asking(user(Text("Hi")), assistant(*returned), user(Text("So?")))
    arrived = read(
        DIALECTS[upstream],
        DIALECTS[upstream].render_request(replace(request, dialect=front), UPSTREAM_IDS[upstream], None),
        request,
    )
    assert SIGNATURE in [part.signature for part in arrived.messages[1].parts if isinstance(part, Thinking)]


def conversed(front: str, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return an answer's parts as they come back in the caller's next request."""
    request = asking(user(Text("Hi")), assistant(*parts), user(Text("So?")))
    request = replace(request, dialect=front)
    return (
        read(DIALECTS[front], DIALECTS[front].render_request(request, UPSTREAM_IDS[front], None), request)
        .messages[1]
        .parts
    )


@pytest.mark.parametrize("front", DIALECTS)
def test_a_signed_call_comes_back_and_is_answered_by_its_id(front: str) -> None:
    scenario = SCENARIOS["signed call"]
    told = whole(front, scenario.response, scenario)
    (called,) = [part for part in told.choices[0].parts if isinstance(part, ToolCall)]
    held = (replace(called, id="HELD"),)
    request = asking(user(Text("Weather?")), assistant(*held), tool(result(id="HELD")), tools=scenario.request.tools)
    rendered = DIALECTS[front].render_request(replace(request, dialect=front), UPSTREAM_IDS[front], None)
    body = rendered.body.replace(b"HELD", called.id.encode())
    came = read(DIALECTS[front], replace(rendered, body=body), request)
    (back,) = [part for part in came.messages[1].parts if isinstance(part, ToolCall)]
    (said,) = [part for part in came.messages[2].parts if isinstance(part, ToolResult)]
    assert (back.signature, back.origin) == (SIGNATURE, "gemini_generate_content")
    assert said.call_id == back.id
