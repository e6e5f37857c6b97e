"""Idempotency keys live for a day; this forgets the older ones.

It deletes in small steps, each a transaction of its own, so no request waits for a long one.
"""

from datetime import datetime, timedelta

from django.db import connection

LIFETIME = timedelta(days=1)
STEP_ROWS = 10_000

# Ids grow with time, so the oldest rows are found without an index on their time.
DELETE = """
DELETE FROM billing_idempotencykey WHERE id IN (
    SELECT id FROM (SELECT id, created_at FROM billing_idempotencykey ORDER BY id LIMIT %s) AS oldest
     WHERE created_at < %s)
"""


def prune(now: datetime) -> int:
    """Delete the keys made more than a day before NOW; return how many."""
    deleted: int = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(DELETE, [STEP_ROWS, now - LIFETIME])
            rows = int(cursor.rowcount)
            deleted += rows
            if rows < STEP_ROWS:
                return deleted
