"""OpenAI's chat format: what passes untouched, what is read, and what a stream's relay takes out."""

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import openai_chat, sse
from gateway.wire.openai_chat import InvalidRequest, StreamRelay, parse_request, parse_usage, render_request
from gateway.wire.usage import Tokens

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"


# --- Requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        b"123456789012345678901234567890",
        b"1.10",
        b"-0.0",
        b"1E400",
        b'{"a" : [1,  2], "a":3}',
        b'"\\u00e9\\/\\n"',
        '"é\u2028"'.encode(),
        b"[" * 300 + b"]" * 300,
        b"null",
    ],
)
def test_a_field_that_is_not_needed_goes_on_byte_for_byte(value: bytes) -> None:
    request = parse_request(b'{"messages":' + value + b', "model" : "m", "strange": ' + value + b"}")
    rendered = render_request(request, 'up"id')
    assert rendered == b'{"messages":' + value + b',"model":"up\\"id","strange":' + value + b"}"


def test_of_a_key_that_comes_twice_the_last_counts_and_is_the_only_one_sent() -> None:
    request = parse_request(b'{"model":"a","x":1,"model":"b","x":2}')
    assert request.model == "b"
    assert render_request(request, "u") == b'{"model":"u","x":2}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"model"',
        b"null",
        b'{"model":"m"} x',
        b'{"model":"m","x":NaN}',
        b'{"model":"m","x":"\xff"}',
        b'{"model":"m","\xff":1}',
        b'{"model":"m","x":"\\ud800"}',
        b'{"model":"\\ud800"}',
        b'{"model":"m","x":' + b"[" * 100_000,
        b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"m","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        b'{"model":"m","x":' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"model":"m","stream_options":' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_what_is_no_json_object_is_refused_and_nothing_breaks(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(body)
    assert refused.value.code in ("invalid_json", "invalid_parameter")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("model", ["", '"model":null', '"model":""', '"model":1', '"model":["m"]', '"model":"%s"'])
def test_a_request_without_a_usable_model_names_the_parameter(model: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(b"{" + model.replace("%s", "m" * 257).encode() + b"}")
    assert (refused.value.code, refused.value.param) == ("invalid_parameter", "model")


@pytest.mark.parametrize(
    ("options", "wants", "sent"),
    [
        (None, False, {"include_usage": True}),
        ("null", False, {"include_usage": True}),
        ("{}", False, {"include_usage": True}),
        ('{"include_usage":false,"include_obfuscation":false}', False, {"include_usage": True}),
        ('{"include_usage":true,"x":1}', True, {"include_usage": True}),
        ('{"include_usage":1}', False, {"include_usage": True}),
    ],
)
def test_a_stream_always_asks_for_usage(options: str | None, wants: bool, sent: dict[str, Any]) -> None:
    request = parse_request(
        b'{"model":"m","stream":true' + (f',"stream_options":{options}' if options else "").encode() + b"}"
    )
    assert (request.stream, request.wants_usage) == (True, wants)
    rendered = json.loads(render_request(request, "u"))["stream_options"]
    assert rendered["include_usage"] is True
    assert (json.loads(options or "null") or {}) | sent == rendered


@pytest.mark.parametrize("field", [b'"stream":1', b'"stream":"true"', b'"stream_options":[]', b'"stream_options":"x"'])
def test_a_stream_parameter_of_the_wrong_kind_is_named(field: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(b'{"model":"m",' + field + b"}")
    assert refused.value.param == field.split(b'"')[1].decode()


def test_an_answer_that_is_not_streamed_keeps_its_options() -> None:
    request = parse_request(b'{"model":"m","stream_options":{"include_usage":false}}')
    assert render_request(request, "u") == b'{"model":"u","stream_options":{"include_usage":false}}'


# --- Usage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (USAGE, Tokens(input=9, output=3)),
        ({"prompt_tokens": 9, "total_tokens": 9}, Tokens(input=9)),
        ({"prompt_tokens": 9.0, "completion_tokens": 3.0}, Tokens(input=9, output=3)),
        (USAGE | {"prompt_tokens_details": {"cached_tokens": 4}}, Tokens(input=5, cache_read=4, output=3)),
        (USAGE | {"prompt_tokens_details": None, "completion_tokens_details": []}, Tokens(input=9, output=3)),
        (USAGE | {"prompt_tokens_details": {"cached_tokens": -4}}, Tokens(input=9, output=3, sound=False)),
        (USAGE | {"completion_tokens_details": {"reasoning_tokens": 3}}, Tokens(input=9, reasoning=3)),
        (
            USAGE | {"prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 9}},
            Tokens(cache_read=8, audio_input=1, output=3, sound=False),
        ),
        (
            USAGE | {"completion_tokens_details": {"reasoning_tokens": 7, "audio_tokens": 7}},
            Tokens(input=9, reasoning=3, sound=False),
        ),
        ({}, None),
        ([], None),
        (7, None),
        ({"completion_tokens": 3}, None),
        ({"prompt_tokens": 9, "completion_tokens": None}, None),
        (USAGE | {"prompt_tokens": None}, None),
        (USAGE | {"prompt_tokens": "9"}, None),
        (USAGE | {"prompt_tokens": True}, None),
        (USAGE | {"prompt_tokens": -1}, None),
        (USAGE | {"prompt_tokens": 9.5}, None),
        (USAGE | {"prompt_tokens": 10**10}, None),
        (USAGE | {"completion_tokens": 10**30}, None),
    ],
)
def test_usage_is_read_as_disjoint_parts_or_not_at_all(usage: Any, tokens: Tokens | None) -> None:
    assert parse_usage(json.dumps(usage).encode()) == tokens


@pytest.mark.parametrize(
    "raw", [b"", b"NaN", b'{"prompt_tokens":NaN}', b'{"prompt_tokens":1e999}', b'{"\xff":1}', b"[" * 9999]
)
def test_usage_that_cannot_be_read_is_none(raw: bytes) -> None:
    assert parse_usage(raw) is None


COUNTS = st.none() | st.integers(-2, 30) | st.floats() | st.text(max_size=2) | st.just(10**9)
DETAILS = st.none() | st.dictionaries(st.sampled_from(["cached_tokens", "audio_tokens", "reasoning_tokens"]), COUNTS)


@given(COUNTS, COUNTS, DETAILS, DETAILS)
def test_no_token_is_counted_twice_whatever_the_upstream_says(
    prompt: Any, completion: Any, prompt_details: Any, completion_details: Any
) -> None:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": completion_details,
    }
    tokens = parse_usage(json.dumps(usage).encode())
    if tokens is not None:
        assert tokens.input + tokens.cache_read + tokens.audio_input == prompt
        assert tokens.output + tokens.reasoning + tokens.audio_output == completion
        assert min(tokens.input, tokens.cache_read, tokens.audio_input, tokens.output, tokens.reasoning) >= 0


# --- Streams --------------------------------------------------------------------------------------------------------


def event(content: Any, end: bytes = b"\n\n", indent: int | None = None) -> bytes:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=indent)
    mark = end[: len(end) // 2]
    return b"".join(b"data: " + line.encode() + mark for line in text.split("\n")) + mark


def chunk(model: str | None = "up", text: str = "hi", **fields: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return content | ({} if model is None else {"model": model}) | fields


def relay_all(pieces: list[bytes], *, wants_usage: bool = False) -> tuple[bytes, StreamRelay]:
    framer, relay = sse.Framer(1 << 22), StreamRelay('my "model"', wants_usage=wants_usage)
    out = [relay.feed(framer.feed(piece)) for piece in pieces]
    out.append(relay.feed(framer.flush()))
    return b"".join(out), relay


TEXTS = st.sampled_from(
    [
        '"model":"up"',
        '\\"model":"up"',
        "[DONE]",
        '"usage":{}',
        '"error":{}',
        "data: x",
        "a\u2028b\u0085c\x00",
        "{[",
        "é",
    ]
)
NESTED = st.sampled_from(
    [
        {"tool": {"model": "up"}},
        {"usage": None},
        {"error": None},
        {"x": [{"model": "up", "usage": {"prompt_tokens": 1}}]},
    ]
)
MODELS = st.sampled_from(["up", "up", "up", 'q"\\é', "", "model"])
CHUNKS = st.builds(lambda model, text, more: chunk(model, text, **more), MODELS, TEXTS, NESTED | st.just({}))
OTHERS = st.sampled_from(["rubbish", "[]", '"model"', "{", '{"error":', '{"model":1}'])


def expected(contents: list[Any], end: bytes, indent: int | None, *, wants_usage: bool) -> bytes:
    """What a relay that parses every event would send."""
    out = []
    for content in contents:
        if content == "[DONE]" or (isinstance(content, dict) and content.get("error")):
            break
        named = isinstance(content, dict) and isinstance(content.get("model"), str)
        counted = isinstance(content, dict) and bool(content.get("usage")) and not content.get("choices")
        if wants_usage or not counted:
            out.append(event(content | {"model": 'my "model"'} if named else content, end, indent))
    return b"".join(out)


@given(
    st.lists(
        CHUNKS
        | OTHERS
        | st.sampled_from(
            [
                {"model": "up", "choices": [], "usage": USAGE},
                {"usage": USAGE, "model": "up"},
                chunk(usage=USAGE),
                {"error": {"message": "no"}},
                "[DONE]",
            ]
        ),
        max_size=8,
    ),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]),
    st.sampled_from([None, None, 1]),
    st.booleans(),
    st.lists(st.integers(0, 2000), max_size=6),
)
def test_the_relay_does_what_one_that_parses_everything_would(
    contents: list[Any], end: bytes, indent: int | None, wants_usage: bool, places: list[int]
) -> None:
    stream = b"".join(event(content, end, indent) for content in contents)
    wanted = expected(contents, end, indent, wants_usage=wants_usage)
    borders = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    cut = [stream[first:last] for first, last in itertools.pairwise(borders)]
    for pieces in ([stream], cut, [stream[at : at + 1] for at in range(len(stream))]):
        out, relay = relay_all(pieces, wants_usage=wants_usage)
        assert out == wanted
        assert relay.ended == any(
            content == "[DONE]" or (isinstance(content, dict) and bool(content.get("error"))) for content in contents
        )


@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"data: ", b"\n\n", b'{"usage":', b'"error"', b'"model":"'])))
def test_garbage_raises_nothing(pieces: list[bytes]) -> None:
    out, _ = relay_all(pieces)
    assert len(out) <= len(b"".join(pieces)) + 20 * len(pieces)


@pytest.mark.parametrize("key", [b'{"\xff":1,"usage":{}}', b'{"usage":{"\xff":1},"choices":[]}', b'{"error":"\xff"}'])
def test_text_that_is_no_utf8_raises_nothing(key: bytes) -> None:
    _, relay = relay_all([b"data: " + key + b"\n\n", DONE])
    assert relay.ended
    assert relay.usage is None or parse_usage(relay.usage) is None


def test_the_last_usage_wins_and_stays_hidden_unless_it_was_asked_for() -> None:
    last = chunk(usage=USAGE | {"completion_tokens": 5})
    stream = event(chunk(usage=USAGE)) + event(last) + event({"model": "up", "choices": [], "usage": None}) + DONE
    for wants_usage in (False, True):
        out, relay = relay_all([stream], wants_usage=wants_usage)
        assert json.loads(relay.usage or b"") == last["usage"]
        assert out.count(b"data: ") == 3
    out, relay = relay_all([event(chunk()) + event({"choices": [], "usage": USAGE, "model": "up"}) + DONE])
    assert json.loads(relay.usage or b"") == USAGE
    assert b"usage" not in out


def test_an_error_event_keeps_what_came_before_it_and_ends_the_stream() -> None:
    failure = {"error": {"message": "overloaded"}}
    out, relay = relay_all([event(chunk()) * 2 + event(failure) + event(chunk()) + DONE])
    assert out.count(b"data: ") == 2
    assert json.loads(relay.failure or b"") == failure
    assert not relay.complete
    assert relay.chunks_count == 2


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_chunks_are_counted_and_comments_are_not(end: bytes) -> None:
    stream = b": waiting" + end + event(chunk(), end) * 3 + b": waiting" + end + event("[DONE]", end)
    out, relay = relay_all([stream])
    assert relay.chunks_count == 3
    assert out.count(b": waiting") == 2


@pytest.mark.parametrize(
    ("reason", "finished"),
    [('"stop"', True), ('"tool_calls"', True), ("null", False), ('""', False), ('null,"text":"finish_reason"', False)],
)
def test_a_finish_reason_is_a_proper_end_for_want_of_done(reason: str, finished: bool) -> None:
    for space in ("", " "):
        body = '{"model":"up","choices":[{"finish_reason":' + space + reason + "}]}"
        for lead in (b"", event('{"model":"up"}')):
            assert relay_all([lead, event(body)])[1].complete is finished


def test_a_finish_reason_inside_a_text_is_none() -> None:
    _, relay = relay_all([event(chunk(text='"finish_reason":"stop"'))])
    assert not relay.complete


def test_a_comment_with_a_brace_hides_no_model() -> None:
    out, _ = relay_all([b": {\ndata: " + json.dumps(chunk()).encode() + b"\n\n"])
    assert b'"up"' not in out


def test_a_stream_of_megabytes_takes_linear_time() -> None:
    plain = event(chunk(text="x" * 200))
    odd = event(chunk(text='"usage"', model="other"))
    began_at = time.process_time()
    out, relay = relay_all([plain * 100] * 100 + [plain + odd] * 2000 + [event(chunk(text="y" * 3_000_000))])
    assert relay.chunks_count == 14_001
    assert b'"up"' not in out
    assert time.process_time() - began_at < 5


def test_an_answer_keeps_every_byte_but_its_model() -> None:
    answer = b'{ "x": {"model":"up"}, "model" : "up", "y": "\\"model\\":\\"up\\"" }\n'
    assert openai_chat.rename(answer, b'"me"') == answer.replace(b'"model" : "up"', b'"model" : "me"')


# --- What is charged --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("odd", [b"1e999", b"123456789012345678901234567890", b'"\\u0000"'])
def test_a_cost_is_added_to_any_usage_and_nothing_else_of_it_changes(odd: bytes) -> None:
    data = b'{"id":1.10,"usage":{"prompt_tokens":1,"x":' + odd + b"}}"
    assert openai_chat.with_cost(data, b"0.1") == data[:-2] + b',"cost":0.1}}'


@pytest.mark.parametrize("usage", [b"null", b"[1]", b'"x"', b"7"])
def test_what_is_no_usage_gets_no_cost(usage: bytes) -> None:
    data = b'{"usage":' + usage + b"}"
    assert openai_chat.with_cost(data, b"0.1") == data


def test_a_usage_that_came_long_before_the_end_is_not_the_whole_stream_s() -> None:
    """LiteLLM 39893: a first event's `output_tokens: 1` was priced as the answer."""
    first = event(chunk(usage=USAGE | {"completion_tokens": 1}))
    assert relay_all([first + event(chunk()) * 3])[1].final_usage() is not None
    assert relay_all([first + event(chunk()) * 100])[1].final_usage() is None
    assert relay_all([first + event(chunk()) * 100 + event(chunk(usage=USAGE)) + DONE])[1].final_usage() is not None


def test_a_last_chunk_that_cannot_be_read_whole_is_sent_as_it_is() -> None:
    last = b'data: {"model":"up","\xff":1,"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    relay = StreamRelay("m", wants_usage=True, wants_cost=True)
    out = relay.feed(last + DONE) + relay.closing(b"0.1")
    assert b'"prompt_tokens":1' in out


# --- What was delivered ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("delta", "output"),
    [({"role": "assistant"}, False), ({"content": ""}, False), ({"content": "hi"}, True), ({"tool_calls": [{}]}, True)],
)
def test_output_is_more_than_who_speaks(delta: Any, output: bool) -> None:
    _, relay = relay_all([event({"model": "up", "choices": [{"delta": delta}]})])
    assert relay.produced() is output
    assert relay.delivered_tokens() == 1


def test_what_was_delivered_is_measured_beside_its_envelopes() -> None:
    _, relay = relay_all([event(chunk(text="x" * 400))] * 10)
    assert relay.produced()
    assert 900 < relay.delivered_tokens() < 1100
    _, small = relay_all([event(chunk(text="x"))] * 10)
    assert (small.delivered_tokens(), small.delivered_tokens()) == (10, 10)
    _, rubbish = relay_all([event('{"usage":')])
    assert not rubbish.produced()


def test_a_cost_that_is_asked_for_is_no_upstream_s_business() -> None:
    request = parse_request(b'{"model":"m","stream":true,"usage":{"include":true},"tools":[],"messages":[]}')
    assert request.wants_cost and request.wants_usage
    assert b'"usage"' not in render_request(request, "u").replace(b"include_usage", b"")
    assert list(openai_chat.texts(request.fields)) == [b'"m"', b"true", b"[]"]
