"""Write the months of usage that were detached to compressed CSV files, and drop their tables.

Invariants: a table is dropped only when a whole file with every row of it lies in the folder; a file is written under
another name first and synced, so that one with a month's name is complete; a month is archived once, by one process.
"""

import csv
import gzip
import os
import re
from pathlib import Path

from django.db import connection, transaction

MONTH = re.compile(r"billing_usage_(\d{4})_(\d{2})")
LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('aperture_archive'))"
DETACHED = """
SELECT relname FROM pg_class
 WHERE relkind = 'r' AND NOT relispartition AND relnamespace = current_schema()::regnamespace
   AND relname ~ '^billing_usage_[0-9]{4}_[0-9]{2}$' ORDER BY relname
"""
COPY = "COPY (SELECT * FROM {} ORDER BY request_id) TO STDOUT WITH (FORMAT csv, HEADER)"


class Incomplete(Exception):
    """A file does not hold as many rows as the table that it was made of."""


def run(folder: Path) -> list[Path]:
    """Archive every detached month into FOLDER; return the files that were made.

    Raises Incomplete and OSError; the month's table stays then.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with connection.cursor() as cursor:
        cursor.execute(DETACHED)
        tables = [name for (name,) in cursor.fetchall()]
    return [path for table in tables if (path := _archive(table, folder))]


def _archive(table: str, folder: Path) -> Path | None:
    path = folder / MONTH.sub(r"usage-\1-\2.csv.gz", table)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK)
        if not (cursor.fetchone() or [False])[0]:
            return None
        name = connection.ops.quote_name(table)
        # Nobody writes to a detached month; whoever looks at it may.
        cursor.execute(f"LOCK TABLE {name} IN SHARE MODE")
        cursor.execute(f"SELECT count(*) FROM {name}")  # noqa: S608
        expected = int((cursor.fetchone() or [0])[0])
        # Of processes that were killed at it: whoever holds the lock is alone with this month.
        for left in folder.glob(f"{draft.stem}.*"):
            left.unlink(missing_ok=True)
        try:
            with (
                draft.open("wb") as file,
                gzip.GzipFile(fileobj=file, mode="wb", filename=path.stem) as packed,
                cursor.copy(COPY.format(name)) as copied,
            ):
                for data in copied:
                    packed.write(data)
            _sync(draft)
            found = _rows(draft)
            if found != expected:
                raise Incomplete(f"{draft} holds {found} rows of {expected} in {table}; the table stays.")
            draft.replace(path)
            _sync(folder)
        finally:
            draft.unlink(missing_ok=True)
        cursor.execute(f"DROP TABLE {name}")
    return path


def _rows(path: Path) -> int:
    """Return how many rows a file holds beside its head: it is read again as whoever needs it would."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        return sum(1 for _ in csv.reader(text)) - 1


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
