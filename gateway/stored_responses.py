"""Keep, find and delete stored responses, outside the ORM: encrypted, and each within its organization.

What was asked is kept without what came before it: a conversation is the chain of its responses, and deleting one
deletes all that was said in it.
"""

import datetime
from typing import Any

import msgspec
import psycopg
from django.utils import timezone
from psycopg.rows import dict_row

from accounts import cipher
from billing.connection import Connection
from gateway.errors import Fault
from gateway.models import StoredResponse

TIMEOUT_S = 5.0
CHAIN_MAX = 500
# What one row may hold, encrypted; a longer one is not kept.
CONTENT_BYTES_MAX = 32 * 1024 * 1024
# What a conversation may hold, encrypted, before it is no longer read.
CONVERSATION_BYTES_MAX = 128 * 1024 * 1024
# What became of a response whose process ended before it did.
STOPPED = {"code": "server_error", "message": "The gateway was stopped before this response was complete."}

KEEP = """
INSERT INTO gateway_storedresponse
       (organization_id, response_id, previous_id, status, encrypted, created_at, expires_at, lease_until)
VALUES (%(organization_id)s, %(response_id)s, %(previous_id)s, %(status)s, %(encrypted)s, now(), %(expires_at)s,
        now() + %(lease_s)s * interval '1 s')
    ON CONFLICT (organization_id, response_id) DO NOTHING
"""
# One that was deleted or cancelled meanwhile is not brought back.
FINISH = """
UPDATE gateway_storedresponse SET status = %(status)s, encrypted = %(encrypted)s, lease_until = NULL
 WHERE organization_id = %(organization_id)s AND response_id = %(response_id)s AND status IN ('queued', 'in_progress')
"""
CHAIN = """
WITH RECURSIVE chain AS (
    SELECT response_id, previous_id, status, encrypted, lease_until, 1 AS depth, octet_length(encrypted) AS bytes
      FROM gateway_storedresponse
     WHERE organization_id = %(organization_id)s AND response_id = %(response_id)s AND expires_at > now()
    UNION ALL
    SELECT before.response_id, before.previous_id, before.status, before.encrypted, before.lease_until, depth + 1,
           bytes + octet_length(before.encrypted)
      FROM chain JOIN gateway_storedresponse AS before
        ON before.organization_id = %(organization_id)s AND before.response_id = chain.previous_id
       AND before.expires_at > now()
     WHERE chain.previous_id <> '' AND depth < %(depth_max)s AND bytes <= %(bytes_max)s
)
SELECT * FROM chain ORDER BY depth
"""
DELETE = "DELETE FROM gateway_storedresponse WHERE organization_id = %s AND response_id = %s"
CANCEL = """
UPDATE gateway_storedresponse SET status = 'cancelled', lease_until = NULL
 WHERE organization_id = %s AND response_id = %s AND status IN ('queued', 'in_progress')
"""
RENEW = """
UPDATE gateway_storedresponse SET status = 'in_progress', lease_until = now() + %s * interval '1 s'
 WHERE organization_id = %s AND response_id = %s AND status IN ('queued', 'in_progress')
"""


class Kept(msgspec.Struct, frozen=True):
    """A stored response: the items that were asked with it, and the answer as its caller got it."""

    response_id: str
    previous_id: str
    status: str
    input: list[Any]
    response: dict[str, Any]


class Content(msgspec.Struct):
    """What is encrypted."""

    input: list[Any]
    response: dict[str, Any]


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Content).decode


async def keep(
    connection: Connection, organization_id: int, kept: Kept, *, days: float, lease_s: float | None = None
) -> bool:
    """Write a response; return False where it is too large, or there is one of this id.

    It is kept for DAYS; LEASE_S is for how long somebody says to be working on it. Raise Fault 503.
    """
    more = {"expires_at": timezone.now() + datetime.timedelta(days=days), "lease_s": lease_s}
    return await _write(connection, KEEP, organization_id, kept, more)


async def finish(connection: Connection, organization_id: int, kept: Kept) -> bool:
    """Write the end of a response that ran; return False where it is too large, was cancelled or deleted.

    Raise Fault 503.
    """
    return await _write(connection, FINISH, organization_id, kept, {})


async def _write(connection: Connection, query: str, organization_id: int, kept: Kept, more: dict[str, Any]) -> bool:
    content = encode(Content(kept.input, kept.response)).decode()
    if len(content) > CONTENT_BYTES_MAX:
        return False
    values = {
        "organization_id": organization_id,
        "response_id": kept.response_id,
        "previous_id": kept.previous_id,
        "status": kept.status,
        "encrypted": cipher.seal(content, _purpose(organization_id, kept.response_id)),
    }
    return await _execute(connection, query, values | more) > 0


async def find(connection: Connection, organization_id: int, response_id: str) -> Kept:
    """Return a stored response; raise Fault 404 or 503."""
    rows = await _chain(connection, organization_id, response_id, depth_max=1)
    if not rows:
        raise Fault(
            "not_found",
            f"There is no stored response {response_id[:128]!r}: a response is kept only if it was asked for with "
            "`store: true`, for as long as the operator keeps them.",
        )
    return _opened(organization_id, rows[0])


async def conversation(connection: Connection, organization_id: int, response_id: str) -> list[Kept]:
    """Return a stored response and all before it, oldest first.

    Raise Fault 400 where one is gone or not complete yet, 413 where they are too much, or 503.
    """
    rows = await _chain(connection, organization_id, response_id, depth_max=CHAIN_MAX)
    missing = rows[-1]["previous_id"] if rows else response_id
    if len(rows) == CHAIN_MAX or (rows and rows[-1]["bytes"] > CONVERSATION_BYTES_MAX):
        raise too_long()
    if missing:
        raise Fault(
            "previous_response_not_found",
            f"previous_response_id leads to {missing[:128]!r}, which is not stored: ask with `store: true`, or send "
            "the whole conversation as input.",
            param="previous_response_id",
        )
    found = [_opened(organization_id, row) for row in reversed(rows)]
    if found[-1].status in StoredResponse.RUNNING:
        raise Fault(
            "invalid_parameter",
            "previous_response_id names a response that is not complete yet; GET it until it is.",
            param="previous_response_id",
        )
    return found


def too_long() -> Fault:
    """Return the fault of a conversation that is no longer put together."""
    return Fault(
        "request_too_large",
        "This conversation is too long to be kept here and continued; send what matters of it as input.",
        param="previous_response_id",
    )


async def delete(connection: Connection, organization_id: int, response_id: str) -> bool:
    """Delete a stored response; return whether there was one. Raise Fault 503."""
    return await _execute(connection, DELETE, (organization_id, response_id)) > 0


async def cancel(connection: Connection, organization_id: int, response_id: str) -> bool:
    """Cancel a response that runs; return whether one did. Raise Fault 503."""
    return await _execute(connection, CANCEL, (organization_id, response_id)) > 0


async def renew(connection: Connection, organization_id: int, response_id: str, lease_s: float) -> bool:
    """Say that a response is still worked on; return False where it was cancelled or deleted. Raise Fault 503."""
    return await _execute(connection, RENEW, (lease_s, organization_id, response_id)) > 0


def _opened(organization_id: int, row: dict[str, Any]) -> Kept:
    content = decode(cipher.unseal(bytes(row["encrypted"]), _purpose(organization_id, row["response_id"])))
    status, response = row["status"], content.response
    if status in StoredResponse.RUNNING and row["lease_until"] is not None and row["lease_until"] < timezone.now():
        status = StoredResponse.FAILED
        response = response | {"error": STOPPED}
    return Kept(row["response_id"], row["previous_id"], status, content.input, response | {"status": status})


def _purpose(organization_id: int, response_id: str) -> str:
    return f"response:{organization_id}:{response_id}"


async def _chain(
    connection: Connection, organization_id: int, response_id: str, *, depth_max: int
) -> list[dict[str, Any]]:
    values = {
        "organization_id": organization_id,
        "response_id": response_id,
        "depth_max": depth_max,
        "bytes_max": CONVERSATION_BYTES_MAX,
    }
    try:
        async with connection.using(TIMEOUT_S) as raw, raw.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(CHAIN, values)
            return await cursor.fetchall()
    except psycopg.DataError:
        return []
    except (psycopg.OperationalError, OSError, TimeoutError):
        raise _away() from None


async def _execute(connection: Connection, query: str, values: dict[str, Any] | tuple[Any, ...]) -> int:
    try:
        async with connection.using(TIMEOUT_S) as raw:
            return (await raw.execute(query.encode(), values)).rowcount
    except psycopg.DataError:
        # An id that no column takes.
        return 0
    except (psycopg.OperationalError, OSError, TimeoutError):
        raise _away() from None


def _away() -> Fault:
    return Fault("storage_unavailable", "The database does not answer; try again.", retry_after_s=1)
