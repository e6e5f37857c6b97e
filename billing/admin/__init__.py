"""The admin's pages of money: one noun a module, each registers its own."""

from billing.admin import usage

__all__ = ["usage"]
