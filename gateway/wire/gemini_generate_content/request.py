"""A request of `generateContent` or `streamGenerateContent`: as it passes through, and as it is understood. Pure.

Model and streaming are said by the path (https://ai.google.dev/api/generate-content#method:-models.generatecontent).
What only Gemini knows are extensions: a top-level field under its name, a field of `generationConfig` or `toolConfig`
under both names with a dot between.
"""

from typing import Any

import msgspec

from gateway.wire import fields
from gateway.wire.canonical import (
    AnyTool,
    Effort,
    Json,
    OutputFormat,
    Reasoning,
    Request,
    ServerTool,
    Tool,
    ToolChoice,
)
from gateway.wire.codec import Cap, Rendered
from gateway.wire.effort import BUDGETS
from gateway.wire.fields import Asked, Fields, InvalidRequest, encode
from gateway.wire.gemini_generate_content import content
from gateway.wire.gemini_generate_content.fieldnames import (
    NAME,
    a_flag,
    a_list,
    a_number,
    a_text,
    a_whole,
    an_object,
    camel,
    pick,
    snake,
)
from gateway.wire.gemini_generate_content.names import model_path
from gateway.wire.gemini_generate_content.schema import json_schema
from gateway.wire.usage import TOKENS_MAX

CONFIG = "generationConfig"
JSON_TYPE = "application/json"
# The names of the top-level fields that the canonical form has; `model` and `stream` are the path's.
UNDERSTOOD = {"contents", "systemInstruction", "tools", "toolConfig", CONFIG, "serviceTier", "model"}
SCHEMA_FIELDS = ("responseMimeType", "responseSchema", "responseJsonSchema")
CONFIGURED = {
    *SCHEMA_FIELDS,
    "stopSequences",
    "candidateCount",
    "maxOutputTokens",
    "temperature",
    "topP",
    "topK",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "thinkingConfig",
    "responseModalities",
}
MODES = {"AUTO": "auto", "VALIDATED": "auto", "ANY": "required", "NONE": "none"}
EFFORTS: dict[str, Effort] = {effort.upper(): effort for effort in BUDGETS}
SUMMARIES = {None: "", True: "auto", False: "none"}
DECLARED = {"name", "description", "parameters", "parametersJsonSchema"}
TIERS = {"FLEX": "flex", "PRIORITY": "priority", "STANDARD": "default"}
COLLECTION = "models/"


def read(body: bytes, model: str | None, stream: bool | None) -> Asked:
    """Return what the gateway has to know of a request; raise InvalidRequest.

    `usage: {"include": true}`, which no upstream gets, asks for the cost in `usageMetadata`.
    """
    found = fields.read(body)
    if model is None:
        model = fields.model(found)
    model = model.removeprefix(COLLECTION)
    if not model or len(model) > fields.MODEL_CHARS_MAX:
        raise InvalidRequest(
            "invalid_parameter",
            f"The path names no model, or one of over {fields.MODEL_CHARS_MAX} characters.",
            "model",
        )
    try:
        config = _config(found)
        return Asked(
            model=model,
            stream=bool(stream),
            wants_usage=True,
            wants_cost=_wants_cost(found),
            fields=found,
            max_tokens=_priced(config, "maxOutputTokens"),
            choices=_priced(config, "candidateCount", fields.CHOICES_MAX) or 1,
            labels=_labels(found),
        )
    except InvalidRequest as error:
        error.model = model if error.code == "invalid_parameter" else None
        raise


def _field(found: Fields, name: str) -> Any:
    """Return a top-level field under either of its names."""
    value = fields.value(found, name)
    return fields.value(found, snake(name)) if value is None else value


def _config(found: Fields) -> Json:
    _once(CONFIG, fields.value(found, CONFIG), fields.value(found, snake(CONFIG)))
    return an_object(_field(found, CONFIG), CONFIG)


def _priced(config: Json, name: str, most: int = TOKENS_MAX) -> int | None:
    path = f"{CONFIG}.{name}"
    _once(path, config.get(name), config.get(snake(name)))
    return fields.whole(a_whole(pick(config, name), path), path, most)


def _once(path: str, camel_cased: Any, snake_cased: Any) -> None:
    """Raise InvalidRequest for a field under both of its names: which one an upstream goes by, nobody knows."""
    if camel_cased is not None and snake_cased is not None:
        raise InvalidRequest("invalid_parameter", f"{path} stands there under both of its names.", path)


def _wants_cost(found: Fields) -> bool:
    usage = fields.value(found, "usage")
    if isinstance(usage, dict):
        del found["usage"]
        return usage.get("include") is True
    return False


def _labels(found: Fields) -> dict[str, str] | None:
    """Return the request's `labels`, in the bounds that `metadata` has elsewhere."""
    return fields.labels({"metadata": found["labels"]}) if "labels" in found else None


def passed(asked: Asked, upstream_id: str, cap: tuple[str, Cap] | None) -> Rendered:
    """Return the request with the caller's own fields; the path names the upstream's model."""
    found = dict(asked.fields)
    if "model" in found:
        found["model"] = msgspec.Raw(encode(f"{COLLECTION}{upstream_id}"))
    if cap is not None:
        config = _config(found)
        for name in (CONFIG, snake(CONFIG)):
            found.pop(name, None)
        kept = {name: value for name, value in config.items() if camel(name) != cap[0]}
        found[CONFIG] = msgspec.Raw(encode(kept | {cap[0]: cap[1]}))
    return address(upstream_id, asked.stream, encode(found))


def address(upstream_id: str, stream: bool, body: bytes, dropped: tuple[str, ...] = ()) -> Rendered:
    """Return a body on its way; a stream is always asked for as server-sent events."""
    verb = "streamGenerateContent" if stream else "generateContent"
    return Rendered(model_path(upstream_id, verb), body, dropped, query="alt=sse" if stream else "")


def parse_request(asked: Asked) -> Request:
    """Return what is asked of the model; raise InvalidRequest."""
    found = asked.fields
    config = _config(found)
    tool_config = an_object(_field(found, "toolConfig"), "toolConfig")
    tools = tuple(_tools(_field(found, "tools")))
    logprobs = a_flag(pick(config, "responseLogprobs"), f"{CONFIG}.responseLogprobs")
    return Request(
        dialect=NAME,
        model=asked.model,
        stream=asked.stream,
        messages=content.conversation(_field(found, "systemInstruction"), _field(found, "contents")),
        tools=tools,
        tool_choice=_tool_choice(pick(tool_config, "functionCallingConfig")),
        output=_output(config),
        reasoning=_reasoning(pick(config, "thinkingConfig")),
        max_tokens=asked.max_tokens,
        temperature=_number(config, "temperature"),
        top_p=_number(config, "topP"),
        top_k=_whole(config, "topK"),
        frequency_penalty=_number(config, "frequencyPenalty"),
        presence_penalty=_number(config, "presencePenalty"),
        seed=_whole(config, "seed"),
        stop=_texts(config, "stopSequences"),
        choices=asked.choices,
        logprobs=logprobs,
        top_logprobs=_whole(config, "logprobs"),
        modalities=tuple(
            each.lower() for each in _texts(config, "responseModalities") if each.upper() in ("AUDIO", "IMAGE")
        ),
        service_tier=_tier(_field(found, "serviceTier")),
        extensions=_extensions(found, config, tool_config),
    )


def _number(config: Json, name: str) -> float | None:
    return a_number(pick(config, name), f"{CONFIG}.{name}")


def _whole(config: Json, name: str) -> int | None:
    return a_whole(pick(config, name), f"{CONFIG}.{name}")


def _texts(config: Json, name: str) -> tuple[str, ...]:
    path = f"{CONFIG}.{name}"
    return tuple(a_text(each, path) for each in a_list(pick(config, name), path))


def _tier(found: Any) -> str:
    tier = a_text(found, "serviceTier").upper().removeprefix("SERVICE_TIER_")
    return TIERS.get(tier, "")


def _tools(found: Any) -> list[AnyTool]:
    tools: list[AnyTool] = []
    for number, each in enumerate(a_list(found, "tools")):
        path = f"tools[{number}]"
        for name, value in an_object(each, path).items():
            if camel(name) != "functionDeclarations":
                if value is not None:
                    tools.append(ServerTool(NAME, camel(name), {camel(name): value}))
                continue
            for index, declared in enumerate(a_list(value, f"{path}.functionDeclarations")):
                where = f"{path}.functionDeclarations[{index}]"
                tools.append(_function(an_object(declared, where), where))
    return tools


def _function(declared: Json, path: str) -> Tool:
    name = a_text(declared.get("name"), f"{path}.name")
    if not name:
        raise InvalidRequest("invalid_parameter", f"{path}.name is missing.", f"{path}.name")
    schema = pick(declared, "parametersJsonSchema")
    if schema is None:
        schema = _json_schema(declared.get("parameters"), f"{path}.parameters")
    return Tool(
        name=name,
        description=a_text(declared.get("description"), f"{path}.description"),
        parameters=None if schema is None else an_object(schema, f"{path}.parameters"),
        extras={camel(each): value for each, value in declared.items() if camel(each) not in DECLARED},
    )


def _tool_choice(found: Any) -> ToolChoice | None:
    path = "toolConfig.functionCallingConfig"
    config = an_object(found, path)
    mode = MODES.get(a_text(config.get("mode"), f"{path}.mode").upper())
    if mode is None:
        return None
    names = a_list(pick(config, "allowedFunctionNames"), f"{path}.allowedFunctionNames")
    allowed = tuple(a_text(name, f"{path}.allowedFunctionNames") for name in names)
    return msgspec.convert({"mode": mode, "names": allowed}, ToolChoice)


def _output(config: Json) -> OutputFormat | None:
    if not _is_json(config):
        return None
    schema = pick(config, "responseJsonSchema")
    path = f"{CONFIG}.responseJsonSchema"
    if schema is None:
        path = f"{CONFIG}.responseSchema"
        schema = _json_schema(pick(config, "responseSchema"), path)
    return OutputFormat(None if schema is None else an_object(schema, path))


def _json_schema(schema: Any, path: str) -> Any:
    try:
        return json_schema(schema)
    except RecursionError:
        raise InvalidRequest("invalid_parameter", f"{path} is nested too deeply.", path) from None


def _is_json(config: Json) -> bool:
    return a_text(pick(config, "responseMimeType"), f"{CONFIG}.responseMimeType") == JSON_TYPE


def _reasoning(found: Any) -> Reasoning | None:
    if found is None:
        return None
    path = f"{CONFIG}.thinkingConfig"
    config = an_object(found, path)
    shown = pick(config, "includeThoughts")
    return Reasoning(
        effort=EFFORTS.get(a_text(pick(config, "thinkingLevel"), f"{path}.thinkingLevel").upper()),
        budget_tokens=a_whole(pick(config, "thinkingBudget"), f"{path}.thinkingBudget"),
        summary=SUMMARIES[None if shown is None else a_flag(shown, f"{path}.includeThoughts")],
    )


def _extensions(found: Fields, config: Json, tool_config: Json) -> Json:
    made: Json = {}
    for name in found:
        if camel(name) not in UNDERSTOOD and fields.present(found[name]):
            made[camel(name)] = fields.value(found, name)
    understood = CONFIGURED if _is_json(config) else CONFIGURED - {*SCHEMA_FIELDS}
    for holder, inner, known in (
        (CONFIG, config, understood),
        ("toolConfig", tool_config, {"functionCallingConfig"}),
    ):
        for name, value in inner.items():
            if camel(name) not in known and value is not None:
                made[f"{holder}.{camel(name)}"] = value
    return made
