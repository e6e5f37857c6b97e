"""The monthly credit of plans that were given by hand.

Each organization gets it once in a calendar month (UTC), whatever runs twice: the transfer's reference is
`plan:<organization>:<yyyy-mm>`. It adds up: nothing here, or anywhere, takes posted credit away. Wallets that meter
nothing are left alone, for credit would make them prepaid; so are frozen ones until they thaw.
"""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime

from django.db import connection

from billing import ledger
from billing.models import House, Kind
from billing.money import Money

logger = logging.getLogger(__name__)

DUE = """
SELECT wallet.organization_id, plan.monthly_credit_nanos, plan.name
  FROM billing_wallet AS wallet
  JOIN billing_plan AS plan ON plan.id = wallet.plan_id
  JOIN accounts_organization AS organization ON organization.id = wallet.organization_id
 WHERE plan.monthly_credit_nanos > 0 AND wallet.mode = 'prepaid' AND wallet.frozen_at IS NULL
   AND organization.is_active
   AND NOT EXISTS (SELECT FROM billing_transfer
                    WHERE reference = 'plan:' || wallet.organization_id || ':' || %s)
   -- Organizations that pay for their plan by subscription get its credit with each paid invoice.
   AND NOT EXISTS (SELECT FROM billing_subscription AS subscription
                    WHERE subscription.organization_id = wallet.organization_id
                      AND subscription.status IN ('active', 'trialing', 'past_due'))
 ORDER BY wallet.organization_id
"""


def post_due(now: datetime) -> int:
    """Post this month's credit to every organization that is due it; return how many got it."""
    month = f"{now.astimezone(UTC):%Y-%m}"
    posted = 0
    for organization_id, amount_nanos, plan in list(due(month)):
        transfer = ledger.credit(
            organization_id,
            Money(amount_nanos),
            Kind.PLAN_CREDIT,
            House.PROMOTIONS,
            reference=f"plan:{organization_id}:{month}",
            reason=f"{plan}, {month}",
        )
        posted += transfer is not None
    if posted:
        logger.info("posted the monthly credit of %d organizations for %s", posted, month)
    return posted


def due(month: str) -> Iterator[tuple[int, int, str]]:
    """Yield the organization, the nano-dollars and the plan of each credit that is missing for MONTH (`2026-11`)."""
    with connection.cursor() as cursor:
        cursor.execute(DUE, [month])
        yield from cursor.fetchall()
