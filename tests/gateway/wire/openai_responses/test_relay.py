"""OpenAI's Responses, streams that pass: what changes on the way, what is kept back, and what is known of them."""

import re
from typing import Any

import msgspec
import pytest

from gateway.wire import sse
from gateway.wire.codec import Relay
from gateway.wire.fields import Asked
from gateway.wire.openai_responses import DIALECT
from gateway.wire.openai_responses.decoder import Decoder
from gateway.wire.openai_responses.mending import mended
from gateway.wire.usage import Tokens
from tests.gateway.wire.openai_responses.scenes import ANSWERS, EVENT_BYTES_MAX, REPLY, line, raw, told

ERROR = b'{"error":{"message":"Gone.","type":"server_error","code":"upstream_failed"}}'


def relay(*, wants_cost: bool = False) -> Relay:
    return DIALECT.relay(Asked("m", True, True, {}, wants_cost=wants_cost), REPLY)


def renamed(stream: bytes) -> bytes:
    return stream.replace(b'"model": "gpt-5-2025-08-07"', b'"model": "my/model"')


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_passes_but_for_the_models_name(name: str) -> None:
    stream, one = raw(name), relay()
    sent = one.feed(stream)
    end = stream.rindex(b"event: ")
    assert sent == renamed(stream[:end])
    assert one.end() == b"" and one.ended and one.complete and one.produced()
    assert one.final_usage() == DIALECT.parse_response(raw(name, "response.json")).usage
    assert one.closing(b"0.1") == renamed(stream[end:])


@pytest.mark.parametrize("name", ["text", "reasoning", "citations"])
def test_a_stream_passes_the_same_however_it_is_cut(name: str) -> None:
    stream = raw(name)
    whole = relay()
    expected = whole.feed(stream)
    for offset in range(0, len(stream), 11):
        framer, one = sse.Framer(EVENT_BYTES_MAX), relay()
        pieces = (framer.feed(stream[:offset]), framer.feed(stream[offset:]), framer.flush())
        assert b"".join(map(one.feed, pieces)) == expected
        assert one.closing(b"0") == whole.closing(b"0")
        assert one.delivered_tokens() == whole.delivered_tokens()


def test_the_cost_is_shown_where_it_was_asked_for() -> None:
    one = relay(wants_cost=True)
    one.feed(raw("text"))
    (end,) = told(one.closing(b"0.0010"))
    assert end["response"]["usage"]["cost"] == 0.001
    assert end["response"]["model"] == "my/model"
    assert relay(wants_cost=True).closing(b"1") == b""


def test_a_model_named_twice_is_renamed_where_it_counts() -> None:
    response = b'{"tools":[{"model":"gpt"}],"text":"\\"model\\":\\"gpt\\"","model":"gpt"}'
    event = b'data: {"type":"response.created","response":' + response + b"}\n\n"
    expected = response[: -len(b'"gpt"}')] + b'"my/model"}'
    assert relay().feed(event) == event.replace(response, expected)
    odd = b'data: {"type":"response.created","response":3}\n\n'
    assert relay().feed(odd) == odd
    without = b'data: {"type":"response.created","response":{"id":"r"}}\n\n'
    assert relay().feed(without) == without


def test_a_response_on_several_lines_is_renamed() -> None:
    event = b'data: {"type":"response.created",\r\ndata: "response":{"model":\r\ndata: "gpt"}}\r\n\r\n'
    (found,) = map(msgspec.json.decode, map(sse.data_of, sse.split(relay().feed(event))))
    assert found["response"] == {"model": "my/model"}


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        (line("error", code="x", message="m"), {"type": "error", "code": "x", "message": "m"}),
        (b'data: {"error":{"message":"m"}}\n\n', {"error": {"message": "m"}}),
        (b'event: error\ndata: {"message":"m"}\n\n', {"message": "m"}),
        (line("response.failed", response={"error": {"code": "x"}}), {"error": {"code": "x"}}),
        (line("response.failed", response=3), {"error": None}),
    ],
)
def test_an_upstreams_error_is_taken_out(event: bytes, failure: dict[str, Any]) -> None:
    one = relay()
    before = line("response.output_text.delta", delta="x")
    assert one.feed(before + event + before) == before
    assert one.failure is not None and msgspec.json.decode(one.failure) == failure
    assert (one.ended, one.complete, one.final_usage()) == (True, False, None)
    assert one.feed(before) == b""


def test_what_only_looks_like_an_error_passes() -> None:
    stream = (
        line("response.output_item.done", item={"type": "mcp_call", "error": None, "response": {"model": "x"}})
        + line("response.output_text.delta", delta='"error": "response": data: [DONE]')
        + b'data: {"error":null}\n\n'
        + b'data: no json, and an "error":\n\n'
        + b": a comment\n\n"
    )
    assert relay().feed(stream) == stream


def test_a_mark_of_the_end_from_another_dialect_is_taken_out() -> None:
    one = relay()
    assert one.feed(b"data: [DONE]\n\n") == b""
    assert not one.complete


def test_an_end_without_a_usage_that_could_be_true_has_none() -> None:
    one = relay()
    one.feed(line("response.completed", response=3))
    assert one.complete and one.final_usage() is None


def test_an_end_that_only_its_line_names_is_one() -> None:
    one = relay()
    one.feed(b'event: response.completed\ndata: {"response":{"model":"g"}}\n\n')
    assert one.complete
    assert b"my/model" in one.closing(b"0")


# --- Mends --------------------------------------------------------------------------------------------------------


def mending(*pieces: bytes) -> tuple[list[dict[str, Any]], Relay]:
    one = mended(Asked("m", True, True, {}), REPLY)
    sent = b"".join(map(one.feed, pieces)) + one.closing(b"0")
    return told(sent), one


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_that_lacks_nothing_is_not_touched(name: str) -> None:
    one = mended(Asked("m", True, True, {}), REPLY)
    assert one.feed(raw(name)) + one.closing(b"0") == renamed(raw(name))


def test_a_stream_without_indexes_and_numbers_gets_them() -> None:
    found, one = mending(raw("llama_cpp"))
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    indexes = [event["output_index"] for event in found if "response" not in event]
    assert indexes == [0] * 8 + [1] * 4
    assert all(event["content_index"] == 0 for event in found if "output_text" in event["type"])
    assert found[0]["response"]["output"] == []
    assert (found[0]["response"]["model"], found[0]["response"]["created_at"]) == ("my/model", REPLY.created)
    end = found[-1]["response"]
    assert [item["type"] for item in end["output"]] == ["message", "function_call"]
    assert (end["model"], end["created_at"], end["usage"]["total_tokens"]) == ("my/model", 1795203673, 25)
    assert found[-1]["timings"] == {"cache_n": 0}
    assert one.final_usage() == Tokens(input=22, output=3)


def test_what_cannot_be_mended_passes() -> None:
    odd = b'data: x\n\ndata: {"type":3}\n\ndata: {"odd":1}\n\n: a comment\n\n'
    one = mended(Asked("m", True, True, {}), REPLY)
    assert one.feed(odd) == odd
    assert b'"item_id":1e400,"output_index":0' in one.feed(
        b'data: {"type":"response.refusal.delta","item_id":1e400}\n\n'
    )
    found, _ = mending(
        line("response.created", response=3, sequence_number="x"),
        line("response.output_item.added", item=3, sequence_number=7),
        line("response.output_item.added", item={"type": "web_search_call"}, output_index="x"),
        line("response.reasoning_summary_text.delta", item_id=3, delta="x"),
        line("response.web_search_call.searching", item_id="w"),
        b'data: {"type":"response.output_item.done","output_index":1.5}\n\n',
        line("response.completed", response={}),
    )
    assert [event.get("output_index") for event in found[1:]] == [0, "x", 1, None, 1.5, None]
    assert [event["sequence_number"] for event in found] == ["x", 7, 8, 9, 10, 11, 12]
    assert found[3]["summary_index"] == 0
    assert found[-1]["response"]["output"] == [None]


def test_an_item_without_an_id_is_done_where_it_was_added() -> None:
    item = {"type": "web_search_call"}
    added, done = line("response.output_item.added", item=item), line("response.output_item.done", item=item)
    found, _ = mending(done, added, done, line("response.completed", response={}))
    assert [event["output_index"] for event in found[:-1]] == [0, 1, 1]
    assert found[-1]["response"]["output"] == [item, item]


# --- What is known of a stream that did not end ---------------------------------------------------------------------


def deltas(count: int, text: str = "word", **more: Any) -> bytes:
    return b"".join(
        line("response.output_text.delta", item_id="m", output_index=0, delta=text, sequence_number=each, **more)
        for each in range(count)
    )


def test_deltas_are_counted_or_what_is_in_them() -> None:
    one = relay()
    assert (one.delivered_tokens(), one.produced()) == (0, False)
    one.feed(line("response.output_item.added", item={}))
    assert (one.delivered_tokens(), one.produced()) == (0, False)
    one.feed(deltas(3))
    one.feed(deltas(50))
    assert (one.delivered_tokens(), one.produced()) == (53, True)
    long = relay()
    long.feed(deltas(2) + deltas(10, "x" * 400))
    assert 1000 <= long.delivered_tokens() <= 1010
    # What repeats the whole text is no more output.
    before = long.delivered_tokens()
    long.feed(line("response.output_text.done", text="x" * 4000, sequence_number=9))
    long.feed(line("response.output_item.done", item={}, sequence_number=9))
    assert long.delivered_tokens() == before


def test_padding_is_no_output() -> None:
    one = relay()
    one.feed(deltas(10, obfuscation="x" * 100))
    assert one.delivered_tokens() == 10


def test_an_empty_delta_is_no_output_yet() -> None:
    one = relay()
    one.feed(deltas(1, ""))
    assert not one.produced()
    one.feed(b'data: {"type":"response.output_text.delta","delta":\n\n')
    assert not one.produced()
    one.feed(line("response.output_item.added", item={}) + deltas(6, ""))
    assert not one.produced()
    one.feed(line("response.output_item.added", item={}) + deltas(1, "x"))
    assert one.produced()


def test_an_item_that_is_only_told_when_it_is_done_is_output() -> None:
    one = relay()
    one.feed(line("response.output_item.done", item={"type": "image_generation_call"}))
    assert (one.produced(), one.delivered_tokens()) == (True, 1)


def test_a_broken_stream_ends_with_what_began_it() -> None:
    stream = raw("text")
    one = relay()
    sent = one.feed(stream[: stream.index(b"event: response.output_text.done")])
    (end,) = told(one.broken(ERROR, cut=False))
    assert end["response"]["id"] == "resp_0a1b2c"
    assert (end["response"]["model"], end["response"]["status"]) == ("my/model", "failed")
    assert end["response"]["error"] == {"code": "upstream_failed", "message": "Gone."}
    last = int(re.findall(rb'"sequence_number": (\d+)', sent)[-1])
    assert end["sequence_number"] == last + 1
    error, cut = told(one.broken(ERROR, cut=True))
    assert (error["type"], error["message"], cut["type"]) == ("error", "Gone.", "response.incomplete")
    assert cut["sequence_number"] == last + 2


def test_an_end_that_was_kept_back_is_not_sent_where_the_stream_broke() -> None:
    one = relay()
    one.feed(raw("text"))
    (end,) = told(one.broken(ERROR, cut=False))
    assert end["type"] == "response.failed"
    (bare,) = told(relay().broken(ERROR, cut=False))
    assert (bare["sequence_number"], bare["response"]["status"]) == (0, "failed")


def test_decoding_after_the_relay_finds_the_same_usage() -> None:
    one = relay()
    one.feed(raw("cache"))
    events = Decoder().feed(one.closing(b"0"))
    assert events[-3].tokens == one.final_usage()  # type: ignore[union-attr]
    expected = Tokens(input=20, cache_read=50, cache_write_5m=10, cache_write_1h=20, output=2, service_tier="priority")
    assert one.final_usage() == expected


def test_a_response_that_is_no_object_passes_and_ends_no_stream() -> None:
    one = relay()
    event = line("response.in_progress", sequence_number=0, response="x")
    assert one.feed(event) == event
    (end,) = told(one.broken(ERROR, cut=False))
    assert end["response"]["status"] == "failed"
