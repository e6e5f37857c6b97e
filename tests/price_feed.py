"""A feed of price data as the package's makers publish it: the installed package's own data, written as JSON again.

The package is imported in a child process, for no process of the product's may have it.
"""

import functools
import json
import subprocess
import sys
from typing import Any

WRITER = """
import dataclasses, datetime, decimal, json, sys
from genai_prices import types
from genai_prices.data import providers

def plain(value):
    if isinstance(value, types.ModelPrice):
        return {name: plain(each) for name, each in vars(value).items() if each is not None}
    if dataclasses.is_dataclass(value):
        pairs = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value) if field.init)
        return {name.rstrip("_"): plain(each) for name, each in pairs if each is not None}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else value

json.dump([plain(provider) for provider in providers], sys.stdout)
"""


@functools.cache
def _published() -> str:
    done = subprocess.run([sys.executable, "-c", WRITER], capture_output=True, check=True, text=True)
    return done.stdout


def published() -> list[dict[str, Any]]:
    """Return the installed data as a feed, which the caller may change."""
    feed: list[dict[str, Any]] = json.loads(_published())
    return feed


def model(feed: list[dict[str, Any]], provider: str, model_id: str) -> dict[str, Any]:
    """Return one model of a feed."""
    (listed,) = (each for each in feed if each["id"] == provider)
    found: dict[str, Any]
    (found,) = (each for each in listed["models"] if each["id"] == model_id)
    return found
