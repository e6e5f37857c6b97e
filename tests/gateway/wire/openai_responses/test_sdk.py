"""OpenAI's own package as the judge of streams and answers that are written here."""

from typing import Any

import httpx
import msgspec
import openai
import pydantic
import pytest

from gateway.wire.accumulate import unfold
from gateway.wire.canonical import Choice, Citation, CustomTool, Refusal, Response, Text, Thinking, ToolCall
from gateway.wire.events import Event, PartDelta, PartStarted
from gateway.wire.fields import Asked
from gateway.wire.openai_responses import DIALECT
from gateway.wire.openai_responses.encoder import Encoder
from gateway.wire.openai_responses.mending import mended
from gateway.wire.usage import Tokens
from tests.gateway.wire.openai_responses.scenes import ANSWERS, REPLY, raw

replace = msgspec.structs.replace
ERROR = b'{"error":{"message":"No credit left.","type":"billing","code":"insufficient_quota","param":null}}'


class City(pydantic.BaseModel):
    name: str


def client(answer: bytes, kind: str = "text/event-stream") -> openai.OpenAI:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=answer, headers={"content-type": kind}))
    http: Any = httpx.Client(transport=transport)
    return openai.OpenAI(api_key="k", base_url="http://gateway.test/v1", http_client=http, max_retries=0)


def stream_of(events: list[Event], **reply: Any) -> bytes:
    encoder = Encoder(replace(REPLY, **reply))
    return encoder.encode(events) + encoder.finish(b"0")


def final(stream: bytes, **more: Any) -> Any:
    with client(stream).responses.stream(model="m", input="x", **more) as found:
        return found.get_final_response()


def answer(*parts: Any, **more: Any) -> Response:
    return Response("r", "m", (Choice(parts, **more),), Tokens(input=3, cache_read=2, output=4, reasoning=1))


ANSWER = answer(
    Thinking("Weighing", "sig", "anthropic_messages"),
    Text("Hello ", (Citation("https://e.com", "T"),)),
    Text("world."),
    ToolCall("c1", "get_weather", '{"city":"Bern"}'),
    ToolCall("c2", "tell", '{"input":"hey"}'),
    finish="tool_calls",
)


def test_the_stream_helper_takes_every_kind_of_item() -> None:
    response = final(stream_of(list(unfold(ANSWER)), tools=(CustomTool("tell"),)))
    assert (response.id, response.status, response.output_text) == ("resp_q1", "completed", "Hello world.")
    thought, message, call, custom = response.output
    assert thought.summary[0].text == "Weighing"
    assert message.content[0].annotations[0].url == "https://e.com"
    assert (call.name, call.call_id, call.arguments) == ("get_weather", "c1", '{"city":"Bern"}')
    assert (custom.type, custom.input) == ("custom_tool_call", "hey")
    usage = response.usage
    assert (usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.total_tokens) == (5, 2, 10)
    assert usage.output_tokens_details.reasoning_tokens == 1


def test_the_stream_helper_tells_texts_and_arguments_as_they_grow() -> None:
    texts, arguments = [], []
    with client(stream_of(list(unfold(ANSWER)))).responses.stream(model="m", input="x") as found:
        for event in found:
            if event.type == "response.output_text.delta":
                texts.append(event.snapshot)
            elif event.type == "response.function_call_arguments.delta":
                arguments.append(event.snapshot)
    assert texts == ["Hello ", "world."]
    assert arguments == ['{"city":"Bern"}', '{"input":"hey"}']


def test_structured_output_is_parsed() -> None:
    stream = stream_of(list(unfold(answer(Text('{"name":"Bern"}')))))
    assert final(stream, text_format=City).output_parsed == City(name="Bern")


def test_a_refusal_is_one() -> None:
    response = final(stream_of(list(unfold(answer(Refusal("No."), finish="refusal")))))
    assert response.output[0].content[0].refusal == "No."


@pytest.mark.parametrize("name", [name for name in ANSWERS if name not in ("length", "content_filter")])
def test_every_scenario_written_anew_satisfies_the_stream_helper(name: str) -> None:
    parsed = DIALECT.parse_response(raw(name, "response.json"))
    response = final(stream_of(list(unfold(parsed))))
    whole = msgspec.json.decode(DIALECT.render_response(parsed, REPLY, None))
    assert [item.to_dict()["type"] for item in response.output] == [item["type"] for item in whole["output"]]
    assert response.output_text == "".join(
        part.text for choice in parsed.choices for part in choice.parts if isinstance(part, Text)
    )


def test_an_answer_in_one_piece_is_valid_in_every_field() -> None:
    body = DIALECT.render_response(ANSWER, REPLY, None)
    response = client(body, "application/json").responses.create(model="m", input="x")
    assert response.output_text == "Hello world."
    strict = type(response).model_validate(response.to_dict(warnings=False))
    assert [item.type for item in strict.output] == ["reasoning", "message", "function_call", "function_call"]


@pytest.mark.parametrize("name", ["llama_cpp", "text", "reasoning", "parallel_tools"])
def test_a_mended_stream_satisfies_the_stream_helper(name: str) -> None:
    relay = mended(Asked("m", True, True, {}), REPLY)
    stream = relay.feed(raw(name)) + relay.end()
    assert relay.complete and relay.final_usage() is not None
    response = final(stream + relay.closing(b"0"))
    assert response.model == "my/model"
    if name == "llama_cpp":
        assert response.output_text == ".<U"
        assert response.output[1].arguments == '{"a":1}'


def broken(*, cut: bool) -> bytes:
    encoder = Encoder(REPLY)
    begun = encoder.encode([PartStarted(0, Text("")), PartDelta(0, "Half")])
    return begun + encoder.fail(ERROR, cut=cut)


def test_the_stream_helper_survives_a_stream_that_is_cut() -> None:
    with client(broken(cut=True)).responses.stream(model="m", input="x") as found:
        events: list[Any] = list(found)
    error, end = events[-2:]
    assert (error.type, error.message) == ("error", "No credit left.")
    assert end.type == "response.incomplete"
    assert end.response.incomplete_details.reason == "max_output_tokens"
    assert end.response.output_text == "Half"


def test_the_stream_helper_survives_a_stream_that_fails() -> None:
    with client(broken(cut=False)).responses.stream(model="m", input="x") as found:
        events: list[Any] = list(found)
    end = events[-1]
    assert end.type == "response.failed"
    assert (end.response.status, end.response.error.code) == ("failed", "insufficient_quota")


def test_a_relays_own_endings_are_valid() -> None:
    stream = raw("text")
    half = stream[: stream.index(b"event: response.output_text.done")]
    for cut, kind in ((True, "response.incomplete"), (False, "response.failed")):
        relay = DIALECT.relay(Asked("m", True, True, {}), REPLY)
        sent = relay.feed(half) + relay.broken(ERROR, cut=cut)
        with client(sent).responses.stream(model="m", input="x") as found:
            assert list(found)[-1].type == kind
