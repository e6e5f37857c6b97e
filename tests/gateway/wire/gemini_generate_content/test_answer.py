"""What callers of Gemini's dialect get, whole and streamed."""

from typing import Any

import msgspec
import pytest

from gateway.wire.accumulate import fold, unfold
from gateway.wire.canonical import (
    Audio,
    Choice,
    Citation,
    Document,
    FileId,
    Finish,
    Image,
    Inline,
    Logprob,
    Native,
    Part,
    Refusal,
    Response,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from gateway.wire.codec import Reply, Said, Unreadable
from gateway.wire.events import Event, PartDelta, PartEnded, PartStarted, Started
from gateway.wire.gemini_generate_content import DIALECT, signatures
from gateway.wire.gemini_generate_content.fieldnames import NAME
from gateway.wire.usage import Tokens
from tests.gateway.wire.gemini_generate_content.scenarios import decoded

REPLY = Reply("req1", "acme/big", 0, wants_cost=True)
ARRAY = Reply("req1", "acme/big", 0, array=True)
ERROR = b'{"error":{"code":503}}'


def rendered(*parts: Part, **fields: Any) -> dict[str, Any]:
    response = Response("", "up", (Choice(parts, **fields),))
    found = msgspec.json.decode(DIALECT.render_response(response, REPLY, None))
    assert isinstance(found, dict)
    return found


def shown(*parts: Part) -> Any:
    return rendered(*parts)["candidates"][0]["content"]["parts"]


def streamed(response: Response, reply: Reply = REPLY) -> bytes:
    encoder = DIALECT.stream_encoder(reply)
    return b"".join(encoder.encode([event]) for event in unfold(response)) + encoder.finish(b"0.5")


def test_the_caller_sees_the_name_it_asked_for_and_an_id() -> None:
    assert rendered(Text("Hi")) == {
        "candidates": [{"content": {"parts": [{"text": "Hi"}], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "modelVersion": "acme/big",
        "responseId": "req1",
    }


def test_the_cost_stands_in_the_usage() -> None:
    bare = Response("", "up", (Choice((Text("Hi"),)),))
    used = msgspec.structs.replace(bare, usage=Tokens(input=1))
    for response, usage in ((bare, {"cost": 0.5}), (used, {"promptTokenCount": 1, "cost": 0.5})):
        found = msgspec.json.decode(DIALECT.render_response(response, REPLY, b"0.5"))["usageMetadata"]
        last = msgspec.json.decode(streamed(response).rstrip().rpartition(b"data: ")[2])["usageMetadata"]
        assert found == last
        assert usage.items() <= found.items()
    assert b"cost" not in streamed(bare, Reply("r", "m", 0))


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop_sequence", "STOP"),
        ("tool_calls", "STOP"),
        ("length", "MAX_TOKENS"),
        ("refusal", "SAFETY"),
        ("pause", "OTHER"),
        ("error", "OTHER"),
    ],
)
def test_why_it_ended(finish: Finish, reason: str) -> None:
    assert rendered(finish=finish)["candidates"][0]["finishReason"] == reason


def test_parts_of_every_kind() -> None:
    foreign = signatures.write("sig", "anthropic_messages")
    assert shown(
        Text(""),
        Thinking("", "s0", NAME),
        Thinking("Why.", "sig", "anthropic_messages"),
        Refusal("No."),
        Thinking("", "s1", NAME),
        Image(Url("https://x.example/a.png")),
        Document(FileId("openai_responses", "file-1")),
        Audio(Inline("audio/wav", "AA=="), "spoken"),
        Audio(None, "spoken", "audio_1"),
        Native("openai_responses", "web_search_call", {"a": 1}),
        Native(NAME, "executableCode", {"executableCode": {}}),
        ToolResult("c", ()),
        ToolCall("", "f", "", namespace="space"),
        ToolCall("own", "g", '{"a":1}', signature="sig", origin="anthropic_messages"),
    ) == [
        {"text": "", "thoughtSignature": "s0"},
        {"text": "Why.", "thought": True, "thoughtSignature": foreign},
        {"text": "No.", "thoughtSignature": "s1"},
        {"fileData": {"fileUri": "https://x.example/a.png", "mimeType": "image/png"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}},
        {"text": "spoken"},
        {"executableCode": {}},
        {"functionCall": {"id": "call_req1_0_12", "name": "space__f", "args": {}}},
        {"functionCall": {"id": "own", "name": "g", "args": {"a": 1}}, "thoughtSignature": foreign},
    ]


def test_likelihoods_without_others_name_none() -> None:
    (candidate,) = rendered(Text("a"), logprobs=(Logprob("a", -0.5),))["candidates"]
    assert candidate["logprobsResult"] == {"chosenCandidates": [{"token": "a", "logProbability": -0.5}]}


def test_sources_count_in_bytes_of_all_that_was_said() -> None:
    cited = (
        Text("Öl. ", (Citation("https://a.example", "A"),)),
        Thinking("Hm."),
        Text("Gas."),
        Text("Öl!", (Citation("https://a.example", "A", "", 0, 2), Citation("", "B", "B says", 2))),
    )
    expected = {
        "groundingChunks": [
            {"web": {"uri": "https://a.example", "title": "A"}},
            {"retrievedContext": {"title": "B", "text": "B says"}},
        ],
        "groundingSupports": [
            {"segment": {"startIndex": 0, "endIndex": 5, "text": "Öl. "}, "groundingChunkIndices": [0]},
            {"segment": {"startIndex": 9, "endIndex": 12, "text": "Öl"}, "groundingChunkIndices": [0]},
            {"segment": {"startIndex": 12, "endIndex": 13, "text": "!"}, "groundingChunkIndices": [1]},
        ],
    }
    response = Response("r", "acme/big", (Choice(cited),))
    whole = msgspec.json.decode(DIALECT.render_response(response, REPLY, None))
    assert whole["candidates"][0]["groundingMetadata"] == expected
    last = msgspec.json.decode(streamed(response).rstrip().rpartition(b"data: ")[2])
    assert last["candidates"][0]["groundingMetadata"] == expected


@pytest.mark.parametrize(
    "parts",
    [
        (Text("Hi", (Citation("https://a.example", "A"),)),),
        (Thinking("Why.", "", "", is_summary=True), Text("So."), Thinking("", "s", NAME)),
        (Thinking("Why.", "s", NAME, is_summary=True), ToolCall("c", "f", '{"a":1}', signature="s", origin=NAME)),
        (Audio(Inline("audio/wav", "AAAA")), Image(Inline("image/png", "AA=="))),
        (Native(NAME, "executableCode", {"executableCode": {}}),),
    ],
)
def test_a_stream_is_the_answer(parts: tuple[Part, ...]) -> None:
    finish: Finish = "tool_calls" if any(isinstance(part, ToolCall) for part in parts) else "stop"
    likely = (Logprob("a", -0.5, None, (Logprob("b", -2.0),)), Logprob("c", -0.25))
    response = Response("r", "acme/big", (Choice(parts, finish, logprobs=likely),), Tokens(input=1, output=2))
    assert fold(decoded(streamed(response))) == response


def test_a_foreign_thought_comes_back_from_a_streams_chunks() -> None:
    thought = Thinking("Why.", "sig", "anthropic_messages", "id", is_summary=True)
    hidden = Thinking("", "dark", "anthropic_messages", redacted=True)
    response = Response("r", "m", (Choice((thought, hidden, Text("So."), ToolCall("", "f", ""))),))
    chunks = [msgspec.json.decode(each[6:]) for each in streamed(response).split(b"\n\n") if each]
    sent = [part for each in chunks for part in each["candidates"][0]["content"]["parts"]]
    body = msgspec.json.encode({"contents": [{"role": "model", "parts": sent}]})
    (message,) = DIALECT.parse_request(DIALECT.read(body, "m", False)).messages
    assert message.parts == (thought, hidden, Text("So."), ToolCall("call_req1_0_3", "f", "{}"))


def test_a_part_may_begin_with_some_of_its_text() -> None:
    events: list[Event] = [
        Started("", "up"),
        PartStarted(0, Refusal("N")),
        PartDelta(0, "o."),
        PartEnded(0),
        PartStarted(1, Thinking("Why", "s", NAME)),
        PartEnded(1),
    ]
    encoder = DIALECT.stream_encoder(REPLY)
    out = encoder.encode(events) + encoder.finish(b"")
    said = [msgspec.json.decode(each[6:])["candidates"][0]["content"]["parts"] for each in out.split(b"\n\n") if each]
    assert said == [
        [{"text": "N"}],
        [{"text": "o."}],
        [{"text": "Why", "thought": True}],
        [{"text": "", "thought": True, "thoughtSignature": "s"}],
        [{"text": ""}],
    ]
    assert out.count(b'"responseId":"req1"') == 5


def test_an_array_is_one_json_value_however_it_ends() -> None:
    response = Response("r", "up", (Choice((Text("Hi"), Text("you"))),))
    assert len(msgspec.json.decode(streamed(response, ARRAY))) == 3
    assert streamed(response, ARRAY).startswith(b'[{"candidates"')
    empty = DIALECT.stream_encoder(ARRAY)
    assert [each["candidates"][0]["finishReason"] for each in msgspec.json.decode(empty.finish(b""))] == ["STOP"]
    broken = DIALECT.stream_encoder(ARRAY)
    out = broken.encode(list(unfold(response))[:3]) + broken.fail(ERROR, cut=True)
    assert [next(iter(each)) for each in msgspec.json.decode(out)] == ["candidates", "candidates", "error"]


def test_a_stream_that_broke_ends_with_the_error() -> None:
    assert DIALECT.stream_encoder(REPLY).fail(ERROR, cut=False) == b"data: " + ERROR + b"\n\n"
    cut, error = DIALECT.stream_encoder(REPLY).fail(ERROR, cut=True).rstrip().split(b"\n\n")
    assert msgspec.json.decode(cut[6:])["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert error == b"data: " + ERROR


def test_what_passes_is_renamed_and_nothing_else() -> None:
    data = b'{"candidates":[{"x":{"modelVersion":"up"}}], "modelVersion" : "up", "n":1e400}'
    assert DIALECT.renamed(data, "a/b", None) == data.replace(b': "up"', b': "a/b"')
    assert DIALECT.renamed(b'{"a":1}', "a/b", None) == b'{"a":1}'
    priced = DIALECT.renamed(b'{"usageMetadata":{"promptTokenCount":1}}', "m", b"0.25")
    assert priced == b'{"usageMetadata":{"promptTokenCount":1,"cost":0.25}}'
    assert DIALECT.renamed(b"{", "m", b"0.25") == b"{"


def test_what_is_known_of_an_answer_that_passes() -> None:
    answer = DIALECT.read_answer(
        b'{"candidates":[{"groundingMetadata":{"webSearchQueries":["a"]}},1],"usageMetadata":{"promptTokenCount":1}}'
    )
    assert (answer.usage, answer.is_error) == (Tokens(input=1, web_searches=1), False)
    assert DIALECT.read_answer(b'{"error":{}}').is_error
    assert DIALECT.read_answer(b"{}").usage is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"error":{"code":500}}', b'{"candidates":[]}'])
def test_what_is_no_answer_cannot_be_read(data: bytes) -> None:
    with pytest.raises(Unreadable):
        DIALECT.parse_response(data)


def test_a_whole_answer_need_not_say_why_it_ended() -> None:
    response = DIALECT.parse_response(b'{"candidates":[{"content":{"parts":[{"text":"Hi"}]}}]}')
    assert response.choices == (Choice((Text("Hi"),)),)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            b'{"error":{"code":400,"message":"Bad.","status":"INVALID_ARGUMENT","details":[1,{"fieldViolations":'
            b'[2,{"field":""},{"field":"contents[0]"}]}]}}',
            Said("Bad.", "INVALID_ARGUMENT", "contents[0]"),
        ),
        (b'[{"error":{"message":"Bad.","details":"odd"}}]', Said("Bad.")),
        (b'{"error":{"message":1,"status":2,"details":[{"fieldViolations":"odd"}]}}', Said()),
        (b'{"error":"odd"}', Said()),
        (b"[]", Said()),
        (b"<html>", Said()),
    ],
)
def test_an_error_is_read_as_far_as_it_says_anything(data: bytes, said: Said) -> None:
    assert DIALECT.parse_error(data) == said
