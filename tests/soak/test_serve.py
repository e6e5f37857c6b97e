"""A minute of everything at once: random faults of the upstream, clients that leave, processes that are killed.

Afterwards every answer that a client received in full was charged exactly once, at what the upstream itself billed; no
hold is left, the books balance to the nano-dollar, and nothing has grown.
"""

import http.client
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from aperture_site import addresses
from tests.aperture_site.test_serve import Serving, manage, until
from tests.upstream.server import ScriptedUpstream

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.quiet]

SEED = 20261120
SOAK_S = 45.0
THREADS = 8
GROWTH_BYTES_MAX = 25 * 1024 * 1024
MODELS = (
    "ok", "tool-call", "cut-7", "one-write", "separators", "crlf", "reset-mid-3", "cut-json", "error-mid-stream",
    "error-in-200", "truncated-json", "gzip", "usage-missing", "usage-null", "done-missing", "done-double",
    "reset-before-head", "empty-reply", "slow-first-byte-0.3", "drip-0.1", "html-200", "bill", "bill", "bill",
)  # fmt: skip
INPUT_NANOS, OUTPUT_NANOS = 2_000, 10_000
CREDIT_NANOS = 10**12
CREDIT = (
    "from accounts.models import User; from billing import ledger; from billing.models import House, Kind; "
    "from billing.money import Money; ledger.credit(User.objects.get(email='soak@example.com').personal.pk, "
    f"Money({CREDIT_NANOS}), Kind.CREDIT, House.PROMOTIONS)"
)


@dataclass
class Record:
    """What the clients saw: ids of answers that came in full, how many came at all, and what went wrong."""

    complete: set[str] = field(default_factory=set)
    # The number that a request named to the upstream, and its id.
    numbers: dict[str, str] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    cut: int = 0


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


def set_up(data_dir: Path, upstream: ScriptedUpstream) -> str:
    """Import a configuration that names the scripted upstream, and return a key of somebody with credit."""
    price = {"input": INPUT_NANOS / 1000, "output": OUTPUT_NANOS / 1000}
    document = {
        "providers": {"chaos": {"baseurl": upstream.base_url, "apikey": "sk-soak-00000000"}},
        "models": {name: {"targets": [{"provider": "chaos", "id": name, "price": price}]} for name in set(MODELS)},
    }
    path = data_dir / "soak.json"
    path.write_text(json.dumps(document))
    imported = manage(data_dir, "import_config", str(path))
    assert imported.returncode == 0, imported.stdout + imported.stderr
    made = manage(data_dir, "create_key", "--email", "soak@example.com")
    assert made.returncode == 0, made.stderr
    credited = manage(data_dir, "shell", "--no-imports", "-c", CREDIT)
    assert credited.returncode == 0, credited.stderr
    return made.stdout.strip()


def ask(port: int, key: str, choice: random.Random, record: Record) -> None:
    """Make one request; now and then leave before its end."""
    stream, leaves = choice.random() < 0.6, choice.random() < 0.1
    number = f"{choice.getrandbits(64):x}"
    told = {"prompt": str(choice.randint(1, 999)), "completion": str(choice.randint(1, 999)), "number": number}
    body = {"model": choice.choice(MODELS), "messages": [{"role": "user", "content": "soak"}], "stream": stream}
    body |= {"metadata": told, "max_tokens": 1000}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        record.statuses[answer.status] = record.statuses.get(answer.status, 0) + 1
        if leaves:
            answer.read1(32)
            return
        whole = answer.read()
        if answer.status == 200 and (not stream or whole.endswith(b"data: [DONE]\n\n")):
            request_id = str(answer.getheader("x-aperture-request-id"))
            record.complete.add(request_id)
            record.numbers[number] = request_id
    except (OSError, http.client.HTTPException):
        record.cut += 1
        time.sleep(0.05)
    finally:
        connection.close()


def load(port: int, key: str, ends_at: float, record: Record) -> None:
    """Ask from several threads, each with a seed of its own, until the time is over."""

    def run(number: int) -> None:
        choice = random.Random(SEED + number)
        while time.monotonic() < ends_at:
            ask(port, key, choice, record)

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(run, number) for number in range(THREADS)]:
            done.result()


def kill_things(serving: Serving, data_dir: Path, ends_at: float) -> None:
    """Kill the web process and the engines in turn, with time to recover between."""
    choice = random.Random(SEED)
    for victim in ("web", "valkey", "postgres", "web"):
        time.sleep(choice.uniform(5, 8))
        if time.monotonic() > ends_at - 8:
            return
        pid = serving.pid("web") if victim == "web" else engine_pid(data_dir, victim)
        os.kill(pid, signal.SIGKILL)


def engine_pid(data_dir: Path, name: str) -> int:
    """Return the pid of one of the data folder's engines, found by its command line."""
    program = {"postgres": "postgres", "valkey": "valkey-server"}[name]
    for process in psutil.process_iter(["pid", "ppid", "cmdline"]):
        words = process.info["cmdline"] or []
        if words and Path(words[0]).name == program and any(str(data_dir) in word for word in words):
            return int(process.info["pid"])
    raise AssertionError(f"no {name} runs for {data_dir}")


def query(data_dir: Path, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query to the installation's database."""
    with psycopg.connect(addresses.embedded_database(data_dir), autocommit=True) as raw:
        return raw.execute(statement.encode()).fetchall()


def usage_rows(data_dir: Path) -> dict[str, int]:
    """Return how many usage rows each request id of a success has."""
    counted = "SELECT request_id::text, count(*) FROM billing_usage WHERE status = 200 GROUP BY 1"
    return dict(query(data_dir, counted))


def assert_books_balance(data_dir: Path, upstream: ScriptedUpstream, record: Record) -> None:
    """No hold is left, the books balance, and what the upstream billed is what was recorded."""
    until(lambda: query(data_dir, "SELECT count(*) FROM billing_hold") == [(0,)])
    reconciled = manage(data_dir, "reconcile")
    assert reconciled.returncode == 0, reconciled.stdout + reconciled.stderr
    costs = dict(query(data_dir, "SELECT request_id::text, cost_nanos FROM billing_usage WHERE status = 200"))
    charges = query(
        data_dir, "SELECT count(*) FROM billing_usage WHERE status = 200 AND charge_nanos < cost_nanos * 1.2"
    )
    assert charges == [(0,)]
    billed = {each.json["metadata"]["number"]: each.billed for each in upstream.exchanges if each.billed is not None}
    compared = 0
    for number, (prompt, completion) in billed.items():
        if number in record.numbers:
            compared += 1
            assert costs[record.numbers[number]] == prompt * INPUT_NANOS + completion * OUTPUT_NANOS
    assert compared > 50


def test_a_minute_of_faults_and_kills_loses_no_usage_and_grows_nothing(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    data_dir, record = tmp_path / "var", Record()
    bounds = {
        "APERTURE_IDLE_TIMEOUT_SECONDS": "2",
        "APERTURE_FIRST_BYTE_TIMEOUT_SECONDS": "4",
        "APERTURE_HOLD_LEASE_SECONDS": "6",
    }
    with Serving(data_dir, **bounds) as serving:
        port = serving.port()
        key = set_up(data_dir, upstream)
        ends_at = time.monotonic() + SOAK_S
        killer = threading.Thread(target=kill_things, args=(serving, data_dir, ends_at))
        killer.start()
        load(port, key, ends_at, record)
        killer.join()

        web = psutil.Process(serving.pid("web"))
        before_bytes, before_files = web.memory_info().rss, web.num_fds()
        load(port, key, time.monotonic() + 10, record)
        until(
            lambda: (
                not [
                    each
                    for each in web.net_connections("tcp")
                    if each.status == "ESTABLISHED" and each.laddr.port == port
                ]
            )
        )
        grown_bytes, grown_files = web.memory_info().rss - before_bytes, web.num_fds() - before_files
        assert_books_balance(data_dir, upstream, record)
        rows = usage_rows(data_dir)

    for died in ("web ended (killed by SIGKILL)", "Valkey died", "PostgreSQL died"):
        assert died in serving.output
    assert len(record.complete) > 300, record
    assert set(record.statuses) <= {200, 400, 502, 503, 504}, record.statuses
    missing = record.complete - rows.keys()
    assert not missing, f"{len(missing)} of {len(record.complete)} answers left no usage row"
    assert set(rows.values()) == {1}
    assert grown_bytes < GROWTH_BYTES_MAX
    assert grown_files <= 40
    assert "Traceback" not in serving.output
