"""What Gemini is sent for a caller of another dialect."""

from typing import Any

import msgspec
import pytest

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
from gateway.wire.codec import Unsupported
from gateway.wire.gemini_generate_content import DIALECT, names
from gateway.wire.gemini_generate_content.fieldnames import NAME
from gateway.wire.gemini_generate_content.signatures import DUMMY

OLD, NEW = "gemini-2.5-flash", "gemini-3-flash"


def asked(*messages: Message, **fields: Any) -> Request:
    return Request(**{"dialect": "openai_chat", "model": "m", "messages": messages, **fields})


def sent(request: Request, model: str = OLD, cap: int | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    rendered = DIALECT.render_request(request, model, cap)
    return msgspec.json.decode(rendered.body), rendered.dropped


def turns(*messages: Message, model: str = OLD) -> list[Any]:
    contents = sent(asked(*messages), model)[0]["contents"]
    assert isinstance(contents, list)
    return contents


def parts(*given: Part, role: Role = "user", model: str = OLD) -> list[Any]:
    (turn,) = turns(Message(role, given), model=model)
    found = turn["parts"]
    assert isinstance(found, list)
    return found


def refused(*given: Part) -> Unsupported:
    with pytest.raises(Unsupported) as caught:
        parts(*given)
    return caught.value


def test_instructions_stand_in_front_wherever_they_stood() -> None:
    body, dropped = sent(
        asked(Message("user", (Text("Hi"),)), Message("system", (Text("Be brief.", cache="5m"), Text(""))))
    )
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
    }
    assert dropped == ("cache_control", "messages.system_position")
    in_front = asked(
        Message("system", (Text("A"),)), Message("system", (Text("B"),), "ann"), Message("user", (Text("Hi"),))
    )
    assert sent(in_front)[1] == ()


def test_instructions_that_stand_alone_are_what_is_said() -> None:
    body, _ = sent(asked(Message("system", (Text("Say hello."),))))
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}


def test_a_name_that_tells_speakers_apart_is_lost() -> None:
    assert sent(asked(Message("user", (Text("Hi"),), "ann")))[1] == ("name",)


def test_turns_alternate() -> None:
    called = ToolCall("c1", "f", '{"a":1}')
    assert turns(
        Message("user", (Text("Hi"),)),
        Message("assistant", (Thinking("foreign", "sig", "anthropic_messages"),)),
        Message("user", (Text("Again"),)),
        Message("assistant", (called,)),
        Message("tool", (ToolResult("c1", (Text("ok"),)),)),
        Message("user", (Text("So?"),)),
    ) == [
        {"role": "user", "parts": [{"text": "Hi"}, {"text": "Again"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}, "id": "c1"}}]},
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "f", "response": {"result": "ok"}, "id": "c1"}},
                {"text": "So?"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("arguments", "custom", "args"),
    [
        ("", False, {}),
        (' {"a": [1, 2.50]}', False, {"a": [1, 2.5]}),
        ("[1]", False, {"arguments": "[1]"}),
        ('{"a": ', False, {"arguments": '{"a": '}),
        ("print(1)", True, {"input": "print(1)"}),
    ],
)
def test_a_calls_arguments_are_an_object(arguments: str, custom: bool, args: Any) -> None:
    (part,) = parts(ToolCall("", "f", arguments, custom=custom), role="assistant")
    assert part == {"functionCall": {"name": "f", "args": args}}


@pytest.mark.parametrize(
    ("text", "is_error", "response"),
    [
        ("sunny", False, {"result": "sunny"}),
        ('{"sky":"grey"}', False, {"sky": "grey"}),
        ("[1]", False, {"result": "[1]"}),
        ("boom", True, {"error": "boom"}),
        ('{"code":1}', True, {"error": {"code": 1}}),
    ],
)
def test_what_a_tool_said(text: str, is_error: bool, response: Any) -> None:
    (part,) = parts(ToolResult("c9", (Text(text),), "f", is_error=is_error), role="tool")
    assert part == {"functionResponse": {"name": "f", "response": response, "id": "c9"}}


def test_what_a_tool_said_is_alike_for_every_generation() -> None:
    result = ToolResult("c9", (Text("sunny"),), "f")
    assert parts(result, role="tool", model=NEW) == parts(result, role="tool", model=OLD)


def test_an_answer_to_no_call_still_names_a_function() -> None:
    (part,) = parts(ToolResult("", (Text("ok"),)), role="tool")
    assert part == {"functionResponse": {"name": "unknown", "response": {"result": "ok"}}}


def test_files_of_a_tool_stand_in_its_answer_or_beside_it() -> None:
    pictured = Image(Inline("image/png", "AA=="))
    read = Document(Inline("", "JVBERi0="), context="Read it.")
    result = ToolResult("c1", (Text("ok"), pictured, read), "f")
    image = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    pdf = {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}}
    answer = {"name": "f", "response": {"result": "ok"}, "id": "c1"}
    assert parts(result, role="tool") == [{"functionResponse": answer}, image, {"text": "Read it."}, pdf]
    assert parts(result, role="tool", model=NEW) == [
        {"functionResponse": answer | {"parts": [image, pdf]}},
        {"text": "Read it."},
    ]


def test_own_signatures_go_with_the_part_they_came_with() -> None:
    assert parts(
        Thinking("", "s0", NAME),
        Thinking("Thought.", "s1", NAME),
        Thinking("More.", "", NAME),
        Text("Said."),
        Thinking("", "s2", NAME),
        Thinking("", "s3", NAME),
        ToolCall("c1", "f", "", signature="s4", origin=NAME),
        Thinking("", "s5", NAME),
        ToolCall("c2", "f", "", signature="other", origin="elsewhere"),
        Thinking("", "s6", NAME, is_summary=True),
        role="assistant",
    ) == [
        {"text": "", "thoughtSignature": "s0"},
        {"text": "Thought.", "thought": True, "thoughtSignature": "s1"},
        {"text": "More.", "thought": True},
        {"text": "Said.", "thoughtSignature": "s2"},
        {"text": "", "thoughtSignature": "s3"},
        {"functionCall": {"name": "f", "args": {}, "id": "c1"}, "thoughtSignature": "s4"},
        {"text": "", "thoughtSignature": "s5"},
        {"functionCall": {"name": "f", "args": {}, "id": "c2"}},
        {"text": "", "thought": True, "thoughtSignature": "s6"},
    ]


def test_a_step_without_a_signed_call_gets_the_dummy_where_one_is_demanded() -> None:
    calls = (Text("I call."), ToolCall("c1", "f", ""), ToolCall("c2", "f", ""))
    signed = [part.get("thoughtSignature") for part in parts(*calls, role="assistant", model=NEW)]
    assert signed == [None, DUMMY, None]
    assert not any("thoughtSignature" in part for part in parts(*calls, role="assistant", model=OLD))
    assert parts(Text("Hi"), role="assistant", model=NEW) == [{"text": "Hi"}]
    own = (ToolCall("c1", "f", "", signature="s", origin=NAME), ToolCall("c2", "f", ""))
    assert [part.get("thoughtSignature") for part in parts(*own, role="assistant", model=NEW)] == ["s", None]


def test_thoughts_of_others_are_dropped_and_named() -> None:
    request = asked(Message("assistant", (Thinking("x"), Thinking("y", "s", "anthropic_messages"), Text("Hi"))))
    body, dropped = sent(request)
    assert (body["contents"][0]["parts"], dropped) == ([{"text": "Hi"}], ("thinking",))


def test_files_and_words() -> None:
    assert parts(
        Text("", citations=(Citation("https://x.example"),)),
        Refusal("No."),
        Image(Url("https://x.example/a.JPG?x=1")),
        Image(Url("https://x.example/a")),
        Image(Inline("", "/9j/AA")),
        Audio(Url("gs://bucket/a.wav"), "spoken"),
        Audio(None, "spoken", "audio_1"),
        Audio(Inline("audio/wav", "AA==")),
        Image(FileId(NAME, "image/png files/1")),
        Document(FileId(NAME, "files/2")),
    ) == [
        {"text": "No."},
        {"fileData": {"fileUri": "https://x.example/a.JPG?x=1", "mimeType": "image/jpeg"}},
        {"fileData": {"fileUri": "https://x.example/a"}},
        {"inlineData": {"mimeType": "image/jpeg", "data": "/9j/AA"}},
        {"text": "spoken"},
        {"text": "spoken"},
        {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}},
        {"fileData": {"fileUri": "files/1", "mimeType": "image/png"}},
        {"fileData": {"fileUri": "files/2"}},
    ]


@pytest.mark.parametrize(
    "part",
    [
        Image(FileId("openai_responses", "file-1")),
        Image(Url("ftp://x.example/a.png")),
        Document(Inline("", "AAAA")),
        Audio(None, "", "audio_1"),
        Native("openai_responses", "compaction", {}),
        ToolResult("c", (Image(FileId("anthropic_messages", "f")),), "f"),
    ],
)
def test_content_that_gemini_cannot_take_is_refused_with_its_place(part: Part) -> None:
    error = refused(part)
    assert error.param.startswith("messages[0].parts[0]")
    assert error.code == "unsupported_content"


def test_what_a_vendor_ran_itself_and_hints_are_dropped_and_named() -> None:
    searched = Native("anthropic_messages", "web_search_tool_result", {})
    _, dropped = sent(asked(Message("user", (searched, Image(Url("https://x.example/a.png"), "high", "1h")))))
    assert dropped == ("cache_control", "image.detail", "web_search_tool_result")


def test_tools() -> None:
    tools = (
        Tool("f", parameters={"type": "object"}, strict=True, cache="5m", extras={"defer_loading": True}),
        Tool("g", "Does it.", namespace="space"),
        CustomTool("patch", "Patches."),
        ServerTool("anthropic_messages", "web_search", {}),
        ServerTool(NAME, "googleSearch", {"googleSearch": {}}),
    )
    body, dropped = sent(asked(tools=tools))
    declared, own = body["tools"]
    assert own == {"googleSearch": {}}
    first, second, third = declared["functionDeclarations"]
    assert first == {"name": "f", "description": "", "parametersJsonSchema": {"type": "object"}}
    assert second == {"name": "space__g", "description": "Does it."}
    assert third["parametersJsonSchema"]["required"] == ["input"]
    assert dropped == ("cache_control", "tools.defer_loading", "tools.strict", "tools.web_search")


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none", ("f",)), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("required", ("f",)), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (ToolChoice("auto", ("f",)), {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
    ],
)
def test_the_choice_of_tools(choice: ToolChoice, config: Any) -> None:
    body, _ = sent(asked(tools=(Tool("f"),), tool_choice=choice))
    assert body["toolConfig"] == {"functionCallingConfig": config}
    assert "toolConfig" not in sent(asked(tool_choice=choice))[0]


@pytest.mark.parametrize("name", ["get_weather", "_a.b:c-d", "1st", "bad name", "größe", "apx_00", "-x", "\ud800"])
def test_a_functions_name_is_kept_or_comes_back(name: str) -> None:
    written = names.function_name(name, "tools[0].name")
    assert names.FUNCTION.fullmatch(written)
    assert names.original(written) == name


@pytest.mark.parametrize("name", ["", "x" * 129, "ö" * 63])
def test_a_functions_name_that_cannot_be_written_is_refused(name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        names.function_name(name, "tools[0].name")
    assert caught.value.param == "tools[0].name"


@pytest.mark.parametrize("name", ["apx_", "apx_zz", "apx_abc", "apx_ff"])
def test_what_only_looks_like_a_written_name_stays(name: str) -> None:
    assert names.original(name) == name


def test_tuning_is_carried_or_named() -> None:
    body, dropped = sent(
        asked(
            max_tokens=100,
            temperature=0.0,
            stop=("a", "b", "c", "d", "e", "f"),
            choices=2,
            logprobs=True,
            top_logprobs=3,
            parallel_tool_calls=False,
            logit_bias={"1": 1.0},
            verbosity="low",
            metadata={"a": "b"},
            user="u",
            cache_key="k",
            service_tier="scale",
            output=OutputFormat(),
            modalities=("audio",),
            extensions={"store": True},
        ),
        cap=50,
    )
    assert body["generationConfig"] == {
        "temperature": 0.0,
        "stopSequences": ["a", "b", "c", "d", "e"],
        "candidateCount": 2,
        "responseLogprobs": True,
        "logprobs": 3,
        "responseModalities": ["AUDIO"],
        "maxOutputTokens": 50,
        "responseMimeType": "application/json",
    }
    assert dropped == (
        "cache_key",
        "logit_bias",
        "metadata",
        "parallel_tool_calls",
        "service_tier",
        "stop",
        "store",
        "user",
        "verbosity",
    )


@pytest.mark.parametrize(
    ("model", "reasoning", "config"),
    [
        ("gemini-3-flash-preview", Reasoning("none"), {"thinkingLevel": "minimal"}),
        ("gemini-3-flash-preview", Reasoning("xhigh"), {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3.1-pro-preview", Reasoning("minimal"), {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-3-pro-preview", Reasoning("medium"), {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-flash-latest", Reasoning(budget_tokens=8000), {"thinkingLevel": "medium", "includeThoughts": True}),
        ("gemini-3-flash", Reasoning(budget_tokens=-1), {"includeThoughts": True}),
        ("gemini-2.5-flash", Reasoning("none"), {"thinkingBudget": 0}),
        ("gemini-2.5-flash", Reasoning("max", summary="none"), {"thinkingBudget": 24576, "includeThoughts": False}),
        ("gemini-2.5-pro", Reasoning("none"), {"thinkingBudget": 128}),
        ("gemini-2.5-pro", Reasoning(budget_tokens=-1), {"thinkingBudget": -1, "includeThoughts": True}),
        ("gemini-2.5-flash-lite", Reasoning(budget_tokens=100), {"thinkingBudget": 512, "includeThoughts": True}),
        ("gemini-2.5-flash", Reasoning(summary="detailed"), {"includeThoughts": True}),
    ],
)
def test_effort_is_a_level_or_a_budget_by_the_model(model: str, reasoning: Reasoning, config: Any) -> None:
    assert sent(asked(reasoning=reasoning), model)[0]["generationConfig"]["thinkingConfig"] == config


@pytest.mark.parametrize("model", ["gemini-2.0-flash", "gemma-3-27b-it"])
def test_a_model_that_does_not_think_is_not_asked_to(model: str) -> None:
    body, dropped = sent(asked(reasoning=Reasoning("high")), model)
    assert ("generationConfig" in body, dropped) == (False, ("reasoning",))


@pytest.mark.parametrize(("tier", "field"), [("flex", "flex"), ("priority", "priority"), ("default", None)])
def test_service_tiers(tier: str, field: str | None) -> None:
    assert sent(asked(service_tier=tier))[0].get("serviceTier") == field
