"""Run the web processes, the worker and beat together: start, restart what died, stop in order.

Invariants: every child is in a process group of its own, so a Ctrl-C reaches the supervisor alone, which decides; a
child dies with the supervisor, however that ends (`tether`); `run/NAME.pid` names a child exactly while it lives.
"""

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aperture_site import gate, tether

logger = logging.getLogger("aperture.supervisor")

LOOK_EVERY_S = 1.0
# A child that lived this long had started well, so its next restart is immediate.
SETTLED_S = 30.0
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0


@dataclass(frozen=True)
class Program:
    """What to run, and how long it may take to stop after SIGTERM. A lower `stop_order` stops earlier.

    A gated program (`gate`) is started ahead of time and told to begin; others start `start_after_s` after that.
    """

    name: str
    command: Sequence[str]
    stop_order: int
    stop_s: float
    environment: dict[str, str]
    pass_fds: tuple[int, ...] = ()
    gated: bool = False
    start_after_s: float = 0.0


def restart_delay_s(quick_deaths: int) -> float:
    """Return how long to wait before a restart, after so many deaths in a row that came soon after a start."""
    if quick_deaths == 0:
        return 0.0
    # The exponent is bounded: 2.0**2000 is an OverflowError.
    return min(FIRST_DELAY_S * 2.0 ** min(quick_deaths - 1, 16), LONGEST_DELAY_S)


class Child:
    """One program's process, present or awaited."""

    def __init__(self, program: Program, folder: Path, run_dir: Path) -> None:
        self.program = program
        self.folder = folder
        self.pid_file = run_dir / f"{program.name}.pid"
        self.process: subprocess.Popen[bytes] | None = None
        self.quick_deaths = 0
        self.started_at_s = 0.0
        self.due_at_s = 0.0

    def start(self) -> None:
        """Start the process and note its id."""
        self.started_at_s = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", str(Path(tether.__file__).resolve()), str(os.getpid()), *self.program.command],
            stdin=subprocess.PIPE if self.program.gated else subprocess.DEVNULL,
            cwd=self.folder,
            pass_fds=self.program.pass_fds,
            process_group=0,
            env=self.program.environment,
        )
        draft = self.pid_file.with_name(f".{self.pid_file.name}")
        draft.write_text(f"{self.process.pid}\n", encoding="ascii")
        draft.replace(self.pid_file)

    def begin(self) -> None:
        """Let a gated program begin."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.write(gate.BEGIN)
                self.process.stdin.close()
            self.process.stdin = None

    def look(self) -> bool:
        """Reap the process if it died, and plan its restart; say whether it lives."""
        if self.process is None:
            return False
        code = self.process.poll()
        if code is None:
            return True
        now_s = time.monotonic()
        self.quick_deaths = 0 if now_s - self.started_at_s > SETTLED_S else self.quick_deaths + 1
        delay_s = restart_delay_s(self.quick_deaths)
        self.due_at_s = now_s + delay_s
        self.process = None
        self.pid_file.unlink(missing_ok=True)
        logger.warning("%s ended (%s), restarting in %.1f s", self.program.name, describe_exit(code), delay_s)
        return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it lives."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the process and every process of its group, and reap it."""
        if self.process is not None and self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def gone(self) -> bool:
        """Say whether the process has ended; then its id is no longer noted."""
        if self.process is not None and self.process.poll() is None:
            return False
        self.process = None
        self.pid_file.unlink(missing_ok=True)
        return True


def describe_exit(code: int) -> str:
    """Return words for a process's exit code; a negative one is a signal's number."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Supervisor:
    """Runs the programs until a signal asks it to stop."""

    def __init__(self, programs: Sequence[Program], folder: Path, run_dir: Path, watch: Callable[[], object]) -> None:
        """FOLDER is where they run, RUN_DIR where their ids are noted; WATCH is called about once a second."""
        self.children = [Child(program, folder, run_dir) for program in programs]
        self.watch = watch
        self.signals = 0

    def preload(self) -> None:
        """Start the gated programs, which then wait for `run`."""
        for child in self.children:
            if child.program.gated:
                child.start()

    def kill(self) -> None:
        """Kill what still lives; after `run` that is nothing."""
        for child in self.children:
            child.kill()
            child.gone()

    def run(self) -> None:
        """Run until SIGINT, SIGTERM or SIGHUP, then stop everything in order; a second signal kills at once."""
        now_s = time.monotonic()
        for child in self.children:
            child.begin()
            child.due_at_s = now_s + child.program.start_after_s
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        earlier_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        earlier = {number: signal.signal(number, handler) for number, handler in self._handlers().items()}
        try:
            while not self.signals:
                self._keep_up()
                self._sleep(reading, self._pause_s())
            self._stop(reading)
        finally:
            self.kill()
            for number, handler in earlier.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(earlier_wakeup)
            os.close(reading)
            os.close(writing)

    def _handlers(self) -> dict[int, Callable[[int, object], None]]:
        handlers: dict[int, Callable[[int, object], None]] = {
            signal.SIGINT: self._asked_to_stop,
            signal.SIGTERM: self._asked_to_stop,
            # Its only work is to wake the loop.
            signal.SIGCHLD: lambda _number, _frame: None,
        }
        # Under nohup it is ignored, and that must stay so.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handlers[signal.SIGHUP] = self._asked_to_stop
        return handlers

    def _asked_to_stop(self, _number: int, _frame: object) -> None:
        self.signals += 1

    def _keep_up(self) -> None:
        for child in self.children:
            if not child.look() and time.monotonic() >= child.due_at_s:
                child.start()
                child.begin()
        self.watch()

    def _pause_s(self) -> float:
        due = [child.due_at_s - time.monotonic() for child in self.children if child.process is None]
        return max(0.0, min([LOOK_EVERY_S, *due]))

    def _stop(self, reading: int) -> None:
        for order in sorted({child.program.stop_order for child in self.children}):
            stopping = [child for child in self.children if child.program.stop_order == order]
            logger.info("stopping %s", ", ".join(child.program.name for child in stopping))
            for child in stopping:
                child.send(signal.SIGTERM)
            deadline_s = time.monotonic() + max(child.program.stop_s for child in stopping)
            while not all([child.gone() for child in stopping]):  # noqa: C419 - each is to be looked at
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or self.signals > 1:
                    for child in stopping:
                        child.kill()
                self._sleep(reading, min(LOOK_EVERY_S, max(left_s, 0.01)))

    @staticmethod
    def _sleep(reading: int, timeout_s: float) -> None:
        if select.select([reading], [], [], timeout_s)[0]:
            os.read(reading, 4096)
