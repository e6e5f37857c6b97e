"""What hypothesis draws: canonical conversations and answers, and bytes that nobody should have to read."""

import base64
import copy
import json
import string
from collections.abc import Iterator
from random import Random
from typing import Any

from hypothesis import strategies as st

from gateway.wire.canonical import (
    Audio,
    Choice,
    Citation,
    Effort,
    Finish,
    Image,
    Inline,
    Logprob,
    Message,
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
    alternate,
)
from gateway.wire.usage import Tokens

ORIGINS = ("openai_chat", "openai_responses", "anthropic_messages", "gemini_generate_content")
FINISHES: tuple[Finish, ...] = ("stop", "stop_sequence", "length", "tool_calls", "content_filter", "refusal", "pause")
# Some are easily taken for something else: events' borders, marks, ends of streams, ids.
AWKWARD = (
    "\n\ndata: [DONE]\n\n",
    "\u2028\x85\x00",
    "aperture1.x.y.z",
    "<think>",
    "__aps_",
    '{"a":',
    "👋🏽",
    " ",
    "null",
)

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(AWKWARD)
names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8).map(lambda name: "t" + name)
signatures = st.binary(min_size=1, max_size=12).map(lambda data: base64.b64encode(data).decode())
ids = st.integers(0, 10**6).map("call_{}".format)
arguments = st.dictionaries(names, st.integers(-9, 9) | words | st.none(), max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
)
citations = st.builds(Citation, url=st.just("https://a.example/"), title=words, quote=words)
texts = st.builds(Text, text=words)
images = st.builds(Image, source=st.builds(Inline, media_type=st.just("image/png"), data=signatures))
calls = st.builds(ToolCall, id=ids, name=names, arguments=arguments)
any_thinking = st.builds(
    Thinking,
    text=words,
    signature=signatures | st.just(""),
    origin=st.sampled_from(ORIGINS) | st.just(""),
    is_summary=st.booleans(),
)
any_part: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, text=words | st.just(""), citations=st.lists(citations, max_size=2).map(tuple)),
    any_thinking,
    calls,
    st.builds(Refusal, words),
    images,
    st.builds(Audio, source=st.builds(Inline, media_type=st.just("audio/wav"), data=signatures), transcript=words),
)
tokens = st.builds(Tokens, input=st.integers(0, 9999), output=st.integers(0, 999), cache_read=st.integers(0, 99))
logprobs = st.builds(Logprob, token=words, logprob=st.floats(-9, 0))


def responses() -> st.SearchStrategy[Response]:
    """Any answer at all, of parts that no one vendor has together."""
    choices = st.builds(
        Choice,
        parts=st.lists(any_part, max_size=5).map(tuple),
        finish=st.sampled_from(FINISHES),
        logprobs=st.lists(logprobs, max_size=2).map(tuple),
    )
    return st.builds(
        Response,
        id=words,
        model=words,
        choices=st.lists(choices, max_size=3).map(tuple),
        usage=tokens | st.none(),
        created=st.integers(0, 2**31),
    )


# --- Conversations --------------------------------------------------------------------------------------------------
# Vendors refuse texts of nothing but white space, and some take it off an end.
said = words.map(lambda text: Text(f"x{text}x"))
thoughts = st.builds(
    Thinking, text=words.map("x{}x".format), signature=signatures, origin=st.sampled_from(ORIGINS), id=st.just("")
)
choices_of_tools = st.builds(ToolChoice, mode=st.sampled_from(["auto", "none", "required"]))


@st.composite
def turns(draw: st.DrawFn, number: int) -> list[Message]:
    """What a user says, what a model says to it, and what the tools answer that it called."""
    called = draw(st.lists(st.sampled_from(TOOLS), max_size=3))
    made = tuple(ToolCall(f"call_{number}_{at}", name, draw(arguments)) for at, name in enumerate(called))
    results = tuple(ToolResult(call.id, (draw(said),), call.name) for call in made)
    thought = draw(st.lists(thoughts, max_size=1))
    return [
        Message("user", tuple(draw(st.lists(said | images, min_size=1, max_size=3)))),
        Message("assistant", (*thought, draw(said), *made)),
        *([Message("tool", results)] if results else []),
    ]


TOOLS = ("read", "write", "run")


@st.composite
def requests(draw: st.DrawFn, dialect: str) -> Request:
    """Any conversation, with any tuning."""
    messages = [Message("system", (draw(said),))] if draw(st.booleans()) else []
    for number in range(draw(st.integers(0, 3))):
        messages += draw(turns(number))
    messages.append(Message("user", (draw(said),)))
    effort: st.SearchStrategy[Effort] = st.sampled_from(["low", "medium", "high"])
    return Request(
        dialect=dialect,
        model="m",
        messages=alternate(messages),
        tools=tuple(Tool(name, draw(words), {"type": "object", "properties": {}}) for name in TOOLS),
        tool_choice=draw(choices_of_tools | st.none()),
        max_tokens=draw(st.integers(40_000, 60_000) | st.none()),
        temperature=draw(st.floats(0, 1) | st.none()),
        top_k=draw(st.integers(1, 99) | st.none()),
        seed=draw(st.integers(0, 2**31 - 1) | st.none()),
        stop=tuple(draw(st.lists(words.map("x{}".format), max_size=2, unique=True))),
        reasoning=draw(st.builds(Reasoning, effort=effort) | st.none()),
        stream=draw(st.booleans()),
    )


plain_answers = st.builds(
    Response,
    id=st.just("r"),
    model=st.just("m"),
    choices=st.builds(
        Choice,
        parts=st.tuples(
            st.lists(thoughts, max_size=1), said, st.lists(calls, max_size=2, unique_by=lambda call: call.id)
        ).map(lambda drawn: (*drawn[0], drawn[1], *drawn[2])),
        finish=st.just("stop"),
    ).map(lambda choice: (choice,)),
    usage=tokens,
)


# --- Bytes ----------------------------------------------------------------------------------------------------------
# Stands for lists in lists, as deep as a request may be: nothing here could walk through them.
DEEP = "@deep@"
DEEP_JSON = "[" * 480 + "]" * 480
HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**18, -(10**18), 1e308, "", "x", "\u0000", "x" * 5000, [], [[]], [None], [1], ["x"],
    {}, {"": None}, {"type": 7}, {"type": "x"}, {"text": 1}, [{}], [{"type": "text", "text": None}], "data:,",
    DEEP, [DEEP], "data:image/png;base64,é", "aperture1.x.y.z", "call__aps_YQ_YQ", "9" * 400,
)  # fmt: skip


def spoilt(value: Any, random: Random) -> Any:
    """Return JSON with one to three of its places changed: another value, a name gone, a list doubled."""
    value = copy.deepcopy(value)
    for _ in range(random.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return copy.deepcopy(random.choice(HOSTILE))
        holder, key = random.choice(places)
        what = random.random()
        if what < 0.15:
            del holder[key]
        elif what < 0.25 and isinstance(holder[key], list):
            holder[key] = holder[key] + copy.deepcopy(holder[key])
        elif what < 0.35 and isinstance(holder, dict):
            holder["x" + key] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(random.choice(HOSTILE))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    inner = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, each in inner:
        yield value, key
        yield from _places(each)


def dumped(value: Any) -> bytes:
    """Return spoilt JSON as bytes."""
    return json.dumps(value).replace(json.dumps(DEEP), DEEP_JSON).encode()


def torn(data: bytes, random: Random) -> bytes:
    """Return bytes with a piece gone, doubled or replaced by others."""
    start = random.randrange(len(data) + 1)
    end = min(len(data), start + random.randint(0, 40))
    return (
        data[:start]
        + random.choice((b"", data[start:end] * 2, random.randbytes(5), b"\n\n", b"\xff", b"}"))
        + data[end:]
    )
