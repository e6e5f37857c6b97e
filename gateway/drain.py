"""Read on, for the bill, what nobody listens to any more.

Some upstreams go on and charge in full after we hang up. For them a stream whose client has gone is read to its end,
so that what is charged is what they count. Bounded in time, bytes and number; past that the stream is closed, and
what was read is charged.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from gateway import upstream
from gateway.wire.codec import Relay, Unreadable
from gateway.wire.sse import EventTooLarge, Framer

logger = logging.getLogger(__name__)

DRAINS_MAX = 64
DRAIN_TIMEOUT_S = 120.0
DRAIN_BYTES_MAX = 16 * 1024 * 1024

_running: set["asyncio.Task[None]"] = set()


def has_room() -> bool:
    """Tell whether one more may be drained."""
    return len(_running) < DRAINS_MAX


def start(answer: upstream.Answer, stream: Relay, framer: Framer, finish: Callable[[], Awaitable[object]]) -> None:
    """Read the answer to its end beside everything else, then call FINISH."""
    task = asyncio.get_running_loop().create_task(_drain(answer, stream, framer, finish), name="drain")
    _running.add(task)
    task.add_done_callback(_running.discard)


async def wait(timeout_s: float) -> None:
    """Wait for those that are drained now, at most this long; the rest is closed and charged as far as it was read."""
    if _running:
        _, late = await asyncio.wait(_running, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


async def _drain(
    answer: upstream.Answer, stream: Relay, framer: Framer, finish: Callable[[], Awaitable[object]]
) -> None:
    try:
        with contextlib.suppress(TimeoutError, EventTooLarge, upstream.Unreadable, upstream.Broken, Unreadable):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                async for piece in upstream.pieces(answer, DRAIN_BYTES_MAX):
                    stream.feed(framer.feed(piece))
                    if stream.ended:
                        break
                else:
                    # Some vendors' streams have no other end than the connection's.
                    stream.feed(framer.flush())
                    stream.end()
    except asyncio.CancelledError:
        logger.debug("a stream is no longer drained, for the server stops")
    except Exception:
        # Whatever it was, what has been read is settled.
        logger.exception("a stream could not be read to its end")
    finally:
        answer.close()
    try:
        await finish()
    except Exception as error:
        logger.warning("a stream that was read to its end could not be settled yet: %s", error)
