"""The admin's pages of money: one noun a module, each registers its own."""

from billing.admin import difference, key, ledger, limit, payment, plan, redeem, spending, usage, wallet

__all__ = ["difference", "key", "ledger", "limit", "payment", "plan", "redeem", "spending", "usage", "wallet"]
