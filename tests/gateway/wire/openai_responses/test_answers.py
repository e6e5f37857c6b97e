"""OpenAI's Responses, answers: whole and streamed, read from an upstream and written for a caller."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import marks
from gateway.wire.accumulate import fold, unfold
from gateway.wire.canonical import (
    Audio,
    Choice,
    Citation,
    CustomTool,
    Image,
    Inline,
    Logprob,
    Native,
    Refusal,
    Response,
    Text,
    Thinking,
    Tool,
    ToolCall,
    Url,
)
from gateway.wire.codec import Answer, Said, Unreadable
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
from gateway.wire.openai_responses import DIALECT
from gateway.wire.openai_responses.encoder import Encoder
from gateway.wire.usage import Tokens
from tests.gateway.wire.openai_responses.scenes import ANSWERS, REPLY, decoded, line, load, raw, told

replace = msgspec.structs.replace


def written(response: Response, **reply: Any) -> Any:
    return msgspec.json.decode(DIALECT.render_response(response, replace(REPLY, **reply), None))


def answer(*parts: Any, **more: Any) -> Response:
    return Response("r", "m", (Choice(parts, **more),))


def streamed(events: list[Event], **reply: Any) -> list[dict[str, Any]]:
    encoder = Encoder(replace(REPLY, **reply))
    return told(encoder.encode(events) + encoder.finish(b"0"))


def output(*items: Any, **more: Any) -> Response:
    return DIALECT.parse_response(msgspec.json.encode({"id": "r", "output": items, "status": "completed", **more}))


# --- Every scenario -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_in_one_piece_equals_its_stream_folded(name: str) -> None:
    assert fold(decoded([raw(name)])) == DIALECT.parse_response(raw(name, "response.json"))


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_is_the_same_however_it_is_cut(name: str) -> None:
    stream = raw(name)
    whole = decoded([stream])
    assert decoded([bytes([each]) for each in stream]) == whole
    for offset in range(0, len(stream), 7):
        assert decoded([stream[:offset], stream[offset:]]) == whole
    assert decoded([stream.replace(b"\n", b"\r\n")]) == whole


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_written_for_a_caller_reads_the_same(name: str) -> None:
    response = DIALECT.parse_response(raw(name, "response.json"))
    encoder = DIALECT.stream_encoder(REPLY)
    stream = encoder.encode(list(unfold(response))) + encoder.finish(b"0")
    expected = replace(response, id="resp_q1", model="my/model")
    assert fold(decoded([stream])) == expected
    assert DIALECT.parse_response(DIALECT.render_response(response, REPLY, None)) == expected
    # A live stream is cut otherwise than one that was unfolded, and ends the same.
    live = DIALECT.stream_encoder(REPLY)
    piecewise = b"".join(live.encode([event]) for event in decoded([raw(name)])) + live.finish(b"0")
    assert told(piecewise)[-1]["response"] == told(stream)[-1]["response"]


def without_ids(response: dict[str, Any]) -> dict[str, Any]:
    items = [{name: value for name, value in item.items() if name != "id"} for item in response["output"]]
    return {name: value for name, value in response.items() if name not in ("id", "model")} | {"output": items}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_whole_answer_keeps_its_form(name: str) -> None:
    given = load(name, "response.json")
    found = written(DIALECT.parse_response(raw(name, "response.json")), fields=given)
    assert without_ids(found) == without_ids(given)
    assert (found["id"], found["model"]) == ("resp_q1", "my/model")


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_is_numbered_and_done_in_order(name: str) -> None:
    response = DIALECT.parse_response(raw(name, "response.json"))
    events = streamed(list(unfold(response)))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events if not event["type"].endswith(".delta")]
    given = [event["type"] for event in told(raw(name)) if not event["type"].endswith(".delta")]
    passed_over = ("response.web_search_call", "response.content_part")
    assert [kind for kind in kinds if not kind.startswith(passed_over)] == [
        kind for kind in given if not kind.startswith(passed_over)
    ]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"]


# --- What upstreams leave out -------------------------------------------------------------------------------------


def test_a_stream_without_indexes_is_read_by_its_ids() -> None:
    response = fold(decoded([raw("llama_cpp")]))
    assert response.choices[0].parts == (Text(".<U"), ToolCall("fc_1", "f", '{"a":1}'))
    assert response.choices[0].finish == "tool_calls"
    assert response.usage == Tokens(input=22, output=3)


def test_ids_that_change_from_event_to_event_are_no_obstacle() -> None:
    stream = [
        line("response.output_item.added", output_index=0, item={"type": "message", "id": "a"}),
        line("response.output_text.delta", output_index=0, item_id="b", content_index=0, delta="x"),
        line("response.output_text.delta", output_index=0, item_id="c", content_index=0, delta="y"),
        line("response.output_item.done", output_index=0, item={"type": "message", "id": "d", "content": []}),
        line("response.completed", response={"status": "completed"}),
    ]
    assert decoded(stream)[1:] == [
        PartStarted(0, Text("")),
        PartDelta(0, "x"),
        PartDelta(0, "y"),
        PartEnded(0),
        Finished("stop"),
        Ended(),
    ]


MESSAGE = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "hi"}]}


@pytest.mark.parametrize(
    "stream",
    [
        [line("response.output_item.done", item=MESSAGE), line("response.completed", response={})],
        [line("response.completed", response={"output": [MESSAGE], "status": "completed"})],
        [
            line("response.output_text.done", item_id="m", text="hi"),
            line("response.output_text.done", item_id="m", text="hi"),
            line("response.completed", response={}),
        ],
        [
            line("response.output_item.added", item=MESSAGE),
            line("response.output_text.delta", delta="hi"),
            line("response.output_item.done", item={"type": "message"}),
            line("response.completed", response={}),
        ],
    ],
)
def test_what_only_comes_when_it_is_done_is_not_lost(stream: list[bytes]) -> None:
    events = decoded(stream)
    assert events[:1] == [Started("", "")]
    assert fold(events).choices == (Choice((Text("hi"),)),)


def test_what_comes_too_late_or_makes_no_sense_is_passed_over() -> None:
    events = decoded(
        [
            b": a comment\n\n",
            line("response.queued", response={"id": "r", "model": "m", "created_at": 5.5}),
            line("response.in_progress", response={"id": "r"}),
            line("response.output_item.added", item=3),
            line("response.output_item.done", item=3),
            line("response.output_item.added", output_index=0, item={"type": "message", "id": "m"}),
            line("response.output_text.delta", output_index=0, content_index=0, delta="a"),
            line("response.output_text.delta", output_index=0, content_index=0, delta=""),
            line("response.output_text.done", output_index=0, content_index=0, text=""),
            line("response.output_text.delta", output_index=0, content_index=1, delta="b"),
            line("response.output_text.delta", output_index=0, content_index=0, delta="late"),
            line("response.output_text.done", output_index=0, content_index=0, text="late"),
            line("response.output_text.annotation.added", output_index=0, content_index=1, annotation=None),
            line("response.output_item.done", output_index=0, item={"type": "message", "id": "m"}),
            line("response.function_call_arguments.delta", output_index=7, item_id="x", delta="{}"),
            line("response.function_call_arguments.delta", delta="{}"),
            line("response.reasoning_summary_text.delta", output_index=8, delta=""),
            line("response.output_text.delta", delta="z", item_id="n"),
            line("response.web_search_call.searching"),
            b"data: {}\n\n",
            line("response.completed", response={"usage": "none"}),
            line("response.output_text.delta", output_index=9, delta="after"),
            b"data: [DONE]\n\n",
        ]
    )
    assert fold(events) == Response("r", "m", (Choice((Text("a"), Text("b"), Text("z"))),), created=5)


@pytest.mark.parametrize("name", ANSWERS)
def test_items_that_are_only_told_when_they_are_done_make_the_same_answer(name: str) -> None:
    kept = ("response.created", "response.output_item.done", "response.completed", "response.incomplete")
    stream = [line(event.pop("type"), **event) for event in told(raw(name)) if event["type"] in kept]
    assert fold(decoded(stream)) == DIALECT.parse_response(raw(name, "response.json"))


def test_a_thought_without_a_text_is_none() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": ""}]}
    assert output(item).choices[0].parts == ()


def test_arguments_that_are_all_there_at_first_come_once() -> None:
    item = {"type": "function_call", "id": "f", "call_id": "c", "name": "n", "arguments": {"a": 1}}
    stream = [
        line("response.output_item.added", output_index=0, item=item),
        line("response.output_item.done", output_index=0, item=item),
        line("response.completed", response={}),
    ]
    assert fold(decoded(stream)).choices[0].parts == (ToolCall("c", "n", '{"a":1}'),)


def test_logprobs_that_only_come_when_all_is_done_are_read() -> None:
    item = load("logprobs", "response.json")["output"][0]
    stream = [line("response.output_item.done", item=item), line("response.completed", response={})]
    assert len(fold(decoded(stream)).choices[0].logprobs) == 2


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (line("error", code="rate", message="Slow", param=None), {"code": "rate", "message": "Slow", "param": None}),
        (line("error", error={"message": "No"}), {"message": "No"}),
        (b'data: {"error":"No"}\n\n', {"code": None, "message": "No", "param": None}),
        (b'event: error\ndata: {"message":"No"}\n\n', {"code": None, "message": "No", "param": None}),
        (line("response.failed", response={"error": {"code": "x"}}), {"code": "x"}),
        (line("response.failed", response=None), {"message": ""}),
        (line("response.completed", response={"status": "failed", "error": "No"}), {"message": "No"}),
    ],
)
def test_an_upstreams_error_ends_the_stream(event: bytes, error: dict[str, Any]) -> None:
    events = decoded([line("response.created", response={}), event, line("response.completed", response={})])
    assert events == [Started("", ""), Failed({"error": error})]
    parsed = DIALECT.parse_error(msgspec.json.encode({"error": error}))
    assert parsed.message == (error.get("message") or "")


def test_a_stream_without_its_end_is_not_complete() -> None:
    stream = raw("text")
    assert not any(isinstance(event, Ended) for event in decoded([stream[: stream.rindex(b"event:")]]))


@pytest.mark.parametrize("data", [b"data: x\n\n", b"data: []\n\n", b"data: 1\n\n", b"data: " + b"[" * 5000 + b"\n\n"])
def test_rubbish_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        decoded([data])


VALUES = st.sampled_from(
    [
        *(None, True, 0, -1, 2**70, 1.5, "", "m", [], [3], {}),
        *(
            {"type": "message", "id": "m", "content": [{"type": "output_text"}, 3]},
            {"type": "function_call", "id": "m"},
        ),
        *({"type": "reasoning", "summary": [{"text": "x"}], "encrypted_content": "y"}, {"type": 3}, {"type": "odd"}),
        *({"id": 3, "output": [{"type": "custom_tool_call"}]}, {"status": "incomplete", "usage": {"input_tokens": 1}}),
        [{"type": "output_text", "text": 3, "annotations": [{"type": "url_citation", "start_index": "x"}]}],
        [{"token": 3, "logprob": "x", "bytes": ["x"], "top_logprobs": 3}],
    ]
)
FIELDS = [
    *("item", "part", "delta", "response", "output_index", "item_id", "content_index", "text", "annotation", "error"),
    *("logprobs", "summary_index", "refusal", "code"),
]
KINDS = [*sorted({event["type"] for name in ANSWERS for event in told(raw(name))}), "error", "response.failed"]


@given(
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4)), max_size=6
    )
)
def test_hostile_events_raise_nothing_else(events: list[tuple[str, dict[str, Any]]]) -> None:
    found = decoded([line(kind, **more) for kind, more in events])
    encoder = Encoder(REPLY)
    assert told(encoder.encode(found) + encoder.finish(b"0"))[-1]["type"].startswith("response.")


@given(st.binary(max_size=60), VALUES)
def test_hostile_bytes_raise_nothing_else(data: bytes, value: Any) -> None:
    for body in (data, msgspec.json.encode({"output": value, "usage": value, "error": value, "status": value})):
        for read in (DIALECT.parse_response, DIALECT.read_answer, lambda each: decoded([b"data: " + each + b"\n\n"])):
            try:
                read(body)
            except Unreadable as error:
                assert "sent" in str(error)
        assert isinstance(DIALECT.parse_error(body), Said)


# --- Endings, usage and errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told_end", "finish"),
    [
        ({"status": "completed"}, "stop"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_messages"}}, "pause"),
        ({"status": "incomplete"}, "pause"),
        ({"status": "failed"}, "error"),
        ({"status": "cancelled"}, "error"),
    ],
)
def test_an_answers_status_tells_why_it_ended(told_end: dict[str, Any], finish: str) -> None:
    assert output(**told_end).choices[0].finish == finish


@pytest.mark.parametrize(
    ("choice", "status", "reason"),
    [
        (Choice((Text("x"),), "stop_sequence", "END"), "completed", None),
        (Choice((Text("x"),), "length"), "incomplete", "max_output_tokens"),
        (Choice((Text("x"),), "pause"), "incomplete", "max_output_tokens"),
        (Choice((Refusal("x"),), "refusal"), "completed", None),
        (Choice((Text("x"),), "refusal"), "incomplete", "content_filter"),
        (Choice((Text("x"),), "error"), "failed", None),
    ],
)
def test_why_an_answer_ended_is_told_by_its_status(choice: Choice, status: str, reason: str | None) -> None:
    found = written(Response("r", "m", (choice,)))
    assert (found["status"], (found["incomplete_details"] or {}).get("reason")) == (status, reason)
    assert (found["error"] is not None) == (status == "failed")
    assert found["output"][0]["status"] == ("completed" if status == "completed" else "incomplete")


USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (USAGE, Tokens(input=10, output=5)),
        (USAGE | {"total_tokens": None}, Tokens(input=10, output=5)),
        (USAGE | {"total_tokens": 18}, Tokens(input=10, output=5, reasoning=3)),
        (
            USAGE | {"total_tokens": 18, "output_tokens_details": {"reasoning_tokens": 3}},
            Tokens(input=10, output=5, reasoning=3),
        ),
        (
            USAGE | {"total_tokens": 18, "output_tokens_details": {"reasoning_tokens": 2}},
            Tokens(input=10, output=6, reasoning=2, sound=False),
        ),
        (USAGE | {"total_tokens": 3}, Tokens(input=10, output=5, sound=False)),
        (
            USAGE | {"input_tokens_details": {"cached_tokens": 4, "audio_tokens": 1, "image_tokens": 2}},
            Tokens(input=3, cache_read=4, audio_input=1, image_input=2, output=5),
        ),
        (USAGE | {"input_tokens_details": {"cached_tokens": 40}}, Tokens(cache_read=10, output=5, sound=False)),
        (USAGE | {"output_tokens_details": {"audio_tokens": 5}}, Tokens(input=10, audio_output=5)),
        (USAGE | {"num_sources_used": 2}, Tokens(input=10, output=5, web_searches=2)),
        ({"input_tokens": -1, "output_tokens": 5}, None),
        ({"input_tokens": 1}, None),
        ("x", None),
    ],
)
def test_usage_is_read_as_disjoint_parts(usage: Any, tokens: Tokens | None) -> None:
    body = msgspec.json.encode({"usage": usage, "service_tier": "default"})
    assert DIALECT.read_answer(body) == Answer(tokens)
    assert DIALECT.parse_response(body).usage == tokens


def test_searches_are_counted_in_the_output_where_nothing_counts_them() -> None:
    output = [
        {"type": "web_search_call", "action": {"type": "search"}},
        {"type": "web_search_call", "action": {"type": "open_page"}},
        {"type": "web_search_call"},
        3,
    ]
    body = msgspec.json.encode({"usage": USAGE, "output": output, "service_tier": "Flex"})
    expected = Tokens(input=10, output=5, web_searches=2, service_tier="flex")
    assert DIALECT.read_answer(body).usage == expected
    assert written(Response("r", "m", (), expected))["tool_usage"] == {"web_search": {"num_requests": 2}}


def test_every_part_of_the_usage_is_written() -> None:
    tokens = replace(Tokens(*range(1, 11)), service_tier="flex")
    found = DIALECT.render_response(Response("r", "m", (Choice(()),), tokens), REPLY, b"0.0010")
    assert DIALECT.parse_response(found).usage == tokens
    assert b'"cost":0.0010' in found


def test_an_answer_that_passes_is_renamed_and_priced() -> None:
    body = b'{"output":[{"model":"x"}], "model": "gpt-5", "usage":{"input_tokens":1e400}}'
    assert DIALECT.renamed(body, 'a"b', None) == body.replace(b'"gpt-5"', b'"a\\"b"')
    assert DIALECT.renamed(body, "m", b"0.5").endswith(b'"usage":{"input_tokens":1e400,"cost":0.5}}')
    assert DIALECT.renamed(b'{"model":"x"}', "m", b"0.5") == b'{"model":"m"}'
    assert DIALECT.read_answer(b'{"error":{"message":"x"}}').is_error


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "m", "code": "c", "param": "p"}}, Said("m", "c", "p")),
        ({"error": {"message": "m", "code": 400, "type": "bad"}}, Said("m", "bad")),
        ({"error": "m"}, Said("m")),
        ({"type": "error", "message": "m", "code": None}, Said("m")),
        ({"detail": "m"}, Said("m")),
        ([], Said()),
    ],
)
def test_an_upstreams_error_is_read(body: Any, said: Said) -> None:
    assert DIALECT.parse_error(msgspec.json.encode(body)) == said
    assert DIALECT.parse_error(b"<html>") == Said()


# --- What other dialects bring ------------------------------------------------------------------------------------


def test_a_foreign_thought_is_a_summary_sealed_with_its_origin() -> None:
    thought = Thinking("Hm", "sig", "anthropic_messages", "t1")
    item = written(answer(thought, Text("x")))["output"][0]
    assert item["summary"] == [{"type": "summary_text", "text": "Hm"}]
    assert item["encrypted_content"].startswith(marks.mark("sig", "anthropic_messages", "t1"))
    unsigned = written(answer(Thinking("Hm"), Text("x")))["output"][0]
    assert unsigned["summary"] == item["summary"]
    assert unsigned["encrypted_content"].startswith(marks.MARK)


def test_pieces_of_one_thought_are_one_item_and_signed_ones_are_their_own() -> None:
    parts = (
        Thinking("a", id="t", is_summary=True),
        Thinking("b", "s1", "x", id="t", is_summary=True),
        Thinking("c", "s2", "x", id="t", is_summary=True),
        Thinking("", "s3", "x", redacted=True),
    )
    items = written(answer(*parts))["output"]
    assert [len(item["summary"]) for item in items] == [2, 1, 0]
    assert items[2]["encrypted_content"].endswith(".redacted")


def test_a_call_carries_its_signature_in_its_id() -> None:
    call = ToolCall("c", "f", "{}", signature="s", origin="gemini_generate_content")
    item = written(answer(call, ToolCall("", "g", "{}")))["output"]
    assert marks.unsigned_id(item[0]["call_id"]) == ("c", "s", "gemini_generate_content")
    assert item[1]["call_id"] == "call_q1_1"


def test_a_custom_tool_that_was_a_function_is_custom_again() -> None:
    tools = (CustomTool("patch", namespace="fs"), CustomTool("tell"), Tool("spawn", namespace="agents"))
    parts = (
        ToolCall("a", "fs__patch", '{"input":"*** x"}'),
        ToolCall("b", "agents__spawn", ""),
        ToolCall("c", "tell", "hey", custom=True),
    )
    items = written(answer(*parts), tools=tools)["output"]
    assert [(item["type"], item["name"], item.get("namespace")) for item in items] == [
        ("custom_tool_call", "patch", "fs"),
        ("function_call", "spawn", "agents"),
        ("custom_tool_call", "tell", None),
    ]
    assert (items[0]["input"], items[1]["arguments"], items[2]["input"]) == ("*** x", "", "hey")
    deltas = [event for event in streamed(list(unfold(answer(*parts))), tools=tools) if "delta" in event]
    assert [event["delta"] for event in deltas] == ["*** x", "hey"]


def test_pictures_sounds_and_foreign_searches() -> None:
    parts = (
        Image(Inline("image/png", "iVBO")),
        Image(Url("https://example.com/a.png")),
        Audio(Inline("audio/wav", "UklG"), "Spoken"),
        Audio(Inline("audio/wav", "UklG")),
        Native("anthropic_messages", "server_tool_use", {}),
        Text("End"),
    )
    items = written(answer(*parts))["output"]
    assert [item["type"] for item in items] == ["image_generation_call", "message"]
    assert items[0]["result"] == "iVBO"
    assert [part["text"] for part in items[1]["content"]] == ["Spoken", "End"]


def test_citations_without_an_address_name_a_file() -> None:
    text = Text("Rain.", (Citation(url="https://e.com", title="T"), Citation(title="a.pdf", quote="q")))
    (message,) = written(answer(text))["output"]
    assert message["content"][0]["annotations"] == [
        {"type": "url_citation", "url": "https://e.com", "title": "T", "start_index": 0, "end_index": 5},
        {"type": "file_citation", "file_id": "", "filename": "a.pdf", "index": 0},
    ]
    read = output(
        {"type": "message", "content": [{"type": "output_text", "text": "x", "annotations": [{"type": "file_path"}]}]}
    )
    assert read.choices[0].parts == (Text("x"),)


def test_only_the_first_of_several_answers_is_told() -> None:
    response = Response("r", "m", (Choice((Text("a"),)), Choice((Text("b"),))))
    assert written(response)["output"][0]["content"][0]["text"] == "a"


def test_parts_that_overlap_are_done_when_each_of_them_is() -> None:
    events: list[Event] = [
        PartStarted(0, Text("")),
        PartDelta(0, "a"),
        PartStarted(1, ToolCall("c", "f", "{")),
        PartStarted(2, ToolCall("d", "g", "")),
        PartDelta(1, "}"),
        PartEnded(1),
        PartDelta(0, "b"),
        PartEnded(0),
        PartCited(0, Citation(url="u")),
        PartCited(9, Citation(url="u")),
        PartSigned(9, "s", "x"),
        PartSigned(2, "s", "x"),
        PartDelta(9, "?"),
        PartEnded(9),
        Used(Tokens(output=1)),
        Finished("tool_calls"),
        Ended(),
    ]
    found = streamed(events)
    done = [event["output_index"] for event in found if event["type"] == "response.output_item.done"]
    assert done == [1, 0, 2]
    items = found[-1]["response"]["output"]
    assert items[0]["content"][0]["text"] == "ab"
    assert items[1]["arguments"] == "{}"


def test_a_text_that_is_begun_with_some_of_itself_is_whole() -> None:
    events: list[Event] = [
        PartStarted(0, Thinking("T", id="rs_1")),
        PartEnded(0),
        PartStarted(1, Text("A")),
        PartDelta(1, "B"),
        PartEnded(1),
        PartStarted(2, Refusal("C")),
        PartEnded(2),
        Finished("stop"),
    ]
    found = streamed(events)[-1]["response"]["output"]
    assert found[0]["content"] == [{"type": "reasoning_text", "text": "T"}]
    assert [part.get("text", part.get("refusal")) for part in found[1]["content"]] == ["AB", "C"]


def test_texts_of_one_message_may_end_in_any_order() -> None:
    events: list[Event] = [
        PartStarted(0, Text("a")),
        PartStarted(1, Text("b")),
        PartStarted(2, ToolCall("c", "f", "")),
        PartEnded(2),
        PartEnded(1),
        PartDelta(0, "c"),
        PartEnded(0),
        Finished("tool_calls"),
    ]
    found = streamed(events)
    assert [event["output_index"] for event in found if event["type"] == "response.output_item.done"] == [1, 0]
    assert [part["text"] for part in found[-1]["response"]["output"][0]["content"]] == ["ac", "b"]


LIKELY = (Logprob("a", -0.5, None, (Logprob("b", -1, (98,)),)),)


def test_logprobs_stand_with_their_text_wherever_they_come() -> None:
    events: list[Event] = [
        Likely(LIKELY),
        PartStarted(0, Text("")),
        PartDelta(0, "a"),
        Likely(LIKELY),
        PartEnded(0),
        Likely(LIKELY),
        PartStarted(1, ToolCall("c", "f", "")),
        PartDelta(1, "{}"),
        Likely(LIKELY),
        PartEnded(1),
        Finished("tool_calls"),
    ]
    found = streamed(events)
    deltas = [len(event["logprobs"]) for event in found if event["type"] == "response.output_text.delta"]
    assert deltas == [1, 1]
    part = found[-1]["response"]["output"][0]["content"][0]
    assert part["logprobs"][0]["top_logprobs"] == [{"token": "b", "logprob": -1.0, "bytes": [98]}]
    assert len(part["logprobs"]) == 3


def test_logprobs_of_a_text_that_is_done_stand_in_its_message() -> None:
    events: list[Event] = [
        PartStarted(0, Text("a")),
        PartEnded(0),
        PartStarted(1, Refusal("b")),
        Likely(LIKELY),
        PartEnded(1),
        Finished("stop"),
    ]
    part = streamed(events)[-1]["response"]["output"][0]["content"][0]
    assert [each["token"] for each in part["logprobs"]] == ["a"]


# --- Streams that break -------------------------------------------------------------------------------------------

ERROR = b'{"error":{"message":"No credit left.","type":"billing","code":"insufficient_quota","param":null}}'


def test_a_stream_that_fails_says_why() -> None:
    encoder = Encoder(REPLY)
    found = told(encoder.fail(b"{}", cut=False))
    assert [event["type"] for event in found] == ["response.created", "response.in_progress", "response.failed"]
    assert found[-1]["response"]["error"] == {"code": "server_error", "message": "The answer was broken off."}


def test_a_stream_that_is_cut_names_the_reason_and_ends_as_incomplete() -> None:
    encoder = Encoder(REPLY)
    whole: list[Event] = [
        PartStarted(0, ToolCall("c", "f", "{}")),
        PartEnded(0),
        PartStarted(1, Text("")),
        PartDelta(1, "Half"),
    ]
    encoder.encode(whole)
    error, end = told(encoder.fail(ERROR, cut=True))
    assert (error["type"], error["code"], error["message"]) == ("error", "insufficient_quota", "No credit left.")
    assert end["type"] == "response.incomplete"
    assert end["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in end["response"]["output"]] == ["completed", "incomplete"]
    assert end["sequence_number"] == error["sequence_number"] + 1


def test_an_answer_without_anything_is_an_answer() -> None:
    found = told(Encoder(replace(REPLY, wants_cost=True)).finish(b"0.1"))
    assert found[-1]["response"]["output"] == []
    assert found[-1]["response"]["usage"] is None
