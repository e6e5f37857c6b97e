"""Calls made at the same time, each on a database connection of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connections


def at_once(*calls: Callable[[], Any], refusal: type[Exception] | tuple[type[Exception], ...] = ()) -> list[Any]:
    """Return what the calls return, or where one is refused, its REFUSAL; any other failure is raised."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait(10)
        try:
            return call()
        except refusal as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls, timeout=60))
