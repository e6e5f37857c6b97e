"""Processes: start them, stop them, and read from /proc what they used.

Invariants: only what was started here is ever signalled, by its process id; a process runs with a short list of the
environment's variables, so that no secret and no address of anything real reaches an entrant.
"""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "USER") if name in os.environ}
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A run cannot go on; the message says why and what to do."""


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    cwd: Path = ROOT,
    stop_s: float = 20.0,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command until the block ends; its output goes to LOG."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=ENVIRONMENT | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        stop(process, stop_s)


def stop(process: "subprocess.Popen[bytes]", stop_s: float) -> None:
    """End a process and what it started: politely, and after STOP_S seconds not."""
    started = tree(process.pid)
    process.terminate()
    try:
        process.wait(stop_s)
    except subprocess.TimeoutExpired:
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, children.read_text(encoding="ascii").split())
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time that trees of processes used so far, children that ended included."""
    return sum(_ticks(pid) for root in pids for pid in tree(root)) / TICKS_PER_S


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
    except OSError:
        return 0
    # utime, stime, cutime, cstime: proc(5), fields 14 to 17.
    return sum(map(int, fields[11:15]))


def rss_mb(pids: Iterable[int]) -> float:
    """Return the memory that trees of processes hold, in units of a million bytes."""
    return sum(_rss_bytes(pid) for root in pids for pid in tree(root)) / 1_000_000


def _rss_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
