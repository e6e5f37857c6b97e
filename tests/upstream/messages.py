"""Anthropic's Messages as its documentation has them: what is refused, whole answers, the order of a stream's events.

https://docs.claude.com/en/api/messages, https://docs.claude.com/en/docs/build-with-claude/streaming
"""

import json
import re
from typing import Any

from tests.upstream.answers import dump
from tests.upstream.connection import Exchange
from tests.upstream.turn import Offered, Refused, Said, Turn, dumped, halves, known, picture, signature

VENDOR = "anthropic"
FIELDS = (
    "model messages system max_tokens metadata stop_sequences stream temperature top_p top_k tools tool_choice "
    "thinking service_tier container context_management mcp_servers output_config output_format cache_control "
    "inference_geo"
)
KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error",
    529: "overloaded_error",
}  # fmt: skip
FINISHES = {"stop": "end_turn", "calls": "tool_use", "length": "max_tokens", "refusal": "refusal"}
SAFE = re.compile(r"[a-zA-Z0-9_-]+")
USAGE = {
    "input_tokens": 8,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 3,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "service_tier": "standard",
}
OUTPUT_TOKENS = 7
NO_THOUGHT = (
    "messages.{}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{}`. When `thinking` is"
    " enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of"
    " `tool_use` and `tool_result` blocks)."
)


# --- Requests -----------------------------------------------------------------------------------------------------
def read(exchange: Exchange) -> Turn:
    """Return what is asked; raise Refused as Anthropic does."""
    body = exchange.json
    if not exchange.header("x-api-key") and not exchange.header("authorization"):
        raise Refused("x-api-key header is required", status=401)
    if not exchange.header("anthropic-version"):
        raise Refused("anthropic-version: header is required")
    known(body, FIELDS, "{}: Extra inputs are not permitted")
    counts = exchange.path.partition("?")[0].endswith("/count_tokens")
    if not counts and type(body.get("max_tokens")) is not int:
        raise Refused("max_tokens: Field required")
    thinks = (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    choice = body.get("tool_choice") or {"type": "auto"}
    if thinks:
        _thinking(body, choice)
    turn = Turn(
        tools=[_tool(tool, at) for at, tool in enumerate(body.get("tools") or []) if "input_schema" in tool],
        choice={"auto": "auto", "none": "none", "any": "required", "tool": choice.get("name", "")}[choice["type"]],
        parallel=choice.get("disable_parallel_tool_use") is not True,
        reasons=thinks,
    )
    wanted = (body.get("output_config") or {}).get("format") or body.get("output_format")
    if wanted is not None:
        if wanted.get("type") != "json_schema" or not isinstance(wanted.get("schema"), dict):
            raise Refused("output_config.format: Input should be a json_schema with a schema")
        turn.schema = wanted["schema"]
    # A beta of Anthropic's: Claude Code puts what changes there, so that what stands before stays in the prompt cache.
    instructs = "mid-conversation-system" in exchange.header("anthropic-beta")
    _conversation(body.get("messages"), turn, ("user", "assistant", "system") if instructs else ("user", "assistant"))
    return turn


def _thinking(body: dict[str, Any], choice: dict[str, Any]) -> None:
    budget = body["thinking"].get("budget_tokens")
    if body["thinking"]["type"] == "enabled" and (type(budget) is not int or budget < 1024):
        raise Refused("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if budget is not None and budget >= body.get("max_tokens", budget + 1):
        raise Refused("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if choice["type"] in ("any", "tool"):
        raise Refused("Thinking may not be enabled when tool_choice forces tool use.")
    if body.get("temperature", 1) != 1:
        raise Refused("`temperature` may only be set to 1 when thinking is enabled.")
    if body.get("top_k") is not None:
        raise Refused("`top_k` must be unset when thinking is enabled.")


def _tool(tool: dict[str, Any], at: int) -> Offered:
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]):
        raise Refused(f"tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if tool["input_schema"].get("type") != "object":
        raise Refused(f"tools.{at}.custom.input_schema.type: Input should be 'object'")
    return Offered(tool["name"], tool["input_schema"])


def _conversation(messages: Any, turn: Turn, roles: tuple[str, ...]) -> None:
    if not isinstance(messages, list) or not messages:
        raise Refused("messages: at least one message is required")
    calls: list[str] = []
    last_thought_at = None
    for at, message in enumerate(messages):
        role, blocks = message["role"], message["content"]
        if role not in roles:
            raise Refused(
                f'messages: Unexpected role "{role}". The Messages API accepts a top-level `system` parameter'
            )
        blocks = [{"type": "text", "text": blocks}] if isinstance(blocks, str) else blocks
        if not blocks:
            raise Refused(f"messages.{at}: all messages must have non-empty content")
        if role == "system":
            continue
        if role == "user":
            _results(blocks, calls, at)
            turn.result, turn.images = None, []
            for place, block in enumerate(blocks):
                _user_block(block, turn, f"messages.{at}.content.{place}")
            calls = []
            continue
        for place, block in enumerate(blocks):
            _assistant_block(block, f"messages.{at}.content.{place}")
        calls = calls + [block["id"] for block in blocks if block["type"] == "tool_use"]
        if calls:
            last_thought_at = (at, blocks[0]["type"])
    if calls:
        raise Refused(
            f"messages.{len(messages) - 1}: `tool_use` ids were found without `tool_result` blocks: {calls[0]}"
        )
    if (
        turn.reasons
        and turn.result is not None
        and last_thought_at is not None
        and "thinking" not in last_thought_at[1]
    ):
        raise Refused(NO_THOUGHT.format(*last_thought_at))


def _results(blocks: list[dict[str, Any]], calls: list[str], at: int) -> None:
    """Check that a user's message answers each call of the message before, and nothing else."""
    found = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    for id in found:
        if id not in calls:
            raise Refused(f"messages.{at}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {id}.")
    for id in calls:
        if id not in found:
            raise Refused(
                f"messages.{at - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: {id}."
            )


def _user_block(block: dict[str, Any], turn: Turn, place: str) -> None:
    kind = block["type"]
    if kind == "text":
        _text(block, place)
        turn.text = block["text"]
    elif kind in ("image", "document"):
        turn.images.append(_media(block))
    elif kind == "tool_result":
        content = block.get("content") or ""
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        said = [inner["text"] if inner["type"] == "text" else _media(inner) for inner in blocks]
        failed = "failed: " if block.get("is_error") else ""
        turn.result = (turn.result or "") + failed + " ".join(said)
    else:
        raise Refused(f"{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags")


def _media(block: dict[str, Any]) -> str:
    source = block["source"]
    if source["type"] == "base64":
        return picture(source["media_type"], source["data"])
    return {"url": source.get("url"), "text": source.get("data"), "file": source.get("file_id")}[source["type"]] or ""


def _text(block: dict[str, Any], place: str) -> None:
    if not block["text"]:
        raise Refused("messages: text content blocks must be non-empty")
    known(
        block,
        "type text cache_control citations",
        place + ".text.{}: Extra inputs are not permitted",
    )


def _assistant_block(block: dict[str, Any], place: str) -> None:
    kind = block["type"]
    if kind == "text":
        _text(block, place)
    elif kind == "thinking":
        if block.get("signature") != signature(VENDOR, block["thinking"]):
            raise Refused(f"{place}: Invalid `signature` in `thinking` block")
    elif kind == "redacted_thinking":
        if block.get("data") != signature(VENDOR, "redacted"):
            raise Refused(f"{place}: Invalid `data` in `redacted_thinking` block")
    elif kind == "tool_use":
        if not SAFE.fullmatch(block["id"]):
            raise Refused(f"{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        if not isinstance(block["input"], dict):
            raise Refused(f"{place}.tool_use.input: Input should be a valid dictionary")
    else:
        raise Refused(f"{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags")


# --- Answers ------------------------------------------------------------------------------------------------------
def blocks(said: Said) -> list[dict[str, Any]]:
    """Return the content of an answer."""
    found: list[dict[str, Any]] = []
    if said.thought:
        text = "".join(said.thought)
        found.append({"type": "thinking", "thinking": text, "signature": signature(VENDOR, text)})
    if said.texts:
        found.append({"type": "text", "text": said.text})
    for at, (tool, arguments) in enumerate(said.calls):
        found.append(
            {"type": "tool_use", "id": f"toolu_0{said.first + at}", "name": tool.name, "input": json.loads(arguments)}
        )
    return found


def whole(exchange: Exchange, said: Said) -> bytes:
    """Return an answer."""
    return dump(
        {
            **_head(exchange),
            "content": blocks(said),
            "stop_reason": FINISHES[said.finish],
            "usage": {**USAGE, "output_tokens": OUTPUT_TOKENS},
        }
    )


def _head(exchange: Exchange) -> dict[str, Any]:
    return {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": exchange.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**USAGE, "output_tokens": 1},
        "x_vendor": {"kept": True},
    }


def events(exchange: Exchange, said: Said) -> list[bytes]:
    """Return a stream's events."""
    found = [_event("message_start", message=_head(exchange))]
    for at, block in enumerate(blocks(said)):
        empty, deltas = _pieces(block, said)
        found.append(_event("content_block_start", index=at, content_block=empty))
        if not at:
            found.append(_event("ping"))
        found += [_event("content_block_delta", index=at, delta=delta) for delta in deltas]
        found.append(_event("content_block_stop", index=at))
    delta = {"stop_reason": FINISHES[said.finish], "stop_sequence": None}
    found.append(_event("message_delta", delta=delta, usage={"output_tokens": OUTPUT_TOKENS}))
    found.append(_event("message_stop"))
    return found


def _pieces(block: dict[str, Any], said: Said) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in said.thought]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if block["type"] == "text":
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in said.texts]
    pieces = ("", *halves(dumped(block["input"])))
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def _event(kind: str, **values: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), dump({"type": kind, **values}))


def counted(exchange: Exchange) -> bytes:
    """Return the answer to a request that only counts."""
    return dump({"input_tokens": len(exchange.body) // 4})


# --- Errors -------------------------------------------------------------------------------------------------------
def error(status: int, refused: Refused) -> bytes:
    """Return an error's body."""
    detail = {"type": KINDS.get(status, "api_error"), "message": str(refused)}
    return dump({"type": "error", "error": detail, "request_id": "req_scripted"})


def failure(message: str, number: int) -> list[bytes]:
    """Return how a stream ends that broke."""
    return [_event("error", error={"type": "overloaded_error", "message": message})]
