"""Every error of the money API: the codes, statuses and types of docs/errors.md in the same envelope.

Whatever is raised in a view comes through `answer`, so no error is a page and none tells what is inside.
"""

import logging
import uuid
from typing import Any

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.http import Http404
from psycopg import errors as postgres
from rest_framework import exceptions
from rest_framework.response import Response

logger = logging.getLogger("billing.api")

REQUEST_ID_HEADER = "x-aperture-request-id"
INVALID, DENIED = "invalid_request_error", "permission_denied"

# Code: status and type. What the gateway answers too is the same there (a test compares).
TABLE: dict[str, tuple[int, str]] = {
    "not_found": (404, INVALID),
    "method_not_allowed": (405, INVALID),
    "invalid_api_key": (401, "invalid_api_key"),
    "api_key_expired": (401, "invalid_api_key"),
    "ip_restricted": (403, DENIED),
    "scope_required": (403, DENIED),
    "role_required": (403, DENIED),
    "no_role_granted": (403, DENIED),
    "csrf_failed": (403, DENIED),
    "requests_per_minute": (429, "rate_limit_exceeded"),
    "too_many_tries": (429, "rate_limit_exceeded"),
    "limits_unavailable": (503, "service_unavailable"),
    "request_too_large": (413, INVALID),
    "unsupported_media_type": (415, INVALID),
    "invalid_json": (400, INVALID),
    "invalid_parameter": (400, INVALID),
    "key_changed": (409, INVALID),
    "idempotency_conflict": (409, INVALID),
    "idempotency_mismatch": (422, INVALID),
    "card_payments_off": (503, "service_unavailable"),
    "stripe_failed": (502, "upstream_error"),
    "storage_unavailable": (503, "service_unavailable"),
    "internal_error": (500, "server_error"),
}
STORAGE = "The database does not answer; try again."
NARROW = "This takes too long; ask for a shorter range or with fewer filters."


class Fault(Exception):
    """A refusal with a code of the table, and a message that says what was wrong and what to do."""

    def __init__(self, code: str, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = TABLE[code][0]
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


def new_request_id() -> str:
    """Return a name for a request."""
    return str(uuid.uuid4())


def answer(error: Exception, context: dict[str, Any]) -> Response:
    """Return the answer to any exception of a view; what nobody expected is logged with the request's id."""
    request_id = context["view"].request_id
    return envelope(logged(error, request_id), request_id)


def logged(error: Exception, request_id: str) -> Fault:
    """Return the fault that an exception means; what is no refusal of ours is logged."""
    fault = fault_of(error)
    if fault.status >= 500 and fault is not error:
        logger.error("request %s failed", request_id, exc_info=error)
    return fault


def envelope(fault: Fault, request_id: str) -> Response:
    """Return a fault as an answer."""
    body: dict[str, Any] = {"message": fault.message, "type": TABLE[fault.code][1], "code": fault.code}
    if fault.param is not None:
        body["param"] = fault.param
    response = Response({"error": body, "request_id": request_id}, status=fault.status)
    if fault.retry_after_s is not None:
        response["Retry-After"] = str(fault.retry_after_s)
    if fault.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    return response


def fault_of(error: Exception) -> Fault:
    """Return the fault that an exception means."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, exceptions.APIException):
        return _of_framework(error)
    if isinstance(error, Http404):
        return Fault("not_found", "There is nothing here; docs/billing-api.md lists the addresses.")
    if isinstance(error, RequestDataTooBig):
        return Fault("request_too_large", "The body is too large.")
    if isinstance(error, DjangoPermissionDenied):
        return Fault("role_required", "You may not do this.")
    if isinstance(error, DatabaseError):
        if isinstance(error.__cause__, postgres.QueryCanceled):
            return Fault("invalid_parameter", NARROW)
        if isinstance(error, OperationalError | InterfaceError):
            connection.close()
            return Fault("storage_unavailable", STORAGE, retry_after_s=1)
    return Fault("internal_error", "Aperture failed; tell the operator the request id.")


def _of_framework(error: exceptions.APIException) -> Fault:
    """Return the fault for what REST framework raises."""
    message = str(error.detail) if isinstance(error.detail, str) else ""
    if isinstance(error, exceptions.ValidationError):
        return _invalid(error.detail)
    if isinstance(error, exceptions.MethodNotAllowed):
        return Fault("method_not_allowed", f"{message} The Allow header lists those that are.")
    if isinstance(error, exceptions.UnsupportedMediaType):
        return Fault("unsupported_media_type", "Send the body as Content-Type: application/json, not compressed.")
    if isinstance(error, exceptions.PermissionDenied):
        return Fault("csrf_failed", f"{message} Send the CSRF cookie's value as X-CSRFToken, or use an API key.")
    if isinstance(error, exceptions.ParseError):
        return Fault("invalid_json", message)
    return Fault("internal_error", "Aperture failed; tell the operator the request id.")


def _invalid(detail: Any, path: str = "") -> Fault:
    """Return the fault for the first thing that is wrong with what was sent."""
    while isinstance(detail, dict | list) and detail:
        if isinstance(detail, dict):
            name, detail = next(iter(detail.items()))
            path = path if name == "non_field_errors" else f"{path}.{name}".lstrip(".")
        else:
            detail = detail[0]
    return Fault("invalid_parameter", str(detail), param=path or None)
