"""Amounts as the API writes them: exact texts of dollars beside whole nano-dollars. Pure."""

from typing import Any

from billing import money

# The unit that the pages show: a token of Aperture's is $0.0001.
NANOS_PER_TOKEN = 100_000


def both(name: str, nanos: int) -> dict[str, Any]:
    """Return an amount under its name, in dollars, and as `NAME_nanos`."""
    return {name: money.shown(nanos), f"{name}_nanos": nanos}


def tokens(nanos: int) -> str:
    """Return an amount in Aperture's tokens, exactly."""
    whole, rest = divmod(abs(nanos), NANOS_PER_TOKEN)
    text = f"{whole}.{rest:05d}".rstrip("0").rstrip(".")
    return f"-{text}" if nanos < 0 else text
