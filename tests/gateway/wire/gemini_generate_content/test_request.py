"""What callers send: read, passed on, and understood."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.wire import marks
from gateway.wire.canonical import (
    Audio,
    Document,
    FileId,
    Image,
    Inline,
    Message,
    Native,
    OutputFormat,
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
from gateway.wire.codec import Unsupported
from gateway.wire.fields import InvalidRequest
from gateway.wire.gemini_generate_content import DIALECT, signatures
from gateway.wire.gemini_generate_content.fieldnames import NAME

encode = msgspec.json.encode


def parsed(body: dict[str, Any], *, stream: bool = False) -> Request:
    return DIALECT.parse_request(DIALECT.read(encode(body), "acme/big", stream))


def said(*parts: Any, role: str = "model") -> tuple[Message, ...]:
    return parsed({"contents": [{"role": role, "parts": list(parts)}]}).messages


def refused(body: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parsed(body)
    return caught.value


def test_the_path_says_model_and_streaming() -> None:
    asked = DIALECT.read(b'{"contents":"Hi","model":"models/other"}', "models/acme/big", True)
    assert (asked.model, asked.stream, asked.wants_usage, asked.choices) == ("acme/big", True, True, 1)


def test_without_a_path_the_body_says_it() -> None:
    assert DIALECT.read(b'{"contents":"Hi","model":"models/m"}', None, None).model == "m"


@pytest.mark.parametrize("model", ["", "models/", "x" * 257])
def test_a_model_has_a_name_of_bounded_length(model: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.read(b"{}", model, False)
    assert caught.value.param == "model"


def test_what_a_price_is_multiplied_by_is_known_at_once() -> None:
    asked = DIALECT.read(b'{"generationConfig":{"maxOutputTokens":"9","candidateCount":3.0}}', "m", False)
    assert (asked.max_tokens, asked.choices) == (9, 3)


@pytest.mark.parametrize(
    ("config", "param"),
    [
        ({"maxOutputTokens": 0}, "generationConfig.maxOutputTokens"),
        ({"max_output_tokens": "many"}, "generationConfig.maxOutputTokens"),
        ({"candidateCount": 1000}, "generationConfig.candidateCount"),
        ([], "generationConfig"),
    ],
)
def test_a_wrong_limit_is_named_with_the_model(config: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.read(encode({"generationConfig": config}), "m", False)
    assert (caught.value.param, caught.value.model) == (param, "m")


def test_a_body_that_is_no_json_names_no_model() -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.read(b'{"generationConfig": {]}', "m", False)
    assert (caught.value.code, caught.value.model) == ("invalid_json", None)


def test_the_cost_is_asked_for_by_a_field_that_no_upstream_gets() -> None:
    asked = DIALECT.read(b'{"contents":"Hi","usage":{"include":true}}', "m", False)
    assert asked.wants_cost
    assert b"usage" not in DIALECT.passed(asked, "up", None).body


def test_labels_are_short_texts() -> None:
    asked = DIALECT.read(b'{"contents":"Hi","labels":{"team":"red","n":1}}', "m", False)
    assert asked.labels == {"team": "red"}


def test_a_request_that_passes_keeps_its_bytes() -> None:
    body = b'{"contents":[{"parts":[{"text":"Hi","odd":1e400}]}],"unknownField":{"a": 1}}'
    rendered = DIALECT.passed(DIALECT.read(body, "m", True), "gemini-3-pro", None)
    assert (rendered.body, rendered.path, rendered.query) == (
        body,
        "/models/gemini-3-pro:streamGenerateContent",
        "alt=sse",
    )


def test_a_request_that_passes_names_the_upstreams_model_where_it_named_one() -> None:
    rendered = DIALECT.passed(DIALECT.read(b'{"model":"models/m"}', "m", False), "tunedModels/x y", None)
    assert rendered.body == b'{"model":"models/tunedModels/x y"}'
    assert rendered.path == "/tunedModels/x%20y:generateContent"


def test_a_cap_takes_the_place_of_the_callers_limit() -> None:
    asked = DIALECT.read(b'{"generation_config":{"max_output_tokens":9,"top_k":2}}', "m", False)
    rendered = DIALECT.passed(asked, "up", ("maxOutputTokens", 5))
    assert msgspec.json.decode(rendered.body) == {"generationConfig": {"top_k": 2, "maxOutputTokens": 5}}


def test_contents_may_be_a_text_a_part_or_parts_of_texts() -> None:
    hi = (Message("user", (Text("Hi"),)),)
    assert parsed({"contents": "Hi"}).messages == hi
    assert parsed({"contents": {"text": "Hi"}}).messages == hi
    assert parsed({"contents": ["Hi"]}).messages == hi
    assert parsed({"contents": {"role": "user", "parts": "Hi"}}).messages == hi
    assert parsed({"contents": {"parts": {"text": "Hi"}}}).messages == hi


def test_instructions_may_be_a_text_a_part_or_a_content_and_stand_anywhere() -> None:
    told = Message("system", (Text("Be brief."),))
    for system in ("Be brief.", {"text": "Be brief."}, {"role": "user", "parts": ["Be brief."]}):
        assert parsed({"systemInstruction": system}).messages == (told,)
    assert said({"text": "Be brief."}, {"inlineData": {}}, role="system") == (told,)


def test_instructions_are_texts() -> None:
    error = refused({"systemInstruction": {"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}})
    assert error.param == "systemInstruction.parts"


def test_parts_that_only_gemini_knows_stay_as_they_are() -> None:
    code = {"executable_code": {"code": "1"}, "thoughtSignature": "abc="}
    assert said(code) == (Message("assistant", (Native(NAME, "executableCode", code),)),)
    assert said({"thought": True}, {"text": ""}, {}) == ()


def test_files_are_told_apart_by_their_kind_and_place() -> None:
    parts = said(
        {"inlineData": {"mimeType": "image/png", "data": "-_8="}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}},
        {"inline_data": {"mime_type": "video/mp4", "data": "AA==", "displayName": "film"}},
        {"fileData": {"fileUri": "https://x.example/a.webp?v=1"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/1", "mimeType": "image/png"}},
        {"fileData": {"fileUri": "files/2"}},
        {"fileData": {"fileUri": "https://[bad", "mimeType": "audio/mp3"}},
        {"fileData": {"fileUri": "https://[bad"}},
        role="user",
    )[0].parts
    assert parts == (
        Image(Inline("image/png", "+/8=")),
        Audio(Inline("audio/wav", "AA==")),
        Document(Inline("video/mp4", "AA=="), name="film"),
        Image(Url("https://x.example/a.webp?v=1")),
        Image(FileId(NAME, "image/png https://generativelanguage.googleapis.com/v1beta/files/1")),
        Document(FileId(NAME, "files/2")),
        Audio(Url("https://[bad")),
        Document(Url("https://[bad")),
    )


def test_an_answer_without_an_id_belongs_to_the_first_call_of_its_name() -> None:
    def call(name: str, id: str = "") -> dict[str, Any]:
        return {"functionCall": {"name": name, "id": id}}

    def answer(name: str, id: str = "") -> dict[str, Any]:
        return {"functionResponse": {"name": name, "id": id, "response": {}}}

    made, answered = parsed(
        {
            "contents": [
                {"role": "model", "parts": [call("a"), call("b", "own"), call("a"), call("a", "late"), call("c")]},
                {
                    "role": "function",
                    "parts": [answer("a"), answer("a", "late"), answer("a"), answer("other"), answer("a"), answer("a")],
                },
            ]
        }
    ).messages
    ids = [part.id for part in made.parts if isinstance(part, ToolCall)]
    assert ids == ["gemini_call_1", "own", "gemini_call_2", "late", "gemini_call_3"]
    assert [part.call_id for part in answered.parts if isinstance(part, ToolResult)] == [
        "gemini_call_1",
        "late",
        "gemini_call_2",
        "own",
        "gemini_call_3",
        "gemini_call_4",
    ]


def test_what_a_function_says_is_a_text_an_error_or_its_json() -> None:
    def answered(response: Any) -> tuple[str, bool]:
        (message,) = said({"functionResponse": {"name": "f", "response": response}}, role="user")
        (result,) = message.parts
        assert isinstance(result, ToolResult)
        return "".join(part.text for part in result.parts if isinstance(part, Text)), result.is_error

    assert answered({"result": "sunny"}) == ("sunny", False)
    assert answered({"output": "sunny"}) == ("sunny", False)
    assert answered({"result": {"a": 1}}) == ('{"result":{"a":1}}', False)
    assert answered({"error": "boom"}) == ("boom", True)
    assert answered({"error": {"code": 1}}) == ('{"code":1}', True)
    assert answered({"error": None}) == ('{"error":null}', False)
    assert answered({}) == ("", False)
    assert answered(None) == ("", False)


def test_a_functions_answer_may_bring_files() -> None:
    (message,) = said(
        {
            "functionResponse": {
                "name": "f",
                "response": {"result": "ok"},
                "parts": [
                    {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
                    {"fileData": {"fileUri": "https://x.example/a.pdf"}},
                    {"odd": 1},
                ],
            }
        },
        role="user",
    )
    assert message.parts == (
        ToolResult(
            "gemini_call_1",
            (Text("ok"), Image(Inline("image/png", "AA==")), Document(Url("https://x.example/a.pdf"))),
            "f",
        ),
    )


def test_an_answer_in_chunks_is_put_together() -> None:
    foreign = signatures.write("sig", "anthropic_messages", "id")
    redacted = signatures.write("hidden", "anthropic_messages", redacted=True)
    (message,) = said(
        {"text": "I ", "thought": True},
        {"text": "think.", "thought": True},
        {"text": "", "thought": True, "thoughtSignature": foreign},
        {"text": "", "thought": True, "thoughtSignature": redacted},
        {"text": "Hel"},
        {"text": "lo"},
        {"text": "Own.", "thought": True},
        {"text": "Signed.", "thought": True, "thoughtSignature": "c2ln"},
    )
    assert message.parts == (
        Thinking("I think.", "sig", "anthropic_messages", "id"),
        Thinking("", "hidden", "anthropic_messages", redacted=True),
        Text("Hello"),
        Thinking("Own.", "", NAME, is_summary=True),
        Thinking("Signed.", "c2ln", NAME, is_summary=True),
    )


def test_an_answer_whose_chunks_are_contents_is_put_together() -> None:
    """Python's package keeps a chat's history so."""
    chunks = (
        {"text": "I ", "thought": True},
        {"text": "think.", "thought": True},
        {"text": "", "thought": True, "thoughtSignature": signatures.write("sig", "anthropic_messages")},
        {"text": "Hel"},
        {"text": "lo"},
    )
    contents = [{"role": "user", "parts": [{"text": "?"}]}, *({"role": "model", "parts": [each]} for each in chunks)]
    _, message = parsed({"contents": contents}).messages
    assert message.parts == (Thinking("I think.", "sig", "anthropic_messages"), Text("Hello"))


def test_what_was_signed_beside_a_picture_follows_it() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "AA=="}, "thoughtSignature": "c2ln"}
    (message,) = said(image, {"text": "", "thought": True})
    assert message.parts == (Image(Inline("image/png", "AA==")), Thinking("", "c2ln", NAME))


def test_the_dummy_signature_is_none() -> None:
    (message,) = said({"functionCall": {"name": "f"}, "thoughtSignature": signatures.DUMMY})
    assert message.parts == (ToolCall("gemini_call_1", "f", "{}"),)


@pytest.mark.parametrize("signature", ["sig+/=", "ö", "", "x" * 1000])
@pytest.mark.parametrize("is_summary", [False, True])
@pytest.mark.parametrize("redacted", [False, True])
def test_a_foreign_signature_comes_back_in_either_alphabet(signature: str, is_summary: bool, redacted: bool) -> None:
    written = signatures.write(signature, "openai_responses", "rs_1", is_summary=is_summary, redacted=redacted)
    expected = signatures.Signature(signature, "openai_responses", "rs_1", is_summary, redacted)
    if not signature:
        expected = signatures.NONE
    assert signatures.read(written) == expected
    assert signatures.read(written.replace("+", "-").replace("/", "_").rstrip("=")) == expected


def test_a_body_shows_that_it_holds_a_foreign_signature() -> None:
    written = signatures.write("sig", "anthropic_messages", "id")
    assert marks.has_marks(encode({"thoughtSignature": written}))
    assert not marks.has_marks(encode({"thoughtSignature": "CtwBAbPU"}))


def test_what_only_begins_like_a_mark_is_geminis_own() -> None:
    for text in ("YXBlcnR1cmUx\u00e9", "YXBlcnR1cmUx/w=="):
        assert signatures.read(text) == signatures.Signature(text, NAME)


def test_tools_are_functions_or_geminis_own() -> None:
    request = parsed(
        {
            "tools": [
                {"functionDeclarations": {"name": "f", "behavior": "BLOCKING"}, "googleSearch": {}},
                {"url_context": {}, "googleMaps": None},
            ]
        }
    )
    assert request.tools == (
        Tool("f", extras={"behavior": "BLOCKING"}),
        ServerTool(NAME, "googleSearch", {"googleSearch": {}}),
        ServerTool(NAME, "urlContext", {"urlContext": {}}),
    )


@pytest.mark.parametrize(
    ("config", "choice"),
    [
        (None, None),
        ({}, None),
        ({"mode": "MODE_UNSPECIFIED"}, None),
        ({"mode": "AUTO"}, ToolChoice("auto")),
        ({"mode": "none"}, ToolChoice("none")),
        ({"mode": "ANY", "allowed_function_names": ["f"]}, ToolChoice("required", ("f",))),
        ({"mode": "VALIDATED", "allowedFunctionNames": "f"}, ToolChoice("auto", ("f",))),
    ],
)
def test_the_choice_of_tools(config: Any, choice: ToolChoice | None) -> None:
    assert parsed({"toolConfig": {"functionCallingConfig": config}}).tool_choice == choice


def test_json_is_wanted_by_either_kind_of_schema_or_none() -> None:
    def wanted(**config: Any) -> OutputFormat | None:
        return parsed({"generationConfig": {"responseMimeType": "application/json"} | config}).output

    assert wanted() == OutputFormat()
    assert wanted(responseSchema={"type": "OBJECT", "nullable": True}) == OutputFormat({"type": ["object", "null"]})
    assert wanted(responseJsonSchema={"type": "object"}) == OutputFormat({"type": "object"})
    assert wanted(responseSchema={"type": "TYPE_UNSPECIFIED", "defs": {"A": {"type": "STRING"}}, "ref": "#"}) == (
        OutputFormat({"$defs": {"A": {"type": "string"}}, "$ref": "#"})
    )


def test_numbers_of_any_length_are_carried_where_they_are_content() -> None:
    number = 10**40
    body = (
        b'{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f","args":{"n":%d}}},{"odd":{"n":%d}}]},'
        b'{"parts":[{"functionResponse":{"name":"f","response":{"n":%d}}}]}]}' % (number, number, number)
    )
    request = DIALECT.parse_request(DIALECT.read(body, "m", False))
    called, answered = request.messages
    assert called.parts[0] == ToolCall("gemini_call_1", "f", f'{{"n":{number}}}')
    assert answered.parts == (ToolResult("gemini_call_1", (Text(f'{{"n":{number}}}'),), "f"),)
    assert DIALECT.render_request(request, "m", None).body.count(b"%d" % number) == 3


@pytest.mark.parametrize("name", ["temperature", "topK"])
def test_numbers_of_any_length_are_refused_where_they_are_counted(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.parse_request(DIALECT.read(b'{"generationConfig":{"%b":%d}}' % (name.encode(), 10**40), "m", False))
    assert caught.value.param == f"generationConfig.{name}"


def test_a_schema_has_a_depth() -> None:
    schema = b'{"items":' * 490 + b"{}" + b"}" * 490
    asked = DIALECT.read(b'{"tools":[{"functionDeclarations":[{"name":"f","parameters":%b}]}]}' % schema, "m", False)
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.parse_request(asked)
    assert caught.value.param == "tools[0].functionDeclarations[0].parameters"


def test_what_only_gemini_knows_is_an_extension() -> None:
    request = parsed(
        {
            "contents": "Hi",
            "safety_settings": [],
            "cachedContent": None,
            "generationConfig": {"mediaResolution": "HIGH", "responseMimeType": "text/x.enum", "responseSchema": {}},
            "toolConfig": {"retrievalConfig": {}},
        }
    )
    assert request.extensions == {
        "safetySettings": [],
        "generationConfig.mediaResolution": "HIGH",
        "generationConfig.responseMimeType": "text/x.enum",
        "generationConfig.responseSchema": {},
        "toolConfig.retrievalConfig": {},
    }


@pytest.mark.parametrize(
    ("config", "reasoning"),
    [
        ({}, Reasoning()),
        ({"thinkingLevel": "HIGH"}, Reasoning("high")),
        ({"thinking_level": "xhigh", "include_thoughts": False}, Reasoning("xhigh", summary="none")),
        ({"thinkingBudget": 0, "includeThoughts": True}, Reasoning(budget_tokens=0, summary="auto")),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, Reasoning()),
    ],
)
def test_how_much_is_to_be_thought(config: Any, reasoning: Reasoning) -> None:
    assert parsed({"generationConfig": {"thinkingConfig": config}}).reasoning == reasoning


def test_service_tier_and_modalities() -> None:
    request = parsed(
        {"serviceTier": "SERVICE_TIER_PRIORITY", "generationConfig": {"responseModalities": ["TEXT", "Audio"]}}
    )
    assert (request.service_tier, request.modalities) == ("priority", ("audio",))
    assert parsed({"serviceTier": "odd"}).service_tier == ""


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"contents": 1}, "contents"),
        ({"contents": [1]}, "contents[0]"),
        ({"contents": [{"role": "narrator"}]}, "contents[0].role"),
        ({"contents": [{"role": 1}]}, "contents[0].role"),
        ({"contents": [{"parts": [{"text": 1}]}]}, "contents[0].parts[0].text"),
        ({"contents": [{"parts": [{"text": "x", "thought": "yes"}]}]}, "contents[0].parts[0].thought"),
        ({"contents": [{"parts": [{"functionCall": {}}]}]}, "contents[0].parts[0].functionCall.name"),
        (
            {"contents": [{"parts": [{"functionCall": {"name": "f", "args": []}}]}]},
            "contents[0].parts[0].functionCall.args",
        ),
        ({"contents": [{"parts": [{"fileData": {}}]}]}, "contents[0].parts[0].fileData.fileUri"),
        ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "parameters": 1}]}]},
            "tools[0].functionDeclarations[0].parameters",
        ),
        ({"generationConfig": {"temperature": "warm"}}, "generationConfig.temperature"),
        ({"generationConfig": {"topK": 1.5}}, "generationConfig.topK"),
        ({"generationConfig": {"responseLogprobs": 1}}, "generationConfig.responseLogprobs"),
        ({"generationConfig": {"stopSequences": [1]}}, "generationConfig.stopSequences"),
        ({"generationConfig": {"topP": True}}, "generationConfig.topP"),
    ],
)
def test_a_wrong_type_is_named_with_its_place(body: dict[str, Any], param: str) -> None:
    error = refused(body)
    assert (error.code, error.param) == ("invalid_parameter", param)


KEYS = (
    "contents role parts text thought thoughtSignature functionCall functionResponse name args id response error "
    "inlineData mimeType data fileData fileUri systemInstruction tools functionDeclarations parameters type properties "
    "items nullable toolConfig functionCallingConfig mode allowedFunctionNames generationConfig stopSequences topK "
    "responseMimeType responseSchema maxOutputTokens thinkingConfig thinkingLevel thinkingBudget labels serviceTier"
)
TEXTS = ["user", "model", "", "application/json", "ANY", "OBJECT", "image/png", "files/1", "https://x.example/a.png"]
simple = st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    simple | st.text(max_size=4) | st.sampled_from(TEXTS),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(KEYS.split())), inner, max_size=6)
    ),
    max_leaves=10,
)
contents = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "model", "function"]), "parts": st.lists(json_values)})
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=80)
    | st.dictionaries(st.sampled_from(sorted(KEYS.split())), json_values, max_size=6).map(encode)
    | st.fixed_dictionaries({"contents": contents, "tools": json_values, "generationConfig": json_values}).map(encode)
)
def test_hostile_bodies_raise_nothing_else(body: bytes) -> None:
    try:
        request = DIALECT.parse_request(DIALECT.read(body, "m", True))
        rendered = DIALECT.render_request(request, "gemini-3-flash", None)
    except (InvalidRequest, Unsupported):
        return
    assert isinstance(msgspec.json.decode(rendered.body), dict)
