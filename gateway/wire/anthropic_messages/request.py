"""A caller's request: read for what the gateway needs, passed on, and parsed. Pure.

https://docs.anthropic.com/en/api/messages. Claude Code puts a text `x-anthropic-billing-header: …` at the head of its
instructions that changes with every version. It is left out of what is parsed: in front of all else it would spoil
another vendor's prompt cache. Where the request stays in the dialect its bytes pass.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.wire import fields as top
from gateway.wire.anthropic_messages import returned
from gateway.wire.anthropic_messages.content import Calls, cache_of, parts_of, text_of, wrong
from gateway.wire.anthropic_messages.tables import NAME, PATH
from gateway.wire.canonical import (
    AnyTool,
    Effort,
    Json,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    ServerTool,
    Text,
    Tool,
    ToolChoice,
    alternate,
    by_role,
    instructions,
)
from gateway.wire.codec import Rendered
from gateway.wire.effort import AS_LIKED, BUDGETS
from gateway.wire.fields import Asked, Fields, InvalidRequest, encode

BILLING_HEADER = "x-anthropic-billing-header:"
# The least that Anthropic takes as a budget of thought.
BUDGET_MIN = 1_024
ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
KNOWN = frozenset(
    {
        *("model", "messages", "system", "max_tokens", "stream", "tools", "tool_choice", "thinking", "output_config"),
        *("output_format", "temperature", "top_p", "top_k", "stop_sequences", "metadata", "service_tier"),
    }
)
TOOL_FIELDS = frozenset({"type", "name", "description", "input_schema", "strict", "cache_control"})
MODES = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}
SHOWN = {"omitted": "none", "summarized": "auto"}


def read(body: bytes, model: str | None, stream: bool | None) -> Asked:
    """Return what the gateway needs to know of a request; raise InvalidRequest."""
    fields = top.read(body)
    name = top.model(fields) if model is None else model
    try:
        _whole_conversation(fields)
        return Asked(
            model=name,
            stream=top.flag(fields, "stream") if stream is None else stream,
            wants_cost=_wants_cost(fields),
            wants_usage=True,
            max_tokens=_max_tokens(fields),
            labels=top.labels(fields),
            fields=fields,
        )
    except InvalidRequest as error:
        error.model = name if error.code != "invalid_json" else None
        raise


def _whole_conversation(fields: Fields) -> None:
    """Raise InvalidRequest where the rest of the conversation is at the vendor, as its threads have it.

    The vendor would keep it under a credential that all callers share, and what it costs could not be told from here.
    """
    if top.value(fields, "thread"):
        raise InvalidRequest(
            "thread_unsupported_request",
            "thread is not supported: send the whole conversation in messages, and thread=False to a tool runner.",
            "thread",
        )


def _wants_cost(fields: Fields) -> bool:
    """Tell whether the caller asks for the cost in the usage, as `usage: {"include": true}`; no upstream gets that."""
    usage = top.value(fields, "usage")
    if isinstance(usage, dict):
        del fields["usage"]
        return usage.get("include") is True
    return False


def _max_tokens(fields: Fields) -> int | None:
    """Return the limit; 0 asks to fill the prompt cache alone, and limits nothing that is multiplied here."""
    found = top.value(fields, "max_tokens")
    return None if found == 0 and type(found) is int else top.whole(found, "max_tokens")


def passed(asked: Asked, upstream_id: str, cap: tuple[str, int] | None) -> Rendered:
    """Return the caller's own request with the upstream's model id, and CAP as its limit.

    Where it holds what another vendor's answers left in the conversation, that is taken out, and nothing else.
    """
    fields = asked.fields | {"model": msgspec.Raw(encode(upstream_id))}
    dropped: list[str] = []
    if cap is not None:
        fields[cap[0]] = msgspec.Raw(encode(cap[1]))
        dropped += _fitted(fields, cap[1])
    messages = fields.get("messages")
    if messages is not None:
        cleaned, lost = returned.cleaned(messages)
        fields["messages"] = cleaned
        dropped += lost
        if "thinking" in lost and not _may_think(fields):
            del fields["thinking"]
            dropped.append("reasoning")
    return Rendered(PATH, encode(fields), tuple(sorted(set(dropped))))


def _fitted(fields: Fields, cap: int) -> list[str]:
    """Make a budget of thought smaller than a limit of ours, as Anthropic demands; return what that changed."""
    thinking = top.value(fields, "thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if type(budget) is not int or budget < cap:
        return []
    if cap <= BUDGET_MIN:
        del fields["thinking"]
        return ["reasoning"]
    fields["thinking"] = msgspec.Raw(encode(thinking | {"budget_tokens": max(BUDGET_MIN, cap // 2)}))
    return ["reasoning.budget_tokens"]


def _may_think(fields: Fields) -> bool:
    """Tell whether a request that is passed on may ask for thought by a budget, now that thoughts are gone."""
    thinking = top.value(fields, "thinking")
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return True
    try:
        told = _messages({"messages": top.value(fields, "messages")})
    except (InvalidRequest, RecursionError):
        return True
    return returned.begins_with_thought(instructions(told)[1])


def parse_request(asked: Asked) -> Request:
    """Return what is asked for; raise InvalidRequest."""
    try:
        return _parsed(asked)
    except RecursionError:
        raise InvalidRequest("invalid_json", top.TOO_DEEP) from None


def _parsed(asked: Asked) -> Request:
    fields: Json = {name: top.value(asked.fields, name) for name in asked.fields}
    if fields.get("messages") in (None, []):
        raise wrong("messages", "is missing: a list of at least one message")
    config = _object(fields, "output_config")
    extensions = {name: value for name, value in fields.items() if name not in KNOWN and value is not None}
    rest = {name: value for name, value in config.items() if name not in ("effort", "format")}
    if rest:
        extensions["output_config"] = rest
    metadata = _object(fields, "metadata")
    choice, parallel = _tool_choice(fields.get("tool_choice"))
    return Request(
        dialect=NAME,
        model=asked.model,
        messages=_messages(fields),
        tools=_tools(fields.get("tools")),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        output=_output(config.get("format") or fields.get("output_format")),
        reasoning=_reasoning(_object(fields, "thinking"), config.get("effort")),
        max_tokens=asked.max_tokens,
        temperature=_number(fields, "temperature"),
        top_p=_number(fields, "top_p"),
        top_k=_whole(fields, "top_k"),
        stop=_stop(fields.get("stop_sequences")),
        stream=asked.stream,
        service_tier=_tier(fields.get("service_tier")),
        metadata=_labels(metadata),
        user=text_of(metadata, "user_id", "metadata"),
        extensions=extensions,
    )


def _object(fields: Json, name: str) -> Json:
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong(name, "is not an object")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(name, "is not a list")
    return value


def _number(fields: Json, name: str) -> float | None:
    value = fields.get(name)
    if value is not None and type(value) not in (int, float):
        raise wrong(name, "is not a number")
    return None if value is None else float(value)


def _whole(fields: Json, name: str) -> int | None:
    value = fields.get(name)
    if value is not None and type(value) is not int:
        raise wrong(name, "is not a whole number")
    return value


def _messages(fields: Json) -> tuple[Message, ...]:
    calls = Calls()
    told = parts_of(fields.get("system"), "system", calls)
    instructing = itertools.dropwhile(_is_billing_header, told)
    found = [Message("system", tuple(instructing))]
    for number, message in enumerate(_list(fields.get("messages"), "messages")):
        path = f"messages.{number}"
        if not isinstance(message, dict):
            raise wrong(path, "is not an object with role and content")
        speaker = message.get("role")
        role = ROLES.get(speaker) if isinstance(speaker, str) else None
        if role is None:
            raise wrong(f"{path}.role", "is none of user, assistant and system")
        parts = parts_of(message.get("content"), f"{path}.content", calls)
        if role == "user":
            found += by_role(parts)
        else:
            found.append(Message("assistant" if role == "assistant" else "system", parts))
    return alternate(found)


def _is_billing_header(part: Part) -> bool:
    return isinstance(part, Text) and part.text.startswith(BILLING_HEADER)


def _tools(tools: Any) -> tuple[AnyTool, ...]:
    found: list[AnyTool] = []
    for number, tool in enumerate(_list(tools, "tools")):
        path = f"tools.{number}"
        if not isinstance(tool, dict):
            raise wrong(path, "is not an object")
        kind = tool.get("type")
        if isinstance(kind, str) and kind != "custom":
            found.append(ServerTool(NAME, kind, tool))
            continue
        name, schema, strict = text_of(tool, "name", path), tool.get("input_schema"), tool.get("strict")
        if not name:
            raise wrong(f"{path}.name", "is missing")
        if schema is not None and not isinstance(schema, dict):
            raise wrong(f"{path}.input_schema", "is no JSON schema: an object")
        found.append(
            Tool(
                name=name,
                description=text_of(tool, "description", path),
                parameters=schema,
                strict=strict if isinstance(strict, bool) else None,
                cache=cache_of(tool),
                extras={key: value for key, value in tool.items() if key not in TOOL_FIELDS},
            )
        )
    return tuple(found)


def _tool_choice(choice: Any) -> tuple[ToolChoice | None, bool | None]:
    """Return which tools may be called, and whether several at once."""
    if choice is None:
        return None, None
    if isinstance(choice, str):
        choice = {"type": choice}
    kind = choice.get("type") if isinstance(choice, dict) else None
    mode = MODES.get(kind) if isinstance(kind, str) else None
    if mode is None:
        raise wrong("tool_choice", "is no object whose type is auto, any, tool or none")
    alone = choice.get("disable_parallel_tool_use")
    parallel = not alone if isinstance(alone, bool) else None
    name = text_of(choice, "name", "tool_choice")
    if kind == "tool":
        return ToolChoice("required", (name,) if name else ()), parallel
    return ToolChoice("none" if mode == "none" else "required" if mode == "required" else "auto"), parallel


def _output(wanted: Any) -> OutputFormat | None:
    if not isinstance(wanted, dict):
        return None
    schema = wanted.get("schema")
    return OutputFormat(schema=schema if isinstance(schema, dict) else None)


def _reasoning(thinking: Json, effort: Any) -> Reasoning | None:
    """Return how much is to be thought; an effort alone is one, though older models do not think for it."""
    wanted: Effort | None = effort if isinstance(effort, str) and effort in BUDGETS else None
    display = thinking.get("display")
    summary = SHOWN.get(display, "") if isinstance(display, str) else ""
    kind = thinking.get("type")
    if kind == "disabled":
        return Reasoning(effort="none")
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        if type(budget) is not int or budget < 1:
            raise wrong("thinking.budget_tokens", "is not a whole number of tokens")
        return Reasoning(wanted, budget, summary)
    if kind == "adaptive":
        return Reasoning(wanted, AS_LIKED, summary)
    if kind == "between_tools":
        return Reasoning(effort="minimal", summary=summary)
    return Reasoning(wanted) if wanted else None


def _stop(stop: Any) -> tuple[str, ...]:
    if isinstance(stop, str):
        return (stop,)
    found = _list(stop, "stop_sequences")
    if not all(isinstance(each, str) for each in found):
        raise wrong("stop_sequences", "is not a list of texts")
    return tuple(found)


def _tier(tier: Any) -> str:
    if not isinstance(tier, str):
        return ""
    return "default" if tier == "standard_only" else tier


def _labels(metadata: Json) -> Mapping[str, str] | None:
    found = {name: value for name, value in metadata.items() if name != "user_id" and isinstance(value, str)}
    return found or None
