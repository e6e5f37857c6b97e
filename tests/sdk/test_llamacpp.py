"""A genuine OpenAI-compatible server that nobody here wrote, as a provider brought by a configuration document."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import openai
import pytest
from django.core.management import call_command
from openai import OpenAI

from tests import tiny_model
from tests.gateway.conftest import Gateway
from tests.servers import ROOT

pytestmark = pytest.mark.server

MODELS = {"tiny-chat": "chat", "tiny-embedding": "embedding"}


@contextlib.contextmanager
def inference_server(model: Path, kind: str) -> Iterator[str]:
    """Run llama.cpp's server in a process of its own; the value is its address."""
    log = model.with_name(f"{kind}.log")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.sdk.inference_server", str(model), kind],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        assert address.startswith("http://127.0.0.1:"), log.read_text()
        yield address
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def client(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    """A client of a gateway that has imported both models, each at a server of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model.write(folder / "tiny.gguf")
    with ExitStack() as stack:
        providers = {
            f"local-{kind}": {
                "baseurl": stack.enter_context(inference_server(folder / "tiny.gguf", kind)),
                "apikey": "not-needed",
                "models": [name],
            }
            for name, kind in MODELS.items()
        }
        document = folder / "aperture.json"
        document.write_text(json.dumps({"providers": providers}), encoding="utf-8")
        call_command("import_config", str(document), verbosity=0)
        made = OpenAI(
            base_url=f"http://127.0.0.1:{gateway.port}/api/v1", api_key=gateway.installed.key, max_retries=0, timeout=20
        )
        stack.enter_context(made)
        wait_until_listed(made)
        yield made


def wait_until_listed(client: OpenAI) -> None:
    """Wait until the gateway has taken the import up; it promises a second."""
    until = time.monotonic() + 3
    while not set(MODELS) <= {model.id for model in client.models.list()}:
        assert time.monotonic() < until, "the imported models were not taken up within 3 s"
        time.sleep(0.05)


def test_a_chat_is_completed(client: OpenAI, gateway: Gateway) -> None:
    answer = client.chat.completions.with_raw_response.create(
        model="tiny-chat", messages=[{"role": "user", "content": "hi"}], max_tokens=8
    )
    completion = answer.parse()

    assert completion.model == "tiny-chat"
    assert completion.choices[0].message.content
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 8
    assert answer.headers["x-aperture-upstream"] == "local-chat"
    [row] = gateway.installed.usage(answer.headers["x-aperture-request-id"])
    assert row["input_tokens"] + row["cache_read_tokens"] == completion.usage.prompt_tokens
    assert (row["output_tokens"], row["usage_source"], row["status"]) == (8, "provider", 200)


def test_a_chat_is_streamed(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tiny-chat",
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=16,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    assert {chunk.model for chunk in chunks} == {"tiny-chat"}
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 16
    assert any(chunk.choices and chunk.choices[0].finish_reason == "length" for chunk in chunks)


def test_a_stream_equals_the_answer_in_one_piece(client: OpenAI) -> None:
    """At temperature 0 both hold the same text: nothing is lost or doubled on the way."""
    options = {"model": "tiny-chat", "messages": [{"role": "user", "content": "count"}], "max_tokens": 40}
    whole = client.chat.completions.create(**options, temperature=0, seed=1)  # type: ignore[call-overload]
    stream = client.chat.completions.create(**options, temperature=0, seed=1, stream=True)  # type: ignore[call-overload]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole.choices[0].message.content


def test_structured_output_is_structured(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"sunny": {"type": "boolean"}},
        "required": ["sunny"],
        "additionalProperties": False,
    }
    completion = client.chat.completions.create(
        model="tiny-chat",
        messages=[{"role": "user", "content": "weather?"}],
        max_tokens=100,
        response_format={"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}},
    )

    assert isinstance(json.loads(completion.choices[0].message.content or "")["sunny"], bool)


def test_texts_are_embedded(client: OpenAI) -> None:
    base64 = client.embeddings.create(model="tiny-embedding", input=["one", "two"])
    floats = client.embeddings.create(model="tiny-embedding", input=["one", "two"], encoding_format="float")

    assert base64.model == "tiny-embedding"
    assert [len(each.embedding) for each in base64.data] == [tiny_model.WIDTH] * 2
    for left, right in zip(base64.data, floats.data, strict=True):
        assert left.embedding == pytest.approx(right.embedding, rel=1e-4, abs=1e-6)


def test_its_refusals_are_the_callers_own(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny-chat", messages=[{"role": "user", "content": "x" * 5000}])

    assert "context size" in caught.value.message
    assert caught.value.code == "exceed_context_size_error"


def test_what_it_does_not_serve_is_its_failure(client: OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.embeddings.create(model="tiny-chat", input="x")

    assert caught.value.code == "upstream_failed"
