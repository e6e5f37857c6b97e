"""What the process says of itself and of a key."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pytest_django import Settings

from billing.connection import Connection
from gateway import health
from gateway.draining import draining
from gateway.runtime import Runtime
from gateway.snapshot import Access
from tests.gateway.scenery import a_caller, a_grant, a_model, a_provider, a_snapshot

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_runtime(*, stale: bool = False) -> Runtime:
    freshness = SimpleNamespace(stale=lambda: stale, snapshot=a_snapshot(a_model("m")))
    journal, limiter = SimpleNamespace(queue=[1, 2]), SimpleNamespace(state="shared")
    known = {
        "id": 1,
        "check_by": "listing",
        "since_at": NOON,
        "checked_at": NOON,
        "latency_ms": 42,
        "reason": "a reason",
    }
    rows = [
        known
        | {"slug": "openai", "state": "up", "id": a_provider("openai").id, "uptime": {"24 h": 0.999, "7 d": None}},
        known | {"slug": "secret-vendor", "state": "down", "uptime": {"24 h": None, "7 d": None}},
        known | {"slug": "third", "state": "up", "uptime": {"24 h": None, "7 d": None}},
    ]
    upstream_rows = (float("inf"), None if stale else rows)
    parts = {"freshness": freshness, "journal": journal, "limiter": limiter, "upstream_rows": upstream_rows}
    parts["reads"] = Connection("aperture-test-reads")
    return cast(Runtime, SimpleNamespace(**parts))


async def verbose(runtime: Runtime, access: Access | None = None) -> tuple[int, dict[str, Any]]:
    try:
        return await health.report(runtime, verbose=True, access=access)
    finally:
        await runtime.reads.close()


async def test_alive_is_a_short_answer_that_asks_no_engine(settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert await health.report(a_runtime(stale=True), verbose=False) == (
        200,
        {"status": "ok", "region": "local", "limits": "shared"},
    )


async def test_verbose_names_each_engine(engines: Path, settings: Settings) -> None:
    status, content = await verbose(a_runtime())
    assert (status, content["status"], content["engines"]) == (200, "ok", {"postgresql": "ok", "redis": "ok"})
    assert (content["catalog"], content["unsettled"]) == ({"version": 7, "models": 1}, 2)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    status, content = await verbose(a_runtime(stale=True))
    assert (status, content["status"], content["engines"]) == (200, "degraded", {"postgresql": "down", "redis": "down"})


async def test_everybody_learns_how_many_upstreams_are_in_which_state_and_no_more(engines: Path) -> None:
    _, content = await verbose(a_runtime())
    assert content["upstreams"] == {"down": 1, "up": 2}
    _, content = await verbose(a_runtime(stale=True))
    assert content["upstreams"] is None


async def test_a_key_shows_the_upstreams_that_it_may_use_and_an_administrator_s_all_with_reasons(engines: Path) -> None:
    runtime = a_runtime()
    _, content = await verbose(runtime, a_snapshot(a_model("m")).access(a_caller()))
    shown = {
        "provider": "openai",
        "state": "up",
        "since": "2026-03-01T12:00:00Z",
        "checked": "2026-03-01T12:00:00Z",
        "latency_ms": 42,
        "uptime": {"24h": 0.999, "7d": None},
    }
    assert content["upstreams"] == [shown]
    admin = a_snapshot(a_model("m"), grants=(a_grant("**", role="admin"),)).access(a_caller())
    _, content = await verbose(runtime, admin)
    assert [(each["provider"], each["reason"]) for each in content["upstreams"]] == [
        ("openai", "a reason"),
        ("secret-vendor", "a reason"),
        ("third", "a reason"),
    ]


async def test_a_process_that_drains_asks_for_no_more_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "active", True)
    status, content = await health.report(a_runtime(), verbose=False)
    assert (status, content["status"]) == (503, "draining")


def test_a_key_s_holder_learns_what_it_is_and_nothing_secret() -> None:
    caller = a_caller("gpt-*", labels={"project": "search"}, expires_at=5.0)
    shown = health.caller(caller, a_snapshot(a_model("m"), grants=(a_grant("**", role="admin"),)).access(caller), None)
    assert shown["key"] == {
        "display": "sg-ab…wxyz",
        "name": "laptop",
        "models": ["gpt-*"],
        "labels": {"project": "search"},
        "expires_at": 5.0,
    }
    assert (shown["role"], shown["user"]["email"]) == ("admin", "bob@example.com")
    assert shown["organization"] == {"id": 3, "name": "Bob"}


def test_targets_say_where_to_send_requests(settings: Settings) -> None:
    settings.PUBLIC_URL = "https://ai.example.com"
    (target,) = health.targets()["data"]
    assert target["base_url"] == "https://ai.example.com/api/v1"
