"""A Valkey of a test's own, which it may stop, pause and start again."""

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from aperture_site.engines import valkey

PASSWORD = "of-the-test"


class OwnValkey:
    """One server on a Unix socket; `url` stays the same over its restarts."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "own.sock"
        self.url = f"unix://:{PASSWORD}@{self.socket}?db=0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        options = ["--port", "0", "--unixsocket", str(self.socket), "--requirepass", PASSWORD, "--save", ""]
        self.process = subprocess.Popen([str(valkey.program()), *options], stdout=subprocess.DEVNULL)
        for _ in range(500):
            try:
                self.client().ping()
            except (redis.RedisError, OSError):
                time.sleep(0.01)
            else:
                return
        raise RuntimeError("Valkey does not answer.")

    def client(self) -> Any:
        """Return a client to look inside with."""
        return redis.Redis.from_url(self.url, socket_timeout=2)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it hang for the length of the block: connections are taken, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def own_valkey() -> Iterator[OwnValkey]:
    """Give a running server that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="valkey") as folder:
        server = OwnValkey(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
