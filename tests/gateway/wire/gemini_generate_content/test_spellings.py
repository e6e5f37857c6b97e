"""A field under both of its names at once: what is held would not be what an upstream goes by."""

import msgspec
import pytest

from gateway.wire.fields import InvalidRequest
from gateway.wire.registry import DIALECTS

GEMINI = DIALECTS["gemini_generate_content"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 9}}, "generationConfig.maxOutputTokens"),
        ({"generationConfig": {"candidateCount": 1, "candidate_count": 8}}, "generationConfig.candidateCount"),
        ({"generationConfig": {}, "generation_config": {"maxOutputTokens": 9}}, "generationConfig"),
    ],
)
def test_what_a_price_is_multiplied_by_has_one_name(body: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        GEMINI.read(msgspec.json.encode(body), "m", False)
    assert caught.value.param == param
