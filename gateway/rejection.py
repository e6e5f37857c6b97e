"""What an upstream's answer other than success means for the caller. Pure.

A mistake that is the caller's keeps the upstream's status and message; our own credential or account is a 502 that is
ours to mend; anything else is a 502 too. Whatever is shown is scrubbed.
"""

import contextlib
import math
from collections.abc import Callable, Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from gateway.errors import Fault
from gateway.scrub import scrub
from gateway.snapshot import Target
from gateway.wire.codec import Said

ParseError = Callable[[bytes], Said]

CALLERS_OWN = frozenset({400, 404, 408, 409, 413, 415, 422, 429})
CREDENTIAL = frozenset({401, 402, 403})
BODY_CHARS_MAX = 4096
CODE_CHARS_MAX, PARAM_CHARS_MAX = 64, 256
READ_BYTES_MAX = 64 * 1024
# The most characters that escaping makes of one.
ESCAPED_CHARS = 12
RETRY_AFTER_S_MAX = 3600
CODES = {429: "rate_limit_exceeded", 404: "not_found", 413: "request_too_large", 408: "request_timeout"}


def of_status(
    target: Target, status: int, body: bytes, parse_error: ParseError, retry_after: str | None, now: float
) -> Fault:
    """Return the fault of an answer that is no success.

    PARSE_ERROR reads its body, RETRY_AFTER is its header, NOW is in seconds since 1970.
    """
    slug = target.provider.slug
    text = readable(body, target.provider.secrets)
    upstream = {"provider": slug, "status": status, "body": _shown(text)}
    if status in CALLERS_OWN:
        said = parse_error(text.encode())
        return Fault(
            "upstream_rejected",
            said.message[:BODY_CHARS_MAX] or f"{slug} refused the request with status {status}.",
            param=said.param[:PARAM_CHARS_MAX] or None,
            retry_after_s=wait_s(retry_after, now) if status == 429 else None,
            upstream=upstream,
            rejection=(status, said.code[:CODE_CHARS_MAX] or CODES.get(status, "invalid_request")),
        )
    if status in CREDENTIAL:
        return Fault(
            "upstream_credential",
            f"{slug} refuses this gateway's credential or account; the operator has to mend it.",
            upstream=upstream,
        )
    return Fault("upstream_failed", f"{slug} answered with status {status}; try again later.", upstream=upstream)


def of_rubbish(target: Target, status: int, body: bytes, why: str) -> Fault:
    """Return the fault of an answer that claims success and is none."""
    text = readable(body, target.provider.secrets)
    return Fault(
        "upstream_failed",
        f"{target.provider.slug} {why}; try again later.",
        upstream={"provider": target.provider.slug, "status": status, "body": _shown(text)},
    )


def readable(body: bytes, secrets: Iterable[str]) -> str:
    """Return a body as scrubbed text. JSON is written anew first, so that no escape hides a secret."""
    secrets = tuple(secrets)
    cut = len(body) > READ_BYTES_MAX
    text = body[:READ_BYTES_MAX].decode("utf-8", "replace")
    with contextlib.suppress(ValueError, OverflowError, RecursionError):
        text = msgspec.json.encode(msgspec.json.decode(text)).decode()
    text = scrub(text, secrets)
    # Where the text was cut, the beginning of a secret may stand at its end.
    return text[: -max(map(len, secrets), default=1) * ESCAPED_CHARS] if cut else text


def wait_s(retry_after: str | None, now: float) -> int:
    """Return a Retry-After, which is seconds or a date, as whole seconds within a sane bound; rubbish is the least.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    try:
        seconds = float(retry_after or "")
    except ValueError:
        seconds = _until(retry_after or "", now)
    # This order also makes 1 of what is no number.
    return math.ceil(min(max(1.0, seconds), RETRY_AFTER_S_MAX))


def _until(date: str, now: float) -> float:
    try:
        found = parsedate_to_datetime(date)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0


def _shown(text: str) -> Any:
    return _json_or_text(text) if len(text) <= BODY_CHARS_MAX else text[:BODY_CHARS_MAX]


def _json_or_text(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text
