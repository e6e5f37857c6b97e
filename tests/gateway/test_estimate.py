"""An estimate of input tokens is never far below what a real tokenizer counts, and takes microseconds."""

import base64
import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import estimate
from gateway.estimate import input_tokens, text_tokens
from gateway.wire import openai_chat
from tests.gateway.texts import BODIES, COUNTS, TEXTS, chat

# The part of the real count that an estimate never falls below, where that is not all of it.
TABLES, RUBBISH = 0.86, 0.6
LEAST = {
    "CSV": TABLES,
    "hexadecimal": TABLES,
    "identifiers": TABLES,
    "punctuation": TABLES,
    "mathematics": RUBBISH,
    "base64": RUBBISH,
    "random letters": RUBBISH,
    "emoji": RUBBISH,
}
MOST = 2.8
REPEATED = 40


def ratios(kind: str, body: str) -> list[float]:
    """Return estimates over counts, of a text that is long enough to drown what stands around it."""
    estimated = input_tokens(BODIES[body](TEXTS[kind] * REPEATED))
    return [estimated / (count * REPEATED) for count in COUNTS[kind]]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", TEXTS)
def test_no_estimate_is_below_the_documented_margin(kind: str, body: str) -> None:
    assert min(ratios(kind, body)) >= LEAST.get(kind, 1)
    assert min(input_tokens(BODIES[body](TEXTS[kind])) / count for count in COUNTS[kind]) >= LEAST.get(kind, 1)


@pytest.mark.parametrize("kind", TEXTS)
def test_no_estimate_is_many_times_the_count(kind: str) -> None:
    assert max(ratios(kind, "chat")) <= MOST


def test_what_people_write_is_estimated_at_up_to_twice_its_tokens() -> None:
    for kind in ("English", "German", "Chinese", "Japanese", "code", "JSON"):
        assert 1 < min(ratios(kind, "chat")) <= max(ratios(kind, "chat")) < 1.7


# --- Attachments ------------------------------------------------------------------------------------------------------

BLOB = base64.b64encode(random.Random(3).randbytes(60_000)).decode()
BARE = input_tokens(chat("Hello"))


def parts(*content: dict[str, Any]) -> int:
    """Return the estimate of a message with these parts, beyond that of a plain one."""
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}, *content]}]}
    found = {
        input_tokens(json.dumps(body, separators=separators).encode()) for separators in ((", ", ": "), (",", ":"))
    }
    found.add(input_tokens(json.dumps(body).replace("/", "\\/").encode()))
    assert max(found) - min(found) < 0.02 * max(found) + 40
    return max(found) - BARE


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}


@pytest.mark.parametrize(
    "url", [f"data:image/png;base64,{BLOB}", "https://example.com/a.png", "data:image/png;base64,A"]
)
def test_an_image_counts_by_the_piece(url: str) -> None:
    assert estimate.IMAGE_TOKENS <= parts(image(url)) < estimate.IMAGE_TOKENS + 100
    assert 3 * estimate.IMAGE_TOKENS <= parts(image(url), image(url), image(url)) < 3 * (estimate.IMAGE_TOKENS + 100)


def test_an_image_under_another_name_counts_too() -> None:
    found = parts({"type": "image", "source": {"url": f"data:image/webp;base64,{BLOB}"}})
    assert estimate.IMAGE_TOKENS <= found < estimate.IMAGE_TOKENS + 100


def test_sound_counts_by_its_length() -> None:
    seconds = len(BLOB) / 10_667
    for part in (
        {"type": "input_audio", "input_audio": {"data": BLOB, "format": "mp3"}},
        {"type": "audio_url", "audio_url": {"url": f"data:audio/mpeg;base64,{BLOB}"}},
    ):
        assert 32 * seconds <= parts(part) < 32 * seconds + 100
    assert (
        parts({"type": "input_audio", "input_audio": {"data": BLOB[:100], "format": "mp3"}})
        >= estimate.AUDIO_TOKENS_MIN
    )


@pytest.mark.parametrize("kind", ["application/pdf", "application/pdf;name=a.pdf"])
def test_a_document_counts_by_its_length_and_at_least_a_few_pages(kind: str) -> None:
    def document(blob: str) -> int:
        return parts({"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:{kind};base64,{blob}"}})

    assert estimate.DOCUMENT_TOKENS_MIN <= document(BLOB) < estimate.DOCUMENT_TOKENS_MIN + 100
    assert len(BLOB) * 4 / 40 <= document(BLOB * 4) < len(BLOB) * 4 / 40 * 1.03 + 100


def test_a_text_file_counts_by_its_text() -> None:
    blob = base64.b64encode(TEXTS["code"].encode() * 20).decode()
    found = parts({"type": "file", "file": {"file_data": f"data:text/x-python;base64,{blob}"}})
    assert max(COUNTS["code"]) * 20 <= found < 2 * max(COUNTS["code"]) * 20


@pytest.mark.parametrize(
    "text",
    [
        f"data:image/png;base64,{BLOB}",
        f'"url":"data:image/png;base64,{BLOB}"',
        f'{{"data": "{BLOB}"}}',
        f'\\"url\\":\\"data:image/png;base64,{BLOB}\\"',
    ],
)
def test_a_text_never_passes_for_an_attachment(text: str) -> None:
    assert input_tokens(chat(text)) > len(BLOB) / 3
    assert input_tokens(chat(text, ascii_only=True)) > len(BLOB) / 3


def test_what_is_not_base64_through_and_through_counts_as_text() -> None:
    prose = TEXTS["English"].replace('"', "") * 40
    assert parts(image(f"data:image/png;base64,{prose}")) > estimate.IMAGE_TOKENS + len(prose) / 4
    assert parts({"input_audio": {"data": prose}}) > len(prose) / 4


# --- Whatever comes ---------------------------------------------------------------------------------------------------


def test_escapes_cannot_make_a_text_free() -> None:
    for text in ("\\u" * 5000, "\\" * 9999, "\\\\u" * 3000, "\u1111" * 3000, "\\u1111" * 3000):
        for body in (chat(text), chat(text, ascii_only=True)):
            assert input_tokens(body) > len(text) / 4


@given(st.binary(max_size=300) | st.text(max_size=100).map(chat))
def test_no_estimate_is_negative_and_more_bytes_never_mean_less(body: bytes) -> None:
    assert 0 <= text_tokens(body) <= text_tokens(body + b" more") or body.endswith(b"\\")
    assert input_tokens(body) >= 0


@pytest.mark.parametrize("kind", ["English", "Chinese", "code", "JSON"])
def test_of_a_large_body_a_sample_is_enough(kind: str) -> None:
    body = chat(TEXTS[kind] * 400)
    assert len(body) > 2 * estimate.SAMPLE_ABOVE_BYTES
    whole = 400 * (text_tokens(chat(TEXTS[kind] * 2)) - text_tokens(chat(TEXTS[kind])))
    assert abs(input_tokens(body) - whole) < 0.03 * whole


@pytest.mark.parametrize(
    "body",
    [
        chat(TEXTS["English"] * 2000),
        chat(TEXTS["Chinese"] * 2000),
        b'{"data":"A","x":[' + b'"data":"A",' * 90_000,
        b'{"data":"' + b'""' * 500_000,
        b'{"data":"A","url":"data:image/png;base64,' + b'"url":"data:image/png;base64,' * 35_000,
        b'{"url":"data:a/b;base64,' + b";base64," * 125_000,
        b'{"data":"' + (b'"data":"' + b"A" * 63 + b'!"') * 13_000,
        b'"data"' + b" " * 1_000_000,
        b'{"url":"data:image/png;base64,' + b"A" * 1_000_000,
    ],
)
def test_a_megabyte_takes_milliseconds_whatever_it_holds(body: bytes) -> None:
    began_at = time.process_time()
    input_tokens(body)
    assert time.process_time() - began_at < 0.05


def test_what_a_request_asks_for_is_seen() -> None:
    assert estimate.asks_for_caching(b'{"cache_control":{"type":"ephemeral"}}')
    assert not estimate.asks_for_caching(b'{"messages":[]}')
    assert estimate.asks_for_audio(b'{"modalities":["text","audio"],"audio":{"voice":"ash"}}')
    assert estimate.asks_for_audio(b'{"type":"input_audio"}')
    assert not estimate.asks_for_audio(b'{"messages":[]}')


@pytest.mark.parametrize("field", ["tools", "functions", "response_format"])
@pytest.mark.parametrize("key", ['"url": "data:image/png;base64,', '"data": "'])
def test_what_only_looks_like_an_attachment_outside_the_messages_is_text(field: str, key: str) -> None:
    """A schema goes to the model as a text: counted as an image, a wallet of cents could send a book many times."""
    schema = f'[{{"default": {{{key}{"word" * 50_000}"}}}}]'
    body = f'{{"model": "m", "messages": [], "{field}": {schema}}}'.encode()
    fields = openai_chat.parse_request(body).fields
    assert estimate.input_tokens(body) < 5_000
    assert estimate.input_tokens(body, openai_chat.texts(fields)) > 50_000
