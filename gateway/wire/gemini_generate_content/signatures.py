"""Signatures of thoughts in Google's JSON, where `thoughtSignature` is bytes, so base64. Pure.

A signature of Gemini's own stays the text that came. Another vendor's is written as the base64 of its mark, so that
clients which decode the bytes and encode them again, in either alphabet, lose nothing.
https://ai.google.dev/gemini-api/docs/thought-signatures
"""

import base64
import binascii

import msgspec

from gateway.wire import marks
from gateway.wire.gemini_generate_content.fieldnames import NAME

SUMMARY, REDACTED = ".summary", ".redacted"
# What Google says to send with a call that another model made, or that lost its signature.
DUMMY = "skip_thought_signature_validator"
STANDARD_ALPHABET = str.maketrans("-_", "+/")


class Signature(msgspec.Struct, frozen=True):
    """A signature as a caller sent it back, and what was noted of its thought."""

    text: str = ""
    origin: str = ""
    id: str = ""
    is_summary: bool = False
    redacted: bool = False


NONE = Signature()


def read(text: str) -> Signature:
    """Return whose signature this is."""
    if not text or text == DUMMY:
        return NONE
    if not text.startswith(marks.BASE64):
        return Signature(text, NAME)
    try:
        padded = text.rstrip("=").translate(STANDARD_ALPHABET)
        marked = base64.b64decode(padded + "=" * (-len(padded) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        return Signature(text, NAME)
    bare = marked.removesuffix(SUMMARY).removesuffix(REDACTED)
    signature, origin, id = marks.unmark(bare, NAME)
    return Signature(signature, origin, id, marked.endswith(SUMMARY), REDACTED in marked)


def write(signature: str, origin: str, id: str = "", *, is_summary: bool = False, redacted: bool = False) -> str:
    """Return a signature for a caller; `read` reverses it."""
    if origin == NAME or not signature:
        return signature
    noted = (REDACTED if redacted else "") + (SUMMARY if is_summary else "")
    return base64.b64encode((marks.mark(signature, origin, id) + noted).encode()).decode()
