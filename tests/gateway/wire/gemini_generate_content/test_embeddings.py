"""Embeddings between OpenAI's dialect and Gemini's."""

import base64
import struct
from typing import Any

import msgspec
import pytest

from gateway.wire import fields
from gateway.wire.codec import Unreadable, Unsupported
from gateway.wire.fields import Asked, InvalidRequest
from gateway.wire.gemini_generate_content import embeddings

encode = msgspec.json.encode


def asked(**body: Any) -> Asked:
    return Asked("m", False, True, fields.read(encode({"model": "m"} | body)))


def test_texts_become_a_batch() -> None:
    rendered = embeddings.render_request(asked(input=["a", "b"], dimensions=8, user="u", odd=None), "embed-1")
    assert (rendered.path, rendered.dropped) == ("/models/embed-1:batchEmbedContents", ("user",))
    one = {"model": "models/embed-1", "content": {"parts": [{"text": "a"}]}, "outputDimensionality": 8}
    assert msgspec.json.decode(rendered.body)["requests"] == [one, one | {"content": {"parts": [{"text": "b"}]}}]
    single = embeddings.render_request(asked(input="a"), "models/embed-1")
    assert msgspec.json.decode(single.body) == {
        "requests": [{"model": "models/embed-1", "content": {"parts": [{"text": "a"}]}}]
    }


@pytest.mark.parametrize("given", [[], ["a"] * 101])
def test_a_batch_is_bounded(given: Any) -> None:
    with pytest.raises(InvalidRequest):
        embeddings.render_request(asked(input=given), "m")


@pytest.mark.parametrize("given", [[1, 2], [[1]], None])
def test_tokens_are_no_texts(given: Any) -> None:
    with pytest.raises(Unsupported) as caught:
        embeddings.render_request(asked(input=given), "m")
    assert caught.value.param == "input"


@pytest.mark.parametrize("name", ["embeddings", "embedding"])
@pytest.mark.parametrize("in_base64", [False, True])
def test_vectors_become_a_list(name: str, in_base64: bool) -> None:
    vector = {"values": [0.5, -1]}
    data = encode({name: [vector] if name == "embeddings" else vector})
    found = msgspec.json.decode(embeddings.render_list(data, "m", 7, in_base64=in_base64))
    packed = base64.b64encode(struct.pack("<2f", 0.5, -1)).decode()
    assert found == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": packed if in_base64 else [0.5, -1]}],
        "model": "m",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


def test_geminis_own_count_goes_before_an_estimate() -> None:
    data = encode({"embeddings": [], "usageMetadata": {"promptTokenCount": 3}})
    assert msgspec.json.decode(embeddings.render_list(data, "m", 7, in_base64=False))["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"{}",
        b'{"embeddings":[1]}',
        b'{"embedding":{"values":["a"]}}',
        b'{"embedding":{"values":[1e300]}}',
        b'{"embedding":{"values":[99999999999999999999]}}',
    ],
)
def test_what_is_no_embedding_cannot_be_read(data: bytes) -> None:
    with pytest.raises(Unreadable):
        embeddings.render_list(data, "m", 0, in_base64=True)


def test_a_content_becomes_an_input() -> None:
    one = b'{"model":"models/x","content":{"parts":[{"text":"a"},"b"]},"taskType":"RETRIEVAL_QUERY","title":null}'
    assert embeddings.parse_request(fields.read(one), "m") == (
        {"model": "m", "input": ["a\nb"], "encoding_format": "float"},
        ("taskType",),
    )
    batch = b'{"requests":[{"content":"a","output_dimensionality":8},{"content":{"parts":{"text":"b"}}}]}'
    assert embeddings.parse_request(fields.read(batch), "m") == (
        {"model": "m", "input": ["a", "b"], "encoding_format": "float", "dimensions": 8},
        (),
    )


@pytest.mark.parametrize(
    "body", [b"{}", b'{"requests":[]}', b'{"requests":[1]}', b'{"content":{"parts":[{"inlineData":{}}]}}']
)
def test_a_content_without_texts_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        embeddings.parse_request(fields.read(body), "m")


def test_a_list_becomes_geminis_answer() -> None:
    data = encode({"data": [{"embedding": [0.5]}, {"embedding": [1.5]}]})
    assert embeddings.render_embeddings(data, batch=True) == b'{"embeddings":[{"values":[0.5]},{"values":[1.5]}]}'
    assert embeddings.render_embeddings(data, batch=False) == b'{"embedding":{"values":[0.5]}}'


@pytest.mark.parametrize("data", [b"{}", b'{"data":[]}', b'{"data":[1]}', b'{"data":[{"embedding":"AAAA"}]}'])
def test_a_list_without_floats_cannot_be_read(data: bytes) -> None:
    with pytest.raises(Unreadable):
        embeddings.render_embeddings(data, batch=True)
