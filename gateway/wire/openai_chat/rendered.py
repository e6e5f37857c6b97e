"""A canonical request as a chat request. Pure.

A request that came in this dialect gets back all that it had. Any other is written in what every upstream of the
format knows: custom tools as functions, text as a plain string, no `cache_control`, no `allowed_tools`, no `top_k`.

Invariant: the limit of an answer's tokens is written as LIMIT; `with_limit_named` gives it the name that an upstream
knows (OpenAI's own reasoning models: `max_completion_tokens`).
"""

from collections.abc import Iterable

import msgspec

from gateway.wire import marks, strictness
from gateway.wire.canonical import (
    AnyTool,
    Audio,
    CustomTool,
    Document,
    FileId,
    Image,
    Json,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    as_arguments,
    as_function,
    custom_names,
    flat_name,
)
from gateway.wire.codec import Rendered, Unsupported, left_out
from gateway.wire.effort import effort_of, nearest
from gateway.wire.fields import decode_fields, encode
from gateway.wire.openai_chat.assistant import detail, signed_call, written_call
from gateway.wire.openai_chat.parts import Losses, write_content, write_image
from gateway.wire.openai_chat.tables import EFFORTS, NAME, PATH, TIERS
from gateway.wire.openai_models import fitted

LIMIT = "max_tokens"
# Of a call's id, as OpenAI says when it is longer.
ID_CHARS_MAX = 40
NO_PARAMETERS: Json = {"type": "object", "properties": {}}


def render_request(request: Request, upstream_id: str, cap: int | None = None) -> Rendered:
    """Return the request for an upstream; CAP is a limit of ours on the answer's tokens. Raise Unsupported."""
    losses = Losses(own=request.dialect == NAME)
    if not losses.own:
        request, lost = fitted(request, upstream_id, EFFORTS)
        losses.names |= lost
    body: Json = {"model": upstream_id}
    limits = [each for each in (request.max_tokens, cap) if each is not None]
    if limits:
        body[LIMIT] = min(limits)
    body["messages"] = Conversation(losses).write(request.messages)
    body |= _tooling(request, losses)
    body |= _wanted(request, losses)
    if losses.own:
        options = request.extensions.get("stream_options")
        body = request.extensions | body
    else:
        options = None
        losses.names |= left_out(request)
    if request.stream:
        body["stream"] = True
        body["stream_options"] = (options if isinstance(options, dict) else {}) | {"include_usage": True}
    return Rendered(PATH, encode(body), tuple(sorted(losses.names)))


def with_limit_named(rendered: Rendered, name: str) -> Rendered:
    """Return the request with the limit of the answer's tokens under the name that its upstream knows."""
    fields = decode_fields(rendered.body)
    if name == LIMIT or LIMIT not in fields:
        return rendered
    named = {name if each == LIMIT else each: raw for each, raw in fields.items()}
    return msgspec.structs.replace(rendered, body=encode(named))


# --- The conversation -----------------------------------------------------------------------------------------------
class Conversation:
    """The messages as they are written; pictures out of tools' results follow as the user's, for tools say text."""

    __slots__ = ("losses", "media", "out")

    def __init__(self, losses: Losses) -> None:
        self.losses = losses
        self.out: list[Json] = []
        self.media: list[Part] = []

    def write(self, messages: Iterable[Message]) -> list[Json]:
        """Return the messages; raise Unsupported."""
        for number, message in enumerate(messages):
            path = f"messages[{number}]"
            if message.role == "tool":
                for part in message.parts:
                    self._result(part, path)
            elif message.role == "user":
                media, self.media = self.media, []
                self._say("user", (*media, *message.parts), message.name, path)
            else:
                self._shown()
                if message.role == "assistant":
                    self._assistant(message, path)
                else:
                    self._say("system", message.parts, message.name, path)
        self._shown()
        return self.out

    def _say(self, role: str, parts: Iterable[Part], name: str, path: str) -> None:
        content = write_content(parts, self.losses, path)
        if content:
            self.out.append({"role": role, "content": content} | ({"name": name} if name else {}))

    def _shown(self) -> None:
        if self.media:
            media, self.media = self.media, []
            self._say("user", media, "", "messages")

    def _result(self, result: Part, path: str) -> None:
        if not isinstance(result, ToolResult):
            raise Unsupported(f"{path} holds what is no tool's result: send it with the role of a user.", path)
        texts = [part for part in result.parts if isinstance(part, Text)]
        media = [part for part in result.parts if not isinstance(part, Text)]
        if media:
            self.losses.names.update(f"tool_result.{type(part).__name__.lower()}" for part in media)
            self.media += [Text(f"The result of {result.name or result.call_id}:"), *media]
        if result.is_error:
            self.losses.add("tool_result.is_error")
        content = write_content(texts, self.losses, path)
        written = {"role": "tool", "tool_call_id": marks.fitting_id(result.call_id, ID_CHARS_MAX), "content": content}
        if result.name:
            written["name"] = result.name
        self.out.append(self.losses.cached(written, result.cache))

    def _assistant(self, message: Message, path: str) -> None:
        written: Json = {}
        said: list[Part] = []
        for part in message.parts:
            self._take(part, written, said, path)
        content = write_content(said, self.losses, path)
        thoughts = [part for part in message.parts if isinstance(part, Thinking) and _own_thought(part)]
        if not content and not written:
            # A thought that led to nothing is no message.
            self.losses.names.update(["thinking"] if thoughts else [])
            return
        head = {"role": "assistant", "content": content or None} | ({"name": message.name} if message.name else {})
        self.out.append(head | written | _thought(thoughts))

    def _take(self, part: Part, written: Json, said: list[Part], path: str) -> None:
        match part:
            case Thinking():
                if not _own_thought(part):
                    self.losses.add("thinking")
            case ToolCall():
                written.setdefault("tool_calls", []).append(self._call(part))
            case Refusal(text=text):
                written["refusal"] = written.get("refusal", "") + text
            case Audio():
                self._sound(part, written, said, path)
            case Image():
                self._picture(part, written, path)
            case Document():
                raise Unsupported(f"{path} holds a file that an assistant sent: leave it out.", path)
            case _:
                said.append(part)

    def _call(self, call: ToolCall) -> Json:
        custom = call.custom and self.losses.own
        text = as_arguments(call.arguments) if call.custom and not custom else call.arguments
        id = marks.fitting_id(call.id, ID_CHARS_MAX)
        written = written_call(id, flat_name(call.namespace, call.name), text, custom=custom)
        if call.signature and call.origin == NAME:
            written |= signed_call(call.signature)
        return self.losses.cached(written, call.cache)

    def _sound(self, sound: Audio, written: Json, said: list[Part], path: str) -> None:
        if sound.id and self.losses.own:
            written["audio"] = {"id": sound.id}
        elif sound.transcript:
            said.append(Text(sound.transcript))
            self.losses.add("audio")
        else:
            raise Unsupported(f"{path} holds sound that an assistant made: send its transcript as text.", path)

    def _picture(self, image: Image, written: Json, path: str) -> None:
        if not self.losses.own or isinstance(image.source, FileId):
            raise Unsupported(f"{path} holds a picture that an assistant made: send it with the role of a user.", path)
        written.setdefault("images", []).append(write_image(image, path))


def _own_thought(thought: Thinking) -> bool:
    """Tell whether a thought may go out: one that another vendor signed may not, one that nobody signed may."""
    return not thought.signature or thought.origin == NAME


def _thought(thoughts: list[Thinking]) -> Json:
    """Return thoughts: with a signature as they came, else as the text that tool loops of some vendors need."""
    if any(thought.signature for thought in thoughts):
        return {"reasoning_details": [detail(thought, number) for number, thought in enumerate(thoughts)]}
    text = "\n\n".join(thought.text for thought in thoughts if thought.text)
    return {"reasoning_content": text} if text else {}


# --- Tools ----------------------------------------------------------------------------------------------------------
def _tooling(request: Request, losses: Losses) -> Json:
    """Return the tools and which of them are wanted; of several, the others are left out where that is not told."""
    choice = request.tool_choice
    names = choice.names if choice is not None and not _forced(choice) else ()
    tools: list[Json] = []
    for tool in request.tools:
        written = _tool(tool, losses)
        if written is not None and (losses.own or not names or _name_of(tool) in names):
            tools.append(written)
    if not tools:
        if choice is not None and choice.mode != "none":
            losses.add("tool_choice")
        return {}
    body: Json = {"tools": tools}
    if choice is not None:
        body["tool_choice"] = _choice(choice, custom_names(request.tools) if losses.own else frozenset(), losses)
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    return body


def _forced(choice: ToolChoice) -> bool:
    """Tell whether one certain tool has to be called, which every upstream can be told."""
    return len(choice.names) == 1 and choice.mode == "required"


def _name_of(tool: AnyTool) -> str:
    return flat_name(tool.namespace, tool.name) if isinstance(tool, Tool | CustomTool) else tool.kind


def _tool(tool: AnyTool, losses: Losses) -> Json | None:
    if isinstance(tool, CustomTool):
        if losses.own:
            return {"type": "custom", "custom": _custom(tool)}
        tool = as_function(tool)
    if isinstance(tool, Tool):
        function: Json = {"name": flat_name(tool.namespace, tool.name)}
        if tool.description:
            function["description"] = tool.description
        if tool.parameters is not None or not losses.own:
            function["parameters"] = NO_PARAMETERS if tool.parameters is None else tool.parameters
        if tool.strict is not None:
            function["strict"] = tool.strict
        written = losses.cached({"type": "function", "function": function}, tool.cache)
        if losses.own:
            return written | tool.extras
        losses.names.update(f"tools.{name}" for name in tool.extras)
        return written
    if tool.origin == NAME:
        return tool.value
    losses.add(f"tools.{tool.kind}")
    return None


def _custom(tool: CustomTool) -> Json:
    written: Json = {"name": tool.name}
    if tool.description:
        written["description"] = tool.description
    if tool.format is not None:
        rest = {name: each for name, each in tool.format.items() if name != "type"}
        written["format"] = {"type": "grammar", "grammar": rest} if rest else tool.format
    return written


def _choice(choice: ToolChoice, custom: frozenset[str], losses: Losses) -> str | Json:
    tools = []
    for name in choice.names:
        kind = "custom" if name in custom else "function"
        tools.append({"type": kind, kind: {"name": name}})
    if _forced(choice):
        return tools[0]
    if tools and losses.own:
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": tools}}
    return choice.mode


# --- What is wanted -------------------------------------------------------------------------------------------------
def _wanted(request: Request, losses: Losses) -> Json:
    metadata, biases = request.metadata, request.logit_bias
    body: Json = {
        "response_format": None if request.output is None else _format(request.output, request.dialect),
        "reasoning_effort": None if request.reasoning is None else _effort(request.reasoning, losses),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": _own("top_k", request.top_k, losses),
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "seed": request.seed,
        "stop": request.stop or None,
        "n": request.choices if request.choices > 1 else None,
        "logprobs": request.logprobs or None,
        "top_logprobs": request.top_logprobs if request.logprobs else None,
        "logit_bias": None if biases is None else dict(biases),
        "verbosity": request.verbosity or None,
        "modalities": ["text", *request.modalities] if request.modalities else None,
        "service_tier": _tier(request, losses),
        "metadata": None if metadata is None else dict(metadata),
        "user": request.user or None,
        "prompt_cache_key": request.cache_key or None,
    }
    return {name: each for name, each in body.items() if each is not None}


def _own(name: str, found: int | None, losses: Losses) -> int | None:
    """Return what only a request of this dialect may carry: OpenAI refuses it."""
    if found is None or losses.own:
        return found
    losses.add(name)
    return None


def _tier(request: Request, losses: Losses) -> str | None:
    tier = request.service_tier
    if not tier or losses.own or tier in TIERS:
        return tier or None
    losses.add("service_tier")
    return None


def _format(output: OutputFormat, origin: str) -> Json:
    if output.schema is None:
        return {"type": "json_object"}
    schema: Json = {"name": output.name or "answer", "schema": output.schema}
    if output.description:
        schema["description"] = output.description
    if output.strict is not None or strictness.wanted(output, origin):
        schema["strict"] = strictness.wanted(output, origin)
    return {"type": "json_schema", "json_schema": schema}


def _effort(reasoning: Reasoning, losses: Losses) -> str | None:
    if reasoning.summary:
        losses.add("reasoning.summary")
    effort = effort_of(reasoning)
    return None if effort is None else nearest(effort, EFFORTS)
