"""Every scenario: a dialect that goes through the canonical form comes out as it went in."""

import msgspec
import pytest

from gateway.wire.accumulate import fold, unfold
from gateway.wire.events import Failed
from gateway.wire.gemini_generate_content import DIALECT
from tests.gateway.wire.gemini_generate_content import scenarios
from tests.gateway.wire.gemini_generate_content.scenarios import MODEL, REPLY, decoded


@pytest.mark.parametrize("scenario", scenarios.having("request.json"))
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_comes_out_as_it_went_in(scenario: str, stream: bool) -> None:
    body = scenarios.data(scenario, "request.json")
    upstream = "gemini-3-flash" if scenario == "tool_result_image" else MODEL
    rendered = DIALECT.render_request(DIALECT.parse_request(DIALECT.read(body, MODEL, stream)), upstream, None)
    assert msgspec.json.decode(rendered.body) == scenarios.value(scenario, "rendered.json", "request.json")
    assert rendered.dropped == ()
    verb, query = ("streamGenerateContent", "alt=sse") if stream else ("generateContent", "")
    assert (rendered.path, rendered.query) == (f"/models/{upstream}:{verb}", query)


@pytest.mark.parametrize("scenario", scenarios.having("request.json"))
def test_a_request_in_the_other_spelling_is_understood_alike(scenario: str) -> None:
    body = scenarios.data(scenario, "request.json")
    spelled = body
    for name in (
        b"functionDeclarations functionCallingConfig allowedFunctionNames generationConfig maxOutputTokens topP topK "
        b"systemInstruction toolConfig thinkingConfig inlineData mimeType fileData fileUri functionCall stopSequences "
        b"functionResponse thoughtSignature responseMimeType responseJsonSchema candidateCount responseModalities"
    ).split():
        snake = b"".join(b"_" + bytes([each]).lower() if bytes([each]).isupper() else bytes([each]) for each in name)
        spelled = spelled.replace(b'"' + name + b'"', b'"' + snake + b'"')
    assert DIALECT.parse_request(DIALECT.read(spelled, MODEL, False)) == DIALECT.parse_request(
        DIALECT.read(body, MODEL, False)
    )


@pytest.mark.parametrize("scenario", scenarios.having("response.json"))
def test_an_answer_comes_out_as_it_went_in(scenario: str) -> None:
    response = DIALECT.parse_response(scenarios.data(scenario, "response.json"))
    rendered = DIALECT.render_response(response, REPLY, None)
    assert msgspec.json.decode(rendered) == scenarios.value(scenario, "returned.json", "response.json")


@pytest.mark.parametrize("scenario", scenarios.having("response.json"))
def test_a_stream_folds_to_the_whole_answer(scenario: str) -> None:
    response = DIALECT.parse_response(scenarios.data(scenario, "response.json"))
    assert fold(decoded(scenarios.data(scenario, "stream.sse"))) == response


@pytest.mark.parametrize("scenario", scenarios.having("stream.sse"))
def test_a_streams_events_do_not_depend_on_how_it_was_cut(scenario: str) -> None:
    stream = scenarios.data(scenario, "stream.sse")
    events = decoded(stream)
    assert decoded(stream, [stream[at : at + 1] for at in range(len(stream))]) == events
    for at in range(len(stream)):
        assert decoded(stream, [stream[:at], stream[at:]]) == events


@pytest.mark.parametrize("scenario", scenarios.having("response.json"))
def test_an_answer_streamed_to_a_caller_is_the_answer(scenario: str) -> None:
    response = DIALECT.parse_response(scenarios.data(scenario, "response.json"))
    usage = response.usage and msgspec.structs.replace(response.usage, web_searches=0)
    told = msgspec.structs.replace(response, usage=usage)
    # Gemini names searches, which others only count.
    assert fold(decoded(scenarios.merged(list(unfold(response))))) == told


def test_an_error_in_a_stream_ends_it() -> None:
    events = decoded(scenarios.data("error", "stream.sse"))
    assert events[-1] == Failed(
        {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    )
