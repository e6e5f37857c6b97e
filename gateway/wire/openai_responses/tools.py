"""Tools and the choice among them, in this dialect. Pure.

Functions are flat here; a namespace holds tools of its own (https://platform.openai.com/docs/guides/function-calling).
What a namespace says of itself beside its name is kept in the extras of its tools, under `namespace`. A choice is made
by flat names; one of a vendor's own tools is no canonical choice and stays as it came.
"""

from typing import Any, Literal

from gateway.wire.canonical import AnyTool, CustomTool, Json, ServerTool, Tool, ToolChoice, custom_names, flat_name
from gateway.wire.fields import InvalidRequest
from gateway.wire.openai_responses.items import NAME, text_of

Mode = Literal["auto", "none", "required"]
MODES: dict[str, Mode] = {"auto": "auto", "none": "none", "required": "required", "any": "required"}
FUNCTION = frozenset({"type", "name", "description", "parameters", "strict"})
CUSTOM = frozenset({"type", "name", "description", "format"})
NO_PARAMETERS: Json = {"type": "object", "properties": {}}
# Of a tool's extras: what its namespace says beside its name.
NAMESPACE = "namespace"


# --- Facing the client --------------------------------------------------------------------------------------------
def parse(given: Any) -> tuple[AnyTool, ...]:
    """Return the tools that are offered; raise InvalidRequest."""
    if given is None:
        return ()
    if type(given) is not list:
        raise InvalidRequest("invalid_parameter", "tools is not a list.", "tools")
    found: list[AnyTool] = []
    for number, tool in enumerate(given):
        where = f"tools[{number}]"
        inner = tool.get("tools") if type(tool) is dict and tool.get("type") == "namespace" else None
        if type(inner) is list and inner and all(_is_ours(each) for each in inner):
            about = {name: value for name, value in tool.items() if name not in ("type", "name", "tools")}
            name = _name(tool, where)
            found += [_tool(each, f"{where}.tools[{index}]", name, about) for index, each in enumerate(inner)]
        else:
            found.append(_tool(tool, where))
    return tuple(found)


def _is_ours(tool: Any) -> bool:
    return type(tool) is dict and tool.get("type") in ("function", "custom")


def _tool(tool: Any, where: str, namespace: str = "", about: Json | None = None) -> AnyTool:
    if type(tool) is not dict or type(tool.get("type")) is not str:
        raise InvalidRequest("invalid_parameter", f"{where} is no object with a type.", where)
    extras: Json = {NAMESPACE: about} if about else {}
    if tool["type"] == "function":
        # Some clients send the form of chat completions.
        inner = tool.get("function")
        told = inner if type(inner) is dict else tool
        parameters, strict = told.get("parameters"), told.get("strict")
        if type(parameters) not in (dict, type(None)):
            raise InvalidRequest("invalid_parameter", f"{where}.parameters is not an object.", f"{where}.parameters")
        return Tool(
            name=_name(told, where),
            description=text_of(told.get("description")),
            parameters=parameters,
            strict=strict if type(strict) is bool else None,
            namespace=namespace,
            extras=extras | {name: value for name, value in told.items() if name not in FUNCTION},
        )
    if tool["type"] == "custom":
        form = tool.get("format")
        return CustomTool(
            name=_name(tool, where),
            description=text_of(tool.get("description")),
            format=form if type(form) is dict else None,
            namespace=namespace,
            extras=extras | {name: value for name, value in tool.items() if name not in CUSTOM},
        )
    return ServerTool(NAME, tool["type"], tool)


def _name(tool: Json, where: str) -> str:
    name = tool.get("name")
    if type(name) is not str or not name:
        raise InvalidRequest("invalid_parameter", f"{where}.name is missing.", f"{where}.name")
    return name


def parse_choice(given: Any) -> ToolChoice | None:
    """Return the choice among tools, None where none is made or it names a vendor's own; raise InvalidRequest."""
    if given is None:
        return None
    if type(given) is str and given in MODES:
        return ToolChoice(MODES[given])
    if type(given) is not dict or type(given.get("type")) is not str:
        message = "tool_choice is neither auto, none or required nor an object with a type."
        raise InvalidRequest("invalid_parameter", message, "tool_choice")
    if given["type"] == "allowed_tools":
        tools, mode = given.get("tools"), MODES.get(text_of(given.get("mode")) or "auto")
        if type(tools) is not list or mode is None:
            message = "tool_choice.tools is not a list, or tool_choice.mode neither auto nor required."
            raise InvalidRequest("invalid_parameter", message, "tool_choice")
        names = [_chosen(tool) for tool in tools]
        return ToolChoice(mode, tuple(name for name in names if name)) if all(names) else None
    name = _chosen(given)
    return ToolChoice("required", (name,)) if name else None


def _chosen(tool: Any) -> str:
    """Return the flat name of a chosen function or custom tool, "" for anything else."""
    if not _is_ours(tool):
        return ""
    inner = tool.get("function")
    name = text_of(tool.get("name")) or (text_of(inner.get("name")) if type(inner) is dict else "")
    return flat_name(text_of(tool.get("namespace")), name)


# --- Facing the upstream ------------------------------------------------------------------------------------------
def render(tools: tuple[AnyTool, ...], *, is_own: bool, dropped: set[str]) -> list[Json]:
    """Return the tools for an upstream; IS_OWN: the caller speaks this dialect too. DROPPED gets what is left out."""
    found: list[Json] = []
    for tool in tools:
        if isinstance(tool, ServerTool):
            if tool.origin == NAME:
                found.append(tool.value)
            else:
                dropped.add(f"tools.{tool.kind}")
            continue
        told, about = _rendered(tool, is_own=is_own, dropped=dropped)
        if not tool.namespace:
            found.append(told)
            continue
        last = found[-1] if found else {}
        if last.get("type") == "namespace" and last.get("name") == tool.namespace:
            last["tools"].append(told)
        else:
            found.append({"type": "namespace", "name": tool.namespace, **about, "tools": [told]})
    return found


def _rendered(tool: Tool | CustomTool, *, is_own: bool, dropped: set[str]) -> tuple[Json, Json]:
    extras = tool.extras if is_own else {}
    if tool.extras and not is_own:
        dropped.update(f"tools.{name}" for name in tool.extras)
    told: Json = {"name": tool.name} | ({"description": tool.description} if tool.description else {})
    if isinstance(tool, CustomTool):
        told = {"type": "custom", **told} | ({"format": tool.format} if tool.format else {})
    else:
        told = {"type": "function", **told, "parameters": tool.parameters or NO_PARAMETERS}
        if tool.cache:
            dropped.add("cache_control")
        # Here alone what says nothing of strictness is strict.
        strict = tool.strict if is_own else bool(tool.strict)
        if strict is not None:
            told["strict"] = strict
    told |= {name: value for name, value in extras.items() if name != NAMESPACE}
    return told, extras.get(NAMESPACE) or {}


def namespaced(tools: tuple[AnyTool, ...]) -> dict[str, tuple[str, str]]:
    """Return namespace and name of the tools in namespaces, by their flat names."""
    found = [tool for tool in tools if not isinstance(tool, ServerTool) and tool.namespace]
    return {flat_name(tool.namespace, tool.name): (tool.namespace, tool.name) for tool in found}


def render_choice(choice: ToolChoice, tools: tuple[AnyTool, ...]) -> Any:
    """Return the choice for an upstream."""
    if not choice.names:
        return choice.mode
    customs, spaces = custom_names(tools), namespaced(tools)
    chosen = []
    for flat in choice.names:
        namespace, name = spaces.get(flat, ("", flat))
        told = {"type": "custom" if flat in customs else "function", "name": name}
        chosen.append(told | ({"namespace": namespace} if namespace else {}))
    if choice.mode == "required" and len(chosen) == 1:
        return chosen[0]
    return {"type": "allowed_tools", "mode": choice.mode, "tools": chosen}
