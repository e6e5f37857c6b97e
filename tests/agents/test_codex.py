"""Codex writes a file through the gateway, on every kind of upstream, over its WebSocket and over HTTP."""

from collections.abc import Callable, Iterator

import pytest

from tests import node
from tests.agents.conftest import Workplace
from tests.agents.wiretap import Wiretap

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


@pytest.fixture
def tapped(workplace: Workplace) -> Iterator[Callable[..., Wiretap]]:
    """Returns a way to the gateway that tells what went over it."""
    taps: list[Wiretap] = []

    def tap(*, refuses: bool = False) -> Wiretap:
        taps.append(Wiretap(workplace.gateway.port, refuses=refuses))
        return taps[-1]

    yield tap
    for each in taps:
        each.close()


def test_codex_by_its_settings_writes_a_file(codex: str, workplace: Workplace, vendor: str) -> None:
    workplace.settle(".codex/config.toml", SETTINGS.format(model=f"{vendor}/writer", url=workplace.url))
    printed = workplace.run(
        codex, "exec", "--dangerously-bypass-approvals-and-sandbox", workplace.order(), APERTURE_KEY=workplace.key
    )
    assert workplace.wrote() == "good morning", printed
    assert "I wrote the file." in printed


def test_codex_over_its_websocket_writes_a_file(
    codex: str, workplace: Workplace, vendor: str, tapped: Callable[..., Wiretap]
) -> None:
    """It warms up, and then sends what is new alone, though nothing is stored."""
    tap = tapped()
    settings = SETTINGS.replace("wire_api =", "supports_websockets = true\nwire_api =")
    url = f"http://127.0.0.1:{tap.port}"
    workplace.settle(".codex/config.toml", settings.format(model=f"{vendor}/writer", url=url))
    printed = workplace.run(
        codex, "exec", "--dangerously-bypass-approvals-and-sandbox", workplace.order(), APERTURE_KEY=workplace.key
    )
    assert workplace.wrote() == "good morning", printed
    assert "I wrote the file." in printed
    assert "Reconnecting" not in printed

    frames = [frame for frame in tap.frames() if frame["type"] == "response.create"]
    warm, *asked = frames
    assert warm["generate"] is False
    assert all(frame["store"] is False for frame in frames)
    assert all(frame["previous_response_id"] for frame in asked)
    # What the tool printed, and nothing of what was said before.
    assert [item["type"] for item in asked[-1]["input"]] == ["function_call_output"]
    assert tap.posts() == 0
    assert len(asked) == 2
    assert workplace.called() == {f"{vendor}/writer"}
    upstream = workplace.gateway.upstream
    assert len(upstream.exchanges) - workplace.exchanges_before == len(asked)
    assert "good morning" in upstream.exchanges[-1].body.decode()


def test_codex_goes_on_over_http_where_its_websocket_is_refused(
    codex: str, workplace: Workplace, tapped: Callable[..., Wiretap]
) -> None:
    tap = tapped(refuses=True)
    settings = SETTINGS.replace("wire_api =", "supports_websockets = true\nwire_api =")
    url = f"http://127.0.0.1:{tap.port}"
    workplace.settle(".codex/config.toml", settings.format(model="messages/writer", url=url))
    printed = workplace.run(
        codex, "exec", "--dangerously-bypass-approvals-and-sandbox", workplace.order(), APERTURE_KEY=workplace.key
    )
    assert workplace.wrote() == "good morning", printed
    assert tap.refused >= 1
    assert (tap.posts(), tap.frames()) == (2, [])


def test_codex_of_the_page_with_its_own_provider_pointed_here(codex: str, workplace: Workplace) -> None:
    """It takes the address from its settings alone: OPENAI_BASE_URL is not read any more."""
    workplace.settle(".codex/config.toml", f'openai_base_url = "{workplace.url}/api/v1"\n')
    printed = workplace.run(
        *(codex, "exec", "--dangerously-bypass-approvals-and-sandbox"),
        *("--model", "deepseek/deepseek-chat", workplace.order()),
        CODEX_API_KEY=workplace.key,
    )
    assert workplace.wrote() == "good morning", printed
    assert "Reconnecting" not in printed
    assert workplace.called() == {"deepseek/deepseek-chat"}


def test_codex_goes_on_where_it_was_with_another_vendors_model(codex: str, workplace: Workplace) -> None:
    settings = SETTINGS.format(model="messages/writer", url=workplace.url)
    workplace.settle(".codex/config.toml", 'model_reasoning_effort = "high"\n' + settings)
    started = (codex, "exec", "--dangerously-bypass-approvals-and-sandbox")
    workplace.run(*started, workplace.order(), APERTURE_KEY=workplace.key)
    for model in ("gemini/writer", "responses/writer", "chat/writer", "messages/writer"):
        asked = (*started, "resume", "--last", "--model", model, "Well done. What was it?")
        assert "I wrote the file." in workplace.run(*asked, APERTURE_KEY=workplace.key), model
    assert workplace.called() == {f"{name}/writer" for name in ("messages", "gemini", "responses", "chat")}
