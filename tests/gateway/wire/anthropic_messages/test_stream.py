"""Streams of Anthropic's dialect: an upstream's with all its defects, and a caller's, one block at a time."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import marks, sse
from gateway.wire.accumulate import fold
from gateway.wire.anthropic_messages import DIALECT
from gateway.wire.canonical import Audio, Choice, Citation, Image, Native, Refusal, Text, Thinking, ToolCall, Url
from gateway.wire.codec import Reply, Unreadable
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

OWN = "anthropic_messages"
REPLY = Reply(request_id="r1", model="acme/m", created=0)


def event(kind: str | None, **fields: Any) -> bytes:
    named = {} if kind is None else {"type": kind}
    return b"event: %s\ndata: %s\n\n" % ((kind or "message").encode(), json.dumps(named | fields).encode())


START = event("message_start", message={"id": "msg_1", "model": "claude", "usage": {"input_tokens": 9}})
STOP = event("message_stop")


def begun(index: Any, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def delta(index: Any, kind: Any, **fields: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind} | fields)


def why(reason: Any, **usage: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": reason}, usage=usage)


def decoded(*stream: bytes) -> list[Event]:
    decoder = DIALECT.stream_decoder()
    return [found for each in stream for found in decoder.feed(each)] + decoder.finish()


def choice(*stream: bytes) -> Choice:
    (found,) = fold(decoded(*stream)).choices
    return found


# --- From an upstream -----------------------------------------------------------------------------------------------
def test_events_come_in_order_and_usage_is_the_latest() -> None:
    ended = event("content_block_stop", index=0)
    text = [begun(0, type="text", text=""), delta(0, "text_delta", text="Hi"), ended]
    assert decoded(
        START, *text, why(None), why("end_turn", output_tokens=4), why("end_turn", output_tokens=5), STOP
    ) == [
        Started("msg_1", "claude"),
        PartStarted(0, Text("")),
        PartDelta(0, "Hi"),
        PartEnded(0),
        Used(Tokens(input=9, output=4)),
        Finished("stop"),
        Used(Tokens(input=9, output=5)),
        Ended(),
    ]


def test_a_reason_is_an_end_and_none_is_not() -> None:
    assert decoded(START, why("max_tokens"))[-2:] == [Finished("length"), Ended()]
    assert decoded(START, START, begun(0, type="text", text="Hi"))[-1] == PartDelta(0, "Hi")
    assert decoded(STOP, begun(0, type="text")) == [Started("", ""), Finished("stop"), Ended()]


def test_what_a_vendor_leaves_out_is_made_up_for() -> None:
    unended = [begun(0, type="thinking", thinking="a", signature="s"), begun(1, type="text", text="b"), delta(2, "x")]
    unbegun = [delta(3, "text_delta", text="c"), delta(3, "text_delta", text=""), event("content_block_stop", index=9)]
    assert choice(*unended, *unbegun, why("new_reason")) == Choice(
        (Thinking("a", "s", OWN), Text("b"), Text("c")), "stop"
    )


def test_a_calls_arguments_come_in_deltas_or_in_one_piece() -> None:
    assert choice(
        START,
        begun(0, type="tool_use", id="t0", name="f", input={}),
        delta(0, "input_json_delta", partial_json=""),
        begun(1, type="tool_use", id="t1", name="f", input={"a": 1}),
        begun(2, type="tool_use", name="f", input={"a": 1}),
        delta(2, "input_json_delta", partial_json='{"b":2}'),
        begun(3, type="tool_use", id="t3", name="f", input=""),
        delta(3, "text_delta", text="not its own"),
        why("end_turn"),
    ) == Choice(
        (
            ToolCall("t0", "f", "{}"),
            ToolCall("t1", "f", '{"a":1}'),
            ToolCall("toolu_1_2", "f", '{"b":2}'),
            ToolCall("t3", "f", "{}"),
        ),
        "tool_calls",
    )


def test_a_vendors_own_blocks_are_whole() -> None:
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    assert choice(
        begun(0, **use),
        delta(0, "input_json_delta", partial_json='{"query":'),
        delta(0, "input_json_delta", partial_json='"x"}'),
        begun(1, **use),
        delta(1, "input_json_delta", partial_json="{cut"),
        begun(2, type="compaction"),
        delta(2, "compaction_delta", content="sum"),
        delta(2, "unheard_of"),
        begun(3, type="redacted_thinking", data="d"),
        STOP,
    ).parts == (
        Native(OWN, "server_tool_use", use | {"input": {"query": "x"}}),
        Native(OWN, "server_tool_use", use),
        Native(OWN, "compaction", {"type": "compaction", "content": "sum"}),
        Thinking("", "d", OWN, redacted=True),
    )


def test_citations_belong_to_their_text() -> None:
    location = {"type": "web_search_result_location", "url": "u", "cited_text": "q"}
    assert choice(
        begun(0, type="text", text="a", citations=[location]),
        delta(0, "citations_delta", citation=location | {"title": "T"}),
        delta(0, "citations_delta", citation=None),
        delta(0, "signature_delta", signature="s"),
        STOP,
    ).parts == (Text("a", (Citation("u", "", "q"), Citation("u", "T", "q"))),)


def test_an_error_ends_the_stream() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert decoded(START, event("error", error=error["error"]), STOP)[1:] == [Failed(error)]
    assert decoded(event(None, error="x")) == [Failed({"error": "x"})]


def test_what_nobody_knows_is_passed_over() -> None:
    assert (
        decoded(
            event("ping"),
            event("new"),
            event(None),
            b": comment\n\n",
            b"data: [DONE]\n\n",
            event("content_block_start", content_block=7),
            event("content_block_delta", delta=7),
            event("message_delta", delta=7),
            delta(0, 7),
        )
        == []
    )


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: 7\n\n", b"data: \xff\n\n"])
def test_rubbish_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        decoded(data)


JSON = st.sampled_from([None, 7, 1.5, "", "x", "end_turn", [], [7, {}], {}, {"type": "text"}, {"output_tokens": 1}])
TYPES = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"]
KINDS = ["text", "thinking", "tool_use", "redacted_thinking", "x", "text_delta", "input_json_delta", "citations_delta"]
FIELDS = ["text", "thinking", "input", "partial_json", "signature", "citations", "citation", "usage", "stop_reason"]
INNER = st.builds(
    lambda kind, rest: rest | {"type": kind}, st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), JSON)
)
EVENTS = st.builds(
    lambda kind, index, holder, inner, usage: {"type": kind, "index": index, holder: inner, "usage": usage},
    st.sampled_from(TYPES),
    st.integers(0, 2) | JSON,
    st.sampled_from(["delta", "content_block", "message"]),
    INNER | JSON,
    JSON,
)


def test_what_follows_the_reason_of_an_end_is_left_out() -> None:
    last = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    more = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "more"}}
    events = decoded(*(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (last, more)), STOP)
    assert [type(event).__name__ for event in events] == ["Started", "Finished", "Ended"]


@given(st.lists(EVENTS, max_size=12))
def test_events_of_any_content_make_an_answer_in_order(found: list[Any]) -> None:
    events = decoded(*(b"data: " + json.dumps(each).encode() + b"\n\n" for each in found), STOP)
    fold(events)
    assert [isinstance(each, Started) for each in events] == [True] + [False] * (len(events) - 1)
    ends = [each.index for each in events if isinstance(each, PartEnded)]
    assert ends == [each.index for each in events if isinstance(each, PartStarted)] == list(range(len(ends)))
    encoder = DIALECT.stream_encoder(REPLY)
    stream = b"".join(encoder.encode([each]) for each in events) + encoder.finish(b"0")
    assert stream.count(b"event: content_block_start") == stream.count(b"event: content_block_stop")


@given(st.binary(max_size=60))
def test_hostile_bytes_are_unreadable_at_worst(data: bytes) -> None:
    try:
        decoded(b"data: " + data + b"\n\n")
    except Unreadable as error:
        assert "JSON" in str(error)


# --- For a caller ---------------------------------------------------------------------------------------------------
def encoded(*events: Event, reply: Reply = REPLY, cost: bytes = b"0") -> list[dict[str, Any]]:
    encoder = DIALECT.stream_encoder(reply)
    stream = b"".join(encoder.encode([each]) for each in events) + encoder.finish(cost)
    return [json.loads(sse.data_of(each)) for each in sse.split(stream)]


def blocks(*events: Event) -> list[tuple[Any, ...]]:
    """Return what a caller is told of the parts, in short."""
    short: list[tuple[Any, ...]] = []
    for each in encoded(*events):
        match each:
            case {"type": "content_block_start", "index": index, "content_block": block}:
                short.append((index, "start", block))
            case {"type": "content_block_delta", "index": index, "delta": {"type": kind, **rest}}:
                short.append((index, kind, *rest.values()))
            case {"type": "content_block_stop", "index": index}:
                short.append((index, "stop"))
    return short


def test_a_stream_begins_and_ends_as_clients_demand() -> None:
    usage = Tokens(input=3, output=4, cache_read=5)
    events: list[Event] = [Started("a", "b"), Used(Tokens(input=3)), PartStarted(0, Text("")), PartDelta(0, "Hi")]
    events.append(PartEnded(0))
    encoder = DIALECT.stream_encoder(Reply("r1", "acme/m", 0, wants_cost=True))
    first = encoder.encode(events)
    assert encoder.encode([]) == b""
    later: list[Event] = [Likely(()), Finished("stop_sequence", "x"), Used(usage), Ended()]
    assert encoder.encode(later) == b""
    found = [json.loads(sse.data_of(each)) for each in sse.split(first + encoder.finish(b"0.5"))]
    assert [each["type"] for each in found] == [
        *("message_start", "ping", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    message = found[0]["message"]
    assert (message["id"], message["model"], message["usage"]["input_tokens"]) == ("msg_r1", "acme/m", 3)
    assert found[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "x"}
    told = found[-2]["usage"]
    assert (told["input_tokens"], told["cache_read_input_tokens"], told["output_tokens"], told["cost"]) == (
        3,
        5,
        4,
        0.5,
    )


def test_a_stream_without_events_is_an_empty_answer() -> None:
    assert [each["type"] for each in encoded()] == ["message_start", "ping", "message_delta", "message_stop"]


def test_parts_that_overlap_are_told_one_after_the_other() -> None:
    found = blocks(
        PartStarted(0, ToolCall("c0", "f", "")),
        PartStarted(1, ToolCall("c1", "g", "")),
        PartStarted(2, Text("")),
        PartDelta(1, '{"b"'),
        PartDelta(0, '{"a":1}'),
        PartDelta(1, ":2}"),
        PartEnded(1),
        PartDelta(2, "x"),
        PartSigned(1, "late", "gemini_generate_content"),
        PartDelta(7, "of nothing"),
        PartStarted(3, Text(""), choice=1),
        Finished("stop", choice=1),
        PartEnded(0),
        PartDelta(2, "y"),
        Finished("stop"),
    )
    signed = marks.signed_id("c1", "late", "gemini_generate_content")
    assert found == [
        (0, "start", {"type": "tool_use", "id": "c0", "name": "f", "input": {}}),
        (0, "input_json_delta", '{"a":1}'),
        (0, "stop"),
        (1, "start", {"type": "tool_use", "id": signed, "name": "g", "input": {}}),
        (1, "input_json_delta", '{"b"'),
        (1, "input_json_delta", ":2}"),
        (1, "stop"),
        (2, "start", {"type": "text", "text": ""}),
        (2, "text_delta", "x"),
        (2, "text_delta", "y"),
        (2, "stop"),
    ]


def test_a_calls_signature_is_in_its_id() -> None:
    call = ToolCall("c", "f", '{"a":1}', namespace="ns")
    encoder = DIALECT.stream_encoder(REPLY)
    other = PartSigned(1, "other", "g")
    stream = encoder.encode([PartStarted(0, call), other, PartSigned(0, "s", "g"), PartEnded(0)]).decode()
    assert marks.signed_id("c", "s", "g") in stream and '"ns__f"' in stream


def test_calls_without_arguments_and_with_words_for_arguments() -> None:
    found = blocks(
        PartStarted(0, ToolCall("c", "f", "", signature="s", origin="g")),
        PartEnded(0),
        PartStarted(1, ToolCall("d", "g", "", custom=True)),
        PartDelta(1, 'say "'),
        PartDelta(1, 'hi"'),
        PartEnded(1),
    )
    assert [each for each in found if each[1] == "input_json_delta"] == [
        (0, "input_json_delta", "{}"),
        (1, "input_json_delta", '{"input":"say \\"hi\\""}'),
    ]
    assert found[0][2]["id"] == marks.signed_id("c", "s", "g")


def test_thoughts_are_signed_at_their_end() -> None:
    found = blocks(
        PartStarted(0, Thinking("", id="rs")),
        PartSigned(0, "s", "openai_responses"),
        PartDelta(0, "a"),
        PartEnded(0),
        PartStarted(1, Thinking("b", "own", OWN)),
        PartEnded(1),
        PartStarted(2, Thinking("")),
        PartEnded(2),
        PartStarted(3, Thinking("", id="rs", redacted=True)),
        PartSigned(3, "d", "openai_responses"),
        PartEnded(3),
    )
    empty = {"type": "thinking", "thinking": "", "signature": ""}
    assert found == [
        (0, "start", empty),
        (0, "thinking_delta", "a"),
        (0, "signature_delta", marks.mark("s", "openai_responses", "rs")),
        (0, "stop"),
        (1, "start", empty),
        (1, "thinking_delta", "b"),
        (1, "signature_delta", "own"),
        (1, "stop"),
        (2, "start", empty),
        (2, "signature_delta", marks.mark("", "")),
        (2, "stop"),
        (3, "start", {"type": "redacted_thinking", "data": marks.mark("d", "openai_responses", "rs")}),
        (3, "stop"),
    ]


def test_what_has_no_block_of_its_own_is_text_or_nothing() -> None:
    result = {"type": "web_search_tool_result", "content": []}
    use = {"type": "server_tool_use", "input": {"q": 1}}
    found = blocks(
        PartStarted(0, Text("")),
        PartEnded(0),
        PartStarted(1, Image(Url("https://e.x"))),
        PartEnded(1),
        PartStarted(2, Audio(None, "spoken")),
        PartDelta(2, "base64"),
        PartEnded(2),
        PartStarted(3, Native("openai_responses", "web_search_call", {})),
        PartEnded(3),
        PartStarted(4, Native(OWN, "server_tool_use", use)),
        PartEnded(4),
        PartStarted(5, Native(OWN, "web_search_tool_result", result)),
        PartEnded(5),
    )
    text = {"type": "text", "text": ""}
    assert found == [
        *((0, "start", text), (0, "text_delta", "![image](https://e.x)"), (0, "stop")),
        *((1, "start", text), (1, "text_delta", "spoken"), (1, "stop")),
        *((2, "start", use | {"input": {}}), (2, "input_json_delta", '{"q":1}'), (2, "stop")),
        *((3, "start", result), (3, "stop")),
    ]


def test_a_citation_may_come_before_its_text() -> None:
    found = blocks(
        PartStarted(0, Text("", (Citation("u"), Citation(title="no page")))),
        PartCited(0, Citation("v", "T", "q")),
        PartDelta(0, "a"),
    )
    location = {"type": "web_search_result_location", "encrypted_index": ""}
    assert found == [
        (0, "start", {"type": "text", "text": ""}),
        (0, "citations_delta", location | {"url": "u", "title": None, "cited_text": ""}),
        (0, "citations_delta", location | {"url": "v", "title": "T", "cited_text": "q"}),
        (0, "text_delta", "a"),
        (0, "stop"),
    ]


def test_a_refusal_is_text_and_the_reason() -> None:
    found = encoded(PartStarted(0, Refusal("")), PartDelta(0, "no"), PartEnded(0), Finished("stop"))
    assert found[-2]["delta"]["stop_reason"] == "refusal"
    assert encoded(PartStarted(0, ToolCall("c", "f", "")), Finished("stop"))[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_stream_that_breaks_ends_in_the_error() -> None:
    encoder = DIALECT.stream_encoder(REPLY)
    encoder.encode([PartStarted(0, Text("Hi"))])
    assert encoder.fail(b'{"type":"error"}', cut=False) == b'event: error\ndata: {"type":"error"}\n\n'
    found = [json.loads(sse.data_of(each)) for each in sse.split(encoder.fail(b'{"type":"error"}', cut=True))]
    assert [each["type"] for each in found] == ["content_block_stop", "message_delta", "error"]
    assert found[1]["delta"]["stop_reason"] == "max_tokens"
