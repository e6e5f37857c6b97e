"""One request on its way to an upstream and back: what was asked, where it goes, and in which dialects. Pure.

Where the upstream speaks the caller's dialect, what was asked passes through. Where it does not, the request is read
whole, before anything is held, so that what cannot be carried is refused before it costs anything.
"""

import math
from collections.abc import Callable, Mapping

import msgspec

from catalog import vendors
from gateway.admission import Quote
from gateway.errors import Fault
from gateway.snapshot import Target
from gateway.wire import codec, marks, openai_chat
from gateway.wire.canonical import Request, Response
from gateway.wire.codec import Dialect, Rendered, Reply, Unsupported
from gateway.wire.fields import CONVERSATION, Asked, InvalidRequest
from gateway.wire.registry import DIALECTS
from gateway.wire.translation import Translation
from gateway.wire.usage import Tokens

DROPPED_CHARS_MAX = 1_000


class Way(msgspec.Struct, frozen=True):
    """How a request that is no conversation goes to an upstream of one dialect, and how its answer comes back.

    `passes`: in the caller's own dialect. All of it raises what a dialect raises (`wire.codec`).
    """

    # (asked, upstream's model id): the request.
    rendered: Callable[[Asked, str], Rendered]
    read: Callable[[bytes], codec.Answer]
    # (answer, asked, the estimated input tokens, the cost where it is to be shown): the body.
    written: Callable[[bytes, Asked, int, "bytes | None"], bytes]
    passes: bool = False


class Route(msgspec.Struct, frozen=True):
    """A route of the API: what its callers speak, and under which name its usage is counted.

    `ways` are there where it is not for conversations, by the upstream's dialect; its answers are no tokens then.
    `mixed` is the front of those who ask for `input` here in place of `messages`.
    """

    name: str
    front: codec.Front
    ways: Mapping[str, Way] = {}
    mixed: codec.Front | None = None


class Call(msgspec.Struct, frozen=True):
    """A request that may go out. `translated` is there where it does not pass through.

    `reply` is what its answer is made with.
    """

    route: Route
    upstream: Dialect
    asked: Asked
    translated: "Translated | None"
    # The public id of what the request's name means.
    model: str
    target: Target
    body: bytes
    session_id: str
    quote: Quote
    reply: Reply

    @property
    def request(self) -> Request | None:
        """What was asked in canonical form, where that is what is sent."""
        return None if self.translated is None else self.translated.request

    @property
    def way(self) -> Way | None:
        """How it goes where it is no conversation."""
        return self.route.ways.get(self.upstream.name)

    @property
    def passes(self) -> bool:
        """Whether the upstream gets the caller's own request, and the caller the upstream's own answer."""
        return self.request is None and (self.way is None or self.way.passes)


def meant(route: Route, asked: Asked) -> Route:
    """Return the route for what was asked: the same, or the one that has its mixed front."""
    if route.mixed is None or "messages" in asked.fields or "input" not in asked.fields:
        return route
    return Route(route.name, route.mixed)


def spoken(route: Route, target: Target) -> Dialect:
    """Return the dialect that a target is called in: the caller's own, else its first that is known here."""
    flags = target.provider.flags
    own = DIALECTS.get(route.front.name)
    if own is not None and own.name in flags:
        return own
    known = route.ways or DIALECTS
    found = next((DIALECTS[flag] for flag in flags if flag in known), None)
    if found is None:
        raise Fault(
            "unsupported_parameter",
            f"{target.provider.slug}, which serves this model, has no such endpoint; ask for another model.",
            param="model",
        )
    return found


class Translated(msgspec.Struct, frozen=True):
    """What becomes of a request that does not pass through: its canonical form, if it has one, and what is sent."""

    request: Request | None
    rendered: Rendered


def translated(
    route: Route, upstream: Dialect, asked: Asked, target: Target, body: bytes, *, longest_tokens: int | None = None
) -> Translated | None:
    """Return the request as the upstream is to get it, None where it passes through; raise Fault 400.

    What another vendor signed (`wire.marks`) is for no upstream, so it does not pass through either. A caller who
    speaks another dialect asks for answers as long as its own vendor's models give: for one longer than LONGEST_TOKENS,
    the most that this model can, vendors refuse a request.
    """
    way = route.ways.get(upstream.name)
    if way is None and upstream.name == route.front.name and (upstream.unmarks or not marks.has_marks(body)):
        return None
    try:
        if way is not None:
            return Translated(None, way.rendered(asked, target.upstream_id))
        request = route.front.parse_request(asked)
        cap = longest_tokens if (asked.max_tokens or 0) > (longest_tokens or math.inf) else None
        return Translated(request, _rendered(request, upstream, target, cap))
    except (InvalidRequest, Unsupported) as error:
        raise Fault(error.code, str(error), param=error.param) from None


def _rendered(request: Request, upstream: Dialect, target: Target, cap: int | None) -> Rendered:
    made = upstream.render_request(request, target.upstream_id, cap)
    own = upstream.name == "openai_chat"
    return openai_chat.with_limit_named(made, cap_parameter(upstream, target)) if own else made


def reply(route: Route, asked: Asked, request: Request | None, request_id: str, created: int, *, array: bool) -> Reply:
    """Return what an answer is made with; CREATED in seconds since 1970, ARRAY as in `codec.Reply`."""
    tools = () if request is None else request.tools
    repeated = {}
    if request is not None and route.front.repeats:
        repeated = {name: msgspec.json.decode(raw) for name, raw in asked.fields.items() if name not in CONVERSATION}
    return Reply(request_id, asked.model, created, asked.wants_usage, asked.wants_cost, array, tools, repeated)


def rendered(call: Call, cap: int | None) -> Rendered:
    """Return the request for the upstream, with a CAP on the answer's tokens where there is one."""
    if call.request is not None and cap is not None:
        return _rendered(call.request, call.upstream, call.target, cap)
    if call.translated is not None:
        return call.translated.rendered
    named = None if cap is None else (cap_parameter(call.upstream, call.target), cap)
    return call.upstream.passed(call.asked, call.target.upstream_id, named)


def cap_parameter(upstream: Dialect, target: Target) -> str:
    """Return the name under which an upstream knows the limit of an answer's tokens.

    OpenAI's own reasoning models refuse `max_tokens`; others of their chat know nothing else.
    """
    if upstream.name != "openai_chat":
        return CAPS[upstream.name]
    own = vendors.is_at(target.provider.base_url, ("openai.com", "azure.com"))
    return "max_completion_tokens" if own else "max_tokens"


CAPS = {
    "openai_responses": "max_output_tokens",
    "anthropic_messages": "max_tokens",
    "gemini_generate_content": "maxOutputTokens",
}


class Whole(msgspec.Struct, frozen=True):
    """A whole answer as it was read: its usage, and what it says where it is to be translated."""

    usage: Tokens | None
    response: Response | None = None


def read(call: Call, data: bytes) -> Whole:
    """Return what a whole answer says; raise `codec.Unreadable` where it is none."""
    if call.request is None:
        answer = (call.upstream.read_answer if call.way is None else call.way.read)(data)
        if answer.is_error:
            raise codec.Unreadable("reported an error inside its answer")
        return Whole(answer.usage)
    response = call.upstream.parse_response(data)
    return Whole(response.usage, response)


def written(call: Call, data: bytes, whole: Whole, cost: bytes) -> bytes:
    """Return the answer's body for the caller; COST is a JSON number of dollars, shown where it was asked for."""
    shown = cost if call.asked.wants_cost else None
    if call.way is not None:
        return call.way.written(data, call.asked, call.quote.input_tokens, shown)
    if whole.response is None:
        return call.upstream.renamed(data, call.asked.model, shown)
    return call.route.front.render_response(whole.response, call.reply, shown)


def relay(call: Call) -> codec.Relay:
    """Return what a stream passes through on its way to the caller."""
    if call.request is None and not call.target.provider.mends:
        return call.upstream.relay(call.asked, call.reply)
    if call.request is None and call.upstream.mended is not None:
        return call.upstream.mended(call.asked, call.reply)
    return Translation(call.upstream.stream_decoder(), call.route.front.stream_encoder(call.reply))


def losses(dropped: tuple[str, ...]) -> list[tuple[bytes, bytes]]:
    """Return the header that names what of a request its upstream does not get, if anything is lost."""
    if not dropped:
        return []
    named = ", ".join(dropped)[:DROPPED_CHARS_MAX]
    # The names are the caller's own: none may end the header.
    printable = named if named.isprintable() else "".join(each if each.isprintable() else "?" for each in named)
    return [(b"x-aperture-dropped", printable.encode("ascii", "replace"))]
