"""Conversations and answers, one for each thing that a dialect may or may not have; the matrix takes them everywhere.

A scenario's request has no dialect: `test_matrix` gives it each. What a vendor would refuse is left out on purpose of
scenarios about something else, so that each of them fails for one reason only.
"""

from dataclasses import dataclass
from typing import Any

from gateway.wire.canonical import (
    Audio,
    Choice,
    Citation,
    CustomTool,
    Document,
    Image,
    Inline,
    Logprob,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
)
from gateway.wire.usage import Tokens

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJSVFT0YK"
WAV = "UklGRiQAAABXQVZFZm10IA=="
# Signatures as vendors write them: base64, and for Gemini bytes that are base64 in JSON.
SIGNATURE = "EqQBCgIYAhIMxVZc0m/+aGk="
TOKENS = Tokens(input=11, output=7)
CREATED = 1_700_000_000
ORIGINS = ("openai_chat", "openai_responses", "anthropic_messages", "gemini_generate_content")

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED = {**SCHEMA, "additionalProperties": False}
WEATHER = Tool("weather", "The weather in a city.", SCHEMA)
TIME = Tool("time", "What time it is.", SCHEMA)


@dataclass(frozen=True)
class Scenario:
    """A request, and the answer to it."""

    request: Request
    response: Response


def user(*parts: Part) -> Message:
    return Message("user", parts)


def assistant(*parts: Part) -> Message:
    return Message("assistant", parts)


def system(text: str) -> Message:
    return Message("system", (Text(text),))


def tool(*results: ToolResult) -> Message:
    return Message("tool", results)


def call(id: str = "call_1", name: str = "weather", **more: Any) -> ToolCall:
    return ToolCall(id, name, '{"city":"Köln"}', **more)


def result(*parts: Any, id: str = "call_1", name: str = "weather", **more: Any) -> ToolResult:
    return ToolResult(id, parts or (Text("sunny"),), name, **more)


def asking(*messages: Message, **more: Any) -> Request:
    """Return a request; without messages it says hello."""
    return Request(dialect="", model="m", messages=messages or (user(Text("Hello")),), **more)


def saying(*parts: Part, finish: Any = "stop", usage: Tokens = TOKENS, **more: Any) -> Response:
    """Return an answer; without parts it says hello."""
    choice = Choice(parts or (Text("Grüße, 世界 👋🏽!"),), finish, **more)
    return Response("r", "m", (choice,), usage, CREATED)


HELLO = saying()
CALLS = saying(call(), finish="tool_calls")


def looped(*results: ToolResult, calls: tuple[Part, ...] = (call(),), **more: Any) -> Request:
    """Return a request in the middle of a loop of tools."""
    return asking(user(Text("Weather?")), assistant(*calls), tool(*results), tools=(WEATHER, TIME), **more)


def thinking(origin: str, text: str = "Let me think.", **more: Any) -> Scenario:
    """A thought that a vendor signed, in the conversation and in the answer."""
    thought = Thinking(text, SIGNATURE, origin, **more)
    asked = asking(
        user(Text("Weather?")),
        assistant(thought, Text("Let me look."), call()),
        tool(result()),
        tools=(WEATHER,),
    )
    return Scenario(asked, saying(thought, Text("Hello")))


def used(**counts: Any) -> Scenario:
    """An answer with this usage."""
    return Scenario(asking(), saying(usage=Tokens(**counts)))


LIKELY = Logprob("Hi", -0.25, (72, 105), (Logprob("Hi", -0.25, (72, 105)), Logprob("Ho", -1.5, (72, 111))))
CITED = Text("It rained.", (Citation("https://a.example/", "Weather", "", 0, 10),))

SCENARIOS: dict[str, Scenario] = {
    "text": Scenario(asking(), HELLO),
    "instructions": Scenario(asking(system("Be kind."), user(Text("Hello"))), HELLO),
    "instructions late": Scenario(
        asking(
            system("Be kind."), user(Text("Hello")), assistant(Text("Hi")), user(Text("Go on")), system("In French.")
        ),
        HELLO,
    ),
    "turns": Scenario(asking(user(Text("a"), Text("b")), assistant(Text("c")), user(Text("d"))), HELLO),
    "image by address": Scenario(asking(user(Text("What?"), Image(Url("https://a.example/i.png")))), HELLO),
    "image": Scenario(asking(user(Text("What?"), Image(Inline("image/png", PNG)))), HELLO),
    "image detail": Scenario(asking(user(Text("What?"), Image(Inline("image/png", PNG), "high"))), HELLO),
    "pdf": Scenario(asking(user(Document(Inline("application/pdf", PDF), "a.pdf"), Text("Sum up."))), HELLO),
    "audio in": Scenario(asking(user(Text("Listen."), Audio(Inline("audio/wav", WAV)))), HELLO),
    "tools": Scenario(asking(tools=(WEATHER, TIME)), CALLS),
    "tool without parameters": Scenario(
        asking(tools=(Tool("ping"),)), saying(ToolCall("c", "ping", "{}"), finish="tool_calls")
    ),
    "strict tool": Scenario(asking(tools=(Tool("weather", "", CLOSED, strict=True),)), CALLS),
    "talk and a call": Scenario(asking(tools=(WEATHER,)), saying(Text("Let me look."), call(), finish="tool_calls")),
    "parallel calls": Scenario(
        looped(result(), result(Text("noon"), id="call_2", name="time"), calls=(call(), call("call_2", "time"))),
        saying(call(), call("call_2", "time"), finish="tool_calls"),
    ),
    "one call at a time": Scenario(asking(tools=(WEATHER,), parallel_tool_calls=False), CALLS),
    "tool result": Scenario(looped(result()), HELLO),
    "tool result and a word": Scenario(
        asking(user(Text("Weather?")), assistant(call()), tool(result()), user(Text("And?")), tools=(WEATHER,)), HELLO
    ),
    "tool result with an image": Scenario(looped(result(Text("a map"), Image(Inline("image/png", PNG)))), HELLO),
    "tool error": Scenario(looped(result(Text("no such city"), is_error=True)), HELLO),
    "tool choice auto": Scenario(asking(tools=(WEATHER,), tool_choice=ToolChoice("auto")), CALLS),
    "tool choice none": Scenario(asking(tools=(WEATHER,), tool_choice=ToolChoice("none")), HELLO),
    "tool choice required": Scenario(asking(tools=(WEATHER,), tool_choice=ToolChoice("required")), CALLS),
    "tool choice named": Scenario(asking(tools=(WEATHER, TIME), tool_choice=ToolChoice("required", ("time",))), CALLS),
    "tool choice of two": Scenario(
        asking(tools=(WEATHER, TIME, Tool("ping")), tool_choice=ToolChoice("required", ("weather", "time"))), CALLS
    ),
    "json": Scenario(asking(output=OutputFormat()), saying(Text('{"city":"Köln"}'))),
    "json schema": Scenario(asking(output=OutputFormat(CLOSED, "place", "", True)), saying(Text('{"city":"Köln"}'))),
    "effort": Scenario(asking(reasoning=Reasoning("high"), max_tokens=40_000), HELLO),
    "budget": Scenario(asking(reasoning=Reasoning(budget_tokens=16_384), max_tokens=40_000), HELLO),
    "no reasoning": Scenario(asking(reasoning=Reasoning("none")), HELLO),
    "summary": Scenario(
        asking(reasoning=Reasoning("high", summary="auto"), max_tokens=40_000),
        saying(Thinking("In short.", is_summary=True), Text("Hello")),
    ),
    **{f"thinking of {origin}": thinking(origin) for origin in ORIGINS},
    "thinking with an id": thinking("openai_responses", id="rs_1", is_summary=True),
    "redacted thinking": thinking("anthropic_messages", "", redacted=True),
    "unsigned thinking": Scenario(asking(), saying(Thinking("Let me think."), Text("Hello"))),
    "signed call": Scenario(
        looped(result(), calls=(call(signature=SIGNATURE, origin="gemini_generate_content"),)),
        saying(call(signature=SIGNATURE, origin="gemini_generate_content"), finish="tool_calls"),
    ),
    "stop sequences": Scenario(
        asking(stop=("END", "STOP")), saying(Text("a"), finish="stop_sequence", stop_sequence="END")
    ),
    "length": Scenario(asking(max_tokens=64), saying(finish="length")),
    "content filter": Scenario(asking(), saying(Text("I"), finish="content_filter")),
    "refusal": Scenario(asking(), saying(Refusal("I can not."), finish="refusal")),
    "logprobs": Scenario(asking(logprobs=True, top_logprobs=2), saying(Text("Hi"), logprobs=(LIKELY,))),
    "citations": Scenario(asking(), saying(CITED)),
    "cache hints": Scenario(
        asking(
            Message("system", (Text("Be kind.", cache="1h"),)),
            user(Text("Hello", cache="5m")),
            tools=(Tool("weather", "", SCHEMA, cache="5m"),),
        ),
        HELLO,
    ),
    "custom tool": Scenario(
        asking(
            user(Text("Patch.")),
            assistant(ToolCall("call_1", "patch", "*** Begin", custom=True)),
            tool(ToolResult("call_1", (Text("done"),), "patch", custom=True)),
            tools=(CustomTool("patch", "Change files."),),
        ),
        saying(ToolCall("call_2", "patch", "*** Begin", custom=True), finish="tool_calls"),
    ),
    "namespace": Scenario(
        asking(
            user(Text("Read.")),
            assistant(call(name="read", namespace="files")),
            tool(result(name="read")),
            tools=(Tool("read", "", SCHEMA, namespace="files"),),
        ),
        saying(call(name="read", namespace="files"), finish="tool_calls"),
    ),
    "two choices": Scenario(
        asking(choices=2),
        Response("r", "m", (Choice((Text("a"),)), Choice((Text("b"),), "length")), TOKENS, CREATED),
    ),
    "sampling": Scenario(asking(temperature=0.5, top_p=0.9, max_tokens=64), HELLO),
    "top k": Scenario(asking(top_k=40), HELLO),
    "penalties": Scenario(asking(frequency_penalty=0.5, presence_penalty=-0.5), HELLO),
    "seed": Scenario(asking(seed=7), HELLO),
    "logit bias": Scenario(asking(logit_bias={"50256": -100.0}), HELLO),
    "verbosity": Scenario(asking(verbosity="low"), HELLO),
    "tier": Scenario(asking(service_tier="flex"), saying(usage=Tokens(input=11, output=7, service_tier="flex"))),
    "metadata": Scenario(asking(metadata={"team": "a"}), HELLO),
    "user": Scenario(asking(user="u-1"), HELLO),
    "cache key": Scenario(asking(cache_key="k-1"), HELLO),
    "cached input": used(input=8, cache_read=3, output=7),
    "cache writes": used(input=8, cache_read=3, cache_write_5m=2, cache_write_1h=1, output=7),
    "reasoning tokens": used(input=11, output=3, reasoning=4),
    "audio tokens": used(input=6, audio_input=5, output=7),
    "searches": used(input=11, output=7, web_searches=2),
}
