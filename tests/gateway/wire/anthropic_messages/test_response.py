"""Whole answers and refusals of Anthropic's dialect."""

import json
from typing import Any

import pytest

from gateway.wire import marks
from gateway.wire.anthropic_messages import DIALECT
from gateway.wire.anthropic_messages.usage import Counts, parse_usage
from gateway.wire.canonical import (
    Audio,
    Choice,
    Citation,
    FileId,
    Finish,
    Image,
    Inline,
    Native,
    Part,
    Refusal,
    Response,
    Text,
    Thinking,
    ToolCall,
    Url,
)
from gateway.wire.codec import Answer, Reply, Said, Unreadable
from gateway.wire.usage import Tokens

REPLY = Reply(request_id="r1", model="acme/m", created=7, wants_cost=True)
USAGE = {"input_tokens": 3, "output_tokens": 5}


def rendered(*parts: Part, finish: Finish = "stop", usage: Tokens | None = None, cost: bytes | None = None) -> Any:
    response = Response("x", "y", (Choice(parts, finish),), usage)
    return json.loads(DIALECT.render_response(response, REPLY, cost))


# --- What passes ----------------------------------------------------------------------------------------------------
def test_an_answer_is_read_for_its_usage() -> None:
    body = json.dumps({"type": "message", "usage": USAGE}).encode()
    assert DIALECT.read_answer(body) == Answer(Tokens(input=3, output=5))
    assert DIALECT.read_answer(b'{"type":"error"}') == DIALECT.read_answer(b'{"error":{}}') == Answer(None, True)
    assert DIALECT.read_answer(b'{"error":null}') == Answer(None)
    with pytest.raises(Unreadable):
        DIALECT.read_answer(b"<html>")


def test_an_answer_keeps_every_byte_but_the_models_name() -> None:
    body = b'{"content" : [{"model":"x"}], "model": "claude", "usage": {"input_tokens" : 1.0}}'
    assert DIALECT.renamed(body, "acme/m", None) == body.replace(b'"claude"', b'"acme/m"')
    assert json.loads(DIALECT.renamed(body, "m", b"0.5"))["usage"] == {"input_tokens": 1.0, "cost": 0.5}
    assert DIALECT.renamed(b'{"model":"a"}', "b", b"1") == b'{"model":"b"}'


# --- Usage ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (USAGE, Tokens(input=3, output=5)),
        (USAGE | {"cache_creation_input_tokens": 9}, Tokens(input=3, output=5, cache_write_5m=9)),
        (USAGE | {"cache_creation": {"ephemeral_1h_input_tokens": 4}}, Tokens(input=3, output=5, cache_write_1h=4)),
        (
            USAGE | {"cache_creation_input_tokens": 2, "cache_creation": {"ephemeral_1h_input_tokens": 4}},
            Tokens(input=3, output=5, cache_write_1h=2, sound=False),
        ),
        (
            USAGE | {"output_tokens_details": {"thinking_tokens": 9}},
            Tokens(input=3, reasoning=5, sound=False),
        ),
        (USAGE | {"service_tier": "batch"}, Tokens(input=3, output=5, service_tier="batch")),
        (USAGE | {"cache_read_input_tokens": -1}, Tokens(input=3, output=5, sound=False)),
        (USAGE | {"iterations": 7}, Tokens(input=3, output=5)),
        (
            USAGE
            | {
                "iterations": [
                    {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
                    {"type": "compaction"},
                    {"type": "message", "input_tokens": 3, "output_tokens": 5},
                    7,
                ]
            },
            Tokens(input=180_003, output=3_505),
        ),
        ({"input_tokens": 3}, None),
        ({"output_tokens": 3}, None),
        (7, None),
    ],
)
def test_usage_is_read_as_disjoint_parts(usage: Any, expected: Tokens | None) -> None:
    assert parse_usage(usage) == expected


def test_of_each_count_the_latest_is_true() -> None:
    counts = Counts()
    split = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 5}
    assert counts.add(USAGE | {"cache_creation_input_tokens": 15, "cache_creation": split})
    assert counts.add({"input_tokens": None, "output_tokens": 50, "cache_creation_input_tokens": 40})
    assert counts.tokens() == Tokens(input=3, output=50, cache_write_5m=35, cache_write_1h=5)
    assert counts.add({"cache_creation_input_tokens": 2})
    assert counts.tokens() == Tokens(input=3, output=50, cache_write_1h=2, sound=False)
    assert not counts.add({"output_tokens": None})


def test_usage_is_told_with_the_cost_where_it_is_asked_for() -> None:
    usage = Tokens(input=1, audio_input=2, image_input=3, output=4, reasoning=5, audio_output=6, service_tier="flex")
    assert rendered(usage=usage, cost=b"0.25")["usage"] == {
        "input_tokens": 6,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 15,
        "output_tokens_details": {"thinking_tokens": 5},
        "service_tier": "flex",
        "cost": 0.25,
    }


# --- For a caller ---------------------------------------------------------------------------------------------------
def test_another_vendors_answer_in_anthropics_blocks() -> None:
    found = rendered(
        Thinking("a", "s", "openai_responses", "rs"),
        Thinking("b"),
        Thinking("", "d", "openai_responses", "rs", redacted=True),
        Text("t", (Citation(url="u", title="T", quote="q"), Citation(title="none"))),
        Text("w", (Citation(title="none"),)),
        Text(""),
        ToolCall("c1", "f", '{"a":1}', signature="s", origin="gemini_generate_content", namespace="ns"),
        ToolCall("c2", "g", "x", custom=True),
        Image(Url("https://e.x")),
        Image(Inline("", "AA")),
        Image(FileId("gemini_generate_content", "f")),
        Audio(None, "spoken"),
        Audio(None),
        Native("openai_responses", "web_search_call", {}),
    )
    location = {"type": "web_search_result_location", "url": "u", "title": "T", "cited_text": "q"}
    assert found["content"] == [
        {"type": "thinking", "thinking": "a", "signature": marks.mark("s", "openai_responses", "rs")},
        {"type": "thinking", "thinking": "b", "signature": marks.mark("", "")},
        {"type": "redacted_thinking", "data": marks.mark("d", "openai_responses", "rs")},
        {"type": "text", "text": "t", "citations": [location | {"encrypted_index": ""}]},
        {"type": "text", "text": "w"},
        {
            "type": "tool_use",
            "id": marks.signed_id("c1", "s", "gemini_generate_content"),
            "name": "ns__f",
            "input": {"a": 1},
        },
        {"type": "tool_use", "id": "c2", "name": "g", "input": {"input": "x"}},
        {"type": "text", "text": "![image](https://e.x)"},
        {"type": "text", "text": "![image](data:image/png;base64,AA)"},
        {"type": "text", "text": "spoken"},
    ]
    assert (found["id"], found["model"], found["stop_reason"]) == ("msg_r1", "acme/m", "tool_use")


@pytest.mark.parametrize(
    ("parts", "finish", "reason"),
    [
        ((), "stop", "end_turn"),
        ((Refusal("no"),), "stop", "refusal"),
        ((), "content_filter", "refusal"),
        ((ToolCall("c", "f", "{}"),), "length", "max_tokens"),
        ((), "error", "end_turn"),
    ],
)
def test_why_an_answer_ended(parts: Any, finish: Finish, reason: str) -> None:
    assert rendered(*parts, finish=finish)["stop_reason"] == reason


def test_no_answer_at_all_is_an_empty_one() -> None:
    found = json.loads(DIALECT.render_response(Response("x", "y", ()), REPLY, None))
    assert (found["content"], found["stop_reason"], found["usage"]["input_tokens"]) == ([], "end_turn", 0)


# --- From an upstream -----------------------------------------------------------------------------------------------
def test_an_answer_is_parsed_however_a_vendor_writes_it() -> None:
    body = {"id": 7, "content": "plain", "stop_reason": None, "usage": "none"}
    assert DIALECT.parse_response(json.dumps(body).encode()) == Response("", "", (Choice((Text("plain"),)),))
    compaction = {"type": "compaction", "content": "summary"}
    body = {"content": [compaction, 7, {"type": "tool_use", "input": '{"a":1}'}, {"type": "thinking", "thinking": "x"}]}
    assert DIALECT.parse_response(json.dumps(body).encode()).choices == (
        Choice(
            (
                Native("anthropic_messages", "compaction", compaction),
                ToolCall("toolu__1", "", '{"a":1}'),
                Thinking("x"),
            ),
            "tool_calls",
        ),
    )


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"type":"error"}', b'{"error":"x","content":[]}'])
def test_what_is_no_answer_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        DIALECT.parse_response(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: too large"}},
            Said("max_tokens: too large", "invalid_request_error"),
        ),
        ({"error": "no"}, Said("no")),
        ({"message": "no", "param": "x", "type": 7}, Said("no", "", "x")),
        ([], Said()),
    ],
)
def test_a_refusal_says_what_is_wrong(body: Any, said: Said) -> None:
    assert DIALECT.parse_error(json.dumps(body).encode()) == said
    assert DIALECT.parse_error(b"<html>") == Said()
