"""Tables as CSV (https://www.rfc-editor.org/rfc/rfc4180), sent while they are read.

Rows are read in batches, each by a query of its own that goes on after the last row of the one before, so memory is
bounded by a batch and no transaction lasts as long as a slow reader. Texts that a spreadsheet would take for a formula
get an apostrophe (https://owasp.org/www-community/attacks/CSV_Injection); numbers are numbers of our own.
"""

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from django.http import StreamingHttpResponse

BATCH_ROWS = 1_000
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

Row = dict[str, Any]
# The rows that come after this one, at most a batch; the first ones after None.
Following = Callable[[Row | None], list[Row]]


def answer(name: str, names: Sequence[str], following: Following) -> StreamingHttpResponse:
    """Return a table as a file that is made while it is sent.

    The first batch is read at once, so that what is wrong with the question is still told by the status.
    """
    first = following(None)
    response = StreamingHttpResponse(_pieces(names, first, following), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


async def _pieces(names: Sequence[str], batch: list[Row], following: Following) -> AsyncIterator[bytes]:
    yield lines([list(names)])
    while batch:
        yield lines([[cell(row[name]) for name in names] for row in batch])
        if len(batch) < BATCH_ROWS:
            break
        batch = await sync_to_async(_apart(following))(batch[-1])


def _apart(following: Following) -> Following:
    """Return the same without a connection that stays open while a slow reader reads."""

    def read(last: Row | None) -> list[Row]:
        try:
            return following(last)
        finally:
            close_old_connections()

    return read


def lines(rows: Sequence[Sequence[str]]) -> bytes:
    """Return rows of cells as lines of CSV."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def cell(value: Any) -> str:
    """Return a value as a cell that no spreadsheet runs."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    return f"'{text}" if text.startswith(FORMULA) and not NUMBER.fullmatch(text) else text
