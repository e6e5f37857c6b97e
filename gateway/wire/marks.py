"""What one vendor's answer leaves in another vendor's conversation, so that nothing has to be remembered here. Pure.

A signature that only its own vendor can check comes back with the next request, in the dialect of the caller. Where
that dialect has a place for signatures it is written there behind a mark that names its origin; a call of a tool
carries it in its id. Without the mark a signature is the caller's dialect's own.

Ids of calls are kept. Where a vendor takes fewer characters than the id has, it is written in those, reversibly; where
it takes fewer of them, a digest stands for it: what its own vendor gets no caller ever sees.
"""

import base64
import binascii
import hashlib
import re

# No base64 alphabet has the dot, so no vendor's own signature begins like this.
MARK = "aperture1."
BYTES = MARK.encode()
# How a mark begins where a dialect has to write it as base64, in either alphabet.
BASE64 = base64.b64encode(BYTES[:9]).decode()
ID_MARK = "__aps_"
ESCAPED = "apx_"
NOT_IN_IDS = re.compile(r"[^A-Za-z0-9]")
# What is taken of a request's id for the ids made of it: OpenAI's chat takes no call's id of more than 40 characters.
BASE_CHARS = 24
SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def mark(signature: str, origin: str, id: str = "") -> str:
    """Return a signature of another dialect as a text that says whose it is; ID is the thought's own."""
    return f"{MARK}{origin}.{_pack(id)}.{_pack(signature)}"


def unmark(text: str, own: str) -> tuple[str, str, str]:
    """Return (signature, origin, id) of a signature as a caller of the dialect OWN sends it back."""
    if not text.startswith(MARK):
        return text, own, ""
    origin, _, rest = text[len(MARK) :].partition(".")
    id_text, _, signature = rest.partition(".")
    return _unpack(signature), origin, _unpack(id_text)


def has_marks(body: bytes) -> bool:
    """Tell whether a request's body holds a marked signature or call id; a text may look so too."""
    return BYTES in body or ID_MARK.encode() in body or BASE64.encode() in body


def signed_id(id: str, signature: str, origin: str) -> str:
    """Return the id of a call with the call's signature in it, in letters that every vendor takes in an id."""
    # An id that looks marked by itself is marked once more, so that it comes back as it is.
    return f"{id}{ID_MARK}{_pack(origin)}_{_pack(signature)}" if signature or ID_MARK in id else id


def unsigned_id(text: str) -> tuple[str, str, str]:
    """Return (id, signature, origin) of a call's id as it came back; what only looks marked is an id."""
    # The last mark is ours, for what is packed behind it holds no `_`.
    id, found, rest = text.rpartition(ID_MARK)
    packed_origin, between, packed_signature = rest.partition("_")
    signature, origin = _unpack(packed_signature), _unpack(packed_origin)
    if not found or not between or (_pack(signature), _pack(origin)) != (packed_signature, packed_origin):
        return text, "", ""
    return id, signature, origin


def made_id(base: str, *numbers: int) -> str:
    """Return an id for a call that came without one, from what is peculiar to its message and its place there."""
    return "_".join(["call", NOT_IN_IDS.sub("", base)[-BASE_CHARS:], *map(str, numbers)])


def fitting_id(id: str, chars_max: int) -> str:
    """Return a call's id where an upstream takes CHARS_MAX characters, at least 37: itself, or what stands for it."""
    if len(id) <= chars_max:
        return id
    return "call_" + hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def safe_id(id: str) -> str:
    """Return a call's id in the letters, digits, `_` and `-` that Anthropic takes; `original_id` reverses it."""
    if SAFE_ID.fullmatch(id) and not id.startswith(ESCAPED):
        return id
    return ESCAPED + _pack(id)


def original_id(id: str) -> str:
    """Return the id that `safe_id` was given; what it did not make is an id as it is."""
    found = _unpack(id.removeprefix(ESCAPED))
    return found if id.startswith(ESCAPED) and ESCAPED + _pack(found) == id else id


def _pack(text: str) -> str:
    """Return a text in letters, digits and `-` alone: hexadecimal where base64 would need a `_`."""
    packed = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    return "0x-" + text.encode().hex() if "_" in packed else packed


def _unpack(text: str) -> str:
    """Return what was packed; what was not is nothing. Half a surrogate is nothing too: no JSON can carry it."""
    try:
        if text.startswith("0x-"):
            return bytes.fromhex(text[3:]).decode()
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""
