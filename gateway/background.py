"""Work that goes on while nobody waits for it: it counts as running while the server drains, and ends when it stops."""

import asyncio
from collections.abc import Coroutine

from gateway.draining import draining

TASKS_MAX = 256

_tasks: set["asyncio.Task[None]"] = set()


def has_room() -> bool:
    """Tell whether one more may run."""
    return len(_tasks) < TASKS_MAX


def start(work: Coroutine[None, None, None], name: str) -> None:
    """Run WORK beside everything else; it handles its own failures."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _tasks.add(task)
    draining.entered()
    task.add_done_callback(_ended)


def _ended(task: "asyncio.Task[None]") -> None:
    _tasks.discard(task)
    draining.left()


async def stop() -> None:
    """End what still runs, and wait until it has."""
    for task in list(_tasks):
        task.cancel()
    if _tasks:
        await asyncio.wait(list(_tasks))
