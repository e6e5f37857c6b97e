"""The admin's pages of who: one noun a module, each registers its own."""

from accounts.admin import grant, key, people

__all__ = ["grant", "key", "people"]
