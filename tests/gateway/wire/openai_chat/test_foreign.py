"""What another dialect's caller asks for, as every upstream of this format understands it, and what of it is lost."""

import base64
import json
from typing import Any

import pytest

from gateway.wire import marks
from gateway.wire.canonical import (
    Audio,
    Citation,
    CustomTool,
    Document,
    FileId,
    Image,
    Inline,
    Message,
    Native,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Request,
    Role,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
)
from gateway.wire.codec import Rendered, Unsupported
from gateway.wire.openai_chat import DIALECT, with_limit_named

PNG = Image(Inline("image/png", "iVBORw0KGgo="))
PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
PDF = Inline("application/pdf", "JVBERi0=")


def rendered(
    *messages: Message, cap: int | None = None, dialect: str = "anthropic_messages", **fields: Any
) -> Rendered:
    return DIALECT.render_request(Request(dialect=dialect, model="m", messages=messages, **fields), "up", cap)


def said(role: Role, *parts: Part) -> Message:
    return Message(role, parts)


def messages_of(*messages: Message, **fields: Any) -> tuple[Any, tuple[str, ...]]:
    found = rendered(*messages, **fields)
    return json.loads(found.body)["messages"], found.dropped


def body_of(**fields: Any) -> tuple[Any, tuple[str, ...]]:
    found = rendered(said("user", Text("Hi")), **fields)
    body = json.loads(found.body)
    assert (body.pop("model"), body.pop("messages")) == ("up", [{"role": "user", "content": "Hi"}])
    return body, found.dropped


# --- The conversation -----------------------------------------------------------------------------------------------
def test_text_is_a_plain_string_for_small_upstreams_know_nothing_else() -> None:
    found, dropped = messages_of(
        said("system", Text("One", cache="5m"), Text("Two")), said("user", Text("Three", citations=(Citation(),)))
    )
    assert found == [{"role": "system", "content": "One\nTwo"}, {"role": "user", "content": "Three"}]
    assert dropped == ("cache_control", "citations")


def test_pictures_of_a_tool_s_result_follow_in_the_user_s_message() -> None:
    calls = said("assistant", ToolCall("c1", "look", "{}"), ToolCall("c2", "look", "{}"))
    results = said("tool", ToolResult("c1", (Text("Seen"), PNG), is_error=True), ToolResult("c2", (PNG,), name="look"))
    label = {"type": "text", "text": "The result of c1:"}
    for behind in ((said("user", Text("So?")),), (said("assistant", Text("Nice")),), ()):
        found, dropped = messages_of(calls, results, *behind)
        assert found[1:3] == [
            {"role": "tool", "tool_call_id": "c1", "content": "Seen"},
            {"role": "tool", "tool_call_id": "c2", "content": "", "name": "look"},
        ]
        assert found[3]["content"][:2] == [label, PNG_PART]
        assert found[3]["content"][2]["text"] == "The result of look:"
        assert dropped == ("tool_result.image", "tool_result.is_error")


def test_a_thought_that_another_vendor_signed_is_left_out_and_one_that_nobody_signed_is_not() -> None:
    signed = Thinking("Deep", "sig", "anthropic_messages")
    found, dropped = messages_of(said("assistant", signed, Text("Well")), said("assistant", Thinking("a"), signed))
    assert found == [{"role": "assistant", "content": "Well"}]
    assert dropped == ("thinking",)
    found, dropped = messages_of(said("assistant", Thinking("One"), Thinking(""), Thinking("Two"), Text("Well")))
    assert found == [{"role": "assistant", "content": "Well", "reasoning_content": "One\n\nTwo"}]
    assert dropped == ()


def test_a_thought_of_this_dialect_s_own_goes_back_with_its_signature() -> None:
    found, _ = messages_of(said("assistant", Thinking("Deep", "a|b", "openai_chat"), Text("Well")))
    detail = {"type": "reasoning.text", "index": 0, "text": "Deep", "format": "a", "signature": "b"}
    assert found == [{"role": "assistant", "content": "Well", "reasoning_details": [detail]}]


def test_calls_of_tools_keep_their_ids_and_lose_another_vendor_s_signature() -> None:
    signed = ToolCall("c1", "run", "{}", namespace="mcp", signature="s", origin="gemini_generate_content")
    found, dropped = messages_of(said("assistant", signed, ToolCall("c2", "patch", "*** Begin", custom=True)))
    assert [call["id"] for call in found[0]["tool_calls"]] == ["c1", "c2"]
    assert found[0]["tool_calls"][0] == {
        "id": "c1",
        "type": "function",
        "function": {"name": "mcp__run", "arguments": "{}"},
    }
    assert json.loads(found[0]["tool_calls"][1]["function"]["arguments"]) == {"input": "*** Begin"}
    assert dropped == ()


def test_a_call_whose_id_is_too_long_for_openai_and_its_result_have_the_same_shorter_one() -> None:
    id = "call_01a1faab-2d39-78a4-9bb9-82f33565e7c5_1"
    found, _ = messages_of(said("assistant", ToolCall(id, "run", "{}")), said("tool", ToolResult(id, (Text("x"),))))
    assert found[0]["tool_calls"][0]["id"] == found[1]["tool_call_id"]
    assert len(found[1]["tool_call_id"]) <= 40


@pytest.mark.parametrize(
    ("part", "written", "dropped"),
    [
        (Document(PDF, "a.pdf"), {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}, ()),
        (Document(Inline("", "JVBERi0=")), {"file_data": "JVBERi0=", "filename": "document.pdf"}, ()),
        (
            Document(PDF, context="c", cites=True, cache="1h"),
            {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "document.pdf"},
            ("cache_control", "citations", "document.context"),
        ),
        (Document(FileId("openai_chat", "f1"), "x"), {"file_id": "f1", "filename": "x"}, ()),
        (
            Document(Inline("text/plain", "/w==")),
            {"file_data": "data:text/plain;base64,/w==", "filename": "document.pdf"},
            (),
        ),
        (
            Document(Inline("text/plain", "x")),
            {"file_data": "data:text/plain;base64,x", "filename": "document.pdf"},
            (),
        ),
    ],
)
def test_files(part: Document, written: Any, dropped: tuple[str, ...]) -> None:
    found, lost = messages_of(said("user", part))
    assert found[0]["content"] == [{"type": "file", "file": written}]
    assert lost == dropped


def test_a_file_of_text_is_text() -> None:
    text = base64.b64encode(b"abc").decode()
    found, _ = messages_of(
        said("user", Document(Inline("text/plain", text), "a.txt"), Document(Inline("text/csv", text)))
    )
    assert found[0]["content"] == "a.txt\nabc\nabc"


@pytest.mark.parametrize(
    ("media_type", "written"),
    [("audio/wav", "wav"), ("audio/mpeg", "mp3"), ("audio/x-wav", "wav"), ("audio/ogg", "ogg")],
)
def test_sound(media_type: str, written: str) -> None:
    found, _ = messages_of(said("user", Audio(Inline(media_type, "AA=="))))
    assert found[0]["content"] == [{"type": "input_audio", "input_audio": {"data": "AA==", "format": written}}]


def test_what_an_assistant_said_aloud_is_its_transcript() -> None:
    found, dropped = messages_of(said("assistant", Audio(Inline("audio/wav", "AA=="), "Hello", "audio_1")))
    assert (found, dropped) == ([{"role": "assistant", "content": "Hello"}], ("audio",))


@pytest.mark.parametrize(
    "message",
    [
        said("user", Audio(None, id="a")),
        said("user", Audio(Url("https://example.com/a.wav"))),
        said("user", Image(FileId("anthropic_messages", "f"))),
        said("user", Document(FileId("anthropic_messages", "f"))),
        said("user", Document(Inline("video/mp4", "AA=="))),
        said("user", Document(Url("https://example.com/a.pdf"))),
        said("user", Native("anthropic_messages", "container_upload", {})),
        said("user", ToolCall("c", "f", "{}")),
        said("tool", Text("Hi")),
        said("assistant", Audio(Inline("audio/wav", "AA=="))),
        said("assistant", PNG),
        said("assistant", Document(PDF)),
        said("tool", ToolResult("c", (Document(Url("https://example.com/a.pdf")),))),
    ],
)
def test_content_that_cannot_be_carried_is_named_and_never_lost(message: Message) -> None:
    with pytest.raises(Unsupported) as refused:
        rendered(message)
    assert refused.value.code == "unsupported_content"
    assert refused.value.param.startswith("messages")
    assert "messages" in str(refused.value)


def test_a_vendor_s_own_search_is_left_out_and_named() -> None:
    found, dropped = messages_of(
        said("assistant", Native("anthropic_messages", "web_search_tool_result", {}), Text("So")),
        said("user", Native("openai_chat", "video_url", {"type": "video_url", "video_url": {"url": "u"}})),
    )
    assert found[0]["content"] == "So"
    assert found[1]["content"] == [{"type": "video_url", "video_url": {"url": "u"}}]
    assert dropped == ("web_search_tool_result",)
    assert messages_of(said("user", Native("anthropic_messages", "mcp_tool_use", {}))) == ([], ("mcp_tool_use",))
    assert messages_of(said("assistant", Thinking("a"))) == ([], ("thinking",))


def test_refusals_stay_with_who_refused() -> None:
    found, _ = messages_of(said("assistant", Refusal("No"), Refusal(".")), said("user", Refusal("Why")))
    assert found[0] == {"role": "assistant", "content": None, "refusal": "No."}
    assert found[1]["content"] == [{"type": "refusal", "refusal": "Why"}]


def test_an_assistant_s_own_pictures_go_back_where_they_were_made() -> None:
    found, _ = messages_of(said("assistant", PNG, Audio(None, id="a1")), dialect="openai_chat")
    assert found == [{"role": "assistant", "content": None, "images": [PNG_PART], "audio": {"id": "a1"}}]
    with pytest.raises(Unsupported):
        rendered(said("assistant", Image(FileId("openai_chat", "f"))), dialect="openai_chat")


# --- Tools and tuning -----------------------------------------------------------------------------------------------
def test_custom_tools_are_functions_and_server_tools_are_left_out() -> None:
    tools = (
        CustomTool("patch", "Patch", {"type": "grammar", "definition": "g"}),
        Tool("now", namespace="clock", extras={"defer_loading": True}),
        ServerTool("anthropic_messages", "web_search", {}),
    )
    body, dropped = body_of(tools=tools, tool_choice=ToolChoice("required", ("patch",)), parallel_tool_calls=True)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["patch", "clock__now"]
    assert body["tools"][0]["function"]["parameters"]["required"] == ["input"]
    assert body["tools"][1] == {
        "type": "function",
        "function": {"name": "clock__now", "parameters": {"type": "object", "properties": {}}},
    }
    assert body["tool_choice"] == {"type": "function", "function": {"name": "patch"}}
    assert body["parallel_tool_calls"] is True
    assert dropped == ("tools.defer_loading", "tools.web_search")


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_of_several_tools_that_may_be_called_the_others_are_left_out(names: tuple[str, ...]) -> None:
    body, _ = body_of(tools=(Tool("a"), Tool("b"), Tool("c")), tool_choice=ToolChoice("auto", names))
    assert [tool["function"]["name"] for tool in body["tools"]] == list(names)
    assert body["tool_choice"] == "auto"


@pytest.mark.parametrize(("mode", "dropped"), [("none", ()), ("required", ("tool_choice",))])
def test_without_tools_there_is_nothing_to_choose(mode: Any, dropped: tuple[str, ...]) -> None:
    assert body_of(tool_choice=ToolChoice(mode), parallel_tool_calls=False) == ({}, dropped)


@pytest.mark.parametrize(
    ("fields", "written", "dropped"),
    [
        ({"reasoning": Reasoning(effort="max")}, {"reasoning_effort": "xhigh"}, ()),
        ({"reasoning": Reasoning(budget_tokens=4000)}, {"reasoning_effort": "low"}, ()),
        ({"reasoning": Reasoning(budget_tokens=-1, summary="auto")}, {}, ("reasoning.summary",)),
        ({"top_k": 5}, {}, ("top_k",)),
        ({"service_tier": "standard_only"}, {}, ("service_tier",)),
        ({"service_tier": "flex"}, {"service_tier": "flex"}, ()),
        ({"extensions": {"container": 1, "betas": []}}, {}, ("betas", "container")),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}, ()),
        ({"choices": 3}, {"n": 3}, ()),
        ({"modalities": ("image",)}, {"modalities": ["text", "image"]}, ()),
        ({"metadata": {"a": "b"}, "user": "u"}, {"metadata": {"a": "b"}, "user": "u"}, ()),
        ({"output": OutputFormat()}, {"response_format": {"type": "json_object"}}, ()),
        (
            {"output": OutputFormat({"type": "object"})},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}},
                }
            },
            (),
        ),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}, ()),
        ({"max_tokens": 9}, {"max_tokens": 9}, ()),
    ],
)
def test_tuning_is_carried_or_named(fields: Any, written: Any, dropped: tuple[str, ...]) -> None:
    assert body_of(**fields) == (written, dropped)


def test_the_answer_s_limit_is_the_smaller_one_under_the_name_that_an_upstream_knows() -> None:
    found = rendered(said("user", Text("Hi")), max_tokens=9, cap=5)
    assert json.loads(found.body)["max_tokens"] == 5
    assert with_limit_named(found, "max_tokens") is found
    named = json.loads(with_limit_named(found, "max_completion_tokens").body)
    assert named["max_completion_tokens"] == 5 and "max_tokens" not in named
    without = rendered(said("user", Text("Hi")))
    assert with_limit_named(without, "max_completion_tokens") is without


# --- What one vendor's answer leaves in this dialect's conversation ---------------------------------------------------
def test_what_another_vendor_signed_comes_back_as_it_was() -> None:
    thoughts = [
        {"type": "reasoning.text", "index": 0, "text": "a", "signature": marks.mark("s1", "anthropic_messages")},
        {"type": "reasoning.encrypted", "index": 1, "data": marks.mark("s2", "openai_responses", "rs_1")},
    ]
    call = {
        "id": marks.signed_id("c1", "s3", "gemini_generate_content"),
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
    }
    late = {"google": {"thought_signature": marks.mark("s4", "gemini_generate_content")}}
    messages = [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "reasoning_details": thoughts,
            "tool_calls": [call, call | {"id": "c2", "extra_content": late}],
        },
        {"role": "tool", "tool_call_id": call["id"], "content": "x"},
    ]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    request = DIALECT.parse_request(DIALECT.read(body, None, None))
    assert request.messages[1].parts == (
        Thinking("a", "s1", "anthropic_messages"),
        Thinking("", "s2", "openai_responses", id="rs_1", redacted=True),
        ToolCall("c1", "f", "{}", signature="s3", origin="gemini_generate_content"),
        ToolCall("c2", "f", "{}", signature="s4", origin="gemini_generate_content"),
    )
    assert request.messages[2].parts == (ToolResult("c1", (Text("x"),)),)


def test_a_thought_may_come_back_in_the_pieces_in_which_it_was_streamed() -> None:
    pieces = [
        {"type": "reasoning.text", "index": 0, "text": "a", "id": "r"},
        {"type": "reasoning.text", "index": 0, "text": "b"},
        {"type": "reasoning.text", "index": 0, "signature": marks.mark("s", "anthropic_messages")},
        {"type": "reasoning.text", "index": 1, "text": "c"},
    ]
    body = json.dumps({"model": "m", "messages": [{"role": "assistant", "reasoning_details": pieces}]}).encode()
    request = DIALECT.parse_request(DIALECT.read(body, None, None))
    assert request.messages[0].parts == (Thinking("ab", "s", "anthropic_messages", id="r"), Thinking("c"))


def test_a_custom_tool_without_a_format_is_one() -> None:
    body, _ = body_of(dialect="openai_chat", tools=(CustomTool("say"),))
    assert body["tools"] == [{"type": "custom", "custom": {"name": "say"}}]


@pytest.mark.parametrize(
    ("upstream_id", "effort", "dropped"),
    [("gpt-5.2", "low", ()), ("gpt-4o", None, ("reasoning",)), ("up", "minimal", ())],
)
def test_a_model_is_asked_for_an_effort_that_it_has(upstream_id: str, effort: Any, dropped: tuple[str, ...]) -> None:
    asked = Request(
        dialect="anthropic_messages",
        model="m",
        messages=(said("user", Text("Hi")),),
        reasoning=Reasoning(budget_tokens=1024),
    )
    found = DIALECT.render_request(asked, upstream_id, None)
    assert json.loads(found.body).get("reasoning_effort") == effort
    assert found.dropped == dropped
