"""Events are framed on bytes: nothing is lost, nothing is decoded, however the stream is cut."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import sse

# Line ends of one kind, for a CR before a strange LF means another thing than the two together.
PIECES = st.lists(
    st.sampled_from([b"data: a", b"data:b", b": note", b"event: x", b"", "\u2028\u0085\x00é".encode(), b"\xff", b"{}"])
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    end = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    return draw(st.sampled_from([b"", sse.BOM])) + b"".join(line + end for line in draw(PIECES))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[first:last] for first, last in itertools.pairwise(borders)]


def events_of(pieces: list[bytes]) -> tuple[bytes, list[bytes]]:
    framer = sse.Framer(1 << 20)
    blocks = [framer.feed(piece) for piece in pieces]
    blocks.append(framer.flush())
    events = [sse.data_of(event) for block in blocks for event in sse.split(block)]
    return b"".join(blocks), [data for data in events if data]


@given(streams(), st.lists(st.integers(0, 200), max_size=8))
def test_any_cutting_gives_the_same_bytes_and_the_same_events(stream: bytes, places: list[int]) -> None:
    whole = events_of([stream])
    assert events_of(cut(stream, places)) == whole
    assert events_of([stream[at : at + 1] for at in range(len(stream))]) == whole
    assert whole[0] == stream


@given(streams())
def test_splitting_a_block_loses_no_byte(stream: bytes) -> None:
    assert b"".join(sse.split(stream)) == stream


@given(streams())
def test_no_event_is_read_otherwise_for_being_an_ordinary_one(stream: bytes) -> None:
    for event in sse.split(stream):
        lines = event.removeprefix(sse.BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        assert sse.data_of(event) == b"\n".join(data)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_leaves_as_soon_as_its_empty_line_is_there(end: bytes) -> None:
    event = b"event: x" + end + b"data: {" + end + b"data: }" + end + end
    framer = sse.Framer(100)
    assert framer.feed(event[:-1]) == b""
    assert framer.feed(event[-1:] + b"data: ne") == event
    assert framer.flush() == b"data: ne"
    assert sse.split(event * 2) == [event, event]
    assert sse.data_of(event) == b"{\n}"


def test_an_event_that_does_not_end_is_refused_at_its_bound() -> None:
    framer = sse.Framer(10)
    assert framer.feed(b"x" * 10) == b""
    with pytest.raises(sse.EventTooLarge, match="10 bytes"):
        framer.feed(b"x")


def test_a_large_event_in_single_bytes_takes_linear_time() -> None:
    def feed_s(count: int) -> float:
        framer = sse.Framer(1 << 23)
        began_at = time.process_time()
        for _ in range(count):
            framer.feed(b"xy")
        return time.process_time() - began_at

    feed_s(1000)
    assert feed_s(200_000) < 40 * feed_s(20_000) + 0.05


def test_separators_that_are_no_line_ends_stay_inside_the_data() -> None:
    text = "a\u2028b\u0085c\x00\x0b\x0cd".encode()
    assert sse.data_of(b"data: " + text + b"\n\n") == text
    assert sse.split(b"data: " + text + b"\n\n") == [b"data: " + text + b"\n\n"]


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data\n\n", b""),
        (b": data: x\n\n", b""),
        (b"database: x\n\n", b""),
        (sse.BOM + b"data: x\n\n", b"x"),
        (b"event: y\ndata: x\n\n", b"x"),
        (b"event: y\ndata:x\n\n", b"x"),
        (b"data: x\nevent: y\n\n", b"x"),
        (b"data: x\ndata: y\n\n", b"x\ny"),
        (sse.BOM + b"data: x\ndata: y\n\n", b"x\ny"),
        (b"data: x\rdata: y\n\n", b"x\ny"),
        (b"data: x\ny", b"x"),
        (b"data: x", b"x"),
        (b"data:\n\n", b""),
    ],
)
def test_the_data_lines_are_read_as_the_standard_says(event: bytes, data: bytes) -> None:
    assert sse.data_of(event) == data
