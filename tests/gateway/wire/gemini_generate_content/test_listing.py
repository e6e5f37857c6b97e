"""Models and counts of tokens as Gemini's clients read them."""

import pytest

from gateway.wire.canonical import Message, Text
from gateway.wire.codec import Unreadable
from gateway.wire.fields import InvalidRequest
from gateway.wire.gemini_generate_content import DIALECT, listing


def test_models() -> None:
    assert listing.models([listing.Model("a/b", "B", 10, 5), listing.Model("e", embeds=True)]) == {
        "models": [
            {
                "name": "models/a/b",
                "displayName": "B",
                "inputTokenLimit": 10,
                "outputTokenLimit": 5,
                "supportedGenerationMethods": ("generateContent", "streamGenerateContent", "countTokens"),
            },
            {
                "name": "models/e",
                "displayName": "e",
                "supportedGenerationMethods": ("embedContent", "batchEmbedContents", "countTokens"),
            },
        ]
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"contents":"Hi"}',
        b'{"generateContentRequest":{"model":"models/x","contents":"Hi"}}',
        b'{"generate_content_request":{"contents":[{"parts":[{"text":"Hi"}]}]}}',
        b'{"contents":"Hi","generateContentRequest":null}',
    ],
)
def test_what_is_to_be_counted(body: bytes) -> None:
    asked = listing.read_count(body, "m")
    assert (asked.model, asked.stream) == ("m", False)
    assert DIALECT.parse_request(asked).messages == (Message("user", (Text("Hi"),)),)


def test_contents_and_a_request_exclude_each_other() -> None:
    with pytest.raises(InvalidRequest):
        listing.read_count(b'{"contents":"Hi","generateContentRequest":{}}', "m")


def test_counts() -> None:
    assert listing.count_answer(7) == b'{"totalTokens":7}'
    assert listing.counted(b'{"totalTokens":7}') == 7
    assert listing.counted(b"{}") is None
    with pytest.raises(Unreadable):
        listing.counted(b"odd")
