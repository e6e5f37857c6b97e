"""Compare every two records of the same money, and name what differs.

Each check is one SQL statement, so it sees one moment, also while requests are settled; the database sorts and sums,
and at most `DIFFERENCES_MAX` rows of a check come back, so memory is bounded whatever the tables hold. `since` limits
the checks to what moved since then: by the time in a request's id, or by a transfer's own.

A check's rows are a subject and a sentence. Usage of months whose partition was detached is not missed: what lies
before the oldest attached month is out of reach (`floor`).
"""

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime

import msgspec
from django.db import connection, transaction

from billing.models import Difference, House, Kind
from billing.rollups import OF_ROWS, SUMS

logger = logging.getLogger(__name__)

DIFFERENCES_MAX = 1000
LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('aperture_reconcile'))"

# The first request id that the attached months can hold, and the first one that is asked for.
FLOOR = """
SELECT greatest(
    aperture_first_request_id(coalesce(
        (SELECT min(to_date(right(relid::regclass::text, 7), 'YYYY_MM'))::timestamp
           FROM pg_partition_tree('billing_usage')
          WHERE isleaf AND relid::regclass::text ~ '^billing_usage_[0-9]{4}_[0-9]{2}$'),
        '1970-01-01') AT TIME ZONE 'UTC'),
    aperture_first_request_id(coalesce(%s, '1970-01-01'::timestamptz)))::text
"""

LEGS = """
legs AS (
    SELECT credit_id AS account, amount_nanos AS amount FROM billing_transfer WHERE credit_id > 0
    UNION ALL
    SELECT debit_id, -amount_nanos FROM billing_transfer WHERE debit_id > 0
)
"""

# Which wallets: all, or those that a transfer moved since.
MOVED = """
(%(since)s::timestamptz IS NULL OR wallet.organization_id IN (
    SELECT credit_id FROM billing_transfer WHERE created_at >= %(since)s UNION
    SELECT debit_id FROM billing_transfer WHERE created_at >= %(since)s))
"""

WALLET_POSTED = f"""
WITH {LEGS}, sums AS (SELECT account, sum(amount) AS amount FROM legs GROUP BY account)
SELECT 'organization ' || wallet.organization_id,
       'the wallet says ' || wallet.posted_nanos || ' nano-dollars posted, its transfers ' || coalesce(sums.amount, 0)
  FROM billing_wallet AS wallet LEFT JOIN sums ON sums.account = wallet.organization_id
 WHERE wallet.posted_nanos <> coalesce(sums.amount, 0) AND {MOVED}
"""  # noqa: S608 - the parts are literals of this module

WALLET_FUNDED = """
SELECT 'organization ' || organization_id,
       'funded is ' || funded || ' with ' || posted_nanos || ' nano-dollars posted'
  FROM billing_wallet WHERE funded <> (posted_nanos > 0)
"""

WALLET_HELD = """
WITH sums AS (
    SELECT organization_id, sum(amount_nanos) AS amount FROM billing_hold WHERE metered GROUP BY organization_id
)
SELECT 'organization ' || coalesce(wallet.organization_id, sums.organization_id),
       'the wallet says ' || coalesce(wallet.held_nanos::text, 'nothing, for there is none,')
       || ' nano-dollars held, its open holds ' || coalesce(sums.amount, 0)
  FROM billing_wallet AS wallet FULL JOIN sums ON sums.organization_id = wallet.organization_id
 WHERE coalesce(wallet.held_nanos, 0) <> coalesce(sums.amount, 0)
"""

HOLD_OVERDUE = """
SELECT 'request ' || request_id, 'its hold of ' || amount_nanos || ' nano-dollars had a lease until ' || lease_until
  FROM billing_hold WHERE lease_until < now() - interval '60 seconds' ORDER BY lease_until
"""

HOLD_OF_SETTLED = """
SELECT 'request ' || hold.request_id, 'it was settled with status ' || usage.status || ', and its hold is still open'
  FROM billing_hold AS hold JOIN billing_usage AS usage ON usage.request_id = hold.request_id
"""

# `kind` moves from `payer` to `payee` what the usage row's `amount` says, or there is no such transfer and it says 0. A
# charge for an answer that was never delivered was taken back under its own request, and its row says 0 too.
USAGE_AMOUNT = """
SELECT 'request ' || usage.request_id,
       'usage says {amount} of ' || usage.{amount} || ' nano-dollars, the ledger '
       || coalesce(transfer.amount_nanos || ' from ' || transfer.debit_id || ' to ' || transfer.credit_id, 'nothing')
  FROM billing_usage AS usage
  LEFT JOIN billing_transfer AS transfer ON transfer.request_id = usage.request_id AND transfer.kind = {kind}
   AND NOT EXISTS (SELECT FROM billing_transfer AS back
                    WHERE back.request_id = usage.request_id AND back.corrects_id = transfer.id)
 WHERE usage.request_id >= %(floor)s
   AND (usage.{amount} <> coalesce(transfer.amount_nanos, 0)
        OR transfer.debit_id <> {payer} OR transfer.credit_id <> {payee})
"""

TRANSFER_WITHOUT_USAGE = """
SELECT 'request ' || transfer.request_id,
       'transfer ' || transfer.id || ' of ' || transfer.amount_nanos || ' nano-dollars has no usage row'
  FROM billing_transfer AS transfer
 WHERE transfer.request_id >= %(floor)s
   AND NOT EXISTS (SELECT FROM billing_usage AS usage WHERE usage.request_id = transfer.request_id)
"""

# An hour is made anew when one of its rows is new, and that takes a moment.
USAGE_HOUR = """
WITH sums AS (
    SELECT organization_id, date_trunc('hour', aperture_began_at(request_id), 'UTC') AS hour, key_id, user_id, model,
           coalesce(provider_id, 0) AS provider_id, max(created_at) AS newest_at, {of_rows}
      FROM billing_usage
     WHERE request_id >= aperture_first_request_id(%(day)s::timestamp AT TIME ZONE 'UTC')
       AND request_id < (SELECT aperture_first_request_id(hours_until) FROM billing_rolledup)
     GROUP BY organization_id, 2, key_id, user_id, model, coalesce(provider_id, 0)
), hours AS (
    SELECT * FROM billing_usagehour WHERE hour >= %(day)s::timestamp AT TIME ZONE 'UTC'
)
SELECT concat_ws(', ', 'organization ' || organization_id, hour, 'key ' || key_id, 'user ' || user_id, model),
       CASE WHEN hours.id IS NULL THEN 'there are ' || sums.requests_count || ' requests, and no row of their hour'
            WHEN sums.requests_count IS NULL
            THEN 'the hour says ' || hours.requests_count || ' requests, and there is none'
            ELSE concat_ws('; ', {differences}) END
  FROM hours FULL JOIN sums USING (organization_id, hour, key_id, user_id, model, provider_id)
 WHERE ({hours}) IS DISTINCT FROM ({rows})
   AND coalesce(newest_at < (SELECT seen_until FROM billing_rolledup) - interval '10 minutes', true)
""".format(  # noqa: S608 - the parts are literals of this module
    of_rows=OF_ROWS,
    hours=", ".join(f"hours.{name}" for name in SUMS),
    rows=", ".join(f"sums.{name}" for name in SUMS),
    differences=", ".join(
        f"CASE WHEN hours.{name} IS DISTINCT FROM sums.{name} THEN '{name} ' || hours.{name}"
        f" || ' by hour, ' || sums.{name} || ' by its usage rows' END"
        for name in SUMS
    ),
)  # fmt: skip
USAGE_DAY = """
WITH sums AS (
    SELECT organization_id, (hour AT TIME ZONE 'UTC')::date AS day, sum(requests_count) AS requests,
           sum(charge_nanos) AS charge, sum(cost_nanos) AS cost
      FROM billing_usagehour WHERE hour >= %(day)s::timestamp AT TIME ZONE 'UTC' GROUP BY 1, 2
), days AS (
    SELECT organization_id, day, sum(requests_count) AS requests, sum(charge_nanos) AS charge, sum(cost_nanos) AS cost
      FROM billing_usageday WHERE day >= %(day)s GROUP BY 1, 2
)
SELECT 'organization ' || organization_id || ', ' || day,
       'the day says ' || coalesce(days.requests, 0) || ' requests, ' || coalesce(days.charge, 0)
       || ' nano-dollars charged, ' || coalesce(days.cost, 0) || ' of cost; its hours ' || coalesce(sums.requests, 0)
       || ', ' || coalesce(sums.charge, 0) || ', ' || coalesce(sums.cost, 0)
  FROM days FULL JOIN sums USING (organization_id, day)
 WHERE (days.requests, days.charge, days.cost) IS DISTINCT FROM (sums.requests, sums.charge, sums.cost)
"""

HOUSE = f"({', '.join(str(account.value) for account in House)})"
ACCOUNT_MISSING = f"""
SELECT 'transfer ' || transfer.id,
       'it moves ' || transfer.amount_nanos || ' nano-dollars from ' || debit_id || ' to ' || credit_id
       || ', and one of them is no account'
  FROM billing_transfer AS transfer
 WHERE (%(since)s::timestamptz IS NULL OR transfer.created_at >= %(since)s)
   AND (debit_id NOT IN {HOUSE}
            AND NOT EXISTS (SELECT FROM billing_wallet WHERE organization_id = transfer.debit_id)
        OR credit_id NOT IN {HOUSE}
            AND NOT EXISTS (SELECT FROM billing_wallet WHERE organization_id = transfer.credit_id))
"""  # noqa: S608 - the parts are literals of this module

CORRECTION = f"""
SELECT 'transfer ' || correction.id,
       'it corrects transfer ' || corrected.id || ' of ' || corrected.amount_nanos || ' nano-dollars from '
       || corrected.debit_id || ' to ' || corrected.credit_id || ' with ' || correction.amount_nanos || ' from '
       || correction.debit_id || ' to ' || correction.credit_id
       || CASE WHEN twice.id IS NULL THEN '' ELSE ', and so does transfer ' || twice.id END
  FROM billing_transfer AS correction
  JOIN billing_transfer AS corrected ON corrected.id = correction.corrects_id
  LEFT JOIN billing_transfer AS twice ON twice.corrects_id = corrected.id AND twice.id < correction.id
 WHERE correction.kind = {Kind.CORRECTION} AND (%(since)s::timestamptz IS NULL OR correction.created_at >= %(since)s)
   AND (correction.amount_nanos <> corrected.amount_nanos OR correction.debit_id <> corrected.credit_id
        OR correction.credit_id <> corrected.debit_id OR twice.id IS NOT NULL)
"""  # noqa: S608 - the parts are literals of this module

BUCKET_HELD = """
WITH sums AS (
    SELECT bucket_id, sum(amount_nanos) AS amount FROM billing_hold, unnest(bucket_ids) AS bucket_id GROUP BY bucket_id
)
SELECT 'bucket ' || coalesce(bucket.id, sums.bucket_id),
       'the bucket says ' || coalesce(bucket.held_nanos::text, 'nothing, for there is none,')
       || ' nano-dollars held, the open holds that name it ' || coalesce(sums.amount, 0)
  FROM billing_bucket AS bucket FULL JOIN sums ON sums.bucket_id = bucket.id
 WHERE coalesce(bucket.held_nanos, 0) <> coalesce(sums.amount, 0)
"""

PAYMENT = """
SELECT 'payment ' || payment.id,
       'the payment gave ' || payment.credit_nanos || ' nano-dollars of credit, its transfer to organization '
       || payment.organization_id || ' ' || coalesce(transfer.amount_nanos, 0)
  FROM billing_payment AS payment
  LEFT JOIN billing_transfer AS transfer
    ON transfer.credit_id = payment.organization_id
   AND transfer.reference = CASE payment.kind WHEN 'top_up' THEN 'stripe:checkout:' || payment.stripe_session_id
                                              ELSE 'stripe:invoice:' || payment.stripe_invoice_id END
 WHERE payment.credit_nanos <> coalesce(transfer.amount_nanos, 0)
   AND (%(since)s::timestamptz IS NULL OR payment.paid_at >= %(since)s)
"""

# A transfer that took the credit may be corrected by an operator too: that returned it as well.
REVERSAL = """
SELECT 'reversal ' || reversal.id,
       'the ' || reversal.kind || ' (' || reversal.status || ') took ' || reversal.credit_nanos
       || ' nano-dollars, its transfer ' || coalesce(taken.amount_nanos, 0) || ', of which '
       || coalesce(returned.amount_nanos, 0) || ' were returned'
  FROM billing_reversal AS reversal
  JOIN billing_payment AS payment ON payment.id = reversal.payment_id
  LEFT JOIN billing_transfer AS taken
    ON taken.reference = reversal.reference AND taken.debit_id = payment.organization_id
  LEFT JOIN billing_transfer AS returned ON returned.corrects_id = taken.id
 WHERE (reversal.credit_nanos <> coalesce(taken.amount_nanos, 0)
        OR reversal.status = 'returned' AND coalesce(returned.amount_nanos, 0) <> reversal.credit_nanos)
   AND (%(since)s::timestamptz IS NULL OR reversal.created_at >= %(since)s)
"""

BOOKS = """
SELECT 'all accounts', 'their balances add up to ' || total || ' nano-dollars instead of 0'
  FROM (SELECT (SELECT coalesce(sum(posted_nanos), 0) FROM billing_wallet)
             + (SELECT coalesce(sum(CASE WHEN credit_id < 0 THEN amount_nanos ELSE 0 END
                                  - CASE WHEN debit_id < 0 THEN amount_nanos ELSE 0 END), 0)
                  FROM billing_transfer) AS total) AS books
 WHERE total <> 0
"""

BELOW_ZERO = """
SELECT 'organization ' || organization_id,
       posted_nanos || ' nano-dollars posted, ' || held_nanos || ' held, overdraft ' || overdraft_nanos
  FROM billing_wallet WHERE mode = 'prepaid' AND posted_nanos < 0 ORDER BY posted_nanos
"""


class Check(msgspec.Struct, frozen=True):
    """A named comparison. `whole` ones read everything and are left out when only recent rows are asked for."""

    name: str
    sql: str
    information: bool = False
    whole: bool = False


CHECKS = (
    Check("wallet posted", WALLET_POSTED),
    Check("wallet funded", WALLET_FUNDED),
    Check("wallet held", WALLET_HELD),
    Check("hold overdue", HOLD_OVERDUE),
    Check("hold of a settled request", HOLD_OF_SETTLED),
    Check(
        "usage and charge",
        USAGE_AMOUNT.format(
            amount="charge_nanos", kind=Kind.CHARGE, payer="usage.organization_id", payee=House.REVENUE
        ),
    ),
    Check(
        "usage and upstream cost",
        USAGE_AMOUNT.format(
            amount="cost_nanos", kind=Kind.COST, payer=House.UPSTREAM_COST, payee=House.UPSTREAM_PAYABLE
        ),
    ),
    Check("transfer without usage", TRANSFER_WITHOUT_USAGE),
    Check("usage by hour", USAGE_HOUR),
    Check("usage by day", USAGE_DAY),
    Check("account missing", ACCOUNT_MISSING),
    Check("correction", CORRECTION),
    Check("bucket held", BUCKET_HELD),
    Check("payment", PAYMENT),
    Check("reversal", REVERSAL),
    Check("books", BOOKS, whole=True),
    Check("wallet below zero", BELOW_ZERO, information=True),
)


class Found(msgspec.Struct, frozen=True):
    """One difference, or one piece of information."""

    name: str
    subject: str
    detail: str
    information: bool


class AlreadyRunning(Exception):
    """Another process reconciles at this moment."""


def run(now: datetime, since: datetime | None = None) -> list[Found]:
    """Run the checks, keep what they found in `Difference`, and return it; raise AlreadyRunning."""
    found: list[Found] = []
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(LOCK)
            if not (cursor.fetchone() or [False])[0]:
                raise AlreadyRunning("Another process reconciles at this moment; wait for it.")
            cursor.execute(FLOOR, [since])
            floor = str((cursor.fetchone() or [""])[0])
        day = datetime.fromtimestamp(int(floor.replace("-", "")[:12], 16) / 1000, UTC).date()
        for check in CHECKS:
            if check.whole and since is not None:
                continue
            rows = look(check, {"since": since, "floor": floor, "day": day})
            keep(rows, now)
            if since is None and len(rows) < DIFFERENCES_MAX:
                resolve(check, rows, now)
            found += rows
    for each in found:
        if not each.information:
            logger.error("reconcile: %s: %s: %s", each.name, each.subject, each.detail)
    return found


def look(check: Check, parameters: dict[str, datetime | date | str | None]) -> list[Found]:
    """Return what one check finds."""
    with connection.cursor() as cursor:
        cursor.execute(f"{check.sql} LIMIT {DIFFERENCES_MAX}", parameters)
        return [Found(check.name, subject[:400], detail, check.information) for subject, detail in cursor.fetchall()]


def report_overdue_holds(now: datetime) -> int:
    """Keep in `Difference` which holds outlived their lease by a minute, which nobody sweeps then; return how many.

    It is one of reconcile's checks, often enough that an operator learns of it the same day. Each is logged once.
    """
    check = next(check for check in CHECKS if check.sql is HOLD_OVERDUE)
    with transaction.atomic():
        known = set(Difference.objects.filter(name=check.name, resolved_at=None).values_list("subject", flat=True))
        rows = look(check, {})
        keep(rows, now)
        if len(rows) < DIFFERENCES_MAX:
            resolve(check, rows, now)
    for each in rows:
        if each.subject not in known:
            logger.error("reconcile: %s: %s: %s", each.name, each.subject, each.detail)
    return len(rows)


def keep(rows: Sequence[Found], now: datetime) -> None:
    """Note the differences: new ones, those that last, and those that came back."""
    last = {row.subject: row for row in rows}
    Difference.objects.bulk_create(
        [
            Difference(
                name=row.name,
                subject=row.subject,
                detail=row.detail,
                information=row.information,
                first_seen_at=now,
                last_seen_at=now,
            )
            for row in last.values()
        ],
        update_conflicts=True,
        unique_fields=["name", "subject"],
        update_fields=["detail", "information", "last_seen_at", "resolved_at"],
    )


def resolve(check: Check, rows: Sequence[Found], now: datetime) -> None:
    """Mark what a full run of CHECK no longer finds."""
    gone = Difference.objects.filter(name=check.name, resolved_at=None).exclude(
        subject__in=[row.subject for row in rows]
    )
    gone.update(resolved_at=now)
