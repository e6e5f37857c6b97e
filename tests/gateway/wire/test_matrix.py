"""Every front on every upstream, every scenario, whole and streamed: nothing changes but what is declared here.

A request is written in the front's dialect, read, written for the upstream and read as the upstream would; an answer
goes the other way. What a dialect does not carry stands in its table of losses: the canonical path, and the name that
`Rendered.dropped` has to give it ("" where the meaning is kept in another form, so that there is nothing to tell).
"""

import itertools
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from gateway.wire.canonical import Part, Request, Text, Thinking, ToolCall, ToolResult
from gateway.wire.codec import Unsupported
from gateway.wire.registry import DIALECTS
from gateway.wire.translation import Translation
from tests.gateway.wire.differences import (
    answer_losses,
    answers_differ,
    declared,
    decoded,
    nameless,
    pieces,
    read,
    reply,
    stream,
    whole,
)
from tests.gateway.wire.losses import FLAT_ANSWERS, KNOWN, REFUSED, UPSTREAM_IDS
from tests.gateway.wire.scenarios import ORIGINS, SCENARIOS, SIGNATURE, TOKENS, asking, assistant, result, tool, user

replace = msgspec.structs.replace
PAIRS = list(itertools.product(DIALECTS, DIALECTS))


def cases(kind: str, pairs: Iterable[tuple[str, ...]]) -> list[Any]:
    """Return the cases of a test; those that are known to fail have to fail."""
    found = []
    for names, scenario in itertools.product(pairs, SCENARIOS):
        reason = KNOWN.get((kind, *names, scenario)) or KNOWN.get((kind, names[-1], scenario))
        marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
        found.append(pytest.param(*names, scenario, id="-".join((*names, scenario)), marks=marks))
    return found


# --- Requests -------------------------------------------------------------------------------------------------------
def written(name: str, scenario: str) -> Request:
    """Return a scenario's request as it comes in through a front."""
    request = replace(SCENARIOS[scenario].request, dialect=name)
    dialect = DIALECTS[name]
    return read(dialect, dialect.render_request(request, UPSTREAM_IDS[name], None), request)


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
@pytest.mark.parametrize(("name", "scenario"), cases("answer", [(name,) for name in DIALECTS]))
def test_an_answer_is_the_same_whole_and_streamed(name: str, scenario: str) -> None:
    answer = SCENARIOS[scenario].response
    at_once = whole(name, answer, SCENARIOS[scenario].request.tools)
    assert at_once.model == "m"
    assert answers_differ(answer, at_once) <= answer_losses(name, scenario)
    streamed = decoded(name, stream(name, answer, SCENARIOS[scenario].request.tools))
    assert nameless(streamed) == nameless(at_once)


@pytest.mark.parametrize(("front", "upstream", "scenario"), cases("whole", PAIRS))
def test_an_answer_comes_back_whole(front: str, upstream: str, scenario: str) -> None:
    answer = SCENARIOS[scenario].response
    told = whole(upstream, answer, SCENARIOS[scenario].request.tools)
    got = whole(front, told, SCENARIOS[scenario].request.tools)
    lost = answers_differ(answer, got)
    # What an upstream has no word for is put back by what the caller offered.
    if scenario not in FLAT_ANSWERS:
        lost -= answer_losses(upstream, scenario)
    assert lost <= answer_losses(front, scenario)
    assert got.usage is not None
    assert sum(msgspec.structs.astuple(got.usage)[:9]) == sum(msgspec.structs.astuple(answer.usage or TOKENS)[:9])


@pytest.mark.parametrize(("front", "upstream", "scenario"), cases("streamed", PAIRS))
def test_an_answer_comes_back_streamed(front: str, upstream: str, scenario: str) -> None:
    data = stream(upstream, SCENARIOS[scenario].response, SCENARIOS[scenario].request.tools)
    told = decoded(upstream, data)
    translation = Translation(
        DIALECTS[upstream].stream_decoder(), DIALECTS[front].stream_encoder(reply(SCENARIOS[scenario].request.tools))
    )
    out = b"".join(translation.feed(block) for block in pieces(data)) + translation.end()
    assert translation.complete
    assert translation.final_usage() == told.usage
    got = decoded(front, out + translation.closing(b"0.5"))
    assert nameless(got) == nameless(whole(front, told, SCENARIOS[scenario].request.tools))


# --- A conversation that goes on --------------------------------------------------------------------------------------
@pytest.mark.parametrize("front", DIALECTS)
@pytest.mark.parametrize("upstream", [name for name in ORIGINS if name in DIALECTS])
def test_a_signature_comes_back_to_its_own_vendor(front: str, upstream: str) -> None:
    scenario = SCENARIOS[f"thinking of {upstream}"]
    told = whole(front, scenario.response, scenario.request.tools)
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
    told = whole(front, scenario.response, scenario.request.tools)
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
