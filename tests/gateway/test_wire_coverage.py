"""No branch of the translation is left untried by its own tests: what it does wrong, it does to paid answers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In this process, for another's branches would not be counted; and no plugin that measures by itself.
RUN = ("-m", "coverage", "run", "--branch", "--source", "gateway.wire", "-m", "pytest", "-q", "-n", "0")


@pytest.mark.slow
def test_every_branch_of_the_translation_is_tried(tmp_path: Path) -> None:
    # A run of its own, for with ours it would wait until this test is over.
    ours = ("APERTURE_", "DATABASE_URL", "DJANGO_", "PYTEST_", "REDIS_URL")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment["COVERAGE_FILE"] = str(tmp_path / "coverage")
    subprocess.run(
        [sys.executable, *RUN, "-p", "no:cacheprovider", "tests/gateway/wire"],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        timeout=600,
    )
    told = subprocess.run(
        [sys.executable, "-m", "coverage", "report", "--show-missing", "--skip-covered", "--fail-under", "100"],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stdout
