"""Pure translation of wire formats.

Imports the standard library and msgspec, nothing else: no Django, no HTTP client, no asyncio, no clock, no
randomness. Bytes go in and values come out.
"""
