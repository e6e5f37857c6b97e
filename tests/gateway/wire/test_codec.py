"""What is no answer is unreadable, and the message holds none of it."""

import pytest

from gateway.wire.codec import Unreadable, Unsupported, json_object


def test_an_object_is_read() -> None:
    assert json_object(b'{"a":[1]}', "an answer") == {"a": [1]}


@pytest.mark.parametrize("data", [b"", b"{", b"secret", b'{"secret":"\xff"}', b'{"secret":1e999}', b"[" * 100_000])
def test_what_is_no_json(data: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        json_object(data, "an answer")
    assert str(caught.value) == "sent an answer that is no JSON"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("data", [b"[]", b"null", b'"secret"', b"7"])
def test_what_is_no_object(data: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        json_object(data, "an event")
    assert str(caught.value) == "sent an event that is no JSON object"


def test_what_can_not_be_carried_is_named() -> None:
    error = Unsupported("No audio here.", "messages[0].content[1]")
    assert (str(error), error.param, error.code) == ("No audio here.", "messages[0].content[1]", "unsupported_content")
    assert Unsupported("One answer.", "n", "unsupported_parameter").code == "unsupported_parameter"
