"""Every error that a caller can get: one closed table, and its rendering in each envelope.

`Fault` carries a code of the table; status, type and the vendors' words follow from it. A fault that hands on what
the upstream said about the caller's request keeps the upstream's status.
"""

from typing import Any

import msgspec

from billing import money

OPENAI, ANTHROPIC, GOOGLE = "openai", "anthropic", "google"


class Row(msgspec.Struct, frozen=True):
    """One line of the table: status, type in OpenAI's envelope, type in Anthropic's, status in Google's."""

    status: int
    type: str
    anthropic: str
    google: str


INVALID = "invalid_request_error"
LIMIT = Row(429, "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED")

TABLE: dict[str, Row] = {
    "not_found": Row(404, INVALID, "not_found_error", "NOT_FOUND"),
    "method_not_allowed": Row(405, INVALID, INVALID, "INVALID_ARGUMENT"),
    "invalid_api_key": Row(401, "invalid_api_key", "authentication_error", "UNAUTHENTICATED"),
    "api_key_expired": Row(401, "invalid_api_key", "authentication_error", "UNAUTHENTICATED"),
    "ip_restricted": Row(403, "permission_denied", "permission_error", "PERMISSION_DENIED"),
    "no_role_granted": Row(403, "permission_denied", "permission_error", "PERMISSION_DENIED"),
    "model_not_allowed": Row(403, "permission_denied", "permission_error", "PERMISSION_DENIED"),
    "plan_required": Row(403, "permission_denied", "permission_error", "PERMISSION_DENIED"),
    "model_not_found": Row(404, "model_not_found", "not_found_error", "NOT_FOUND"),
    "request_too_large": Row(413, INVALID, "request_too_large", "INVALID_ARGUMENT"),
    "headers_too_large": Row(431, INVALID, INVALID, "INVALID_ARGUMENT"),
    "request_timeout": Row(408, INVALID, INVALID, "INVALID_ARGUMENT"),
    "unsupported_media_type": Row(415, INVALID, INVALID, "INVALID_ARGUMENT"),
    # Given by the servers themselves (aperture_site.reception), before any route is known.
    "invalid_request": Row(400, INVALID, INVALID, "INVALID_ARGUMENT"),
    "invalid_json": Row(400, INVALID, INVALID, "INVALID_ARGUMENT"),
    "invalid_parameter": Row(400, INVALID, INVALID, "INVALID_ARGUMENT"),
    "unsupported_parameter": Row(400, INVALID, INVALID, "INVALID_ARGUMENT"),
    "unsupported_content": Row(400, INVALID, INVALID, "INVALID_ARGUMENT"),
    "previous_response_not_found": Row(400, INVALID, INVALID, "INVALID_ARGUMENT"),
    "invalid_stream_id": Row(400, INVALID, INVALID, "INVALID_ARGUMENT"),
    "websocket_stream_limit_reached": Row(400, INVALID, INVALID, "INVALID_ARGUMENT"),
    "thread_unsupported_request": Row(400, INVALID, INVALID, "INVALID_ARGUMENT"),
    "websocket_upgrade_required": Row(426, INVALID, INVALID, "FAILED_PRECONDITION"),
    "requests_per_minute": LIMIT,
    "tokens_per_minute": LIMIT,
    "requests_per_day": LIMIT,
    "tokens_per_day": LIMIT,
    "concurrency": LIMIT,
    "sandbox_limit": LIMIT,
    "quota_exceeded": Row(429, "billing_error", "rate_limit_error", "RESOURCE_EXHAUSTED"),
    "budget_exceeded": Row(402, "billing_error", "billing_error", "RESOURCE_EXHAUSTED"),
    "insufficient_credits": Row(402, "insufficient_credits", "billing_error", "RESOURCE_EXHAUSTED"),
    "idempotency_conflict": Row(409, INVALID, INVALID, "ABORTED"),
    "idempotency_mismatch": Row(422, INVALID, INVALID, "ABORTED"),
    "draining": Row(503, "service_unavailable", "overloaded_error", "UNAVAILABLE"),
    "limits_unavailable": Row(503, "service_unavailable", "overloaded_error", "UNAVAILABLE"),
    "storage_unavailable": Row(503, "service_unavailable", "overloaded_error", "UNAVAILABLE"),
    "upstream_rejected": Row(400, "upstream_error", INVALID, "INVALID_ARGUMENT"),
    "upstream_credential": Row(502, "upstream_error", "api_error", "INTERNAL"),
    "upstream_failed": Row(502, "upstream_error", "api_error", "INTERNAL"),
    "upstream_unreachable": Row(502, "upstream_error", "api_error", "UNAVAILABLE"),
    "upstream_timeout": Row(504, "timeout", "timeout_error", "DEADLINE_EXCEEDED"),
    "stream_aborted": Row(502, "upstream_error", "api_error", "INTERNAL"),
    "internal_error": Row(500, "server_error", "api_error", "INTERNAL"),
}

# What the vendors call a status that the upstream chose.
ANTHROPIC_BY_STATUS = {400: INVALID, 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error"}
# What Anthropic's packages read of an error to mend the request themselves: they send the whole conversation then.
DETAILS = {"thread_unsupported_request": {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}}
GOOGLE_BY_STATUS = {404: "NOT_FOUND", 409: "ABORTED", 429: "RESOURCE_EXHAUSTED"}


# What a 426 has to tell (https://www.rfc-editor.org/rfc/rfc9110#section-15.5.22), and how (section 7.8).
UPGRADE = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"))


class Fault(Exception):
    """A refusal or a failure, with a code of the table and a message that says what was wrong and what to do."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        upstream: dict[str, Any] | None = None,
        rejection: tuple[int, str] | None = None,
    ) -> None:
        """Take the code, the message, and what else the envelope shows.

        `rejection` is the upstream's own (status, code) of a mistake that is the caller's.
        """
        super().__init__(message)
        self.row = TABLE[code]
        self.status, self.code = rejection or (self.row.status, code)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.upstream = upstream
        self.rejected = rejection is not None
        # The provider that was called, if one was.
        self.provider: str | None = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that this fault adds."""
        found: list[tuple[bytes, bytes]] = []
        if self.code == "websocket_upgrade_required":
            found += UPGRADE
        if self.retry_after_s is not None:
            found.append((b"retry-after", b"%d" % self.retry_after_s))
        if self.provider is not None:
            found.append((b"x-aperture-upstream", self.provider.encode("latin-1", "replace")))
            # A failed request costs nothing.
            found.append((b"x-aperture-cost", money.dollars(0).encode()))
        return found


def render(fault: Fault, envelope: str, request_id: str) -> bytes:
    """Return the JSON body of a fault in an envelope."""
    return msgspec.json.encode(ENVELOPES[envelope](fault, request_id))


def _openai(fault: Fault, request_id: str) -> dict[str, Any]:
    error: dict[str, Any] = {"message": fault.message, "type": fault.row.type, "code": fault.code}
    if fault.param is not None:
        error["param"] = fault.param
    if fault.upstream is not None:
        error["upstream"] = fault.upstream
    return {"error": error, "request_id": request_id}


def _anthropic(fault: Fault, request_id: str) -> dict[str, Any]:
    kind = ANTHROPIC_BY_STATUS.get(fault.status, INVALID) if fault.rejected else fault.row.anthropic
    error: dict[str, Any] = {"type": kind, "message": fault.message, "code": fault.code}
    if fault.code in DETAILS:
        error["details"] = DETAILS[fault.code]
    if fault.upstream is not None:
        error["upstream"] = fault.upstream
    return {"type": "error", "error": error, "request_id": request_id}


def _google(fault: Fault, request_id: str) -> dict[str, Any]:
    status = GOOGLE_BY_STATUS.get(fault.status, "INVALID_ARGUMENT") if fault.rejected else fault.row.google
    error: dict[str, Any] = {"code": fault.status, "message": fault.message, "status": status, "reason": fault.code}
    if fault.upstream is not None:
        error["upstream"] = fault.upstream
    return {"error": error, "request_id": request_id}


ENVELOPES = {OPENAI: _openai, ANTHROPIC: _anthropic, GOOGLE: _google}
