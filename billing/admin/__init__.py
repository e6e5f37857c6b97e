"""The admin's pages of money: one noun a module, each registers its own."""

from billing.admin import difference, ledger, limit, payment, plan, redeem, usage, wallet

__all__ = ["difference", "ledger", "limit", "payment", "plan", "redeem", "usage", "wallet"]
