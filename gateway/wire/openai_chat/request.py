"""Requests of OpenAI's chat completions and embeddings that pass through. Pure.

They are read one level deep: what is not needed stays the bytes that the caller sent.
"""

from collections.abc import Iterator

import msgspec

from gateway.wire.codec import Rendered
from gateway.wire.fields import (
    CHOICES_MAX,
    Asked,
    Fields,
    InvalidRequest,
    encode,
    flag,
    labels,
    model,
    read,
    value,
    whole,
)
from gateway.wire.openai_chat.tables import PATH

LIMITS = ("max_completion_tokens", "max_tokens")


def read_request(body: bytes, path_model: str | None = None, path_stream: bool | None = None) -> Asked:
    """Return what is asked for, or raise InvalidRequest; what a path says goes before what the body says."""
    fields = read(body)
    name = model(fields) if path_model is None else path_model
    try:
        wants_cost = _wants_cost(fields)
        return Asked(
            model=name,
            stream=flag(fields, "stream") if path_stream is None else path_stream,
            wants_usage=_wants_usage(fields) or wants_cost,
            fields=fields,
            max_tokens=_max_tokens(fields),
            choices=whole(value(fields, "n"), "n", CHOICES_MAX) or 1,
            wants_cost=wants_cost,
            labels=labels(fields),
        )
    except InvalidRequest as error:
        error.model = name if error.code == "invalid_parameter" else None
        raise


def _wants_usage(fields: Fields) -> bool:
    options = value(fields, "stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise InvalidRequest("invalid_parameter", "stream_options is not an object.", "stream_options")
    return options.get("include_usage") is True


def _max_tokens(fields: Fields) -> int | None:
    """Return the larger of the two names' limits: what an upstream may go by."""
    found = [whole(value(fields, name), name) for name in LIMITS]
    return max((each for each in found if each is not None), default=None)


def _wants_cost(fields: Fields) -> bool:
    """Tell whether the caller asks for the cost in the usage, as `usage: {"include": true}`; no upstream gets that."""
    usage = value(fields, "usage")
    if isinstance(usage, dict):
        del fields["usage"]
        return usage.get("include") is True
    return False


def texts(fields: Fields) -> Iterator[bytes]:
    """Yield what goes to the model as it stands, and holds no attachments: everything but the messages and inputs."""
    return (bytes(raw) for name, raw in fields.items() if name not in ("messages", "input"))


def body_of(asked: Asked, upstream_id: str, cap: tuple[str, int] | None = None) -> bytes:
    """Return the body for the upstream: its own model id, and usage always asked for in a stream.

    CAP is a limit of ours on the answer's tokens, under the parameter that this upstream knows.
    """
    fields = asked.fields | {"model": msgspec.Raw(encode(upstream_id))}
    if cap is not None:
        fields[cap[0]] = msgspec.Raw(encode(cap[1]))
    if asked.stream and (not asked.wants_usage or asked.wants_cost):
        options = value(fields, "stream_options") or {}
        fields["stream_options"] = msgspec.Raw(encode(options | {"include_usage": True}))
    return encode(fields)


def passed(asked: Asked, upstream_id: str, cap: tuple[str, int] | None) -> Rendered:
    """Return the caller's own request for an upstream of the same dialect."""
    return Rendered(PATH, body_of(asked, upstream_id, cap))
