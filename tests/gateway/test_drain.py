"""A stream that is read on for its bill is settled whatever becomes of it."""

import asyncio
from typing import Any

import pytest

from gateway import drain
from gateway.wire.openai_chat import StreamRelay
from gateway.wire.sse import Framer


class Broken:
    """An answer that fails in a way that nobody thought of."""

    headers: dict[str, str] = {}
    closed = False

    @property
    def content(self) -> Any:
        raise RuntimeError("surprise")

    def close(self) -> None:
        self.closed = True


async def test_a_surprise_while_draining_is_settled_too(caplog: pytest.LogCaptureFixture) -> None:
    answer: Any = Broken()
    finished = asyncio.Event()

    async def finish() -> None:
        finished.set()

    drain.start(answer, StreamRelay("m", wants_usage=False), Framer(1000), finish)
    await drain.wait(1)
    assert finished.is_set() and answer.closed
    assert "surprise" in caplog.text
