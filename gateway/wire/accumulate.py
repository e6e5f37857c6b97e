"""A stream's events as one answer, and an answer as the events that would have made it. Pure.

Invariant: `fold(unfold(response)) == response`; and what a dialect's decoder makes of a stream, folded, equals what its
`parse_response` makes of the same answer in one piece.
"""

from collections.abc import Iterable, Iterator

import msgspec

from gateway.wire.canonical import Audio, Choice, Inline, Logprob, Part, Refusal, Response, Text, Thinking, ToolCall
from gateway.wire.events import (
    Ended,
    Event,
    Finished,
    Likely,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    Used,
)
from gateway.wire.usage import Tokens

replace = msgspec.structs.replace


class Draft:
    """A choice that is still being written."""

    __slots__ = ("finished", "logprobs", "parts", "texts")

    def __init__(self) -> None:
        self.parts: dict[int, Part] = {}
        self.texts: dict[int, list[str]] = {}
        self.logprobs: list[Logprob] = []
        self.finished = Finished("stop")

    def whole(self) -> Choice:
        """Return the choice."""
        parts = tuple(_filled(self.parts[index], "".join(self.texts[index])) for index in sorted(self.parts))
        return Choice(parts, self.finished.finish, self.finished.stop_sequence, tuple(self.logprobs))


def fold(events: Iterable[Event]) -> Response:
    """Return the answer that a stream's events make; one that was broken off is as long as it came."""
    started = Started("", "")
    usage: Tokens | None = None
    drafts: dict[int, Draft] = {}
    for event in events:
        if isinstance(event, Started):
            started = event
        elif isinstance(event, Used):
            usage = event.tokens
        elif isinstance(event, PartStarted | PartDelta | PartSigned | PartCited | PartEnded | Likely | Finished):
            _take(drafts.setdefault(event.choice, Draft()), event)
    choices = tuple(drafts[number].whole() for number in sorted(drafts))
    return Response(started.id, started.model, choices, usage, started.created)


def _take(
    draft: Draft, event: PartStarted | PartDelta | PartSigned | PartCited | PartEnded | Likely | Finished
) -> None:
    match event:
        case PartStarted(index=index, part=part):
            draft.parts[index], draft.texts[index] = part, []
        case PartDelta(index=index, text=text):
            draft.texts[index].append(text)
        case PartSigned(index=index, signature=signature, origin=origin):
            part = draft.parts[index]
            if isinstance(part, Thinking | ToolCall):
                draft.parts[index] = replace(part, signature=signature, origin=origin)
        case PartCited(index=index, citation=citation):
            part = draft.parts[index]
            if isinstance(part, Text):
                draft.parts[index] = replace(part, citations=(*part.citations, citation))
        case Likely(logprobs=logprobs):
            draft.logprobs += logprobs
        case Finished():
            draft.finished = event


def _filled(part: Part, text: str) -> Part:
    match part:
        case Text() | Thinking() | Refusal():
            return replace(part, text=part.text + text) if text else part
        case ToolCall():
            return replace(part, arguments=part.arguments + text) if text else part
        case Audio(source=Inline() as source):
            return replace(part, source=replace(source, data=source.data + text)) if text else part
        case _:
            return part


def unfold(response: Response) -> Iterator[Event]:
    """Yield the events of a whole answer."""
    yield Started(response.id, response.model, response.created)
    for number, choice in enumerate(response.choices):
        for index, part in enumerate(choice.parts):
            yield from _part(index, part, number)
        if choice.logprobs:
            yield Likely(choice.logprobs, number)
        yield Finished(choice.finish, choice.stop_sequence, number)
    if response.usage is not None:
        yield Used(response.usage)
    yield Ended()


def _part(index: int, part: Part, choice: int) -> Iterator[Event]:
    text, signature, origin = "", "", ""
    begun = part
    if isinstance(part, Text):
        text, begun = part.text, replace(part, text="", citations=())
    elif isinstance(part, Thinking):
        text, signature, origin = part.text, part.signature, part.origin
        begun = replace(part, text="", signature="")
    elif isinstance(part, ToolCall):
        text, signature, origin = part.arguments, part.signature, part.origin
        begun = replace(part, arguments="", signature="")
    elif isinstance(part, Refusal):
        text, begun = part.text, Refusal("")
    elif isinstance(part, Audio) and isinstance(part.source, Inline):
        text, begun = part.source.data, replace(part, source=Inline(part.source.media_type, ""))
    yield PartStarted(index, begun, choice)
    if text:
        yield PartDelta(index, text, choice)
    if signature:
        yield PartSigned(index, signature, origin, choice)
    if isinstance(part, Text):
        for citation in part.citations:
            yield PartCited(index, citation, choice)
    yield PartEnded(index, choice)
