"""Streams that stay in Anthropic's dialect: the bytes pass, the end is kept back."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.wire import sse
from gateway.wire.anthropic_messages import DIALECT
from gateway.wire.anthropic_messages.relay import StreamRelay
from gateway.wire.codec import Reply
from gateway.wire.usage import Tokens

STREAMS = sorted((Path(__file__).parent / "fixtures").glob("*/stream.sse"))
MODEL = b"claude-sonnet-4-6-20260217"
ERROR = b'{"type":"error","error":{"type":"api_error"}}'


def relay(wants_cost: bool = False) -> StreamRelay:
    return StreamRelay(Reply("r1", "acme/m", 0, wants_cost=wants_cost))


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), json.dumps({"type": kind} | fields).encode())


def said(text: str, kind: str = "text") -> bytes:
    name = {"input_json": "partial_json"}.get(kind, kind)
    return event("content_block_delta", index=0, delta={"type": f"{kind}_delta", name: text})


START = event("message_start", message={"model": "m", "usage": {"input_tokens": 9, "output_tokens": 1}})
BEGUN = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
WHY = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5})
STOP = event("message_stop")


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("at_once", [True, False])
def test_the_bytes_pass_but_for_the_models_name(path: Path, at_once: bool) -> None:
    stream = path.read_bytes()
    found = DIALECT.relay(DIALECT.read(b'{"model":"acme/m"}', None, None), Reply("r1", "acme/m", 0))
    blocks = [stream] if at_once else sse.split(stream)
    relayed = b"".join(map(found.feed, blocks))
    assert relayed + found.end() + found.closing(b"0") == stream.replace(MODEL, b"acme/m")
    assert b"message_stop" not in relayed
    assert found.complete and found.ended and found.failure is None
    answer = (path.parent / "response.json").read_bytes()
    assert found.final_usage() == DIALECT.read_answer(answer).usage
    assert found.produced() is bool(json.loads(answer)["content"])


def test_the_last_reason_is_kept_back_where_the_cost_is_wanted() -> None:
    found = relay(wants_cost=True)
    assert found.feed(START + BEGUN + said("Hi") + WHY).endswith(said("Hi"))
    # It was not the last after all.
    assert found.feed(said("more")) == WHY + said("more")
    assert found.feed(WHY) == b""
    assert found.feed(WHY + STOP) == WHY
    reason, stop = sse.split(found.closing(b"0.5"))
    assert json.loads(sse.data_of(reason))["usage"] == {"output_tokens": 5, "cost": 0.5}
    assert stop == STOP


def test_what_comes_without_its_end_is_complete_where_it_said_why() -> None:
    found = relay()
    found.feed(START + BEGUN + said("Hi"))
    assert (found.complete, found.final_usage()) == (False, None)
    found.feed(event("message_delta", delta=None, usage=None))
    assert (found.complete, found.feed(WHY)) == (False, WHY)
    assert (found.complete, found.final_usage()) == (True, Tokens(input=9, output=5))
    assert found.closing(b"0") == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def test_usage_that_the_end_does_not_tell_is_none() -> None:
    found = relay()
    found.feed(START + said("Hi") + STOP)
    assert found.complete and found.final_usage() is None


def test_nothing_comes_after_the_end_or_an_error() -> None:
    found = relay()
    assert found.feed(STOP + said("late")) == found.feed(said("later")) == found.feed(b"") == b""
    found = relay()
    error = event("error", error={"type": "overloaded_error"})
    assert found.feed(START + error + STOP).endswith(START.split(b"data")[1][-5:])
    assert (found.failure, found.ended, found.complete) == (sse.data_of(error), True, False)
    found = relay()
    assert found.feed(b'data: {"error":"x"}\n\n') == b""
    assert found.failure == b'{"error":"x"}'


def test_what_cannot_be_read_passes() -> None:
    found = relay()
    for odd in (b": keep-alive\n\n", b"data: rubbish\n\n", event("message_start", message=7), event("new", index=1)):
        assert found.feed(odd) == odd
    split = b'event: message_start\ndata: {"type":"message_start",\ndata: "message":{"model":\ndata: "x"}}\n\n'
    assert json.loads(sse.data_of(found.feed(split)))["message"]["model"] == "acme/m"


def test_output_is_counted_by_its_text() -> None:
    found = relay()
    found.feed(START + BEGUN + said("") + event("content_block_delta", index=0, delta=7))
    assert (found.produced(), found.delivered_tokens()) == (False, 0)
    found.feed(said("a"))
    assert (found.produced(), found.delivered_tokens()) == (True, 1)
    padded = said("x" * 400).replace(b"}}\n", b"}" + b" " * 300 + b"}\n")
    found.feed(padded + padded)
    found.feed(padded + event("ping"))
    found.feed(said("s" * 4000, "signature"))
    assert found.delivered_tokens() == 300


@pytest.mark.parametrize(
    ("block", "produced"),
    [
        ({"type": "text", "text": ""}, False),
        ({"type": "text", "text": "whole"}, True),
        ({"type": "tool_use", "id": "t", "name": "f"}, True),
        (None, True),
    ],
)
def test_a_block_that_begins_is_output_where_it_says_something(block: Any, produced: bool) -> None:
    found = relay()
    found.feed(event("content_block_start", index=None, content_block=block))
    assert (found.produced(), found.delivered_tokens()) == (produced, int(produced))


def test_a_broken_stream_ends_in_the_error() -> None:
    failed = b"event: error\ndata: " + ERROR + b"\n\n"
    found = relay()
    found.feed(START + BEGUN + said("Hi"))
    assert found.broken(ERROR, cut=False) == failed
    stop, reason, last = sse.split(found.broken(ERROR, cut=True))
    assert json.loads(sse.data_of(stop)) == {"type": "content_block_stop", "index": 0}
    told = json.loads(sse.data_of(reason))
    assert (told["delta"]["stop_reason"], told["usage"]["input_tokens"]) == ("max_tokens", 9)
    assert last == failed
    found.feed(event("content_block_stop", index=0))
    assert len(sse.split(found.broken(ERROR, cut=True))) == 2
    found = relay(wants_cost=True)
    found.feed(START + WHY)
    assert found.broken(ERROR, cut=True) == WHY + failed
