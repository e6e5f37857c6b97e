"""The vendors' packages for Node on every kind of upstream: `openai` as both kinds of module, `@anthropic-ai/sdk`.

The packages come from npm, into a folder beside the suite's engines: where that is kept, they are installed once. Node
finds packages from where a script stands, so the scripts of `node/` are copied there.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import node
from tests.gateway.conftest import Gateway
from tests.sdk import vendors

pytestmark = [pytest.mark.server, pytest.mark.slow]

PACKAGES = ("openai@>=6", "@anthropic-ai/sdk@>=1")
SCRIPTS = Path(__file__).with_name("node")
SCRIPT_TIMEOUT_S = 120
OPENAI = {
    f"{api}{scenario}"
    for api in ("chat", "responses")
    for scenario in ("Text", "Stream", "Tools", "Structured", "Image", "Error")
}
ANTHROPIC = {"text", "stream", "tools", "toolRunner", "structured", "image", "error", "count"}


@pytest.fixture(scope="module")
def folder() -> Path:
    """Where the scripts and the packages are."""
    made = node.installed(*PACKAGES)
    for script in SCRIPTS.iterdir():
        shutil.copy(script, made)
    return made


@pytest.fixture(scope="module")
def address(gateway: Gateway) -> str:
    """The gateway's, with a provider of each kind behind it."""
    vendors.install(gateway.installed, gateway.upstream.base_url)
    gateway.follow()
    return f"http://127.0.0.1:{gateway.port}"


@pytest.mark.parametrize("vendor", vendors.VENDORS)
@pytest.mark.parametrize(
    ("script", "scenarios"),
    [("openai_module.mjs", OPENAI), ("openai_commonjs.cjs", OPENAI), ("anthropic_module.mjs", ANTHROPIC)],
)
def test_every_scenario_passes(
    folder: Path, address: str, gateway: Gateway, script: str, scenarios: set[str], vendor: str
) -> None:
    ran = subprocess.run(
        ["node", str(folder / script), address, gateway.installed.key, vendor],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == dict.fromkeys(scenarios, "passed")
