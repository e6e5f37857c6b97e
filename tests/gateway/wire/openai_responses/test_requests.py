"""OpenAI's Responses, requests: what passes, what is read, and what goes to an upstream."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import marks
from gateway.wire.canonical import (
    Audio,
    Choice,
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
    Response,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
)
from gateway.wire.codec import Unsupported
from gateway.wire.fields import InvalidRequest
from gateway.wire.openai_responses import DIALECT
from tests.gateway.wire.openai_responses.scenes import REPLY, REQUESTS, load, raw

OWN = "openai_responses"


def parsed(**fields: Any) -> Request:
    body = msgspec.json.encode({"model": "m", **fields})
    return DIALECT.parse_request(DIALECT.read(body, None, None))


def parts(*items: Any) -> tuple[Part, ...]:
    return tuple(part for message in parsed(input=list(items)).messages for part in message.parts)


def content(*found: Any) -> tuple[Part, ...]:
    return parts({"role": "user", "content": list(found)})


def asked(*messages: Message, **more: Any) -> Request:
    return Request(**({"dialect": "openai_chat", "model": "m", "messages": messages} | more))


def rendered(*messages: Message, **more: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    found = DIALECT.render_request(asked(*messages, **more), "up", None)
    return msgspec.json.decode(found.body), found.dropped


def items(*found: Part, role: Any = "assistant", **more: Any) -> tuple[Any, tuple[str, ...]]:
    body, dropped = rendered(Message(role, found), **more)
    return body["input"], dropped


# --- What passes --------------------------------------------------------------------------------------------------


def test_a_request_passes_but_for_its_model_and_a_cap() -> None:
    body = b'{"model":"m","input":[ {"type":"message", "id":"client-1"} ],"odd":1E400,"stream":true,"store":true}'
    found = DIALECT.read(body, None, None)
    assert (found.model, found.stream, found.wants_usage, found.max_tokens, found.choices) == ("m", True, True, None, 1)
    passed = DIALECT.passed(found, "up", ("max_output_tokens", 7))
    expected = body.replace(b'"m"', b'"up"').removesuffix(b"}") + b',"max_output_tokens":7}'
    assert (passed.path, passed.body, passed.dropped) == ("/v1/responses", expected, ())
    assert DIALECT.passed(found, "m", None).body == body


def test_the_cost_is_asked_for_in_the_usage_and_no_upstream_hears_of_it() -> None:
    found = DIALECT.read(b'{"model":"m","usage":{"include":true},"metadata":{"a":"b"}}', None, None)
    assert found.wants_cost and "usage" not in found.fields
    assert found.labels == {"a": "b"}
    assert not DIALECT.read(b'{"model":"m","usage":{}}', None, None).wants_cost


def test_model_and_stream_may_come_with_the_path() -> None:
    found = DIALECT.read(b"{}", "m", True)
    assert (found.model, found.stream) == ("m", True)


@pytest.mark.parametrize(
    ("body", "code", "param", "model"),
    [
        (b"x", "invalid_json", None, None),
        (b"{}", "invalid_parameter", "model", None),
        (b'{"model":"m","stream":1}', "invalid_parameter", "stream", "m"),
        (b'{"model":"m","max_output_tokens":0}', "invalid_parameter", "max_output_tokens", "m"),
        (b'{"model":"m","max_output_tokens":[}', "invalid_json", None, None),
    ],
)
def test_what_a_price_hangs_on_is_checked(body: bytes, code: str, param: str | None, model: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        DIALECT.read(body, None, None)
    assert (refused.value.code, refused.value.param, refused.value.model) == (code, param, model)


# --- Every scenario -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_survives_the_canonical_form(name: str) -> None:
    found = DIALECT.read(raw(name, "request.json"), None, None)
    again = DIALECT.render_request(DIALECT.parse_request(found), "gpt-5", None)
    assert msgspec.json.decode(again.body) == load(name, "request.json")
    assert (again.path, again.dropped) == ("/v1/responses", ())
    twice = DIALECT.parse_request(DIALECT.read(again.body, None, None))
    assert twice == DIALECT.parse_request(found)


# --- What callers send --------------------------------------------------------------------------------------------


def test_short_forms_are_read() -> None:
    assert parsed(input="Hi").messages == (Message("user", (Text("Hi"),)),)
    assert parsed().messages == parsed(input=None, instructions=None).messages == ()
    request = parsed(
        instructions="Be brief.",
        input=[
            {"role": "system", "content": "A"},
            {"role": "user", "content": "B"},
            {"role": "assistant", "content": None},
            {"role": "assistant", "content": [{"type": "text", "text": None}, {"type": "refusal", "refusal": "C"}]},
        ],
    )
    assert request.messages == (
        Message("system", (Text("Be brief."), Text("A"))),
        Message("user", (Text("B"),)),
        Message("assistant", (Text(""), Refusal("C"))),
    )


def test_media_are_read() -> None:
    assert content(
        {"type": "input_image", "image_url": {"url": "https://e.com/a.png"}, "detail": "low"},
        {"type": "input_image", "image_url": "data:image/png,raw"},
        {"type": "input_file", "file_data": "JVBERi0x", "filename": "a.pdf"},
        {"type": "input_file", "file_data": "AAAA"},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "flac"}},
        {"type": "input_video", "url": "x"},
    ) == (
        Image(Url("https://e.com/a.png"), "low"),
        Image(Url("data:image/png,raw")),
        Document(Inline("application/pdf", "JVBERi0x"), "a.pdf"),
        Document(Inline("", "AAAA")),
        Audio(Inline("audio/mpeg", "AA")),
        Audio(Inline("audio/flac", "AA")),
        Native(OWN, "content.input_video", {"type": "input_video", "url": "x"}),
    )


def test_calls_and_their_results_are_read_with_what_their_ids_hold() -> None:
    id = marks.signed_id("c", "sig", "gemini_generate_content")
    assert parts(
        {"type": "function_call", "call_id": id, "name": "f", "arguments": {"a": 1}},
        {"type": "function_call", "id": "fc", "name": "g", "arguments": None, "namespace": "n"},
        {"type": "function_call_output", "call_id": id, "output": None, "name": "f"},
        {"type": "custom_tool_call_output", "call_id": "x", "output": [{"type": "input_text", "text": "y"}]},
    ) == (
        ToolCall("c", "f", '{"a":1}', signature="sig", origin="gemini_generate_content"),
        ToolCall("fc", "g", "", namespace="n"),
        ToolResult("c", (), "f"),
        ToolResult("x", (Text("y"),), custom=True),
    )


def test_a_marked_thought_is_given_back_its_origin() -> None:
    seal = marks.mark("sig", "anthropic_messages", "t1")
    summary = [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]
    origin = "anthropic_messages"
    assert parts({"type": "reasoning", "id": "rs_q", "summary": summary, "encrypted_content": seal}) == (
        Thinking("a", origin=origin, id="t1", is_summary=True),
        Thinking("b", "sig", origin, "t1", is_summary=True),
    )
    assert parts({"type": "reasoning", "summary": summary[:1], "encrypted_content": seal + ".full"}) == (
        Thinking("a", "sig", origin, "t1"),
    )
    assert parts({"type": "reasoning", "summary": [], "encrypted_content": seal + ".redacted"}) == (
        Thinking("", "sig", origin, "t1", redacted=True),
    )


def test_what_another_vendor_answered_comes_back_as_it_was() -> None:
    made = (
        Thinking("Hm", "sig", "anthropic_messages"),
        Thinking("", "data", "anthropic_messages", redacted=True),
        Thinking("Open"),
        Image(Inline("image/webp", "AAAA")),
        Text("So"),
        ToolCall("c", "f", "{}", signature="s", origin="gemini_generate_content"),
    )
    whole = DIALECT.render_response(Response("r", "m", (Choice(made),)), REPLY, None)
    assert marks.has_marks(whole)
    output = msgspec.json.decode(whole)["output"]
    assert parts(*output) == made
    kept = {"type": "image_generation_call", "id": "ig_1", "result": "AAAA"}
    assert parts(kept) == (Native(OWN, "image_generation_call", kept),)
    # To a vendor of this dialect goes what is not sealed for another.
    again = DIALECT.render_request(parsed(input=[each for each in output if "result" not in each]), "up", None)
    assert [item["type"] for item in msgspec.json.decode(again.body)["input"]] == ["message", "function_call"]
    assert again.dropped == ("thinking", "tool_call.signature")


def test_items_that_are_not_understood_are_kept_whole() -> None:
    call, output = {"type": "computer_call", "id": "c"}, {"type": "computer_call_output", "call_id": "c"}
    reference = {"id": "msg_1"}
    found = parsed(input=[call, output, reference]).messages
    assert found == (
        Message("assistant", (Native(OWN, "computer_call", call),)),
        Message("user", (Native(OWN, "computer_call_output", output), Native(OWN, "item_reference", reference))),
    )


def test_what_clients_leave_empty_is_no_error() -> None:
    request = parsed(input="x", tools=[], tool_choice=None, metadata=None, text=None, reasoning=None, include=None)
    assert (request.tools, request.tool_choice, request.extensions) == ((), None, {})
    assert parsed(text={}, reasoning={}).extensions == {}


def test_settings_are_read_and_the_rest_is_kept() -> None:
    request = parsed(
        text={"format": {"type": "json_schema", "json_schema": {"schema": {}, "name": "n"}}, "verbosity": "low"},
        reasoning={"effort": "ultra", "generate_summary": "concise", "context": "auto"},
        top_logprobs=3,
        background=True,
        previous_response_id="resp_1",
        frequency_penalty=1,
    )
    assert request.output == OutputFormat({}, "n")
    assert (request.verbosity, request.reasoning) == ("low", Reasoning(summary="concise"))
    assert (request.logprobs, request.top_logprobs) == (True, 3)
    assert request.extensions == {
        "reasoning": {"effort": "ultra", "context": "auto"},
        "previous_response_id": "resp_1",
        "frequency_penalty": 1,
    }
    odd = parsed(text={"format": {"type": "grammar"}})
    assert (odd.output, odd.extensions) == (None, {"text": {"format": {"type": "grammar"}}})


def test_tools_are_read() -> None:
    namespace = {"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}
    request = parsed(
        tools=[
            {"type": "function", "function": {"name": "f", "parameters": None, "strict": None}},
            {"type": "custom", "name": "c"},
            namespace,
        ]
    )
    assert request.tools == (Tool("f"), CustomTool("c"), ServerTool(OWN, "namespace", namespace))


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        ("any", ToolChoice("required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("required", ("f",))),
        ({"type": "function", "name": "f", "namespace": "n"}, ToolChoice("required", ("n__f",))),
        ({"type": "allowed_tools", "tools": [{"type": "custom", "name": "c"}]}, ToolChoice("auto", ("c",))),
        ({"type": "allowed_tools", "tools": [{"type": "mcp"}]}, None),
        ({"type": "mcp", "server_label": "x"}, None),
    ],
)
def test_choices_are_read(choice: Any, found: ToolChoice | None) -> None:
    request = parsed(tool_choice=choice)
    assert request.tool_choice == found
    assert request.extensions == ({} if found else {"tool_choice": choice})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": 3}, "input"),
        ({"input": [3]}, "input[0]"),
        ({"input": [{"type": 3}]}, "input[0].type"),
        ({"input": [{"role": "robot"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 3}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [3]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 3}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].file_data"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0].input_audio"),
        ({"input": [{"type": "function_call", "arguments": 3}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "output": 3}]}, "input[0].output"),
        ({"input": [{"type": "function_call_output", "output": [{"type": "x"}]}]}, "input[0].output[0]"),
        ({"input": [{"type": "reasoning", "summary": 3}]}, "input[0].summary"),
        ({"instructions": 3}, "instructions"),
        ({"parallel_tool_calls": 3}, "parallel_tool_calls"),
        ({"temperature": "x"}, "temperature"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"metadata": 3}, "metadata"),
        ({"metadata": {"a": 3}}, "metadata"),
        ({"text": 3}, "text"),
        ({"text": {"format": 3}}, "text.format"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"reasoning": 3}, "reasoning"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"tools": 3}, "tools"),
        ({"tools": [3]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": 3}]}, "tools[0].parameters"),
        ({"tool_choice": 3}, "tool_choice"),
        ({"tool_choice": "some"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
    ],
)
def test_a_wrong_type_is_told_with_its_place(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(**fields)
    assert (refused.value.code, refused.value.param) == ("invalid_parameter", param)


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, 3, "x", True, [], {}, [3], [{}], "message", "reasoning", "function_call", "function_call_output"),
        *("user", "developer", [{"type": "input_image", "image_url": "data:,"}], [{"type": "input_text", "text": 3}]),
        *("function", "custom", "namespace", [{"type": "function", "name": "f"}], "json_schema", "input_text"),
    ]
)
NAMES = st.sampled_from(["type", "role", "content", "call_id", "output", "summary", "id", "text", "tools", "name"])


@given(st.lists(st.dictionaries(NAMES, ODD, max_size=4), max_size=3))
def test_hostile_requests_raise_nothing_else(found: Any) -> None:
    for fields in ({"input": found}, {"tools": found}, {"text": found[:1] and found[0]}):
        try:
            request = parsed(**fields)
        except InvalidRequest as error:
            assert error.param
        else:
            assert DIALECT.render_request(request, "up", None).dropped == ()


# --- What other dialects ask for ----------------------------------------------------------------------------------


def test_a_foreign_request_is_not_stored_and_its_tools_are_as_strict_as_they_say() -> None:
    body, dropped = rendered(
        Message("system", (Text("A"), Text("B"))),
        Message("user", (Text("Hi"),), "ann"),
        Message("system", (Text("C"),)),
        tools=(Tool("f"), Tool("g", strict=True, cache="5m", extras={"defer_loading": True})),
        tool_choice=ToolChoice("required", ("f",)),
        output=OutputFormat({"type": "object"}),
        reasoning=Reasoning(budget_tokens=9000, summary="none"),
        max_tokens=50,
        logprobs=True,
        service_tier="standard_only",
        stream=True,
        top_k=3,
        stop=("END",),
        seed=1,
        logit_bias={"1": 1.0},
        modalities=("audio",),
        extensions={"strange": 1},
    )
    assert body == {
        "model": "up",
        "instructions": "A\n\nB",
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "C"}]},
        ],
        "tools": [
            {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False},
            {"type": "function", "name": "g", "parameters": {"type": "object", "properties": {}}, "strict": True},
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "max_output_tokens": 50,
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": False}},
        "reasoning": {"effort": "medium"},
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        "stream": True,
        "store": False,
    }
    assert dropped == (
        "cache_control",
        "logit_bias",
        "modalities",
        "name",
        "seed",
        "service_tier",
        "stop",
        "strange",
        "tools.defer_loading",
        "top_k",
    )


def test_the_smaller_limit_counts() -> None:
    for limit, cap, told in ((50, 7, 7), (7, 50, 7), (None, 9, 9), (9, None, 9), (None, None, None)):
        found = DIALECT.render_request(asked(max_tokens=limit), "up", cap)
        assert msgspec.json.decode(found.body).get("max_output_tokens") == told


def test_another_vendors_tools_are_left_out_and_a_choice_among_none() -> None:
    body, dropped = rendered(
        tools=(ServerTool("anthropic_messages", "web_search_20250305", {}),),
        tool_choice=ToolChoice("auto"),
        parallel_tool_calls=True,
    )
    assert body == {"model": "up", "input": [], "store": False}
    assert dropped == ("tools.web_search_20250305",)


def test_several_answers_cannot_be_asked_for() -> None:
    with pytest.raises(Unsupported) as refused:
        rendered(choices=2)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "n")


def test_foreign_thoughts_signatures_and_searches_are_left_out() -> None:
    found, dropped = items(
        Thinking("x", "s", "anthropic_messages"),
        Native("anthropic_messages", "server_tool_use", {}),
        Text("See", (Citation(url="https://e.com"), Citation(title="a.pdf")), "5m"),
        Audio(None, "Spoken", "a1"),
        ToolCall("c", "f", "", signature="s", origin="gemini_generate_content", cache="1h"),
        ToolCall("d", "p", "in", custom=True),
    )
    annotation = {"type": "url_citation", "url": "https://e.com", "title": "", "start_index": 0, "end_index": 3}
    assert found == [
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "See", "annotations": [annotation]},
                {"type": "output_text", "text": "Spoken"},
            ],
        },
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "d", "name": "p", "input": "in"},
    ]
    assert dropped == ("cache_control", "server_tool_use", "thinking", "tool_call.signature")


def test_a_call_whose_id_is_too_long_for_openai_and_its_result_have_the_same_shorter_one() -> None:
    id = "c" * 65
    body, _ = rendered(
        Message("assistant", (ToolCall(id, "f", "{}"),)), Message("tool", (ToolResult(id, (Text("x"),)),))
    )
    assert body["input"][0]["call_id"] == body["input"][1]["call_id"]
    assert len(body["input"][0]["call_id"]) <= 64


def test_own_thoughts_keep_coming_in_a_form_that_can_come_back() -> None:
    body, dropped = rendered(
        Message(
            "assistant",
            (
                Thinking("a", origin=OWN, id="rs_1", is_summary=True),
                Thinking("b", "s", OWN, "rs_1", is_summary=True),
                Thinking("c", "t", OWN),
            ),
        )
    )
    assert body["include"] == ["reasoning.encrypted_content"]
    assert [len(item["summary"]) for item in body["input"]] == [2, 1]
    assert [item["encrypted_content"] for item in body["input"]] == ["s", "t"]
    assert dropped == ()
    unsealed, _ = rendered(reasoning=Reasoning(effort="none"))
    assert "include" not in unsealed


def test_results_of_tools_go_out_with_their_media() -> None:
    body, dropped = rendered(
        Message("assistant", (ToolCall("c", "p", "x", custom=True),)),
        Message("tool", (ToolResult("c", (Text("No"),), is_error=True), ToolResult("d", (Image(Url("u")),)))),
    )
    assert body["input"][1:] == [
        {"type": "custom_tool_call_output", "call_id": "c", "output": "No"},
        {"type": "function_call_output", "call_id": "d", "output": [{"type": "input_image", "image_url": "u"}]},
    ]
    assert dropped == ("tool_result.is_error",)


def test_media_go_out_in_this_dialects_form() -> None:
    found, dropped = items(
        Image(Inline("", "AA")),
        Document(Inline("", "AA")),
        Document(Inline("text/plain", "AA"), context="c", cites=True),
        Audio(Inline("audio/mp3", "AA")),
        Native(OWN, "content.input_video", {"type": "input_video"}),
        role="user",
    )
    assert found[0]["content"] == [
        {"type": "input_image", "image_url": "data:application/octet-stream;base64,AA"},
        {"type": "input_file", "file_data": "AA", "filename": "file"},
        {"type": "input_file", "file_data": "data:text/plain;base64,AA", "filename": "file.plain"},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}},
        {"type": "input_video"},
    ]
    assert dropped == ("document.cites", "document.context")


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("user", Image(FileId("anthropic_messages", "f"))),
        ("user", Document(FileId("anthropic_messages", "f"))),
        ("user", Document(Inline("video/mp4", "AA"))),
        ("user", Audio(Inline("audio/flac", "AA"))),
        ("user", Audio(Url("u"))),
        ("tool", ToolResult("c", (Audio(None),))),
        ("assistant", Image(Inline("image/png", "AA"))),
        ("assistant", Audio(None)),
        ("assistant", Native("anthropic_messages", "container_upload", {})),
        ("system", Native("anthropic_messages", "odd", {})),
    ],
)
def test_content_without_a_place_is_refused_with_its_place(role: Any, part: Part) -> None:
    with pytest.raises(Unsupported) as refused:
        rendered(Message(role, (part,)))
    assert (refused.value.code, refused.value.param) == ("unsupported_content", "messages[0]")


def test_instructions_that_are_no_text_stay_among_the_messages() -> None:
    found, _ = items(Native(OWN, "content.odd", {"type": "odd"}), role="system")
    assert found == [{"type": "message", "role": "system", "content": [{"type": "odd"}]}]


def test_a_choice_names_tools_in_their_namespaces() -> None:
    body, _ = rendered(
        tools=(Tool("a", namespace="n"), CustomTool("b", format={"type": "text"}), Tool("c", namespace="n")),
        tool_choice=ToolChoice("required", ("n__a", "b")),
    )
    assert [tool["type"] for tool in body["tools"]] == ["namespace", "custom", "namespace"]
    assert body["tool_choice"]["tools"] == [
        {"type": "function", "name": "a", "namespace": "n"},
        {"type": "custom", "name": "b"},
    ]


def test_summaries_are_asked_for_by_name() -> None:
    body, _ = rendered(reasoning=Reasoning(effort="low", summary="auto"), output=OutputFormat(), verbosity="high")
    assert body["reasoning"] == {"effort": "low", "summary": "auto"}
    assert body["text"] == {"format": {"type": "json_object"}, "verbosity": "high"}


@pytest.mark.parametrize(
    ("upstream_id", "told", "dropped"),
    [
        ("gpt-5.2", {"reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"]}, ()),
        ("gpt-4o", {}, ("reasoning",)),
    ],
)
def test_a_model_is_asked_for_an_effort_that_it_has(upstream_id: str, told: Any, dropped: tuple[str, ...]) -> None:
    foreign = asked(
        Message("user", (Text("Hi"),)), dialect="anthropic_messages", reasoning=Reasoning(budget_tokens=1024)
    )
    found = DIALECT.render_request(foreign, upstream_id, None)
    body = msgspec.json.decode(found.body)
    assert {name: body[name] for name in ("reasoning", "include") if name in body} == told
    assert found.dropped == dropped


def test_a_thought_comes_back_summed_up_from_a_dialect_that_does_not_tell() -> None:
    """OpenAI: `Invalid 'input[1].content': array too long. Expected an array with maximum length 0`."""
    thought = Thinking("Deep", "enc", OWN, "rs_1")
    summed = {"summary": [{"type": "summary_text", "text": "Deep"}]}
    whole = {"summary": [], "content": [{"type": "reasoning_text", "text": "Deep"}]}
    item = {"type": "reasoning", "id": "rs_1", "encrypted_content": "enc"}
    assert items(thought, dialect="anthropic_messages")[0] == [item | summed]
    assert items(thought, dialect=OWN)[0] == [item | whole]
