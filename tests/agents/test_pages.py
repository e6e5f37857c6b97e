"""What the pages about clients show works as it stands, but for the address, the key and the model."""

import re
import sys
from pathlib import Path

import pytest

from tests import node
from tests.agents.conftest import Workplace

pytestmark = [pytest.mark.server, pytest.mark.slow]

PAGES = Path(__file__).parent.parent.parent / "docs/clients"
SAID = "Grüße, 世界 👋🏽!"


def shown(page: str, language: str, workplace: Workplace) -> list[str]:
    """Return a page's blocks of a language, for this gateway."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    changes = {
        "http://127.0.0.1:8000": workplace.url,
        "sg-...": workplace.key,
        "demo/chat:free": "google/gemini-2.5-pro",
    }
    for old, new in changes.items():
        found = [block.replace(old, new) for block in found]
    return found


def test_the_commands_of_curl(workplace: Workplace) -> None:
    script = "\n".join(shown("curl.md", "sh", workplace)).replace("curl http", "curl -sS --fail-with-body http")
    assert workplace.run("sh", "-ec", script).count(SAID) == 4


def test_the_program_for_node(workplace: Workplace) -> None:
    [program] = shown("sdks.md", "js", workplace)
    (workplace.project / "node_modules").symlink_to(node.installed("openai@6") / "node_modules")
    (workplace.project / "program.mjs").write_text(program, encoding="utf-8")
    assert workplace.run("node", "program.mjs") == SAID


def test_the_client_for_python(workplace: Workplace) -> None:
    [openai, *_] = shown("sdks.md", "python", workplace)
    asks = 'print(client.responses.create(model="anthropic/claude-haiku-4.5", input="Hello").output_text)'
    assert workplace.run(sys.executable, "-c", openai + asks).strip() == SAID


def test_the_settings_of_codex(workplace: Workplace) -> None:
    [settings] = shown("codex.md", "toml", workplace)
    workplace.settle(".codex/config.toml", settings)
    codex = str(node.installed("@openai/codex@0.169") / "node_modules/.bin/codex")
    printed = workplace.run(codex, "exec", "--skip-git-repo-check", "Hello", APERTURE_KEY=workplace.key)
    assert workplace.called() == {"deepseek/deepseek-chat"}, printed


def test_the_short_settings_of_codex(workplace: Workplace) -> None:
    script = shown("codex.md", "sh", workplace)[1]
    workplace.settle(".codex/config.toml", "")
    folder = node.installed("@openai/codex@0.169") / "node_modules/.bin"
    printed = workplace.run("sh", "-ec", f'PATH="{folder}:$PATH"\n{script}')
    assert workplace.called() == {"deepseek/deepseek-chat"}, printed


def test_the_settings_of_the_router(workplace: Workplace) -> None:
    [settings] = shown("claude-code.md", "json", workplace)
    workplace.settle(".claude-code-router/config.json", settings)
    claude = str(node.installed("@anthropic-ai/claude-code@2.1") / "node_modules/.bin/claude")
    router = str(node.installed("@musistudio/claude-code-router@2") / "node_modules/.bin/ccr")
    try:
        printed = workplace.run(
            router,
            *("code", "-p", workplace.order(), "--permission-mode", "acceptEdits"),
            CLAUDE_PATH=claude,
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        )
    finally:
        workplace.run(router, "stop")
    assert workplace.wrote() == "good morning", printed
