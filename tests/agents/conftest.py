"""Real coding agents against a real web process, in front of the scripted upstream as each vendor.

What is written here of an agent's settings is what `docs/clients/` tells a person to set.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.gateway.conftest import (
    BOUNDS,
    Gateway,
    blackhole,
    gateway,
    installation,
    migrated,
    server,
    untrusted_upstream,
    upstream,
)

__all__ = ["blackhole", "gateway", "installation", "migrated", "server", "untrusted_upstream", "upstream"]

# Nobody listens there: an agent that wants to talk to anybody but the gateway fails at once.
NOBODY = "http://127.0.0.1:9"
LOOPBACK_ONLY = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), NOBODY),
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}
RUN_TIMEOUT_S = 90


@dataclass
class Workplace:
    """A person's machine: a home with settings, a folder to work in, and what they set in their shell."""

    gateway: Gateway
    home: Path
    project: Path
    # What there was before them: rows of usage, and requests that the upstream received.
    rows_before: int
    exchanges_before: int

    @property
    def url(self) -> str:
        """The gateway's address, without a path."""
        return f"http://127.0.0.1:{self.gateway.port}"

    @property
    def key(self) -> str:
        """The person's key."""
        return self.gateway.installed.key

    def settle(self, name: str, text: str) -> None:
        """Write a file of settings into the home."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, *command: str, **exported: str) -> str:
        """Run a command in the project with EXPORTED in its shell; return what it printed, once it ended well."""
        ended = subprocess.run(
            command,
            check=False,
            cwd=self.project,
            env=self.environment(**exported),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_TIMEOUT_S,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def environment(self, **exported: str) -> dict[str, str]:
        """Return the environment of a command."""
        own = {"HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb"}
        return {**own, **LOOPBACK_ONLY, **exported}

    def order(self, name: str = "notes.txt", words: str = "good morning") -> str:
        """Return what the person asks for, in the words that the scripted model knows."""
        return f"Write the file {self.project / name} with the words {words}"

    def wrote(self, name: str = "notes.txt") -> str:
        """Return what a file of the project holds."""
        return (self.project / name).read_text(encoding="utf-8").strip()

    def called(self) -> set[str]:
        """Return the models that were called here, all of which answered and are charged for."""
        upstream, installed = self.gateway.upstream, self.gateway.installed
        wanted = self.rows_before + len(upstream.exchanges) - self.exchanges_before
        upstream.wait(lambda: installed.usage_count() >= wanted)
        rows = installed.query("SELECT model, status FROM billing_usage ORDER BY request_id")[self.rows_before :]
        assert {row["status"] for row in rows} == {200}
        return {row["model"] for row in rows}


@pytest.fixture(scope="module")
def bounds() -> dict[str, str]:
    """The environment of the web process: agents' requests have no small bounds."""
    return BOUNDS | {"APERTURE_RECEIVE_TIMEOUT_SECONDS": "10", "APERTURE_IDLE_TIMEOUT_SECONDS": "20"}


@pytest.fixture(scope="module")
def populated(gateway: Gateway) -> Gateway:
    """The gateway with the four vendors, and the models that the page of recipes names."""
    from tests.agents import page
    from tests.sdk import vendors

    vendors.install(gateway.installed, gateway.upstream.base_url)
    page.install()
    gateway.follow()
    return gateway


@pytest.fixture
def workplace(populated: Gateway, tmp_path: Path) -> Iterator[Workplace]:
    """A fresh home and project."""
    before = populated.installed.usage_count(), len(populated.upstream.exchanges)
    made = Workplace(populated, tmp_path / "home", tmp_path / "project", *before)
    made.home.mkdir()
    made.project.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=made.project, check=True)
    yield made


@pytest.fixture(params=["chat", "responses", "messages", "gemini"])
def vendor(request: pytest.FixtureRequest) -> str:
    """Whose dialect the upstream speaks."""
    return str(request.param)
