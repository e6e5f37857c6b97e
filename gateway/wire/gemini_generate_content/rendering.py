"""A request for an upstream that speaks `generateContent`. Pure.

Schemas go as `parametersJsonSchema` and `responseJsonSchema`, which take JSON schema as callers write it, `$ref` and
`additionalProperties` included; `parameters` and `responseSchema` know a part of OpenAPI's only. Keywords that Gemini
does not support it ignores, so nothing is taken out (https://ai.google.dev/gemini-api/docs/structured-output).

Effort is `thinkingLevel` from generation 3 on and `thinkingBudget` in 2.5, each refused by the other
(https://ai.google.dev/gemini-api/docs/thinking). Models that do not think refuse both.
"""

from gateway.wire.canonical import (
    CustomTool,
    Effort,
    Json,
    OutputFormat,
    Reasoning,
    Request,
    ServerTool,
    Tool,
    ToolChoice,
    as_function,
    flat_name,
)
from gateway.wire.codec import Cap, Rendered, left_out
from gateway.wire.effort import AS_LIKED, budget_of, effort_of, nearest
from gateway.wire.fields import encode
from gateway.wire.gemini_generate_content.fieldnames import NAME
from gateway.wire.gemini_generate_content.names import function_name, generation
from gateway.wire.gemini_generate_content.request import CONFIG, JSON_TYPE, address
from gateway.wire.gemini_generate_content.turns import SIGNING_GENERATION, Turns

MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE"}
# All that is taken of `stopSequences`.
STOPS_MAX = 5
TIERS = {"flex": "flex", "priority": "priority"}
STANDARD_TIERS = ("", "auto", "default", "standard")
THINKING_GENERATION = "gemini-2.5"
LEVELS: tuple[Effort, ...] = ("minimal", "low", "medium", "high")
PRO_LEVELS: tuple[Effort, ...] = ("low", "medium", "high")
FIRST_PRO = "gemini-3-pro"
# Tokens of thought that a model of 2.5 takes, least and most, by a word in its id; "" is any other.
BUDGETS = {"pro": (128, 32_768), "lite": (512, 24_576), "": (0, 24_576)}
CANNOT_BUT_THINK = "pro"
MODALITIES = {"audio": ["AUDIO"], "image": ["TEXT", "IMAGE"]}


def render_request(request: Request, upstream_id: str, cap: Cap | None) -> Rendered:
    """Return the request for a model of Gemini's; raise Unsupported."""
    dropped: set[str] = set()
    turns = Turns(generation(upstream_id), dropped)
    system = turns.take(request.messages)
    body: Json = {"contents": turns.contents}
    if not turns.contents:
        # Gemini answers to somebody only; elsewhere instructions may stand alone.
        body["contents"] = [{"role": "user", "parts": system}]
    elif system:
        body["systemInstruction"] = {"parts": system}
    tools = _tools(request, dropped)
    if tools:
        body["tools"] = tools
    tool_config: Json = {}
    if request.tool_choice is not None and any("functionDeclarations" in each for each in tools):
        tool_config["functionCallingConfig"] = _tool_choice(request.tool_choice)
    config = _config(request, dropped)
    limit = request.max_tokens if cap is None else cap
    if limit is not None:
        config["maxOutputTokens"] = limit
    if request.output is not None:
        config |= _output(request.output)
    if request.reasoning is not None:
        thinking = _thinking(request.reasoning, request.dialect, upstream_id, dropped)
        if thinking is not None:
            config["thinkingConfig"] = thinking
    if request.service_tier in TIERS:
        body["serviceTier"] = TIERS[request.service_tier]
    elif request.service_tier not in STANDARD_TIERS:
        dropped.add("service_tier")
    _extend(request, body, tool_config, config, dropped)
    if tool_config:
        body["toolConfig"] = tool_config
    if config:
        body[CONFIG] = config
    return address(upstream_id, request.stream, encode(body), tuple(sorted(dropped)))


def _tools(request: Request, dropped: set[str]) -> list[Json]:
    declared: list[Json] = []
    others: list[Json] = []
    for number, tool in enumerate(request.tools):
        match tool:
            case ServerTool(origin=origin, kind=kind, value=value):
                if origin == NAME:
                    others.append(value)
                else:
                    dropped.add(f"tools.{kind}")
            case CustomTool():
                declared.append(_function(as_function(tool), f"tools[{number}].name"))
            case _:
                if tool.cache:
                    dropped.add("cache_control")
                if tool.strict:
                    dropped.add("tools.strict")
                declared.append(_function(tool, f"tools[{number}].name"))
                if request.dialect == NAME:
                    declared[-1] |= tool.extras
                else:
                    dropped.update(f"tools.{name}" for name in tool.extras)
    return ([{"functionDeclarations": declared}] if declared else []) + others


def _function(tool: Tool, path: str) -> Json:
    made: Json = {"name": function_name(flat_name(tool.namespace, tool.name), path)}
    # Required, though it may say nothing.
    made["description"] = tool.description
    if tool.parameters is not None:
        made["parametersJsonSchema"] = tool.parameters
    return made


def _tool_choice(choice: ToolChoice) -> Json:
    made: Json = {"mode": MODES[choice.mode]}
    if choice.names and choice.mode != "none":
        # Names go with ANY and VALIDATED only; the latter is free to answer in words.
        made["mode"] = "ANY" if choice.mode == "required" else "VALIDATED"
        made["allowedFunctionNames"] = [function_name(name, "tool_choice") for name in choice.names]
    return made


def _config(request: Request, dropped: set[str]) -> Json:
    """Return what one field stands for."""
    made: Json = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "seed": request.seed,
        "frequencyPenalty": request.frequency_penalty,
        "presencePenalty": request.presence_penalty,
        "stopSequences": list(request.stop[:STOPS_MAX]) or None,
        "candidateCount": request.choices if request.choices > 1 else None,
        "responseLogprobs": request.logprobs or None,
        "logprobs": request.top_logprobs,
        "responseModalities": next((MODALITIES[each] for each in request.modalities if each in MODALITIES), None),
    }
    for name, is_lost in (
        ("stop", len(request.stop) > STOPS_MAX),
        ("parallel_tool_calls", request.parallel_tool_calls is False),
        ("logit_bias", bool(request.logit_bias)),
        ("verbosity", bool(request.verbosity)),
        ("metadata", bool(request.metadata)),
        ("user", bool(request.user)),
        ("cache_key", bool(request.cache_key)),
    ):
        if is_lost:
            dropped.add(name)
    return {name: value for name, value in made.items() if value is not None}


def _output(output: OutputFormat) -> Json:
    schema = {} if output.schema is None else {"responseJsonSchema": output.schema}
    return {"responseMimeType": JSON_TYPE} | schema


def _thinking(reasoning: Reasoning, dialect: str, model: str, dropped: set[str]) -> Json | None:
    """Return the `thinkingConfig` for a model, None where it cannot think.

    Gemini shows no thoughts unless told to; callers of other dialects who want them thought want them shown.
    """
    made: Json = {}
    effort = effort_of(reasoning)
    is_off = reasoning.effort == "none" or reasoning.budget_tokens == 0
    if reasoning.summary or not (dialect == NAME or is_off):
        made["includeThoughts"] = reasoning.summary != "none"
    if generation(model) >= SIGNING_GENERATION:
        if effort is not None:
            made["thinkingLevel"] = nearest(effort, _levels(model.lower()))
        return made
    if THINKING_GENERATION not in model.lower():
        dropped.add("reasoning")
        return None
    budget = budget_of(reasoning)
    if budget is not None:
        made["thinkingBudget"] = _budget(budget, model.lower())
    return made


def _levels(model: str) -> tuple[Effort, ...]:
    if FIRST_PRO in model:
        return "low", "high"
    return PRO_LEVELS if "pro" in model else LEVELS


def _budget(budget: int, model: str) -> int:
    kind = next(word for word in BUDGETS if word in model)
    least, most = BUDGETS[kind]
    if budget == AS_LIKED or (budget == 0 and kind != CANNOT_BUT_THINK):
        return budget
    return max(least, min(budget, most))


def _extend(request: Request, body: Json, tool_config: Json, config: Json, dropped: set[str]) -> None:
    """Put what only Gemini knows where it came from."""
    if request.dialect != NAME:
        dropped.update(left_out(request))
        return
    for path, value in request.extensions.items():
        holder, dot, name = path.partition(".")
        if not dot:
            body[path] = value
        else:
            (config if holder == CONFIG else tool_config)[name] = value
