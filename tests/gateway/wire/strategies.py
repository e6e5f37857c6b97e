"""What hypothesis draws: canonical conversations and answers, and bytes that nobody should have to read."""

import base64
import json
import string

from hypothesis import strategies as st

from gateway.wire.canonical import (
    Audio,
    Choice,
    Citation,
    Finish,
    Image,
    Inline,
    Logprob,
    Part,
    Refusal,
    Response,
    Text,
    Thinking,
    ToolCall,
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
