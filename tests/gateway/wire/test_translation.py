"""A stream between two dialects keeps its end back, counts what came through, and stops at a failure."""

from collections.abc import Sequence

import pytest

from gateway.wire.canonical import (
    Audio,
    Image,
    Inline,
    Native,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from gateway.wire.events import Ended, Event, Failed, Finished, PartDelta, PartEnded, PartStarted, Started, Used
from gateway.wire.translation import Translation
from gateway.wire.usage import Tokens


class Script:
    """A decoder that has its events ready: those of block N when `feed` gets the text N, the last for the end."""

    def __init__(self, *blocks: list[Event]) -> None:
        self.blocks = blocks

    def feed(self, block: bytes) -> list[Event]:
        return self.blocks[int(block)]

    def finish(self) -> list[Event]:
        return self.blocks[-1]


class Names:
    """An encoder that writes the events' names."""

    def encode(self, events: Sequence[Event]) -> bytes:
        return " ".join(type(event).__name__ for event in events).encode()

    def finish(self, cost: bytes) -> bytes:
        return b"end " + cost

    def fail(self, error: bytes, *, cut: bool) -> bytes:
        return b"failed " + error + (b" cut" if cut else b"")


def relayed(*blocks: list[Event]) -> Translation:
    """Return a translation that was fed all blocks but the last, and then ended."""
    translation = Translation(Script(*blocks), Names())
    for number in range(len(blocks) - 1):
        translation.feed(b"%d" % number)
    translation.end()
    return translation


TEXT: list[Event] = [Started("r", "m"), PartStarted(0, Text("")), PartDelta(0, "Hello")]
STOP: list[Event] = [PartEnded(0), Finished("stop")]


def test_events_pass_and_the_end_is_kept_back() -> None:
    translation = Translation(Script(TEXT, [*STOP, Used(Tokens(output=3)), Ended()], []), Names())
    assert translation.feed(b"0") == b"Started PartStarted PartDelta"
    assert (translation.complete, translation.final_usage()) == (False, None)
    assert translation.feed(b"") == b""
    assert translation.feed(b"1") == b"PartEnded Finished Used"
    assert (translation.complete, translation.ended) == (True, True)
    assert translation.end() == b""
    assert translation.final_usage() == Tokens(output=3)
    assert translation.closing(b"0.5") == b"end 0.5"


def test_nothing_passes_after_the_end() -> None:
    translation = Translation(Script([Ended(), *TEXT], TEXT, TEXT), Names())
    assert translation.feed(b"0") == translation.feed(b"1") == translation.end() == b""
    assert not translation.produced()


def test_a_failure_ends_the_stream_and_is_kept() -> None:
    translation = Translation(Script([*TEXT, *STOP, Failed({"message": "overloaded"}), *TEXT], TEXT, []), Names())
    assert translation.feed(b"0") == b"Started PartStarted PartDelta PartEnded Finished"
    assert translation.failure == b'{"message":"overloaded"}'
    assert not translation.complete
    assert translation.feed(b"1") == translation.end() == b""
    assert translation.broken(b"{}", cut=True) == b"failed {} cut"
    assert translation.broken(b"{}", cut=False) == b"failed {}"


def test_an_end_without_saying_so_is_complete_if_the_choice_was() -> None:
    assert relayed(TEXT, STOP, []).complete
    assert relayed(TEXT, [Ended()]).complete
    assert not relayed(TEXT, []).complete


def test_an_answer_is_not_complete_while_another_choice_is_open() -> None:
    other: list[Event] = [PartStarted(0, Text(""), 1), PartDelta(0, "Hi", 1)]
    assert not relayed(TEXT, other, STOP, []).complete
    assert relayed(TEXT, other, STOP, [PartEnded(0, 1), Finished("stop", choice=1)], []).complete


def test_the_last_usage_counts() -> None:
    used: list[Event] = [Used(Tokens(output=1)), Used(Tokens(output=2))]
    assert relayed(TEXT, used, STOP, []).final_usage() == Tokens(output=2)
    assert relayed(TEXT, used, []).final_usage() is None


def test_delivered_tokens_are_deltas_or_what_is_in_them() -> None:
    deltas: list[Event] = [PartDelta(0, "a")] * 9
    assert relayed([PartStarted(0, Text("")), *deltas], []).delivered_tokens() == 9
    assert relayed([PartStarted(0, Text("x" * 40)), PartDelta(0, "y" * 40)], []).delivered_tokens() == 20
    assert relayed([]).delivered_tokens() == 0


@pytest.mark.parametrize(
    "part",
    [
        ToolCall("call_1", "weather", ""),
        Image(Url("https://a.example/i.png")),
        Audio(Inline("audio/wav", "")),
        Native("anthropic_messages", "server_tool_use", {}),
        Text("Hello"),
        Thinking("hm"),
        Refusal("No"),
    ],
)
def test_a_part_with_something_in_it_is_output(part: Part) -> None:
    translation = relayed([PartStarted(0, part)], [])
    assert translation.produced()
    assert translation.delivered_tokens() >= int(isinstance(part, ToolCall | Image | Audio | Native | Text))


def test_a_part_that_only_begins_is_no_output() -> None:
    begun: list[Event] = [PartStarted(0, Text("")), PartStarted(1, Thinking("")), PartStarted(2, ToolResult("id", ()))]
    translation = relayed([Started("r", "m"), *begun], [])
    assert not translation.produced()
    assert translation.delivered_tokens() == 0
