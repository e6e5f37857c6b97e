"""The load of the realtime part: what it sends comes back, and its round trips are counted."""

import asyncio
from pathlib import Path

import pytest

from bench import realtime
from bench.process import free_port

pytestmark = pytest.mark.server


def test_frames_that_are_answered_are_round_trips_and_those_that_are_not_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime, "ANSWER_S", 0.3)

    async def load(port: int) -> tuple[realtime.Load, realtime.Load]:
        sessions = realtime.Sessions(port, "any", "")
        await sessions.open(3)
        answered = await sessions.speak(7)
        for reader in sessions.readers:
            reader.cancel()
        unheard = await sessions.speak(2)
        await sessions.close()
        return answered, unheard

    port = free_port()
    with realtime.upstream(tmp_path, port):
        answered, unheard = asyncio.run(load(port))
    assert (len(answered.trips_ms), answered.errors) == (7, 0)
    assert 0 < answered.p50_ms <= answered.p99_ms
    assert (unheard.trips_ms, unheard.errors) == ([], 2)
