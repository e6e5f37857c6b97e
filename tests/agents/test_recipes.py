"""The page of recipes as printed, only host and key changed: curl, Python, Node as ESM and as CommonJS."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests import node
from tests.agents.conftest import Workplace

pytestmark = [pytest.mark.server, pytest.mark.slow]

# Each below a line with its name. The page's own indentation was lost, so Python's is put back; what an example leaves
# to the one before it, its client, is repeated.
RECIPES = (Path(__file__).parent / "recipes.txt").read_text(encoding="utf-8")
HOST, KEY = "https://ai.example.com", "sg-YOUR-KEY-HERE"
SAID = "Grüße, 世界 👋🏽!"


def printed(name: str, workplace: Workplace) -> str:
    """Return a recipe, with this host and key."""
    found = re.search(rf"^=== {re.escape(name)}\n(.*?)(?=^=== |\Z)", RECIPES, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1].replace(HOST, workplace.url).replace(KEY, workplace.key).replace("sg-...", workplace.key)


# --- curl -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "model", "said"),
    [
        ("quickstart.sh", "google/gemini-3.5-flash", SAID),
        ("basic.sh", "deepseek/deepseek-chat", SAID),
        ("json.sh", "openai/gpt-5-mini", "{}"),
    ],
)
def test_curl(workplace: Workplace, name: str, model: str, said: str) -> None:
    answer = json.loads(workplace.run("sh", "-c", printed(name, workplace).replace("curl", "curl -sS", 1)))
    assert answer["choices"][0]["message"]["content"] == said
    assert answer["model"] == model
    assert workplace.called() == {model}


def test_curl_streaming(workplace: Workplace) -> None:
    lines = workplace.run("sh", "-c", printed("stream.sh", workplace).replace("curl", "curl -sS", 1)).split("\n\n")
    assert [line for line in lines if line][-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == SAID


def test_curl_of_the_models_head(workplace: Workplace) -> None:
    head = workplace.run("sh", "-c", printed("head.sh", workplace).replace("curl", "curl -sS", 1))
    assert head.startswith("HTTP/1.1 200")
    assert "x-aperture-region: test-1" in head.lower()


# --- Python -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("quickstart.py", SAID),
        ("full.py", f"{SAID}\nCost: input=11, output=7"),
        ("stream.py", SAID),
        ("tools.py", 'get_weather {"city":"K\u00f6ln"}'),
    ],
)
def test_python(workplace: Workplace, name: str, shown: str) -> None:
    program = workplace.project / "recipe.py"
    program.write_text(printed(name, workplace), encoding="utf-8")
    assert workplace.run(sys.executable, str(program)).strip() == shown


def test_python_by_the_environment_alone(workplace: Workplace) -> None:
    program = "from openai import OpenAI; print([model.id for model in OpenAI().models.list()])"
    exported = {"OPENAI_API_KEY": workplace.key, "OPENAI_BASE_URL": f"{workplace.url}/api/v1"}
    assert "anthropic/claude-haiku-4.5" in workplace.run(sys.executable, "-c", program, **exported)


# --- Node -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder that has OpenAI's package for Node."""
    return node.installed("openai@6") / "node_modules"


@pytest.mark.parametrize("name", ["quickstart.mjs", "full.mjs", "full.cjs", "stream.mjs"])
def test_node(packages: Path, workplace: Workplace, name: str) -> None:
    (workplace.project / "node_modules").symlink_to(packages)
    program = workplace.project / f"recipe{Path(name).suffix}"
    program.write_text(printed(name, workplace), encoding="utf-8")
    assert workplace.run("node", str(program), APERTURE_KEY=workplace.key).strip() == SAID
