"""OpenAI's chat as its documentation has it, for scenarios that look at the conversation; `answers` has its shapes.

https://platform.openai.com/docs/api-reference/chat
"""

import re
from typing import Any

from tests.upstream import answers
from tests.upstream.answers import dump
from tests.upstream.connection import Exchange
from tests.upstream.turn import Offered, Refused, Said, Turn, halves, known, picture

FIELDS = (
    "messages model audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens "
    "max_tokens metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key "
    "prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store "
    "stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options "
    "moderation"
)
FINISHES = {"stop": "stop", "calls": "tool_calls", "length": "length", "refusal": "stop"}


# --- Requests -----------------------------------------------------------------------------------------------------
def read(exchange: Exchange) -> Turn:
    """Return what is asked; raise Refused as OpenAI does."""
    body = exchange.json
    if not exchange.header("authorization"):
        raise Refused("You didn't provide an API key.", status=401)
    known(body, FIELDS, "Unrecognized request argument supplied: {}")
    if "stream_options" in body and not exchange.streams:
        raise Refused(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    tools = [_tool(tool) for tool in body.get("tools") or []]
    if not tools and body.get("tools") is not None:
        raise Refused("[] is too short - 'tools'", param="tools")
    for name in ("tool_choice", "parallel_tool_calls"):
        if not tools and body.get(name) is not None:
            raise Refused(f"'{name}' is only allowed when 'tools' are specified.", param=name)
    choice = body.get("tool_choice") or "auto"
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":
        allowed = choice["allowed_tools"]
        names = [tool[tool["type"]]["name"] for tool in allowed["tools"]]
        tools, choice = [tool for tool in tools if tool.name in names], allowed["mode"]
    turn = Turn(
        tools=tools,
        choice=choice if isinstance(choice, str) else choice[choice["type"]]["name"],
        parallel=body.get("parallel_tool_calls") is not False,
        reasons=body.get("reasoning_effort") not in (None, "none"),
    )
    wanted = body.get("response_format") or {"type": "text"}
    if wanted["type"] == "json_schema":
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", wanted["json_schema"].get("name", "")):
            raise Refused("Missing required parameter: 'response_format.json_schema.name'.")
        turn.schema = wanted["json_schema"]["schema"]
    elif wanted["type"] == "json_object":
        turn.schema = {"type": "object"}
    _conversation(body.get("messages"), turn)
    return turn


def _tool(tool: dict[str, Any]) -> Offered:
    inner = tool[tool["type"]]
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", inner["name"]):
        raise Refused("Invalid 'tools[0].function.name': string does not match pattern. Expected '^[a-zA-Z0-9_-]+$'.")
    return Offered(inner["name"], inner.get("parameters") or {}, custom=tool["type"] == "custom")


def _conversation(messages: Any, turn: Turn) -> None:
    if not isinstance(messages, list) or not messages:
        raise Refused("[] is too short - 'messages'", param="messages")
    open_calls: list[str] = []
    for at, message in enumerate(messages):
        role, content = message["role"], message.get("content")
        if role == "tool":
            if message["tool_call_id"] not in open_calls:
                raise Refused("messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.")
            open_calls.remove(message["tool_call_id"])
            said = content if isinstance(content, str) else "".join(part["text"] for part in content)
            turn.result = (turn.result or "") + said
            continue
        if open_calls:
            raise Refused(_unanswered(open_calls))
        if role == "user":
            turn.result, turn.images = None, []
            for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                _user_part(part, turn)
        elif role == "assistant":
            if content is None and not message.get("tool_calls") and not message.get("refusal"):
                raise Refused(f"Invalid value for 'content': expected a string, got null. - 'messages[{at}]'")
            open_calls = [call["id"] for call in message.get("tool_calls") or []]
            if any(len(id) > 40 for id in open_calls):
                raise Refused(f"Invalid 'messages[{at}].tool_calls[0].id': string too long. Expected at most 40.")
        elif role not in ("system", "developer"):
            raise Refused(f"Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'tool' …")
    if open_calls:
        raise Refused(_unanswered(open_calls))


def _unanswered(ids: list[str]) -> str:
    return (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(ids)}"
    )


def _user_part(part: dict[str, Any], turn: Turn) -> None:
    kind = part["type"]
    if kind == "text":
        turn.text = part["text"]
        return
    if kind not in ("image_url", "file", "input_audio"):
        raise Refused(f"Invalid value: '{kind}'. Supported values are: 'text', 'image_url', 'input_audio' and 'file'.")
    inner = part[kind]
    address = str(inner.get("url") or inner.get("file_data") or inner.get("file_id") or inner.get("data") or "")
    inline = re.fullmatch(r"data:([^;,]+);base64,(.*)", address, re.DOTALL)
    turn.images.append(picture(inline[1], inline[2]) if inline else address)


# --- Answers ------------------------------------------------------------------------------------------------------
def calls(said: Said) -> list[dict[str, Any]]:
    """Return the calls of an answer."""
    found: list[dict[str, Any]] = []
    for at, (tool, arguments) in enumerate(said.calls):
        if tool.custom:
            inner = {"type": "custom", "custom": {"name": tool.name, "input": arguments}}
        else:
            inner = {"type": "function", "function": {"name": tool.name, "arguments": arguments}}
        found.append({"id": f"call_{said.first + at}", **inner})
    return found


def whole(exchange: Exchange, said: Said) -> bytes:
    """Return an answer."""
    refused = said.finish == "refusal"
    message: dict[str, Any] = {"role": "assistant", "content": None if refused else said.text or None}
    message["refusal"] = said.text if refused else None
    if said.thought:
        message["reasoning_content"] = "".join(said.thought)
    if said.calls:
        message["tool_calls"] = calls(said)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": FINISHES[said.finish]}
    return answers.completion(exchange.model, choices=[choice])


def events(exchange: Exchange, said: Said) -> list[bytes]:
    """Return a stream's events."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"reasoning_content": piece} for piece in said.thought]
    deltas += [{"refusal" if said.finish == "refusal" else "content": piece} for piece in said.texts]
    for at, call in enumerate(calls(said)):
        kind = call["type"]
        name = "input" if kind == "custom" else "arguments"
        deltas.append({"tool_calls": [{"index": at, **call, kind: {**call[kind], name: ""}}]})
        deltas += [{"tool_calls": [{"index": at, kind: {name: piece}}]} for piece in halves(call[kind][name])]
    found = [answers.event(answers.chunk(exchange.model, delta)) for delta in deltas]
    found.append(answers.event(answers.chunk(exchange.model, {}, finish=FINISHES[said.finish])))
    if (exchange.json.get("stream_options") or {}).get("include_usage") is True:
        found.append(answers.event(answers.usage_chunk(exchange.model)))
    return [*found, answers.DONE]


def counted(exchange: Exchange) -> bytes:
    """Return what stands for a count: OpenAI's chat has none."""
    return error(404, Refused("Invalid URL"))


# --- Errors -------------------------------------------------------------------------------------------------------
def error(status: int, refused: Refused) -> bytes:
    """Return an error's body."""
    detail = {"type": "invalid_request_error", "param": refused.param or None, "code": refused.code or None}
    return dump({"error": {"message": str(refused), **detail}})


def failure(message: str, number: int) -> list[bytes]:
    """Return how a stream ends that broke."""
    return [answers.event(answers.error(message)), answers.DONE]
