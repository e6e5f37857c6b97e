"""A request as Anthropic's API takes it. Pure.

https://docs.anthropic.com/en/api/messages. Every rule whose breach Anthropic answers with a 400 is kept here:
instructions stand on top, user and assistant alternate, the user begins, results of tools come first in their message,
nothing ends in white space, thought goes with certain parameters only, and a limit is there.
"""

from gateway.wire.anthropic_messages.blocks import block_of, cached, collapsed
from gateway.wire.anthropic_messages.models import Model, model_of
from gateway.wire.anthropic_messages.request import BUDGET_MIN
from gateway.wire.anthropic_messages.returned import begins_with_thought
from gateway.wire.anthropic_messages.schema import followed
from gateway.wire.anthropic_messages.tables import NAME, PATH
from gateway.wire.canonical import (
    CustomTool,
    Json,
    Message,
    OutputFormat,
    Reasoning,
    Request,
    ServerTool,
    Text,
    Thinking,
    Tool,
    alternate,
    as_function,
    flat_name,
    instructions,
)
from gateway.wire.codec import Cap, Rendered, Unsupported, left_out
from gateway.wire.effort import AS_LIKED, BUDGETS, budget_of, effort_of, nearest
from gateway.wire.fields import encode

# Of a request; https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs.
STRICT_TOOLS_MAX = 20
TOP_P_THINKING_MIN = 0.95
# Anthropic has no JSON mode without a schema: the instruction is what it recommends instead.
JSON_ONLY = "Answer with a single JSON object and nothing else: no words before or after it, no code fence."
# A conversation has to begin with the user; this stands for what is not there.
BEGINNING = "Continue."
TIERS = {"auto": "auto", "priority": "auto", "default": "standard_only", "standard": "standard_only"}
UNCARRIED = (
    *("frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "logit_bias"),
    *("verbosity", "cache_key"),
)
DISPLAYS = {"none": "omitted", "auto": "summarized", "concise": "summarized", "detailed": "summarized"}


def render_request(request: Request, upstream_id: str, cap: Cap | None) -> Rendered:
    """Return the request for an upstream; raise Unsupported."""
    if request.choices > 1:
        raise Unsupported(
            f"This model gives one answer at a time, and n is {request.choices}: send the request as often as needed.",
            "n",
            "unsupported_parameter",
        )
    model, dropped = model_of(upstream_id), set[str]()
    body: Json = {"model": upstream_id, "max_tokens": _max_tokens(request, model, cap)}
    told, conversation = instructions(request.messages)
    extras = _output(request.output, request, model, body, dropped)
    system = [block for text in (*told, *extras) if (block := block_of(text, "system", dropped)) is not None]
    if model.binds and (_told_later(request.messages) or _allowed(request)):
        conversation = _forgotten(conversation, dropped)
    body["messages"] = _messages(conversation, dropped)
    if _scattered(request.messages):
        dropped.add("messages.system_position")
    if not body["messages"]:
        body["messages"] = [{"role": "user", "content": collapsed(system) if system else BEGINNING}]
        dropped.add("messages.system_position")
    elif system:
        body["system"] = collapsed(system)
    _tools(request, model, body, dropped)
    _thinking(request, model, conversation, body, dropped)
    _unthought(body, dropped)
    _sampling(request, model, body, dropped)
    _rest(request, body, dropped)
    return Rendered(PATH, encode(body), tuple(sorted(dropped)))


def _max_tokens(request: Request, model: Model, cap: Cap | None) -> int:
    wanted = request.max_tokens or model.max_tokens
    return wanted if cap is None else min(wanted, cap)


def _scattered(messages: tuple[Message, ...]) -> bool:
    """Tell whether instructions stand anywhere but at the beginning."""
    began = False
    for message in messages:
        if message.role != "system":
            began = True
        elif began:
            return True
    return False


def _told_later(messages: tuple[Message, ...]) -> bool:
    """Tell whether instructions came after a thought: on top, they are now before it."""
    thought = False
    for message in messages:
        if message.role == "system" and thought:
            return True
        thought = thought or any(isinstance(part, Thinking) for part in message.parts)
    return False


def _forgotten(conversation: tuple[Message, ...], dropped: set[str]) -> tuple[Message, ...]:
    """Return a conversation without thoughts: none holds once anything before it is another."""
    kept = []
    for message in conversation:
        parts = tuple(part for part in message.parts if not isinstance(part, Thinking))
        if len(parts) < len(message.parts):
            dropped.add("thinking")
        kept.append(Message(message.role, parts, message.name))
    return alternate(kept)


# --- Messages -----------------------------------------------------------------------------------------------------
def _messages(conversation: tuple[Message, ...], dropped: set[str]) -> list[Json]:
    """Return the conversation as turns; raise Unsupported."""
    found: list[tuple[str, list[Json]]] = []
    for message in conversation:
        if message.name:
            dropped.add("messages.name")
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [block for part in message.parts if (block := block_of(part, role, dropped)) is not None]
        if not blocks:
            continue
        if not found or found[-1][0] != role:
            found.append((role, []))
        found[-1][1].extend(blocks)
    if found and found[-1][0] == "assistant":
        _trim(found)
    if found and found[0][0] == "assistant":
        found.insert(0, ("user", [{"type": "text", "text": BEGINNING}]))
    return [{"role": role, "content": collapsed(_ordered(role, blocks))} for role, blocks in found]


def _trim(found: list[tuple[str, list[Json]]]) -> None:
    """Take the white space off the end of a prefill."""
    last = found[-1][1][-1]
    if last["type"] == "text":
        last["text"] = last["text"].rstrip()


def _ordered(role: str, blocks: list[Json]) -> list[Json]:
    """Return a user's blocks with the tools' results first."""
    if role == "assistant":
        return blocks
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


# --- Tools --------------------------------------------------------------------------------------------------------
def _allowed(request: Request) -> tuple[str, ...]:
    """Return the names of the tools that may be called, where only some may."""
    choice = request.tool_choice
    if choice is None or choice.mode == "none" or (len(choice.names) == 1 and choice.mode == "required"):
        return ()
    return choice.names


def _tools(request: Request, model: Model, body: Json, dropped: set[str]) -> None:
    allowed = _allowed(request)
    strict = [tool for tool in request.tools if isinstance(tool, Tool) and tool.strict]
    may_be_strict = request.dialect == NAME or (model.structured and len(strict) <= STRICT_TOOLS_MAX)
    found: list[Json] = []
    for tool in request.tools:
        if isinstance(tool, ServerTool):
            if tool.origin == NAME:
                found.append(tool.value)
            else:
                dropped.add(f"tools.{tool.kind}")
            continue
        if isinstance(tool, CustomTool):
            if tool.format:
                dropped.add("tools.format")
            dropped.update(f"tools.{name}" for name in tool.extras)
            tool = as_function(tool)  # noqa: PLW2901
        # A tool that may not be called now is not shown: there is no other way to allow some of several.
        if not allowed or {tool.name, flat_name(tool.namespace, tool.name)} & {*allowed}:
            found.append(_tool(tool, request.dialect, dropped, may_be_strict=may_be_strict))
    if found:
        body["tools"] = found
        _tool_choice(request, model, body, dropped)


def _tool(tool: Tool, dialect: str, dropped: set[str], *, may_be_strict: bool) -> Json:
    schema = dict(tool.parameters or {})
    if not isinstance(schema.get("type"), str):
        schema = {"type": "object", "properties": {}} | schema | {"type": "object"}
    rendered: Json = {"name": flat_name(tool.namespace, tool.name), "input_schema": schema}
    if tool.description:
        rendered["description"] = tool.description
    if tool.strict and may_be_strict:
        rendered["strict"] = True
        if dialect != NAME:
            rendered["input_schema"] = followed(schema)
    elif tool.strict:
        dropped.add("tools.strict")
    if dialect == NAME:
        rendered |= tool.extras
    else:
        dropped.update(f"tools.{name}" for name in tool.extras)
    return cached(rendered, tool.cache)


def _tool_choice(request: Request, model: Model, body: Json, dropped: set[str]) -> None:
    choice = request.tool_choice
    rendered: Json = {"type": "auto"}
    if choice is not None and choice.mode == "none":
        rendered = {"type": "none"}
    elif choice is not None and choice.mode == "required":
        if model.forceable:
            rendered = {"type": "tool", "name": choice.names[0]} if len(choice.names) == 1 else {"type": "any"}
        else:
            dropped.add("tool_choice")
    if request.parallel_tool_calls is False and rendered["type"] != "none":
        rendered["disable_parallel_tool_use"] = True
    if choice is not None or "disable_parallel_tool_use" in rendered:
        body["tool_choice"] = rendered


# --- Output and thought -------------------------------------------------------------------------------------------
def _output(
    output: OutputFormat | None, request: Request, model: Model, body: Json, dropped: set[str]
) -> tuple[Text, ...]:
    """Ask for JSON; return what has to be said in the instructions for it."""
    if output is None:
        return ()
    if output.schema is not None and model.structured:
        schema = output.schema if request.dialect == NAME else followed(output.schema)
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return ()
    dropped.add("output")
    if output.schema is None:
        return (Text(JSON_ONLY),)
    return (Text(f"{JSON_ONLY} It has to follow this JSON schema:\n{encode(output.schema).decode()}"),)


def _thinking(request: Request, model: Model, conversation: tuple[Message, ...], body: Json, dropped: set[str]) -> None:
    """Ask for thought in the way that the model knows."""
    reasoning = request.reasoning
    if reasoning is None:
        return
    if budget_of(reasoning) == 0:
        _without_thinking(model, body, dropped)
        return
    if model.adaptive:
        body["thinking"] = {"type": "adaptive"}
        if (effort := effort_of(reasoning)) is not None:
            body.setdefault("output_config", {})["effort"] = nearest(effort, model.efforts)
    else:
        budget = _budget(reasoning, body["max_tokens"], dropped)
        # A budget leaves no tool that has to be called, and no turn that went on without a thought.
        forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
        if budget is None or forced or not begins_with_thought(conversation):
            dropped.add("reasoning")
            return
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    if reasoning.summary:
        body["thinking"]["display"] = DISPLAYS[reasoning.summary]


def _without_thinking(model: Model, body: Json, dropped: set[str]) -> None:
    """Turn thought off, as far as the model can do without."""
    if model.off is None:
        body.setdefault("output_config", {})["effort"] = "low"
        dropped.add("reasoning")
    elif model.off:
        body["thinking"] = model.off


def _budget(reasoning: Reasoning, max_tokens: int, dropped: set[str]) -> int | None:
    """Return a budget of thought that is smaller than the answer's limit, None where there is no room for one."""
    wanted = budget_of(reasoning)
    budget = BUDGETS["high"] if wanted in (None, AS_LIKED) else max(wanted or 0, BUDGET_MIN)
    if budget < max_tokens:
        return budget
    if max_tokens <= BUDGET_MIN:
        return None
    if reasoning.budget_tokens is not None:
        dropped.add("reasoning.budget_tokens")
    return max(BUDGET_MIN, max_tokens // 2)


def _unthought(body: Json, dropped: set[str]) -> None:
    """Take thoughts out of a prefill where none are asked for: there alone Anthropic refuses them."""
    last = body["messages"][-1]
    if last["role"] != "assistant" or isinstance(last["content"], str) or _thinks(body):
        return
    kept = [block for block in last["content"] if block["type"] not in ("thinking", "redacted_thinking")]
    if len(kept) == len(last["content"]):
        return
    dropped.add("thinking")
    if kept:
        last["content"] = collapsed(kept)
    else:
        del body["messages"][-1]


# --- Sampling and the rest ----------------------------------------------------------------------------------------
def _thinks(body: Json) -> bool:
    return body.get("thinking", {}).get("type") in ("enabled", "adaptive")


def _sampling(request: Request, model: Model, body: Json, dropped: set[str]) -> None:
    given = {name: getattr(request, name) for name in ("temperature", "top_p", "top_k")}
    wanted = {name: value for name, value in given.items() if value is not None}
    if not model.samples:
        # One is every vendor's default: nothing is lost with it.
        dropped.update(name for name, value in wanted.items() if value != 1)
        return
    if _thinks(body):
        kept = {name: value for name, value in wanted.items() if _goes_with_thought(name, value)}
    else:
        kept = dict(wanted)
        if kept.get("temperature", 0) > 1:
            kept["temperature"] = 1.0
        if "temperature" in kept and not model.samples_by_both:
            kept.pop("top_p", None)
    dropped.update(name for name, value in wanted.items() if kept.get(name) != value)
    body |= kept


def _goes_with_thought(name: str, value: float) -> bool:
    return (name == "temperature" and value == 1) or (name == "top_p" and TOP_P_THINKING_MIN <= value <= 1)


def _rest(request: Request, body: Json, dropped: set[str]) -> None:
    # Of white space alone Anthropic makes no stop sequence.
    stop = [each for each in request.stop if each.strip()]
    if stop:
        body["stop_sequences"] = stop
    if len(stop) < len(request.stop):
        dropped.add("stop")
    if request.stream:
        body["stream"] = True
    own = request.dialect == NAME
    metadata = ({"user_id": request.user} if request.user else {}) | (dict(request.metadata or {}) if own else {})
    if metadata:
        body["metadata"] = metadata
    if request.service_tier in TIERS:
        body["service_tier"] = TIERS[request.service_tier]
    elif request.service_tier:
        dropped.add("service_tier")
    if own:
        config = body.get("output_config", {}) | request.extensions.get("output_config", {})
        body |= request.extensions
        if config:
            body["output_config"] = config
    else:
        dropped.update(left_out(request))
        if request.metadata:
            dropped.add("metadata")
    dropped.update(name for name in UNCARRIED if getattr(request, name))
    if any(modality != "text" for modality in request.modalities):
        dropped.add("modalities")
    if request.seed is not None:
        dropped.add("seed")
