"""A call that came without an id, as Gemini's do, has one of its own in every dialect that has to name it."""

import re

import pytest

from gateway.wire.canonical import Choice, Response, ToolCall
from gateway.wire.codec import Reply
from gateway.wire.events import Ended, Event, Finished, PartEnded, PartStarted, Started
from gateway.wire.registry import DIALECTS

REPLY = Reply("01a1faab-2d39-78a4-9bb9-82f33565e7c5", "m", 1)
CALLS = (ToolCall("", "f", "{}", signature="s", origin="gemini_generate_content"), ToolCall("", "f", "{}"))
EVENTS: list[Event] = [
    Started("", ""),
    *(event for index, call in enumerate(CALLS) for event in (PartStarted(index, call), PartEnded(index))),
    Finished("tool_calls"),
    Ended(),
]
MADE = re.compile(rb'"(?:id|call_id)":"(call_[0-9a-f]{24}_[^"]*)"')


@pytest.mark.parametrize("name", ["openai_chat", "openai_responses", "anthropic_messages"])
def test_calls_without_ids_get_their_own_whole_and_streamed(name: str) -> None:
    dialect = DIALECTS[name]
    whole = dialect.render_response(Response("", "", (Choice(CALLS, "tool_calls"),)), REPLY, None)
    encoder = dialect.stream_encoder(REPLY)
    streamed = encoder.encode(EVENTS) + encoder.finish(b"0")
    found = MADE.findall(whole)
    assert len(set(found)) == 2
    assert b"__aps_" in found[0]
    assert set(MADE.findall(streamed)) == set(found)
