"""The `anthropic` package on every kind of upstream: messages whole and streamed, its tool runner, its counts."""

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, beta_tool
from anthropic.types import Message, TextBlock, ThinkingBlock, ToolUseBlock
from pydantic import BaseModel

from tests.gateway.conftest import Gateway
from tests.sdk import vendors
from tests.upstream.messages import VENDOR
from tests.upstream.turn import REFUSAL, THOUGHT, signature

pytestmark = pytest.mark.server

TEXT = "Grüße, 世界 👋🏽!"
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 60).decode()
TWICE = "The weather in two cities? Say it twice, think aloud."
TOOL: Any = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}
WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[Anthropic]:
    """The package, pointed here."""
    vendors.install(gateway.installed, gateway.upstream.base_url)
    gateway.follow()
    with Anthropic(
        api_key=gateway.installed.key, base_url=f"http://127.0.0.1:{gateway.port}", max_retries=0, timeout=20
    ) as made:
        yield made


@pytest.fixture(params=vendors.VENDORS)
def vendor(request: pytest.FixtureRequest) -> str:
    """Whose dialect the upstream speaks."""
    return str(request.param)


def said(client: Anthropic, streamed: bool, **asked: Any) -> Message:
    """Return an answer, however it comes."""
    asked = {"max_tokens": 4096, **asked}
    if not streamed:
        message: Message = client.messages.create(**asked)
        return message
    with client.messages.stream(**asked) as stream:
        return stream.get_final_message()


def text_of(message: Message) -> str:
    """Return what a message says."""
    return "".join(block.text for block in message.content if block.type == "text")


def results(message: Message, content: Any = "sunny") -> dict[str, Any]:
    """Return the user's answer to every call of a message."""
    calls = [block for block in message.content if block.type == "tool_use"]
    return {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": call.id, "content": content} for call in calls],
    }


# --- Text -------------------------------------------------------------------------------------------------------------
def test_a_message(client: Anthropic, vendor: str) -> None:
    message = client.messages.create(
        model=f"{vendor}/agent",
        max_tokens=100,
        system="Be kind.",
        messages=[{"role": "user", "content": "Hello"}],
    )
    assert isinstance(message, Message)
    assert (message.type, message.role, message.model) == ("message", "assistant", f"{vendor}/agent")
    assert [type(block) for block in message.content] == [TextBlock]
    assert (text_of(message), message.stop_reason, message.stop_sequence) == (TEXT, "end_turn", None)
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (8, 3)
    assert message.usage.output_tokens == 7


def test_a_message_as_a_stream(client: Anthropic, vendor: str) -> None:
    with client.messages.stream(
        model=f"{vendor}/agent", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
    ) as stream:
        events = list(stream)
        final = stream.get_final_message()
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")
    assert "".join(event.text for event in events if event.type == "text") == TEXT
    assert [block.text for block in final.content if block.type == "text"] == [TEXT]
    assert (final.model, final.stop_reason) == (f"{vendor}/agent", "end_turn")
    assert (final.usage.input_tokens, final.usage.cache_read_input_tokens, final.usage.output_tokens) == (8, 3, 7)


def test_the_raw_events_of_a_stream(client: Anthropic, vendor: str) -> None:
    events = list(
        client.messages.create(
            model=f"{vendor}/agent", max_tokens=100, messages=[{"role": "user", "content": "Hello"}], stream=True
        )
    )
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}


@WAYS
def test_an_answer_that_was_cut_by_its_length(client: Anthropic, vendor: str, streamed: bool) -> None:
    message = said(client, streamed, model=f"{vendor}/length", messages=[{"role": "user", "content": "x"}])
    assert (text_of(message), message.stop_reason) == ("Grüße, ", "max_tokens")


@WAYS
def test_an_answer_that_was_refused(client: Anthropic, vendor: str, streamed: bool) -> None:
    message = said(client, streamed, model=f"{vendor}/refuses", messages=[{"role": "user", "content": "x"}])
    assert message.stop_reason == "refusal"
    # Gemini gives no words for it.
    assert text_of(message) == ("" if vendor == "gemini" else REFUSAL)


# --- Tools ------------------------------------------------------------------------------------------------------------
@WAYS
def test_a_loop_of_tools(client: Anthropic, vendor: str, streamed: bool) -> None:
    messages: list[Any] = [{"role": "user", "content": TWICE}]
    asked: dict[str, Any] = {"model": f"{vendor}/agent", "tools": [TOOL]}
    message = said(client, streamed, messages=messages, **asked)
    calls = [block for block in message.content if isinstance(block, ToolUseBlock)]
    assert message.stop_reason == "tool_use"
    assert [(call.name, call.input) for call in calls] == [("get_weather", {"city": "Köln"})] * 2
    assert len({call.id for call in calls} - {""}) == 2
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    final = said(client, streamed, messages=messages, **asked)
    assert "The tool said: sunny" in text_of(final)
    assert final.stop_reason == "end_turn"


@WAYS
def test_thoughts_in_a_loop_of_tools(client: Anthropic, vendor: str, streamed: bool, gateway: Gateway) -> None:
    """Where Anthropic answers, its signature is that of its thought and comes back to it; elsewhere it goes on."""
    messages: list[Any] = [{"role": "user", "content": TWICE}]
    asked: dict[str, Any] = {"model": f"{vendor}/agent", "tools": [TOOL], "thinking": THINKING}
    message = said(client, streamed, messages=messages, **asked)
    [thought] = [block for block in message.content if isinstance(block, ThinkingBlock)]
    assert message.content[0] is thought
    assert thought.thinking == "".join(THOUGHT)
    assert (thought.signature == signature(VENDOR, "".join(THOUGHT))) is (vendor == "messages")
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    final = said(client, streamed, messages=messages, **asked)
    assert "The tool said: sunny" in text_of(final)
    sent = gateway.upstream.last("agent").json
    if vendor == "messages":
        assert sent["messages"][1]["content"][0] == {
            "type": "thinking",
            "thinking": "".join(THOUGHT),
            "signature": signature(VENDOR, "".join(THOUGHT)),
        }


@WAYS
def test_the_tool_runner(client: Anthropic, vendor: str, streamed: bool) -> None:
    asked_for = []

    @beta_tool
    def get_weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: Its name.
        """
        asked_for.append(city)
        return "sunny"

    runner: Any = client.beta.messages.tool_runner(
        model=f"{vendor}/agent",
        max_tokens=4096,
        tools=[get_weather],
        messages=[{"role": "user", "content": TWICE}],
        stream=streamed,
        thinking=THINKING,
    )
    turns = [turn.get_final_message() if streamed else turn for turn in runner]
    assert asked_for == ["Köln", "Köln"]
    assert [turn.stop_reason for turn in turns] == ["tool_use", "end_turn"]
    assert "The tool said: sunny" in text_of(turns[-1])


@WAYS
def test_a_tool_that_failed_and_one_that_shows_a_picture(
    client: Anthropic, gateway: Gateway, vendor: str, streamed: bool
) -> None:
    messages: list[Any] = [{"role": "user", "content": TWICE}]
    asked: dict[str, Any] = {"model": f"{vendor}/agent", "tools": [TOOL]}
    message = said(client, streamed, messages=messages, **asked)
    answered = results(message)
    answered["content"][0] |= {"content": "no such city", "is_error": True}
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    answered["content"][1]["content"] = [{"type": "text", "text": "seen:"}, {"type": "image", "source": source}]
    messages += [{"role": "assistant", "content": message.content}, answered]
    said(client, streamed, messages=messages, **asked)
    sent = gateway.upstream.exchanges[-1].body
    assert b"no such city" in sent
    assert PIXEL.encode() in sent


# --- Structured output ------------------------------------------------------------------------------------------------
@WAYS
def test_a_structured_message(client: Anthropic, vendor: str, streamed: bool) -> None:
    asked: dict[str, Any] = {
        "model": f"{vendor}/agent",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "A city"}],
    }
    if streamed:
        with client.messages.stream(output_format=City, **asked) as stream:
            parsed = stream.get_final_message().parsed_output
    else:
        parsed = client.messages.parse(output_format=City, **asked).parsed_output
    assert parsed == City(name="Köln", people=7)


# --- Images -----------------------------------------------------------------------------------------------------------
@WAYS
def test_a_picture(client: Anthropic, vendor: str, streamed: bool) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What?"}]
    message = said(client, streamed, model=f"{vendor}/agent", messages=[{"role": "user", "content": content}])
    assert text_of(message) == "I see image/png of 68 bytes"


# --- Errors -----------------------------------------------------------------------------------------------------------
@WAYS
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, anthropic.BadRequestError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
    ],
)
def test_an_error(
    client: Anthropic, vendor: str, status: int, kind: type[anthropic.APIStatusError], streamed: bool
) -> None:
    with pytest.raises(kind) as caught:
        said(client, streamed, model=f"{vendor}/status-{status}-json", messages=[{"role": "user", "content": "x"}])
    assert caught.value.status_code == (502 if status == 500 else status)
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["message"]
    assert "canary" not in str(body)
    assert caught.value.request_id


@pytest.mark.parametrize("scenario", ["error-mid-stream", "reset-mid-3"])
def test_a_stream_that_breaks_is_an_exception_and_not_an_end(client: Anthropic, vendor: str, scenario: str) -> None:
    asked: dict[str, Any] = {"max_tokens": 100, "messages": [{"role": "user", "content": "x"}]}
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        client.messages.stream(model=f"{vendor}/{scenario}", **asked) as stream,
    ):
        stream.get_final_message()
    body: Any = caught.value.body
    assert body["error"]["type"] in ("api_error", "overloaded_error")
    assert "canary" not in str(body)


def test_a_model_that_does_not_exist(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="nobody/nothing"):
        said(client, False, model="nobody/nothing", messages=[{"role": "user", "content": "x"}])


def test_a_key_that_is_unknown(client: Anthropic) -> None:
    with pytest.raises(anthropic.AuthenticationError) as caught:
        said(
            client.with_options(api_key="sk-unknown"),
            False,
            model="messages/agent",
            messages=[{"role": "user", "content": "x"}],
        )
    body: Any = caught.value.body
    assert body["error"]["type"] == "authentication_error"


# --- What goes with it ------------------------------------------------------------------------------------------------
def test_tokens_are_counted(client: Anthropic, vendor: str) -> None:
    raw = client.messages.with_raw_response.count_tokens(
        model=f"{vendor}/agent", system="Be kind.", messages=[{"role": "user", "content": "Hello"}], tools=[TOOL]
    )
    assert raw.parse().input_tokens > 10
    assert raw.headers.get("x-aperture-estimate") == (None if vendor == "messages" else "true")


def test_models_are_listed_and_looked_up(client: Anthropic, vendor: str) -> None:
    assert f"{vendor}/agent" in {model.id for model in client.models.list()}
    found = client.models.retrieve(f"{vendor}/agent")
    assert (found.type, found.id, found.display_name) == ("model", f"{vendor}/agent", f"{vendor}/agent")
    assert found.created_at.year >= 2024


@WAYS
def test_what_marks_a_prompt_for_the_cache_reaches_anthropic_untouched(
    client: Anthropic, gateway: Gateway, streamed: bool
) -> None:
    hour: Any = {"type": "ephemeral", "ttl": "1h"}
    asked: dict[str, Any] = {
        "system": [{"type": "text", "text": "Be kind.", "cache_control": hour}],
        "tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "none"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}
        ],
    }
    message = said(client, streamed, model="messages/agent", **asked)
    assert text_of(message) == TEXT
    sent = gateway.upstream.last("agent").json
    assert {name: sent[name] for name in asked} == asked


@pytest.mark.parametrize("elsewhere", ["chat", "responses", "gemini"])
def test_what_marks_a_prompt_for_the_cache_is_no_hindrance_elsewhere(client: Anthropic, elsewhere: str) -> None:
    mark: Any = {"type": "ephemeral"}
    message = client.messages.create(
        model=f"{elsewhere}/agent",
        max_tokens=100,
        cache_control=mark,
        system=[{"type": "text", "text": "Be kind.", "cache_control": mark}],
        tools=[TOOL | {"cache_control": mark}],
        messages=[{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": mark}]}],
    )
    assert message.stop_reason == "tool_use"


@WAYS
@pytest.mark.parametrize("scenario", ["agent", "agent-strict"])
def test_a_conversation_whose_model_is_switched(client: Anthropic, streamed: bool, scenario: str) -> None:
    """All that the models before said, thoughts and calls included, goes with it to the next vendor and back."""
    messages: list[Any] = []
    for vendor in ("messages", "chat", "gemini", "responses", "messages"):
        asked: dict[str, Any] = {"model": f"{vendor}/{scenario}", "tools": [TOOL], "thinking": THINKING}
        messages.append({"role": "user", "content": TWICE})
        called = said(client, streamed, messages=messages, **asked)
        assert called.stop_reason == "tool_use", vendor
        messages += [{"role": "assistant", "content": called.content}, results(called)]
        final = said(client, streamed, messages=messages, **asked)
        assert "The tool said: sunny" in text_of(final), vendor
        assert "".join(THOUGHT) in [block.thinking for block in final.content if block.type == "thinking"], vendor
        messages.append({"role": "assistant", "content": final.content})


@WAYS
@pytest.mark.parametrize("first", vendors.VENDORS)
@pytest.mark.parametrize("second", vendors.VENDORS)
def test_a_model_that_is_switched_before_a_tool_answers(
    client: Anthropic, first: str, second: str, streamed: bool
) -> None:
    asked: dict[str, Any] = {"tools": [TOOL], "thinking": THINKING}
    messages: list[Any] = [{"role": "user", "content": TWICE}]
    called = said(client, streamed, model=f"{first}/agent-strict", messages=messages, **asked)
    messages += [{"role": "assistant", "content": called.content}, results(called)]
    final = said(client, streamed, model=f"{second}/agent-strict", messages=messages, **asked)
    assert "The tool said: sunny" in text_of(final)
