"""The top level of a request: what is needed is read, the rest stays bytes, and no body can do harm."""

from typing import Any

import msgspec
import pytest

from gateway.wire import fields
from gateway.wire.fields import InvalidRequest


def of(body: bytes) -> fields.Fields:
    return fields.read(body)


def refused(body: bytes, code: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        fields.read(body)
    assert caught.value.code == code
    return caught.value


def test_fields_stay_the_caller_s_bytes() -> None:
    assert (
        bytes(of('{"model":"m","x":{"ü": 1.50 , "y":[1e400]}}'.encode())["x"]) == '{"ü": 1.50 , "y":[1e400]}'.encode()
    )


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"a"', b"{'a':1}", b'{"a":1}x', b'{"a":"\xff"}', b"\xff\xfe"]
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    assert "not a JSON object" in str(refused(body, "invalid_json"))


def test_a_body_may_nest_to_the_bound_and_no_deeper() -> None:
    def nested(levels: int) -> bytes:
        return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"

    assert of(nested(fields.DEPTH_MAX))
    assert str(refused(nested(fields.DEPTH_MAX + 1), "invalid_json")) == fields.TOO_DEEP
    assert str(refused(nested(200_000), "invalid_json")) == fields.TOO_DEEP


@pytest.mark.parametrize(("raw", "there"), [(b"null", False), (b"", False), (b"0", True), (b'"null"', True)])
def test_null_is_as_good_as_absent(raw: bytes, there: bool) -> None:
    assert fields.present(msgspec.Raw(raw)) is there


def test_values() -> None:
    found = of(b'{"a":[1,"x"],"n":null,"big":1e400}')
    assert fields.value(found, "a") == [1, "x"]
    assert fields.value(found, "n") is fields.value(found, "absent") is None
    with pytest.raises(InvalidRequest, match="big is not valid JSON") as caught:
        fields.value(found, "big")
    assert (caught.value.code, caught.value.param) == ("invalid_json", "big")


@pytest.mark.parametrize("body", [b"{}", b'{"model":null}', b'{"model":""}', b'{"model":7}', b'{"model":["m"]}'])
def test_a_request_names_a_model(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="model is missing") as caught:
        fields.model(of(body))
    assert (caught.value.code, caught.value.param, caught.value.model) == ("invalid_parameter", "model", None)


def test_a_model_s_name_has_a_bound() -> None:
    assert fields.model(of(b'{"model":"%b"}' % (b"m" * 256))) == "m" * 256
    with pytest.raises(InvalidRequest, match="longer than 256"):
        fields.model(of(b'{"model":"%b"}' % (b"m" * 257)))


@pytest.mark.parametrize(("text", "expected"), [(b"true", True), (b"false", False), (b"null", False)])
def test_a_flag(text: bytes, expected: bool) -> None:
    assert fields.flag(of(b'{"stream":%b}' % text), "stream") is expected
    assert fields.flag({}, "stream") is False


@pytest.mark.parametrize("text", [b"1", b"0", b'"true"', b"[]", b"{}"])
def test_what_is_neither_true_nor_false_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="neither true nor false") as caught:
        fields.flag(of(b'{"stream":%b}' % text), "stream")
    assert caught.value.param == "stream"


@pytest.mark.parametrize("found", [1, 10**9, None])
def test_a_number_that_a_price_is_multiplied_by(found: Any) -> None:
    assert fields.whole(found, "max_tokens") == found


@pytest.mark.parametrize("found", [0, -1, 1.0, True, "7", [], 10**9 + 1, 10**30])
def test_any_other_number_is_refused(found: Any) -> None:
    with pytest.raises(InvalidRequest, match="max_tokens is not a whole number from 1 to 1000000000") as caught:
        fields.whole(found, "max_tokens")
    assert caught.value.param == "max_tokens"
    with pytest.raises(InvalidRequest, match="from 1 to 128"):
        fields.whole(129, "n", fields.CHOICES_MAX)


@pytest.mark.parametrize("metadata", [b"null", b"[]", b'"x"', b"{}", b'{"a":1}'])
def test_metadata_without_texts_has_no_labels(metadata: bytes) -> None:
    assert fields.labels(of(b'{"metadata":%b}' % metadata)) is None
    assert fields.labels({}) is None


def test_labels_are_short_texts_and_few() -> None:
    metadata = {"k" * 100: "v" * 1000, "number": 1} | {f"k{number}": "v" for number in range(20)}
    found = fields.labels({"metadata": msgspec.Raw(msgspec.json.encode(metadata))})
    assert found is not None
    assert found["k" * 64] == "v" * 512
    assert (len(found), "number" in found) == (16, False)


def test_texts_are_all_but_the_conversation() -> None:
    found = of(b'{"model":"m","messages":[1],"input":[2],"tools":[3]}')
    assert list(fields.texts(found)) == [b'"m"', b"[3]"]


@pytest.mark.parametrize(
    "name", ["Model", "MAX_TOKENS", "Max_Completion_Tokens", "max_to\u212aens", "N", "GenerationConfig"]
)
def test_no_upstream_reads_a_price_or_a_model_under_other_letters(name: str) -> None:
    """Servers written in Go take names whatever their case: what was checked here would not be what counts there."""
    assert list(of(msgspec.json.encode({"model": "cheap", name: 9, "max_tokens": 1, "Other": 2}))) == [
        "model",
        "max_tokens",
        "Other",
    ]


def test_nothing_that_routes_or_prices_elsewhere_reaches_an_upstream() -> None:
    body = {"model": "m", "messages": [], "speed": "fast", "models": ["dear"], "api_base": "http://10.0.0.1", "seed": 1}
    assert set(of(msgspec.json.encode(body))) == {"model", "messages", "seed"}
