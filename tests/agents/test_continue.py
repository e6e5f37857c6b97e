"""Continue writes a file through the gateway, with both models of the page of recipes."""

import pytest

from tests import node
from tests.agents.conftest import Workplace

pytestmark = [pytest.mark.server, pytest.mark.slow]

SETTINGS = """
name: Aperture
version: 1.0.0
schema: v1
models:
  - name: Aperture · {title}
    provider: openai
    model: {model}
    apiBase: {url}/api/v1
    apiKey: {key}
    roles: [chat, edit, apply]
"""


@pytest.fixture(scope="module")
def continued() -> str:
    """The command line of Continue."""
    return str(node.installed("@continuedev/cli@1.5") / "node_modules/.bin/cn")


@pytest.mark.parametrize(
    ("title", "model"), [("GPT-5.2", "openai/gpt-5.2"), ("Claude Sonnet", "anthropic/claude-sonnet-4.6")]
)
def test_continue_writes_a_file(continued: str, workplace: Workplace, title: str, model: str) -> None:
    settings = SETTINGS.format(title=title, model=model, url=workplace.url, key=workplace.key)
    workplace.settle(".continue/config.yaml", settings)
    command = (continued, "-p", "--auto", "--config", str(workplace.home / ".continue/config.yaml"), workplace.order())
    printed = workplace.run(*command, CONTINUE_TELEMETRY_ENABLED="0")
    assert workplace.wrote() == "good morning", printed
    assert "I wrote the file." in printed
    assert workplace.called() == {model}
