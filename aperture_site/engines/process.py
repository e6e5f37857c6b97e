"""One engine's process: started, found again by a later command, signalled and waited for.

Invariant: the engine and every process that it forks hold one file lock that they inherited, so the kernel knows
whether any of them lives; no process id from a file is trusted for that. An id is signalled only where the process
started at the moment that was noted down with it, for a machine gives ids out again.
"""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

LOG_BYTES_MAX = 16 * 1024 * 1024
LAST_LINES = 8


class State(Enum):
    """What is there: the engine, only leavings of a killed one that still hold its memory, or nothing."""

    RUNNING = "running"
    ORPHANED = "orphaned"
    GONE = "gone"


class Process:
    """An engine's process; nothing here knows which engine it is."""

    def __init__(self, name: str, data_dir: Path) -> None:
        """The lock and the note of the process id are `run/NAME.lock` and `run/NAME.pid`, the log `log/NAME.log`."""
        self.lock = data_dir / "run" / f"{name}.lock"
        self.note = data_dir / "run" / f"{name}.pid"
        self.log = data_dir / "log" / f"{name}.log"

    def state(self) -> State:
        """Say whether the engine runs."""
        if self.pid() is not None:
            return State.RUNNING
        if not self.lock.exists():
            return State.GONE
        with self._opened_lock() as lock:
            return State.GONE if try_lock(lock) else State.ORPHANED

    def pid(self) -> int | None:
        """Return the engine's process id where it lives and is the process that was started here."""
        try:
            number, _, began = self.note.read_text(encoding="utf-8").partition(" ")
        except FileNotFoundError:
            return None
        if not number.isdecimal() or not began or start_of(int(number)) != began:
            return None
        return int(number)

    def start(self, command: Sequence[str]) -> bool:
        """Start the engine, detached from this process; False where another one's processes still hold the lock."""
        with self._opened_lock() as lock:
            if not try_lock(lock):
                return False
            self.trim_log()
            with self.log.open("ab") as log:
                # Its own session: a Ctrl-C or a killed `serve` must not reach the database.
                child = subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    # Nothing of the caller's environment: it may hold secrets, and anybody may change it.
                    env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                    pass_fds=[lock],
                    start_new_session=True,
                )
            # Popen reports an unreaped child as a warning when it is forgotten; `start_of` reaps instead.
            child.returncode = 0
        self.note.write_text(f"{child.pid} {start_of(child.pid)}", encoding="utf-8")
        return True

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the engine, if it lives."""
        pid = self.pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def signal_orphans(self, number: signal.Signals) -> None:
        """Send a signal to every process that holds the lock of an engine that is gone (Linux)."""
        wanted = str(self.lock.resolve())
        for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
            with suppress(OSError):
                pid = int(descriptor.parts[2])
                if pid != os.getpid() and str(descriptor.readlink()) == wanted:
                    os.kill(pid, number)

    def last_lines(self) -> str:
        """Return the end of the engine's log, to be shown when it failed to start."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-LAST_LINES:])

    def trim_log(self) -> None:
        """Keep the log bounded: past the limit it becomes the one older log, and starts empty."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            # Copied and emptied rather than renamed: the engine holds it open, for appending.
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    @contextmanager
    def _opened_lock(self) -> Iterator[int]:
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def start_of(pid: int) -> str | None:
    """Return text that tells when a process started, different for every later owner of its id; None if it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _start_by_ps(pid)
    # proc(5): the state is field 3, the start time in ticks since boot field 22.
    if fields[0] in "ZX":
        _reap(pid)
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {fields[19]}"


def _start_by_ps(pid: int) -> str | None:
    _reap(pid)
    found = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None


def _reap(pid: int) -> None:
    # An engine is the child of the command that started it, and stays a dead one until that command has looked.
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file without waiting; say whether nobody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True
