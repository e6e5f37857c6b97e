"""What every dialect can do: eight translations, and what a request and an answer need that only pass through. Pure.

Facing the client: `parse_request`, `render_response`, `stream_encoder`, `render_error`. Facing the upstream:
`render_request`, `parse_response`, `stream_decoder`, `parse_error`. N dialects are N packages: none imports another.

Where the caller and the upstream speak one dialect nothing is translated: `read` looks at the top level only, `passed`
gives the upstream the caller's own fields, and `relay` hands the stream on as it comes.

Invariants of every dialect:

* Bytes in, values out; no clock, no randomness: ids and times are handed in.
* Hostile input raises nothing but InvalidRequest (a request's), Unsupported (what cannot be rendered) and Unreadable
  (an upstream's answer), takes time in proportion to its length, and is kept no longer than a decoder needs it.
* A field nobody knows is never an error. Of what a dialect cannot carry, tuning is left out and named in `dropped`,
  content raises Unsupported.
* What is made for a caller carries `Reply.model`, never the upstream's name for the model.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from gateway.wire.canonical import AnyTool, Json, Request, Response
from gateway.wire.events import Event
from gateway.wire.fields import Asked
from gateway.wire.usage import Tokens

Cap = int


class Unsupported(Exception):
    """A request holds what this dialect cannot carry; `code` is of the table of errors, `param` where it stands."""

    def __init__(self, message: str, param: str, code: str = "unsupported_content") -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class Unreadable(Exception):
    """An upstream's answer is none; the message says what is wrong with it, and holds none of it."""


# Fields that stand for a part of the conversation which the vendor of their dialect keeps.
KEPT_ELSEWHERE = {
    "openai_responses": ("conversation", "prompt"),
    "gemini_generate_content": ("cachedContent",),
}


def left_out(request: Request) -> set[str]:
    """Return the names of another dialect's own fields; raise Unsupported where one of them stands for content."""
    for name in KEPT_ELSEWHERE.get(request.dialect, ()):
        if name in request.extensions:
            raise Unsupported(f"{name} is kept by another vendor than this model's: send what it holds.", name)
    return set(request.extensions)


class Rendered(msgspec.Struct, frozen=True):
    """A request for an upstream.

    `dropped` names what it does not carry: fields of the canonical form (`top_k`, `thinking.signature`,
    `tools.web_search`) and the caller's extensions, each once, in the order of their names.
    """

    path: str
    body: bytes
    dropped: tuple[str, ...] = ()
    query: str = ""


class Reply(msgspec.Struct, frozen=True):
    """What an answer to a caller is made with, beside the answer.

    `request_id` is the gateway's own and the base of the ids that it has to make; `created` is in seconds since 1970;
    `array` asks for Gemini's stream as a JSON array instead of server-sent events. `tools` were offered, `fields` the
    request's top level as the caller sent it, for dialects that repeat it in the answer.
    """

    request_id: str
    model: str
    created: int
    wants_usage: bool = True
    wants_cost: bool = False
    array: bool = False
    tools: tuple[AnyTool, ...] = ()
    fields: Json = {}


class Said(msgspec.Struct, frozen=True):
    """What an upstream says of a request that it refuses, as far as it says anything."""

    message: str = ""
    code: str = ""
    param: str = ""


class Encoder(Protocol):
    """One answer's events as one dialect's stream.

    What tells the caller that the answer is complete is not sent by `encode` but by `finish`, which is called when
    its charge is durable; `fail` instead of it ends a stream that broke.
    """

    def encode(self, events: Sequence[Event]) -> bytes:
        """Return what the caller gets for these events; b"" where there is nothing to send yet."""
        ...

    def finish(self, cost: bytes) -> bytes:
        """Return the stream's end; COST is a JSON number of dollars, shown where the caller asked for it."""
        ...

    def fail(self, error: bytes, *, cut: bool) -> bytes:
        """Return how a broken stream ends. ERROR is the caller's envelope (JSON); CUT: it ends for its length."""
        ...


class Decoder(Protocol):
    """An upstream's stream as events."""

    def feed(self, block: bytes) -> list[Event]:
        """Return the events of a block of whole server-sent events."""
        ...

    def finish(self) -> list[Event]:
        """Return what is left once the connection has ended: `Ended`, if the answer was complete without saying so."""
        ...


class Relay(Protocol):
    """A stream on its way from an upstream to a caller, and what has to be known of it.

    It never hands out what tells the caller that the answer is complete: that comes from `closing`, when the charge is
    durable. Nothing is relayed after the end or an error; an error event of the upstream becomes `failure`.
    """

    failure: bytes | None
    ended: bool

    @property
    def complete(self) -> bool:
        """Whether the answer came to its proper end."""
        ...

    def feed(self, block: bytes) -> bytes:
        """Return what the caller gets for a block of whole events."""
        ...

    def end(self) -> bytes:
        """Return what the caller gets once the upstream's connection has ended."""
        ...

    def delivered_tokens(self) -> int:
        """Return about how many tokens of output came through."""
        ...

    def produced(self) -> bool:
        """Tell whether any output came through; that somebody begins to speak is none."""
        ...

    def final_usage(self) -> Tokens | None:
        """Return the whole answer's usage, None where none that can be true was told at its end."""
        ...

    def closing(self, cost: bytes) -> bytes:
        """Return the stream's end; COST is a JSON number of dollars, shown where the caller asked for it."""
        ...

    def broken(self, error: bytes, *, cut: bool) -> bytes:
        """Return how a broken stream ends: what was kept back, and ERROR, the caller's envelope (JSON)."""
        ...


class Answer(msgspec.Struct, frozen=True):
    """What the gateway has to know of a whole JSON answer that passes through."""

    usage: Tokens | None
    is_error: bool = False


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """What callers of one dialect need. `envelope` is how its errors look."""

    name: str
    envelope: str
    # (body, model, stream): model and stream are there where the path says them, else None.
    read: Callable[[bytes, str | None, bool | None], Asked]
    parse_request: Callable[[Asked], Request]
    # (answer, what it is made with, the cost where it is to be shown: a JSON number of dollars): the body.
    render_response: Callable[[Response, Reply, "bytes | None"], bytes]
    stream_encoder: Callable[[Reply], Encoder]
    # Whether an answer repeats what was asked: then `Reply.fields` holds it.
    repeats: bool = False


class Dialect(Front, frozen=True, kw_only=True):
    """One dialect, under the name that it has among a provider's flags."""

    # --- what passes through
    # (asked, upstream's model id, a cap on the answer's tokens under a name of the caller's dialect): the request.
    passed: Callable[[Asked, str, "tuple[str, Cap] | None"], Rendered]
    # Whether `passed` takes out what another vendor signed, and leaves all else as it is.
    unmarks: bool = False
    # A whole answer, and the same with the caller's name for the model, and with the cost if there is one to show.
    read_answer: Callable[[bytes], Answer]
    renamed: Callable[[bytes, str, "bytes | None"], bytes]
    relay: Callable[[Asked, Reply], Relay]
    # The same for an upstream whose streams lack what the vendor's own readers need; without it they are written anew.
    mended: "Callable[[Asked, Reply], Relay] | None" = None
    # --- facing the upstream: (request, upstream's model id, a cap on the answer's tokens)
    render_request: Callable[[Request, str, "Cap | None"], Rendered]
    parse_response: Callable[[bytes], Response]
    stream_decoder: Callable[[], Decoder]
    parse_error: Callable[[bytes], Said]


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """Return an upstream's JSON object; raise Unreadable. WHAT names it in the message."""
    try:
        found = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        raise Unreadable(f"sent {what} that is no JSON") from None
    if type(found) is not dict:
        raise Unreadable(f"sent {what} that is no JSON object")
    return found
