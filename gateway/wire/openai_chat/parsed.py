"""A chat request as a canonical one. Pure.

https://platform.openai.com/docs/api-reference/chat/create, and what other upstreams of this format take:
`reasoning` (OpenRouter), `thinking` (DeepSeek, Z.ai, Moonshot), `top_k`, `cache_control`. Old names (`functions`,
`function_call`, the role `function`, `max_tokens`, `user`) are read like those that took their place.
"""

from collections.abc import Iterator
from typing import Any, Literal

from gateway.wire import marks
from gateway.wire.canonical import (
    AnyTool,
    Audio,
    Cache,
    CustomTool,
    Document,
    Effort,
    Image,
    Json,
    Message,
    Native,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Request,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    alternate,
)
from gateway.wire.effort import AS_LIKED, BUDGETS
from gateway.wire.fields import Asked, Fields, InvalidRequest, encode, flag, present, value
from gateway.wire.openai_chat.assistant import beside, calls_of, thoughts
from gateway.wire.openai_chat.parts import cache_of, read_content, text_of, wrong
from gateway.wire.openai_chat.tables import NAME, ROLES

KNOWN = frozenset({
    "model", "messages", "tools", "functions", "tool_choice", "function_call", "parallel_tool_calls",
    "response_format", "reasoning", "reasoning_effort", "thinking", "max_tokens", "max_completion_tokens",
    "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed", "stop", "n", "logprobs",
    "top_logprobs", "logit_bias", "verbosity", "modalities", "stream", "stream_options", "service_tier", "metadata",
    "user", "safety_identifier", "prompt_cache_key",
})  # fmt: skip
TOOL_KEYS = ("type", "function", "cache_control")
MODES: dict[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "none": "none",
    "required": "required",
    "any": "required",
}


def parse_request(asked: Asked) -> Request:
    """Return the request in canonical form; raise InvalidRequest."""
    found = asked.fields
    return Request(
        dialect=NAME,
        model=asked.model,
        messages=Conversation(found).read(),
        tools=tuple(_tools(found)),
        tool_choice=_tool_choice(found),
        parallel_tool_calls=_boolean(found, "parallel_tool_calls"),
        output=_output(found),
        reasoning=_reasoning(found),
        max_tokens=asked.max_tokens,
        temperature=_number(found, "temperature"),
        top_p=_number(found, "top_p"),
        top_k=_integer(found, "top_k"),
        frequency_penalty=_number(found, "frequency_penalty"),
        presence_penalty=_number(found, "presence_penalty"),
        seed=_integer(found, "seed"),
        stop=_stop(found),
        choices=asked.choices,
        logprobs=_boolean(found, "logprobs") or False,
        top_logprobs=_integer(found, "top_logprobs"),
        logit_bias=_biases(found),
        verbosity=_text(found, "verbosity"),
        modalities=_modalities(found),
        stream=asked.stream,
        wants_usage=asked.wants_usage,
        service_tier=_text(found, "service_tier"),
        metadata=_metadata(found),
        user=_text(found, "safety_identifier") or _text(found, "user"),
        cache_key=_text(found, "prompt_cache_key"),
        extensions=_extensions(found),
    )


# --- The conversation -----------------------------------------------------------------------------------------------
class Conversation:
    """The messages as they are read, and the calls that no result has come for yet."""

    __slots__ = ("custom", "fields", "waiting")

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        # Ids and names of calls, in their order.
        self.waiting: dict[str, str] = {}
        self.custom: set[str] = set()

    def read(self) -> tuple[Message, ...]:
        """Return the messages; raise InvalidRequest."""
        messages = value(self.fields, "messages")
        if messages is None:
            raise InvalidRequest("invalid_parameter", "messages is missing: send at least one.", "messages")
        if not isinstance(messages, list):
            raise wrong("messages", "a list")
        return alternate([self._message(message, number) for number, message in enumerate(messages)])

    def _message(self, message: Any, number: int) -> Message:
        path = f"messages[{number}]"
        if not isinstance(message, dict):
            raise wrong(path, "an object")
        said = message.get("role")
        role = ROLES.get(said) if isinstance(said, str) else None
        if role is None:
            raise wrong(f"{path}.role", f"one of {', '.join(ROLES)}")
        said = message.get("content")
        if role == "tool" and isinstance(said, dict) and "type" not in said:
            said = encode(said).decode()
        content = read_content(said, f"{path}.content")
        name = message.get("name")
        name = name if isinstance(name, str) else ""
        if role == "tool":
            return Message("tool", (self._result(message, content, name, number),))
        if role == "assistant":
            content = self._assistant(message, content, number, path)
        return Message(role, content, name)

    def _assistant(self, message: Json, content: tuple[Part, ...], number: int, path: str) -> tuple[Part, ...]:
        parts: list[Part] = [*thoughts(message, marked=True), *content, *beside(message, path)]
        for call in calls_of(message, str(number), path, marked=True):
            self.waiting[call.id] = call.name
            if call.custom:
                self.custom.add(call.id)
            parts.append(call)
        return tuple(parts)

    def _result(self, message: Json, content: tuple[Part, ...], name: str, number: int) -> ToolResult:
        """Return a result; one that does not say of which call is of the first that has none, by its name if any."""
        call_id = message.get("tool_call_id")
        if isinstance(call_id, str) and call_id:
            call_id = marks.unsigned_id(call_id)[0]
        else:
            named = (id for id, each in self.waiting.items() if not name or each == name)
            call_id = next(named, marks.made_id(str(number), 0))
        self.waiting.pop(call_id, None)
        return ToolResult(
            call_id,
            tuple(map(_shown, content)),
            name,
            custom=call_id in self.custom,
            cache=cache_of(message),
        )


def _shown(part: Part) -> Text | Image | Document | Audio:
    """Return a part of a tool's result; what no result may hold is shown to the model as it stands."""
    if isinstance(part, Text | Image | Document | Audio):
        return part
    if isinstance(part, Native):
        return Text(encode(part.value).decode())
    return Text(part.text if isinstance(part, Refusal | Thinking) else "")


# --- Tools ----------------------------------------------------------------------------------------------------------
def _tools(fields: Fields) -> Iterator[AnyTool]:
    for number, tool in enumerate(_list(fields, "tools")):
        yield _tool(tool, f"tools[{number}]")
    for number, function in enumerate(_list(fields, "functions")):
        yield _function(function, f"functions[{number}]", "", {})


def _tool(tool: Any, path: str) -> AnyTool:
    if not isinstance(tool, dict):
        raise wrong(path, "an object")
    kind = tool.get("type", "function")
    if kind == "custom":
        custom = tool.get("custom", tool)
        if not isinstance(custom, dict):
            raise wrong(f"{path}.custom", "an object")
        described, form = custom.get("description"), custom.get("format")
        return CustomTool(
            text_of(custom, "name", f"{path}.custom"),
            described if isinstance(described, str) else "",
            _grammar(form) if isinstance(form, dict) else None,
        )
    if kind != "function":
        if not isinstance(kind, str):
            raise wrong(f"{path}.type", "a text")
        return ServerTool(NAME, kind, tool)
    extras = {name: each for name, each in tool.items() if name not in TOOL_KEYS}
    if "function" in tool:
        return _function(tool["function"], f"{path}.function", cache_of(tool), extras)
    # As the Responses API writes it.
    return _function(tool, path, cache_of(tool), {})


def _grammar(form: Json) -> Json:
    """Return a custom tool's format flat: this API puts its grammar one level deeper than the Responses API."""
    inner = form.get("grammar")
    return {"type": "grammar"} | inner if isinstance(inner, dict) else form


def _function(function: Any, path: str, cache: Cache, extras: Json) -> Tool:
    if not isinstance(function, dict):
        raise wrong(path, "an object")
    described, parameters, strict = (function.get(name) for name in ("description", "parameters", "strict"))
    if parameters is not None and not isinstance(parameters, dict):
        raise wrong(f"{path}.parameters", "a JSON schema")
    return Tool(
        text_of(function, "name", path),
        described if isinstance(described, str) else "",
        parameters,
        strict if isinstance(strict, bool) else None,
        cache=cache,
        extras=extras,
    )


def _tool_choice(fields: Fields) -> ToolChoice | None:
    chosen = value(fields, "tool_choice")
    name = "tool_choice"
    if chosen is None:
        chosen, name = value(fields, "function_call"), "function_call"
    if chosen is None:
        return None
    if isinstance(chosen, dict):
        return _choice_of(chosen, name)
    if isinstance(chosen, str) and chosen in MODES:
        return ToolChoice(MODES[chosen])
    raise wrong(name, "auto, none, required, or an object that names a tool")


def _choice_of(chosen: Json, path: str) -> ToolChoice:
    kind = chosen.get("type")
    if isinstance(kind, str) and kind in MODES:
        return ToolChoice(MODES[kind])
    if kind == "allowed_tools":
        allowed = chosen.get("allowed_tools", chosen)
        tools = allowed.get("tools") if isinstance(allowed, dict) else None
        if not isinstance(tools, list):
            raise wrong(f"{path}.allowed_tools.tools", "a list")
        names = tuple(_named(tool, f"{path}.allowed_tools.tools[{number}]") for number, tool in enumerate(tools))
        mode = allowed.get("mode")
        return ToolChoice("required" if mode == "required" else "auto", names)
    return ToolChoice("required", (_named(chosen, path),))


def _named(tool: Any, path: str) -> str:
    """Return the name of a tool, which stands in it or one level deeper."""
    if not isinstance(tool, dict):
        raise wrong(path, "an object")
    inner = tool.get("function", tool.get("custom"))
    return text_of(inner if isinstance(inner, dict) else tool, "name", path)


# --- What is wanted -------------------------------------------------------------------------------------------------
def _output(fields: Fields) -> OutputFormat | None:
    wanted = value(fields, "response_format")
    if wanted is None:
        return None
    kind = wanted.get("type") if isinstance(wanted, dict) else wanted
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputFormat()
    if kind != "json_schema" or not isinstance(wanted, dict):
        raise wrong("response_format.type", "text, json_object or json_schema")
    inner = wanted.get("json_schema")
    if not isinstance(inner, dict):
        raise wrong("response_format.json_schema", "an object")
    schema = inner.get("schema")
    if schema is not None and not isinstance(schema, dict):
        raise wrong("response_format.json_schema.schema", "an object")
    name, described, strict = (inner.get(each) for each in ("name", "description", "strict"))
    return OutputFormat(
        schema,
        name if isinstance(name, str) else "",
        described if isinstance(described, str) else "",
        strict if isinstance(strict, bool) else None,
    )


def _reasoning(fields: Fields) -> Reasoning | None:
    """Return how much is to be thought, by whichever of three names it is asked for."""
    asked = value(fields, "reasoning")
    asked = asked if isinstance(asked, dict) else {}
    thinking = value(fields, "thinking")
    thinking = thinking if isinstance(thinking, dict) else {}
    effort = _effort(value(fields, "reasoning_effort"), "reasoning_effort")
    effort = effort or _effort(asked.get("effort"), "reasoning.effort")
    budget = asked.get("max_tokens", thinking.get("budget_tokens"))
    budget = budget if type(budget) is int else None
    if effort is None and budget is None:
        if asked.get("enabled") is False or thinking.get("type") == "disabled":
            effort = "none"
        elif asked.get("enabled") is True:
            # What its inventor takes it for.
            effort = "medium"
        elif thinking.get("type") in ("enabled", "adaptive"):
            budget = AS_LIKED
    summary = asked.get("summary")
    summary = summary if isinstance(summary, str) else ""
    if asked.get("exclude") is True:
        summary = "none"
    found = Reasoning(effort, budget, summary)
    return None if found == Reasoning() else found


def _effort(found: Any, path: str) -> Effort | None:
    if found is None:
        return None
    for effort in BUDGETS:
        if effort == found:
            return effort
    raise wrong(path, f"one of {', '.join(BUDGETS)}")


def _stop(fields: Fields) -> tuple[str, ...]:
    stop = value(fields, "stop")
    if stop is None:
        return ()
    found = (stop,) if isinstance(stop, str) else stop
    if isinstance(found, list | tuple) and all(isinstance(each, str) for each in found):
        return tuple(found)
    raise wrong("stop", "a text or a list of texts")


def _biases(fields: Fields) -> dict[str, float] | None:
    found = value(fields, "logit_bias")
    if found is None:
        return None
    if isinstance(found, dict) and all(_is_number(each) for each in found.values()):
        return found or None
    raise wrong("logit_bias", "an object of numbers")


def _metadata(fields: Fields) -> dict[str, str] | None:
    found = value(fields, "metadata")
    if found is None:
        return None
    if isinstance(found, dict):
        return {name: each if isinstance(each, str) else encode(each).decode() for name, each in found.items()} or None
    raise wrong("metadata", "an object")


def _modalities(fields: Fields) -> tuple[str, ...]:
    return tuple(each for each in _list(fields, "modalities") if isinstance(each, str) and each != "text")


def _extensions(fields: Fields) -> Json:
    found = {name: value(fields, name) for name, raw in fields.items() if name not in KNOWN and present(raw)}
    options = value(fields, "stream_options")
    rest = {name: each for name, each in (options or {}).items() if name != "include_usage"}
    return found | ({"stream_options": rest} if rest else {})


def _list(fields: Fields, name: str) -> list[Any]:
    found = value(fields, name)
    if found is None:
        return []
    if isinstance(found, list):
        return found
    raise wrong(name, "a list")


def _boolean(fields: Fields, name: str) -> bool | None:
    return None if value(fields, name) is None else flag(fields, name)


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)


def _number(fields: Fields, name: str) -> float | None:
    found = value(fields, name)
    if found is None or _is_number(found):
        return found  # type: ignore[no-any-return]
    raise wrong(name, "a number")


def _integer(fields: Fields, name: str) -> int | None:
    found = _number(fields, name)
    if found is None or type(found) is int:
        return found
    if float(found).is_integer():
        return int(found)
    raise wrong(name, "a whole number")


def _text(fields: Fields, name: str) -> str:
    found = value(fields, name)
    if found is None or isinstance(found, str):
        return found or ""
    raise wrong(name, "a text")
