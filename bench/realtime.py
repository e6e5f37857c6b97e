"""Realtime sessions: many open at once, few of them speaking. `python -m bench.realtime PORT` is their upstream.

Each frame up is a third of a second of sound, and is answered with as much in a response that is under way: so each
frame is metered as in a real session. The same load straight to the upstream is what the gateway's is compared with.
A round trip is two frames, one each way.
"""

import asyncio
import contextlib
import json
import re
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import WebSocketException

from bench.process import BenchError, running

SESSIONS = 500
FRAMES_PER_S = 50
FRAME_BYTES = 20_000
SOUND = "A" * FRAME_BYTES
OPENING_AT_ONCE = 20
# A session needs two of the gateway's descriptors, one for each side.
FILES = 4 * SESSIONS
NUMBER = re.compile(r'"event_id":"(\d+)"')
READY_S = 10.0
ANSWER_S = 5.0


@dataclass(frozen=True)
class Load:
    """What came of one load: round trips in milliseconds, and what failed."""

    trips_ms: list[float]
    errors: int

    @property
    def p50_ms(self) -> float:
        """The median round trip."""
        return median(self.trips_ms)

    @property
    def p99_ms(self) -> float:
        """What 99 of 100 round trips stay below."""
        return quantiles(self.trips_ms, n=100)[98]


@dataclass(frozen=True)
class Realtime:
    """Open sessions on one server, beside the same ones straight to the upstream."""

    server: str
    bare: Load
    gateway: Load
    session_kb: float

    @property
    def added_p99_ms(self) -> float:
        """What the gateway adds to the 99th percentile of a round trip."""
        return self.gateway.p99_ms - self.bare.p99_ms


@contextlib.contextmanager
def upstream(folder: Path, port: int) -> Iterator[None]:
    """Run the upstream, and let everything that is started from now on have enough files open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    log = folder / "realtime.log"
    with running([sys.executable, "-m", "bench.realtime", str(port)], log) as process:
        deadline = time.monotonic() + READY_S
        while not asyncio.run(_answers(port)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"The realtime upstream did not come up: {log.read_text(encoding='utf-8')}")
            time.sleep(0.1)
        yield


async def _answers(port: int) -> bool:
    try:
        async with connect(address_of(port, "x"), compression=None) as connection:
            await connection.recv()
            return True
    except (OSError, WebSocketException):
        return False


def address_of(port: int, model: str) -> str:
    """Return the address of a session."""
    return f"ws://127.0.0.1:{port}/v1/realtime?model={model}"


class Sessions:
    """Open sessions, and what they bring."""

    def __init__(self, port: int, model: str, key: str) -> None:
        self.address = address_of(port, model)
        self.key = key
        self.connections: list[ClientConnection] = []
        self.readers: list[asyncio.Task[None]] = []
        self.sent_at: dict[str, float] = {}
        self.trips_ms: list[float] = []
        self.errors = 0
        self.all_sent, self.answered = asyncio.Event(), asyncio.Event()
        self.gate = asyncio.Semaphore(OPENING_AT_ONCE)

    async def open(self, count: int) -> None:
        """Open so many more."""
        await asyncio.gather(*[self._open() for _ in range(count)])

    async def close(self) -> None:
        """Close them all."""
        for reader in self.readers:
            reader.cancel()
        await asyncio.gather(*self.readers, return_exceptions=True)
        await asyncio.gather(*[connection.close() for connection in self.connections])

    async def speak(self, frames: int) -> Load:
        """Send so many frames at the fixed rate, each in the next session; return what came of these."""
        self.trips_ms, self.sent_at, self.errors = [], {}, 0
        self.all_sent.clear()
        self.answered.clear()
        began_at = time.perf_counter()
        for number in range(frames):
            due_at = began_at + number / FRAMES_PER_S
            await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
            event = {"type": "input_audio_buffer.append", "event_id": str(number), "audio": SOUND}
            # It counts from when it was due, so that a stall hides nothing.
            self.sent_at[str(number)] = due_at
            await self.connections[number % len(self.connections)].send(json.dumps(event, separators=(",", ":")))
        self.all_sent.set()
        if self.sent_at:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.answered.wait(), ANSWER_S)
        return Load(self.trips_ms, self.errors + len(self.sent_at))

    async def _open(self) -> None:
        async with self.gate:
            headers = {"Authorization": f"Bearer {self.key}"}
            connection = await connect(self.address, additional_headers=headers, compression=None, max_queue=4)
            self.connections.append(connection)
            self.readers.append(asyncio.create_task(self._read(connection)))

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for frame in connection:
                now = time.perf_counter()
                found = NUMBER.search(str(frame[:200]))
                sent_at = self.sent_at.pop(found[1], None) if found else None
                if sent_at is not None:
                    self.trips_ms.append((now - sent_at) * 1000)
                if self.all_sent.is_set() and not self.sent_at:
                    self.answered.set()
        except WebSocketException:
            self.errors += 1


async def _serve(connection: ServerConnection) -> None:
    """Be the upstream of one session: it speaks from the beginning, as much as it hears."""
    session = {"type": "realtime", "model": "gpt-realtime", "audio": {"input": {"turn_detection": None}}}
    await connection.send(json.dumps({"type": "session.created", "event_id": "s", "session": session}))
    response = {"id": "resp_1", "status": "in_progress", "output": []}
    await connection.send(json.dumps({"type": "response.created", "event_id": "r", "response": response}))
    async for frame in connection:
        found = NUMBER.search(str(frame[:200]))
        event = {"type": "response.output_audio.delta", "event_id": found[1] if found else "", "response_id": "resp_1"}
        await connection.send(json.dumps(event | {"delta": SOUND}, separators=(",", ":")))


async def main(port: int) -> None:
    """Serve until killed."""
    async with serve(_serve, "127.0.0.1", port, compression=None, backlog=1024) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
