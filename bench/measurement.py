"""What is measured, in which order, and the medians and ratios that come of it.

Invariants: the bare pass-through is measured again right before each round of the gateway and LiteLLM right after, and
a ratio is the median of the rounds' own ratios; processor time is that of the web process by its id, the engines' is
told beside it.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from bench import ledger, load, realtime, translation
from bench.entrant import PEERS, Entrant, bare, fault
from bench.installation import CLAUDE_MODEL, REALTIME_MODEL, Installation
from bench.ledger import Ledger
from bench.process import BenchError, cpu_s, rss_mb
from bench.realtime import Realtime, Sessions
from bench.translation import Pair

SERVERS = ("uvicorn", "daphne")
RATE = 500
WARM_UP_S = 1


@dataclass(frozen=True)
class Plan:
    """How long everything takes."""

    rounds: int
    seconds: int
    memory_requests: int
    usage_rows: int


FULL = Plan(rounds=4, seconds=5, memory_requests=50_000, usage_rows=10_000_000)
QUICK = Plan(rounds=2, seconds=2, memory_requests=5_000, usage_rows=200_000)


@dataclass(frozen=True)
class Row:
    """One entrant under load: medians over the rounds; both ratios are to the rounds next to its own."""

    name: str
    requests: int
    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    postgres_us: float
    valkey_us: float
    rss_mb: float
    errors: int
    cpu_ratio: float | None = None
    litellm_ratio: float | None = None


@dataclass(frozen=True)
class Latency:
    """Both of a pair at a fixed rate."""

    server: str
    bare_p50_ms: float
    bare_p99_ms: float
    p50_ms: float
    p99_ms: float
    added_p50_ms: float
    p99_ratio: float
    errors: int


@dataclass(frozen=True)
class Memory:
    """One web process before, during and after so many requests."""

    server: str
    requests: int
    start_mb: float
    early_mb: float
    end_mb: float
    errors: int

    @property
    def growth_mb(self) -> float:
        """What it grew by over the last four fifths of the requests."""
        return self.end_mb - self.early_mb


class Bench:
    """One run: its folder, its mock, its installation of the gateway, and how long everything takes."""

    def __init__(self, folder: Path, mock: Entrant, plan: Plan) -> None:
        self.folder = folder
        self.mock = mock
        self.mock_port = mock.address.port
        self.plan = plan
        self.installation = Installation(folder, self.mock_port)
        self.answered = 0
        self.left_out: list[str] = []

    def throughput(self, streamed: bool) -> list[Row]:
        """Load everything that is installed as far as it goes."""
        rows = [self.rounds(self.mock, streamed)]
        with self.peer("nginx", streamed) as nginx:
            rows += [self.rounds(nginx, streamed)] if nginx else []
        with self.peer("LiteLLM", streamed) as litellm:
            litellm_rows: list[Row] = []
            for server in SERVERS:
                rows += self.turns(server, streamed, litellm, litellm_rows)
        rows += [combined(litellm_rows)] if litellm_rows else []
        with self.peer("Portkey", streamed) as portkey:
            rows += [self.rounds(portkey, streamed)] if portkey else []
        return rows

    def dialects(self) -> list[Row]:
        """Load streams of the caller's dialect, the same translated, and LiteLLM's translation, in turns."""
        same, ours, theirs = [], [], []
        with self.peer("LiteLLM", True) as litellm, self.installation.serving("uvicorn") as gateway:
            kept = replace(gateway, name="**gateway, chat → chat**")
            changed = asking(gateway, CLAUDE_MODEL, "**gateway, chat → Messages**")
            peer = asking(litellm, load.CLAUDE, "LiteLLM, chat → Messages") if litellm else None
            if peer and (wrong := fault(peer.address, True)):
                say(f"{peer.name}: {wrong}")
                self.left_out.append(f"{peer.name}: it gave no whole answer.")
                peer = None
            for _ in range(self.plan.rounds):
                same.append(self.one(kept, True))
                ours.append(self.one(changed, True))
                theirs += [self.one(peer, True)] if peer else []
        rows = [combined(same), combined(ours)]
        self.answered += sum(row.requests for row in rows)
        cpu_ratio, litellm_ratio = ratios(same, ours, theirs)
        rows = [replace(rows[0], cpu_ratio=1.0), replace(rows[1], cpu_ratio=cpu_ratio, litellm_ratio=litellm_ratio)]
        return rows + ([combined(theirs)] if theirs else [])

    def translation(self) -> list[Pair]:
        """Translate a large request between every two dialects."""
        return translation.measure(5 * self.plan.rounds)

    @contextmanager
    def peer(self, name: str, streamed: bool) -> Iterator[Entrant | None]:
        """Run a peer; where it is not there or does not work, say so, and go on without."""
        start, path = PEERS[name]
        with ExitStack() as stack:
            entrant = None
            if not path():
                reason = f"{name}, which is not installed."
                self.left_out += [reason] if reason not in self.left_out else []
            else:
                try:
                    entrant = stack.enter_context(start(self.folder, self.mock_port, streamed))
                except BenchError as error:
                    say(str(error))
                    self.left_out.append(f"{name} with {'streams' if streamed else 'JSON'}: it gave no whole answer.")
            yield entrant

    def rounds(self, entrant: Entrant, streamed: bool) -> Row:
        """Load one entrant round after round."""
        return combined([self.one(entrant, streamed) for _ in range(self.plan.rounds)])

    def turns(self, server: str, streamed: bool, litellm: Entrant | None, litellm_rows: list[Row]) -> list[Row]:
        """Load the bare pass-through, the gateway and LiteLLM in turns; LiteLLM's rounds go to LITELLM_ROWS."""
        limits, ours, theirs = [], [], []
        with bare(self.folder, self.mock_port, server) as limit, self.installation.serving(server) as gateway:
            for _ in range(self.plan.rounds):
                limits.append(self.one(limit, streamed))
                ours.append(self.one(gateway, streamed))
                theirs += [self.one(litellm, streamed)] if litellm else []
        litellm_rows += theirs
        row = combined(ours)
        self.answered += row.requests
        cpu_ratio, litellm_ratio = ratios(limits, ours, theirs)
        return [combined(limits), replace(row, cpu_ratio=cpu_ratio, litellm_ratio=litellm_ratio)]

    def one(self, entrant: Entrant, streamed: bool) -> Row:
        """Load one entrant once."""
        load.full(entrant.address, streamed, WARM_UP_S, self.folder)
        used_s, beside_s = cpu_s(entrant.pids), {name: cpu_s([pid]) for name, pid in entrant.beside.items()}
        seen = load.full(entrant.address, streamed, self.plan.seconds, self.folder)
        used_s = cpu_s(entrant.pids) - used_s
        beside_s = {name: cpu_s([pid]) - beside_s[name] for name, pid in entrant.beside.items()}
        row = Row(
            name=entrant.name,
            requests=seen.requests,
            rps=seen.requests / seen.seconds,
            p50_ms=seen.p50_ms,
            p99_ms=seen.p99_ms,
            cpu_us=each_us(used_s, seen.requests),
            postgres_us=each_us(beside_s.get("postgres", 0.0), seen.requests),
            valkey_us=each_us(beside_s.get("valkey", 0.0), seen.requests),
            rss_mb=rss_mb(entrant.pids),
            errors=seen.errors,
        )
        say(f"{row.name}: {row.rps:.0f} requests/s, {row.cpu_us:.0f} us each, {row.errors} errors")
        return row

    def latency(self, server: str) -> Latency:
        """Ask the bare pass-through and the gateway, in turns, at a fixed rate."""
        pairs = []
        seconds = 2 * self.plan.seconds
        with bare(self.folder, self.mock_port, server) as limit, self.installation.serving(server) as gateway:
            for entrant in (limit, gateway):
                load.fixed_rate(entrant.address, RATE, WARM_UP_S)
            for _ in range(self.plan.rounds):
                theirs = load.fixed_rate(limit.address, RATE, seconds)
                ours = load.fixed_rate(gateway.address, RATE, seconds)
                say(
                    f"{server} at {RATE}/s: p50 {theirs.p50_ms:.2f} and {ours.p50_ms:.2f} ms, "
                    f"p99 {theirs.p99_ms:.2f} and {ours.p99_ms:.2f} ms"
                )
                pairs.append((theirs, ours))
        self.answered += sum(ours.requests for _, ours in pairs)
        return Latency(
            server=server,
            bare_p50_ms=median(theirs.p50_ms for theirs, _ in pairs),
            bare_p99_ms=median(theirs.p99_ms for theirs, _ in pairs),
            p50_ms=median(ours.p50_ms for _, ours in pairs),
            p99_ms=median(ours.p99_ms for _, ours in pairs),
            added_p50_ms=median(ours.p50_ms - theirs.p50_ms for theirs, ours in pairs),
            p99_ratio=median(ours.p99_ms / theirs.p99_ms for theirs, ours in pairs),
            errors=sum(theirs.errors + ours.errors for theirs, ours in pairs),
        )

    def ledger(self) -> Ledger:
        """Load the journal alone, on one wallet and many, on an empty table and a full one."""
        with self.installation.serving("uvicorn"):
            return ledger.measure(self.installation, self.plan.seconds, self.plan.rounds, self.plan.usage_rows)

    def memory(self, server: str) -> Memory:
        """Send so many requests, every tenth of them a stream, to a web process that has just started."""
        early = self.plan.memory_requests // 5
        with self.installation.serving(server) as gateway:
            start_mb = rss_mb(gateway.pids)
            first = load.fixed_count(gateway.address, early)
            early_mb = rss_mb(gateway.pids)
            rest = load.fixed_count(gateway.address, self.plan.memory_requests - early)
            end_mb = rss_mb(gateway.pids)
        self.answered += first.requests + rest.requests
        say(f"{server}: {start_mb:.0f} MB at first, {early_mb:.0f} after {early} requests, {end_mb:.0f} at the end")
        requests = first.requests + rest.requests
        return Memory(server, requests, start_mb, early_mb, end_mb, first.errors + rest.errors)

    def realtime(self, server: str) -> Realtime:
        """Hold many realtime sessions open, with a few frames a second, and as many without the gateway beside them."""
        frames = max(realtime.SESSIONS, 2 * self.plan.seconds * realtime.FRAMES_PER_S)
        port = self.installation.realtime_port
        with realtime.upstream(self.folder, port), self.installation.serving(server) as gateway:
            limit = Sessions(port, "gpt-realtime", "")
            ours = Sessions(gateway.address.port, REALTIME_MODEL, self.installation.key)
            bare, found, grown_mb = asyncio.run(_held(limit, ours, frames, gateway.pids))
        session_kb = grown_mb * 1000 / realtime.SESSIONS
        say(
            f"{server}, {realtime.SESSIONS} sessions: p99 {bare.p99_ms:.2f} and {found.p99_ms:.2f} ms, "
            f"{session_kb:.0f} KB a session"
        )
        return Realtime(server, bare, found, session_kb)

    def usage_rows(self) -> int:
        """Return how many usage rows were written; raise BenchError where a counted answer left none."""
        rows = self.installation.usage_rows()
        if rows < self.answered:
            raise BenchError(f"{self.answered} requests were answered, but only {rows} usage rows were written.")
        return rows


async def _held(
    limit: Sessions, ours: Sessions, frames: int, pids: list[int]
) -> tuple[realtime.Load, realtime.Load, float]:
    """Open the sessions of both and load them in the same moments; return both, and what PIDS grew by in MB."""
    for each in (limit, ours):
        # What the first sessions bring into memory is no session's.
        await each.open(10)
        await each.speak(50)
    before_mb = rss_mb(pids)
    for each in (ours, limit):
        await each.open(realtime.SESSIONS)
    bare, found = await asyncio.gather(limit.speak(frames), ours.speak(frames))
    grown_mb = rss_mb(pids) - before_mb
    for each in (limit, ours):
        await each.close()
    return bare, found, grown_mb


def asking(entrant: Entrant, model: str, name: str) -> Entrant:
    """Return an entrant that is asked for another model, under another name."""
    return replace(entrant, name=name, address=replace(entrant.address, model=model))


def combined(rows: list[Row]) -> Row:
    """Return the rounds of one entrant as one row: medians, and all requests and errors."""
    middle = {
        name: median(getattr(row, name) for row in rows)
        for name in ("rps", "p50_ms", "p99_ms", "cpu_us", "postgres_us", "valkey_us")
    }
    return replace(
        rows[-1],
        **middle,
        rss_mb=max(row.rss_mb for row in rows),
        requests=sum(row.requests for row in rows),
        errors=sum(row.errors for row in rows),
    )


def ratios(limits: list[Row], ours: list[Row], theirs: list[Row]) -> tuple[float, float | None]:
    """Return the medians of the rounds' ratios: processor time to the bare pass-through, requests/s to LiteLLM."""
    speeds = [own.rps / other.rps for own, other in zip(ours, theirs, strict=False) if other.rps]
    cpu_ratio = median(own.cpu_us / limit.cpu_us for own, limit in zip(ours, limits, strict=True))
    return cpu_ratio, median(speeds) if speeds else None


def each_us(seconds: float, requests: int) -> float:
    """Return a request's share in microseconds."""
    return seconds * 1_000_000 / requests if requests else 0.0


def say(line: str) -> None:
    """Tell how far the run is."""
    print(line, file=sys.stderr, flush=True)
