"""The document: what was measured, beside what is to be reached, and how to measure it again. Pure but for `machine`.

Invariant: nothing of the machine but its kind gets in: no host name, no path, no address.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.entrant import litellm_path, nginx_path, portkey_path
from bench.ledger import MANY_WALLETS, Ledger
from bench.load import CONNECTIONS
from bench.measurement import RATE, WARM_UP_S, Latency, Memory, Plan, Row
from bench.realtime import FRAME_BYTES, FRAMES_PER_S, SESSIONS, Realtime
from bench.translation import MESSAGES_COUNT, Pair

# A growth that pages and pools explain; a leak of a hundred bytes a request would show as 4 MB.
FLAT_MB = 3.0
# Above it, something else had a good part of the processors.
QUIET_LOAD = 1.0
ENTRANT = ("Entrant", "requests/s", "p50 ms", "p99 ms", "CPU µs/request")
BESIDE = ("PostgreSQL µs", "Valkey µs", "RSS MB", "errors")


@dataclass
class Results:
    """What a run found; a part that did not run is empty."""

    plan: Plan
    machine: list[str]
    json: list[Row] = field(default_factory=list)
    stream: list[Row] = field(default_factory=list)
    dialects: list[Row] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    latency: list[Latency] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    realtime: list[Realtime] = field(default_factory=list)
    ledger: Ledger | None = None
    left_out: list[str] = field(default_factory=list)
    usage_rows: int = 0
    answered: int = 0
    load_before: float = 0.0


@dataclass(frozen=True)
class Target:
    """One thing to reach: `reached` is None where what it compares with is not there."""

    what: str
    bound: float
    reached: float | None
    unit: str = ""
    at_least: bool = False

    def cells(self) -> list[str]:
        """Return the row of the table."""
        sign = "≥" if self.at_least else "≤"
        wanted = f"{sign} {self.bound:g}{self.unit}"
        if self.reached is None:
            return [self.what, wanted, "–", "not measured"]
        met = self.reached >= self.bound if self.at_least else self.reached <= self.bound
        digits = 0 if self.reached >= 100 or isinstance(self.reached, int) else 1 if self.at_least else 2
        return [self.what, wanted, f"{self.reached:.{digits}f}{self.unit}", "met" if met else "**not met**"]


def targets(results: Results) -> list[Target]:
    """Return everything that is to be reached in the parts that ran."""
    found: list[Target] = []
    for one, many, rows, cpu, uvicorn, daphne in (
        ("JSON request", "JSON requests", results.json, 2.8, 20, 12),
        ("stream of 103 events", "Streams", results.stream, 1.4, 50, 40),
    ):
        if rows:
            ratio = row_of(rows, "gateway, uvicorn").cpu_ratio
            found.append(Target(f"CPU of a {one}, uvicorn: gateway ÷ bare pass-through", cpu, ratio, " x"))
            for server, bound in (("uvicorn", uvicorn), ("daphne", daphne)):
                what = f"{many} a second, {server}: gateway ÷ LiteLLM"
                found.append(Target(what, bound, row_of(rows, f"gateway, {server}").litellm_ratio, " x", at_least=True))
    found += dialect_targets(results)
    for memory, bound in zip(results.memory, (130, 150), strict=False):
        of = f"Memory of the web process, {memory.server}"
        found.append(Target(f"{of}, after {memory.requests:,} requests", bound, memory.end_mb, " MB"))
        found.append(Target(f"{of}: growth over the last four fifths", FLAT_MB, memory.growth_mb, " MB"))
    for latency in results.latency:
        of = f"At {RATE} requests/s, {latency.server}"
        found.append(Target(f"{of}: added p50", 2, latency.added_p50_ms, " ms"))
        found.append(Target(f"{of}: p99, gateway ÷ bare pass-through", 3, latency.p99_ratio, " x"))
    for each in results.realtime:
        of = f"{SESSIONS} realtime sessions, {each.server}"
        found.append(Target(f"{of}: added p99 of a frame there and one back", 10, each.added_p99_ms, " ms"))
        found.append(Target(f"{of}: memory of one", 150, each.session_kb, " KB"))
    if results.ledger:
        found += [
            Target(
                "One wallet for everybody ÷ many wallets, requests a second",
                0.8,
                results.ledger.hot_ratio,
                " x",
                at_least=True,
            ),
            Target("Bytes of a usage row with its indexes", 450, results.ledger.usage_bytes),
            Target(
                "Bytes of usage and ledger of a request", 900, results.ledger.usage_bytes + results.ledger.ledger_bytes
            ),
            Target(f"A usage page, {results.ledger.rows:,} rows", 200, results.ledger.page_ms, " ms"),
        ]
    return [*found, Target("Errors of the gateway, everywhere", 0, gateway_errors(results))]


def dialect_targets(results: Results) -> list[Target]:
    """Return what is to be reached from one dialect into another."""
    found: list[Target] = []
    if results.dialects:
        row = row_of(results.dialects, "gateway, chat → Messages")
        cpu = "CPU of a stream of 103 events, chat → Messages ÷ chat → chat"
        speed = "Streams a second, chat → Messages: gateway ÷ LiteLLM"
        found.append(Target(cpu, 2.5, row.cpu_ratio, " x"))
        found.append(Target(speed, 40, row.litellm_ratio, " x", at_least=True))
    if results.pairs:
        worst = max(results.pairs, key=lambda pair: pair.cpu_ms)
        what = f"A 1 MB request of {MESSAGES_COUNT} messages into another dialect ({worst.name}, the slowest)"
        found.append(Target(what, 15, worst.cpu_ms, " ms"))
    return found


def gateway_errors(results: Results) -> int:
    """Return how many requests to the gateway failed; at the fixed rate those to the pass-through count too."""
    loads = sum(row.errors for row in [*results.json, *results.stream, *results.dialects] if row.cpu_ratio)
    sessions = sum(each.gateway.errors for each in results.realtime)
    return loads + sessions + sum(each.errors for each in results.latency) + sum(each.errors for each in results.memory)


def row_of(rows: list[Row], name: str) -> Row:
    """Return the row of an entrant."""
    return next(row for row in rows if name in row.name)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; all but the first column are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def load_table(rows: list[Row], beside: str = "bare") -> str:
    """Return the table of a load; BESIDE is what the processor time is divided by."""
    return table((*ENTRANT, f"÷ {beside}", *BESIDE), map(load_cells, rows))


def load_cells(row: Row) -> list[str]:
    """Return an entrant's figures; the engines' only where it has engines."""
    beside = [f"{row.postgres_us:.0f}", f"{row.valkey_us:.0f}"] if row.cpu_ratio else ["–", "–"]
    return [
        row.name,
        f"{row.rps:,.0f}",
        f"{row.p50_ms:.1f}",
        f"{row.p99_ms:.1f}",
        f"{row.cpu_us:,.0f}",
        f"{row.cpu_ratio:.2f}" if row.cpu_ratio else "–",
        *beside,
        f"{row.rss_mb:.0f}",
        str(row.errors),
    ]


def document(results: Results) -> str:
    """Return the whole document."""
    parts = [
        INTRODUCTION,
        *([BUSY] if results.load_before > QUIET_LOAD else []),
        "## Reached",
        table(["What", "to reach", "reached", ""], (t.cells() for t in targets(results))),
    ]
    if results.json:
        parts += ["## JSON: one completion of about 900 bytes", load_table(results.json)]
    if results.stream:
        parts += ["## Streams: 103 events, each its own write of the upstream", STREAMS, load_table(results.stream)]
    if results.dialects:
        parts += ["## From one dialect into another", DIALECTS, load_table(results.dialects, "chat → chat")]
    if results.pairs:
        parts += [PAIRS, table(PAIRS_COLUMNS, pair_rows(results.pairs))]
    if results.latency:
        parts += [
            f"## Latency at a fixed {RATE} requests a second",
            LATENCY,
            table(LATENCY_COLUMNS, map(latency_cells, results.latency)),
        ]
    if results.memory:
        parts += ["## Memory of a web process", MEMORY, table(MEMORY_COLUMNS, map(memory_cells, results.memory))]
    if results.realtime:
        parts += [
            f"## Realtime: {SESSIONS} open sessions",
            REALTIME,
            table(REALTIME_COLUMNS, map(realtime_cells, results.realtime)),
        ]
    if results.ledger:
        parts += ["## The ledger alone", LEDGER, table(LEDGER_COLUMNS, ledger_rows(results.ledger))]
    return "\n\n".join([*parts, how(results)]) + "\n"


PAIRS_COLUMNS = ("From, into", "KB", "CPU ms")
LATENCY_COLUMNS = ("Server", "bare p50 ms", "p50 ms", "added p50 ms", "bare p99 ms", "p99 ms", "p99 ÷ bare", "errors")
REALTIME_COLUMNS = (
    "Server", "bare p50 ms", "p50 ms", "bare p99 ms", "p99 ms", "added p99 ms", "KB a session", "errors",
)  # fmt: skip
MEMORY_COLUMNS = ("Server", "requests", "at first MB", "after a fifth MB", "at the end MB", "growth MB", "errors")


LEDGER_COLUMNS = ("Two processes", "requests/s", "CPU µs/request", "p50 ms", "p99 ms")


def ledger_rows(ledger: Ledger) -> list[list[str]]:
    """Return the ledger's figures."""
    loads = [
        (f"{MANY_WALLETS} wallets", ledger.many),
        ("one wallet", ledger.one),
        (f"{MANY_WALLETS} wallets, {ledger.rows:,} usage rows", ledger.full),
    ]
    return [
        [name, f"{load.per_second:,.0f}", f"{load.cpu_us:.0f}", f"{load.p50_ms:.1f}", f"{load.p99_ms:.1f}"]
        for name, load in loads
    ]


def pair_rows(pairs: list[Pair]) -> list[list[str]]:
    """Return the figures of the translated requests."""
    return [[pair.name, f"{pair.request_bytes / 1000:,.0f}", f"{pair.cpu_ms:.1f}"] for pair in pairs]


def latency_cells(latency: Latency) -> list[str]:
    """Return a pair's figures."""
    figures = (
        latency.bare_p50_ms, latency.p50_ms, latency.added_p50_ms, latency.bare_p99_ms, latency.p99_ms,
        latency.p99_ratio,
    )  # fmt: skip
    return [latency.server, *(f"{figure:.2f}" for figure in figures), str(latency.errors)]


def memory_cells(memory: Memory) -> list[str]:
    """Return a web process's figures."""
    figures = (memory.start_mb, memory.early_mb, memory.end_mb, memory.growth_mb)
    return [memory.server, f"{memory.requests:,}", *(f"{figure:.1f}" for figure in figures), str(memory.errors)]


def realtime_cells(each: Realtime) -> list[str]:
    """Return the figures of open sessions."""
    bare, ours = each.bare, each.gateway
    figures = (bare.p50_ms, ours.p50_ms, bare.p99_ms, ours.p99_ms, each.added_p99_ms)
    return [each.server, *(f"{figure:.2f}" for figure in figures), f"{each.session_kb:.0f}", str(ours.errors)]


def how(results: Results) -> str:
    """Return how this was measured, on what, and how to measure it again."""
    plan = results.plan
    left_out = [f"Not measured: {reason}" for reason in results.left_out]
    lines = [
        f"* {datetime.now(UTC):%Y-%m-%d}, Aperture {commit()}",
        *(f"* {line}" for line in results.machine),
        f"* Load average when it began: {results.load_before:.1f}",
        f"* {plan.rounds} rounds of {plan.seconds} s for each entrant after {WARM_UP_S} s of warm-up, over "
        f"{CONNECTIONS} connections; {plan.rounds} of {2 * plan.seconds} s at the fixed rate",
        f"* {results.usage_rows:,} usage rows with tokens and price were found for {results.answered:,} counted "
        "answers and the warm-ups; fewer than the answers would have failed the run",
    ]
    return "\n\n".join(["## This run", "\n".join(lines), *left_out, AGAIN])


INTRODUCTION = """# Performance

One run of `scripts/bench`: everything on one machine over loopback, in front of one mock upstream, one process for each
entrant, one entrant under load at a time. The gateway is what `manage.py serve` starts on a fresh data folder, with
one web process and nothing left out: the key is checked, grants and routes are resolved, the model's name is rewritten
in request and answer, the request is counted in two limits, its price is held in a prepaid wallet before the upstream
is called, and charge, ledger and usage row are committed to PostgreSQL before the last byte of the answer.

Read the ratios, not the absolute figures: each is the median over rounds in which the bare pass-through, an ASGI
application that only forwards, was measured right before the gateway, and LiteLLM right after. CPU is that of the web
process alone, by its process id; what PostgreSQL and Valkey used for the same request stands beside it."""

STREAMS = """Writing and counting 103 events costs the mock and the load generator about as much as relaying them costs
the pass-through, so on few processors they bound the fast entrants' streams a second; the CPU column is what counts."""

DIALECTS = """A caller streams chat, from an upstream that speaks it and from one that speaks Anthropic's Messages. Both
send 103 events, each its own write. LiteLLM translates the same."""

PAIRS = f"""A request of {MESSAGES_COUNT} messages, read in one dialect and written in another: processor time of
one, the median."""

BUSY = """**The machine was busy with other things during this run** (see the load average below): absolute figures and
tails are worse than the machine's, and ratios are less certain than their digits."""

LATENCY = f"""JSON, open loop: request N is due N / {RATE} s after the first, whatever became of the others, and its
latency counts from that moment, so that a stall cannot hide the requests that waited for it."""

MEMORY = """Resident memory of a fresh web process; every tenth request is a stream."""

REALTIME = f"""All sessions are held open by one web process, each with a response under way; {FRAMES_PER_S} frames a
second go up in all of them together and are answered by as many down, of {FRAME_BYTES // 1000} KB each, in turns. Every
frame is metered. A round trip counts from the moment when its frame was due; bare is the same straight to the
upstream, in the same moments. Memory is what the web process grew by, divided by the sessions; frames are not
compressed."""

LEDGER = """Hold and settle and nothing else, 64 at a time in each of two processes on one database."""

AGAIN = """## Again

```
scripts/bench                    # everything, about a quarter of an hour; writes this file
scripts/bench json --quick       # one part (see --help), short rounds; only prints
scripts/bench memory --requests 500000
```

It needs Linux. With `wrk` (Debian: `wrk`) the load comes from there, otherwise from a small generator of its own;
nginx (`nginx-light`) is measured where it is installed. The peers are not part of the locked dependencies; install them
apart and name them:

```
python3 -m venv /tmp/litellm && /tmp/litellm/bin/pip install 'litellm[proxy]'
npm install --prefix /tmp/portkey @portkey-ai/gateway
export LITELLM=/tmp/litellm/bin/litellm
export PORTKEY=/tmp/portkey/node_modules/@portkey-ai/gateway/build/start-server.js
```

No entrant sees the environment of the one who starts the run: no secret and no address of a real installation gets in.
Everything that it starts it stops, and its folder is removed."""


def machine() -> list[str]:
    """Describe what this runs on, without names."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    python = f"Python {platform.python_version()}"
    packages = [f"{name} {version(name)}" for name in ("uvicorn", "daphne", "aiohttp", "uvloop")]
    return [
        f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}, {memory_gb:.0f} GB, Linux {kernel()}",
        ", ".join([python, *packages, *peers()]),
    ]


def kernel() -> str:
    """Return the kernel's version, without what its builder added."""
    return platform.release().split("-")[0]


def peers() -> list[str]:
    """Return the versions of what else is installed."""
    found = [first_match([nginx_path(), "-v"], r"nginx/([\d.]+)", "nginx")] if nginx_path() else []
    if litellm_path():
        found.append(first_match([litellm_path(), "--version"], r"(\d+\.\d+\.\d+)", "LiteLLM"))
    if portkey_path():
        package = Path(portkey_path()).parent.parent / "package.json"
        found.append(first_match(["cat", str(package)], r'"version":\s*"([\d.]+)"', "Portkey"))
    generator = first_match(["wrk", "-v"], r"wrk \S*?([\d.]+)", "wrk") if shutil.which("wrk") else "own load generator"
    return [*found, generator]


def commit() -> str:
    """Return the commit that is measured, where there is git."""
    return first_match(["git", "rev-parse", "--short", "HEAD"], r"(\w+)", "at commit") if shutil.which("git") else ""


def first_match(command: Sequence[str], pattern: str, name: str) -> str:
    """Return NAME and the version that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(pattern, done.stdout + done.stderr)
    return f"{name} {found[1] if found else '(unknown version)'}"
