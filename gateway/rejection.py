"""What an upstream's answer other than success means for the caller. Pure.

A mistake that is the caller's keeps the upstream's status and message; our own credential or account is a 502 that is
ours to mend; anything else is a 502 too. Whatever is shown is scrubbed.
"""

import math
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from gateway.errors import Fault
from gateway.scrub import scrub
from gateway.snapshot import Target

CALLERS_OWN = frozenset({400, 404, 408, 409, 413, 415, 422, 429})
CREDENTIAL = frozenset({401, 402, 403})
BODY_CHARS_MAX = 4096
RETRY_AFTER_S_MAX = 3600
CODES = {429: "rate_limit_exceeded", 404: "not_found", 413: "request_too_large", 408: "request_timeout"}


def of_status(target: Target, status: int, body: bytes, retry_after: str | None, now: float) -> Fault:
    """Return the fault of an answer that is no success; RETRY_AFTER is its header, NOW the time in seconds."""
    slug = target.provider.slug
    text = scrub(body.decode("utf-8", "replace"), target.provider.secrets)[:BODY_CHARS_MAX]
    upstream = {"provider": slug, "status": status, "body": _json_or_text(text)}
    if status in CALLERS_OWN:
        said = _said(text)
        return Fault(
            "upstream_rejected",
            said.get("message") or f"{slug} refused the request with status {status}.",
            param=said.get("param"),
            retry_after_s=clamp(retry_after, now) if status == 429 else None,
            upstream=upstream,
            rejection=(status, said.get("code") or said.get("type") or CODES.get(status, "invalid_request")),
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
    text = scrub(body[: BODY_CHARS_MAX * 4].decode("utf-8", "replace"), target.provider.secrets)[:BODY_CHARS_MAX]
    return Fault(
        "upstream_failed",
        f"{target.provider.slug} {why}; try again later.",
        upstream={"provider": target.provider.slug, "status": status, "body": _json_or_text(text)},
    )


def clamp(retry_after: str | None, now: float) -> int:
    """Return a Retry-After (RFC 9110, section 10.2.3: seconds or a date) in whole seconds within a sane bound.

    NOW is in seconds since 1970; rubbish counts as the least.
    """
    text = retry_after or ""
    try:
        seconds = float(text) if text[:1] in "-0123456789" else parsedate_to_datetime(text).timestamp() - now
        return min(max(math.ceil(seconds), 1), RETRY_AFTER_S_MAX)
    except (ValueError, OverflowError):
        return 1


def _said(text: str) -> dict[str, str]:
    """Return the texts `message`, `code`, `type` and `param` of an error body, as far as it has them."""
    body = _json_or_text(text)
    error = body.get("error", body) if isinstance(body, dict) else {}
    if isinstance(error, str):
        return {"message": error}
    if not isinstance(error, dict):
        return {}
    return {name: value for name in ("message", "code", "type", "param") if isinstance(value := error.get(name), str)}


def _json_or_text(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
