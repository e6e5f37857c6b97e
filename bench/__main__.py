"""`python -m bench`: measure, print the tables, and after a whole run keep them in docs/performance.md."""

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bench import report
from bench.entrant import mock
from bench.measurement import FULL, QUICK, SERVERS, Bench, Plan
from bench.process import ROOT, BenchError

PARTS = ("json", "stream", "dialects", "latency", "memory", "realtime", "ledger")
DOCUMENT = ROOT / "docs" / "performance.md"


def main() -> int:
    """Return the exit status: 0 where everything ran, whatever the figures say."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("part", nargs="?", choices=PARTS, help="one part alone; without it, everything")
    parser.add_argument("--quick", action="store_true", help="short rounds, for a look; the document stays as it is")
    parser.add_argument("--requests", type=int, metavar="N", help="requests of the memory part (50,000)")
    options = parser.parse_args()
    if not Path("/proc/self/stat").exists():
        print("scripts/bench reads processor time from /proc, which only Linux has.", file=sys.stderr)
        return 1
    plan = QUICK if options.quick else FULL
    plan = replace(plan, memory_requests=options.requests or plan.memory_requests)
    # SIGTERM unwinds the stack as SIGINT does, so that everything started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        text = run([options.part] if options.part else list(PARTS), plan)
    except BenchError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(text)
    if not options.part and not options.quick:
        DOCUMENT.write_text(text, encoding="utf-8")
    return 0


def run(parts: list[str], plan: Plan) -> str:
    """Run the parts; return the document."""
    results = report.Results(plan, report.machine(), load_before=os.getloadavg()[0])
    with tempfile.TemporaryDirectory(prefix="aperture-bench-") as name, mock(Path(name)) as upstream:
        bench = Bench(Path(name), upstream, plan)
        if "json" in parts:
            results.json = bench.throughput(streamed=False)
        if "stream" in parts:
            results.stream = bench.throughput(streamed=True)
        if "dialects" in parts:
            results.dialects, results.pairs = bench.dialects(), bench.translation()
        if "latency" in parts:
            results.latency = [bench.latency(server) for server in SERVERS]
        if "memory" in parts:
            results.memory = [bench.memory(server) for server in SERVERS]
        if "realtime" in parts:
            results.realtime = [bench.realtime(server) for server in SERVERS]
        results.answered = bench.answered
        results.usage_rows = bench.usage_rows() if bench.answered else 0
        if "ledger" in parts:
            results.ledger = bench.ledger()
        results.left_out = bench.left_out
    return report.document(results)


if __name__ == "__main__":
    sys.exit(main())
