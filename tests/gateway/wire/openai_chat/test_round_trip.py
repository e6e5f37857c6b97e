"""Any answer that this dialect can say, written whole or as a stream cut anywhere, is read as it was."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.accumulate import fold, unfold
from gateway.wire.canonical import Choice, Part, Refusal, Response, Text, Thinking, ToolCall
from gateway.wire.codec import Reply
from gateway.wire.openai_chat import DIALECT

REPLY = Reply("7", "mine", 7)
SAID = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
# A text that begins with a tag is another thing.
TEXT = SAID.filter(lambda text: not text.lstrip().startswith("<"))
SHOWN = st.builds(
    lambda text, signature, id, is_summary: Thinking(
        text, signature, "openai_chat" if signature else "", id=id, is_summary=is_summary
    ),
    SAID,
    st.sampled_from(["", "s", "a|b"]),
    st.sampled_from(["", "rs_1"]),
    st.booleans(),
)
HIDDEN = st.builds(lambda data: Thinking("", data, "openai_chat", redacted=True), st.sampled_from(["s", "a|b"]))
CALLS = st.builds(
    lambda number, name, custom: ToolCall(f"c{number}", name, "in" if custom else '{"a":1}', custom=custom),
    st.integers(0, 99),
    SAID,
    st.booleans(),
)


def choice(thoughts: list[Part], text: str, refusal: str, calls: list[Part], finish: Any) -> Choice:
    parts = [*thoughts, *([Text(text)] if text else []), *([Refusal(refusal)] if refusal else []), *calls]
    if finish == "stop" and (calls or refusal):
        finish = "tool_calls" if calls else "refusal"
    return Choice(tuple(parts), finish)


CHOICES = st.builds(
    choice,
    st.lists(SHOWN | HIDDEN, max_size=3),
    st.just("") | TEXT,
    st.just("") | SAID,
    st.lists(CALLS, max_size=3, unique_by=lambda call: call.id),
    st.sampled_from(["stop", "length", "content_filter"]),
)


@given(st.lists(CHOICES, min_size=1, max_size=2), st.integers(0, 40))
def test_an_answer_is_read_as_it_was_written(choices: list[Choice], cut: int) -> None:
    response = Response("id", "mine", tuple(choices), None, 5)
    events = list(unfold(response))
    encoder, decoder = DIALECT.stream_encoder(REPLY), DIALECT.stream_decoder()
    stream = encoder.encode(events[:cut]) + encoder.encode(events[cut:]) + encoder.finish(b"0")
    assert fold(decoder.feed(stream) + decoder.finish()) == response
    assert DIALECT.parse_response(DIALECT.render_response(response, REPLY, None)) == response
