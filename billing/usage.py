"""The rows of usage as the journal writes them: one for each finished request, and their sums by day."""

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from billing import money

MILLIS_PER_DAY = 86_400_000
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


class DaySum(msgspec.Struct):
    """What one key used of one model on one day; `day` counts days since 1970 (UTC)."""

    organization_id: int
    day: int
    key_id: int
    user_id: int
    model: str
    requests_count: int = 0
    failed_count: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    cost_nanos: int = 0
    charge_nanos: int = 0


KEYS = ("organization_id", "day", "key_id", "user_id", "model")
SUMS = tuple(name for name in DaySum.__struct_fields__ if name not in KEYS)
# In the order of the unique index, so that two processes never wait for each other crosswise.
ADD_TO_DAYS = f"""
INSERT INTO billing_usageday AS sums ({", ".join(KEYS + SUMS)})
SELECT organization_id, DATE '1970-01-01' + day, key_id, user_id, model, {", ".join(SUMS)}
  FROM json_to_recordset(%s::json) AS fresh(organization_id bigint, day integer, key_id bigint, user_id bigint,
       model text, {", ".join(f"{name} bigint" for name in SUMS)})
 ORDER BY organization_id, day, key_id, user_id, model
ON CONFLICT (organization_id, day, key_id, user_id, model) DO UPDATE
   SET {", ".join(f"{name} = sums.{name} + excluded.{name}" for name in SUMS)}
"""  # noqa: S608


def paid_nanos(charge_nanos: int, cost_nanos: int, markup_ppm: int) -> int:
    """Return what a request cost its caller, of its row: what the wallet paid or, where it only records, the cost."""
    return charge_nanos or (cost_nanos if markup_ppm == money.PARTS_PER_MILLION else 0)


def day_of(request_id: str) -> int:
    """Return the day on which a request began, counted from 1970 (UTC): a UUID version 7 begins with its time."""
    return int(request_id[:8] + request_id[9:13], 16) // MILLIS_PER_DAY


def first_id(moment: datetime) -> uuid.UUID:
    """Return the smallest request id of a moment's millisecond."""
    return uuid.UUID(int=max(0, (moment - EPOCH) // MILLISECOND) << RANDOM_BITS)


def began_at(request_id: uuid.UUID) -> datetime:
    """Return when a request began, to the millisecond."""
    return EPOCH + (request_id.int >> RANDOM_BITS) * MILLISECOND


def by_day(rows: Iterable[UsageRow]) -> list[DaySum]:
    """Return the sums of these rows by organization, day, key, user and model."""
    sums: dict[tuple[int, int, int, int, str], DaySum] = {}
    for row in rows:
        key = (row.organization_id, day_of(row.request_id), row.key_id, row.user_id, row.model)
        found = sums.get(key)
        if found is None:
            found = sums[key] = DaySum(*key)
        found.requests_count += 1
        found.failed_count += row.status >= 400
        found.input_tokens += row.input_tokens
        found.cache_read_tokens += row.cache_read_tokens
        found.cache_write_tokens += row.cache_write_tokens
        found.output_tokens += row.output_tokens
        found.reasoning_tokens += row.reasoning_tokens
        found.audio_tokens += row.audio_tokens
        found.cost_nanos += row.cost_nanos
        found.charge_nanos += row.charge_nanos
    return list(sums.values())
