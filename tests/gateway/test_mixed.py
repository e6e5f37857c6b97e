"""What is asked in the words of Responses at the chat's address is answered in those of the chat."""

import json
from typing import Any

import pytest

from gateway import calls, embeddings, fronts, mixed
from gateway.wire.fields import InvalidRequest


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "stream": True, **fields}).encode()


def meant(sent: bytes) -> str:
    return calls.meant(fronts.CHAT, fronts.CHAT.front.read(sent, None, None)).front.name


def test_a_request_with_input_and_no_messages_is_one_of_responses() -> None:
    assert meant(body(input="x")) == "openai_responses_in_chat"
    assert meant(body(messages=[])) == meant(body(messages=[], input="x")) == meant(body()) == "openai_chat"


def test_the_route_of_embeddings_keeps_its_input() -> None:
    assert calls.meant(embeddings.OPENAI_ROUTE, mixed.read(body(input="x"), None, None)) is embeddings.OPENAI_ROUTE


@pytest.mark.parametrize(("options", "wanted"), [({}, False), ({"stream_options": {"include_usage": True}}, True)])
def test_usage_comes_as_a_chat_s_does(options: dict[str, Any], wanted: bool) -> None:
    asked = mixed.read(body(input="x", max_output_tokens=9, **options), None, None)
    assert (asked.wants_usage, asked.max_tokens) == (wanted, 9)
    assert "stream_options" not in asked.fields


def test_an_answer_that_is_not_kept_cannot_be_gone_on_with() -> None:
    with pytest.raises(InvalidRequest, match="the whole conversation") as refused:
        mixed.read(body(input="x", previous_response_id="resp_1"), None, None)
    assert refused.value.param == "previous_response_id"
