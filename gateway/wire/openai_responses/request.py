"""Requests of this dialect: read one level deep where they pass, in full where they are translated. Pure.

https://platform.openai.com/docs/api-reference/responses/create. `store` and `background` are the gateway's affair and
not parsed. What is rendered is never stored by its vendor, and asks for thoughts in a form that can come back.
"""

from typing import Any, get_args

import msgspec

from gateway.wire import fields, strictness
from gateway.wire.canonical import Effort, Json, OutputFormat, Reasoning, Request, Thinking
from gateway.wire.codec import Rendered, Unsupported, left_out
from gateway.wire.effort import effort_of
from gateway.wire.fields import Asked, InvalidRequest
from gateway.wire.openai_models import fitted
from gateway.wire.openai_responses import conversation, tools
from gateway.wire.openai_responses.items import ENCRYPTED, LOGPROBS, NAME, PATH, text_of

EFFORTS = frozenset(get_args(Effort))
# What the canonical form holds, or the gateway sees to.
KNOWN = frozenset(
    {
        *("model", "stream", "store", "background", "instructions", "input", "tools", "parallel_tool_calls"),
        *("max_output_tokens", "temperature", "top_p", "top_logprobs"),
        *("service_tier", "metadata", "user", "prompt_cache_key"),
    }
)
# Canonical fields that this dialect has no place for.
ABSENT = (
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "logit_bias",
    "modalities",
)
TIERS = frozenset({"auto", "default", "flex", "priority", "scale", "fast"})


# --- What passes --------------------------------------------------------------------------------------------------
def read(body: bytes, model: str | None, stream: bool | None) -> Asked:
    """Return what the gateway needs to know of a request; raise InvalidRequest. Usage always comes here."""
    found = fields.read(body)
    model = fields.model(found) if model is None else model
    try:
        return Asked(
            model=model,
            stream=fields.flag(found, "stream") if stream is None else stream,
            wants_usage=True,
            fields=found,
            max_tokens=fields.whole(fields.value(found, "max_output_tokens"), "max_output_tokens"),
            wants_cost=_wants_cost(found),
            labels=fields.labels(found),
        )
    except InvalidRequest as error:
        error.model = model if error.code == "invalid_parameter" else None
        raise


def _wants_cost(found: fields.Fields) -> bool:
    """Tell whether the caller asks for the cost in the usage, as `usage: {"include": true}`; no upstream gets that."""
    usage = fields.value(found, "usage")
    if not isinstance(usage, dict):
        return False
    del found["usage"]
    return usage.get("include") is True


def passed(asked: Asked, upstream_id: str, cap: tuple[str, int] | None) -> Rendered:
    """Return the caller's own request with the upstream's model id, and a limit of ours on the answer's tokens."""
    told = asked.fields | {"model": msgspec.Raw(fields.encode(upstream_id))}
    if cap is not None:
        told[cap[0]] = msgspec.Raw(fields.encode(cap[1]))
    return Rendered(PATH, fields.encode(told))


# --- Facing the client --------------------------------------------------------------------------------------------
def parse_request(asked: Asked) -> Request:
    """Return the request in canonical form; raise InvalidRequest where a field that is understood has a wrong type."""
    given = {name: fields.value(asked.fields, name) for name, raw in asked.fields.items() if fields.present(raw)}
    extensions = {name: value for name, value in given.items() if name not in KNOWN}
    include = given.get("include")
    top_logprobs = _count(given, "top_logprobs")
    choice = tools.parse_choice(given.get("tool_choice"))
    if choice is not None:
        del extensions["tool_choice"]
    output, verbosity = _format(given, extensions)
    return Request(
        dialect=NAME,
        model=asked.model,
        messages=conversation.parse(given.get("input"), _text(given, "instructions")),
        tools=tools.parse(given.get("tools")),
        tool_choice=choice,
        parallel_tool_calls=_flag(given, "parallel_tool_calls"),
        output=output,
        reasoning=_reasoning(given, extensions),
        max_tokens=asked.max_tokens,
        temperature=_number(given, "temperature"),
        top_p=_number(given, "top_p"),
        logprobs=bool(top_logprobs) or (type(include) is list and LOGPROBS in include),
        top_logprobs=top_logprobs,
        verbosity=verbosity,
        stream=asked.stream,
        service_tier=_text(given, "service_tier"),
        metadata=_metadata(given),
        user=_text(given, "user"),
        cache_key=_text(given, "prompt_cache_key"),
        extensions=extensions,
    )


def _wrong(name: str, kind: str) -> InvalidRequest:
    return InvalidRequest("invalid_parameter", f"{name} is not {kind}.", name)


def _text(given: Json, name: str) -> str:
    value = given.get(name)
    if value is None or type(value) is str:
        return value or ""
    raise _wrong(name, "a text")


def _flag(given: Json, name: str) -> bool | None:
    value = given.get(name)
    if value is None or type(value) is bool:
        return value
    raise _wrong(name, "true or false")


def _number(given: Json, name: str) -> float | None:
    value = given.get(name)
    if value is None or type(value) in (int, float):
        return value
    raise _wrong(name, "a number")


def _count(given: Json, name: str) -> int | None:
    value = given.get(name)
    if value is None or (type(value) is int and value >= 0):
        return value
    raise _wrong(name, "a whole number")


def _object(given: Json, name: str) -> Json | None:
    value = given.get(name)
    if value is None or type(value) is dict:
        return value
    raise _wrong(name, "an object")


def _metadata(given: Json) -> dict[str, str] | None:
    value = _object(given, "metadata")
    if value is not None and any(type(each) is not str for each in value.values()):
        raise _wrong("metadata", "an object of texts")
    return value


def _format(given: Json, extensions: Json) -> tuple[OutputFormat | None, str]:
    """Return the form of the answer and its verbosity; what else `text` says stays among EXTENSIONS."""
    text = _object(given, "text")
    if text is None:
        return None, ""
    given_form = text.get("format")
    if given_form is not None and type(given_form) is not dict:
        raise _wrong("text.format", "an object")
    form: Json = given_form or {}
    kind = form.get("type", "text")
    known = {"verbosity"} | ({"format"} if kind in ("text", "json_object", "json_schema") else set())
    _leave(extensions, "text", {name: value for name, value in text.items() if name not in known})
    verbosity = text_of(text.get("verbosity"))
    if kind not in ("json_object", "json_schema"):
        return None, verbosity
    if kind == "json_object":
        return OutputFormat(), verbosity
    # Some clients keep the inner object of chat completions.
    inner = form.get("json_schema")
    told: Json = inner if type(inner) is dict else form
    schema, strict = told.get("schema"), told.get("strict")
    if type(schema) is not dict:
        raise _wrong("text.format.schema", "an object")
    output = OutputFormat(
        schema=schema,
        name=text_of(told.get("name")),
        description=text_of(told.get("description")),
        strict=strict if type(strict) is bool else None,
    )
    return output, verbosity


def _reasoning(given: Json, extensions: Json) -> Reasoning | None:
    """Return what is wanted of the thinking; what else `reasoning` says stays among EXTENSIONS."""
    told = _object(given, "reasoning")
    if told is None:
        return None
    known = {"effort", "summary", "generate_summary"}
    effort = told.get("effort")
    if type(effort) not in (str, type(None)):
        raise _wrong("reasoning.effort", "a text")
    if effort is not None and effort not in EFFORTS:
        known.discard("effort")
        effort = None
    _leave(extensions, "reasoning", {name: value for name, value in told.items() if name not in known})
    summary = text_of(told.get("summary")) or text_of(told.get("generate_summary"))
    return Reasoning(effort=effort, summary=summary)


def _leave(extensions: Json, name: str, rest: Json) -> None:
    if rest:
        extensions[name] = rest
    else:
        del extensions[name]


# --- Facing the upstream ------------------------------------------------------------------------------------------
def render_request(request: Request, upstream_id: str, cap: int | None) -> Rendered:
    """Return the request for an upstream; raise Unsupported for content that has no place here."""
    if request.choices > 1:
        message = "n is more than 1, and this model gives one answer at a time: send the request several times."
        raise Unsupported(message, "n", "unsupported_parameter")
    is_own = request.dialect == NAME
    items = conversation.Items(request)
    dropped = items.dropped
    dropped |= {name for name in ABSENT if getattr(request, name) not in (None, ())}
    if not is_own:
        request, lost = fitted(request, upstream_id, get_args(Effort))
        dropped |= lost
    limits = [limit for limit in (request.max_tokens, cap) if limit is not None]
    body: Json = {"model": upstream_id}
    body |= request.extensions if is_own else {}
    if not is_own:
        dropped |= left_out(request)
    body |= _some(
        instructions=items.instructions or None,
        input=items.items,
        tools=tools.render(request.tools, is_own=is_own, dropped=dropped) or None,
        tool_choice=None if request.tool_choice is None else tools.render_choice(request.tool_choice, request.tools),
        parallel_tool_calls=request.parallel_tool_calls,
        max_output_tokens=min(limits, default=None),
        temperature=request.temperature,
        top_p=request.top_p,
        top_logprobs=request.top_logprobs,
        service_tier=_tier(request, dropped),
        metadata=request.metadata,
        user=request.user or None,
        prompt_cache_key=request.cache_key or None,
        text=_merged(body.get("text"), _told_format(request)),
        reasoning=_merged(body.get("reasoning"), _told_reasoning(request.reasoning)),
        include=_included(request, body.get("include")),
        stream=request.stream or None,
        store=False,
    )
    if not is_own and "tools" not in body:
        # What was offered may all have been another vendor's.
        body = {name: value for name, value in body.items() if name not in ("tool_choice", "parallel_tool_calls")}
    return Rendered(PATH, fields.encode(body), tuple(sorted(dropped)))


def _some(**told: Any) -> Json:
    return {name: value for name, value in told.items() if value is not None}


def _merged(extension: Any, told: Json) -> Json | None:
    return (extension if type(extension) is dict else {}) | told or None


def _told_format(request: Request) -> Json:
    told: Json = {"verbosity": request.verbosity} if request.verbosity else {}
    output = request.output
    if output is None:
        return told
    if output.schema is None:
        return {"format": {"type": "json_object"}, **told}
    form = _some(
        type="json_schema",
        name=output.name or "answer",
        description=output.description or None,
        schema=output.schema,
        # Here alone what says nothing of strictness is strict.
        strict=output.strict if request.dialect == NAME else strictness.wanted(output, request.dialect),
    )
    return {"format": form, **told}


def _told_reasoning(reasoning: Reasoning | None) -> Json:
    if reasoning is None:
        return {}
    summary = reasoning.summary if reasoning.summary != "none" else None
    return _some(effort=effort_of(reasoning), summary=summary or None)


def _included(request: Request, extension: Any) -> list[Any] | None:
    """Return what is to come with the answer: thoughts in a form that can come back, where there may be some."""
    include = list(extension) if type(extension) is list else []
    thinks = request.reasoning is not None and effort_of(request.reasoning) != "none"
    if not thinks:
        told = (part for message in request.messages for part in message.parts)
        thinks = any(isinstance(part, Thinking) and part.origin == NAME and part.signature for part in told)
    wanted = ((LOGPROBS, request.logprobs), (ENCRYPTED, thinks))
    include += [name for name, is_wanted in wanted if is_wanted and name not in include]
    return include or None


def _tier(request: Request, dropped: set[str]) -> str | None:
    if request.service_tier and request.dialect != NAME and request.service_tier not in TIERS:
        dropped.add("service_tier")
        return None
    return request.service_tier or None
