"""The entrants: how each is started in front of the mock, and which of its processes are measured.

Invariants: each is one process that answers; each is ready, by a whole answer of the kind that is measured, before it
is loaded; an entrant that is not installed is left out and named as such, one that does not come up fails loudly.
"""

import getpass
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.load import CLAUDE, Address
from bench.process import BenchError, free_port, running

READY_S = 90.0
WRONG_S = 15.0
UPSTREAM_KEY = "upstream"
CALLER_KEY = "sk-caller"

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.error; user {user};
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream mock {{ server 127.0.0.1:{mock_port}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
SERVERS = {
    "uvicorn": ["uvicorn", "--no-access-log", "--log-level", "error", "--host", "127.0.0.1", "--port"],
    "daphne": ["daphne", "--access-log", os.devnull, "-v", "0", "-b", "127.0.0.1", "-p"],
}


@dataclass(frozen=True)
class Entrant:
    """One that runs and is ready: where to ask, and the processes whose use is counted as its own and beside it."""

    name: str
    address: Address
    pids: list[int]
    beside: dict[str, int] = field(default_factory=dict)


@contextmanager
def mock(folder: Path) -> Iterator[Entrant]:
    """Run the upstream."""
    port = free_port()
    with running([sys.executable, "-m", "bench.mock", str(port)], folder / "mock.log") as process:
        yield ready(Entrant("direct, no gateway", Address(port), [process.pid]), process, folder / "mock.log")


@contextmanager
def nginx(folder: Path, mock_port: int, streamed: bool) -> Iterator[Entrant]:
    """Run nginx as a reverse proxy: the limit of a proxy in C."""
    port, configuration = free_port(), folder / "nginx.conf"
    text = NGINX.format(folder=folder, user=getpass.getuser(), port=port, mock_port=mock_port)
    configuration.write_text(text, encoding="utf-8")
    log = folder / "nginx.log"
    with running([nginx_path(), "-c", str(configuration), "-e", str(folder / "nginx.error")], log) as process:
        yield ready(Entrant("nginx, reverse proxy", Address(port), [process.pid]), process, log, streamed)


@contextmanager
def bare(folder: Path, mock_port: int, server: str) -> Iterator[Entrant]:
    """Run the bare pass-through on one of the two servers: the limit of Python."""
    port, log = free_port(), folder / f"bare-{server}.log"
    command = [sys.executable, "-m", *SERVERS[server], str(port), "bench.passthrough:app"]
    with running(command, log, {"UPSTREAM": f"http://127.0.0.1:{mock_port}"}) as process:
        yield ready(Entrant(f"bare pass-through, {server}", Address(port), [process.pid]), process, log)


@contextmanager
def litellm(folder: Path, mock_port: int, streamed: bool) -> Iterator[Entrant]:
    """Run LiteLLM's proxy with one worker and no database."""
    port, log = free_port(), folder / "litellm.log"
    mock_url = f"http://127.0.0.1:{mock_port}"
    chat = {"model": "openai/gpt-4o", "api_base": f"{mock_url}/v1", "api_key": UPSTREAM_KEY}
    messages = {"model": "anthropic/claude-sonnet-4-5", "api_base": mock_url, "api_key": UPSTREAM_KEY}
    configuration = {
        "model_list": [
            {"model_name": "gpt-4o", "litellm_params": chat},
            {"model_name": CLAUDE, "litellm_params": messages},
        ],
        "general_settings": {"master_key": CALLER_KEY},
        "litellm_settings": {"telemetry": False},
    }
    # JSON is YAML.
    (folder / "litellm.yaml").write_text(json.dumps(configuration), encoding="utf-8")
    options = ["--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    with running([litellm_path(), *options, "--num_workers", "1"], log, quiet, cwd=folder) as process:
        yield ready(Entrant("LiteLLM", Address(port, CALLER_KEY), [process.pid]), process, log, streamed)


@contextmanager
def portkey(folder: Path, mock_port: int, streamed: bool) -> Iterator[Entrant]:
    """Run Portkey's gateway on Node."""
    port, log = free_port(), folder / "portkey.log"
    upstream = f"http://127.0.0.1:{mock_port}/v1"
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": upstream}
    command = ["node", portkey_path(), f"--port={port}", "--headless"]
    with running(command, log, {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}, cwd=folder) as process:
        entrant = Entrant("Portkey", Address(port, UPSTREAM_KEY, headers=headers), [process.pid])
        yield ready(entrant, process, log, streamed)


def nginx_path() -> str:
    """Return nginx's path, which Debian keeps outside a user's PATH; empty where there is none."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or ""


def litellm_path() -> str:
    """Return the path of LiteLLM's console script (LITELLM=, else the PATH); empty where there is none."""
    return os.environ.get("LITELLM") or shutil.which("litellm") or ""


def portkey_path() -> str:
    """Return the path of Portkey's start-server.js (PORTKEY=); empty where there is none."""
    return os.environ.get("PORTKEY", "") if shutil.which("node") else ""


PEERS = {"nginx": (nginx, nginx_path), "LiteLLM": (litellm, litellm_path), "Portkey": (portkey, portkey_path)}


def ready(entrant: Entrant, process: "subprocess.Popen[bytes]", log: Path, *kinds: bool) -> Entrant:
    """Return the entrant once it answers whole, of each kind (streamed or not); else raise BenchError with its log."""
    deadline = time.monotonic() + READY_S
    wrong_until, failure = 0.0, "no answer"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            failure = next(filter(None, (fault(entrant.address, streamed) for streamed in kinds or (False, True))), "")
            # It listens; what it still answers wrongly after a while it always will.
            wrong_until = wrong_until or time.monotonic() + WRONG_S
            deadline = min(deadline, wrong_until)
        except (OSError, http.client.HTTPException) as error:
            failure = repr(error)
        if not failure:
            return entrant
        time.sleep(0.2)
    end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    raise BenchError(f"{entrant.name} did not come up: {failure}\n{end}")


def fault(address: Address, streamed: bool) -> str:
    """Ask once; return what is wrong with the answer, or nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=30)
    try:
        connection.request("POST", "/v1/chat/completions", address.body(streamed), address.all_headers())
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    expected = b"data: [DONE]\n\n" if streamed else b'"usage"'
    whole = answer.status == 200 and expected in body
    return "" if whole else f"status {answer.status}: {body[-300:]!r}"
