"""Requests of other dialects as Anthropic takes them: every rule whose breach it answers with a 400 is kept."""

import base64
import json
from typing import Any

import pytest

from gateway.wire import marks
from gateway.wire.anthropic_messages import DIALECT
from gateway.wire.anthropic_messages.models import Model, model_of
from gateway.wire.anthropic_messages.schema import followed
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

OWN = "anthropic_messages"
SONNET, OLD, NEW, NEWEST = "claude-sonnet-4-6", "claude-sonnet-4-5-20250929", "claude-opus-5", "claude-opus-5-5"
CALL, RESULT = ToolCall("t1", "f", '{"a":1}'), ToolResult("t1", (Text("1"),))
THOUGHT = Thinking("hm", "Eq==", OWN)
WEATHER = Tool("weather", parameters={"type": "object", "properties": {}})
NOW = Tool("now")
PNG, PDF = "iVBORw0KGgoAAAA", "JVBERi0xLjQ="


def said(role: Role, *parts: Part | str, name: str = "") -> Message:
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts), name)


USER = said("user", "hi")


def rendered(*messages: Message, to: str = SONNET, cap: int | None = None, **fields: Any) -> Rendered:
    request = Request(**({"dialect": "openai_chat", "model": "m", "messages": messages or (USER,)} | fields))
    return DIALECT.render_request(request, to, cap)


def body(*messages: Message, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rendered(*messages, **fields).body)
    return found


def turns(*messages: Message, **fields: Any) -> list[tuple[str, Any]]:
    return [(turn["role"], turn["content"]) for turn in body(*messages, **fields)["messages"]]


def block(part: Part, role: Role = "user") -> Any:
    (turn,) = (found for found in turns(USER, said(role, part)) if found[0] == role)
    return turn[1][-1] if isinstance(turn[1], list) else turn[1]


# --- Messages -------------------------------------------------------------------------------------------------------
def test_instructions_stand_on_top_wherever_they_stood() -> None:
    found = rendered(said("system", "A"), USER, said("system", Text("B", cache="1h")))
    assert json.loads(found.body)["system"] == [
        {"type": "text", "text": "A"},
        {"type": "text", "text": "B", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert found.dropped == ("messages.system_position",)
    assert rendered(said("system", "A"), USER).dropped == ()


def test_instructions_alone_are_said_by_the_user() -> None:
    found = rendered(said("system", "A"))
    assert json.loads(found.body)["messages"] == [{"role": "user", "content": "A"}]
    assert "system" not in json.loads(found.body)
    assert found.dropped == ("messages.system_position",)
    assert turns(said("user", "")) == [("user", "Continue.")]


def test_turns_alternate_and_results_come_first() -> None:
    assert turns(
        said("user", "a", name="x"),
        said("user", "b", name="y"),
        said("assistant", CALL, name="x"),
        said("user", "c"),
        said("tool", RESULT),
        said("user", " "),
        said("assistant", "d"),
        said("assistant", "", name="z"),
        said("assistant", "e \n", name="x"),
    ) == [
        ("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        ("assistant", [{"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]),
        (
            "user",
            [{"type": "tool_result", "tool_use_id": "t1", "content": "1"}, {"type": "text", "text": "c"}],
        ),
        ("assistant", [{"type": "text", "text": "d"}, {"type": "text", "text": "e"}]),
    ]
    assert rendered(said("user", "a", name="x")).dropped == ("messages.name",)


def test_the_user_begins_and_a_call_may_end() -> None:
    assert turns(said("assistant", CALL))[0] == ("user", "Continue.")


def test_ids_of_calls_are_in_letters_that_anthropic_takes() -> None:
    id = "call:1/é"
    _, call, result = turns(USER, said("assistant", ToolCall(id, "f", "{}")), said("tool", ToolResult(id, ())))
    assert call[1][0]["id"] == result[1][0]["tool_use_id"] == marks.safe_id(id)


def test_arguments_are_an_object() -> None:
    def given(arguments: str, custom: bool = False) -> Any:
        return block(ToolCall("t", "f", arguments, custom, "ns"), "assistant")["input"]

    assert [given(""), given('{"a":1}'), given("[1]"), given('{"cut'), given("x", custom=True)] == [
        {},
        {"a": 1},
        {"input": "[1]"},
        {"input": '{"cut'},
        {"input": "x"},
    ]
    assert block(ToolCall("t", "f", "", namespace="ns"), "assistant")["name"] == "ns__f"


def test_only_anthropics_own_signed_thoughts_go_back() -> None:
    own, redacted = THOUGHT, Thinking("", "data", OWN, redacted=True)
    foreign, unsigned = Thinking("a", "s", "openai_responses"), Thinking("b")
    found = rendered(USER, said("assistant", own, redacted, foreign, unsigned, "x"), USER)
    assert json.loads(found.body)["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "Eq=="},
        {"type": "redacted_thinking", "data": "data"},
        {"type": "text", "text": "x"},
    ]
    assert found.dropped == ("thinking",)


def test_a_thought_in_a_prefill_goes_only_where_thought_is_asked_for() -> None:
    prefill = said("assistant", THOUGHT, "x")
    found = rendered(USER, prefill)
    assert (json.loads(found.body)["messages"][-1]["content"], found.dropped) == ("x", ("thinking",))
    assert turns(USER, said("assistant", THOUGHT)) == [("user", "hi")]
    assert len(turns(USER, prefill, reasoning=Reasoning("low"))[-1][1]) == 2
    assert turns(USER, said("assistant", "x", CALL))[-1][1][0] == {"type": "text", "text": "x"}


def test_what_has_no_block_of_its_own() -> None:
    assert block(Refusal("no"), "assistant") == "no"
    assert block(Audio(Inline("audio/mp3", "x"), "spoken"), "assistant") == "spoken"
    found = rendered(
        USER,
        said(
            "assistant",
            Text("a", (Citation(url="https://e.x"),)),
            ToolCall("t", "f", "{}", signature="s", origin="gemini_generate_content"),
            Native("openai_responses", "web_search_call", {}),
            Native(OWN, "server_tool_use", {"type": "server_tool_use"}),
            Audio(None, "spoken"),
        ),
    )
    kinds = [each["type"] for each in json.loads(found.body)["messages"][1]["content"]]
    assert kinds == ["text", "tool_use", "server_tool_use", "text"]
    assert found.dropped == ("audio", "citations", "tool_call.signature", "web_search_call")


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_files_go_by_the_way_that_anthropic_knows() -> None:
    def source(part: Part) -> Any:
        return block(part)["source"]

    assert source(Image(Inline("image/jpg", "x"))) == {"type": "base64", "media_type": "image/jpeg", "data": "x"}
    assert source(Image(Inline("", PNG)))["media_type"] == "image/png"
    assert source(Image(Url("https://e.x"))) == {"type": "url", "url": "https://e.x"}
    assert source(Image(FileId(OWN, "f"))) == {"type": "file", "file_id": "f"}
    assert source(Document(Inline("", PDF)))["media_type"] == "application/pdf"
    assert source(Document(Inline("image/png", PNG)))["media_type"] == "image/png"
    text = {"type": "text", "media_type": "text/plain", "data": "a,é"}
    assert source(Document(Inline("text/csv; charset=utf-8", base64_of("a,é")))) == text
    assert source(Document(Inline("", base64_of("a,é")))) == text
    assert block(Document(Url("u"), "T", "C", True, "5m")) == {
        "type": "document",
        "source": {"type": "url", "url": "u"},
        "title": "T",
        "context": "C",
        "citations": {"enabled": True},
        "cache_control": {"type": "ephemeral"},
    }
    assert rendered(said("user", Image(Url("u"), "high"))).dropped == ("image.detail",)
    assert rendered(said("user", Image(Url("u"), "auto"))).dropped == ()


@pytest.mark.parametrize(
    ("part", "role"),
    [
        (Image(Url("u")), "assistant"),
        (Document(Url("u")), "assistant"),
        (Image(FileId("openai_chat", "f")), "user"),
        (Image(Inline("image/heic", "x")), "user"),
        (Image(Inline("", "x")), "user"),
        (Document(Inline("application/zip", "UEsD")), "user"),
        (Document(Inline("", "/w==")), "user"),
        (Document(Inline("text/plain", "no base64")), "user"),
        (Audio(Inline("audio/mp3", "x")), "user"),
        (Native("openai_responses", "program", {}), "user"),
    ],
)
def test_other_content_is_refused(part: Part, role: Role) -> None:
    with pytest.raises(Unsupported) as caught:
        block(part, role)
    assert (caught.value.code, caught.value.param) == ("unsupported_content", "messages")


def test_results_hold_what_they_held() -> None:
    parts = (Text("a"), Image(Url("u")), Text(""))
    ((_, (result, _)),) = turns(USER, said("tool", ToolResult("t", parts, is_error=True, cache="5m")))
    assert result == {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "a"}, {"type": "image", "source": {"type": "url", "url": "u"}}],
        "is_error": True,
        "cache_control": {"type": "ephemeral"},
    }
    found = turns(USER, said("tool", ToolResult("t", (), is_error=True)))
    assert found == [
        (
            "user",
            [
                {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": "The tool failed."},
                {"type": "text", "text": "hi"},
            ],
        )
    ]


def test_several_answers_at_once_are_refused() -> None:
    with pytest.raises(Unsupported) as caught:
        rendered(choices=2)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "n")


# --- Tools ----------------------------------------------------------------------------------------------------------
def test_tools_of_every_kind() -> None:
    grammar = CustomTool("patch", "Patch.", {"definition": "start: x"}, "ns")
    search = ServerTool("openai_responses", "web_search", {})
    strict = Tool(
        "s", "S", {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}, True, cache="5m"
    )
    found = rendered(tools=(Tool("f", extras={"x": 1}), grammar, CustomTool("raw", extras={"y": 1}), search, strict))
    tools = json.loads(found.body)["tools"]
    assert [tool["name"] for tool in tools] == ["f", "ns__patch", "raw", "s"]
    assert tools[0]["input_schema"] == {"type": "object", "properties": {}}
    assert tools[3] == {
        "name": "s",
        "description": "S",
        "input_schema": {
            "type": "object",
            "properties": {"n": {"type": "integer", "description": '{"minimum":1}'}},
            "additionalProperties": False,
        },
        "strict": True,
        "cache_control": {"type": "ephemeral"},
    }
    assert found.dropped == ("tools.format", "tools.web_search", "tools.x", "tools.y")


def test_strictness_is_dropped_where_it_would_be_refused() -> None:
    strict = Tool("s", strict=True)
    assert rendered(tools=(strict,), to="claude-sonnet-4").dropped == ("tools.strict",)
    assert rendered(tools=(strict,) * 21).dropped == ("tools.strict",)
    assert rendered(tools=(strict,) * 20).dropped == ()


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("none", ("now",)), None, {"type": "none"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("required", ("now",)), None, {"type": "tool", "name": "now"}),
    ],
)
def test_tool_choice_in_all_its_forms(choice: ToolChoice | None, parallel: bool | None, expected: Any) -> None:
    found = body(tools=(WEATHER, NOW), tool_choice=choice, parallel_tool_calls=parallel)
    assert found.get("tool_choice") == expected
    assert len(found["tools"]) == 2
    assert "tool_choice" not in body(tool_choice=choice, parallel_tool_calls=parallel)


def test_tools_that_may_not_be_called_now_are_not_shown() -> None:
    tools = (WEATHER, NOW, Tool("third", namespace="ns"))
    two = body(tools=tools, tool_choice=ToolChoice("required", ("now", "ns__third")))
    assert [tool["name"] for tool in two["tools"]] == ["now", "ns__third"]
    assert two["tool_choice"] == {"type": "any"}
    one = body(tools=tools, tool_choice=ToolChoice("auto", ("now",)))
    assert ([tool["name"] for tool in one["tools"]], one["tool_choice"]) == (["now"], {"type": "auto"})


# --- Thought --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("to", "reasoning", "thinking", "effort"),
    [
        (SONNET, Reasoning("minimal"), {"type": "adaptive"}, "low"),
        (SONNET, Reasoning("xhigh"), {"type": "adaptive"}, "high"),
        (NEW, Reasoning("xhigh", summary="detailed"), {"type": "adaptive", "display": "summarized"}, "xhigh"),
        (SONNET, Reasoning(None, 4000, "none"), {"type": "adaptive", "display": "omitted"}, "low"),
        (SONNET, Reasoning(None, -1), {"type": "adaptive"}, None),
        (OLD, Reasoning("low"), {"type": "enabled", "budget_tokens": 4096}, None),
        (OLD, Reasoning(None, -1), {"type": "enabled", "budget_tokens": 16384}, None),
        (OLD, Reasoning(None, 100), {"type": "enabled", "budget_tokens": 1024}, None),
        ("glm-5", Reasoning("low"), {"type": "enabled", "budget_tokens": 4096}, None),
        ("glm-5", Reasoning("none"), {"type": "disabled"}, None),
        (SONNET, Reasoning("none"), None, None),
        (NEW, Reasoning("none"), {"type": "disabled"}, None),
        (NEWEST, Reasoning("none"), None, "low"),
        ("claude-mythos-preview", Reasoning("none"), None, "low"),
        ("claude-sonnet-5-5", Reasoning("none"), {"type": "between_tools"}, None),
        (NEW, None, None, None),
    ],
)
def test_thought_is_asked_for_in_the_models_own_way(to: str, reasoning: Any, thinking: Any, effort: Any) -> None:
    found = body(to=to, reasoning=reasoning)
    assert found.get("thinking") == thinking
    assert found.get("output_config", {}).get("effort") == effort


def test_a_budget_is_smaller_than_the_answers_limit() -> None:
    found = rendered(to=OLD, reasoning=Reasoning("high"), max_tokens=3000)
    assert json.loads(found.body)["thinking"]["budget_tokens"] == 1500
    assert found.dropped == ()
    found = rendered(to=OLD, reasoning=Reasoning(None, 9000), max_tokens=5000, cap=2000)
    assert (json.loads(found.body)["max_tokens"], json.loads(found.body)["thinking"]["budget_tokens"]) == (2000, 1024)
    assert found.dropped == ("reasoning.budget_tokens",)
    found = rendered(to=OLD, reasoning=Reasoning("high"), max_tokens=1024)
    assert ("thinking" in json.loads(found.body), found.dropped) == (False, ("reasoning",))


@pytest.mark.parametrize(
    ("messages", "to", "kept"),
    [
        ((USER, said("assistant", CALL), said("tool", RESULT)), OLD, False),
        ((USER, said("assistant", CALL), said("tool", RESULT)), SONNET, True),
        ((USER, said("assistant", THOUGHT, CALL), said("tool", RESULT), USER), OLD, True),
        ((USER, said("assistant", Thinking("a"), CALL), said("tool", RESULT), USER), OLD, False),
        (
            (
                *(USER, said("assistant", THOUGHT, CALL), said("tool", RESULT)),
                *(said("assistant", CALL), said("tool", RESULT)),
            ),
            OLD,
            True,
        ),
        ((USER, said("assistant", CALL), said("tool", RESULT), said("assistant", "x"), USER), OLD, True),
        ((USER, said("assistant", "prefill")), OLD, False),
        ((said("assistant", CALL), said("tool", RESULT)), OLD, False),
        ((said("system", "S"),), OLD, True),
    ],
)
def test_a_turn_that_goes_on_without_a_thought_goes_on_without(messages: Any, to: str, kept: bool) -> None:
    found = rendered(*messages, to=to, reasoning=Reasoning("low"))
    assert ("thinking" in json.loads(found.body)) is kept
    assert ("reasoning" in found.dropped) is not kept


@pytest.mark.parametrize(
    ("to", "reasoning", "choice", "thinking", "dropped"),
    [
        (OLD, Reasoning("high"), "any", None, ("reasoning",)),
        (SONNET, Reasoning("high"), "any", {"type": "adaptive"}, ()),
        (NEW, None, "any", None, ()),
        ("glm-5", Reasoning("high"), "any", None, ("reasoning",)),
        (NEWEST, Reasoning("high"), "auto", {"type": "adaptive"}, ("tool_choice",)),
        ("claude-fable-5-1", None, "auto", None, ("tool_choice",)),
    ],
)
def test_a_tool_that_has_to_be_called_leaves_no_room_for_a_budget(
    to: str, reasoning: Any, choice: str, thinking: Any, dropped: Any
) -> None:
    found = rendered(to=to, reasoning=reasoning, tools=(NOW,), tool_choice=ToolChoice("required"))
    told = json.loads(found.body)
    assert (told["tool_choice"]["type"], told.get("thinking"), found.dropped) == (choice, thinking, dropped)


@pytest.mark.parametrize(
    ("to", "later", "choice", "kept"),
    [
        (NEWEST, said("user", "more"), None, True),
        (NEWEST, said("system", "more"), None, False),
        (SONNET, said("system", "more"), None, True),
        (NEWEST, said("user", "more"), ToolChoice("auto", ("now",)), False),
    ],
)
def test_a_thought_is_left_out_where_it_would_no_longer_hold(
    to: str, later: Message, choice: ToolChoice | None, kept: bool
) -> None:
    told = (said("system", "S"), USER, said("assistant", THOUGHT, "x"), later, USER)
    found = rendered(*told, to=to, tools=(NOW, WEATHER), tool_choice=choice)
    assert (b'"thinking"' in found.body, "thinking" in found.dropped) == (kept, not kept)


# --- The rest -------------------------------------------------------------------------------------------------------
def test_an_answer_has_a_limit_that_every_such_model_takes() -> None:
    names = (SONNET, "claude-3-7-sonnet-latest", "claude-3-5-haiku-20241022", "claude-3-opus-20240229", "glm-5")
    assert [body(to=name)["max_tokens"] for name in names] == [32_000, 32_000, 8_192, 4_096, 8_192]
    assert body(cap=10)["max_tokens"] == 10
    assert body(max_tokens=5, cap=10)["max_tokens"] == 5


@pytest.mark.parametrize(
    ("to", "fields", "left", "dropped"),
    [
        (OLD, {"temperature": 1.5}, {"temperature": 1.0}, ("temperature",)),
        (OLD, {"temperature": 0.5, "top_p": 0.9, "top_k": 3}, {"temperature": 0.5, "top_k": 3}, ("top_p",)),
        ("glm-5", {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}, ()),
        (NEW, {"temperature": 0.5, "top_p": 1, "top_k": 3}, {}, ("temperature", "top_k")),
        (
            SONNET,
            {"temperature": 0.5, "top_p": 0.96, "top_k": 3, "reasoning": Reasoning("low")},
            {"top_p": 0.96},
            ("temperature", "top_k"),
        ),
        (SONNET, {"temperature": 1, "top_p": 0.5, "reasoning": Reasoning("low")}, {"temperature": 1}, ("top_p",)),
    ],
)
def test_sampling_goes_where_the_model_takes_it(to: str, fields: Any, left: Any, dropped: Any) -> None:
    found = rendered(to=to, **fields)
    told = json.loads(found.body)
    assert {name: told[name] for name in ("temperature", "top_p", "top_k") if name in told} == left
    assert found.dropped == dropped


def test_json_by_a_schema_or_by_an_instruction() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    found = rendered(output=OutputFormat(schema), reasoning=Reasoning("high"))
    assert json.loads(found.body)["output_config"] == {
        "format": {"type": "json_schema", "schema": schema | {"additionalProperties": False}},
        "effort": "high",
    }
    assert found.dropped == ()
    found = rendered(said("system", "S"), USER, output=OutputFormat())
    first, second = json.loads(found.body)["system"]
    assert (first["text"], second["text"][:32]) == ("S", "Answer with a single JSON object")
    assert found.dropped == ("output",)
    found = rendered(output=OutputFormat(schema), to="claude-sonnet-4-20250514")
    assert json.dumps(schema, separators=(",", ":")) in json.loads(found.body)["system"]
    assert found.dropped == ("output",)


def test_what_cannot_be_carried_is_named() -> None:
    found = rendered(
        stop=("a", "\n"),
        stream=True,
        user="u",
        metadata={"team": "t"},
        service_tier="flex",
        seed=0,
        frequency_penalty=0.5,
        presence_penalty=0.0,
        logprobs=True,
        top_logprobs=2,
        logit_bias={"1": 1.0},
        verbosity="low",
        cache_key="k",
        modalities=("text", "audio"),
        extensions={"store": True},
    )
    told = json.loads(found.body)
    assert (told["stop_sequences"], told["stream"], told["metadata"]) == (["a"], True, {"user_id": "u"})
    assert found.dropped == (
        *("cache_key", "frequency_penalty", "logit_bias", "logprobs", "metadata", "modalities", "seed"),
        *("service_tier", "stop", "store", "top_logprobs", "verbosity"),
    )
    assert body(service_tier="priority", modalities=("text",))["service_tier"] == "auto"


def test_what_is_its_own_is_carried() -> None:
    found = rendered(
        dialect=OWN,
        metadata={"team": "t"},
        reasoning=Reasoning("high"),
        tools=(Tool("f", extras={"defer_loading": True}), ServerTool(OWN, "x", {"type": "x"})),
        extensions={"container": "c", "output_config": {"task_budget": 1}},
    )
    told = json.loads(found.body)
    assert told["output_config"] == {"effort": "high", "task_budget": 1}
    assert (told["container"], told["metadata"]) == ("c", {"team": "t"})
    assert told["tools"][0]["defer_loading"] is True and told["tools"][1] == {"type": "x"}
    assert found.dropped == ()


def test_models_are_known_by_all_their_names() -> None:
    assert [model_of(name).version for name in (OLD, "claude-opus-4-20250514", "claude-sonnet-4@20250514")] == [
        (4, 5),
        (4, 0),
        (4, 0),
    ]
    assert model_of("us.anthropic.claude-opus-4-6-v1:0") == Model("opus", (4, 6))
    assert model_of("anthropic/claude-4.7-opus") == Model("opus", (4, 7))
    assert model_of("claude-3-7-sonnet-20250219") == Model("sonnet", (3, 7))
    assert model_of("claude-mythos-preview") == Model("mythos", (4, 7))
    assert model_of("deepseek-chat") == Model()


def test_a_schema_is_cut_to_what_anthropic_follows() -> None:
    assert followed(
        {
            "$schema": "x",
            "$defs": {"A": {"type": "string", "format": "email", "pattern": "x", "description": "An address."}},
            "type": "object",
            "properties": {
                "a": {"$ref": "#/$defs/A"},
                "b": {"oneOf": [{"type": "null"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}]},
                "c": {"type": "array", "items": True, "minItems": 2},
                "d": {"type": "string", "format": "color"},
            },
            "additionalProperties": True,
        }
    ) == {
        "$defs": {"A": {"type": "string", "format": "email", "description": 'An address.\n\n{"pattern":"x"}'}},
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/A"},
            "b": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}]},
            "c": {"type": "array", "items": True, "description": '{"minItems":2}'},
            "d": {"type": "string", "description": '{"format":"color"}'},
        },
        "additionalProperties": False,
    }
