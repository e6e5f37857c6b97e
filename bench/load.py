"""Load on one entrant: with wrk where it is installed, else with our generator; at a fixed rate always with ours."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.process import ENVIRONMENT, ROOT, BenchError

CONNECTIONS = 32
UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
MESSAGES = [
    {"role": "system", "content": "You are a friendly assistant who answers in short sentences."},
    {"role": "user", "content": "Tell me, in some three hundred words, how a gateway between two towns came to be."},
]


# Under this name an entrant asks an upstream that speaks Anthropic's dialect.
CLAUDE = "claude"


@dataclass(frozen=True)
class Address:
    """Where an entrant listens, and what a request to it must show."""

    port: int
    key: str = "none"
    model: str = "gpt-4o"
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, streamed: bool) -> str:
        """Return the request's body."""
        fields = {"model": self.model, "messages": MESSAGES, "temperature": 0.7, "max_tokens": 300}
        return json.dumps(fields | ({"stream": True} if streamed else {}), separators=(",", ":"))

    def all_headers(self) -> dict[str, str]:
        """Return the request's headers."""
        return {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}", **self.headers}

    def request(self, streamed: bool) -> str:
        """Return the whole request as it goes over the wire."""
        body = self.body(streamed)
        headers = {"Host": f"127.0.0.1:{self.port}", **self.all_headers(), "Content-Length": str(len(body))}
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        return f"POST /v1/chat/completions HTTP/1.1\r\n{''.join(lines)}\r\n{body}"


@dataclass(frozen=True)
class Result:
    """What a generator saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int


def full(address: Address, streamed: bool, seconds: int, folder: Path) -> Result:
    """Load as much as 32 connections can, each asking again as soon as it was answered."""
    if shutil.which("wrk"):
        return _wrk(address, streamed, seconds, folder)
    return _generate(address, [address.request(streamed)], seconds=seconds)


def fixed_rate(address: Address, rate: int, seconds: int) -> Result:
    """Load with so many JSON requests a second, whatever the answers do."""
    return _generate(address, [address.request(False)], rate=rate, seconds=seconds)


def fixed_count(address: Address, count: int) -> Result:
    """Load with so many requests in all, every tenth of them a stream."""
    return _generate(address, [address.request(False)] * 9 + [address.request(True)], count=count)


def _generate(
    address: Address,
    requests: list[str],
    *,
    rate: int | None = None,
    count: int | None = None,
    seconds: int | None = None,
) -> Result:
    order: dict[str, Any] = {"port": address.port, "requests": requests, "connections": CONNECTIONS}
    order |= {"rate": rate, "count": count, "seconds": seconds}
    # A hundred requests a second are fewer than the slowest entrant answers.
    most_s = 60 + (seconds or 0) + (count or 0) / 100
    answer = _output([sys.executable, "-m", "bench.generator"], json.dumps(order), most_s)
    return Result(**json.loads(answer))


def _wrk(address: Address, streamed: bool, seconds: int, folder: Path) -> Result:
    lines = ['wrk.method = "POST"', f"wrk.body = {json.dumps(address.body(streamed))}"]
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in address.all_headers().items()]
    script = folder / "request.lua"
    script.write_text("\n".join(lines), encoding="ascii")
    url = f"http://127.0.0.1:{address.port}/v1/chat/completions"
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "--timeout", "30", "--latency", "-s", str(script)]
    return parsed(_output(["wrk", *options, url], "", seconds + 60))


def _output(command: list[str], text: str, most_s: float) -> str:
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=most_s, cwd=ROOT, env=ENVIRONMENT, check=True
        )
    except subprocess.TimeoutExpired:
        raise BenchError(
            f"{command[0]} did not end within {most_s:.0f} s; the entrant answers hardly at all."
        ) from None
    except subprocess.CalledProcessError as error:
        raise BenchError(f"{command[0]} failed: {error.stderr or error.stdout}") from None
    return done.stdout


def parsed(output: str) -> Result:
    """Read what wrk printed."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", output)
    if not total:
        raise BenchError(f"wrk printed no result: {output}")
    refused = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", output)))
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    return Result(
        requests=int(total[1]) - refused,
        seconds=float(total[2]) * UNITS_MS[total[3]] / 1000,
        p50_ms=_percentile(output, "50%"),
        p99_ms=_percentile(output, "99%"),
        errors=refused + (sum(map(int, sockets.groups())) if sockets else 0),
    )


def _percentile(output: str, name: str) -> float:
    found = re.search(rf"^\s*{name}\s+([\d.]+)(us|ms|s|m)\s*$", output, re.MULTILINE)
    return float(found[1]) * UNITS_MS[found[2]] if found else 0.0
