"""The tables of money: one noun a module."""

from billing.models.api_idempotency import ApiIdempotency
from billing.models.difference import Difference
from billing.models.hold import Hold
from billing.models.idempotency import IdempotencyKey
from billing.models.limit import Limit
from billing.models.payment import Payment, Reversal, StripeCustomer, StripeEvent, Subscription
from billing.models.plan import Plan
from billing.models.redeem import RedeemBatch, RedeemCode
from billing.models.spending import Bucket, SpendingLimit
from billing.models.transfer import House, Kind, Transfer
from billing.models.usage import RolledUp, Usage, UsageByDay, UsageByHour, UsageDay, UsageHour
from billing.models.wallet import Wallet

__all__ = [
    "ApiIdempotency",
    "Bucket",
    "Difference",
    "Hold",
    "House",
    "IdempotencyKey",
    "Kind",
    "Limit",
    "Payment",
    "Plan",
    "RedeemBatch",
    "RedeemCode",
    "Reversal",
    "RolledUp",
    "SpendingLimit",
    "StripeCustomer",
    "StripeEvent",
    "Subscription",
    "Transfer",
    "Usage",
    "UsageByDay",
    "UsageByHour",
    "UsageDay",
    "UsageHour",
    "Wallet",
]
