"""README.md does not rot: what it shows as printed is printed, and its commands, programs and documents work.

One `manage.py serve` with the demo stands for the reader's own.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog.vendors import VENDORS
from tests.aperture_site.test_serve import Serving, manage

pytestmark = pytest.mark.server

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
KEY = re.compile(r"sg-[0-9A-Za-z]{36}")
ADDRESS = "http://127.0.0.1:8000"
EMBEDDED = {"DATABASE_URL": "", "REDIS_URL": ""}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(start: str) -> list[str]:
    """Return the README's shell commands that begin so, without their comments."""
    lines = "".join(blocks("sh")).splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.startswith(start)]


def same_everywhere(text: str) -> str:
    """Return what is printed without the parts that differ from one installation to the next."""
    text = KEY.sub("KEY", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    return re.sub(r"(Password +)\S+", r"\1PASSWORD", text)


class Installation:
    """A fresh installation that serves: its data folder, what it printed, and the reader's way to it."""

    def __init__(self, data_dir: Path, serving: Serving) -> None:
        self.data_dir = data_dir
        self.address = f"http://127.0.0.1:{serving.port()}"
        self.printed = serving.output
        key = KEY.search(self.printed)
        assert key
        self.key = key[0]

    def here(self, text: str) -> str:
        """Return the README's text as its reader would type it on this installation."""
        return KEY.sub(self.key, text.replace("sg-...", self.key)).replace(ADDRESS, self.address)

    def post(self, command: str) -> dict[str, object]:
        """Send what a curl command of the README sends; curl itself is not everywhere."""
        _, url, _, bearer, _, content_type, _, body = shlex.split(self.here(command))
        headers = dict(header.split(": ", 1) for header in (bearer, content_type))
        with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers), timeout=30) as answer:
            found: dict[str, object] = json.load(answer)
        return found


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One start for all; no vendor's key of the developer's own gets in."""
    data_dir = tmp_path_factory.mktemp("readme") / "var"
    quiet = {vendor.variable: "" for vendor in VENDORS} | {"APERTURE_PUBLIC_URL": "", "APERTURE_MODE": ""}
    with Serving(data_dir, **quiet) as serving:
        yield Installation(data_dir, serving)


def test_the_first_start_prints_what_the_readme_shows(installation: Installation) -> None:
    shown = next(block for block in blocks("text") if "first sign-in" in block)
    assert same_everywhere(shown) in same_everywhere(installation.printed)


def test_the_shown_curl_command_is_answered(installation: Installation) -> None:
    shown = re.search(r"^  (curl .*)$", README, re.MULTILINE)
    assert shown
    assert "Hello, Aperture" in json.dumps(installation.post(shown[1]))


def test_the_python_examples_print_what_the_readme_shows(installation: Installation) -> None:
    examples = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(examples) == len(blocks("python"))
    program = "\n".join(code for code, _ in examples)
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", installation.here(program)],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert not done.stderr
    assert done.stdout == "".join(printed for _, printed in examples)


def test_the_shown_documents_can_be_imported(installation: Installation, tmp_path: Path) -> None:
    documents = blocks("json")
    assert documents
    for text in documents:
        file = tmp_path / "document.json"
        file.write_text(text, encoding="utf-8")
        given = {"OPENAI_API_KEY": "sk-example", "LOCAL_MODEL_URL": "http://127.0.0.1:9"}
        done = manage(installation.data_dir, "import_config", str(file), "--check", **given, **EMBEDDED)
        assert done.returncode == 0, done.stderr
        assert "error" not in done.stderr
        assert "warning" not in done.stderr


def test_the_model_without_weights_answers(installation: Installation, tmp_path: Path) -> None:
    write, serve = commands(".venv/bin/python -")
    (tmp_path / "var").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *shlex.split(write)[1:]], cwd=tmp_path, env=environment, check=True)
    with subprocess.Popen(
        [sys.executable, *shlex.split(serve)[1:]],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as model_server:
        try:
            assert model_server.stdout
            address = model_server.stdout.readline().strip()
            document = tmp_path / "local.json"
            document.write_text(next(text for text in blocks("json") if "LOCAL_MODEL_URL" in text), encoding="utf-8")
            done = manage(installation.data_dir, "import_config", str(document), LOCAL_MODEL_URL=address, **EMBEDDED)
            assert done.returncode == 0, done.stderr
            time.sleep(1)  # the second within which a gateway follows a change
            [command] = commands("curl http://127.0.0.1:8000")
            assert installation.post(command)["model"] == "tiny-chat"
        finally:
            model_server.terminate()


def ask(installation: Installation, key: str, path: str) -> Any:
    """Return what the installation answers to a key."""
    request = urllib.request.Request(f"{installation.address}{path}", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_the_shown_commands_make_keys_that_work(installation: Installation) -> None:
    keys = []
    for command in commands(".venv/bin/python manage.py create_key"):
        done = manage(installation.data_dir, *shlex.split(command)[2:], **EMBEDDED)
        keys.append(done.stdout.strip())
        assert KEY.fullmatch(keys[-1]), done.stderr
    plain, credited = keys
    models = {model["id"] for model in ask(installation, plain, "/v1/models")["data"]}
    assert models == {"demo/chat:free", "demo/embed:free"}
    me = ask(installation, credited, "/auth/me")
    assert (me["plan"], me["balance"]["mode"], me["balance"]["available"]) == ("pro", "prepaid", "5.00")
