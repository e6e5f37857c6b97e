"""Gemini's generateContent as its documentation has it: what is refused, whole answers, streams, counts, embeddings.

https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/thought-signatures
"""

import json
import re
from typing import Any

from tests.upstream.answers import dump
from tests.upstream.connection import Exchange
from tests.upstream.turn import Offered, Refused, Said, Turn, known, picture, signature

VENDOR = "gemini"
FIELDS = (
    "contents tools toolConfig safetySettings systemInstruction generationConfig cachedContent model labels "
    "serviceTier store"
)
CONFIG = (
    "stopSequences responseMimeType responseSchema responseJsonSchema responseModalities candidateCount "
    "maxOutputTokens temperature topP topK seed presencePenalty frequencyPenalty responseLogprobs logprobs "
    "speechConfig thinkingConfig mediaResolution imageConfig enableEnhancedCivicAnswers"
)
SCHEMA = (
    "type format title description nullable enum maxItems minItems properties required minProperties "
    "maxProperties minLength maxLength pattern example anyOf propertyOrdering default items minimum maximum"
)
UNKNOWN = 'Invalid JSON payload received. Unknown name "{}"'
STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
FINISHES = {"stop": "STOP", "calls": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}
# What Google names for calls that no Gemini model made.
SKIPS = frozenset(("skip_thought_signature_validator", "context_engineering_is_the_way_to_go"))
VECTOR = [0.5, -0.25, 0.125, 1.0]
# Whose names are the caller's.
FREE = frozenset(("args", "response", "responseJsonSchema", "parametersJsonSchema", "labels"))


# --- Requests -----------------------------------------------------------------------------------------------------
def read(exchange: Exchange) -> Turn:
    """Return what is asked; raise Refused as Gemini does."""
    body = camel(exchange.json)
    if not exchange.header("x-goog-api-key") and "key=" not in exchange.path:
        raise Refused("Method doesn't allow unregistered callers. Please use API Key.", status=403)
    known(body, FIELDS, UNKNOWN + ": Cannot find field.")
    config = body.get("generationConfig") or {}
    known(config, CONFIG, UNKNOWN + " at 'generation_config': Cannot find field.")
    function = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    names = function.get("allowedFunctionNames") or []
    mode = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}[function.get("mode", "AUTO")]
    if names and mode != "required":
        raise Refused("Allowed function names should be set only when the function calling mode is ANY.")
    thinking = config.get("thinkingConfig") or {}
    turn = Turn(
        tools=[_tool(each) for tool in body.get("tools") or [] for each in tool.get("functionDeclarations") or []],
        choice=names[0] if names else mode,
        reasons=thinking.get("includeThoughts") is True,
    )
    if config.get("responseMimeType") == "application/json":
        turn.schema = config.get("responseJsonSchema") or config.get("responseSchema") or {"type": "object"}
        if "responseSchema" in config:
            _schema(config["responseSchema"], "generation_config.response_schema")
    elif "responseSchema" in config or "responseJsonSchema" in config:
        raise Refused("A response schema is only supported with the response mime type application/json.")
    _conversation(body.get("contents"), turn, strict=exchange.model.endswith("agent-strict"))
    return turn


def camel(value: Any, *, named_freely: bool = False) -> Any:
    """Return a body with its fields' names as they are documented; Google takes `snake_case` as well."""
    if isinstance(value, list):
        return [camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for given, inner in value.items():
        name = given if named_freely else re.sub(r"_([a-z])", lambda found: found[1].upper(), given)
        made[name] = inner if name in FREE else camel(inner, named_freely=name == "properties")
    return made


def _signed_alike(found: str, made: str) -> bool:
    """Tell whether two texts are the same bytes: a client may write them in either alphabet of base64."""
    return found.translate(str.maketrans("-_", "+/")) == made


def _tool(tool: dict[str, Any]) -> Offered:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}", tool["name"]):
        raise Refused("Invalid function name. Must start with a letter or an underscore.")
    if "parameters" in tool and "parametersJsonSchema" in tool:
        raise Refused("Only one of parameters and parameters_json_schema may be set.")
    if "parameters" in tool:
        _schema(tool["parameters"], "tools[0].function_declarations[0].parameters")
    return Offered(tool["name"], tool.get("parametersJsonSchema") or tool.get("parameters") or {})


def _schema(schema: dict[str, Any], place: str) -> None:
    """Check a schema of Google's own kind, which has fewer words than JSON schema."""
    known(schema, SCHEMA, UNKNOWN + f" at '{place}': Cannot find field.")
    for inner in [*(schema.get("properties") or {}).values(), *(schema.get("anyOf") or [])]:
        _schema(inner, place + ".properties[0].value")
    if "items" in schema:
        _schema(schema["items"], place + ".items")


def _conversation(contents: Any, turn: Turn, *, strict: bool) -> None:
    if not isinstance(contents, list) or not contents:
        raise Refused("* GenerateContentRequest.contents: contents is not specified")
    calls = 0
    for role, parts in _turns(contents):
        answered = sum("functionResponse" in part for part in parts)
        if answered != calls and (answered or calls):
            raise Refused(
                "Please ensure that the number of function response parts is equal to the number of function call parts"
                " of the function call turn."
            )
        calls = sum("functionCall" in part for part in parts)
        if role == "model":
            _model_parts(parts, strict=strict)
            continue
        turn.result, turn.images = None, []
        for part in parts:
            _user_part(part, turn)
    if calls:
        raise Refused("Please ensure that function call turn comes immediately before a function response turn.")


def _turns(contents: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return roles and parts, neighbours of one role together: a client that streams sends a content for each piece."""
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for content in contents:
        role, parts = content.get("role", "user"), content.get("parts") or []
        if role not in ("user", "model", "function"):
            raise Refused("Please use a valid role: user, model.")
        if not parts:
            raise Refused("* GenerateContentRequest.contents.parts: contents.parts must not be empty.")
        if found and found[-1][0] == role:
            found[-1][1].extend(parts)
        else:
            found.append((role, list(parts)))
    return found


def _model_parts(parts: list[dict[str, Any]], *, strict: bool) -> None:
    first = True
    for part in parts:
        found = part.get("thoughtSignature")
        signed = (
            json.dumps(part["functionCall"].get("args") or {}, sort_keys=True) if "functionCall" in part else "text"
        )
        if found is not None and found not in SKIPS and not _signed_alike(found, signature(VENDOR, signed)):
            raise Refused("Thought signature is not valid.")
        if "functionCall" in part:
            if strict and first and found is None:
                raise Refused("Function call is missing a thought_signature in functionCall parts.")
            first = False


def _user_part(part: dict[str, Any], turn: Turn) -> None:
    if "text" in part:
        turn.text = part["text"]
    elif "inlineData" in part:
        turn.images.append(picture(part["inlineData"]["mimeType"], part["inlineData"]["data"]))
    elif "fileData" in part:
        turn.images.append(part["fileData"]["fileUri"])
    elif "functionResponse" in part:
        response = part["functionResponse"]["response"]
        if not isinstance(response, dict):
            raise Refused("Invalid value at 'contents[0].parts[0].function_response.response' (type Struct)")
        said = "failed: " + str(response["error"]) if "error" in response else json.dumps(response, ensure_ascii=False)
        turn.result = (turn.result or "") + str(response.get("output", response.get("result", said)))
        for inner in part["functionResponse"].get("parts") or []:
            turn.result += " " + picture(inner["inlineData"]["mimeType"], inner["inlineData"]["data"])
    else:
        raise Refused("* GenerateContentRequest.contents.parts.data: required oneof field 'data' must be initialized")


# --- Answers ------------------------------------------------------------------------------------------------------
def parts(said: Said) -> list[dict[str, Any]]:
    """Return the parts of an answer, in the pieces that a stream has."""
    found: list[dict[str, Any]] = [{"text": piece, "thought": True} for piece in said.thought]
    if said.finish != "refusal":
        found += [{"text": piece} for piece in said.texts]
    for at, (tool, arguments) in enumerate(said.calls):
        values = json.loads(arguments)
        part: dict[str, Any] = {"functionCall": {"name": tool.name, "args": values}}
        if not at:
            part["thoughtSignature"] = signature(VENDOR, json.dumps(values, sort_keys=True))
        found.append(part)
    if said.thought and not said.calls and said.finish != "refusal":
        found[-1] = {**found[-1], "thoughtSignature": signature(VENDOR, "text")}
    return found


def whole(exchange: Exchange, said: Said) -> bytes:
    """Return an answer; its texts are one part."""
    joined: list[dict[str, Any]] = []
    for part in parts(said):
        last = joined[-1] if joined else {}
        if "text" in part and "text" in last and last.get("thought") == part.get("thought"):
            joined[-1] = {**last, **part, "text": last["text"] + part["text"]}
        else:
            joined.append(part)
    return dump(_answer(exchange, joined, said, last=True))


def _answer(exchange: Exchange, parts: list[dict[str, Any]], said: Said, *, last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if not parts:
        del candidate["content"]
    usage: dict[str, Any] = {
        "promptTokenCount": 11,
        "totalTokenCount": 11,
        "cachedContentTokenCount": 3,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 11}],
    }
    if last:
        candidate["finishReason"] = FINISHES[said.finish]
        thoughts = 4 if said.thought else 0
        usage |= {"candidatesTokenCount": 7, "totalTokenCount": 18 + thoughts}
        usage |= {"thoughtsTokenCount": thoughts} if thoughts else {}
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": exchange.model,
        "responseId": "scripted",
        "xVendor": {"kept": True},
    }


def events(exchange: Exchange, said: Said) -> list[bytes]:
    """Return a stream's events, whose lines end as Google's do; or the pieces of a JSON array without `alt=sse`."""
    pieces = parts(said) or [{}]
    answers = [
        dump(_answer(exchange, [part] if part else [], said, last=at == len(pieces) - 1))
        for at, part in enumerate(pieces)
    ]
    if "alt=sse" in exchange.path:
        return [b"data: " + answer + b"\r\n\r\n" for answer in answers]
    return [(b",\r\n" if at else b"[") + answer + b"\n" for at, answer in enumerate(answers)] + [b"]"]


def counted(exchange: Exchange) -> bytes:
    """Return the answer to a request that only counts, or that wants embeddings."""
    verb = exchange.path.partition("?")[0].rpartition(":")[2]
    count = len(exchange.body) // 4
    if verb == "embedContent":
        return dump({"embedding": {"values": VECTOR}, "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}})
    if verb == "batchEmbedContents":
        return dump({"embeddings": [{"values": VECTOR} for _ in exchange.json["requests"]]})
    return dump({"totalTokens": count, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": count}]})


# --- Errors -------------------------------------------------------------------------------------------------------
def error(status: int, refused: Refused) -> bytes:
    """Return an error's body."""
    return dump({"error": {"code": status, "message": str(refused), "status": STATUSES.get(status, "UNKNOWN")}})


def failure(message: str, number: int) -> list[bytes]:
    """Return how a stream ends that broke."""
    return [b"data: " + error(503, Refused(message)) + b"\r\n\r\n"]
