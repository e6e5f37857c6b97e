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


class NotDurable(Exception):  # noqa: N818
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
# Of what psycopg raises, this is the database's state; anything else is a row that it will never take.
PASSING = (psycopg.OperationalError, psycopg.InterfaceError, OSError, TimeoutError)


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
        self.task: asyncio.Task[None] | None = None
        self.encoder = msgspec.json.Encoder()

    def start(self) -> None:
        """Start the writer in the running event loop."""
        self.task = asyncio.get_running_loop().create_task(self._run(), name="journal")

    async def stop(self, timeout_s: float) -> None:
        """Write what is queued, at most this long, and stop."""
        if self.queue:
            await asyncio.wait([entry.future for entry in self.queue], timeout=timeout_s)
        if self.queue:
            logger.error("%d usage rows were not written: the database did not return in time", len(self.queue))
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        await self.connection.close()

    async def record(self, row: UsageRow, timeout_s: float) -> None:
        """Return when the row is durable; raise NotDurable after about TIMEOUT_S (the row stays queued)."""
        loop = asyncio.get_running_loop()
        entry = Entry(row, loop.create_future(), loop.time() + timeout_s)
        self.queue.append(entry)
        self.wake.set()
        await entry.future

    async def _run(self) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.queue:
                batch = self.queue[:BATCH_ROWS_MAX]
                try:
                    refused = await self._write([entry.row for entry in batch])
                except PASSING as error:
                    logger.warning("usage rows wait for the database: %s", type(error).__name__)
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
        """Write the rows in one transaction; when one of them is at fault, each alone. Return the refused ones."""
        try:
            async with self.connection.using(WRITE_TIMEOUT_S) as raw:
                await raw.execute(INSERT, (self.encoder.encode(rows).decode(),), prepare=True)
        except PASSING:
            raise
        except psycopg.Error as error:
            if len(rows) == 1:
                logger.exception("the database refuses a usage row: %s", rows[0])
                return {rows[0].request_id: NotDurable(f"The database refuses the usage row: {type(error).__name__}.")}
            refused: dict[str, NotDurable] = {}
            for row in rows:
                refused |= await self._write([row])
            return refused
        return {}
