"""`manage.py serve` as an operator sees it: started, signalled, killed and started again, with real processes."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from aperture_site import addresses
from aperture_site.engines import Engines
from aperture_site.engines.process import start_of
from aperture_site.first_start import DEMO_MODEL
from aperture_site.supervisor import describe_exit, restart_delay_s
from tests.aperture_site.test_engines import not_running
from tests.gateway.conftest import self_signed

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0
UNFINISHED = b"POST /admin/login/ HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"


class Serving:
    """A `serve` in a process of its own."""

    def __init__(self, data_dir: Path, *options: str, **environment: str) -> None:
        self.run_dir = data_dir / "run"
        self.output = ""
        kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", "--port", "0", *options],
            cwd=ROOT,
            env=kept | {"APERTURE_DATA_DIR": str(data_dir)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # Read all along: a full pipe would stop the processes that write to it.
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line

    def __enter__(self) -> "Serving":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.process.terminate()
        self.wait()
        assert self.process.stdout
        self.process.stdout.close()

    def wait(self) -> int:
        code = self.process.wait(WAIT_S)
        self.reader.join(WAIT_S)
        return code

    def port(self) -> int:
        until(lambda: "serving on" in self.output or self.process.poll() is not None)
        found = re.search(r"serving on http://127\.0\.0\.1:(\d+)", self.output)
        assert found, self.output
        return int(found[1])

    def pid(self, name: str) -> int:
        path = self.run_dir / f"{name}.pid"
        until(path.exists)
        return int(path.read_text())

    def status(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port(), timeout=WAIT_S)
        try:
            connection.request("GET", "/admin/login/")
            return connection.getresponse().status
        finally:
            connection.close()

    def background(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port(), timeout=WAIT_S)
        try:
            connection.request("GET", "/health?verbose=1")
            found: dict[str, Any] = json.loads(connection.getresponse().read())["background"]
            return found
        finally:
            connection.close()


def until(happened: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def manage(data_dir: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=os.environ | {"APERTURE_DATA_DIR": str(data_dir)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that was migrated and has its operator: what every start but the first finds."""
    folder = tmp_path_factory.mktemp("serve") / "var"
    with Serving(folder) as serving:
        assert serving.port()
    return folder


@pytest.mark.server
def test_serve_brings_everything_up_and_takes_everything_down(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"
    with Serving(data_dir, "--workers", "2") as serving:
        assert serving.status() == 200
        assert re.search(r"admin@aperture\.local\s+Password\W+\S{12,}", serving.output)
        pids = {name: serving.pid(name) for name in ("web", "web-2", "worker", "beat")}
        assert all(start_of(pid) for pid in pids.values())
        groups = {os.getpgid(pid) for pid in pids.values()}
        assert len(groups) == 4
        assert os.getpgid(serving.process.pid) not in groups
        beside = manage(data_dir, "migrate", "--check")
        assert (beside.returncode, not_running(Engines(data_dir))) == (0, [])
        serving.process.send_signal(signal.SIGTERM)
        assert serving.wait() == 0
    assert [start_of(pid) for pid in pids.values()] == [None] * 4
    assert sorted(not_running(Engines(data_dir))) == ["postgres", "valkey"]
    assert not list((data_dir / "run").glob("*.pid"))


@pytest.mark.server
@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_a_second_start_serves_within_four_seconds(data_dir: Path, server: str) -> None:
    took_s: list[float] = []
    # The best of three, and more time where others take their share of the processors: the promise is for a free one.
    limit_s = 4 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    while len(took_s) < 3 and min(took_s, default=limit_s) >= limit_s:
        began_s = time.monotonic()
        with Serving(data_dir, "--server", server) as serving:
            assert serving.status() == 200
            took_s.append(time.monotonic() - began_s)
            assert "Password" not in serving.output
    assert min(took_s) < limit_s


@pytest.mark.server
def test_health_tells_of_the_worker_and_of_beat(data_dir: Path) -> None:
    with Serving(data_dir) as serving:
        until(lambda: serving.background().get("state") == "ok")
        shown = serving.background()
        assert set(shown) == {"state", "worker_seen_s", "beat_seen_s", "late"}
        assert shown["late"] == []


@pytest.mark.server
def test_serve_restarts_each_process_and_each_engine_that_is_killed(data_dir: Path) -> None:
    with Serving(data_dir) as serving:
        assert serving.status() == 200
        for name in ("web", "worker", "beat"):
            killed = serving.pid(name)
            os.kill(killed, signal.SIGKILL)
            until(lambda name=name, killed=killed: serving.pid(name) != killed)  # type: ignore[misc]
        engines = Engines(data_dir)
        for engine in engines.processes.values():
            pid = engine.pid()
            assert pid
            os.kill(pid, signal.SIGKILL)
        until(lambda: "PostgreSQL died" in serving.output and "Valkey died" in serving.output)
        until(lambda: not_running(engines) == [])
        assert serving.status() == 200


@pytest.mark.server
def test_a_killed_serve_takes_its_processes_along_and_leaves_the_engines_to_the_next(data_dir: Path) -> None:
    with Serving(data_dir) as serving:
        assert serving.status() == 200
        pids = [serving.pid(name) for name in ("web", "worker", "beat")]
        serving.process.kill()
        serving.wait()
    until(lambda: not any(start_of(pid) for pid in pids))
    before = [process.pid() for process in Engines(data_dir).processes.values()]
    assert None not in before
    with Serving(data_dir) as serving:
        assert serving.status() == 200
        assert [process.pid() for process in Engines(data_dir).processes.values()] == before
        serving.process.send_signal(signal.SIGINT)
        assert serving.wait() == 0


@pytest.mark.server
def test_a_running_request_is_finished_before_the_web_process_stops(data_dir: Path) -> None:
    with Serving(data_dir) as serving:
        assert serving.status() == 200
        with socket.create_connection(("127.0.0.1", serving.port()), timeout=WAIT_S) as connection:
            connection.sendall(UNFINISHED)
            # The server's word that it has the head and waits for the body.
            assert connection.recv(4096).startswith(b"HTTP/1.1 100")
            serving.process.send_signal(signal.SIGTERM)
            until(lambda: "stopping web" in serving.output)
            connection.sendall(b"a=")
            assert connection.recv(4096).startswith(b"HTTP/1.1 403")
        assert serving.wait() == 0


@pytest.mark.server
def test_a_second_signal_does_not_wait_for_running_requests(data_dir: Path) -> None:
    with Serving(data_dir) as serving:
        assert serving.status() == 200
        with socket.create_connection(("127.0.0.1", serving.port()), timeout=WAIT_S) as connection:
            connection.sendall(UNFINISHED)
            assert connection.recv(4096).startswith(b"HTTP/1.1 100")
            serving.process.send_signal(signal.SIGTERM)
            until(lambda: "stopping web" in serving.output)
            began_s = time.monotonic()
            serving.process.send_signal(signal.SIGTERM)
            assert serving.wait() == 0
            assert time.monotonic() - began_s < 5


@pytest.mark.server
def test_a_folder_that_is_served_already_is_refused_in_one_sentence(data_dir: Path) -> None:
    with Serving(data_dir) as serving:
        assert serving.status() == 200
        refused = manage(data_dir, "serve", "--port", "0")
        assert refused.returncode == 1
        assert f"already serves from {data_dir} (process {serving.process.pid})" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert serving.status() == 200


@pytest.mark.server
def test_a_port_in_use_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = manage(tmp_path, "serve", APERTURE_PORT=port)
    assert refused.returncode == 1
    assert f"http://127.0.0.1:{port} is already in use" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "postgres").exists()


@pytest.mark.server
def test_a_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    given = {"DATABASE_URL": f"postgresql://a:hidden@127.0.0.1:{closed}/a", "REDIS_URL": "redis://127.0.0.1:1"}
    refused = manage(tmp_path, "serve", "--port", "0", **given)
    assert refused.returncode == 1
    assert "PostgreSQL (DATABASE_URL) cannot be used" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "hidden" not in refused.stderr
    assert not (tmp_path / "postgres").exists()


@pytest.mark.server
def test_a_setting_that_cannot_be_used_is_named_in_one_sentence(tmp_path: Path) -> None:
    refused = manage(tmp_path, "serve", APERTURE_PORT="eighty")
    assert refused.returncode == 1
    assert refused.stderr == "aperture: APERTURE_PORT='eighty' is not valid: write a whole number.\n"


@pytest.mark.server
def test_serve_speaks_tls_where_it_has_a_certificate(tmp_path: Path) -> None:
    self_signed(tmp_path)
    pem = tmp_path / "server.pem"
    with Serving(tmp_path / "var", "--tls-cert", str(pem), "--tls-key", str(pem)) as serving:
        until(lambda: "serving on" in serving.output or serving.process.poll() is not None)
        found = re.search(r"serving on https://127\.0\.0\.1:(\d+)", serving.output)
        key = re.search(r"sg-[0-9A-Za-z]{36}", serving.output)
        assert found, serving.output
        assert key, serving.output
        assert "http://" not in serving.output
        trusting = ssl.create_default_context(cafile=str(pem))
        connection = http.client.HTTPSConnection("127.0.0.1", int(found[1]), timeout=WAIT_S, context=trusting)
        asked = {"model": DEMO_MODEL, "messages": [{"role": "user", "content": "hello over TLS"}]}
        headers = {"Authorization": f"Bearer {key[0]}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
        answer = connection.getresponse()
        # The built-in upstream is asked over the same port.
        assert (answer.status, b"hello over TLS" in answer.read()) == (200, True)
        connection.request("GET", "/admin/login/")
        page = connection.getresponse()
        page.read()
        assert page.status == 200
        assert "secure" in (page.headers["set-cookie"] or "").lower()
        connection.close()


@pytest.mark.server
def test_a_certificate_that_cannot_be_used_is_told_in_one_sentence(tmp_path: Path) -> None:
    missing = manage(tmp_path, "serve", "--tls-cert", "/nowhere/cert.pem", "--tls-key", "/nowhere/key.pem")
    assert missing.stderr == "CommandError: /nowhere/cert.pem cannot be read: No such file or directory.\n"
    half = manage(tmp_path, "serve", APERTURE_TLS_KEY="/nowhere/key.pem")
    assert half.stderr.startswith("CommandError: TLS needs a certificate and its key: --tls-cert (APERTURE_TLS_CERT)")
    assert (missing.returncode, half.returncode) == (1, 1)


def test_restarts_come_at_once_after_a_long_life_and_ever_later_after_short_ones() -> None:
    assert [restart_delay_s(deaths) for deaths in (0, 1, 2, 3)] == [0.0, 0.5, 1.0, 2.0]
    assert restart_delay_s(10_000) == 30.0


def test_an_exit_is_described_by_its_code_or_its_signal() -> None:
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-9) == "killed by SIGKILL"
    assert describe_exit(-99) == "killed by signal 99"


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://localhost:80"),
        ("::", "http://localhost:80"),
        ("::1", "http://[::1]:80"),
    ],
)
def test_the_printed_address_can_be_opened(host: str, shown: str) -> None:
    assert addresses.local_url(host, 80) == shown
