"""Frames are read no deeper than needed, and passed on as they are but for the model's name."""

import json

import pytest

from gateway.errors import Fault
from gateway.realtime import events
from gateway.realtime.events import OtherModel

NAMES = {"chat", "live/voice", "voice-1"}


def read(frame: str) -> events.Event:
    """Return the event of a frame that holds one."""
    event = events.read(frame)
    assert event is not None
    return event


@pytest.mark.parametrize("frame", ["", "no", "[]", "7", '{"type":7}', '{"type":"x"', "[" * 5000, '{"type":"a"} b'])
def test_what_is_no_event_is_none(frame: str) -> None:
    assert events.read(frame) is None


def test_an_event_of_any_type_is_read_and_its_fields_may_be_anything() -> None:
    event = read('{"type":"future.thing","event_id":7,"delta":{"a":1},"item":null,"response":[1]}')
    assert (event.type, events.text(event.event_id), events.holder(event.response)) == ("future.thing", "", {})
    assert not event.is_delta


@pytest.mark.parametrize(
    ("kind", "is_delta", "is_sound"),
    [
        ("response.output_audio.delta", True, True),
        ("response.audio.delta", True, True),
        ("response.output_audio_transcript.delta", True, False),
        ("response.output_text.delta", True, False),
        ("response.function_call_arguments.delta", True, False),
        ("response.output_audio.done", False, False),
        ("conversation.item.input_audio_transcription.delta", False, False),
    ],
)
def test_deltas_of_a_response_are_told_from_the_rest(kind: str, is_delta: bool, is_sound: bool) -> None:
    event = read(json.dumps({"type": kind, "delta": "x"}))
    assert event.is_delta == is_delta
    assert (event.is_delta and event.is_sound) == is_sound


def test_a_server_calls_the_model_as_its_caller_does_and_nothing_else_changes() -> None:
    frame = '{ "type":"session.created", "session":{ "model" : "voice-1", "audio":{"model":"voice-1"}},"x":"voice-1"}'
    assert events.named(frame, read(frame), "live/voice") == frame.replace('"voice-1"', '"live/voice"', 1)
    plain = '{"type":"response.done","response":{"id":"r","metadata":{"model":"voice-1"}}}'
    assert events.named(plain, read(plain), "live/voice") == plain
    assert events.named('{"type":"x"}', read('{"type":"x"}'), "live/voice") == '{"type":"x"}'


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_clients_name_for_the_model_becomes_the_upstreams(name: str) -> None:
    frame = json.dumps({"type": "session.update", "session": {"model": name, "instructions": "é"}})
    found = events.translated(frame, read(frame), NAMES, "voice-1")
    assert found == frame.replace(f'"{name}"', '"voice-1"')


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"session.update","session":{"model":"other"}}',
        '{"type":"session.update","session":{"model":7}}',
        '{"type":"session.update","session":{"\\u006dodel":"chat"}}',
        '{"type":"session.update","session":{"model":"other","model":"chat"}}',
        '{"type":"response.create","response":{"model":"other"}}',
        '{"type":"anything","session":{"model":"other"}}',
    ],
)
def test_another_model_is_refused_however_it_is_written(frame: str) -> None:
    with pytest.raises(OtherModel, match=r"model$"):
        events.translated(frame, read(frame), NAMES, "voice-1")


@pytest.mark.parametrize(
    ("code", "carried"),
    [(1000, 1000), (1001, 1001), (1011, 1011), (3000, 3000), (4999, 4999)]
    + [(code, 1001) for code in (None, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)],
)
def test_close_codes_are_carried_but_for_those_that_no_frame_may_hold(code: int | None, carried: int) -> None:
    assert events.carried(code, 1001) == carried


@pytest.mark.parametrize(
    ("frame", "path"),
    [
        ('{"type":"session.update","session":{"prompt":{"id":"pmpt_1"}}}', "session.prompt"),
        ('{"type":"response.create","response":{"\\u0070rompt":{"id":"pmpt_1"}}}', "response.prompt"),
        ('{"type":"conversation.item.create","item":{"content":[{"file_id":"file_1"}]}}', "content.file_id"),
        ('{"type":"response.create","response":{"input":[7,{"content":[{"file_id":"f"}]}]}}', "content.file_id"),
        ('{"type":"response.create","response":{"input":[{"type":"item_reference","id":"item_1"}]}}', None),
        ('{"type":"conversation.item.create","item":{"content":[{"text":"file_id, prompt"},7]}}', None),
        ('{"type":"conversation.item.create","item":{"content":"file_id"}}', None),
        ('{"type":"session.update","session":{"prompt":null}}', None),
    ],
)
def test_what_is_kept_in_the_vendors_account_is_found(frame: str, path: str | None) -> None:
    assert events.kept(read(frame)) == path


def test_settings_become_an_event_with_the_type_that_it_has_to_have() -> None:
    made = json.loads(events.update(b'{"audio":{"output":{"voice":"marin"}}}'))
    assert made["type"] == "session.update"
    assert made["session"] == {"type": "realtime", "audio": {"output": {"voice": "marin"}}}
    assert json.loads(events.update(b'{"type":"transcription"}'))["session"] == {"type": "transcription"}


def test_a_fault_becomes_an_error_event_of_the_protocol() -> None:
    fault = Fault("insufficient_credits", "Nothing is left.")
    told = json.loads(events.failure(fault, "7", "mine"))
    assert (told["type"], told["event_id"]) == ("error", "event_7")
    assert told["error"] == {
        "type": "insufficient_credits",
        "code": "insufficient_credits",
        "message": "Nothing is left.",
        "param": None,
        "event_id": "mine",
    }
    assert json.loads(events.lost("Gone.", "8"))["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    ("code", "closed"),
    [
        ("insufficient_credits", 1008),
        ("quota_exceeded", 1008),
        ("budget_exceeded", 1008),
        ("requests_per_minute", 1008),
        ("storage_unavailable", 1013),
        ("internal_error", 1011),
    ],
)
def test_each_fault_has_its_close_code(code: str, closed: int) -> None:
    assert events.closing(Fault(code, "x")) == closed
