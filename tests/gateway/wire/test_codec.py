"""What is no answer is unreadable, and the message holds none of it."""

import pytest

from gateway.wire.canonical import Message, Request, Text
from gateway.wire.codec import KEPT_ELSEWHERE, Unreadable, Unsupported, json_object, left_out
from gateway.wire.registry import DIALECTS


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


@pytest.mark.parametrize(
    ("origin", "name"), [(origin, name) for origin in KEPT_ELSEWHERE for name in KEPT_ELSEWHERE[origin]]
)
@pytest.mark.parametrize("upstream", DIALECTS)
def test_content_that_one_vendor_keeps_is_not_lost_on_the_way_to_another(origin: str, name: str, upstream: str) -> None:
    request = Request(
        dialect=origin, model="m", messages=(Message("user", (Text("Hi"),)),), extensions={name: "id", "zz": 1}
    )
    if upstream == origin:
        assert DIALECTS[upstream].render_request(request, "up", None).dropped == ()
        return
    with pytest.raises(Unsupported) as refused:
        DIALECTS[upstream].render_request(request, "up", None)
    assert (refused.value.code, refused.value.param) == ("unsupported_content", name)


def test_a_field_of_the_same_name_is_no_content_where_its_dialect_has_none() -> None:
    request = Request(dialect="openai_chat", model="m", messages=(), extensions={"prompt": "x"})
    assert left_out(request) == {"prompt"}
