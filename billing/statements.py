"""The SQL of a group's transaction. Rows go in as JSON, ids as the text of an array, `%s` each.

Everybody who moves money takes locks in one order, so nobody waits crosswise: wallets, buckets, holds,
each in the order of their ids.
"""

from billing import ledger, usage

OPEN_WALLETS = ledger.OPEN_WALLETS.replace("%(mode)s", "%s").replace("%(ids)s", "%s::bigint[]")
# One statement, for each one sent wakes the database once more. Only prepaid wallets decide anything, so only they are
# locked: a team's nodes do not wait for one another. A wallet is seen as it was before the holds here were closed.
LOCK = """
WITH wanted AS (SELECT unnest(%s::bigint[]) AS organization_id),
locked AS (
    SELECT organization_id, true AS metered, frozen_at IS NOT NULL AS frozen, posted_nanos, held_nanos, overdraft_nanos
      FROM billing_wallet WHERE organization_id IN (SELECT organization_id FROM wanted) AND mode = 'prepaid'
     ORDER BY organization_id FOR NO KEY UPDATE
), closed AS (
    DELETE FROM billing_hold WHERE request_id = ANY(%s::uuid[])
    RETURNING request_id, organization_id, amount_nanos, metered, bucket_ids
)
SELECT NULL, organization_id, metered, frozen, posted_nanos, held_nanos, overdraft_nanos, NULL::bigint[] FROM locked
UNION ALL
SELECT NULL, organization_id, false, frozen_at IS NOT NULL, posted_nanos, held_nanos, overdraft_nanos, NULL
  FROM billing_wallet WHERE organization_id IN (SELECT organization_id FROM wanted) AND mode <> 'prepaid'
UNION ALL
SELECT request_id::text, organization_id, metered, false, amount_nanos, 0, 0, bucket_ids FROM closed
"""
MAKE_BUCKETS = """
INSERT INTO billing_bucket (limit_id, subject, spent_nanos, held_nanos, alerted_percent)
SELECT definition.id, wanted.subject, 0, 0, 0
  FROM json_to_recordset(%s::json) AS wanted(limit_id bigint, subject text)
  JOIN billing_spendinglimit AS definition ON definition.id = wanted.limit_id
 ORDER BY 1, 2 ON CONFLICT (limit_id, subject) DO NOTHING
"""
FIND_BUCKETS = """
SELECT bucket.limit_id, bucket.subject, bucket.id
  FROM billing_bucket AS bucket JOIN json_to_recordset(%s::json) AS wanted(limit_id bigint, subject text)
    ON bucket.limit_id = wanted.limit_id AND bucket.subject = wanted.subject
"""
LOCK_BUCKETS = """
SELECT bucket.id, definition.name, definition.kind, definition.capacity_nanos, definition.rate_nanos,
       definition.period, definition.hard AND definition.enabled, bucket.spent_nanos, bucket.held_nanos,
       bucket.measured_at
  FROM billing_bucket AS bucket JOIN billing_spendinglimit AS definition ON definition.id = bucket.limit_id
 WHERE bucket.id = ANY(%s::bigint[]) ORDER BY bucket.id FOR NO KEY UPDATE OF bucket
"""
CLOSE_EXPIRED = """
DELETE FROM billing_hold WHERE request_id = ANY(%s::uuid[]) AND lease_until < now()
RETURNING request_id::text, organization_id, amount_nanos, metered, bucket_ids, unfinished
"""
FIND_HOLDS = """
SELECT request_id::text, organization_id, amount_nanos, metered, bucket_ids
  FROM billing_hold WHERE request_id = ANY(%s::uuid[])
"""
FIND_USAGE = "SELECT request_id::text, charge_nanos FROM billing_usage WHERE request_id = ANY(%s::uuid[])"
# In the order of their numbers, so that nobody waits crosswise. Of the asks with one key, one is decided at a time.
LOCK_KEYS = """
SELECT pg_advisory_xact_lock(number) FROM (
    SELECT DISTINCT hashtextextended(key, organization_id) AS number
      FROM json_to_recordset(%s::json) AS wanted(organization_id bigint, key text) ORDER BY 1) AS numbers
"""
FIND_KEYS = """
SELECT known.organization_id, known.key, known.body_digest, known.request_id::text, hold.request_id IS NOT NULL
  FROM billing_idempotencykey AS known LEFT JOIN billing_hold AS hold USING (request_id)
 WHERE (known.organization_id, known.key)
       IN (SELECT organization_id, key FROM json_to_recordset(%s::json) AS wanted(organization_id bigint, key text))
   AND known.created_at > now() - interval '1 day'
"""
KEEP_KEYS = """
INSERT INTO billing_idempotencykey (organization_id, key, body_digest, request_id)
SELECT organization_id, key, decode(digest, 'hex'), request_id
  FROM json_to_recordset(%s::json) AS fresh(organization_id bigint, key text, digest text, request_id uuid)
ON CONFLICT (organization_id, key) DO UPDATE
   SET body_digest = excluded.body_digest, request_id = excluded.request_id, created_at = now()
"""
GIVE_KEYS_BACK = """
DELETE FROM billing_idempotencykey WHERE organization_id = ANY(%s::bigint[]) AND request_id = ANY(%s::uuid[])
"""
INSERT_HOLDS = """
INSERT INTO billing_hold (request_id, organization_id, amount_nanos, metered, bucket_ids, unfinished, lease_until)
SELECT request_id, organization_id, amount_nanos, metered, bucket_ids, unfinished, now() + %s::float8 * interval '1 s'
  FROM json_populate_recordset(NULL::billing_hold, %s::json)
"""
# What almost every group writes, in one statement; the triggers run when all of it is written.
WRITE_ENDS = f"""
WITH posted AS ({ledger.INSERT_TRANSFERS}), used AS ({usage.INSERT_USAGE}) SELECT 1
"""
WRITE_BEGINNINGS = f"WITH held AS ({INSERT_HOLDS}) SELECT 1"
WRITE_BOTH = f"""
WITH posted AS ({ledger.INSERT_TRANSFERS}), used AS ({usage.INSERT_USAGE}),
     held AS ({INSERT_HOLDS}) SELECT 1
"""
EXTEND_HOLDS = """
UPDATE billing_hold AS hold SET amount_nanos = fresh.amount_nanos
  FROM json_to_recordset(%s::json) AS fresh(request_id uuid, amount_nanos bigint)
 WHERE hold.request_id = fresh.request_id
"""
RENEW_HOLDS = """
UPDATE billing_hold AS hold SET lease_until = now() + %s::float8 * interval '1 s', unfinished = fresh.unfinished
  FROM json_populate_recordset(NULL::billing_hold, %s::json) AS fresh WHERE hold.request_id = fresh.request_id
"""
UPDATE_BUCKETS = """
UPDATE billing_bucket AS bucket
   SET spent_nanos = fresh.spent, held_nanos = fresh.held, measured_at = fresh.measured_at
  FROM json_to_recordset(%s::json) AS fresh(id bigint, spent bigint, held bigint, measured_at timestamptz)
 WHERE bucket.id = fresh.id
"""
# An answer that nobody got though its settlement was committed: the charge is corrected, and the row says what happened
# and is new to whoever adds rows up.
REVOKE = [
    """
    INSERT INTO billing_transfer (amount_nanos, debit_id, credit_id, request_id, kind, corrects_id, reason)
    SELECT amount_nanos, credit_id, debit_id, request_id, 11, id, 'the answer was not delivered'
      FROM billing_transfer WHERE request_id = %(request)s AND kind = 1 ON CONFLICT DO NOTHING
    """,
    """
    UPDATE billing_usage SET status = %(status)s, error_code = %(code)s, charge_nanos = 0, created_at = now()
     WHERE request_id = %(request)s AND status < 400
    """,
]
