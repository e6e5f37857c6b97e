"""Start a web process on a port of its own, and watch it from outside."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent


class WebProcess:
    """A running `aperture_site.web`: its port, its pid, its log, and how it ended."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.pid = process.pid
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    @property
    def rss_bytes(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)

    def connect(self, timeout_s: float = 10.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 10.0) -> int:
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """End the process as a supervisor would; return its exit status."""
        if self.process.poll() is None:
            self.signal()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextmanager
def start_web(server: str, app: str, data_dir: Path, **environment: str) -> Iterator[WebProcess]:
    """Serve APP (`module:attribute`) with SERVER on an ephemeral port; ENVIRONMENT adds variables."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        web = start_worker(server, app, data_dir, listening, **environment)
    try:
        wait_until_it_answers(web, tls="APERTURE_TLS_CERT" in environment)
        yield web
    finally:
        web.stop()


def start_worker(server: str, app: str, data_dir: Path, listening: socket.socket, **environment: str) -> WebProcess:
    """Start one web process on a socket that others may share; the caller stops it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    log = Path(tempfile.mkstemp(suffix=".log", dir=data_dir)[1])
    options = ["--server", server, "--fd", str(listening.fileno()), "--app", app]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "aperture_site.web", *options],
            cwd=ROOT,
            env=os.environ | {"APERTURE_DATA_DIR": str(data_dir)} | environment,
            pass_fds=[listening.fileno()],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return WebProcess(process, listening.getsockname()[1], log)


def unverified(raw: socket.socket) -> ssl.SSLSocket:
    """Return RAW with TLS on top, whoever is at the other end."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(raw)


def wait_until_it_answers(web: WebProcess, *, tls: bool = False) -> None:
    """Return once the process has answered a request; raise RuntimeError with its log when it does not."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and web.process.poll() is None:
        try:
            with web.connect(timeout_s=30) as raw, unverified(raw) if tls else raw as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                if client.recv(16):
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"The web process did not come up: {web.log}")
