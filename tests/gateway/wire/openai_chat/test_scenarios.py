"""Every scenario, in and out: requests, whole answers, streams, and that these say the same.

A scenario is a folder: `request.json` with what it becomes on its way through the canonical form (`rendered.json`,
where that is not the same); `response.json` with what a caller gets of it (`written.json`, likewise); `stream.sse`.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.wire import sse
from gateway.wire.accumulate import fold, unfold
from gateway.wire.canonical import Response
from gateway.wire.codec import Reply
from gateway.wire.events import Ended, Event
from gateway.wire.openai_chat import DIALECT

FIXTURES = Path(__file__).parent / "fixtures"
REPLY = Reply("7", "mine", 7)


def having(name: str) -> list[Any]:
    return [pytest.param(path.parent, id=path.parent.name) for path in sorted(FIXTURES.glob(f"*/{name}"))]


def read(folder: Path, *names: str) -> Any:
    """The first of these files that is there."""
    return json.loads(next(path for name in names if (path := folder / name).exists()).read_bytes())


def decoded(pieces: list[bytes]) -> list[Event]:
    framer, decoder = sse.Framer(1 << 20), DIALECT.stream_decoder()
    events = [event for piece in pieces for event in decoder.feed(framer.feed(piece))]
    return events + decoder.feed(framer.flush()) + decoder.finish()


def response_of(folder: Path) -> Response:
    return DIALECT.parse_response((folder / "response.json").read_bytes())


@pytest.mark.parametrize("folder", having("request.json"))
def test_a_request_comes_through_the_canonical_form_as_it_was(folder: Path) -> None:
    request = DIALECT.parse_request(DIALECT.read((folder / "request.json").read_bytes(), None, None))
    rendered = DIALECT.render_request(request, "m", None)
    assert json.loads(rendered.body) == read(folder, "rendered.json", "request.json")
    assert (rendered.path, rendered.dropped) == ("/v1/chat/completions", ())
    again = DIALECT.parse_request(DIALECT.read(rendered.body, None, None))
    assert json.loads(DIALECT.render_request(again, "m", None).body) == json.loads(rendered.body)


@pytest.mark.parametrize("folder", having("response.json"))
def test_an_answer_comes_through_the_canonical_form_as_it_was(folder: Path) -> None:
    written = json.loads(DIALECT.render_response(response_of(folder), REPLY, None))
    expected = read(folder, "written.json", "response.json")
    assert written == expected | {"model": "mine"}
    assert (
        json.loads(DIALECT.render_response(DIALECT.parse_response(json.dumps(written).encode()), REPLY, None))
        == written
    )


@pytest.mark.parametrize("folder", having("stream.sse"))
def test_a_whole_answer_is_what_its_stream_comes_to(folder: Path) -> None:
    events = decoded([(folder / "stream.sse").read_bytes()])
    assert fold(events) == response_of(folder)
    assert events[-1] == Ended()


@pytest.mark.parametrize("folder", having("stream.sse"))
def test_events_are_the_same_however_the_bytes_are_cut(folder: Path) -> None:
    stream = (folder / "stream.sse").read_bytes()
    whole = decoded([stream])
    assert decoded([stream[at : at + 1] for at in range(len(stream))]) == whole
    for cut in range(len(stream)):
        assert decoded([stream[:cut], stream[cut:]]) == whole


@pytest.mark.parametrize("folder", having("response.json"))
@pytest.mark.parametrize("at_once", [True, False])
def test_a_written_stream_says_what_the_answer_said(folder: Path, at_once: bool) -> None:
    # Its ending tells which texts are cited and what a made-up id is, so that both are compared as they are written.
    response = DIALECT.parse_response(DIALECT.render_response(response_of(folder), REPLY, None))
    events = list(unfold(response))
    encoder = DIALECT.stream_encoder(REPLY)
    pieces = [encoder.encode(events)] if at_once else [encoder.encode([event]) for event in events]
    assert fold(decoded([*pieces, encoder.finish(b"0.1")])) == response
