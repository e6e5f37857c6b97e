"""OpenAI's chat completions and embeddings, same dialect in and out. Pure.

https://platform.openai.com/docs/api-reference/chat. Requests are read one level deep: what is not needed stays the
bytes that the caller sent. Usage is latest-wins: the last chunk that carries it has the whole request's.
"""

import re
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.wire import openai_usage, sse, top_level
from gateway.wire.usage import TOKENS_MAX

Fields = dict[str, msgspec.Raw]

decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.encode

DONE = b"data: [DONE]\n\n"
# The one bound of a model name; the catalog, which is below the gateway, keeps ids of the same length.
MODEL_CHARS_MAX = 256
# Of a request's JSON. Tools' schemas nest tens deep; Python's guard up to 3.13 is some 900.
DEPTH_MAX = 500
TOO_DEEP = f"The body's JSON is nested too deeply: more than {DEPTH_MAX} levels."
CHOICES_MAX = 128
LABELS_MAX, LABEL_NAME_CHARS, LABEL_CHARS = 16, 64, 512


parse_usage = openai_usage.parse


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
    # What the caller limits each answer to, and how many answers it asks for.
    max_tokens: int | None = None
    choices: int = 1
    wants_cost: bool = False
    labels: dict[str, str] | None = None


def parse_request(body: bytes) -> Request:
    """Return the request, or raise InvalidRequest."""
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
    model = _model(fields)
    try:
        wants_cost = _wants_cost(fields)
        return Request(
            model=model,
            stream=_stream(fields),
            wants_usage=_wants_usage(fields) or wants_cost,
            fields=fields,
            max_tokens=_max_tokens(fields),
            choices=_whole(fields, "n", CHOICES_MAX) or 1,
            wants_cost=wants_cost,
            labels=_labels(fields),
        )
    except InvalidRequest as error:
        error.model = model if error.code == "invalid_parameter" else None
        raise


def _model(fields: Fields) -> str:
    model = _value(fields, "model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("invalid_parameter", "model is missing: name one of GET /v1/models.", "model")
    if len(model) > MODEL_CHARS_MAX:
        raise InvalidRequest("invalid_parameter", f"model is longer than {MODEL_CHARS_MAX} characters.", "model")
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


def _max_tokens(fields: Fields) -> int | None:
    """Return the larger of the two names' limits: what an upstream may go by."""
    found = [_whole(fields, name, TOKENS_MAX) for name in ("max_completion_tokens", "max_tokens")]
    return max((each for each in found if each is not None), default=None)


def _whole(fields: Fields, name: str, most: int) -> int | None:
    """Return a number that is multiplied by a price: whole, at least one, and bounded."""
    value = _value(fields, name)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidRequest("invalid_parameter", f"{name} is not a whole number from 1 to {most}.", name)
    return value


def _wants_cost(fields: Fields) -> bool:
    """Tell whether the caller asks for the cost in the usage, as `usage: {"include": true}`; no upstream gets that."""
    usage = _value(fields, "usage")
    if isinstance(usage, dict):
        del fields["usage"]
        return usage.get("include") is True
    return False


def _labels(fields: Fields) -> dict[str, str] | None:
    """Return the request's `metadata` where it is what labels are: short texts. The upstream gets it all the same."""
    metadata = _value(fields, "metadata")
    if not isinstance(metadata, dict):
        return None
    texts = [(name, value) for name, value in metadata.items() if isinstance(value, str)]
    return {name[:LABEL_NAME_CHARS]: value[:LABEL_CHARS] for name, value in texts[:LABELS_MAX]} or None


def _value(fields: Fields, name: str) -> Any:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        raise InvalidRequest("invalid_json", f"{name} is not valid JSON.", name) from None


def texts(fields: Fields) -> Iterator[bytes]:
    """Yield what goes to the model as it stands, and holds no attachments: everything but the messages and inputs."""
    return (bytes(raw) for name, raw in fields.items() if name not in ("messages", "input"))


def render_request(request: Request, upstream_id: str, cap: tuple[str, int] | None = None) -> bytes:
    """Return the body for the upstream: its own model id, and usage always asked for in a stream.

    CAP is a limit of ours on the answer's tokens, under the parameter that this upstream knows.
    """
    fields = request.fields | {"model": msgspec.Raw(encode(upstream_id))}
    if cap is not None:
        fields[cap[0]] = msgspec.Raw(encode(cap[1]))
    if request.stream and (not request.wants_usage or request.wants_cost):
        options = _value(fields, "stream_options") or {}
        fields["stream_options"] = msgspec.Raw(encode(options | {"include_usage": True}))
    return encode(fields)


class Answer(msgspec.Struct):
    """The parts of a JSON answer that the gateway reads."""

    usage: msgspec.Raw = msgspec.Raw(b"")
    service_tier: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


decode_answer = msgspec.json.Decoder(Answer).decode
NULLS = (b"", b"null")


def present(raw: msgspec.Raw) -> bool:
    """Tell whether a field was there and not null."""
    return bytes(raw) not in NULLS


def with_cost(data: bytes, cost: bytes) -> bytes:
    """Return a JSON answer or chunk with COST, a JSON number of dollars, in its usage."""
    try:
        fields = decode_fields(data)
        # One level deep: a number that Python cannot hold is no reason to fail what has been charged.
        usage = decode_fields(fields.get("usage", b""))
    except ValueError:
        return data
    return encode(fields | {"usage": msgspec.Raw(encode(usage | {"cost": msgspec.Raw(cost)}))})


def cut_short(request_id: str, model: str, created: int) -> bytes:
    """Return the event that tells a stream's readers that it ends here for its length."""
    chunk = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}],
    }
    return b"data: " + encode(chunk) + b"\n\n"


def rename(data: bytes, model: bytes) -> bytes:
    """Return a JSON answer with `model` (a JSON string) as its model; every other byte stays."""
    return top_level.replace_string(data, b'"model"', model)


class Chunk(msgspec.Struct):
    """The parts of a stream's chunk that the gateway reads."""

    usage: msgspec.Raw = msgspec.Raw(b"")
    service_tier: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    choices: list[msgspec.Raw] | None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
NO_CHUNK = Chunk()


# An empty reason is what some upstreams send while there is none yet.
FINISH = re.compile(rb'"finish_reason" ?: ?"[^"]')
# A stream that ended badly after this many chunks has certainly produced something; of fewer each is looked at.
CHUNKS_LOOKED_AT = 4
BYTES_PER_TOKEN = 4
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

    def __init__(self, model: str, *, wants_usage: bool, wants_cost: bool = False) -> None:
        self.asked = encode(model)
        self.wants_usage = wants_usage
        self.wants_cost = wants_cost
        # The event with the usage, kept back until the cost is known.
        self.pending = b""
        self.bytes_count = 0
        self.measure: Measure | None = None
        self.early: list[bytes] = []
        self.beginning = self.renamed_beginning = b""
        self.usage: bytes | None = None
        # As JSON, of the event that carried the usage; for `parse_usage`.
        self.service_tier = b""
        self.failure: bytes | None = None
        self.done = False
        self.ended = False
        self.chunks_count = 0
        # How many chunks there were when the last usage came.
        self.usage_chunks = 0
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
        self.bytes_count += len(block)
        if self.chunks_count < CHUNKS_LOOKED_AT:
            self.early.append(block)
        if self.wants_cost:
            return b"".join(map(self._event, sse.split(block)))
        return self._relay(block)

    def delivered_tokens(self) -> int:
        """Return about how many tokens of output came through: chunks, or what is in them beside their envelopes."""
        if self.measure is None or self.chunks_count < CHUNKS_LOOKED_AT:
            self.measure = measured(self.early)
        seen = self.measure
        later_bytes = self.bytes_count - seen.bytes - (self.chunks_count - seen.chunks) * seen.envelope_bytes
        return max(self.chunks_count, (seen.output_bytes + later_bytes) // BYTES_PER_TOKEN)

    def final_usage(self) -> bytes | None:
        """Return the last usage (JSON), or None where there is none, or where so much came after it that it is old."""
        return None if self.chunks_count - self.usage_chunks >= CHUNKS_LOOKED_AT else self.usage

    def closing(self, cost: bytes) -> bytes:
        """Return the event that was kept back, with the cost (a JSON number of dollars) in its usage."""
        data = sse.data_of(self.pending)
        return b"data: " + with_cost(data, cost) + b"\n\n" if data else b""

    def produced(self) -> bool:
        """Tell whether any output came through; a chunk that only says who speaks is none."""
        if self.chunks_count >= CHUNKS_LOOKED_AT:
            return True
        return any(_output_bytes(sse.data_of(event)) for event in sse.split(b"".join(self.early)))

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
        before, self.pending = self.pending, b""
        out = self._one(event)
        if self.done or self.failure is not None:
            self.pending = before
            return out
        # What was kept back was not the last usage after all.
        return before + out

    def _one(self, event: bytes) -> bytes:
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
                self.usage, self.usage_chunks = bytes(chunk.usage), self.chunks_count + 1
                self.service_tier = bytes(chunk.service_tier) or self.service_tier
                if not chunk.choices and not self.wants_usage:
                    return b""
                if self.wants_cost:
                    self.chunks_count += 1
                    self.pending = self._rename(event)
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


class Delta(msgspec.Struct):
    """One choice of a chunk."""

    delta: dict[str, msgspec.Raw] | None = None


decode_deltas = msgspec.json.Decoder(list[Delta]).decode
EMPTY = (b"", b"null", b'""', b"[]", b"{}")


def _output_bytes(data: bytes) -> int:
    """Return how many bytes of output a chunk holds: text, reasoning, calls of tools; not who speaks."""
    try:
        choices = decode_chunk(data).choices or []
        deltas = [choice.delta or {} for raw in choices for choice in decode_deltas(b"[" + bytes(raw) + b"]")]
    except (ValueError, RecursionError):
        return 0
    found = [bytes(value) for delta in deltas for name, value in delta.items() if name != "role"]
    return sum(len(value) for value in found if value not in EMPTY)


class Measure(msgspec.Struct, frozen=True):
    """What a stream's first events show: their bytes, how many of these are output, and a chunk's other bytes."""

    bytes: int
    chunks: int
    output_bytes: int
    envelope_bytes: int


def measured(blocks: list[bytes]) -> Measure:
    """Return the measure of a stream by its first blocks of events; the leanest chunk shows the envelope."""
    whole = b"".join(blocks)
    found = [(len(event), _output_bytes(data)) for event in sse.split(whole) if (data := sse.data_of(event))]
    return Measure(
        bytes=len(whole),
        chunks=len(found),
        output_bytes=sum(output for _, output in found),
        envelope_bytes=min((size - output for size, output in found), default=0),
    )
