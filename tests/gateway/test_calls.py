"""Which dialect a request is called in, and what it is with a cap."""

import msgspec
import pytest

from gateway import calls
from gateway.wire.registry import DIALECTS
from tests.gateway.scenery import a_provider, a_target

TARGET = a_target("vendor/m")


@pytest.mark.parametrize(
    ("base_url", "parameter"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://acme.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("https://api.notopenai.com/v1", "max_tokens"),
        ("https://api.deepseek.com", "max_tokens"),
    ],
)
def test_an_answer_is_capped_under_the_name_that_the_upstream_knows(base_url: str, parameter: str) -> None:
    assert (
        calls.cap_parameter(
            DIALECTS["openai_chat"], msgspec.structs.replace(TARGET, provider=a_provider(base_url=base_url))
        )
        == parameter
    )


LIMITS = {
    "openai_chat": lambda body: body["max_tokens"],
    "openai_responses": lambda body: body["max_output_tokens"],
    "anthropic_messages": lambda body: body["max_tokens"],
    "gemini_generate_content": lambda body: body["generationConfig"]["maxOutputTokens"],
}


@pytest.mark.parametrize("upstream", LIMITS)
@pytest.mark.parametrize(
    ("wanted", "longest", "sent"), [(32_000, 16_384, 16_384), (9, 16_384, 9), (32_000, None, 32_000)]
)
def test_no_model_is_asked_by_another_dialect_for_more_than_it_can(
    upstream: str, wanted: int, longest: int | None, sent: int
) -> None:
    front = "openai_chat" if upstream == "anthropic_messages" else "anthropic_messages"
    route = calls.Route(front, DIALECTS[front])
    body = msgspec.json.encode({"model": "m", "max_tokens": wanted, "messages": [{"role": "user", "content": "Hello"}]})
    asked = route.front.read(body, None, None)
    made = calls.translated(route, DIALECTS[upstream], asked, TARGET, body, longest_tokens=longest)
    assert made is not None
    assert LIMITS[upstream](msgspec.json.decode(made.rendered.body)) == sent


def test_what_a_caller_names_its_fields_ends_no_header() -> None:
    (header,) = calls.losses(("a\r\nset-cookie: b\x00", "ü"))
    assert header == (b"x-aperture-dropped", b"a??set-cookie: b?, ?")
