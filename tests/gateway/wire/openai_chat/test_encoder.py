"""What a caller of this dialect gets of another's answer: as OpenAI's own library reads it, and able to come back."""

import json
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.wire import sse
from gateway.wire.accumulate import unfold
from gateway.wire.canonical import (
    Audio,
    Choice,
    Citation,
    CustomTool,
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
    Tool,
    ToolCall,
    Url,
)
from gateway.wire.codec import Reply
from gateway.wire.events import (
    Event,
    Finished,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    Used,
)
from gateway.wire.openai_chat import DIALECT
from gateway.wire.usage import Tokens

REPLY = Reply("7", "mine", 7)
TOKENS = Tokens(input=9, output=3)


def chunks(events: list[Event], reply: Reply = REPLY, cost: bytes = b"0.25") -> list[Any]:
    encoder = DIALECT.stream_encoder(reply)
    stream = encoder.encode(events) + encoder.finish(cost)
    assert stream.endswith(b"data: [DONE]\n\n")
    return [json.loads(sse.data_of(event)) for event in sse.split(stream)[:-1]]


def answer(*parts: Part, finish: Any = "stop", **fields: Any) -> Response:
    return Response("msg_1", "up", (Choice(parts, finish),), TOKENS, 5, **fields)


def folded(response: Response, reply: Reply = REPLY) -> ChatCompletion:
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for chunk in chunks(list(unfold(response)), reply):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    return state.get_final_completion()


def whole(response: Response, reply: Reply = REPLY, cost: bytes | None = None) -> Any:
    return json.loads(DIALECT.render_response(response, reply, cost))


# --- The library as judge -------------------------------------------------------------------------------------------
def test_the_library_reads_text_thoughts_calls_and_usage() -> None:
    response = answer(
        Thinking("Hm", "sig", "anthropic_messages"),
        Thinking("So", is_summary=True, id="rs_1"),
        Text("One.", (Citation("u", "t", "q"),)),
        Text(" Two.", (Citation("v", start=1, end=4),)),
        ToolCall("a", "f", '{"x":1}'),
        ToolCall("b", "g", "{}"),
        finish="tool_calls",
    )
    found = folded(response)
    assert (found.id, found.object, found.created, found.model) == ("msg_1", "chat.completion", 5, "mine")
    message = found.choices[0].message
    assert (message.role, message.content) == ("assistant", "One. Two.")
    assert found.choices[0].finish_reason == "tool_calls"
    assert [(call.id, call.type) for call in message.tool_calls or ()] == [("a", "function"), ("b", "function")]
    assert found.usage is not None and found.usage.total_tokens == 12
    cited = message.annotations or []
    assert [(each.url_citation.start_index, each.url_citation.end_index) for each in cited] == [(0, 4), (5, 8)]
    extra = message.model_extra or {}
    assert extra["reasoning_content"] == "Hm\n\nSo"
    written = whole(response)["choices"][0]["message"]
    assert [each | {"index": 0} for each in extra["reasoning_details"]] == [
        each | {"index": 0} for each in written["reasoning_details"]
    ]
    assert ChatCompletion.model_validate(whole(response)).choices[0].message.content == "One. Two."


def test_the_library_reads_refusals_sound_and_likelihoods() -> None:
    likely = (Logprob("Hi", -0.5, (72, 105), (Logprob("Ho", -1.5),)),)
    response = Response("", "up", (Choice((Refusal("No."),), "refusal", "", likely),))
    found = folded(response)
    assert found.choices[0].message.refusal == "No."
    assert found.choices[0].finish_reason == "stop"
    assert found.choices[0].logprobs is not None and found.choices[0].logprobs.content is not None
    assert found.choices[0].logprobs.content[0].top_logprobs[0].token == "Ho"
    assert (found.id, found.created) == ("chatcmpl-7", 7)
    spoken = folded(answer(Audio(Inline("", "AA=="), "Hello", "audio_1"))).choices[0].message
    assert spoken.audio is not None and spoken.audio.transcript == "Hello"
    assert whole(answer(Audio(None, "Hello")))["choices"][0]["message"]["audio"]["data"] == ""


# --- What only this gateway does ------------------------------------------------------------------------------------
def test_the_first_chunk_of_each_choice_says_who_speaks_and_the_last_ones_are_kept_back() -> None:
    two = Response("a", "up", (Choice((Text("x"),)), Choice((), "length")), TOKENS)
    encoder = DIALECT.stream_encoder(REPLY)
    stream = encoder.encode(list(unfold(two)))
    assert b'"role":"assistant","content":"x"' in stream
    assert b'"finish_reason":"' not in stream and b"usage" not in stream
    last = [json.loads(sse.data_of(event)) for event in sse.split(encoder.finish(b"1"))[:-1]]
    assert [chunk["choices"][0]["finish_reason"] for chunk in last[:2]] == ["stop", "length"]
    assert last[1]["choices"][0]["delta"] == {"role": "assistant"}
    assert last[2]["choices"] == [] and last[2]["usage"]["total_tokens"] == 12


@pytest.mark.parametrize(("wants_usage", "wants_cost"), [(False, False), (True, False), (True, True)])
def test_usage_and_cost_are_shown_to_whom_asks(wants_usage: bool, wants_cost: bool) -> None:
    reply = Reply("7", "mine", 7, wants_usage=wants_usage, wants_cost=wants_cost)
    events: list[Event] = [Used(Tokens(input=1, service_tier="flex"))]
    found = chunks(events, reply)
    assert len(found) == wants_usage
    if wants_usage:
        assert found[0]["usage"].get("cost") == (0.25 if wants_cost else None)
        assert (found[0]["service_tier"], found[0]["id"], found[0]["choices"]) == ("flex", "chatcmpl-7", [])
    assert whole(answer(Text("x")), cost=b"0.25")["usage"]["cost"] == 0.25
    assert "usage" not in whole(Response("", "", ()))


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_a_stream_that_broke_says_why_and_whether_it_was_cut(begun: bool, cut: bool) -> None:
    encoder = DIALECT.stream_encoder(REPLY)
    if begun:
        encoder.encode([Started("a", "up"), PartStarted(0, Text("")), PartDelta(0, "x")])
    found = [json.loads(sse.data_of(event)) for event in sse.split(encoder.fail(b'{"error":1}', cut=cut))]
    assert found[-1] == {"error": 1}
    assert [each["choices"][0]["finish_reason"] for each in found[:-1]] == ["length"] * cut


def test_another_vendor_s_signatures_come_back_behind_marks() -> None:
    call = ToolCall("c1", "f", "{}", signature="s", origin="gemini_generate_content")
    hidden = Thinking("", "enc", "openai_responses", id="rs_1", redacted=True)
    response = answer(Thinking("Hm", "sig", "anthropic_messages"), hidden, Text("x"), call)
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for chunk in chunks(list(unfold(response))):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    streamed = state.current_completion_snapshot.choices[0].message.to_dict()
    for message in (whole(response)["choices"][0]["message"], streamed):
        body = json.dumps({"model": "m", "messages": [message]}).encode()
        request = DIALECT.parse_request(DIALECT.read(body, None, None))
        assert request.messages[0].parts == response.choices[0].parts


def test_a_signature_that_comes_late_is_told_beside_the_call() -> None:
    events: list[Event] = [PartStarted(0, ToolCall("c1", "f", "")), PartDelta(0, "{}")]
    encoder = DIALECT.stream_encoder(REPLY)
    encoder.encode(events)
    for origin in ("gemini_generate_content", "openai_chat"):
        late = json.loads(sse.data_of(encoder.encode([PartSigned(0, "s", origin)])))
        shown = late["choices"][0]["delta"]["tool_calls"][0]["extra_content"]["google"]["thought_signature"]
        assert (shown == "s") is (origin == "openai_chat")


def test_custom_tools_and_namespaces_are_what_the_caller_offered() -> None:
    reply = Reply("7", "mine", 7, tools=(CustomTool("patch"), Tool("now", namespace="clock")))
    response = answer(
        ToolCall("a", "patch", '{"input":"*** Begin"}'),
        ToolCall("b", "now", "{}", namespace="clock"),
        finish="tool_calls",
    )
    expected = [
        {"id": "a", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}},
        {"id": "b", "type": "function", "function": {"name": "clock__now", "arguments": "{}"}},
    ]
    assert whole(response, reply)["choices"][0]["message"]["tool_calls"] == expected
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(list(unfold(response)), reply) if chunk["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert {"index": 0, **expected[0]} in calls


def test_what_has_no_place_in_an_answer_is_left_out() -> None:
    unknown: tuple[Part, ...] = (
        Native("anthropic_messages", "server_tool_use", {}),
        Document(Url("u")),
        Image(FileId("x", "y")),
        Image(Url("u")),
    )
    assert whole(answer(*unknown))["choices"][0]["message"]["images"] == [
        {"type": "image_url", "image_url": {"url": "u"}, "index": 0}
    ]
    odd: list[Event] = [PartDelta(0, "x"), PartStarted(9, unknown[0]), PartDelta(9, "x"), PartSigned(8, "s", "o")]
    events = [*unfold(answer(*unknown)), *odd, PartStarted(0, Text(""), choice=1)]
    assert sum("images" in chunk["choices"][0]["delta"] for chunk in chunks(events) if chunk["choices"]) == 1


def test_parts_that_begin_with_what_they_hold_are_told_whole() -> None:
    events: list[Event] = [
        Started("a", "up"),
        PartStarted(0, Thinking("Hm", "s", "anthropic_messages")),
        PartDelta(0, "m"),
        PartEnded(0),
        PartStarted(1, Text("x")),
        PartCited(1, Citation("u")),
        PartEnded(1),
        Finished("refusal"),
    ]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(events)]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hmm"
    assert deltas[3]["content"] == "x"
    assert chunks(events)[-1]["choices"][0]["finish_reason"] == "content_filter"
