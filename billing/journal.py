"""The one writer of usage in a process: group commit.

Finished requests queue; the writer takes all that is queued and writes it in one transaction, then wakes those who
wait. At rest that is one round trip, under load one commit carries many requests.

Invariants: `record` returns only when the row is durable; a row is written once, whatever is retried (its request id
is the key, so an ambiguous commit is settled by writing again); a row that cannot be written now stays queued and is
written when the database returns.
"""

import asyncio
import logging

import msgspec
import psycopg

from billing.connection import Connection

logger = logging.getLogger(__name__)

BATCH_ROWS_MAX = 500
WRITE_TIMEOUT_S = 3.0
RETRY_DELAY_S = 0.25


class NotDurable(Exception):
    """The database did not take the row in time; it stays queued."""


class UsageRow(msgspec.Struct):
    """The columns of `billing.Usage`; the field names are the column names."""

    request_id: str
    key_id: int
    user_id: int
    organization_id: int
    provider_id: int | None
    target_id: int | None
    price_id: int | None
    model: str
    dialect: str
    streamed: bool
    status: int
    error_code: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    audio_tokens: int
    usage_source: str
    cost_nanos: int
    first_byte_ms: int | None
    duration_ms: int
    session_id: str
    client: str


COLUMNS = ", ".join(UsageRow.__struct_fields__)
INSERT = (
    f"INSERT INTO billing_usage ({COLUMNS}) "  # noqa: S608
    f"SELECT {COLUMNS} FROM json_populate_recordset(NULL::billing_usage, %s::json) "
    "ON CONFLICT (request_id) DO NOTHING"
)
# A row that the database will never take, or that cannot even be encoded. Anything else is the database's state (away,
# read-only, not migrated) and passes.
ROWS_FAULT = (psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError, ValueError, OverflowError)


class Entry:
    """A queued row and who waits for it, until `give_up_at` (the event loop's clock)."""

    __slots__ = ("future", "give_up_at", "row")

    def __init__(self, row: UsageRow, future: "asyncio.Future[None]", give_up_at: float) -> None:
        self.row = row
        self.future = future
        self.give_up_at = give_up_at

    def finish(self, refusal: NotDurable | None) -> None:
        """Wake who waits, if anybody still does."""
        if self.future.done():
            return
        if refusal is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(refusal)


class Journal:
    """Queue rows and write them in groups."""

    def __init__(self) -> None:
        self.connection = Connection("aperture-journal")
        self.queue: list[Entry] = []
        self.wake = asyncio.Event()
        self.stopping = False
        self.task: asyncio.Task[None] | None = None
        self.encoder = msgspec.json.Encoder()

    def start(self) -> None:
        """Start the writer in the running event loop."""
        self.task = asyncio.get_running_loop().create_task(self._run(), name="journal")

    async def stop(self, timeout_s: float) -> None:
        """Write what is queued, at most this long, and stop; who still waits gets NotDurable."""
        self.stopping = True
        self.wake.set()
        if self.task is not None:
            await asyncio.wait([self.task], timeout=timeout_s)
        if self.queue:
            logger.error("%d usage rows were not written: the database did not return in time", len(self.queue))
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        for entry in self.queue:
            entry.finish(NotDurable("The server has stopped."))
        await self.connection.close()

    async def record(self, row: UsageRow, timeout_s: float) -> None:
        """Return when the row is durable; raise NotDurable after about TIMEOUT_S (the row stays queued)."""
        if self.task is not None and self.task.done():
            raise NotDurable("The server has stopped.")
        loop = asyncio.get_running_loop()
        entry = Entry(row, loop.create_future(), loop.time() + timeout_s)
        self.queue.append(entry)
        self.wake.set()
        await entry.future

    async def _run(self) -> None:
        while not self.stopping:
            await self.wake.wait()
            self.wake.clear()
            while self.queue:
                batch = self.queue[:BATCH_ROWS_MAX]
                try:
                    refused = await self._write([entry.row for entry in batch])
                except Exception as error:
                    # Whatever it is, the writer lives on: requests wait for it.
                    logger.warning("%d usage rows wait for the database: %s", len(self.queue), describe(error))
                    await asyncio.sleep(RETRY_DELAY_S)
                    self._give_up_waiting()
                    continue
                del self.queue[: len(batch)]
                for entry in batch:
                    entry.finish(refused.get(entry.row.request_id))

    def _give_up_waiting(self) -> None:
        """Tell those whose time is over; their rows stay queued."""
        now = asyncio.get_running_loop().time()
        for entry in self.queue:
            if entry.give_up_at <= now:
                entry.finish(NotDurable("The database does not answer."))

    async def _write(self, rows: list[UsageRow]) -> dict[str, NotDurable]:
        """Write the rows in one transaction; when one of them is at fault, in halves. Return the refused ones."""
        try:
            async with self.connection.using(WRITE_TIMEOUT_S) as raw:
                await raw.execute(INSERT, (self.encoder.encode(rows).decode(),), prepare=True)
        except ROWS_FAULT as error:
            if len(rows) == 1:
                logger.exception("the database refuses a usage row: %s", rows[0])
                return {rows[0].request_id: NotDurable(f"The database refuses the usage row: {type(error).__name__}.")}
            middle = len(rows) // 2
            return await self._write(rows[:middle]) | await self._write(rows[middle:])
        return {}


def describe(error: Exception) -> str:
    """Return what a log may say of an error: never a row's values."""
    return f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
