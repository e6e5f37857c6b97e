"""Codex writes a file through the gateway, on every kind of upstream."""

import pytest

from tests import node
from tests.agents.conftest import Workplace

pytestmark = [pytest.mark.server, pytest.mark.slow]

SETTINGS = """
model = "{model}"
model_provider = "aperture"
check_for_update_on_startup = false

[model_providers.aperture]
name = "Aperture"
base_url = "{url}/v1"
env_key = "APERTURE_KEY"
wire_api = "responses"

[analytics]
enabled = false
"""


@pytest.fixture(scope="module")
def codex() -> str:
    """The program."""
    return str(node.installed("@openai/codex@0.169") / "node_modules/.bin/codex")


def test_codex_by_its_settings_writes_a_file(codex: str, workplace: Workplace, vendor: str) -> None:
    workplace.settle(".codex/config.toml", SETTINGS.format(model=f"{vendor}/writer", url=workplace.url))
    printed = workplace.run(
        codex, "exec", "--dangerously-bypass-approvals-and-sandbox", workplace.order(), APERTURE_KEY=workplace.key
    )
    assert workplace.wrote() == "good morning", printed
    assert "I wrote the file." in printed
