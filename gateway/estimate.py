"""How many tokens a request's input may be, from the bytes of its body alone. Pure, and quick enough for every request.

For holds and for the size of a request before it is sent; what a finished request costs is never estimated from this
where its upstream counted. No tokenizer is asked: each vendor has another, and one costs 123 MB and a millisecond.

A body is counted by the kind of its bytes: small letters and spaces as three to a token, all other ASCII (capitals,
digits, punctuation) as five to three tokens, bytes beyond ASCII as 20 to nine tokens, a `\\u` escape as about one. The
braces and names of the JSON around the texts count along; they stand for what vendors add to each message.

Margin, measured with OpenAI's two tokenizers over 22 kinds of text in chat and embedding requests (`tests/gateway/
texts.py` has the counts): prose in six languages, code, JSON and numbers are never below the real count, and mostly
1.1 to 1.7 times it (2.4 times where a tokenizer knows an alphabet well, 4 times where its letters are escaped). Tables
of figures, hexadecimal and punctuation are never more than 14 % below it; what nobody writes by hand (random letters,
base64 as a text, rows of emoji or signs) never more than 40 %.

Attachments inside the body do not count by their bytes. An image counts IMAGE_TOKENS, inside or by its address: what
large ones cost at most vendors. Sound counts a token for each AUDIO_BYTES_PER_TOKEN bytes of base64 (32 tokens a second
at 64 kbit/s). A document counts one for each DOCUMENT_BYTES_PER_TOKEN, and at least DOCUMENT_TOKENS_MIN; a plain text
one for each TEXT_BYTES_PER_TOKEN, three bytes of the text. What stands under `data` is what the media type beside it
says, and sound where none does. Only the value of `url`, `image_url`, `data` or `file_data` that is base64 through and
through is an attachment, so that no message's text passes for one.
"""

import re
from collections.abc import Iterable

IMAGE_TOKENS = 1_600
AUDIO_BYTES_PER_TOKEN = 320
AUDIO_TOKENS_MIN = 32
DOCUMENT_BYTES_PER_TOKEN = 40
DOCUMENT_TOKENS_MIN = 3_000
TEXT_BYTES_PER_TOKEN = 4
# A shorter value is counted as the text that it may be.
ATTACHMENT_BYTES_MIN = 64

# A backslash goes with them: in JSON it says how to read what follows.
SPARSE = b"abcdefghijklmnopqrstuvwxyz \\"
ASCII = bytes(range(128))
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-\\"
# Sixtieths of a token to a byte.
SPARSE_WEIGHT, DENSE_WEIGHT, HIGH_WEIGHT, UNIT = 20, 36, 27, 60
ESCAPE_WEIGHT = 84
# As a part's type, a media type's beginning, or one of Gemini's answers.
AUDIO = re.compile(rb'"(?:input_)?audio["/]|"AUDIO"')
# What stands between the opening quote of a value and its base64, and before that quote. Slashes may be escaped.
MARKER = b";base64,"
HEAD = re.compile(rb"data:([a-z]{1,20})\\?/[^,;]{1,80}(?:;[^,;]{1,40})?")
KEY = re.compile(rb'"(?:url|image_url|file_data|data)"\s{0,8}:\s{0,8}\Z')
# The media type beside bare base64, before or after it: Anthropic's, Gemini's two spellings.
BESIDE = re.compile(rb'"(?:media_type|mimeType|mime_type)"\s{0,8}:\s{0,8}"([a-z]{1,20})\\?/')
BESIDE_BYTES = 120
LINKS = (rb'"type"\s{0,8}:\s{0,8}"(?:url|input_image)"', rb'"file_?[uU]ri"')
LINK = re.compile(b"|".join(LINKS))
BARE = re.compile(rb'"data"\s{0,8}:\s{0,8}"')
# How far back they are looked for, and how many attachments; what is beyond is counted as text.
HEAD_BYTES_MAX, KEY_BYTES_MAX, ATTACHMENTS_MAX = 160, 32, 1_000
# Of a large body every so many bytes are looked at: no divisor of what a character beyond ASCII is long.
SAMPLE_ABOVE_BYTES, SAMPLE_EVERY = 65_536, 7


def input_tokens(body: bytes, texts: Iterable[bytes] = ()) -> int:
    """Return an estimate of the input tokens of a request for a chat or for embeddings; never negative.

    TEXTS are parts of the body that go to the model as they stand: what looks like an attachment there is none.
    """
    tokens = images = 0
    if MARKER in body or b'"data"' in body:
        tokens = sum(max(0, text_tokens(text) - input_tokens(text)) for text in texts)
    if MARKER in body:
        body, documents, images = _without_urls(body)
        tokens += documents
    if b'"data"' in body:
        body, others, pictures = _without_bare(body)
        tokens += others
        images += pictures
    # Each part is named twice, as its type and as its field.
    linked = (body.count(b'"image_url"') + 1) // 2
    if b'"url"' in body or b'"input_image"' in body or b'"file' in body:
        linked = max(linked, sum(1 for _ in LINK.finditer(body)))
    return tokens + max(images, linked) * IMAGE_TOKENS + text_tokens(body)


def text_tokens(body: bytes) -> int:
    """Return an estimate of the tokens of JSON without attachments."""
    whole = len(body)
    seen = body if whole <= SAMPLE_ABOVE_BYTES else body[::SAMPLE_EVERY]
    sixtieths = len(seen) * SPARSE_WEIGHT + len(seen.translate(None, SPARSE)) * (DENSE_WEIGHT - SPARSE_WEIGHT)
    if not seen.isascii():
        sixtieths -= len(seen.translate(None, ASCII)) * (DENSE_WEIGHT - HIGH_WEIGHT)
    if seen is not body:
        sixtieths = sixtieths * whole // len(seen)
    if b"\\" in body:
        # After a backslash that is itself escaped, `u` is a letter.
        sixtieths -= (body.count(b"\\u") - body.count(b"\\\\u")) * ESCAPE_WEIGHT
    return max(-(-sixtieths // UNIT), 0)


def _without_urls(body: bytes) -> tuple[bytes, int, int]:
    """Return the body without the bytes of its data URLs, the tokens of those that are no images, and the images."""
    kept: list[bytes] = []
    tokens = images = done = position = 0
    for _ in range(ATTACHMENTS_MAX):
        marker = body.find(MARKER, position)
        if marker < 0:
            break
        position = start = marker + len(MARKER)
        quote = body.rfind(b'"', max(done, marker - HEAD_BYTES_MAX), marker)
        head = HEAD.fullmatch(body, quote + 1, marker) if quote >= 0 else None
        if head is None or KEY.search(body, max(done, quote - KEY_BYTES_MAX), quote) is None:
            continue
        end = body.find(b'"', start)
        if not _is_base64(body, start, end):
            continue
        if head[1] == b"image":
            images += 1
        else:
            tokens += _attached(head[1], end - start)
        kept.append(body[done:start])
        done = position = end
    kept.append(body[done:])
    return b"".join(kept), tokens, images


def _without_bare(body: bytes) -> tuple[bytes, int, int]:
    """Return the body without the base64 that stands under `data` as it is, its tokens, and the images among it.

    With no media type beside it, it is sound.
    """
    kept: list[bytes] = []
    tokens = images = done = position = 0
    for _ in range(ATTACHMENTS_MAX):
        position = body.find(b'"data"', position)
        if position < 0:
            break
        opening = BARE.match(body, position)
        key, position = position, position + 1
        if opening is None:
            continue
        start = opening.end()
        end = body.find(b'"', start)
        if not _is_base64(body, start, end):
            continue
        kind = _kind_beside(body, max(done, key - BESIDE_BYTES), key, end)
        if kind == b"image":
            images += 1
        else:
            tokens += _attached(kind, end - start)
        kept.append(body[done:start])
        done = position = end
    kept.append(body[done:])
    return b"".join(kept), tokens, images


def _kind_beside(body: bytes, before: int, key: int, end: int) -> bytes:
    found = BESIDE.findall(body, before, key)[-1:] or BESIDE.findall(body, end, end + BESIDE_BYTES)[:1]
    return found[0] if found else b"audio"


def _attached(kind: bytes, size: int) -> int:
    """Return the tokens of an attachment that is no image: KIND is the first half of its media type."""
    if kind == b"audio":
        return _sound(size)
    if kind == b"text":
        return size // TEXT_BYTES_PER_TOKEN
    return max(size // DOCUMENT_BYTES_PER_TOKEN, DOCUMENT_TOKENS_MIN)


def _is_base64(body: bytes, start: int, end: int) -> bool:
    return end - start >= ATTACHMENT_BYTES_MIN and not body[start:end].translate(None, BASE64)


def _sound(size: int) -> int:
    return max(size // AUDIO_BYTES_PER_TOKEN, AUDIO_TOKENS_MIN)


def asks_for_caching(body: bytes) -> bool:
    """Tell whether a request marks something to be cached, which may cost more than input; a text may look so too."""
    return b'"cache_control"' in body


def asks_for_audio(body: bytes) -> bool:
    """Tell whether sound may go in or come out; a text may look so too."""
    return AUDIO.search(body) is not None
