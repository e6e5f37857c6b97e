"""A stream's events make the answer that they were made from, whatever parts it has."""

from dataclasses import dataclass

import pytest
from hypothesis import given

from gateway.wire.accumulate import fold, unfold
from gateway.wire.canonical import (
    Audio,
    Choice,
    Citation,
    Document,
    FileId,
    Image,
    Inline,
    Logprob,
    Native,
    Part,
    Refusal,
    Response,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from gateway.wire.events import (
    Ended,
    Event,
    Failed,
    Finished,
    Likely,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    Used,
)
from gateway.wire.usage import Tokens
from tests.gateway.wire import strategies

PARTS: dict[str, Part] = {
    "text": Text("Hello"),
    "empty text": Text(""),
    "cited text": Text("Hello", (Citation("https://a.example", "A", "quote", 0, 5), Citation(title="B"))),
    "cached text": Text("Hello", cache="1h"),
    "image": Image(Inline("image/png", "aGk="), "high"),
    "image by address": Image(Url("https://a.example/i.png")),
    "audio": Audio(Inline("audio/wav", "aGk="), "hi", "audio_1"),
    "silent audio": Audio(Inline("audio/wav", "")),
    "audio by id": Audio(None, "hi", "audio_1"),
    "document": Document(FileId("openai_chat", "file-1"), "a.pdf", "context", True),
    "thinking": Thinking("hm"),
    "signed thinking": Thinking("hm", "sig", "anthropic_messages", "rs_1"),
    "unsigned thinking of somebody": Thinking("hm", "", "anthropic_messages"),
    "summary": Thinking("hm", "sig", "openai_responses", "rs_1", is_summary=True),
    "redacted thinking": Thinking("", "sig", "anthropic_messages", redacted=True),
    "call": ToolCall("call_1", "weather", '{"city":"Köln"}'),
    "call without arguments": ToolCall("call_1", "weather", ""),
    "signed call": ToolCall("call_1", "weather", "{}", signature="sig", origin="gemini_generate_content"),
    "unsigned call of somebody": ToolCall("call_1", "weather", "{}", origin="gemini_generate_content"),
    "custom call": ToolCall("call_1", "patch", "*** Begin", custom=True, namespace="files"),
    "result": ToolResult("call_1", (Text("sunny"), Image(Url("https://a.example/i.png"))), "weather", True),
    "refusal": Refusal("I can not."),
    "native": Native("anthropic_messages", "web_search_tool_result", {"type": "web_search_tool_result"}),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_part_of_each_kind_comes_back(part: Part) -> None:
    answer = Response("r", "m", (Choice((part,)),))
    assert fold(unfold(answer)) == answer


def test_everything_at_once_comes_back() -> None:
    likely = Logprob("Hi", -0.5, (72, 105), (Logprob("Ho", -1.5),))
    choices = (
        Choice(tuple(PARTS.values()), "stop_sequence", "END", (likely, likely)),
        Choice((), "content_filter"),
        Choice((Text("b"),), "length"),
    )
    answer = Response("r", "m", choices, Tokens(input=3, output=4), 1_700_000_000)
    assert fold(unfold(answer)) == answer


def test_an_answer_without_choices_comes_back() -> None:
    assert fold(unfold(Response("r", "m", ()))) == Response("r", "m", ())


@given(strategies.responses())
def test_any_answer_comes_back(answer: Response) -> None:
    assert fold(unfold(answer)) == answer


@dataclass
class Opened:
    """What has begun and not ended, by choice."""

    parts: set[tuple[int, int]]
    finished: set[int]


@given(strategies.responses())
def test_events_come_in_the_order_that_encoders_rely_on(answer: Response) -> None:
    first, *middle, last = list(unfold(answer))
    assert isinstance(first, Started)
    assert isinstance(last, Ended)
    seen = Opened(set(), set())
    for event in middle:
        if isinstance(event, PartStarted):
            assert not seen.parts
            seen.parts.add((event.choice, event.index))
        elif isinstance(event, PartDelta | PartSigned | PartCited):
            assert (event.choice, event.index) in seen.parts
        elif isinstance(event, PartEnded):
            seen.parts.remove((event.choice, event.index))
        elif isinstance(event, Finished | Likely):
            assert not seen.parts
            assert event.choice not in seen.finished
            seen.finished |= {event.choice} if isinstance(event, Finished) else set()
        else:
            assert isinstance(event, Used)
    assert seen == Opened(set(), set(range(len(answer.choices))))


# --- Streams that no whole answer would have made -------------------------------------------------------------------
def test_parts_may_overlap_and_come_in_any_order() -> None:
    events: list[Event] = [
        Started("r", "m"),
        PartStarted(1, Text("")),
        PartStarted(0, Thinking("")),
        PartDelta(1, "b"),
        PartDelta(0, "a"),
        PartDelta(1, "c"),
    ]
    assert fold(events).choices == (Choice((Thinking("a"), Text("bc"))),)


def test_the_last_usage_counts() -> None:
    assert fold([Used(Tokens(input=1)), Used(Tokens(input=2))]).usage == Tokens(input=2)


def test_a_broken_stream_is_as_long_as_it_came() -> None:
    events = Started("r", "m", 7), PartStarted(0, Text("Hel")), PartDelta(0, "lo"), Failed({"message": "overloaded"})
    assert fold(events) == Response("r", "m", (Choice((Text("Hello"),)),), created=7)


def test_nothing_at_all_is_an_answer_without_choices() -> None:
    assert fold([]) == Response("", "", ())


def test_what_a_part_can_not_have_is_passed_over() -> None:
    events: list[Event] = [
        PartStarted(0, Refusal("No")),
        PartSigned(0, "sig", "anthropic_messages"),
        PartCited(0, Citation("https://a.example")),
        PartStarted(1, Image(Url("https://a.example/i.png"))),
        PartDelta(1, "text"),
    ]
    assert fold(events).choices == (Choice((Refusal("No"), Image(Url("https://a.example/i.png")))),)
