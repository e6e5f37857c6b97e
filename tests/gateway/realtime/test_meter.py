"""What a session's conversation may cost next, and what a broken response has cost, from its events alone."""

import base64
import json
from typing import Any

import pytest

from billing.pricing import NOTHING, Parts
from gateway.realtime import events
from gateway.realtime.meter import Meter, item_tokens
from gateway.wire.usage import Tokens

SECOND = base64.b64encode(bytes(48_000)).decode()


def event(kind: str, **fields: Any) -> events.Event:
    """Return an event as it is read from its frame."""
    found = events.read(json.dumps({"type": kind, **fields}))
    assert found is not None
    return found


def updated(**session: Any) -> events.Event:
    """Return the server's event that tells what a session is set to."""
    return event("session.updated", session=session)


def test_a_new_session_answers_voice_and_may_read_nothing_yet() -> None:
    meter = Meter(None)
    assert (meter.stands, meter.sounds, meter.input_tokens()) == (True, True, 0)


@pytest.mark.parametrize(
    ("detection", "stands"),
    [
        ({"type": "server_vad"}, True),
        ({"type": "semantic_vad", "create_response": True}, True),
        ({"type": "server_vad", "create_response": False}, False),
        ({"type": "server_vad", "create_response": False, "idle_timeout_ms": 5000}, True),
        (None, False),
    ],
)
def test_a_slice_stands_while_voice_is_answered(detection: Any, stands: bool) -> None:
    meter = Meter(None)
    meter.follow(updated(audio={"input": {"turn_detection": detection}}))
    assert meter.stands == stands
    old = Meter(None)
    old.follow(updated(turn_detection=detection))
    assert old.stands == stands


def test_a_slice_stands_for_transcriptions_too() -> None:
    meter = Meter(None)
    listening = {"turn_detection": None, "transcription": {"model": "whisper-1"}}
    meter.follow(updated(type="transcription", audio={"input": listening}))
    assert (meter.stands, meter.answers_voice, meter.transcription) == (True, False, "whisper-1")
    meter.follow(updated(audio={"input": listening | {"transcription": None}}))
    assert not meter.stands


def test_sound_counts_by_its_length_in_the_sessions_format() -> None:
    meter = Meter(None)
    meter.hear(event("input_audio_buffer.append", audio=SECOND))
    assert 10 <= meter.input_tokens() <= 11
    telephone = Meter(None)
    telephone.follow(updated(audio={"input": {"format": {"type": "audio/pcmu"}}}))
    before = telephone.input_tokens()
    telephone.hear(event("input_audio_buffer.append", audio=base64.b64encode(bytes(8_000)).decode()))
    assert 10 <= telephone.input_tokens() - before <= 11


def test_sound_that_is_cleared_counts_no_more_and_what_is_committed_does() -> None:
    meter = Meter(None)
    meter.hear(event("input_audio_buffer.append", audio=SECOND))
    meter.follow(event("input_audio_buffer.cleared"))
    assert meter.input_tokens() == 0
    meter.hear(event("input_audio_buffer.append", audio=SECOND))
    meter.follow(event("input_audio_buffer.committed"))
    assert meter.audio == meter.committed_tokens == meter.input_tokens()


def test_an_items_sound_is_no_text() -> None:
    item = {"type": "message", "content": [{"type": "input_audio", "audio": SECOND}, {"type": "input_text"}]}
    text, chars = item_tokens(json.dumps(item).encode())
    assert text < 100
    assert abs(chars - len(SECOND)) <= 2
    assert item_tokens(b'{"content":"no list"}')[1] == 0


def test_what_a_response_read_is_what_the_next_one_reads_and_the_answer_with_it() -> None:
    meter = Meter(None)
    item = {"type": "message", "content": [{"type": "input_text", "text": "What is the capital of Norway?"}]}
    meter.hear(event("conversation.item.create", item=item))
    estimated = meter.input_tokens()
    assert estimated > 7
    delivered = meter.begin()
    assert delivered.given == Parts(input=estimated)
    meter.end(delivered, Tokens(input=8, cache_read=2, audio_input=5, output=7, audio_output=20), apart=False)
    assert meter.input_tokens() == 8 + 2 + 5 + 7 + 20
    assert meter.begin().given == Parts(cache_read=15, input=7, audio_input=20)


def test_what_is_said_during_a_response_is_not_forgotten_with_it() -> None:
    meter = Meter(None)
    delivered = meter.begin()
    meter.hear(event("conversation.item.create", item={"type": "message", "content": [{"text": "wait " * 20}]}))
    said = meter.text
    meter.end(delivered, Tokens(input=3, output=4), apart=False)
    assert meter.input_tokens() == 3 + 4 + said


def test_a_response_apart_leaves_the_conversation_as_it_was() -> None:
    meter = Meter(None)
    meter.end(meter.begin(500), Tokens(input=500, output=9), apart=True)
    assert meter.input_tokens() == 0


def test_no_response_reads_more_than_the_model_can() -> None:
    meter = Meter(1_000)
    meter.hear(event("conversation.item.create", item={"content": [{"text": "word " * 10_000}]}))
    assert meter.input_tokens(5) == 1_000


def test_what_was_delivered_is_counted_and_nothing_where_nothing_was() -> None:
    meter = Meter(None)
    delivered = meter.begin()
    assert meter.partly(delivered) == NOTHING
    meter.deliver(delivered, event("response.output_audio.delta", delta=SECOND))
    meter.deliver(delivered, event("response.output_audio_transcript.delta", delta="twelve bytes"))
    assert meter.partly(delivered) == Parts(output=3, audio_output=20)
    last = event("response.output_text.delta", delta="more")
    meter.deliver(delivered, last)
    meter.deliver(delivered, last, -1)
    assert meter.partly(delivered) == Parts(output=3, audio_output=20)


@pytest.mark.parametrize(
    ("told", "limit"), [("inf", None), (200, 200), (None, None), (0, None), (-3, None), ("9", None)]
)
def test_only_a_number_limits_a_response(told: Any, limit: int | None) -> None:
    meter = Meter(None)
    meter.follow(updated(max_output_tokens=told))
    assert meter.output_tokens_max == limit


def test_a_session_in_writing_has_no_sound_in_its_price_until_some_is_heard() -> None:
    meter = Meter(None)
    meter.follow(updated(output_modalities=["text"]))
    assert not meter.sounds
    meter.hear(event("input_audio_buffer.append", audio=SECOND))
    assert meter.sounds


@pytest.mark.parametrize("session", [None, [], 7, {"audio": 7}, {"audio": {"input": [], "output": {"format": 3}}}])
def test_a_session_of_any_shape_is_followed(session: Any) -> None:
    meter = Meter(None)
    meter.follow(event("session.updated", session=session))
    assert meter.stands
