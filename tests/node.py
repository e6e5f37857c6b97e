"""Packages of Node for the tests, installed from npm into the suite's own folder.

Nothing of it is committed, nor where it came from: npm asks whichever registry this machine is set up for.
"""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import SHARED_DATA_DIR

INSTALL_TIMEOUT_S = 300
QUIETLY = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")


def installed(*packages: str) -> Path:
    """Return the folder whose `node_modules` has PACKAGES (`name@version`); skip where there is no Node, or no npm.

    Each set of packages has a folder of its own, for npm removes what an install without a lock does not name.
    """
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not on the PATH")
    name = "_".join(packages).replace("/", "-")
    folder = SHARED_DATA_DIR / "node" / name
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "installed"
    with (folder / "install.lock").open("w") as lock:
        # Of several processes that run tests, one installs and the others wait for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            (folder / "package.json").write_text("{}", encoding="utf-8")
            command = ["npm", "install", *QUIETLY, *packages]
            ended = subprocess.run(
                command, check=False, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
            )
            if ended.returncode:
                pytest.skip(f"npm could not install {' '.join(packages)}: {ended.stderr.strip()[-500:]}")
            done.touch()
    return folder
