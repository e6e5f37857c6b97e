"""OpenAI's legacy completions: a front over any conversation, and nobody's upstream. Pure.

https://platform.openai.com/docs/api-reference/completions. A prompt is the one message of a user, and what is answered
is its text. One prompt at a time: a list of several, tokens, `echo`, `best_of` and `suffix` have no counterpart in a
conversation, and those that would change the answer are refused.

Invariant: everything that a caller reads here comes from the canonical answer; thoughts and calls of tools, which a
completion has no place for, are left out.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.wire import fields as wire
from gateway.wire.canonical import Choice, Finish, Logprob, Message, Request, Response, Text
from gateway.wire.codec import Front, Reply
from gateway.wire.events import Event, Finished, Likely, PartDelta, PartStarted, Used
from gateway.wire.fields import Asked, Fields, InvalidRequest, encode
from gateway.wire.usage import Tokens

FINISHES: dict[Finish, str] = {"length": "length", "content_filter": "content_filter", "refusal": "content_filter"}
# Fields that would change the answer in a way that no conversation can: their name and what is the same as nothing.
REFUSED: dict[str, tuple[Any, ...]] = {"echo": (None, False), "best_of": (None, 1), "suffix": (None, "")}
LOGPROBS_MAX = 5
# What the endpoint answers at most where nothing is said, as documented.
TOKENS_DEFAULT = 16
DONE = b"data: [DONE]\n\n"


# --- Request ------------------------------------------------------------------------------------------------------
def read(body: bytes, _model: str | None, _stream: bool | None) -> Asked:
    """Return what the gateway needs to know of the request; raise InvalidRequest."""
    fields = wire.read(body)
    model = wire.model(fields)
    try:
        options = wire.value(fields, "stream_options") or {}
        usage = wire.value(fields, "usage")
        wants_cost = isinstance(usage, dict) and usage.get("include") is True
        return Asked(
            model=model,
            stream=wire.flag(fields, "stream"),
            wants_usage=wants_cost or (isinstance(options, dict) and options.get("include_usage") is True),
            fields=fields,
            max_tokens=wire.whole(wire.value(fields, "max_tokens"), "max_tokens") or TOKENS_DEFAULT,
            choices=wire.whole(wire.value(fields, "n"), "n", wire.CHOICES_MAX) or 1,
            wants_cost=wants_cost,
            labels=wire.labels(fields),
        )
    except InvalidRequest as error:
        error.model = model if error.code == "invalid_parameter" else None
        raise


def parse_request(asked: Asked) -> Request:
    """Return the request as a conversation; raise InvalidRequest."""
    fields = asked.fields
    for name, allowed in REFUSED.items():
        if wire.value(fields, name) not in allowed:
            raise InvalidRequest("unsupported_parameter", f"{name} has no counterpart in a conversation.", name)
    logprobs = wire.whole(wire.value(fields, "logprobs") or None, "logprobs", LOGPROBS_MAX)
    return Request(
        dialect="openai_completions",
        model=asked.model,
        messages=(Message("user", (Text(_prompt(fields)),)),),
        max_tokens=asked.max_tokens,
        choices=asked.choices,
        logprobs=logprobs is not None,
        top_logprobs=logprobs,
        stop=_stop(fields),
        seed=_seed(fields),
        logit_bias=_bias(fields),
        stream=asked.stream,
        wants_usage=asked.wants_usage,
        temperature=_number(fields, "temperature"),
        top_p=_number(fields, "top_p"),
        frequency_penalty=_number(fields, "frequency_penalty"),
        presence_penalty=_number(fields, "presence_penalty"),
    )


def _prompt(fields: Fields) -> str:
    prompt = wire.value(fields, "prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise InvalidRequest("invalid_parameter", "prompt is not a text, or a list of one text.", "prompt")
    return prompt


def _number(fields: Fields, name: str) -> float | None:
    value = wire.value(fields, name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise InvalidRequest("invalid_parameter", f"{name} is not a number.", name)


def _seed(fields: Fields) -> int | None:
    value = wire.value(fields, "seed")
    if value is None or type(value) is int:
        return value
    raise InvalidRequest("invalid_parameter", "seed is not a whole number.", "seed")


def _stop(fields: Fields) -> tuple[str, ...]:
    value = wire.value(fields, "stop")
    found = [value] if isinstance(value, str) else value or []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InvalidRequest("invalid_parameter", "stop is neither a text nor a list of texts.", "stop")
    return tuple(found)


def _bias(fields: Fields) -> dict[str, float] | None:
    value = wire.value(fields, "logit_bias")
    if value is None:
        return None
    try:
        return msgspec.convert(value, dict[str, float])
    except msgspec.ValidationError:
        raise InvalidRequest("invalid_parameter", "logit_bias is no object of numbers.", "logit_bias") from None


# --- Answer -------------------------------------------------------------------------------------------------------
def render_response(response: Response, reply: Reply, cost: bytes | None) -> bytes:
    """Return the answer's body."""
    choices = [_choice(number, choice) for number, choice in enumerate(response.choices)]
    usage = {} if response.usage is None else {"usage": _usage(response.usage, cost)}
    return encode(_head(reply) | {"choices": choices} | usage)


def _head(reply: Reply) -> dict[str, Any]:
    return {
        "id": f"cmpl-{reply.request_id}",
        "object": "text_completion",
        "created": reply.created,
        "model": reply.model,
    }


def _choice(number: int, choice: Choice) -> dict[str, Any]:
    text = "".join(part.text for part in choice.parts if isinstance(part, Text))
    return _piece(number, text, choice.logprobs, FINISHES.get(choice.finish, "stop"))


def _piece(number: int, text: str, logprobs: Sequence[Logprob], finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": number, "logprobs": _logprobs(logprobs), "finish_reason": finish}


def _logprobs(logprobs: Sequence[Logprob]) -> dict[str, Any] | None:
    if not logprobs:
        return None
    return {
        "tokens": [each.token for each in logprobs],
        "token_logprobs": [each.logprob for each in logprobs],
        "top_logprobs": [{top.token: top.logprob for top in each.top} for each in logprobs],
        "text_offset": [],
    }


def _usage(tokens: Tokens, cost: bytes | None) -> dict[str, Any]:
    cached = tokens.cache_read
    prompt = tokens.input + cached + tokens.cache_write_5m + tokens.cache_write_1h
    prompt += tokens.audio_input + tokens.image_input
    made = tokens.output + tokens.reasoning + tokens.audio_output
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    }
    return usage if cost is None else usage | {"cost": msgspec.Raw(cost)}


class Encoder:
    """A stream of completions."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.head = _head(reply)
        self.usage: Tokens | None = None
        # The parts that are text, by choice and index.
        self.texts: set[tuple[int, int]] = set()

    def encode(self, events: Sequence[Event]) -> bytes:
        """Return the chunks of these events."""
        return b"".join(self._event(event) for event in events)

    def _event(self, event: Event) -> bytes:
        match event:
            case PartStarted(index=index, part=Text(text=text), choice=choice):
                self.texts.add((choice, index))
                return self._chunk(_piece(choice, text, (), None)) if text else b""
            case PartDelta(index=index, text=text, choice=choice) if (choice, index) in self.texts:
                return self._chunk(_piece(choice, text, (), None))
            case Likely(logprobs=logprobs, choice=choice):
                return self._chunk(_piece(choice, "", logprobs, None))
            case Finished(finish=finish, choice=choice):
                return self._chunk(_piece(choice, "", (), FINISHES.get(finish, "stop")))
            case Used(tokens=tokens):
                self.usage = tokens
        return b""

    def _chunk(self, piece: dict[str, Any]) -> bytes:
        return b"data: " + encode(self.head | {"choices": [piece]}) + b"\n\n"

    def finish(self, cost: bytes) -> bytes:
        """Return the usage, where it is wanted, and the end."""
        if not self.reply.wants_usage or self.usage is None:
            return DONE
        usage = _usage(self.usage, cost if self.reply.wants_cost else None)
        return b"data: " + encode(self.head | {"choices": [], "usage": usage}) + b"\n\n" + DONE

    def fail(self, error: bytes, *, cut: bool) -> bytes:
        """Return the error's event, after the news that the answer is cut where it is."""
        ending = self._chunk(_piece(0, "", (), "length")) if cut else b""
        return ending + b"data: " + error + b"\n\n"


FRONT = Front(
    name="openai_completions",
    envelope="openai",
    read=read,
    parse_request=parse_request,
    render_response=render_response,
    stream_encoder=Encoder,
)
