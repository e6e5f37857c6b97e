"""The gateway as an operator runs it: `manage.py serve` on a fresh data folder, a provider, a price, a grant, a key.

Invariants: nothing is left out of the path that is measured: authentication, grants, routing, rewriting of the model's
name both ways, price, and a usage row for every request before its last byte; the processes are found by the ids
that `serve` itself writes.
"""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.entrant import READY_S, Entrant, ready
from bench.load import CLAUDE, Address
from bench.process import ENVIRONMENT, ROOT, BenchError, free_port, running

EMAIL = "bench@example.com"
MODEL = "bench/gpt-4o"
CLAUDE_MODEL = f"bench/{CLAUDE}"
REALTIME_MODEL = "bench/gpt-realtime"
COUNT = "from billing.models import Usage; print(Usage.objects.filter(status=200, input_tokens__gt=0).count())"

# A prepaid wallet that pays for all of it, so that every request is held, charged and posted; and limits that nobody
# reaches, so that every request is counted.
CREDIT = """
from accounts.models import User
from billing import ledger, money
from billing.models import House, Kind, Limit
user = User.objects.get(email="{email}")
ledger.credit(user.personal.pk, money.of_dollars("1000000"), Kind.CREDIT, House.PROMOTIONS)
for kind in ("requests_per_minute", "tokens_per_minute"):
    Limit.objects.create(scope="user", user=user, kind=kind, amount=10**9)
"""


class Installation:
    """A data folder, set up by its first start and kept for the next ones."""

    def __init__(self, folder: Path, mock_port: int) -> None:
        self.folder = folder
        self.mock_port = mock_port
        # Where the realtime part starts its upstream.
        self.realtime_port = free_port()
        self.data_dir = folder / "data"
        self.log = folder / "gateway.log"
        self.key = ""

    @contextmanager
    def serving(self, server: str) -> Iterator[Entrant]:
        """Run it with one web process on one of the two servers."""
        port = free_port()
        command = [sys.executable, "manage.py", "serve", "--server", server, "--port", str(port)]
        with running(command, self.log, self.environment(), stop_s=60) as process:
            self.await_health(process, port)
            if not self.key:
                self.set_up()
            pids = {name: self.pid(name) for name in ("web", "postgres", "valkey")}
            address = Address(port, self.key, MODEL)
            entrant = Entrant(f"**gateway, {server}**", address, [pids.pop("web")], pids)
            yield ready(entrant, process, self.log)

    def environment(self) -> dict[str, str]:
        """Return the variables of every command of this installation."""
        return {
            "APERTURE_DATA_DIR": str(self.data_dir),
            "APERTURE_DRAIN_SECONDS": "3",
            # All sessions of the realtime part are one key's.
            "APERTURE_SOCKETS_PER_KEY": "0",
        }

    def await_health(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        """Return once the web process answers."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
            finally:
                connection.close()
        end = "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise BenchError(f"The gateway did not come up:\n{end}")

    def set_up(self) -> None:
        """Make a provider of each dialect, their models and prices, a grant and a key."""
        price = {"input": 2.5, "output": 10}
        provider = {"baseurl": f"http://127.0.0.1:{self.mock_port}", "apikey": "upstream"}
        spoken = {"input": 4, "cache_read": 0.4, "output": 16, "audio_input": 32, "audio_output": 64}
        realtime = {**provider, "baseurl": f"http://127.0.0.1:{self.realtime_port}"}
        flags = {"openai_chat": False, "anthropic_messages": True}
        document = {
            "providers": {
                "bench": provider,
                "bench-messages": {**provider, "compatibility": flags},
                "bench-realtime": realtime,
            },
            "models": {
                MODEL: {"targets": [{"provider": "bench", "id": "gpt-4o", "price": price}]},
                CLAUDE_MODEL: {"targets": [{"provider": "bench-messages", "id": CLAUDE, "price": price}]},
                REALTIME_MODEL: {"targets": [{"provider": "bench-realtime", "id": "gpt-realtime", "price": spoken}]},
            },
            "grants": [{"name": "bench", "src": [EMAIL], "role": "user", "models": "bench/**"}],
        }
        path = self.folder / "installation.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        self.manage("import_config", str(path))
        self.key = self.manage("create_key", "--email", EMAIL).strip()
        self.manage("shell", "--no-imports", "-c", CREDIT.format(email=EMAIL))

    def manage(self, *words: str) -> str:
        """Run a command of manage.py; return what it printed."""
        command = [sys.executable, "manage.py", *words]
        environment = ENVIRONMENT | self.environment()
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise BenchError(f"manage.py {words[0]} failed: {done.stderr}{done.stdout}")
        return done.stdout

    def usage_rows(self) -> int:
        """Return how many usage rows of whole answers there are."""
        return int(self.manage("shell", "--no-imports", "-c", COUNT).split()[-1])

    def pid(self, name: str) -> int:
        """Return the id of one of its processes."""
        return int((self.data_dir / "run" / f"{name}.pid").read_text(encoding="utf-8").split()[0])
