"""The money API: an organization's balance, ledger, usage and receipts over HTTP, for keys and for browsers.

Nothing here is imported when a web process starts: Django loads its addresses with the first request that is its own,
and REST framework with them.
"""
