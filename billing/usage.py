"""The rows of usage as the journal writes them: one for each finished request."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from billing import money

EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
# What follows the time in a UUID version 7.
RANDOM_BITS = 80


class UsageRow(msgspec.Struct, kw_only=True):
    """The columns of `billing.Usage`; the field names are the column names. All amounts are nano-dollars.

    What is left out says that nothing was used; it also stands in for a column that the writer of an open hold, an
    older version, did not know.
    """

    request_id: str
    key_id: int
    user_id: int
    organization_id: int
    provider_id: int | None = None
    target_id: int | None = None
    price_id: int | None = None
    cost_nanos: int = 0
    charge_nanos: int = 0
    markup_ppm: int = 1_000_000
    first_byte_ms: int | None = None
    duration_ms: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    searches: int = 0
    status: int = 500
    streamed: bool = False
    model: str
    dialect: str
    error_code: str = ""
    usage_source: str = "none"
    service_tier: str = ""
    session_id: str = ""
    client: str = ""
    labels: dict[str, str] | None = None


# Of a hold that keeps nothing.
UNKNOWN: dict[str, Any] = {
    field.name: {str: "", int: 0}[field.type] for field in msgspec.structs.fields(UsageRow) if field.required
}


def restored(stored: Mapping[str, Any]) -> UsageRow:
    """Return the row that an open hold keeps as JSON, whichever version wrote it."""
    return msgspec.convert(UNKNOWN | dict(stored), UsageRow)


COLUMNS = ", ".join(UsageRow.__struct_fields__)
INSERT_USAGE = (
    f"INSERT INTO billing_usage ({COLUMNS}) "  # noqa: S608
    f"SELECT {COLUMNS} FROM json_populate_recordset(NULL::billing_usage, %s::json)"
)


def paid_nanos(charge_nanos: int, cost_nanos: int, markup_ppm: int) -> int:
    """Return what a request cost its caller, of its row: what the wallet paid or, where it only records, the cost."""
    return charge_nanos or (cost_nanos if markup_ppm == money.PARTS_PER_MILLION else 0)


def first_id(moment: datetime) -> uuid.UUID:
    """Return the smallest request id of a moment's millisecond."""
    return uuid.UUID(int=max(0, (moment - EPOCH) // MILLISECOND) << RANDOM_BITS)


def began_at(request_id: uuid.UUID) -> datetime:
    """Return when a request began, to the millisecond."""
    return EPOCH + (request_id.int >> RANDOM_BITS) * MILLISECOND
