"""A conversation, what is asked of a model, and its answer, in no vendor's dialect. Pure.

Invariants:

* Everything is frozen. A field that a dialect does not have keeps its default, so two parses can be compared.
* `Request.messages` is in normal form (`alternate`): neighbours differ in role, tool results stand in messages of
  role `tool` alone, and `system` covers what OpenAI calls `developer`. Instructions may stand anywhere.
* A part belongs to one vendor only as `Native`, and as the signature of a `Thinking` or `ToolCall`, whose `origin` is
  the dialect that made it. Whoever renders another dialect drops these, and says so where content is lost by it.
* `Request.extensions` are the top-level fields that only the dialect `Request.dialect` knows. Nothing else reads them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from gateway.wire.usage import Tokens

Role = Literal["system", "user", "assistant", "tool"]
Json = dict[str, Any]
# How long a prompt is kept in a vendor's cache from this part on: not asked for, five minutes, an hour.
Cache = Literal["", "5m", "1h"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
# Why an answer ended. `pause` asks the caller to go on, `error` is an ending that its vendor calls a failure.
Finish = Literal["stop", "stop_sequence", "length", "tool_calls", "content_filter", "refusal", "pause", "error"]


# --- Where media come from ----------------------------------------------------------------------------------------
class Url(msgspec.Struct, frozen=True):
    """An address that the model's vendor fetches."""

    url: str


class Inline(msgspec.Struct, frozen=True):
    """Bytes that came along: base64 as it was sent, and their media type ("" where none was told)."""

    media_type: str
    data: str


class FileId(msgspec.Struct, frozen=True):
    """A file that is kept by a vendor of the dialect `origin`; it means nothing to another."""

    origin: str
    id: str


Source = Url | Inline | FileId


# --- Parts of a message -------------------------------------------------------------------------------------------
class Citation(msgspec.Struct, frozen=True):
    """Where a text has something from. `start` and `end` are characters of the text (None: the whole of it)."""

    url: str = ""
    title: str = ""
    quote: str = ""
    start: int | None = None
    end: int | None = None


class Text(msgspec.Struct, frozen=True):
    """What is said."""

    text: str
    citations: tuple[Citation, ...] = ()
    cache: Cache = ""


class Image(msgspec.Struct, frozen=True):
    """A picture; `detail` is how closely it is to be looked at: "", "auto", "low", "high"."""

    source: Source
    detail: str = ""
    cache: Cache = ""


class Audio(msgspec.Struct, frozen=True):
    """Sound, spoken by either side; `id` names an earlier answer's that is not sent again."""

    source: Source | None
    transcript: str = ""
    id: str = ""


class Document(msgspec.Struct, frozen=True):
    """A file to read: a PDF, a text (base64 of `text/plain`) …"""

    source: Source
    name: str = ""
    context: str = ""
    cites: bool = False
    cache: Cache = ""


class Thinking(msgspec.Struct, frozen=True):
    """What a model thought: in full or, with `is_summary`, summed up; no text at all where the vendor shows none.

    `signature` is opaque, and only a vendor of `origin` can check it; `redacted` says that it holds the thought itself.
    Neighbours with one `id` are one thought in several pieces, signed at the last.
    """

    text: str
    signature: str = ""
    origin: str = ""
    id: str = ""
    is_summary: bool = False
    redacted: bool = False


class ToolCall(msgspec.Struct, frozen=True):
    """A model's wish to have a tool run. `arguments` is JSON as text, of an object, or for a custom tool its input.

    `signature` and `origin` are as in Thinking: Gemini signs the call itself.
    """

    id: str
    name: str
    arguments: str
    custom: bool = False
    namespace: str = ""
    signature: str = ""
    origin: str = ""
    cache: Cache = ""


class ToolResult(msgspec.Struct, frozen=True):
    """What a tool said, to the call `call_id`."""

    call_id: str
    parts: tuple["Text | Image | Document | Audio", ...]
    name: str = ""
    is_error: bool = False
    custom: bool = False
    cache: Cache = ""


class Refusal(msgspec.Struct, frozen=True):
    """A model's own words for why it does not answer."""

    text: str


class Native(msgspec.Struct, frozen=True):
    """A part that only the dialect `origin` knows, such as a search that its vendor ran: its JSON as it came."""

    origin: str
    kind: str
    value: Json


Part = Text | Image | Audio | Document | Thinking | ToolCall | ToolResult | Refusal | Native


class Message(msgspec.Struct, frozen=True):
    """What one side said in one go; `name` tells speakers of one role apart."""

    role: Role
    parts: tuple[Part, ...]
    name: str = ""


# --- What may be used, and what is wanted -------------------------------------------------------------------------
class Tool(msgspec.Struct, frozen=True):
    """A function that the caller runs. `parameters` is a JSON schema; `extras` only the request's own dialect knows."""

    name: str
    description: str = ""
    parameters: Json | None = None
    strict: bool | None = None
    namespace: str = ""
    cache: Cache = ""
    extras: Json = {}


class CustomTool(msgspec.Struct, frozen=True):
    """A tool that takes a text, which may have to follow a grammar (`format`); `extras` as in Tool."""

    name: str
    description: str = ""
    format: Json | None = None
    namespace: str = ""
    extras: Json = {}


class ServerTool(msgspec.Struct, frozen=True):
    """A tool that a vendor of the dialect `origin` runs by itself; a vendor without it does without."""

    origin: str
    kind: str
    value: Json


AnyTool = Tool | CustomTool | ServerTool


class ToolChoice(msgspec.Struct, frozen=True):
    """Which tools may or must be called: any of `names`, where there are some, else any of all."""

    mode: Literal["auto", "none", "required"]
    names: tuple[str, ...] = ()


class OutputFormat(msgspec.Struct, frozen=True):
    """JSON is wanted: any at all, or what `schema` allows."""

    schema: Json | None = None
    name: str = ""
    description: str = ""
    strict: bool | None = None


class Reasoning(msgspec.Struct, frozen=True):
    """How much is to be thought: by effort or by a number of tokens (-1: as many as the model likes).

    `summary` is what is shown of it: "" for the vendor's default, "none", "auto", "concise" or "detailed".
    """

    effort: Effort | None = None
    budget_tokens: int | None = None
    summary: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a model. `model` is the caller's name for it."""

    dialect: str
    model: str
    messages: tuple[Message, ...]
    tools: tuple[AnyTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output: OutputFormat | None = None
    reasoning: Reasoning | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    choices: int = 1
    logprobs: bool = False
    top_logprobs: int | None = None
    logit_bias: Mapping[str, float] | None = None
    verbosity: str = ""
    # What is wanted of the answer beside text: "audio", "image".
    modalities: tuple[str, ...] = ()
    stream: bool = False
    # Whether a stream's reader wants its usage.
    wants_usage: bool = True
    service_tier: str = ""
    metadata: Mapping[str, str] | None = None
    user: str = ""
    cache_key: str = ""
    extensions: Json = {}


# --- What is answered ---------------------------------------------------------------------------------------------
class Logprob(msgspec.Struct, frozen=True):
    """How likely a token was; `bytes` are its UTF-8, `top` those that were as likely."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple["Logprob", ...] = ()


class Choice(msgspec.Struct, frozen=True):
    """One of the answers that were asked for."""

    parts: tuple[Part, ...]
    finish: Finish = "stop"
    stop_sequence: str = ""
    logprobs: tuple[Logprob, ...] = ()


class Response(msgspec.Struct, frozen=True):
    """A model's whole answer. `created` is in seconds since 1970, 0 where the vendor tells none."""

    id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Tokens | None = None
    created: int = 0


# --- Normal form --------------------------------------------------------------------------------------------------
def alternate(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return messages in normal form: neighbours of one role and name joined, empty ones left out."""
    # Parts are gathered in lists: a tuple for each of very many neighbours would be copied as often.
    joined: list[tuple[Role, str, list[Part]]] = []
    for message in messages:
        if not message.parts:
            continue
        if joined and joined[-1][:2] == (message.role, message.name):
            joined[-1][2].extend(message.parts)
        else:
            joined.append((message.role, message.name, list(message.parts)))
    return tuple(Message(role, tuple(parts), name) for role, name, parts in joined)


def by_role(parts: Iterable[Part], name: str = "") -> Iterator[Message]:
    """Yield a user's message as messages in normal form: the tools' results apart, in the order they came."""
    for part in parts:
        role: Role = "tool" if isinstance(part, ToolResult) else "user"
        yield Message(role, (part,), "" if role == "tool" else name)


def instructions(messages: Iterable[Message]) -> tuple[tuple[Text, ...], tuple[Message, ...]]:
    """Return all instructions in order, wherever they stood, and the conversation without them, in normal form."""
    messages = tuple(messages)
    told = [part for message in messages if message.role == "system" for part in message.parts]
    texts = tuple(part for part in told if isinstance(part, Text))
    return texts, alternate(message for message in messages if message.role != "system")


def plain(parts: Iterable[Part]) -> str:
    """Return the texts among parts, joined by newlines."""
    return "\n".join(part.text for part in parts if isinstance(part, Text))


# --- Custom tools, for dialects that have functions only -----------------------------------------------------------
INPUT = "input"


def as_function(tool: CustomTool) -> Tool:
    """Return a custom tool as a function with one text as its argument; the grammar goes into the description."""
    grammar = (tool.format or {}).get("definition")
    description = f"{tool.description}\n\nThe input has to follow this grammar:\n{grammar}" if grammar else None
    return Tool(
        name=tool.name,
        description=(description or tool.description).strip(),
        parameters={
            "type": "object",
            "properties": {INPUT: {"type": "string"}},
            "required": [INPUT],
            "additionalProperties": False,
        },
        namespace=tool.namespace,
    )


def as_arguments(text: str) -> str:
    """Return a custom tool's input as a function's arguments."""
    return msgspec.json.encode({INPUT: text}).decode()


def as_input(arguments: str) -> str:
    """Return a custom tool's input from a function's arguments; what is not in that form is the input itself."""
    try:
        value = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        return arguments
    text = value.get(INPUT) if isinstance(value, dict) else None
    return text if isinstance(text, str) else arguments


def custom_names(tools: Iterable[AnyTool]) -> frozenset[str]:
    """Return the flat names of the custom tools."""
    return frozenset(flat_name(tool.namespace, tool.name) for tool in tools if isinstance(tool, CustomTool))


# --- Namespaces, for dialects without ------------------------------------------------------------------------------
NAMESPACE_MARK = "__"


def flat_name(namespace: str, name: str) -> str:
    """Return a tool's name with its namespace in front."""
    return f"{namespace}{NAMESPACE_MARK}{name}" if namespace else name
