"""A page in Chromium opens a realtime socket, as OpenAI's documentation has it: the key is an item of subprotocols."""

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.installation import Installation
from tests.gateway.test_sockets import APP, SMALL
from tests.servers import start_web
from tests.upstream.server import ScriptedUpstream

pytestmark = [pytest.mark.server, pytest.mark.slow]

PAGE = Path(__file__).with_name("page") / "realtime.html"
PAGE_TIMEOUT_S = 60
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIETLY = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
           "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage")  # fmt: skip


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest) -> str:
    """Both."""
    return str(request.param)


@pytest.fixture(scope="module")
def gateway(server: str, installation: Installation, upstream: ScriptedUpstream, engines: Path) -> Iterator[Gateway]:
    """A web process whose realtime route echoes."""
    with start_web(server, APP, engines, DATABASE_URL=installation.database_url, **SMALL) as web:
        yield Gateway(web, upstream, installation, server)


class Page:
    """A site of its own origin, which shows the page and takes what it reports."""

    def __init__(self) -> None:
        self.reports: queue.Queue[Any] = queue.Queue()
        reports = self.reports

        class Site(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = PAGE.read_bytes() if self.path.startswith("/page") else b""
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Log nothing."""

        self.site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
        threading.Thread(target=self.site.serve_forever, daemon=True).start()

    def address(self, url: str, key: str) -> str:
        """Return the page's address, with what it needs to know."""
        return f"http://127.0.0.1:{self.site.server_port}/page?{urlencode({'url': url, 'key': key})}"


@pytest.fixture
def page() -> Iterator[Page]:
    """The page's site."""
    made = Page()
    yield made
    made.site.shutdown()
    made.site.server_close()


@contextmanager
def browsing(address: str, folder: Path) -> Iterator[None]:
    """Show ADDRESS in a Chromium with a profile of its own, for the length of the block."""
    if BROWSER is None:
        pytest.skip("Chromium is not installed")
    command = [BROWSER, *QUIETLY, f"--user-data-dir={folder}", "--remote-debugging-port=0", address]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_page_opens_a_socket_with_a_key(gateway: Gateway, page: Page, tmp_path: Path) -> None:
    url = f"ws://127.0.0.1:{gateway.port}/v1/realtime?model=gpt-realtime"
    with browsing(page.address(url, gateway.installed.key), tmp_path):
        seen = page.reports.get(timeout=PAGE_TIMEOUT_S)
    assert seen["protocol"] == "realtime"
    assert seen["extensions"] == ""
    assert json.loads(seen["frames"][0])["type"] == "session.update"
    assert (seen["code"], seen["clean"]) == (1000, True)


def test_a_page_opens_a_socket_with_a_client_secret(gateway: Gateway, page: Page, tmp_path: Path) -> None:
    session = {"type": "realtime", "model": "chaos/ok", "instructions": "Be brief. " * 200}
    secret = gateway.call("POST", "/v1/realtime/client_secrets", body={"session": session}).json["value"]
    with browsing(page.address(f"ws://127.0.0.1:{gateway.port}/v1/realtime?do=seen", secret), tmp_path):
        seen = page.reports.get(timeout=PAGE_TIMEOUT_S)
    assert seen["protocol"] == "realtime"
    found = json.loads(seen["frames"][0])
    assert found["session"] == session
    assert "the-page-s-own" not in seen["frames"][0]


def test_a_page_without_a_good_key_gets_no_socket(gateway: Gateway, page: Page, tmp_path: Path) -> None:
    with browsing(page.address(f"ws://127.0.0.1:{gateway.port}/v1/realtime", "sg-nothing"), tmp_path):
        seen = page.reports.get(timeout=PAGE_TIMEOUT_S)
    assert "protocol" not in seen
    assert (seen["code"], seen["frames"]) == (1006, [])
