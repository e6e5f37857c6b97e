"""What callers of Anthropic's dialect send: read, passed on and parsed."""

import base64
import json
from typing import Any

import pytest

from gateway.wire import marks
from gateway.wire.anthropic_messages import DIALECT, request
from gateway.wire.canonical import (
    Citation,
    Document,
    FileId,
    Image,
    Inline,
    Message,
    Native,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
)
from gateway.wire.fields import Asked, InvalidRequest

OWN = "anthropic_messages"
HELLO = [{"role": "user", "content": "Hello"}]


def asked(messages: Any = HELLO, **fields: Any) -> Asked:
    body = {"model": "m", "max_tokens": 100, "messages": messages} | fields
    return DIALECT.read(json.dumps(body).encode(), None, None)


def parsed(messages: Any = HELLO, **fields: Any) -> Request:
    return DIALECT.parse_request(asked(messages, **fields))


def parts(*blocks: Any) -> tuple[Part, ...]:
    (message,) = parsed([{"role": "assistant", "content": list(blocks)}]).messages
    return message.parts


# --- What the gateway has to know -----------------------------------------------------------------------------------
def test_a_request_is_read_for_what_is_billed_and_routed() -> None:
    found = asked(stream=True, metadata={"user_id": "u"})
    assert (found.model, found.stream, found.wants_usage, found.max_tokens) == ("m", True, True, 100)
    assert (found.choices, found.wants_cost, found.labels) == (1, False, {"user_id": "u"})
    assert asked(max_tokens=0).max_tokens is None
    wanting = asked(usage={"include": True})
    assert wanting.wants_cost and "usage" not in wanting.fields


def test_model_and_stream_may_be_told_apart_from_the_body() -> None:
    found = DIALECT.read(b'{"messages": []}', "n", True)
    assert (found.model, found.stream) == ("n", True)


def test_a_limit_that_is_none_is_refused_with_the_model_that_was_asked_for() -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(max_tokens=-1)
    assert (caught.value.param, caught.value.model) == ("max_tokens", "m")
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.read(b'{"model": "m", "metadata": {"a": 1, "a": 01}}', None, None)
    assert caught.value.model is None


# --- What is passed on ----------------------------------------------------------------------------------------------
def test_a_conversation_that_the_vendor_keeps_is_refused_with_the_model_that_was_asked_for() -> None:
    body = {"model": "m", "max_tokens": 1, "messages": []}
    for thread in ({"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}):
        with pytest.raises(InvalidRequest) as refused:
            request.read(json.dumps({**body, "thread": thread}).encode(), None, None)
        assert (refused.value.code, refused.value.model) == ("thread_unsupported_request", "m")
    for none in (None, False):
        assert request.read(json.dumps({**body, "thread": none}).encode(), None, None).model == "m"


def test_what_is_passed_keeps_every_byte_but_the_model() -> None:
    messages = b'[{"role":"user",  "content":[{"type":"thinking","signature":"Eq=="}, 1.10]}]'
    found = DIALECT.read(b'{"model":"m","strange": {"a" : 1},"messages":' + messages + b"}", None, None)
    rendered = DIALECT.passed(found, "claude", ("max_tokens", 7))
    assert rendered.body == (b'{"model":"claude","strange":{"a" : 1},"messages":' + messages + b',"max_tokens":7}')
    assert (rendered.path, rendered.dropped) == ("/v1/messages", ())


@pytest.mark.parametrize(
    ("thinking", "cap", "left", "dropped"),
    [
        ({"type": "enabled", "budget_tokens": 5000}, 4000, {"type": "enabled", "budget_tokens": 2000}, "budget_tokens"),
        ({"type": "enabled", "budget_tokens": 5000}, 1500, {"type": "enabled", "budget_tokens": 1024}, "budget_tokens"),
        ({"type": "enabled", "budget_tokens": 5000}, 1000, None, "reasoning"),
        ({"type": "enabled", "budget_tokens": 2000}, 4000, {"type": "enabled", "budget_tokens": 2000}, ""),
        ({"type": "adaptive"}, 10, {"type": "adaptive"}, ""),
    ],
)
def test_a_limit_of_ours_leaves_room_for_thought(thinking: Any, cap: int, left: Any, dropped: str) -> None:
    rendered = DIALECT.passed(asked(thinking=thinking), "claude", ("max_tokens", cap))
    assert json.loads(rendered.body).get("thinking") == left
    assert [name.endswith(dropped) for name in rendered.dropped] == [True] * bool(dropped)


OWN_THOUGHT = '{"type":"thinking", "signature":"Eq==","thinking":"a\\u0041"}'
MARKED_THOUGHT = json.dumps({"type": "thinking", "thinking": "b", "signature": marks.mark("s", "openai_responses")})
MARKED_DATA = json.dumps({"type": "redacted_thinking", "data": marks.mark("s", "openai_responses")})
SIGNED = marks.signed_id("call.1", "s", "gemini_generate_content")


def passed_messages(messages: str, **fields: Any) -> tuple[str, tuple[str, ...]]:
    rest = json.dumps(fields)[1:-1]
    body = f'{{"model":"m","messages":{messages}{"," if rest else ""}{rest}}}'
    rendered = DIALECT.passed(DIALECT.read(body.encode(), None, None), "m", None)
    text = rendered.body.decode()
    return text[len('{"model":"m","messages":') : len(text) - len(rest) - bool(rest) - 1], rendered.dropped


def test_what_another_vendor_left_behind_is_taken_out_and_nothing_else() -> None:
    found, dropped = passed_messages(
        '[{"role":"user", "content":"hi aperture1."},'
        f'{{"role":"assistant","content":[{OWN_THOUGHT},{MARKED_THOUGHT},{MARKED_DATA},'
        f'{{"type":"tool_use", "id":"{SIGNED}","input":{{}}}}]}},'
        f'{{"role":"assistant","content":[{MARKED_THOUGHT}]}},'
        f'{{"role":"user","content":[{{"type":"tool_result", "tool_use_id":"{SIGNED}"}},'
        '{"type":"text", "text":"aperture1. is a mark"},{"type":"tool_use","id":"a__aps_"},'
        '{"type":7,"text":"aperture1."}]},{"role": "user"}]'
    )
    id = marks.safe_id("call.1")
    assert found == (
        '[{"role":"user", "content":"hi aperture1."},'
        f'{{"role":"assistant","content":[{OWN_THOUGHT},{{"type":"tool_use", "id":"{id}","input":{{}}}}]}},'
        f'{{"role":"user","content":[{{"type":"tool_result", "tool_use_id":"{id}"}},'
        '{"type":"text", "text":"aperture1. is a mark"},{"type":"tool_use","id":"a__aps_"},'
        '{"type":7,"text":"aperture1."}]},{"role": "user"}]'
    )
    assert dropped == ("thinking", "tool_call.signature")


def test_an_id_that_looked_marked_by_itself_comes_back() -> None:
    id = "a__aps_b"
    body = f'[{{"content":[{{"type":"tool_use","id":"{marks.signed_id(id, "", "")}"}}]}}]'
    assert passed_messages(body) == (f'[{{"content":[{{"type":"tool_use","id":"{id}"}}]}}]', ())


@pytest.mark.parametrize("messages", ['"aperture1."', '["aperture1."]', '[{"content":"aperture1."}]'])
def test_messages_that_only_look_marked_stay(messages: str) -> None:
    assert passed_messages(messages) == (messages, ())
    assert json.loads(DIALECT.passed(DIALECT.read(b'{"model":"m"}', None, None), "n", None).body) == {"model": "n"}


@pytest.mark.parametrize(
    ("thinking", "first", "kept"),
    [
        ({"type": "enabled", "budget_tokens": 2000}, "", False),
        ({"type": "enabled", "budget_tokens": 2000}, OWN_THOUGHT + ",", True),
        ({"type": "adaptive"}, "", True),
    ],
)
def test_thought_by_a_budget_is_left_out_where_its_turn_no_longer_begins_with_one(
    thinking: Any, first: str, kept: bool
) -> None:
    messages = (
        '[{"role":"user","content":"q"},{"role":"assistant","content":['
        f'{first}{MARKED_THOUGHT},{{"type":"tool_use","id":"t","name":"f","input":{{}}}}]}},'
        '{"role":"user","content":[{"type":"tool_result","tool_use_id":"t"},{"type":"text","text":"go"}]}]'
    )
    body = f'{{"model":"m","thinking":{json.dumps(thinking)},"messages":{messages}}}'
    rendered = DIALECT.passed(DIALECT.read(body.encode(), None, None), "m", None)
    assert ("thinking" in json.loads(rendered.body)) is kept
    assert rendered.dropped == (("thinking",) if kept else ("reasoning", "thinking"))


def test_thought_stays_where_the_conversation_cannot_be_read() -> None:
    messages = f'[{{"role":"assistant","content":[{MARKED_THOUGHT}, 7]}}]'
    body = f'{{"model":"m","thinking":{{"type":"enabled","budget_tokens":2000}},"messages":{messages}}}'
    assert b'"enabled"' in DIALECT.passed(DIALECT.read(body.encode(), None, None), "m", None).body


# --- Messages -------------------------------------------------------------------------------------------------------
def test_claude_codes_billing_header_is_no_instruction() -> None:
    system = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1"},
        {"type": "text", "text": "You are Claude Code."},
    ]
    assert parsed(system=system).messages[0] == Message("system", (Text("You are Claude Code."),))


def test_instructions_may_stand_anywhere() -> None:
    found = parsed([*HELLO, {"role": "system", "content": "S"}, {"role": "developer", "content": [{"text": "D"}]}])
    assert found.messages == (Message("user", (Text("Hello"),)), Message("system", (Text("S"), Text("D"))))


def test_results_of_tools_stand_apart() -> None:
    found = parsed(
        [
            {"role": "assistant", "content": [{"type": "tool_use", "name": "f"}, {"type": "tool_use", "name": "g"}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "content": "1"},
                    "words",
                    {"type": "tool_result", "tool_use_id": "other"},
                    {"type": "tool_result", "is_error": True, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                    {"type": "tool_result"},
                ],
            },
        ]
    )
    assert found.messages == (
        Message("assistant", (ToolCall("toolu_1", "f", "{}"), ToolCall("toolu_2", "g", "{}"))),
        Message("tool", (ToolResult("toolu_1", (Text("1"),)),)),
        Message("user", (Text("words"),)),
        Message(
            "tool",
            (
                ToolResult("other", ()),
                ToolResult("toolu_2", (), is_error=True, cache="1h"),
                ToolResult("toolu_2", ()),
            ),
        ),
    )


def test_a_call_keeps_its_arguments_in_whatever_form_they_came() -> None:
    def arguments(given: Any) -> str:
        (call,) = parts({"type": "tool_use", "id": "t", "name": "f", "input": given})
        assert isinstance(call, ToolCall)
        return call.arguments

    assert [arguments(given) for given in ({"a": 1}, None, "", '{"b":2}', [1])] == [
        '{"a":1}',
        "{}",
        "{}",
        '{"b":2}',
        "[1]",
    ]


def test_what_was_marked_is_another_vendors_again() -> None:
    signed = marks.signed_id("call_1", "sig", "gemini_generate_content")
    assert parts(
        {"type": "thinking", "thinking": "t", "signature": marks.mark("s", "openai_responses", "rs_1")},
        {"type": "thinking", "thinking": "u", "signature": marks.mark("", "")},
        {"type": "thinking", "thinking": "v", "signature": ""},
        {"type": "redacted_thinking", "data": marks.mark("d", "openai_responses", "rs_2")},
        {"type": "tool_use", "id": signed, "name": "f", "input": {}},
    ) == (
        Thinking("t", "s", "openai_responses", "rs_1"),
        Thinking("u"),
        Thinking("v"),
        Thinking("", "d", "openai_responses", "rs_2", redacted=True),
        ToolCall("call_1", "f", "{}", signature="sig", origin="gemini_generate_content"),
    )


def inline(text: str) -> Inline:
    return Inline("text/plain", base64.b64encode(text.encode()).decode())


def test_files_come_from_wherever_they_are() -> None:
    chunks = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    picture = {"type": "image", "source": {"type": "url", "url": "data:image/PNG;base64,iVBO"}}
    assert parts(
        {"type": "document", "source": {"type": "content", "content": chunks}, "title": "T"},
        {"type": "document", "source": {"type": "content", "content": "plain"}},
        {"type": "document", "source": {"type": "content", "content": [*chunks, picture]}, "title": "T"},
        {"type": "document", "source": {"type": "content", "content": [picture]}},
        {"type": "document", "source": {"media_type": "application/pdf", "data": "JV"}},
        {"type": "search_result", "source": "https://e.x", "title": "R", "content": chunks},
        {"type": "image", "source": {"type": "url", "url": "https://e.x/a"}},
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
    ) == (
        Document(inline("a\n\nb"), "T"),
        Document(inline("plain")),
        *(Text("T"), Text("a"), Text("b"), Image(Inline("image/png", "iVBO"))),
        Image(Inline("image/png", "iVBO")),
        Document(Inline("application/pdf", "JV")),
        Document(inline("a\n\nb"), "R", "https://e.x"),
        Image(Url("https://e.x/a")),
        Image(FileId(OWN, "f")),
    )


def test_citations_of_every_kind_are_read() -> None:
    location = {"type": "char_location", "cited_text": "q", "document_title": "D", "start_char_index": 1}
    result = {"type": "search_result_location", "source": "https://e.x", "title": "T"}
    (text,) = parts({"type": "text", "text": "t", "citations": [location, result, 7]})
    assert text == Text("t", (Citation(title="D", quote="q"), Citation(url="https://e.x", title="T")))


def test_a_block_that_nobody_knows_is_kept_as_it_came() -> None:
    block = {"type": "mcp_tool_use", "id": "x", "input": {}}
    assert parts(block) == (Native(OWN, "mcp_tool_use", block),)
    reference = {"type": "tool_reference", "tool_name": "f"}
    (result,) = parts({"type": "tool_result", "tool_use_id": "t", "content": [reference, {"type": "tool_use"}]})
    assert isinstance(result, ToolResult)
    first, second = result.parts
    assert isinstance(first, Text) and json.loads(first.text) == reference
    assert isinstance(second, Text) and json.loads(second.text) == {"type": "tool_use"}
    chunks = [{"type": "text", "text": "a"}, reference, {"type": "thinking", "thinking": "no file's"}]
    document = {"type": "document", "source": {"type": "content", "content": chunks}}
    (result,) = parts({"type": "tool_result", "tool_use_id": "t", "content": [document]})
    assert isinstance(result, ToolResult)
    assert result.parts == (Text("a"), Text(json.dumps(reference, separators=(",", ":"))))


def test_blocks_inside_blocks_inside_blocks_end_somewhere() -> None:
    def nested(depth: int) -> Any:
        content: Any = "x"
        for _ in range(depth):
            result = {"type": "tool_result", "tool_use_id": "t", "content": content}
            content = [{"type": "search_result", "source": "s", "title": "t", "content": [result]}]
        return content

    assert parsed([{"role": "user", "content": nested(20)}]).messages
    # As deep as JSON may be; whether the stack is deep enough for it is Python's own matter.
    try:
        assert parsed([{"role": "user", "content": nested(124)}]).messages
    except InvalidRequest as error:
        assert error.code == "invalid_json"
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": "t", "content": "x"}
    for _ in range(200):
        result = {"type": "tool_result", "tool_use_id": "t", "content": [result]}
    ((part,),) = (message.parts for message in parsed([{"role": "user", "content": [result]}]).messages)
    assert isinstance(part, ToolResult) and isinstance(part.parts[0], Text)
    assert json.loads(part.parts[0].text) == result["content"][0]


def test_a_conversation_too_deep_for_the_stack_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_deep(*_args: Any) -> None:
        raise RecursionError

    monkeypatch.setattr(request, "_messages", too_deep)
    with pytest.raises(InvalidRequest) as caught:
        parsed()
    assert caught.value.code == "invalid_json"


def test_many_calls_take_time_in_proportion() -> None:
    calls = [{"type": "tool_use", "name": "f"}] * 5_000
    results = [{"type": "tool_result"}] * 5_000
    _, found = parsed([{"role": "assistant", "content": calls}, {"role": "user", "content": results}]).messages
    assert [part.call_id for part in found.parts if isinstance(part, ToolResult)][-1] == "toolu_5000"


# --- Tools and the rest ---------------------------------------------------------------------------------------------
def test_tools_are_the_callers_or_the_vendors() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    own = {"type": "custom", "name": "f", "input_schema": {"type": "object"}, "strict": True, "defer_loading": True}
    assert parsed(tools=[own, search]).tools == (
        Tool("f", parameters={"type": "object"}, strict=True, extras={"defer_loading": True}),
        ServerTool(OWN, "web_search_20250305", search),
    )
    assert parsed(tools=None).tools == parsed(tools=[]).tools == ()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, (None, None)),
        ("any", (ToolChoice("required"), None)),
        ({"type": "auto", "disable_parallel_tool_use": True}, (ToolChoice("auto"), False)),
        ({"type": "auto", "disable_parallel_tool_use": False}, (ToolChoice("auto"), True)),
        ({"type": "none"}, (ToolChoice("none"), None)),
        ({"type": "tool", "name": "f"}, (ToolChoice("required", ("f",)), None)),
        ({"type": "tool"}, (ToolChoice("required"), None)),
    ],
)
def test_tool_choice_in_all_its_forms(choice: Any, expected: Any) -> None:
    found = parsed(tool_choice=choice)
    assert (found.tool_choice, found.parallel_tool_calls) == expected


@pytest.mark.parametrize(
    ("thinking", "effort", "expected"),
    [
        (None, None, None),
        (None, "low", Reasoning("low")),
        (None, "unheard-of", None),
        ({"type": "disabled"}, "low", Reasoning("none")),
        ({"type": "enabled", "budget_tokens": 2048, "display": "omitted"}, None, Reasoning(None, 2048, "none")),
        ({"type": "adaptive", "display": "summarized"}, "max", Reasoning("max", -1, "auto")),
        ({"type": "adaptive", "display": 7}, None, Reasoning(None, -1)),
        ({"type": "between_tools"}, None, Reasoning("minimal")),
        ({"type": "new"}, None, None),
    ],
)
def test_thought_is_asked_for_in_several_ways(thinking: Any, effort: Any, expected: Any) -> None:
    assert parsed(thinking=thinking, output_config={"effort": effort}).reasoning == expected


def test_structured_output_by_its_old_and_its_new_name() -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object"}}
    assert parsed(output_format=wanted).output == OutputFormat({"type": "object"})
    assert parsed(output_config={"format": wanted}).output == OutputFormat({"type": "object"})
    assert parsed(output_config={"format": {"type": "json_object"}}).output == OutputFormat()


def test_the_rest_is_kept_for_its_own_dialect() -> None:
    found = parsed(
        container="c",
        unheard_of=None,
        output_config={"task_budget": {"total": 1}},
        metadata={"user_id": "u", "team": "t", "n": 1},
        service_tier="standard_only",
        stop_sequences="x",
        temperature=1,
        top_k=5,
    )
    assert found.extensions == {"container": "c", "output_config": {"task_budget": {"total": 1}}}
    assert (found.user, found.metadata, found.service_tier) == ("u", {"team": "t"}, "default")
    assert (found.stop, found.temperature, found.top_k) == (("x",), 1.0, 5)
    assert parsed(service_tier="auto").service_tier == "auto"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": "x"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [7]}, "messages.0"),
        ({"messages": [{"role": 7}]}, "messages.0.role"),
        ({"messages": [{"role": "tool"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0.source"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "x"}}]}]},
            "messages.0.content.0.source.type",
        ),
        ({"system": 7}, "system"),
        ({"tools": [7]}, "tools.0"),
        ({"tools": [{}]}, "tools.0.name"),
        ({"tools": [{"name": "f", "input_schema": 7}]}, "tools.0.input_schema"),
        ({"tool_choice": 7}, "tool_choice"),
        ({"tool_choice": {"type": "x"}}, "tool_choice"),
        ({"thinking": 7}, "thinking"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop_sequences": [7]}, "stop_sequences"),
        ({"metadata": {"user_id": 7}}, "metadata.user_id"),
    ],
)
def test_what_is_of_the_wrong_type_is_named(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    assert (caught.value.code, caught.value.param) == ("invalid_parameter", param)
