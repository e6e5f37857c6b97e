"""A conversation is known by what the client says, else by how it began."""

import json
from typing import Any

import pytest

from gateway import session
from gateway.wire.openai_chat import parse_request

SYSTEM = {"role": "system", "content": "Be brief."}
FIRST = {"role": "user", "content": "Hello"}
NEXT = [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "More"}]


def find(headers: dict[bytes, bytes] | None = None, key_id: int = 1, **fields: Any) -> str:
    request = parse_request(json.dumps({"model": "m"} | fields).encode())
    return session.find(headers or {}, request.fields, key_id)


def test_the_client_s_word_wins_header_before_body() -> None:
    assert find({b"x-session-id": b"h", b"conversation_id": b"c"}, session_id="b") == "h"
    assert find({b"x-session-id": b"", b"conversation_id": b"c"}) == "c"
    assert find(session_id="b", prompt_cache_key="p") == "b"
    assert find(session_id=7, prompt_cache_key="p\u00e9\n") == "p\u00e9\n"
    assert find({b"x-session-id": b"x" * 99}) == "x" * 64
    assert find(session_id="y" * 99) == "y" * 64


@pytest.mark.parametrize("fields", [{"session_id": ""}, {"session_id": None}, {"session_id": {"a": 1}}, {}])
def test_without_a_word_every_turn_of_a_conversation_has_one_fingerprint(fields: dict[str, Any]) -> None:
    first = find(messages=[SYSTEM, FIRST], **fields)
    assert len(first) == 24
    assert find(messages=[SYSTEM, FIRST, *NEXT], **fields) == first
    assert find(messages=[FIRST, *NEXT], **fields) != first
    assert find(messages=[SYSTEM, FIRST], key_id=2, **fields) != first


@pytest.mark.parametrize("messages", [None, [], "text", {"role": "user"}, [1, 2], [None], [{"role": 1}]])
def test_messages_of_any_kind_raise_nothing(messages: Any) -> None:
    assert isinstance(find(messages=messages), str)


def test_a_request_without_messages_is_no_conversation() -> None:
    assert find(input="text") == ""


def test_a_long_preamble_is_not_read_to_its_end() -> None:
    beginning = [SYSTEM] * session.BEGINNING_MESSAGES_MAX
    assert find(messages=[*beginning, FIRST]) == find(messages=[*beginning, *NEXT])
