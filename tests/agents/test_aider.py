"""Aider writes a file through the gateway, by the recipe as printed, in both of its formats."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agents.conftest import Workplace
from tests.conftest import SHARED_DATA_DIR

pytestmark = [pytest.mark.server, pytest.mark.slow]

AIDER = "aider-chat==0.86.2"
NEWEST_PYTHON = (3, 12)
ALONE = ("--no-check-update", "--analytics-disable", "--no-show-release-notes", "--no-show-model-warnings")


@pytest.fixture(scope="module")
def aider() -> str:
    """The program: the one on the PATH, or one that is installed for these tests."""
    found = shutil.which("aider")
    if found:
        return found
    if sys.version_info[:2] > NEWEST_PYTHON:
        pytest.skip(f"{AIDER} is not for this Python, and no other is on the PATH")
    return installed(SHARED_DATA_DIR / "aider")


def installed(folder: Path) -> str:
    """Install Aider into an environment of its own; return the program."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=60)
    command = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", AIDER]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if ended.returncode:
        pytest.skip(f"pip could not install {AIDER}: {ended.stderr.strip()[-500:]}")
    return str(folder / "bin/aider")


@pytest.mark.parametrize("edit_format", ["whole", "diff"])
def test_aider_writes_a_file(aider: str, workplace: Workplace, edit_format: str) -> None:
    subprocess.run(["git", "config", "user.name", "Alice"], cwd=workplace.project, check=True)
    subprocess.run(["git", "config", "user.email", "alice@example.com"], cwd=workplace.project, check=True)
    printed = workplace.run(
        aider,
        *("--model", "openai/anthropic/claude-sonnet-4.6", "--edit-format", edit_format, *ALONE),
        *("--yes", "--message", "Write the file notes.txt with the words good morning"),
        OPENAI_API_BASE=f"{workplace.url}/api/v1",
        OPENAI_API_KEY=workplace.key,
    )
    assert workplace.wrote() == "good morning", printed
    assert workplace.called() == {"anthropic/claude-sonnet-4.6"}
