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


def test_what_a_caller_names_its_fields_ends_no_header() -> None:
    (header,) = calls.losses(("a\r\nset-cookie: b\x00", "ü"))
    assert header == (b"x-aperture-dropped", b"a??set-cookie: b?, ?")
