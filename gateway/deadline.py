"""One movable deadline for one task: what waits in the task is cancelled when it passes.

`asyncio.timeout` costs a timer and three calls each time; a request has several bounds one after another, so here
they share one timer, which is armed again only when it fires early.
"""

import asyncio
from types import TracebackType


class Deadline:
    """Use it as `with deadline.within(seconds):` around awaits of the task that made it; raises TimeoutError."""

    __slots__ = ("at", "loop", "passed", "task", "timer")

    def __init__(self, task: "asyncio.Task[object]") -> None:
        self.task = task
        self.loop = task.get_loop()
        self.at: float | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.passed = False

    def within(self, seconds: float) -> "Deadline":
        """Set the deadline of the block that follows; blocks do not nest."""
        self.at = at = self.loop.time() + seconds
        if self.timer is None:
            self.timer = self.loop.call_at(at, self._fire)
        elif self.timer.when() > at:
            self.timer.cancel()
            self.timer = self.loop.call_at(at, self._fire)
        return self

    def move(self, seconds: float) -> None:
        """Begin the running block's time anew; SECONDS must not be less than what the block began with."""
        self.at = self.loop.time() + seconds

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the block; turn the deadline's own cancellation into TimeoutError."""
        self.at = None
        if self.passed:
            self.passed = False
            if self.task.uncancel() <= 0 and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def close(self) -> None:
        """Forget the timer; the task is done."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _fire(self) -> None:
        self.timer = None
        if self.at is None:
            return
        if self.at > self.loop.time():
            self.timer = self.loop.call_at(self.at, self._fire)
        else:
            self.passed = True
            self.task.cancel()
