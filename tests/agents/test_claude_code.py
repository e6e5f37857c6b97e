"""Claude Code writes a file through the gateway: by its own settings on every kind of upstream, and behind a router."""

import json
from collections.abc import Iterator

import pytest

from tests import node
from tests.agents.conftest import Workplace

pytestmark = [pytest.mark.server, pytest.mark.slow]

CLAUDE_CODE = "@anthropic-ai/claude-code@2.1"
# As the page of recipes prints it, but for the address and the key.
ROUTER_SETTINGS = """{
"Providers": [
{
"name": "aperture",
"api_base_url": "%s/api/v1/chat/completions",
"api_key": "%s",
"models": [
"anthropic/claude-sonnet-4.6",
"anthropic/claude-haiku-4.5",
"openai/gpt-5.2",
"deepseek/deepseek-chat"
]
}
],
"Router": {
"default": "aperture,anthropic/claude-sonnet-4.6",
"background": "aperture,anthropic/claude-haiku-4.5",
"think": "aperture,anthropic/claude-sonnet-4.6",
"longContext": "aperture,anthropic/claude-sonnet-4.6"
}
}"""


@pytest.fixture(scope="module")
def claude() -> str:
    """The program."""
    return str(node.installed(CLAUDE_CODE) / "node_modules/.bin/claude")


@pytest.mark.parametrize("credential", ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"])
def test_claude_code_by_its_settings_writes_a_file(
    claude: str, workplace: Workplace, vendor: str, credential: str
) -> None:
    printed = workplace.run(
        claude,
        *("-p", workplace.order(), "--permission-mode", "acceptEdits", "--output-format", "json"),
        ANTHROPIC_BASE_URL=workplace.url,
        ANTHROPIC_MODEL=f"{vendor}/writer",
        ANTHROPIC_SMALL_FAST_MODEL=f"{vendor}/writer",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        **{credential: workplace.key},
    )
    assert workplace.wrote() == "good morning", printed
    told = json.loads(printed)
    assert (told["result"], told["is_error"], told["num_turns"]) == ("I wrote the file.", False, 2)
    assert told["usage"]["output_tokens"] > 0


def test_claude_code_goes_on_where_it_was_with_another_vendors_model(claude: str, workplace: Workplace) -> None:
    exported = {
        "ANTHROPIC_BASE_URL": workplace.url,
        "ANTHROPIC_AUTH_TOKEN": workplace.key,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    asked = ("--permission-mode", "acceptEdits", "--model")
    workplace.run(claude, "-p", workplace.order(), *asked, "gemini/writer", **exported)
    names = ("messages", "responses", "chat", "gemini", "messages")
    for model in (f"{name}/writer" for name in names):
        printed = workplace.run(claude, "-p", "Well done. Again?", "--continue", *asked, model, **exported)
        assert "I wrote the file." in printed, model
    assert {f"{name}/writer" for name in names} <= workplace.called()


# --- Through claude-code-router ---------------------------------------------------------------------------------------
@pytest.fixture
def router(claude: str, workplace: Workplace) -> Iterator[Workplace]:
    """The router's settings; the service that it leaves running is stopped."""
    workplace.settle(".claude-code-router/config.json", ROUTER_SETTINGS % (workplace.url, workplace.key))
    yield workplace
    workplace.run(program(), "stop", CLAUDE_PATH=claude)


def program() -> str:
    """The router."""
    return str(node.installed("@musistudio/claude-code-router@2") / "node_modules/.bin/ccr")


ROUTES = {
    "default": ({"MAX_THINKING_TOKENS": "0"}, 0, "anthropic/claude-sonnet-4.6"),
    "background": ({"ANTHROPIC_MODEL": "claude-haiku-4-5"}, 0, "anthropic/claude-haiku-4.5"),
    "think": ({}, 0, "anthropic/claude-sonnet-4.6"),
    "longContext": ({}, 60_000, "anthropic/claude-sonnet-4.6"),
}


@pytest.mark.parametrize("route", ROUTES)
def test_claude_code_through_the_router_writes_a_file(claude: str, router: Workplace, route: str) -> None:
    exported, words, model = ROUTES[route]
    if words:
        (router.project / "CLAUDE.md").write_text("word " * words, encoding="utf-8")
    printed = router.run(
        program(),
        *("code", "-p", router.order(), "--permission-mode", "acceptEdits"),
        CLAUDE_PATH=claude,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        **exported,
    )
    assert router.wrote() == "good morning", printed
    assert "I wrote the file." in printed
    assert model in router.called()
    [log] = (router.home / ".claude-code-router/logs").iterdir()
    chosen = {"default": "", "background": "Using background model", "think": "Using think model"}
    assert chosen.get(route, "Using long context model") in log.read_text(encoding="utf-8")
