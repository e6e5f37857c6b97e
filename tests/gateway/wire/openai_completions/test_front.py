"""Legacy completions: a prompt becomes a conversation, and an answer becomes a text."""

import json
from typing import Any

import pytest

from gateway.wire.accumulate import unfold
from gateway.wire.canonical import (
    Choice,
    Logprob,
    Message,
    Refusal,
    Response,
    Text,
    Thinking,
    ToolCall,
)
from gateway.wire.codec import Reply
from gateway.wire.events import PartDelta, PartEnded, PartStarted
from gateway.wire.fields import InvalidRequest
from gateway.wire.openai_completions import FRONT
from gateway.wire.usage import Tokens

REPLY = Reply("0-1", "vendor/model", 1_800_000_000)
USAGE = Tokens(input=5, cache_read=2, output=3, reasoning=4)
ANSWER = Response(
    "up-1",
    "upstream-model",
    (
        Choice((Thinking("hm"), Text("Once "), ToolCall("1", "f", "{}"), Text("upon")), "stop_sequence", "\n"),
        Choice((Text("Never"), Refusal("no")), "length"),
    ),
    USAGE,
)


def asked(**fields: Any) -> Any:
    body = json.dumps({"model": "m", "prompt": "Say"} | fields).encode()
    return FRONT.parse_request(FRONT.read(body, None, None))


def test_a_prompt_is_the_one_message_of_a_user() -> None:
    request = asked(temperature=0.5, top_p=1, frequency_penalty=0, presence_penalty=-1, seed=7, stop="\n", n=2)
    assert request.messages == (Message("user", (Text("Say"),)),)
    assert (request.temperature, request.top_p, request.seed, request.stop, request.choices) == (0.5, 1, 7, ("\n",), 2)
    assert (request.frequency_penalty, request.presence_penalty) == (0, -1)
    assert request.max_tokens == 16


def test_a_list_of_one_prompt_is_that_prompt() -> None:
    assert asked(prompt=["One"], stop=["a", "b"], max_tokens=9) == asked(prompt="One", stop=["a", "b"], max_tokens=9)


def test_log_probabilities_are_asked_for_by_a_number() -> None:
    assert (asked(logprobs=3).logprobs, asked(logprobs=3).top_logprobs) == (True, 3)
    assert not asked(logprobs=0).logprobs
    assert asked(logit_bias={"5": -100}).logit_bias == {"5": -100.0}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"echo": True}, "echo"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"seed": 1.5}, "seed"),
        ({"stop": 7}, "stop"),
        ({"stop": [7]}, "stop"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"logprobs": 6}, "logprobs"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize("fields", [{"max_tokens": 0}, {"n": 999}, {"stream": "yes"}])
def test_a_wrong_parameter_comes_after_the_model(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        FRONT.read(json.dumps({"model": "m", "prompt": "x"} | fields).encode(), None, None)
    assert refused.value.model == "m"


def test_broken_json_names_no_model() -> None:
    with pytest.raises(InvalidRequest) as refused:
        FRONT.read(b'{"model":"m","n":{"a":\xff}}', None, None)
    assert refused.value.model is None


def test_usage_is_wanted_by_either_name() -> None:
    def wants(**fields: Any) -> tuple[bool, bool]:
        read = FRONT.read(json.dumps({"model": "m"} | fields).encode(), None, None)
        return read.wants_usage, read.wants_cost

    assert wants() == (False, False)
    assert wants(stream_options={"include_usage": True}) == (True, False)
    assert wants(stream_options=7) == (False, False)
    assert wants(usage={"include": True}) == (True, True)


def test_an_answer_is_its_texts() -> None:
    body = json.loads(FRONT.render_response(ANSWER, REPLY, b"0.25"))
    assert (body["id"], body["object"], body["model"]) == ("cmpl-0-1", "text_completion", "vendor/model")
    assert [choice["text"] for choice in body["choices"]] == ["Once upon", "Never"]
    assert [choice["finish_reason"] for choice in body["choices"]] == ["stop", "length"]
    assert body["usage"]["prompt_tokens"] == 7
    assert body["usage"]["completion_tokens"] == 7
    assert body["usage"]["cost"] == 0.25
    assert "usage" not in json.loads(FRONT.render_response(Response("", "", ()), REPLY, None))


def test_log_probabilities_are_in_the_old_form() -> None:
    likely = (Logprob("On", -0.5, None, (Logprob("On", -0.5), Logprob("In", -2.0))),)
    body = json.loads(FRONT.render_response(Response("", "", (Choice((Text("On"),), logprobs=likely),)), REPLY, None))
    assert body["choices"][0]["logprobs"] == {
        "tokens": ["On"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"On": -0.5, "In": -2.0}],
        "text_offset": [],
    }


def streamed(reply: Reply, cost: bytes = b"0.25") -> list[Any]:
    encoder = FRONT.stream_encoder(reply)
    whole = encoder.encode(list(unfold(ANSWER))) + encoder.finish(cost)
    return [line.removeprefix("data: ") for line in whole.decode().split("\n\n") if line]


def test_a_stream_says_the_same() -> None:
    *chunks, usage, done = streamed(Reply("0-1", "vendor/model", 1, wants_cost=True))
    texts = ["", ""]
    for chunk in chunks:
        (choice,) = json.loads(chunk)["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == ["Once upon", "Never"]
    assert json.loads(usage)["usage"]["cost"] == 0.25
    assert done == "[DONE]"


def test_usage_that_nobody_asked_for_is_not_sent() -> None:
    *_, last, done = streamed(Reply("0-1", "m", 1, wants_usage=False))
    assert json.loads(last)["choices"][0]["finish_reason"] == "length"
    assert done == "[DONE]"
    assert FRONT.stream_encoder(REPLY).finish(b"0") == b"data: [DONE]\n\n"


def test_text_that_comes_with_its_part_is_said() -> None:
    likely = Response("", "", (Choice((Text(""),), logprobs=(Logprob("x", -1.0),)),))
    encoder = FRONT.stream_encoder(REPLY)
    out = encoder.encode([PartStarted(0, Text("Hi")), PartDelta(1, "unseen"), PartEnded(0), *unfold(likely)])
    assert b'"text":"Hi"' in out
    assert b"unseen" not in out
    assert b'"token_logprobs":[-1.0]' in out


def test_a_stream_that_fails_says_so() -> None:
    encoder = FRONT.stream_encoder(REPLY)
    assert encoder.fail(b'{"error":{}}', cut=False) == b'data: {"error":{}}\n\n'
    cut = encoder.fail(b'{"error":{}}', cut=True)
    assert b'"finish_reason":"length"' in cut
    assert cut.endswith(b'data: {"error":{}}\n\n')
