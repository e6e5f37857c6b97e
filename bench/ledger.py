"""The ledger under load: one wallet for everybody against many, and a table of ten million rows against an empty one.

Two processes write at once, for a row that everybody needs is only a question between processes.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from statistics import median

from bench.installation import Installation
from bench.process import ENVIRONMENT, ROOT, BenchError

PROCESSES = 2
MANY_WALLETS = 200
ORGANIZATIONS = 1_000

FILL = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SET synchronous_commit = off")
    cursor.execute('''
        INSERT INTO billing_usage (request_id, key_id, user_id, organization_id, provider_id, target_id, price_id,
            cost_nanos, charge_nanos, markup_ppm, first_byte_ms, duration_ms, input_tokens, output_tokens,
            cache_read_tokens, status, streamed, model, dialect, error_code, usage_source, session_id, client)
        SELECT (lpad(to_hex((extract(epoch FROM date_trunc('month', now())) * 1000)::bigint + row * 10), 12, '0')
                || '7' || lpad(to_hex((random() * 4095)::int), 3, '0')
                || '8' || lpad(to_hex((random() * 4095)::int), 3, '0')
                || lpad(to_hex((random() * 2147483647)::bigint), 12, '0'))::uuid,
            9000000 + row % {organizations}, 1, 9000000 + row % {organizations}, 5, 7, 9, 123456, 148148, 1200000, 350,
            2100, 1200, 300, 800, 200, true, 'anthropic/claude-sonnet-4.6', 'openai_chat', '', 'provider',
            'session-0123456789', 'OpenAI/Python 3.1.0'
          FROM generate_series(1, {rows}) AS row
    ''')
"""
SIZES = """
import json
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute('''
        SELECT (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('billing_usage'))
               / (SELECT count(*) FROM billing_usage),
               pg_total_relation_size('billing_transfer')
               / (SELECT count(DISTINCT request_id) FROM billing_transfer WHERE request_id IS NOT NULL)
    ''')
    print(json.dumps([float(each) for each in cursor.fetchone()]))
"""
PAGE = """
import time
from django.db import connection
from billing.models import Usage
taken = []
for number in range(10):
    began = time.perf_counter()
    list(Usage.objects.filter(organization_id=9000000 + number).order_by("-request_id")[:50])
    taken.append(time.perf_counter() - began)
print(sorted(taken)[5] * 1000)
"""


@dataclass(frozen=True)
class Load:
    """Both processes together: requests a second; and of each, processor time and latencies."""

    per_second: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Ledger:
    """What the ledger part found."""

    many: Load
    one: Load
    full: Load
    rows: int
    usage_bytes: float
    ledger_bytes: float
    page_ms: float

    @property
    def hot_ratio(self) -> float:
        """One wallet's throughput to many wallets'."""
        return self.one.per_second / self.many.per_second

    @property
    def full_ratio(self) -> float:
        """The throughput with a full table to that with an empty one."""
        return self.full.per_second / self.many.per_second


def measure(installation: Installation, seconds: int, rounds: int, rows: int) -> Ledger:
    """Measure many wallets and one in turns, fill the table, and measure again; the installation must be up."""
    pairs = [(load(installation, MANY_WALLETS, seconds), load(installation, 1, seconds)) for _ in range(rounds)]
    installation.manage("shell", "--no-imports", "-c", FILL.format(rows=rows, organizations=ORGANIZATIONS))
    full = [load(installation, MANY_WALLETS, seconds) for _ in range(rounds)]
    usage_bytes, ledger_bytes = json.loads(installation.manage("shell", "--no-imports", "-c", SIZES))
    page_ms = float(installation.manage("shell", "--no-imports", "-c", PAGE))
    return Ledger(
        many=middle([many for many, _ in pairs]),
        one=middle([one for _, one in pairs]),
        full=middle(full),
        rows=rows,
        usage_bytes=usage_bytes,
        ledger_bytes=ledger_bytes,
        page_ms=page_ms,
    )


def middle(loads: list[Load]) -> Load:
    """Return the medians of several rounds."""
    columns = ("per_second", "cpu_us", "p50_ms", "p99_ms")
    return Load(*(median(getattr(each, column) for each in loads) for column in columns))


def load(installation: Installation, wallets: int, seconds: int) -> Load:
    """Run the processes side by side; return what they did together."""
    command = [sys.executable, "-m", "bench.journal_load", "--wallets", str(wallets), "--seconds", str(seconds)]
    environment = ENVIRONMENT | installation.environment()
    running = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    found = []
    for process in running:
        output, errors = process.communicate(timeout=300)
        if process.returncode:
            raise BenchError(f"The journal's load failed: {errors}")
        found.append(json.loads(output.splitlines()[-1]))
    return Load(
        per_second=sum(each["per_second"] for each in found),
        cpu_us=median(each["cpu_us"] for each in found),
        p50_ms=median(each["p50_ms"] for each in found),
        p99_ms=max(each["p99_ms"] for each in found),
    )
