"""The vendor page's OpenAI document, in a fresh installation: it imports as it stands, and its models answer."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.aperture_site.test_serve import Serving, manage, until
from tests.gateway.configuration.test_importing import PAGE
from tests.local_server import Asked, Reply, serving

pytestmark = [pytest.mark.server, pytest.mark.slow]

MODELS = ["gpt-5", "gpt-5-mini", "gpt-4.1"]


def answer(asked: Asked) -> Reply:
    """Answer like the vendor: a completion by the model that was asked for."""
    model = asked.json()["model"]
    message = {"role": "assistant", "content": f"I am {model}."}
    return Reply(
        body={
            "object": "chat.completion",
            "model": f"{model}-2026-01-01",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9},
        },
        headers={"content-type": "application/json"},
    )


def ask(port: int, path: str, key: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers), timeout=20
    ) as response:
        return json.load(response)


def test_the_pages_document_imports_and_its_models_answer(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"
    with serving(answer) as vendor, Serving(data_dir) as gateway:
        port = gateway.port()
        page = tmp_path / "openai.json"
        page.write_text(PAGE)
        imported = manage(data_dir, "import_config", str(page))
        assert imported.returncode == 0, imported.stdout + imported.stderr
        key = manage(data_dir, "create_key", "--email", "alice@example.com").stdout.strip()

        def listed() -> set[str]:
            return {model["id"] for model in ask(port, "/v1/models", key)["data"]}

        until(lambda: set(MODELS) <= listed())

        # The vendor itself is out of reach here: the same document, with only its address and key changed.
        local = PAGE.replace("https://api.openai.com/", vendor.url).replace("<your-openai-key>", "sk-local-0000")
        page.write_text(local)
        assert manage(data_dir, "import_config", str(page)).returncode == 0
        question = [{"role": "user", "content": "Who are you?"}]
        for name in (*MODELS, *(f"openai/{model}" for model in MODELS)):
            told = ask(port, "/v1/chat/completions", key, {"model": name, "messages": question})
            assert told["model"] == name
            assert told["choices"][0]["message"]["content"] == f"I am {name.removeprefix('openai/')}."

    assert {each.path for each in vendor.asked} == {"/v1/chat/completions"}
    assert {each.headers["authorization"] for each in vendor.asked} == {"Bearer sk-local-0000"}
