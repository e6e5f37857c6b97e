"""The admin's pages of who: one noun a module, each registers its own."""

from accounts.admin import grant, key, leak, people

__all__ = ["grant", "key", "leak", "people"]
