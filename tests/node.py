"""Packages of Node for the tests, installed from npm into the suite's own folder.

Nothing of it is committed, nor where it came from: npm asks whichever registry this machine is set up for.
"""

import fcntl
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import SHARED_DATA_DIR

INSTALL_TIMEOUT_S = 180
# A registry that is not there is given up soon.
QUIETLY = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
BRIEFLY = ("--fetch-timeout=20000", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


def installed(*packages: str) -> Path:
    """Return the folder whose `node_modules` has PACKAGES (`name@version`); skip where there is no Node, or no npm.

    Each set of packages has a folder of its own, for npm removes what an install without a lock does not name.
    """
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not on the PATH")
    name = re.sub(r"[^A-Za-z0-9.@_-]", "-", "_".join(packages))
    folder = SHARED_DATA_DIR / "node" / name
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "installed"
    with (folder / "install.lock").open("w") as lock:
        # Of several processes that run tests, one installs and the others wait for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            (folder / "package.json").write_text("{}", encoding="utf-8")
            problem = _install(folder, packages)
            if problem:
                pytest.skip(f"npm could not install {' '.join(packages)}: {problem}")
            done.touch()
    return folder


def _install(folder: Path, packages: tuple[str, ...]) -> str:
    """Install PACKAGES; return what went wrong, or nothing. A registry that did not answer once is not asked again."""
    away = SHARED_DATA_DIR / "node" / "away"
    if away.exists():
        return away.read_text(encoding="utf-8")
    command = ["npm", "install", *QUIETLY, *BRIEFLY, *packages]
    try:
        ended = subprocess.run(
            command, check=False, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        away.write_text(f"its registry did not answer within {INSTALL_TIMEOUT_S} s", encoding="utf-8")
        return away.read_text(encoding="utf-8")
    return ended.stderr.strip()[-500:] or f"exit code {ended.returncode}" if ended.returncode else ""
