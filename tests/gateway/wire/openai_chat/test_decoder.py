"""What upstreams do otherwise is mended, what is no answer is told apart, and nothing hostile gets further."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.accumulate import fold
from gateway.wire.canonical import Citation, Image, Part, Refusal, Text, Thinking, ToolCall, Url
from gateway.wire.codec import Said, Unreadable
from gateway.wire.events import Ended, Event, Failed, Finished, PartEnded, PartStarted, Started, Used
from gateway.wire.openai_chat import DIALECT
from gateway.wire.openai_chat.decoder import CALLS_MAX

DONE = b"data: [DONE]\n\n"


def event(content: Any) -> bytes:
    return b"data: " + (content if isinstance(content, bytes) else json.dumps(content).encode()) + b"\n\n"


def chunk(delta: Any, finish: Any = None, **fields: Any) -> bytes:
    return event(
        {"id": "x-1", "model": "up", "choices": [{"index": 0, "delta": delta, "finish_reason": finish} | fields]}
    )


def decoded(*blocks: bytes) -> list[Event]:
    decoder = DIALECT.stream_decoder()
    return [event for block in blocks for event in decoder.feed(block)] + decoder.finish()


def parts(*deltas: Any, finish: Any = "stop") -> tuple[Part, ...]:
    return fold(decoded(*(chunk(delta) for delta in deltas), chunk({}, finish))).choices[0].parts


def calls(*deltas: Any) -> list[tuple[str, str, str]]:
    found = parts(*({"tool_calls": [delta]} for delta in deltas))
    return [(part.id, part.name, part.arguments) for part in found if isinstance(part, ToolCall)]


# --- Calls of tools -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        # Without an index: a new id is a new call, no id goes on with the last one.
        (
            [
                {"id": "a", "function": {"name": "f", "arguments": '{"x"'}},
                {"function": {"arguments": ":1}"}},
                {"id": "b", "function": {"name": "g", "arguments": "{}"}},
                {"id": "a", "function": {"arguments": "more"}},
            ],
            [("a", "f", '{"x":1}'), ("b", "g", "{}")],
        ),
        # Neither: a name after whole arguments begins a call.
        (
            [{"function": {"name": "f", "arguments": "{}"}}, {"function": {"name": "g", "arguments": {"y": 1}}}],
            [("call_x1_0", "f", "{}"), ("call_x1_1", "g", '{"y":1}')],
        ),
        (
            [{"function": {"name": "f", "arguments": '{"x'}}, {"function": {"name": "f", "arguments": '":1}'}}],
            [("call_x1_0", "f", '{"x":1}')],
        ),
        # One index for all of them, each in one piece.
        (
            [
                {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
                {"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}},
            ],
            [("a", "f", "{}"), ("b", "g", "{}")],
        ),
        # The id and the name come with every piece.
        (
            [
                {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
                {"index": 0, "id": "a", "function": {"name": "f", "arguments": "}"}},
                {"index": 0, "id": "z", "function": {"arguments": " "}},
            ],
            [("a", "f", "{} ")],
        ),
        # The name comes late, or never.
        (
            [
                {"index": 0, "id": "a"},
                {"index": 0, "function": {"arguments": '{"x":'}},
                {"index": 0, "function": {"name": "f"}},
                {"index": 0, "function": {"arguments": "1}"}},
            ],
            [("a", "f", '{"x":1}')],
        ),
        ([{"index": 0, "id": "a", "function": {"arguments": "{}"}}], [("a", "", "{}")]),
        # Mixed by an upstream that really does both at once.
        (
            [
                {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
                {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}},
                {"index": 0, "function": {"arguments": "}"}},
                {"index": 1, "function": {"arguments": "}"}},
            ],
            [("a", "f", "{}"), ("b", "g", "{}")],
        ),
        ([{"index": 0, "id": "a", "function": {"name": "f", "arguments": " "}}], [("a", "f", "{}")]),
        (
            [
                {"index": 0, "id": "a", "function": {"name": "f", "arguments": "[]"}},
                {"index": 1, "id": "b", "function": "x"},
            ],
            [("a", "f", "[]"), ("b", "", "{}")],
        ),
    ],
)
def test_calls_are_put_together_however_they_come(deltas: Any, expected: Any) -> None:
    assert calls(*deltas) == expected


def test_a_call_ends_when_the_next_begins() -> None:
    def whole(id: str, index: int) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, "id": id, "function": {"name": "f", "arguments": "{}"}}]}

    events = decoded(chunk({"content": "Hi"}), chunk(whole("a", 0)), chunk(whole("b", 1)), chunk({"content": "!"}))
    order = [(type(each), each.index) for each in events if isinstance(each, PartStarted | PartEnded)]
    assert order == [
        (PartStarted, 0),
        (PartEnded, 0),
        (PartStarted, 1),
        (PartEnded, 1),
        (PartStarted, 2),
        (PartEnded, 2),
        (PartStarted, 3),
    ]


def test_what_comes_for_a_call_that_has_ended_is_left_out() -> None:
    one = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    found = parts({"tool_calls": [one]}, {"content": "x"}, {"tool_calls": [one, "rubbish"]}, {"tool_calls": {"a": 1}})
    assert found == (ToolCall("a", "f", "{}"), Text("x"))


def test_calls_without_end_are_no_answer() -> None:
    many = [{"id": f"c{number}", "function": {"name": "f"}} for number in range(CALLS_MAX + 1)]
    with pytest.raises(Unreadable, match="too many calls"):
        decoded(chunk({"tool_calls": many}))


def test_an_odd_upstream_that_repeats_itself_costs_no_more_than_its_bytes() -> None:
    piece = chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{" * 50}}]})
    odd = [piece.replace(b'"a"', b'"%d"' % number) for number in range(20_000)]
    began_at = time.process_time()
    decoded(*odd)
    assert time.process_time() - began_at < 5


# --- Thoughts -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["<think>a</think>b"], (Thinking("a"), Text("b"))),
        (["<think>", "\n", "</think>", "\n\n", "b"], (Text("b"),)),
        (["<think>a</thi"], (Thinking("a</thi"),)),
        (["<think>a</thi", "s"], (Thinking("a</this"),)),
        (["<thi"], (Text("<thi"),)),
        (["<thi", "s>"], (Text("<this>"),)),
        (["  ", "a"], (Text("  a"),)),
        ([" " * 65, "<think>a"], (Text(" " * 65 + "<think>a"),)),
        (["a<think>b</think>"], (Text("a<think>b</think>"),)),
        (["<think>a</think>"], (Thinking("a"),)),
    ],
)
def test_a_thought_in_tags_is_one_at_the_very_beginning_alone(texts: list[str], expected: Any) -> None:
    assert parts(*({"content": text} for text in texts)) == expected
    whole = {"choices": [{"message": {"content": "".join(texts)}, "finish_reason": "stop"}]}
    assert DIALECT.parse_response(json.dumps(whole).encode()).choices[0].parts == expected


def test_tags_after_a_thought_that_was_told_otherwise_are_text() -> None:
    assert parts({"content": "<th"}, {"reasoning": "a"}, {"content": "<think>b"}) == (
        Text("<th"),
        Thinking("a"),
        Text("<think>b"),
    )


def test_what_was_held_for_a_tag_comes_out_when_the_stream_breaks_or_goes_on() -> None:
    assert fold(decoded(chunk({"content": "<thi"}))).choices[0].parts == (Text("<thi"),)
    call = {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}
    assert parts({"content": "<thi"}, call)[0] == Text("<thi")
    assert parts({"content": "<thi"}, {"refusal": "no"}) == (Text("<thi"), Refusal("no"))
    assert Ended() not in decoded(chunk({"content": "Hi"}))


def test_a_content_may_be_a_list() -> None:
    first, second = ({"content": [{"type": "text", "text": text}]} for text in "ab")
    assert parts(first, second, {"content": [{"type": "thinking", "thinking": "c"}]}) == (Text("ab"), Thinking("c"))


def test_thoughts_that_are_none_are_left_out() -> None:
    assert parts({"reasoning": {"effort": "high"}, "reasoning_details": [{"type": "x"}, 7]}, {"content": "a"}) == (
        Text("a"),
    )


# --- Everything else ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reason", "delta", "expected"),
    [
        ("stop", {"content": "a"}, "stop"),
        ("STOP", {"content": "a"}, "stop"),
        ("max_tokens", {"content": "a"}, "length"),
        ("stop", {"refusal": "no"}, "refusal"),
        ("stop", {"function_call": {"name": "f"}}, "tool_calls"),
        ("insufficient_system_resource", {}, "error"),
        ("something_new", {}, "stop"),
        (7, {}, "stop"),
    ],
)
def test_why_an_answer_ended(reason: Any, delta: Any, expected: str) -> None:
    assert fold(decoded(chunk(delta), chunk({}, reason))).choices[0].finish == expected


def test_after_its_end_a_choice_says_nothing_more() -> None:
    events = decoded(chunk({"content": "a"}, "stop"), chunk({"content": "b"}), DONE, chunk({"content": "c"}))
    assert fold(events).choices[0].parts == (Text("a"),)
    assert events[-1] == Ended()


@pytest.mark.parametrize("reason", [None, "", "null"])
def test_done_ends_what_was_not_ended(reason: Any) -> None:
    events = decoded(chunk({"content": "a"}, reason), DONE)
    assert events[-2:] == [Finished("stop"), Ended()]
    assert decoded(DONE) == []


def test_a_message_and_a_choice_out_of_range_are_read() -> None:
    events = decoded(event({"choices": [{"message": {"content": "a"}, "index": "x"}, {"index": 999}]}))
    assert fold(events).choices[0].parts == (Text("a"),)
    assert events[0] == Started("", "")


def test_refusals_pictures_and_citations() -> None:
    picture = {"image_url": {"url": "https://example.com/a.png"}}
    cited = {"type": "url_citation", "url_citation": {"url": "u", "start_index": True}}
    found = parts(
        {"annotations": [cited]},
        {"content": "a", "annotations": [cited, {"type": "file_citation"}, 7]},
        {"images": [picture, {}, 7], "refusal": {"x": 1}, "audio": 7},
        {"refusal": "no", "images": "x"},
    )
    assert found == (Text("a", (Citation("u"),)), Image(Url("https://example.com/a.png")), Refusal("no"))


@pytest.mark.parametrize(
    "data", [{"error": {"message": "busy"}}, {"error": "busy"}, {"object": "error", "message": "busy"}]
)
def test_an_error_ends_the_stream(data: Any) -> None:
    assert decoded(chunk({"content": "a"}), event(data), chunk({"content": "b"}))[-1] == Failed(data)


def test_an_error_that_cannot_be_read_whole_is_one_all_the_same() -> None:
    assert decoded(event(b'{"error":1,"x":"\xff"}')) == [Failed({"error": None})]


@pytest.mark.parametrize("data", [b"{", b"rubbish", b'{"id":"\xff"}', b'{"id":' + b"[" * 9999])
def test_rubbish_is_no_answer(data: bytes) -> None:
    with pytest.raises(Unreadable):
        decoded(event(data))


@pytest.mark.parametrize(
    "data", [[], 7, {}, {"choices": 7}, {"choices": [7]}, {"choices": [{"delta": "x"}]}, {"unknown": {"x": 1}}]
)
def test_what_nobody_knows_is_passed_over(data: Any) -> None:
    assert decoded(event(data), b": comment\n\n", b"event: ping\n\n") == []


def test_a_usage_that_is_none_is_none() -> None:
    events = decoded(
        event({"id": "a", "choices": [], "usage": {}}), event({"id": "a", "x_groq": 7}), event({"usage": 7})
    )
    assert not any(isinstance(each, Used) for each in events)


PIECES = st.sampled_from(
    [
        b"data: ",
        b"\n\n",
        b'{"choices":[{"delta":',
        b'{"content":',
        b'"<think>"',
        b"}",
        b"}]}",
        b'{"tool_calls":[{"index":0,',
    ]
)
ANYTHING: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, 1, -1, 1.5, "", "a", "x}", [], ["a"], [{}], [[]], {}, {"url": "u"}, {"data": "x"}]
)
DELTAS = st.dictionaries(
    st.sampled_from(
        ["content", "reasoning", "reasoning_details", "tool_calls", "function_call", "refusal", "images", "audio"]
    ),
    ANYTHING
    | st.sampled_from(["<think>", "a", "</think>"])
    | st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "index": ANYTHING,
                "id": ANYTHING,
                "type": st.sampled_from(["function", "custom", "reasoning.text", "text", "thinking"]),
                "function": ANYTHING | st.fixed_dictionaries({"name": ANYTHING, "arguments": ANYTHING}),
                "custom": ANYTHING,
                "text": ANYTHING,
                "thinking": ANYTHING,
            },
        ),
        max_size=3,
    ),
)


@given(st.lists(st.binary(max_size=40) | PIECES, max_size=20))
def test_hostile_bytes_raise_nothing_but_the_one_fault(pieces: list[bytes]) -> None:
    try:
        decoded(b"".join(pieces))
    except Unreadable as fault:
        assert len(str(fault)) < 200
    try:
        DIALECT.parse_response(b"".join(pieces))
    except Unreadable as fault:
        assert len(str(fault)) < 200
    assert isinstance(DIALECT.parse_error(b"".join(pieces)), Said)


@given(st.lists(DELTAS, max_size=6), ANYTHING)
def test_hostile_deltas_leave_events_in_their_order(deltas: list[Any], reason: Any) -> None:
    events = decoded(*(chunk(delta) for delta in deltas), chunk({}, reason), DONE)
    assert events[-1] == Ended()
    started = [each.index for each in events if isinstance(each, PartStarted)]
    ended = [each.index for each in events if isinstance(each, PartEnded)]
    assert started == list(range(len(started))) and sorted(ended) == started
    assert len(fold(events).choices) == 1


# --- Whole answers --------------------------------------------------------------------------------------------------
def whole(message: Any, **fields: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"} | fields]}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"choices":7}',
        b'{"choices":[7]}',
        b'{"choices":[{}]}',
        whole({"tool_calls": 7}),
        whole({"tool_calls": [7]}),
        whole({"tool_calls": [{}]}),
        whole({"tool_calls": [{"function": {}}]}),
        whole({"images": [{}]}),
        whole({"function_call": {}}),
    ],
)
def test_what_is_no_answer_is_told(data: bytes) -> None:
    with pytest.raises(Unreadable):
        DIALECT.parse_response(data)


def test_odd_fields_of_an_answer_are_passed_over() -> None:
    odd = {
        "content": ["x", {"type": "text", "text": "a"}],
        "images": [7],
        "annotations": 7,
        "audio": {},
        "tool_calls": [{"custom": {"name": "p", "input": 7}}],
    }
    likely = [7, {"token": "a"}, {"token": "b", "logprob": -1, "bytes": ["x"], "top_logprobs": [7]}]
    read = DIALECT.parse_response(whole(odd, logprobs={"content": likely, "refusal": None}, index=None))
    assert [type(part).__name__ for part in read.choices[0].parts] == ["Text", "Audio", "ToolCall"]
    assert [each.token for each in read.choices[0].logprobs] == ["b"]


def test_citations_belong_to_the_text() -> None:
    cited = [{"type": "url_citation", "url_citation": {"url": "u"}}]
    content = [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "b"}]
    read = DIALECT.parse_response(whole({"content": content, "annotations": cited}))
    assert read.choices[0].parts == (Text("a", (Citation("u"),)), Thinking("b"))
    assert DIALECT.parse_response(whole({"content": None, "annotations": cited})).choices[0].parts == ()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "no", "code": "c", "param": "p", "type": "t"}}, Said("no", "c", "p")),
        ({"error": {"message": "no", "code": 400, "type": "t"}}, Said("no", "t")),
        ({"error": "no"}, Said("no")),
        ([{"error": {"message": "no"}}], Said("no")),
        ({"message": "no"}, Said("no")),
        ({"error": 7}, Said()),
        ([], Said()),
        (7, Said()),
    ],
)
def test_what_an_upstream_says_of_its_refusal(body: Any, said: Said) -> None:
    assert DIALECT.parse_error(json.dumps(body).encode()) == said
    assert DIALECT.parse_error(b"<html>") == Said()
