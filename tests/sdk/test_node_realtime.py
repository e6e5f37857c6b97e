"""Node's realtime clients, which dial `wss://` whatever the address says: over TLS of the web process's own."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import node
from tests.gateway.conftest import self_signed
from tests.gateway.installation import Installation
from tests.gateway.test_sockets import APP, SMALL
from tests.servers import WebProcess, start_web

pytestmark = [pytest.mark.server, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("node") / "realtime.mjs"
SCRIPT_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key in one file."""
    folder = tmp_path_factory.mktemp("tls")
    self_signed(folder)
    return folder / "server.pem"


@pytest.fixture(params=["daphne", "uvicorn"])
def web(
    request: pytest.FixtureRequest, installation: Installation, engines: Path, certificate: Path
) -> Iterator[WebProcess]:
    """A web process with TLS, whose realtime route echoes."""
    environment = SMALL | {"DATABASE_URL": installation.database_url}
    environment |= {"APERTURE_TLS_CERT": str(certificate), "APERTURE_TLS_KEY": str(certificate)}
    with start_web(str(request.param), APP, engines, **environment) as process:
        yield process


def test_node_s_clients_speak_realtime(web: WebProcess, installation: Installation, certificate: Path) -> None:
    folder = node.installed("openai@>=6", "ws@>=8")
    shutil.copy(SCRIPT, folder)
    ran = subprocess.run(
        ["node", str(folder / SCRIPT.name), f"https://127.0.0.1:{web.port}", installation.key],
        cwd=folder,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": str(certificate)},
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["package"]["url"].startswith("wss://")
    assert found["package"]["type"] == "session.update"
    assert "error" not in found["package"]
    assert found["header"]["message"] == found["protocols"]["message"] == "hello"
    assert found["protocols"]["protocol"] == "realtime"
    assert len(found["header"]["requestId"]) == 36
    assert found["refused"] == {"status": 401}
