"""OpenAI's Responses as its documentation has them: what is refused, whole answers, the order of a stream's events.

https://platform.openai.com/docs/api-reference/responses, https://platform.openai.com/docs/api-reference/responses-streaming
"""

import re
from typing import Any

from tests.upstream.answers import CREATED, dump
from tests.upstream.connection import Exchange
from tests.upstream.turn import Offered, Refused, Said, Turn, halves, known, picture, signature

VENDOR = "openai"
FIELDS = (
    "background context_management conversation include input instructions max_output_tokens max_tool_calls "
    "metadata model moderation parallel_tool_calls previous_response_id prompt prompt_cache_key "
    "prompt_cache_retention reasoning safety_identifier service_tier store stream stream_options temperature "
    "text tool_choice tools top_logprobs top_p truncation user client_metadata"
)
CALLS = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
USAGE = {
    "input_tokens": 11,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 18,
}


# --- Requests -----------------------------------------------------------------------------------------------------
def read(exchange: Exchange) -> Turn:
    """Return what is asked; raise Refused as OpenAI does."""
    body = exchange.json
    if not exchange.header("authorization"):
        raise Refused("Missing bearer authentication in header", status=401)
    known(body, FIELDS, "Unknown parameter: '{}'.")
    least = body.get("max_output_tokens")
    if least is not None and least < 16:
        raise Refused(f"Invalid 'max_output_tokens': integer below minimum value. Expected >= 16, got {least}.")
    if "temperature" in body and (body.get("reasoning") or {}).get("effort") not in (None, "none"):
        raise Refused("Unsupported parameter: 'temperature' is not supported with this model.", param="temperature")
    tools = [each for tool in body.get("tools") or [] for each in _tools(tool)]
    choice = body.get("tool_choice") or "auto"
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":
        names = [tool["name"] for tool in choice["tools"]]
        tools, choice = [tool for tool in tools if tool.name in names], choice["mode"]
    turn = Turn(
        tools=tools,
        choice=choice if isinstance(choice, str) else choice["name"],
        parallel=body.get("parallel_tool_calls") is not False,
        reasons=(body.get("reasoning") or {}).get("effort") not in (None, "none"),
    )
    wanted = (body.get("text") or {}).get("format") or {"type": "text"}
    if wanted["type"] == "json_schema":
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", wanted.get("name", "")):
            raise Refused("Missing required parameter: 'text.format.name'.", param="text.format.name")
        _strict(wanted)
        turn.schema = wanted["schema"]
    elif wanted["type"] == "json_object":
        turn.schema = {"type": "object"}
    items = body.get("input")
    if isinstance(items, str):
        turn.text = items
    elif items:
        _items(items, turn)
    else:
        raise Refused("Missing required parameter: 'input'.", param="input")
    return turn


def _tools(tool: dict[str, Any]) -> list[Offered]:
    if tool["type"] == "namespace":
        return [each for inner in tool["tools"] for each in _tools(inner)]
    if tool["type"] not in ("function", "custom"):
        return []
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool["name"]):
        raise Refused("Invalid 'tools[0].name': string does not match pattern. Expected '^[a-zA-Z0-9_-]+$'.")
    if tool["type"] == "custom":
        return [Offered(tool["name"], {}, custom=True)]
    _strict({"strict": tool.get("strict", True), "schema": tool.get("parameters") or {}})
    return [Offered(tool["name"], tool.get("parameters") or {})]


def _strict(wanted: dict[str, Any]) -> None:
    """Check that a schema that is to be followed strictly allows nothing else, as OpenAI wants it."""
    schema = wanted["schema"]
    if wanted.get("strict") and schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise Refused(
            "Invalid schema: In context=(), 'additionalProperties' is required to be supplied and to be false.",
            code="invalid_function_parameters",
        )


def _items(items: list[dict[str, Any]], turn: Turn) -> None:
    open_calls: dict[str, str] = {}
    for at, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "message":
            _message(item, turn)
            turn.result = None
        elif kind == "reasoning":
            _reasoning(item, items[at + 1 :])
        elif kind in CALLS:
            if len(item["call_id"]) > 64:
                raise Refused(f"Invalid 'input[{at}].call_id': string too long. Expected a maximum length of 64.")
            open_calls[item["call_id"]] = CALLS[kind]
        elif kind in CALLS.values():
            if open_calls.pop(item["call_id"], "") != kind:
                raise Refused(f"No tool call found for function call output with call_id {item['call_id']}.")
            output = item["output"]
            said = output if isinstance(output, str) else " ".join(_seen(part) for part in output)
            turn.result = (turn.result or "") + said
        else:
            raise Refused(
                f"Invalid value: '{kind}'. Supported values are: 'message', 'reasoning' …", code="invalid_value"
            )
    for call_id in open_calls:
        raise Refused(f"No tool output found for function call {call_id}.", param="input")


def _message(item: dict[str, Any], turn: Turn) -> None:
    role, content = item["role"], item["content"]
    if role not in ("user", "assistant", "system", "developer"):
        raise Refused(f"Invalid value: '{role}'. Supported values are: 'assistant', 'system', 'developer', and 'user'.")
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    for part in parts:
        said = part["type"] in ("output_text", "refusal")
        if said != (role == "assistant") and not isinstance(content, str):
            raise Refused(f"Invalid value: '{part['type']}'. It is not supported for the role '{role}'.")
    if role != "user":
        return
    turn.images = []
    for part in parts:
        if part["type"] == "input_text":
            turn.text = part["text"]
        else:
            turn.images.append(_seen(part))


def _seen(part: dict[str, Any]) -> str:
    if part["type"] == "input_text":
        return str(part["text"])
    if part["type"] == "input_audio":
        return picture("audio/" + part["input_audio"]["format"], part["input_audio"]["data"])
    address = str(part.get("image_url") or part.get("file_data") or part.get("file_url") or part.get("file_id") or "")
    inline = re.fullmatch(r"data:([^;,]+);base64,(.*)", address, re.DOTALL)
    if not address or (not inline and address.startswith("data:")):
        raise Refused("Invalid 'input[0].content[0].image_url'. Expected a valid URL.", code="invalid_image_url")
    return picture(inline[1], inline[2]) if inline else address


def _reasoning(item: dict[str, Any], following: list[dict[str, Any]]) -> None:
    if not isinstance(item.get("summary"), list):
        raise Refused("Missing required parameter: 'input[0].summary'.")
    encrypted = item.get("encrypted_content")
    if encrypted is None:
        raise Refused(
            f"Item with id '{item.get('id')}' not found. Items are not persisted when `store` is set to false.",
            status=404,
        )
    if encrypted != signature(VENDOR, str(item.get("id"))):
        raise Refused(
            f"The encrypted content for item {item.get('id')} could not be verified.", code="invalid_encrypted_content"
        )
    if not following or following[0].get("role", "assistant") != "assistant":
        raise Refused(f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item.")


# --- Answers ------------------------------------------------------------------------------------------------------
def items(said: Said) -> list[dict[str, Any]]:
    """Return the items of an answer."""
    found: list[dict[str, Any]] = []
    if said.thought:
        summary = [{"type": "summary_text", "text": "".join(said.thought)}]
        encrypted = signature(VENDOR, "rs_1")
        found.append({"id": "rs_1", "type": "reasoning", "summary": summary, "encrypted_content": encrypted})
    if said.texts:
        part: dict[str, Any] = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        if said.finish == "refusal":
            part = {"type": "refusal", "refusal": said.text}
        status = "incomplete" if said.finish == "length" else "completed"
        found.append({"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": [part]})
    for at, (tool, arguments) in enumerate(said.calls):
        call = {"call_id": f"call_{said.first + at}", "name": tool.name, "status": "completed"}
        if tool.custom:
            found.append({"id": f"ctc_{at}", "type": "custom_tool_call", **call, "input": arguments})
        else:
            found.append({"id": f"fc_{at}", "type": "function_call", **call, "arguments": arguments})
    return found


def response(exchange: Exchange, said: Said, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a response in one of its states."""
    body = exchange.json
    cut = said.finish == "length" and status == "completed"
    ended = status == "completed"
    thoughts = 4 if said.thought else 0
    return {
        "id": "resp_scripted",
        "object": "response",
        "created_at": CREATED,
        "status": "incomplete" if cut else status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": exchange.model,
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": (body.get("reasoning") or {}).get("effort"), "summary": None},
        "service_tier": "default" if ended else "auto",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": {
            **USAGE,
            "output_tokens": 7 + thoughts,
            "output_tokens_details": {"reasoning_tokens": thoughts},
            "total_tokens": 18 + thoughts,
        }
        if ended
        else None,
        "user": None,
        "metadata": body.get("metadata") or {},
        "x_vendor": {"kept": True},
    }


def whole(exchange: Exchange, said: Said) -> bytes:
    """Return an answer."""
    return dump(response(exchange, said, "completed", items(said)))


class Numbered:
    """A stream's events, which are numbered."""

    def __init__(self) -> None:
        self.events: list[bytes] = []

    def add(self, kind: str, **values: Any) -> None:
        """Add an event."""
        data = dump({"type": kind, "sequence_number": len(self.events), **values})
        self.events.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))


def events(exchange: Exchange, said: Said) -> list[bytes]:
    """Return a stream's events."""
    out = Numbered()
    out.add("response.created", response=response(exchange, said, "in_progress", []))
    out.add("response.in_progress", response=response(exchange, said, "in_progress", []))
    done = items(said)
    for at, item in enumerate(done):
        if item["type"] == "message":
            _message_events(out, at, item, said)
        elif item["type"] == "reasoning":
            _reasoning_events(out, at, item, said)
        else:
            _call_events(out, at, item)
        out.add("response.output_item.done", output_index=at, item=item)
    last = response(exchange, said, "completed", done)
    out.add(f"response.{last['status']}", response=last)
    return out.events


def _message_events(out: Numbered, at: int, item: dict[str, Any], said: Said) -> None:
    part = item["content"][0]
    name, kind = ("refusal", "refusal") if part["type"] == "refusal" else ("text", "output_text")
    place = {"item_id": item["id"], "output_index": at, "content_index": 0}
    more: dict[str, Any] = {"logprobs": []} if name == "text" else {}
    out.add("response.output_item.added", output_index=at, item={**item, "status": "in_progress", "content": []})
    out.add("response.content_part.added", **place, part={**part, name: ""})
    for piece in said.texts:
        out.add(f"response.{kind}.delta", **place, delta=piece, **more)
    out.add(f"response.{kind}.done", **place, **{name: part[name]}, **more)
    out.add("response.content_part.done", **place, part=part)


def _reasoning_events(out: Numbered, at: int, item: dict[str, Any], said: Said) -> None:
    place = {"item_id": item["id"], "output_index": at, "summary_index": 0}
    kind = "response.reasoning_summary"
    out.add("response.output_item.added", output_index=at, item={**item, "summary": []})
    out.add(f"{kind}_part.added", **place, part={"type": "summary_text", "text": ""})
    for piece in said.thought:
        out.add(f"{kind}_text.delta", **place, delta=piece)
    out.add(f"{kind}_text.done", **place, text=item["summary"][0]["text"])
    out.add(f"{kind}_part.done", **place, part=item["summary"][0])


def _call_events(out: Numbered, at: int, item: dict[str, Any]) -> None:
    name, kind = ("input", "custom_tool_call_input") if "input" in item else ("arguments", "function_call_arguments")
    place = {"item_id": item["id"], "output_index": at}
    out.add("response.output_item.added", output_index=at, item={**item, name: "", "status": "in_progress"})
    for piece in halves(item[name]):
        out.add(f"response.{kind}.delta", **place, delta=piece)
    out.add(f"response.{kind}.done", **place, **{name: item[name]})


def counted(exchange: Exchange) -> bytes:
    """Return the answer to a request that only counts."""
    return dump({"object": "response.input_tokens", "input_tokens": len(exchange.body) // 4})


# --- Errors -------------------------------------------------------------------------------------------------------
def error(status: int, refused: Refused) -> bytes:
    """Return an error's body."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    detail = {"message": str(refused), "type": kind, "param": refused.param or None, "code": refused.code or None}
    return dump({"error": detail})


def failure(message: str, number: int) -> list[bytes]:
    """Return how a stream ends that broke after NUMBER events."""
    values = {"code": "server_error", "message": message, "param": None}
    event = dump({"type": "error", "sequence_number": number, **values})
    return [b"event: error\ndata: " + event + b"\n\n"]
