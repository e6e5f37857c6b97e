"""OpenAI's chat completions and embeddings, same dialect in and out. Pure.

https://platform.openai.com/docs/api-reference/chat. Requests are read one level deep: what is not needed stays the
bytes that the caller sent. Usage is latest-wins: the last chunk that carries it has the whole request's.
"""

import re
from collections import deque
from typing import Any

import msgspec

from gateway.wire import sse, top_level

Fields = dict[str, msgspec.Raw]

decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.encode

DONE = b"data: [DONE]\n\n"
TOKENS_MAX = 10**9


class InvalidRequest(ValueError):
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


def output_tokens_max(request: Request) -> int | None:
    """Return how many tokens of output all choices together may have, or None where the caller does not say."""
    for name in ("max_completion_tokens", "max_tokens"):
        bound = _value(request.fields, name)
        if isinstance(bound, int) and 0 <= bound <= TOKENS_MAX:
            choices = _value(request.fields, "n")
            return bound * (choices if isinstance(choices, int) and 1 < choices <= 128 else 1)
    return None


def render_request(request: Request, upstream_id: str) -> bytes:
    """Return the body for the upstream: its own model id, and usage always asked for in a stream."""
    fields = request.fields | {"model": msgspec.Raw(encode(upstream_id))}
    if request.stream and not request.wants_usage:
        options = _value(fields, "stream_options") or {}
        fields["stream_options"] = msgspec.Raw(encode(options | {"include_usage": True}))
    return encode(fields)


class Answer(msgspec.Struct):
    """The parts of a JSON answer that the gateway reads."""

    usage: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


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
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else None


class Chunk(msgspec.Struct):
    """The parts of a stream's chunk that the gateway reads."""

    usage: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    choices: list[msgspec.Raw] | None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
NO_CHUNK = Chunk()


# An empty reason is what some upstreams send while there is none yet.
FINISH = re.compile(rb'"finish_reason" ?: ?"[^"]')
# Where a finish reason is looked for, once the stream has ended: it comes with the last chunk or soon before it.
RECENT_BLOCKS = 8


def has_usage(block: bytes) -> bool:
    """Tell whether a block holds a usage that is not null."""
    count = block.count(b'"usage"')
    return bool(count) and count != block.count(b'"usage":null') + block.count(b'"usage": null')


class StreamRelay:
    """One stream on its way through: whole events in, whole events out, usage read from the last ones only.

    No JSON is parsed for an ordinary event. Chunks of one stream begin with the same bytes up to their model's name:
    these are learned from one and replaced in the rest, several events at a time. What looks otherwise is halved
    until the odd event stands alone, and that is read with care. `[DONE]` is taken out: it is sent when the charge is
    durable. An error event is taken out too and becomes `failure`; what came before it is still returned, whatever
    block it came in. Nothing is relayed after either.
    """

    def __init__(self, model: str, *, wants_usage: bool) -> None:
        self.asked = encode(model)
        self.wants_usage = wants_usage
        self.beginning = self.renamed_beginning = b""
        self.usage: bytes | None = None
        self.failure: bytes | None = None
        self.done = False
        self.ended = False
        self.chunks_count = 0
        self.recent: deque[bytes] = deque(maxlen=RECENT_BLOCKS)

    @property
    def complete(self) -> bool:
        """Whether the stream came to its proper end: `[DONE]`, or a finish reason for want of it."""
        return self.done or FINISH.search(b"".join(self.recent)) is not None

    def feed(self, block: bytes) -> bytes:
        """Return what the client gets for a block of whole events."""
        if self.ended or not block:
            return b""
        self.recent.append(block)
        return self._relay(block)

    def _relay(self, block: bytes) -> bytes:
        if self.beginning and not self.ended:
            # The beginning can only stand at a chunk's beginning: inside a text its quotes would be escaped. A chunk
            # is one line and an empty one, so twice as many lines as beginnings leave no room for anything else.
            tails = block.split(self.beginning)
            count = len(tails) - 1
            if count and block.count(b"\n") == 2 * count and b'"error"' not in block and not has_usage(block):
                self.chunks_count += count
                return self.renamed_beginning.join(tails)
        if b"\r" in block:
            return b"".join(map(self._event, sse.split(block)))
        # With nothing learned the first event alone, for the rest may be plain once it is read.
        cut = block.find(b"\n\n", len(block) // 2 if self.beginning else 0) + 2
        if cut in (1, len(block)):
            cut = block.rfind(b"\n\n", 0, len(block) - 2) + 2
        if cut < 2:
            return b"".join(map(self._event, sse.split(block)))
        return self._relay(block[:cut]) + self._relay(block[cut:])

    def _event(self, event: bytes) -> bytes:
        if self.ended:
            return b""
        data = sse.data_of(event)
        if data.strip() == b"[DONE]":
            self.done = self.ended = True
            return b""
        if not data:
            return event
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
        self.beginning = event[:last]
        self.renamed_beginning = event[:first] + self.asked
        return event[:first] + self.asked + event[last:]
