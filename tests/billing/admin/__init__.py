"""The admin's pages of money."""
