"""The dialects against the scripted vendors, who were written from documentation alone and may disagree.

Whatever a front hands on, a vendor takes; whatever a vendor says, whole and streamed, is read as the same.
"""

import itertools
from typing import Any

import pytest

from gateway.wire import sse
from gateway.wire.accumulate import fold
from gateway.wire.canonical import (
    Message,
    OutputFormat,
    Reasoning,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from gateway.wire.codec import Rendered
from gateway.wire.registry import DIALECTS
from tests.gateway.wire.differences import nameless, read, replace, whole
from tests.gateway.wire.losses import REFUSED, UPSTREAM_IDS
from tests.gateway.wire.scenarios import CLOSED, SCENARIOS, WEATHER, asking, user
from tests.upstream import turn, vendors
from tests.upstream.connection import Exchange

VENDORS = {
    "openai_chat": vendors.CHAT,
    "openai_responses": vendors.RESPONSES,
    "anthropic_messages": vendors.MESSAGES,
    "gemini_generate_content": vendors.GEMINI,
}
# Of one dialect the bytes pass, and nothing is written anew.
PAIRS = list(itertools.permutations(DIALECTS, 2))
CASES = [
    (front, upstream, scenario)
    for front, upstream in PAIRS
    for scenario in SCENARIOS
    if scenario not in REFUSED[front] and scenario not in REFUSED[upstream]
]
OTHER = {upstream: front for front, upstream in PAIRS}
HEADERS = [(name, "k") for name in ("authorization", "x-api-key", "x-goog-api-key", "anthropic-version")]
# The scenarios sign with a word of their own, which a vendor that checks has to refuse.
SIGNED = {
    "openai_responses": ("thinking of openai_responses", "thinking with an id"),
    "anthropic_messages": ("thinking of anthropic_messages", "redacted thinking"),
    "gemini_generate_content": ("thinking of gemini_generate_content", "signed call"),
    "openai_chat": (),
}


def exchange(rendered: Rendered) -> Exchange:
    """Return a rendered request as the scripted upstream receives it."""
    nobody: Any = None
    path = rendered.path + (f"?{rendered.query}" if rendered.query else "")
    return Exchange(1, False, "POST", path, HEADERS, rendered.body, 0.0, nobody)


def came(front: str, request: Request) -> Request:
    """Return a request as it comes in through a front."""
    request = replace(request, dialect=front)
    return read(DIALECTS[front], DIALECTS[front].render_request(request, UPSTREAM_IDS[front], None), request)


def asked(front: str, upstream: str, request: Request) -> Exchange:
    return exchange(DIALECTS[upstream].render_request(came(front, request), UPSTREAM_IDS[upstream], None))


@pytest.mark.parametrize(("front", "upstream", "scenario"), CASES)
def test_a_vendor_takes_what_a_front_hands_on(front: str, upstream: str, scenario: str) -> None:
    made = asked(front, upstream, SCENARIOS[scenario].request)
    assert vendors.vendor_of(made) is VENDORS[upstream]
    VENDORS[upstream].read(made)


@pytest.mark.parametrize(("upstream", "scenario"), [(name, each) for name in SIGNED for each in SIGNED[name]])
def test_a_vendor_sees_a_signature_and_refuses_one_that_is_not_its_own(upstream: str, scenario: str) -> None:
    request = replace(SCENARIOS[scenario].request, dialect=OTHER[upstream])
    rendered = DIALECTS[upstream].render_request(request, UPSTREAM_IDS[upstream], None)
    with pytest.raises(turn.Refused, match=r"(?i)signature|invalid `data`|could not be verified|not found"):
        VENDORS[upstream].read(exchange(rendered))


THINKING = Reasoning("low", summary="auto")
ASKED = {
    "text": asking(),
    "call": asking(user(Text("weather?")), tools=(WEATHER,)),
    "calls": asking(user(Text("weather twice?")), tools=(WEATHER,), parallel_tool_calls=True),
    "talk and call": asking(user(Text("aloud?")), tools=(WEATHER,)),
    "schema": asking(output=OutputFormat(CLOSED, "place", "", True)),
    "thought": asking(reasoning=THINKING, max_tokens=40_000),
    "thought and call": asking(user(Text("weather?")), tools=(WEATHER,), reasoning=THINKING, max_tokens=40_000),
}
SCENARIO_NAMES = ("agent", "refuses", "length")


@pytest.mark.parametrize("upstream", VENDORS)
@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize("scenario", SCENARIO_NAMES)
def test_what_a_vendor_says_is_read_as_the_same_whole_and_streamed(upstream: str, kind: str, scenario: str) -> None:
    vendor, dialect = VENDORS[upstream], DIALECTS[upstream]
    made = asked(OTHER[upstream], upstream, replace(ASKED[kind], stream=True))
    said = turn.answer(vendor.read(made), scenario)
    at_once = dialect.parse_response(vendor.whole(made, said))
    decoder = dialect.stream_decoder()
    events = [event for block in vendor.events(made, said) for event in decoder.feed(block)] + decoder.finish()
    assert nameless(fold(events)) == nameless(at_once)
    parts = at_once.choices[0].parts
    assert [part.name for part in parts if isinstance(part, ToolCall)] == [tool.name for tool, _ in said.calls]
    assert "".join(part.text for part in parts if isinstance(part, Thinking)) == "".join(said.thought)
    if scenario == "agent":
        assert "".join(part.text for part in parts if isinstance(part, Text)) == said.text
    assert at_once.usage is not None
    assert (at_once.usage.cache_read, at_once.usage.sound) == (3, True)


@pytest.mark.parametrize(("front", "upstream"), PAIRS)
def test_a_tool_loop_with_thoughts_goes_round(front: str, upstream: str) -> None:
    """The vendor's answer becomes the front's, comes back in the next request, and the vendor takes it."""
    vendor, dialect = VENDORS[upstream], DIALECTS[upstream]
    request = ASKED["thought and call"]
    made = asked(front, upstream, request)
    answer = dialect.parse_response(vendor.whole(made, turn.answer(vendor.read(made), "agent")))
    shown = whole(front, answer, request.tools)
    calls = [part for part in shown.choices[0].parts if isinstance(part, ToolCall)]
    results = tuple(ToolResult(call.id, (Text("sunny"),), call.name) for call in calls)
    messages = (*request.messages, Message("assistant", shown.choices[0].parts), Message("tool", results))
    again = asked(front, upstream, replace(request, messages=messages))
    said = turn.answer(vendor.read(again), "agent")
    assert "sunny" in said.text
    if upstream == "gemini_generate_content":
        assert b"thoughtSignature" in again.body
    if upstream == "anthropic_messages":
        assert b'"signature"' in again.body
    if upstream == "openai_responses":
        assert b"encrypted_content" in again.body


@pytest.mark.parametrize("upstream", VENDORS)
def test_what_a_vendor_refuses_with_is_understood(upstream: str) -> None:
    refused = turn.Refused("No such thing.", code="a_code", param="a.param")
    assert DIALECTS[upstream].parse_error(VENDORS[upstream].error(400, refused)).message == "No such thing."
    failed = DIALECTS[upstream].stream_decoder()
    events = [event for block in VENDORS[upstream].failure("Overloaded.", 0) for event in sse.split(block)]
    assert next(type(event).__name__ for block in events for event in failed.feed(block)) == "Failed"
