"""Whether this process is about to stop, and how many requests it still runs.

The web process writes it, the gateway reads it: while `active`, new requests are refused with 503 and Retry-After.
One state for the process; only the event loop's thread changes it.
"""

import asyncio
import math
import time


class State:
    """`active` once the process was told to stop; `running` counts requests and sockets inside the application.

    `ends_at` is until when what runs may go on, on the monotonic clock, once that is known.
    """

    def __init__(self) -> None:
        self.active = False
        self.running = 0
        self.ends_at = math.inf
        self._idle: asyncio.Event | None = None

    def start(self) -> None:
        """Refuse new work from now on."""
        self.active = True

    def entered(self) -> None:
        """Count one request in."""
        self.running += 1

    def left(self) -> None:
        """Count one request out."""
        self.running -= 1
        if not self.running and self._idle is not None:
            self._idle.set()

    async def idle(self, timeout_s: float) -> bool:
        """Wait until nothing runs, at most TIMEOUT_S seconds; return whether that came true."""
        self.ends_at = time.monotonic() + timeout_s
        if not self.running:
            return True
        self._idle = asyncio.Event()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True


draining = State()
