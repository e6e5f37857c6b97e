"""OpenAI's chat completions and embeddings, same dialect in and out. Pure.

https://platform.openai.com/docs/api-reference/chat. Requests are read one level deep: what is not needed stays the
bytes that the caller sent. Usage is latest-wins: the last chunk that carries it has the whole request's.
"""

import re
from typing import Any

import msgspec

from gateway.wire import sse, top_level

Fields = dict[str, msgspec.Raw]

decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.encode

DONE = b"data: [DONE]\n\n"
TOKENS_MAX = 10**9


class InvalidRequest(ValueError):  # noqa: N818
    """The request's body cannot be read; `code` and `param` say how and where.

    `model` is there when the body names one and only another parameter is wrong.
    """

    model: str | None = None

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class Request(msgspec.Struct):
    """What the gateway needs to know of a request; `fields` hold all of it."""

    model: str
    stream: bool
    wants_usage: bool
    fields: Fields


class Tokens(msgspec.Struct, frozen=True):
    """Usage as disjoint parts; `sound` is False where the upstream's numbers contradict each other."""

    input: int = 0
    cache_read: int = 0
    audio_input: int = 0
    output: int = 0
    reasoning: int = 0
    audio_output: int = 0
    sound: bool = True


def parse_request(body: bytes) -> Request:
    """Return the request, or raise InvalidRequest."""
    try:
        if not body.isascii():
            body.decode()
        fields = decode_fields(body)
    except ValueError as error:
        raise InvalidRequest("invalid_json", f"The body is not a JSON object: {error}.") from None
    except RecursionError:
        raise InvalidRequest("invalid_json", "The body's JSON is nested too deeply.") from None
    model = _model(fields)
    try:
        return Request(model=model, stream=_stream(fields), wants_usage=_wants_usage(fields), fields=fields)
    except InvalidRequest as error:
        error.model = model if error.code == "invalid_parameter" else None
        raise


def _model(fields: Fields) -> str:
    model = _value(fields, "model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("invalid_parameter", "model is missing: name one of GET /v1/models.", "model")
    if len(model) > 256:
        raise InvalidRequest("invalid_parameter", "model is longer than 256 characters.", "model")
    return model


def _stream(fields: Fields) -> bool:
    stream = _value(fields, "stream")
    if stream is None or isinstance(stream, bool):
        return bool(stream)
    raise InvalidRequest("invalid_parameter", "stream is neither true nor false.", "stream")


def _wants_usage(fields: Fields) -> bool:
    options = _value(fields, "stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise InvalidRequest("invalid_parameter", "stream_options is not an object.", "stream_options")
    return options.get("include_usage") is True


def _value(fields: Fields, name: str) -> Any:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        raise InvalidRequest("invalid_json", f"{name} is not valid JSON.", name) from None


def render_request(request: Request, upstream_id: str) -> bytes:
    """Return the body for the upstream: its own model id, and usage always asked for in a stream."""
    fields = request.fields | {"model": msgspec.Raw(encode(upstream_id))}
    if request.stream and not request.wants_usage:
        options = _value(fields, "stream_options") or {}
        fields["stream_options"] = msgspec.Raw(encode(options | {"include_usage": True}))
    return encode(fields)


class Answer(msgspec.Struct):
    """The parts of a JSON answer that the gateway reads."""

    model: msgspec.Raw = msgspec.Raw(b"")
    usage: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    choices: msgspec.Raw = msgspec.Raw(b"")


decode_answer = msgspec.json.Decoder(Answer).decode
NULLS = (b"", b"null")


def present(raw: msgspec.Raw) -> bool:
    """Tell whether a field was there and not null."""
    return bytes(raw) not in NULLS


def rename(data: bytes, model: bytes) -> bytes:
    """Return a JSON answer with `model` (a JSON string) as its model; every other byte stays."""
    return top_level.replace_string(data, b'"model"', model)


def parse_usage(raw: bytes) -> Tokens | None:
    """Return the tokens of a usage object, or None where it holds none that could be true."""
    try:
        usage = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if prompt is None:
        return None
    # Embeddings have no completion; a chat that reports none has not been counted.
    completion = 0 if completion is None and "completion_tokens" not in usage else completion
    if completion is None:
        return None
    inside = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached, audio_in = (_count(inside[0], name) or 0 for name in ("cached_tokens", "audio_tokens"))
    reasoning, audio_out = (_count(inside[1], name) or 0 for name in ("reasoning_tokens", "audio_tokens"))
    sound = cached + audio_in <= prompt and reasoning + audio_out <= completion
    # Parts that contradict their whole are cut to it: nobody pays for more tokens than were reported.
    cached, reasoning = min(cached, prompt), min(reasoning, completion)
    audio_in, audio_out = min(audio_in, prompt - cached), min(audio_out, completion - reasoning)
    return Tokens(
        input=prompt - cached - audio_in,
        cache_read=cached,
        audio_input=audio_in,
        output=completion - reasoning - audio_out,
        reasoning=reasoning,
        audio_output=audio_out,
        sound=sound,
    )


def _count(holder: Any, name: str) -> int | None:
    value = holder.get(name) if isinstance(holder, dict) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= TOKENS_MAX:
        return None
    return value


class Chunk(msgspec.Struct):
    """The parts of a stream's chunk that the gateway reads."""

    usage: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    choices: list[msgspec.Raw] | None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
NO_CHUNK = Chunk()


# An empty reason is what some upstreams send while there is none yet.
FINISH = re.compile(rb'"finish_reason": ?"[^"]')


class StreamRelay:
    """One stream on its way through: whole events in, whole events out, usage read from the last ones only.

    No JSON is parsed for an ordinary event. The bytes of `"model":"…"` are learned from one and replaced in the rest;
    an event that looks otherwise is read with care. `[DONE]` is taken out: it is sent when the charge is durable.
    An error event is taken out too and becomes `failure`; what came before it is still returned, whatever block it
    came in. Nothing is relayed after either.
    """

    def __init__(self, model: str, *, wants_usage: bool) -> None:
        self.asked = encode(model)
        self.wants_usage = wants_usage
        self.learned = b""
        self.replacement = b""
        self.usage: bytes | None = None
        self.failure: bytes | None = None
        self.done = False
        self.ended = False
        self.finished = False
        self.chunks_count = 0

    @property
    def complete(self) -> bool:
        """Whether the stream came to its proper end: `[DONE]`, or a finish reason for want of it."""
        return self.done or self.finished

    def feed(self, block: bytes) -> bytes:
        """Return what the client gets for a block of whole events."""
        if self.ended or not block:
            return b""
        count = block.count(b"\n\n")
        if self._is_plain(block, count):
            return self._plain(block, count)
        return b"".join(
            self._plain(event, 1) if self._is_plain(event, 1) else self._event(event) for event in sse.split(block)
        )

    def _plain(self, block: bytes, count: int) -> bytes:
        self.chunks_count += count
        self._look_for_finish(block)
        return block.replace(self.learned, self.replacement)

    def _look_for_finish(self, data: bytes) -> None:
        if not self.finished and (b'"finish_reason":"' in data or b'"finish_reason": "' in data):
            self.finished = FINISH.search(data) is not None

    def _is_plain(self, block: bytes, count: int) -> bool:
        """Tell whether the block is COUNT ordinary chunks with the model that was learned, and nothing else."""
        return (
            not self.ended
            and bool(self.learned)
            and block.count(self.learned) == count == block.count(b'"model"')
            and b'"error"' not in block
            and block.count(b'"usage"') == block.count(b'"usage":null') + block.count(b'"usage": null')
            and b"[DONE]" not in block
        )

    def _event(self, event: bytes) -> bytes:
        if self.ended:
            return b""
        data = sse.data_of(event)
        if data.strip() == b"[DONE]":
            self.done = self.ended = True
            return b""
        if not data:
            return event
        self._look_for_finish(data)
        if b'"error"' in data or b'"usage"' in data:
            try:
                chunk = decode_chunk(data)
            except (ValueError, RecursionError):
                chunk = NO_CHUNK
            if present(chunk.error):
                self.failure = data
                self.ended = True
                return b""
            if present(chunk.usage):
                self.usage = bytes(chunk.usage)
                if not chunk.choices and not self.wants_usage:
                    return b""
        self.chunks_count += 1
        return self._rename(event)

    def _rename(self, event: bytes) -> bytes:
        start = event.find(b"{", max(0, event.find(b"data:")))
        span = top_level.string_value(event[start:], b'"model"') if start >= 0 else None
        if span is None:
            return event
        first, last = start + span[0], start + span[1]
        key = event.rindex(b'"model"', 0, first)
        self.learned = event[key:last]
        self.replacement = event[key:first] + self.asked
        return event[:first] + self.asked + event[last:]
