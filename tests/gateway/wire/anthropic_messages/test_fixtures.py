"""Every scenario of Anthropic's dialect, through the dialect itself: nothing is lost, and streams say the same."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.wire import sse
from gateway.wire.accumulate import fold, unfold
from gateway.wire.anthropic_messages import DIALECT
from gateway.wire.canonical import Part, Response, ToolCall
from gateway.wire.codec import Decoder, Reply, Unreadable, Unsupported
from gateway.wire.events import Event
from gateway.wire.fields import InvalidRequest

FOLDER = Path(__file__).parent / "fixtures"
SCENARIOS = sorted(path.name for path in FOLDER.iterdir())
REPLY = Reply(request_id="01XFDUDYJgAACzvnptvVoYEL", model="m", created=0)
replace = msgspec.structs.replace


def file_of(scenario: str, name: str) -> bytes:
    return (FOLDER / scenario / name).read_bytes()


def decoded(pieces: list[bytes], decoder: Decoder | None = None) -> list[Event]:
    framer, decoder = sse.Framer(1_000_000), decoder or DIALECT.stream_decoder()
    events = [event for piece in pieces for event in decoder.feed(framer.feed(piece))]
    return events + decoder.feed(framer.flush()) + decoder.finish()


def plain_arguments(response: Response) -> Response:
    """Return an answer whose calls' arguments are in one spelling: a model's own has its own blanks."""

    def spelled(part: Part) -> Part:
        if not isinstance(part, ToolCall):
            return part
        return replace(part, arguments=json.dumps(json.loads(part.arguments)))

    choices = tuple(replace(choice, parts=tuple(map(spelled, choice.parts))) for choice in response.choices)
    return replace(response, choices=choices)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_request_comes_back_as_it_was(scenario: str) -> None:
    body = file_of(scenario, "request.json")
    request = DIALECT.parse_request(DIALECT.read(body, None, None))
    rendered = DIALECT.render_request(request, request.model, None)
    assert json.loads(rendered.body) == json.loads(body)
    assert rendered.path == "/v1/messages"
    # What a citation points to inside a document is not kept.
    assert rendered.dropped == ()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_stream_says_what_the_whole_answer_says(scenario: str) -> None:
    whole = DIALECT.parse_response(file_of(scenario, "response.json"))
    assert plain_arguments(fold(decoded([file_of(scenario, "stream.sse")]))) == plain_arguments(whole)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_stream_is_the_same_however_it_was_cut(scenario: str) -> None:
    stream = file_of(scenario, "stream.sse")
    events = decoded([stream])
    assert decoded([stream[at : at + 1] for at in range(len(stream))]) == events
    for at in range(0, len(stream), 7):
        assert decoded([stream[:at], stream[at:]]) == events


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_answer_comes_back_as_it_was(scenario: str) -> None:
    body = file_of(scenario, "response.json")
    rendered: dict[str, Any] = json.loads(DIALECT.render_response(DIALECT.parse_response(body), REPLY, None))
    assert rendered == json.loads(body) | {"model": "m"}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_encoded_is_decoded_as_it_was(scenario: str, at_once: bool) -> None:
    response = DIALECT.parse_response(file_of(scenario, "response.json"))
    encoder, events = DIALECT.stream_encoder(REPLY), list(unfold(response))
    batches = [events] if at_once else [[event] for event in events]
    stream = b"".join(map(encoder.encode, batches)) + encoder.finish(b"0")
    again = fold(decoded([stream]))
    assert again == replace(response, model="m")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_answer_that_is_cut_off_anywhere_breaks_nothing(scenario: str) -> None:
    stream = file_of(scenario, "stream.sse")
    events = sse.split(stream)
    for count in range(len(events)):
        encoder = DIALECT.stream_encoder(REPLY)
        part = encoder.encode(decoded([b"".join(events[:count])])) + encoder.fail(b"{}", cut=True)
        kinds = [json.loads(sse.data_of(event)).get("type") for event in sse.split(part)]
        assert kinds.count("content_block_start") == kinds.count("content_block_stop")
        assert kinds[-2:] == ["message_delta", None]


def test_events_of_one_block_come_together() -> None:
    for scenario in SCENARIOS:
        encoder = DIALECT.stream_encoder(REPLY)
        response = DIALECT.parse_response(file_of(scenario, "response.json"))
        stream = encoder.encode(list(unfold(response))) + encoder.finish(b"0")
        found = [json.loads(sse.data_of(event)) for event in sse.split(stream)]
        indexes = [event["index"] for event in found if "index" in event]
        assert [index for index, _ in itertools.groupby(indexes)] == sorted(set(indexes))
        assert [event["type"] for event in found[:2]] == ["message_start", "ping"]
        assert [event["type"] for event in found[-2:]] == ["message_delta", "message_stop"]


ODD: list[Any] = [None, 7, -1.5, True, "", "odd", [], [7], [[]], [{}], {}, {"type": "text"}, {"type": 7}]


def with_odd_values(value: Any) -> Iterator[Any]:
    """Yield a JSON value with each value inside it replaced by each odd one."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from (value | {name: odd} for odd in with_odd_values(inner))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from ([*value[:number], odd, *value[number + 1 :]] for odd in with_odd_values(inner))
    yield from ODD


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_request_with_anything_in_it_is_carried_or_refused(scenario: str) -> None:
    refused = 0
    for odd in with_odd_values(json.loads(file_of(scenario, "request.json"))):
        try:
            asked = DIALECT.read(json.dumps(odd).encode(), None, None)
            DIALECT.passed(asked, "up", ("max_tokens", 2000))
            rendered = DIALECT.render_request(DIALECT.parse_request(asked), "claude-sonnet-4-5", 4000)
        except (InvalidRequest, Unsupported) as error:
            refused += 1
            assert error.param or error.code == "invalid_json"
        else:
            DIALECT.read(rendered.body, None, None)
    assert refused


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_answer_with_anything_in_it_is_carried_or_unreadable(scenario: str) -> None:
    for odd in with_odd_values(json.loads(file_of(scenario, "response.json"))):
        body = json.dumps(odd).encode()
        DIALECT.parse_error(body)
        try:
            DIALECT.read_answer(DIALECT.renamed(body, "m", b"1"))
            response = DIALECT.parse_response(body)
        except Unreadable:
            continue
        assert json.loads(DIALECT.render_response(response, REPLY, b"1"))["model"] == REPLY.model


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_relay_passes_whatever_comes(scenario: str) -> None:
    asked = DIALECT.read(b'{"model":"m"}', None, None)
    for event in sse.split(file_of(scenario, "stream.sse")):
        for odd in with_odd_values(json.loads(sse.data_of(event))):
            relay = DIALECT.relay(asked, REPLY)
            out = relay.feed(b"data: " + json.dumps(odd).encode() + b"\n\n")
            assert out or relay.ended
            relay.final_usage()
