"""The top level of a request's JSON: read one level deep, so that what is not needed stays the caller's bytes. Pure.

Invariant: everything that a price is multiplied by is a bounded whole number before anything else sees it.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.wire import top_level
from gateway.wire.usage import TOKENS_MAX

Fields = dict[str, msgspec.Raw]

decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.encode

# The one bound of a model name; the catalog, which is below the gateway, keeps ids of the same length.
MODEL_CHARS_MAX = 256
# Of a request's JSON. Tools' schemas nest tens deep; Python's guard up to 3.13 is some 900.
DEPTH_MAX = 500
TOO_DEEP = f"The body's JSON is nested too deeply: more than {DEPTH_MAX} levels."
CHOICES_MAX = 128
LABELS_MAX, LABEL_NAME_CHARS, LABEL_CHARS = 16, 64, 512
# What decides the model, the price and what is kept. Servers written in Go read `Model` as `model`, so these go to an
# upstream in their own letters alone.
DECIDING = frozenset(
    {
        *("model", "stream", "n", "service_tier", "store", "background", "previous_response_id"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "generationConfig", "generation_config"),
    }
)
FOLDED = frozenset(name.casefold() for name in DECIDING)
# What other gateways take for where a request goes and whose account pays, and what makes a vendor charge another price
# than the catalog's. No upstream gets them from a caller: grants and prices are of the model that was asked for.
NEVER_PASSED = frozenset(
    {
        *("models", "fallbacks", "route", "provider", "plugins", "custom_llm_provider", "user_config"),
        *("api_base", "base_url", "api_key", "api_version", "speed", "inference_geo"),
    }
)
NULLS = (b"", b"null")
# Where a dialect keeps the conversation, attachments and all.
CONVERSATION = frozenset({"messages", "input", "contents"})


class InvalidRequest(ValueError):
    """A request that cannot be taken: `code` is of the table of errors, `param` the path of what is wrong.

    `model` is there when the body names one and only another parameter is wrong.
    """

    model: str | None = None

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class Asked(msgspec.Struct):
    """What the gateway needs to know of a request whatever becomes of it; `fields` hold all of it.

    `max_tokens` is what the caller limits each answer to, `choices` how many answers it asks for.
    """

    model: str
    stream: bool
    wants_usage: bool
    fields: Fields
    max_tokens: int | None = None
    choices: int = 1
    wants_cost: bool = False
    labels: dict[str, str] | None = None


def read(body: bytes) -> Fields:
    """Return a body's top-level fields; raise InvalidRequest where it is no JSON object, or too deep."""
    try:
        if not body.isascii():
            body.decode()
        fields = decode_fields(body)
    except ValueError as error:
        raise InvalidRequest("invalid_json", f"The body is not a JSON object: {error}.") from None
    except RecursionError:
        raise InvalidRequest("invalid_json", TOO_DEEP) from None
    # From 3.14 on, Python's own guard is the size of the stack, which lets tens of thousands of levels through.
    if top_level.deeper_than(body, DEPTH_MAX):
        raise InvalidRequest("invalid_json", TOO_DEEP)
    for name in [name for name in fields if name not in DECIDING and name.casefold() in FOLDED]:
        del fields[name]
    for name in NEVER_PASSED & fields.keys():
        del fields[name]
    return fields


def present(raw: msgspec.Raw) -> bool:
    """Tell whether a field was there and not null."""
    return bytes(raw) not in NULLS


def value(fields: Fields, name: str) -> Any:
    """Return a field as Python's value, None where it is absent; raise InvalidRequest where it is no JSON."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        raise InvalidRequest("invalid_json", f"{name} is not valid JSON.", name) from None


def model(fields: Fields) -> str:
    """Return the name of the model that is asked for; raise InvalidRequest."""
    name = value(fields, "model")
    if not isinstance(name, str) or not name:
        raise InvalidRequest("invalid_parameter", "model is missing: name one of GET /v1/models.", "model")
    if len(name) > MODEL_CHARS_MAX:
        raise InvalidRequest("invalid_parameter", f"model is longer than {MODEL_CHARS_MAX} characters.", "model")
    return name


def flag(fields: Fields, name: str) -> bool:
    """Return a field that is true or false, false where it is absent or null; raise InvalidRequest."""
    found = value(fields, name)
    if found is None or isinstance(found, bool):
        return bool(found)
    raise InvalidRequest("invalid_parameter", f"{name} is neither true nor false.", name)


def whole(found: Any, name: str, most: int = TOKENS_MAX) -> int | None:
    """Return a number that is multiplied by a price: whole, at least one, and bounded; None where it is absent."""
    if found is None:
        return None
    if type(found) is not int or not 1 <= found <= most:
        raise InvalidRequest("invalid_parameter", f"{name} is not a whole number from 1 to {most}.", name)
    return found


def labels(fields: Fields) -> dict[str, str] | None:
    """Return the request's `metadata` where it is what labels are: short texts. The upstream gets it all the same."""
    metadata = value(fields, "metadata")
    if not isinstance(metadata, dict):
        return None
    texts = [(name, text) for name, text in metadata.items() if isinstance(text, str)]
    return {name[:LABEL_NAME_CHARS]: text[:LABEL_CHARS] for name, text in texts[:LABELS_MAX]} or None


def texts(fields: Fields) -> Iterator[bytes]:
    """Yield what goes to the model as it stands, and holds no attachments: everything but the conversation."""
    return (bytes(raw) for name, raw in fields.items() if name not in CONVERSATION)
