"""An upstream's stream as events: its order, its defects, its end."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.wire.accumulate import fold
from gateway.wire.canonical import Choice, Citation, Inline, Logprob, Native, Part, Text, Thinking, ToolCall
from gateway.wire.canonical import Image as Picture
from gateway.wire.codec import Unreadable
from gateway.wire.events import Ended, Event, Failed, Finished, PartDelta, PartStarted, Started, Used
from gateway.wire.gemini_generate_content import DIALECT
from gateway.wire.gemini_generate_content.fieldnames import NAME
from gateway.wire.gemini_generate_content.stream import Decoder, logprobs_of
from gateway.wire.usage import Tokens

encode = msgspec.json.encode


def chunk(*parts: Any, **candidate: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts)}, **candidate}]}


def events(*chunks: Any, over: bool = True) -> list[Event]:
    decoder = DIALECT.stream_decoder()
    found = decoder.feed(b"".join(b"data: " + encode(each) + b"\n\n" for each in chunks))
    return found + (decoder.finish() if over else [])


def parts(*chunks: Any) -> tuple[Part, ...]:
    return choice(*chunks).parts


def choice(*chunks: Any) -> Choice:
    (found,) = fold(events(*chunks, chunk(finishReason="STOP"))).choices
    return found


def test_it_begins_once_and_ends_when_the_connection_does() -> None:
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3}
    first = {"responseId": "r", "modelVersion": "m"} | chunk({"text": "Hi"})
    assert events(first, chunk(finishReason="STOP") | {"usageMetadata": usage})[-3:] == [
        Finished("stop"),
        Used(Tokens(input=1, output=2)),
        Ended(),
    ]
    assert events(first, first, over=False)[:2] == [Started("r", "m"), PartStarted(0, Text(""))]
    assert [each for each in events(first, first) if isinstance(each, Started | Finished | Ended)] == [
        Started("r", "m")
    ]


def test_a_finish_reason_may_be_followed_by_more() -> None:
    first = chunk({"text": "a"}, finishReason="STOP")
    assert choice(first, first, chunk({"text": "b"}, finishReason="MAX_TOKENS")) == Choice((Text("aab"),), "stop")


def test_the_last_usage_counts() -> None:
    def told(made: int) -> dict[str, Any]:
        usage = {"promptTokenCount": 1, "candidatesTokenCount": made, "totalTokenCount": 1 + made}
        return chunk({"text": "a"}) | {"usageMetadata": usage}

    response = fold(events(told(1), told(5), chunk(finishReason="STOP")))
    assert response.usage == Tokens(input=1, output=5)
    assert fold(events(told(1), chunk({"text": "b"}, finishReason="STOP"))).usage is None


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("RECITATION", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("SOMETHING_NEW", "error"),
        ("CONTINUATION", "pause"),
    ],
)
def test_why_it_ended(reason: str, finish: str) -> None:
    assert Finished(msgspec.convert(finish, Any)) in events(chunk({"text": "a"}, finishReason=reason))


@pytest.mark.parametrize("reason", ["", None, "FINISH_REASON_UNSPECIFIED", 3])
def test_no_reason_is_no_end(reason: Any) -> None:
    assert not any(isinstance(each, Finished | Ended) for each in events(chunk({"text": "a"}, finishReason=reason)))


def test_a_blocked_prompt_is_cut_by_a_filter() -> None:
    assert events({"promptFeedback": {"blockReason": "SAFETY"}}) == [
        Started("", ""),
        Finished("content_filter"),
        Ended(),
    ]
    assert events({"prompt_feedback": {}}) == [Started("", "")]
    assert events({"promptFeedback": []}) == [Started("", "")]


def test_calls_come_whole_and_end_the_text_before_them() -> None:
    call = {"functionCall": {"name": "apx_31", "args": {"a": [1]}}, "thoughtSignature": "s"}
    found = choice(
        chunk({"text": "I "}, {"text": "call."}), chunk(call), chunk({"function_call": {"id": "x", "args": 1}})
    )
    assert found == Choice(
        (
            Text("I call."),
            ToolCall("", "1", '{"a":[1]}', signature="s", origin=NAME),
            ToolCall("x", "", "{}"),
        ),
        "tool_calls",
    )


def test_arguments_may_come_as_a_text() -> None:
    def arguments(args: Any) -> str:
        (call,) = parts(chunk({"functionCall": {"name": "f", "args": args}}))
        assert isinstance(call, ToolCall)
        return call.arguments

    assert [arguments(each) for each in ('{"a": 1}', "odd", [1])] == ['{"a": 1}', "{}", "{}"]
    data = b'{"candidates":[{"content":{"parts":[{"functionCall":{"args":{"n":%d}}}]}}]}' % (10**40)
    assert DIALECT.parse_response(data).choices[0].parts == (ToolCall("", "", f'{{"n":{10**40}}}'),)


def test_arguments_have_a_depth() -> None:
    args: dict[str, Any] = {}
    for _ in range(50_000):
        args = {"a": args}
    decoder = Decoder()
    with pytest.raises(Unreadable):
        decoder.take(chunk({"functionCall": {"name": "f", "args": args}}), [])


def test_signatures_beside_a_thought_follow_their_part() -> None:
    def signed(text: str, signature: str, **fields: Any) -> dict[str, Any]:
        return chunk({"text": text, "thoughtSignature": signature, **fields})

    def beside(signature: str) -> Thinking:
        return Thinking("", signature, NAME)

    assert parts(signed("", "s0"), chunk({"text": "a"}), signed("b", "s1"), chunk({"text": "c"})) == (
        beside("s0"),
        Text("ab"),
        beside("s1"),
        Text("c"),
    )
    assert parts(chunk({"text": "a"}), signed("", "s1"), signed("", "s2"), chunk({"text": ""})) == (
        Text("a"),
        beside("s1"),
        beside("s2"),
    )
    thought = {"thought": True}
    assert parts(signed("x", "s1", **thought), signed("y", "s2", **thought), signed("", "s3")) == (
        Thinking("x", "s1", NAME, is_summary=True),
        Thinking("y", "s2", NAME, is_summary=True),
        beside("s3"),
    )
    assert parts(signed("", "s1", **thought)) == (Thinking("", "s1", NAME, is_summary=True),)


def test_files_and_what_only_gemini_knows() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    code = {"executableCode": {"code": "1"}}
    found = parts(
        chunk(image | {"thoughtSignature": "s"}, code, {"thoughtSignature": "lost"}),
        chunk({"fileData": {"fileUri": "https://x.example/a.png"}}, image | {"thought": True}),
    )
    assert found[:3] == (
        Picture(Inline("image/png", "AA==")),
        Thinking("", "s", NAME),
        Native(NAME, "executableCode", code),
    )
    assert isinstance(found[3], Picture)
    assert found[4] == Native(NAME, "inlineData", image | {"thought": True})


def test_several_candidates() -> None:
    second = chunk({"text": "b"}, index=1, finishReason="MAX_TOKENS")
    response = fold(events(chunk({"text": "a"}), second, chunk(finishReason="STOP")))
    assert response.choices == (Choice((Text("a"),)), Choice((Text("b"),), "length"))


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"candidates": None},
        {"candidates": "odd"},
        {"candidates": ["odd", {"index": -1}, {"index": 9999}, {"index": "x"}]},
        {"candidates": [{"content": "odd", "logprobsResult": "odd", "groundingMetadata": "odd"}]},
        {"candidates": [{"content": {"parts": "odd"}, "citationMetadata": {"citations": ["odd", {"uri": ""}]}}]},
        {"candidates": [{"content": {"parts": ["odd", {}, {"text": 1}, {"functionCall": "odd"}]}}]},
        {"somethingNew": True, "responseId": 5, "usageMetadata": "odd"},
    ],
)
def test_what_nobody_knows_is_passed_over(odd: Any) -> None:
    found = fold(events(chunk({"text": "a"}), odd, chunk({"text": "b"}, finishReason="STOP")))
    assert "".join(part.text for part in found.choices[0].parts if isinstance(part, Text)) == "ab"


@pytest.mark.parametrize("data", [b"{", b"[]", b"3", b'"x"', b"\xff", b"[" * 100_000])
def test_rubbish_cannot_be_read(data: bytes) -> None:
    with pytest.raises(Unreadable):
        DIALECT.stream_decoder().feed(b"data: " + data + b"\n\n")


def test_a_file_that_is_none_cannot_be_read() -> None:
    with pytest.raises(Unreadable):
        events(chunk({"inlineData": {"data": 5}}))


def test_comments_and_a_foreign_end_say_nothing() -> None:
    assert DIALECT.stream_decoder().feed(b": ping\n\ndata: [DONE]\n\ndata:\n\n") == []


@pytest.mark.parametrize("as_list", [False, True])
def test_nothing_comes_after_an_error(as_list: bool) -> None:
    error = {"error": {"code": 500}}
    found = events(chunk({"text": "a"}), [error] if as_list else error, chunk({"text": "b"}, finishReason="STOP"))
    assert found[-1] == Failed(error)
    assert [each.text for each in found if isinstance(each, PartDelta)] == ["a"]


def test_sources_are_cited_by_characters() -> None:
    text = "Öl. Gas."
    grounding = {
        "groundingChunks": [
            {"web": {"uri": "https://a.example", "title": "A"}},
            {"retrievedContext": {"uri": "https://b.example", "text": "B says"}},
            {"odd": 1},
            "odd",
        ],
        "groundingSupports": [
            {"segment": {"endIndex": 4}, "groundingChunkIndices": [0, 2, 9, "x"]},
            {"segment": {"startIndex": 5, "endIndex": 9}, "groundingChunkIndices": [1]},
            {"groundingChunkIndices": [0]},
            "odd",
        ],
        "webSearchQueries": ["a", "b"],
    }
    usage = {"usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1}}
    response = fold(events(chunk({"text": text}, groundingMetadata=grounding, finishReason="STOP") | usage))
    assert response.choices[0].parts == (
        Text(
            text,
            (
                Citation("https://a.example", "A", "", 0, 3),
                Citation("https://b.example", "", "B says", 4, 8),
                Citation("https://a.example", "A"),
            ),
        ),
    )
    assert response.usage == Tokens(input=1, web_searches=2)


def test_sources_without_supports_stand_for_the_whole() -> None:
    grounding = {"groundingChunks": [{"maps": {"uri": "https://m.example"}}], "groundingSupports": "odd"}
    assert parts(chunk({"text": "x"}, groundingMetadata=grounding)) == (Text("x", (Citation("https://m.example"),)),)


def test_a_place_in_an_earlier_text_is_not_cited() -> None:
    cited = {
        "citationSources": [{"startIndex": 0, "endIndex": 1, "uri": "u"}, {"startIndex": 1, "endIndex": 9, "uri": "v"}]
    }
    found = parts(chunk({"text": "a"}, {"functionCall": {"name": "f"}}, {"text": "bc"}), chunk(citationMetadata=cited))
    assert found[0] == Text("a")
    assert found[2] == Text("bc", (Citation("v", "", "", 0, 2),))


def test_citations_are_bounded() -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "u"}}],
        "groundingSupports": [{"groundingChunkIndices": [0] * 3000}] * 3,
    }
    (text,) = parts(chunk({"text": "x"}, groundingMetadata=grounding))
    assert isinstance(text, Text)
    assert len(text.citations) == 4096


def test_likelihoods() -> None:
    chosen = [{"token": "a", "logProbability": -1}, "odd", {"token": "b", "logProbability": -2.0}]
    top = [{"candidates": [{"token": "c", "logProbability": -3.0}, {"token": 1}]}, None]
    assert logprobs_of({"chosenCandidates": chosen, "topCandidates": top}) == (
        Logprob("a", -1.0, None, (Logprob("c", -3.0),)),
        Logprob("b", -2.0),
    )
    assert logprobs_of({"chosenCandidates": "odd", "topCandidates": [{"candidates": 1}]}) == ()
    assert logprobs_of({"chosenCandidates": chosen[:1], "topCandidates": [{"candidates": 1}]}) == (Logprob("a", -1.0),)
    assert logprobs_of({"chosenCandidates": [{"token": "a"}, {"token": "a", "logProbability": 10**40}]}) == ()


KEYS = (
    "candidates content parts text thought thoughtSignature functionCall name args id inlineData mimeType data "
    "fileData fileUri finishReason index groundingMetadata groundingChunks web uri groundingSupports segment "
    "startIndex endIndex groundingChunkIndices usageMetadata promptTokenCount error promptFeedback blockReason "
    "logprobsResult token chosenCandidates topCandidates logProbability executableCode"
)
simple = st.none() | st.booleans() | st.integers(-5, 10**12) | st.floats(allow_nan=False) | st.text(max_size=5)
json_values = st.recursive(
    simple,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(KEYS.split())), inner, max_size=5)
    ),
    max_leaves=10,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.binary(max_size=60) | json_values.map(encode) | json_values.map(lambda each: encode(chunk(each))), max_size=5
    )
)
def test_hostile_bytes_raise_nothing_else(blocks: list[bytes]) -> None:
    decoder = DIALECT.stream_decoder()
    found: list[Event] = []
    try:
        for block in blocks:
            found += decoder.feed(b"data: " + block + b"\n\n")
        found += decoder.finish()
    except Unreadable:
        return
    assert fold(found).choices is not None
