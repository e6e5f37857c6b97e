"""The usage table's partitions: one for each month (UTC), and one for what fits none.

A partition's bounds are request ids, UUIDs version 7, whose first 48 bits are milliseconds since 1970
(https://www.rfc-editor.org/rfc/rfc9562#section-5.7). Nothing is ever refused for want of a partition: rows that came
before it lie in the default one, and move when it is made.
"""

from datetime import UTC, date, datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

AHEAD_MONTHS = 2

FUNCTIONS = """
CREATE FUNCTION aperture_first_request_id(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

CREATE FUNCTION aperture_usage_partition(month_start date) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    name text := 'billing_usage_' || to_char(month_start, 'YYYY_MM');
    first_id uuid := aperture_first_request_id(month_start::timestamp AT TIME ZONE 'UTC');
    next_id uuid := aperture_first_request_id((month_start + interval '1 month') AT TIME ZONE 'UTC');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('aperture_usage_partition'));
    IF to_regclass(name) IS NULL THEN
        EXECUTE format('CREATE TABLE %I (LIKE billing_usage INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        LOCK TABLE billing_usage_other IN ACCESS EXCLUSIVE MODE;
        EXECUTE format(
            'WITH moved AS (DELETE FROM billing_usage_other WHERE request_id >= %L AND request_id < %L RETURNING *) '
            'INSERT INTO %I SELECT * FROM moved', first_id, next_id, name);
        EXECUTE format('ALTER TABLE billing_usage ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       name, first_id, next_id);
    END IF;
    RETURN name;
END $$;
"""

WITHOUT_FUNCTIONS = """
DROP FUNCTION aperture_usage_partition(date);
DROP FUNCTION aperture_first_request_id(timestamptz);
"""

# Columns from wide to narrow, so that alignment wastes nothing.
TABLE = """
ALTER TABLE billing_usage RENAME TO billing_usage_before;
ALTER INDEX billing_usage_pkey RENAME TO billing_usage_before_pkey;
DROP INDEX usage_by_organization;
DROP INDEX usage_by_time;

CREATE TABLE billing_usage (
    request_id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    key_id bigint NOT NULL,
    user_id bigint NOT NULL,
    organization_id bigint NOT NULL,
    provider_id bigint,
    target_id bigint,
    price_id bigint,
    cost_nanos bigint NOT NULL DEFAULT 0,
    charge_nanos bigint NOT NULL DEFAULT 0,
    markup_ppm integer NOT NULL DEFAULT 1000000,
    first_byte_ms integer,
    duration_ms integer NOT NULL,
    input_tokens integer NOT NULL DEFAULT 0,
    cache_read_tokens integer NOT NULL DEFAULT 0,
    cache_write_tokens integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0,
    reasoning_tokens integer NOT NULL DEFAULT 0,
    audio_tokens integer NOT NULL DEFAULT 0,
    searches smallint NOT NULL DEFAULT 0,
    status smallint NOT NULL,
    streamed boolean NOT NULL DEFAULT false,
    model varchar(256) NOT NULL,
    dialect varchar(32) NOT NULL,
    error_code varchar(64) NOT NULL,
    usage_source varchar(16) NOT NULL,
    service_tier varchar(16) NOT NULL DEFAULT '',
    session_id varchar(64) NOT NULL,
    client varchar(64) NOT NULL,
    labels jsonb,
    CONSTRAINT usage_cost_not_negative CHECK (cost_nanos >= 0 AND charge_nanos >= 0),
    CONSTRAINT usage_tokens_not_negative CHECK (
        input_tokens >= 0 AND cache_read_tokens >= 0 AND cache_write_tokens >= 0 AND output_tokens >= 0
        AND reasoning_tokens >= 0 AND audio_tokens >= 0 AND searches >= 0)
) PARTITION BY RANGE (request_id);
CREATE INDEX usage_by_organization ON billing_usage (organization_id, request_id);
CREATE TABLE billing_usage_other PARTITION OF billing_usage DEFAULT;

INSERT INTO billing_usage
SELECT request_id, created_at, key_id, user_id, organization_id, provider_id, target_id, price_id, cost_nanos, 0,
       1000000, first_byte_ms, duration_ms, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
       reasoning_tokens, audio_tokens, 0, status, streamed, model, dialect, error_code, usage_source, '', session_id,
       client, NULL
  FROM billing_usage_before;
DROP TABLE billing_usage_before;
"""

# Partitions for the months that have rows, this one and the next.
FIRST = """
SELECT aperture_usage_partition(month::date)
  FROM (SELECT date_trunc('month', created_at AT TIME ZONE 'UTC') AS month FROM billing_usage
        UNION
        SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + ahead * interval '1 month'
          FROM generate_series(0, 2) AS ahead) AS months
 GROUP BY month;
"""


def ensure(now: datetime) -> list[str]:
    """Make the partitions of NOW's month and the next ones where they are missing; return their names.

    Making one needs the default partition for a moment; behind a long query it gives up after two seconds, as `retire`
    does: months are made long before they begin.
    """
    months = [month_after(now.astimezone(UTC).date().replace(day=1), ahead) for ahead in range(AHEAD_MONTHS + 1)]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '2s'")
        names = []
        for month in months:
            cursor.execute("SELECT aperture_usage_partition(%s)", [month])
            names += [str(row[0]) for row in cursor.fetchall()]
    return names


def month_after(first_day: date, months: int) -> date:
    """Return the first day of the month that comes MONTHS after (before, if below zero) that of FIRST_DAY."""
    years, month = divmod(first_day.year * 12 + first_day.month - 1 + months, 12)
    return date(years, month + 1, 1)


def detach_before(month: date) -> list[str]:
    """Detach the partitions of months before MONTH; return their names. Their tables stay: archive or drop them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relid::regclass::text FROM pg_partition_tree('billing_usage') "
            "WHERE isleaf AND relid::regclass::text ~ '^billing_usage_[0-9]{4}_[0-9]{2}$'"
        )
        old = sorted(name for (name,) in cursor.fetchall() if name < f"billing_usage_{month:%Y_%m}")
        for name in old:
            cursor.execute(f"ALTER TABLE billing_usage DETACH PARTITION {connection.ops.quote_name(name)}")
    return old


def ensure_now(**_: Any) -> None:
    """Make the partitions that are missing; called after every migration, a reversed one too."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regproc('aperture_usage_partition') IS NOT NULL")
        if (cursor.fetchone() or [False])[0]:
            ensure(timezone.now())


def retire(now: datetime, keep_months: int) -> list[str]:
    """Detach the months before the KEEP_MONTHS full ones that came before NOW's; 0 keeps all. Return their names.

    Detaching needs the table for a moment. Behind a long query it would wait, and every request behind it; so it gives
    up after two seconds, for the next day's run to try again.
    """
    if keep_months == 0:
        return []
    month = kept_since(now, keep_months)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '2s'")
        return detach_before(month)


def kept_since(now: datetime, keep_months: int) -> date:
    """Return the first day whose rows are kept, with KEEP_MONTHS full months before NOW's."""
    return month_after(now.astimezone(UTC).date().replace(day=1), -keep_months)
