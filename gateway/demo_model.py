"""What the demo upstream's two models answer: the same to the same request, and valid wherever a form is asked for.

Pure: a parsed request goes in, a value comes out. A token is up to six letters with the blanks before them.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway import demo_schema

CHAT, EMBEDDING = "demo-chat", "demo-embed"
MODELS = (CHAT, EMBEDDING)
ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
CHOICES_MAX = 8
QUOTE_CHARACTERS_MAX = 400
DIMENSIONS, DIMENSIONS_MAX = 256, 3072
INPUTS_MAX = 2048
INPUT_WORDS_MAX = 8192
EMBEDDING_WORDS_MAX = 300_000
TOKEN = re.compile(r"\s*\S{1,6}|\s+")
WORD = re.compile(r"\w+")
NAME = re.compile(r"(?<=\w )[A-Z][\w-]+")
MESSAGE_TOKENS = 4
IMAGE_TOKENS = 85


class BadRequest(ValueError):
    """The request is wrong; `param` names the field."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One choice: text as tokens, or the call of a tool as its name and the tokens of its arguments."""

    tokens: tuple[str, ...]
    tool: str = ""
    finish_reason: str
    prompt_tokens: int

    @property
    def text(self) -> str:
        """The text, or the arguments of the call."""
        return "".join(self.tokens)


def answer(request: Mapping[str, Any]) -> Answer:
    """Return what the chat model says to a request in OpenAI's form; raise BadRequest for a bad one."""
    messages = check_messages(request.get("messages"))
    limit = check_integer(request, "max_completion_tokens", 1) or check_integer(request, "max_tokens", 1)
    last = messages[-1]
    asked = text_of(next((message for message in reversed(messages) if message["role"] == "user"), last))
    tool = None if last["role"] in ("tool", "function") else chosen_tool(request)
    if tool:
        schema = tool.get("parameters") or {"type": "object", "properties": {}}
        text, reason = example(schema, asked, "tools"), "tool_calls"
    else:
        text, reason = written(request, last, asked), "stop"
    tokens = TOKEN.findall(text)
    if limit is not None and len(tokens) > limit:
        tokens, reason = tokens[:limit], "length"
    return Answer(
        tokens=tuple(tokens),
        tool=tool["name"] if tool else "",
        finish_reason=reason,
        prompt_tokens=prompt_tokens(messages, request.get("tools")),
    )


def written(request: Mapping[str, Any], last: Mapping[str, Any], asked: str) -> str:
    """Return the text: free, or JSON where `response_format` wants it."""
    wanted = request.get("response_format") or {}
    if not isinstance(wanted, Mapping) or wanted.get("type", "text") not in ("text", "json_object", "json_schema"):
        raise BadRequest("response_format.type must be text, json_object or json_schema.", "response_format")
    if last["role"] in ("tool", "function"):
        text = f"The tool answered: {quote(text_of(last))}"
    else:
        text = (
            f"This is the demo model of Aperture; it repeats what it is told. You said: “{quote(asked)}” "
            "Add a provider and its key in the admin to talk to a real model under the same address."
        )
    if wanted.get("type") == "json_object":
        return encoded({"answer": text})
    if wanted.get("type") == "json_schema":
        described = wanted.get("json_schema")
        schema = described.get("schema") if isinstance(described, Mapping) else None
        if not isinstance(schema, Mapping):
            raise BadRequest("json_schema.schema must be a JSON schema.", "response_format.json_schema")
        return example(schema, asked, "response_format.json_schema")
    return text


def check_messages(messages: Any) -> list[Mapping[str, Any]]:
    """Return the messages, or raise BadRequest."""
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list with at least one message.", "messages")
    for number, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        if not isinstance(role, str) or role not in ROLES:
            raise BadRequest(
                f"messages[{number}].role must be one of {', '.join(sorted(ROLES))}.", f"messages[{number}]"
            )
        if not isinstance(message.get("content"), str | list | None):
            raise BadRequest(f"messages[{number}].content must be text or a list of parts.", f"messages[{number}]")
    return messages


def check_integer(request: Mapping[str, Any], name: str, at_least: int, at_most: int = 2**31) -> int | None:
    """Return a whole number within its bounds, None where it is absent; raise BadRequest."""
    value = request.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value <= at_most:
        raise BadRequest(f"{name} must be a whole number from {at_least} to {at_most}.", name)
    return value


def text_of(message: Mapping[str, Any]) -> str:
    """Return a message's text; of a list of parts, the text ones."""
    content = message.get("content")
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        return " ".join(text for text in parts if isinstance(text, str))
    return content or ""


def quote(text: str) -> str:
    """Return the text on one line, shortened where it is long."""
    line = " ".join(text[: 4 * QUOTE_CHARACTERS_MAX].split())
    return line if len(line) <= QUOTE_CHARACTERS_MAX else line[:QUOTE_CHARACTERS_MAX] + "…"


def hint(text: str) -> str:
    """Return a word of the text that makes a plausible argument: a name, else the last word."""
    start = text[:QUOTE_CHARACTERS_MAX]
    words = NAME.findall(start) or WORD.findall(start)
    return words[-1] if words else "demo"


def chosen_tool(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the function to call: the one that `tool_choice` names, else the first; None where none is to be."""
    tools = request.get("tools") or []
    choice = request.get("tool_choice", "auto")
    if not isinstance(tools, list):
        raise BadRequest("tools must be a list.", "tools")
    functions: list[Mapping[str, Any]] = []
    for tool in tools:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise BadRequest("Every tool must have type function and function.name.", "tools")
        functions.append(function)
    if choice == "none":
        return None
    if isinstance(choice, Mapping):
        named = choice.get("function")
        wanted = named.get("name") if isinstance(named, Mapping) else None
        functions = [function for function in functions if function["name"] == wanted]
        if not functions:
            raise BadRequest(f"tool_choice names {wanted!r}, which is not among the tools.", "tool_choice")
    return functions[0] if functions else None


def prompt_tokens(messages: Sequence[Mapping[str, Any]], tools: Any) -> int:
    """Return a plausible count: a quarter of the bytes, some for each message and image."""
    size = sum(len(text_of(message).encode()) for message in messages)
    images: int = sum(
        isinstance(part, Mapping) and part.get("type") == "image_url"
        for message in messages
        for part in message.get("content") or []
    )
    described = len(msgspec.json.encode(tools)) if tools else 0
    return math.ceil((size + described) / 4) + MESSAGE_TOKENS * len(messages) + IMAGE_TOKENS * images


def example(schema: Any, asked: str, param: str) -> str:
    """Return, as JSON, a value that is valid under a schema of the caller's; raise BadRequest."""
    try:
        return encoded(demo_schema.instance(schema, hint(asked)))
    except (demo_schema.UnusableSchema, OverflowError) as error:
        raise BadRequest(f"No value can be made for this JSON schema: {error}", param) from error


def encoded(value: Any) -> str:
    """Return a value as JSON text."""
    return msgspec.json.encode(value).decode()


def check_inputs(request: Mapping[str, Any]) -> list[list[str]]:
    """Return the words of each embedding input (texts, or lists of token ids); raise BadRequest."""
    given = request.get("input")
    one = isinstance(given, str) or (isinstance(given, list) and bool(given) and isinstance(given[0], int))
    inputs: Any = [given] if one else given
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= INPUTS_MAX:
        raise BadRequest(f"input must be a text, a list of 1 to {INPUTS_MAX} texts, or token ids.", "input")
    words: list[list[str]] = []
    for number, value in enumerate(inputs):
        if isinstance(value, str) and value:
            words.append(WORD.findall(value.lower()) or [value])
        elif isinstance(value, list) and value and all(isinstance(token, int) for token in value):
            words.append([str(token) for token in value])
        else:
            raise BadRequest(f"input[{number}] must be a text that is not empty, or token ids.", "input")
        if len(words[-1]) > INPUT_WORDS_MAX:
            raise BadRequest(f"input[{number}] is longer than {INPUT_WORDS_MAX} words.", "input")
    if sum(map(len, words)) > EMBEDDING_WORDS_MAX:
        raise BadRequest(f"All inputs together may have {EMBEDDING_WORDS_MAX} words.", "input")
    return words


def embedding(words: Iterable[str], dimensions: int) -> list[float]:
    """Return a unit vector in which texts that share words are near each other."""
    vector = [0.0] * dimensions
    for word in words:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        for start in range(0, 32, 4):
            place = int.from_bytes(digest[start : start + 4], "big")
            vector[(place >> 1) % dimensions] += 1.0 if place & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    if length == 0.0:
        vector[0] = length = 1.0
    return [value / length for value in vector]
