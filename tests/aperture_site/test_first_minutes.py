"""The first five minutes: what the first start prints works as printed, against the demo, with OpenAI's own client."""

import json
import re
import shlex
import urllib.request
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.aperture_site.test_serve import Serving

pytestmark = pytest.mark.server

MODEL = "demo/chat:free"
QUESTION: ChatCompletionMessageParam = {"role": "user", "content": "What is the weather in Paris?"}
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a first start prints, while it serves."""
    with Serving(tmp_path_factory.mktemp("first") / "var", APERTURE_PUBLIC_URL="") as serving:
        serving.port()
        yield serving.output


@pytest.fixture
def client(output: str) -> Iterator[openai.OpenAI]:
    printed = dict(re.findall(r"^  (Base URL|API key) +(\S+)$", output, re.MULTILINE))
    with openai.OpenAI(base_url=printed["Base URL"], api_key=printed["API key"], max_retries=0) as made:
        yield made


def test_the_printed_command_works(output: str) -> None:
    line = next(line for line in output.splitlines() if line.startswith("  curl "))
    # The words of the command, sent without a shell: curl is not everywhere.
    _, url, _, bearer, _, content_type, _, body = shlex.split(line)
    headers = dict(header.split(": ", 1) for header in (bearer, content_type))
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers), timeout=30) as answer:
        message = json.load(answer)["choices"][0]["message"]["content"]
    assert "Hello, Aperture" in message


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {MODEL, "demo/embed:free"}


def test_a_chat_is_answered_whole_and_as_a_stream(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=[QUESTION])
    chunks = list(client.chat.completions.create(model=MODEL, messages=[QUESTION], stream=True))
    assert whole.model == chunks[0].model == MODEL
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content


def test_a_tool_is_called(client: openai.OpenAI) -> None:
    calls = client.chat.completions.create(model=MODEL, messages=[QUESTION], tools=[TOOL]).choices[0].message.tool_calls
    assert calls
    assert calls[0].type == "function"
    assert json.loads(calls[0].function.arguments) == {"city": "Paris"}


@pytest.mark.parametrize("form", ["float", "base64"])
def test_texts_are_embedded(client: openai.OpenAI, form: str) -> None:
    answer = client.embeddings.create(
        model="demo/embed:free", input=["one", "two"], encoding_format="float" if form == "float" else "base64"
    )
    assert answer.model == "demo/embed:free"
    assert len(answer.data) == 2


def test_the_demo_itself_is_closed_to_callers(client: openai.OpenAI) -> None:
    address = str(client.base_url).removesuffix("/api/v1/")
    direct = openai.OpenAI(base_url=f"{address}/demo/v1", api_key=client.api_key, max_retries=0)
    with direct, pytest.raises(openai.AuthenticationError):
        direct.models.list()
