"""The document: what was reached, beside what is to be reached."""

from dataclasses import replace

from bench import realtime, report
from bench.ledger import Ledger, Load
from bench.measurement import QUICK, Latency, Memory, Row, combined, ratios
from bench.realtime import Realtime
from bench.translation import Pair

ROW = Row(
    name="bare pass-through, uvicorn",
    requests=1000,
    rps=5000.0,
    p50_ms=5.0,
    p99_ms=9.0,
    cpu_us=120.0,
    postgres_us=0.0,
    valkey_us=0.0,
    rss_mb=50.0,
    errors=0,
)
ROWS = [
    ROW,
    replace(ROW, name="**gateway, uvicorn**", rps=2600.0, cpu_us=342.0, cpu_ratio=2.85),
    replace(ROW, name="**gateway, daphne**", rps=1500.0, cpu_us=400.0, cpu_ratio=1.1),
]
BESIDE_LITELLM = [ROW, replace(ROWS[1], litellm_ratio=26.0), replace(ROWS[2], litellm_ratio=11.04)]


def results(**parts: object) -> report.Results:
    return replace(report.Results(QUICK, ["2 x a processor"]), **parts)  # type: ignore[arg-type]


def test_a_target_is_met_or_not_met_on_its_own_side() -> None:
    cells = [target.cells() for target in report.targets(results(json=BESIDE_LITELLM))]
    assert [(wanted, reached, verdict) for _, wanted, reached, verdict in cells] == [
        ("≤ 2.8 x", "2.85 x", "**not met**"),
        ("≥ 20 x", "26.0 x", "met"),
        ("≥ 12 x", "11.0 x", "**not met**"),
        ("≤ 0", "0", "met"),
    ]


def test_what_has_nothing_to_compare_with_is_neither_met_nor_missed() -> None:
    cells = [target.cells() for target in report.targets(results(json=ROWS))]
    assert [verdict for *_, verdict in cells] == ["**not met**", "not measured", "not measured", "met"]


def test_memory_and_latency_have_their_targets_for_each_server() -> None:
    memory = [Memory("uvicorn", 50_000, 100, 110, 112, 0), Memory("daphne", 50_000, 120, 130, 141, 0)]
    latency = [Latency("uvicorn", 0.5, 2.0, 1.0, 7.0, 0.5, 3.5, 0)]
    cells = [target.cells() for target in report.targets(results(memory=memory, latency=latency))]
    assert [verdict for *_, verdict in cells] == ["met", "met", "met", "**not met**", "met", "**not met**", "met"]


def test_dialects_have_their_targets_and_the_slowest_pair_counts() -> None:
    rows = [
        replace(ROW, name="**gateway, chat → chat**", cpu_ratio=1.0, errors=1),
        replace(ROW, name="**gateway, chat → Messages**", cpu_ratio=1.2, litellm_ratio=39.0),
        replace(ROW, name="LiteLLM, chat → Messages", errors=7),
    ]
    found = results(dialects=rows, pairs=[Pair("a → b", 1_000_000, 7.0), Pair("b → a", 1_100_000, 16.0)])
    targets = report.targets(found)
    assert [verdict for *_, verdict in (target.cells() for target in targets)] == [
        "met", "**not met**", "**not met**", "**not met**",
    ]  # fmt: skip
    assert "b → a" in targets[2].what
    text = report.document(found)
    assert "÷ chat → chat" in text
    assert "| a → b | 1,000 | 7.0 |" in text
    assert "| Errors of the gateway, everywhere | ≤ 0 | 1 | **not met** |" in text


def test_realtime_sessions_have_their_targets_for_each_server() -> None:
    bare = realtime.Load([1.0] * 100, 0)
    slow = replace(bare, trips_ms=[2.0] * 90 + [12.0] * 10, errors=1)
    found = [
        Realtime("uvicorn", bare, replace(bare, trips_ms=[9.0] * 100), 99.0),
        Realtime("daphne", bare, slow, 151.0),
    ]
    cells = [target.cells() for target in report.targets(results(realtime=found))]
    assert [verdict for *_, verdict in cells] == ["met", "met", "**not met**", "**not met**", "**not met**"]
    assert "| daphne | 1.00 | 2.00 | 1.00 | 12.00 | 11.00 | 151 | 1 |" in report.document(results(realtime=found))


def test_the_ledger_has_its_targets() -> None:
    load = Load(1000.0, 100.0, 5.0, 9.0)
    found = Ledger(load, replace(load, per_second=790.0), load, 10**7, 384.0, 372.0, 3.0)
    cells = [target.cells() for target in report.targets(results(ledger=found))]
    assert [verdict for *_, verdict in cells] == ["**not met**", "met", "met", "met", "met"]
    assert "10,000,000 usage rows" in report.document(results(ledger=found))


def test_rounds_are_combined_by_their_median_and_all_their_errors_count() -> None:
    rounds = [replace(ROW, cpu_us=cpu, errors=1) for cpu in (100.0, 900.0, 120.0)]
    whole = combined(rounds)
    assert (whole.cpu_us, whole.requests, whole.errors) == (120.0, 3000, 3)


def test_a_ratio_is_the_median_of_neighbours_and_not_the_ratio_of_medians() -> None:
    limits = [replace(ROW, cpu_us=cpu) for cpu in (100.0, 300.0, 100.0)]
    ours = [replace(ROW, cpu_us=cpu, rps=rps) for cpu, rps in ((200.0, 3000.0), (600.0, 900.0), (220.0, 2800.0))]
    theirs = [replace(ROW, rps=rps) for rps in (100.0, 30.0, 0.0)]
    assert ratios(limits, ours, theirs) == (2.0, 30.0)
    assert ratios(limits, ours, []) == (2.0, None)


def test_the_document_shows_only_the_parts_that_ran_and_how_to_run_them_again() -> None:
    text = report.document(results(json=ROWS))
    assert "| **gateway, uvicorn** | 2,600 |" in text
    assert "## Streams" not in text
    assert "scripts/bench" in text


def test_a_busy_machine_and_failed_requests_are_told() -> None:
    failed = [replace(row, errors=3) for row in ROWS]
    text = report.document(results(json=failed, load_before=2.4))
    assert "The machine was busy" in text
    assert "| Errors of the gateway, everywhere | ≤ 0 | 6 | **not met** |" in text
