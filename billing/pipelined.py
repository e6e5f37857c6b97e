"""Statements that are sent in one write and answered in one wait.

psycopg's own pipeline writes to the socket, and waits for it, once for each statement; under load that costs more than
what the journal decides in between. Here libpq's pipeline mode is used directly
(https://www.postgresql.org/docs/current/libpq-pipeline-mode.html): every statement is prepared once for each
connection, parameters go as text, and the socket is written once.

Invariant: after an error the connection must not be used again; `Connection.using` closes it.
"""

import weakref
from collections.abc import Generator, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg import errors, pq, waiting
from psycopg.adapt import Transformer

Rows = list[tuple[Any, ...]]
GOOD = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)

_prepared: "weakref.WeakKeyDictionary[psycopg.AsyncConnection[Any], dict[str, bytes]]" = weakref.WeakKeyDictionary()


class Statement(msgspec.Struct, frozen=True):
    """SQL with `%s` for each parameter; a parameter is a text, or a number."""

    sql: str
    parameters: tuple[str | float, ...] = ()


async def run(raw: psycopg.AsyncConnection, statements: Sequence[Statement]) -> list[Rows]:
    """Return the rows of each statement; raise psycopg.Error of the first that failed."""
    prepared = _prepared.setdefault(raw, {})
    pgconn = raw.pgconn
    pgconn.enter_pipeline_mode()
    # Which results are rows: a statement that is prepared now has one before them.
    wanted: list[bool] = []
    for statement in statements:
        name = prepared.get(statement.sql)
        if name is None:
            name = prepared[statement.sql] = b"aperture_%d" % len(prepared)
            pgconn.send_prepare(name, numbered(statement.sql).encode())
            wanted.append(False)
        pgconn.send_query_prepared(name, [str(each).encode() for each in statement.parameters])
        wanted.append(True)
    pgconn.pipeline_sync()
    results = await raw.wait(_answers(pgconn, len(wanted)))
    pgconn.exit_pipeline_mode()
    return [_rows(raw, result) for result, is_wanted in zip(results, wanted, strict=True) if is_wanted]


def numbered(sql: str) -> str:
    """Return SQL with `$1`, `$2` … for each `%s`."""
    first, *rest = sql.split("%s")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))


def _answers(pgconn: pq.abc.PGconn, count: int) -> Generator[waiting.Wait, waiting.Ready | int, list[pq.abc.PGresult]]:
    """Send what is queued, and return COUNT results and the end of the pipeline; raise the first error."""
    while pgconn.flush():
        # The database may have to be read from before it reads on.
        if (yield waiting.Wait.RW) & waiting.Ready.R:
            pgconn.consume_input()
    results: list[pq.abc.PGresult] = []
    while True:
        while pgconn.is_busy():
            yield waiting.Wait.R
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            continue  # the end of one statement's results
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            if len(results) != count:
                raise psycopg.OperationalError(f"{len(results)} results came for {count} statements")
            return results
        if result.status not in GOOD:
            raise errors.error_from_result(result)
        results.append(result)


def _rows(raw: psycopg.AsyncConnection, result: pq.abc.PGresult) -> Rows:
    if not result.ntuples:
        return []
    transformer = Transformer(raw)
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)
