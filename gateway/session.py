"""Which conversation a request belongs to: what the client says, else a fingerprint of how it began. Pure."""

import hashlib
from collections.abc import Mapping

import msgspec

from gateway.wire.fields import Fields

HEADERS = (b"x-session-id", b"session_id", b"x-claude-code-session-id", b"conversation_id", b"x-session-affinity")
BODY_FIELDS = ("session_id", "conversation_id", "prompt_cache_key")
CONVERSATIONS = ("messages", "input", "contents")
BEGINNING_MESSAGES_MAX = 8


class Message(msgspec.Struct):
    """What is read of a message."""

    role: str = ""


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_message = msgspec.json.Decoder(Message).decode


def find(headers: Mapping[bytes, bytes], fields: Fields, key_id: int) -> str:
    """Return a session id of at most 64 characters; two keys never share a fingerprint."""
    for header in HEADERS:
        if headers.get(header):
            return headers[header].decode("latin-1")[:64]
    for field in BODY_FIELDS:
        raw = bytes(fields.get(field, b""))
        if raw.startswith(b'"') and len(raw) > 2:
            return str(msgspec.json.decode(raw))[:64]
    return fingerprint(fields, key_id)


def fingerprint(fields: Fields, key_id: int) -> str:
    """Return a digest of the key and of the messages up to the user's first, which every later turn repeats."""
    messages = next((fields[name] for name in CONVERSATIONS if name in fields), None)
    if messages is None:
        return ""
    digest = hashlib.blake2b(key_id.to_bytes(8), digest_size=12)
    try:
        for message in _decode_list(messages)[:BEGINNING_MESSAGES_MAX]:
            digest.update(message)
            if _decode_message(message).role == "user":
                break
    except (msgspec.DecodeError, RecursionError):
        return ""
    return digest.hexdigest()
