"""`usageMetadata` in every shape, as disjoint parts and back."""

from typing import Any

import pytest

from gateway.wire.gemini_generate_content.usage import metadata_of, tokens_of
from gateway.wire.usage import Tokens


def usage(prompt: int, made: int, total: int, **fields: Any) -> dict[str, Any]:
    return {"promptTokenCount": prompt, "candidatesTokenCount": made, "totalTokenCount": total, **fields}


def details(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": modality, "tokenCount": tokens} for modality, tokens in counts.items()]


@pytest.mark.parametrize(
    ("told", "tokens"),
    [
        (usage(10, 5, 15), Tokens(input=10, output=5)),
        ({"prompt_token_count": 10, "total_token_count": 10}, Tokens(input=10)),
        (usage(10, 5, 15, cachedContentTokenCount=4), Tokens(input=6, cache_read=4, output=5)),
        (usage(10, 5, 35, thoughtsTokenCount=20), Tokens(input=10, output=5, reasoning=20)),
        (usage(10, 5, 35), Tokens(input=10, output=5, reasoning=20)),
        (usage(10, 25, 35, thoughtsTokenCount=20), Tokens(input=10, output=5, reasoning=20)),
        (usage(10, 5, 45, toolUsePromptTokenCount=30), Tokens(input=40, output=5)),
        (
            usage(10, 5, 15, promptTokensDetails=details(TEXT=3, AUDIO=4, IMAGE=3)),
            Tokens(input=3, audio_input=4, image_input=3, output=5),
        ),
        (
            usage(
                10,
                5,
                15,
                cachedContentTokenCount=4,
                promptTokensDetails=details(TEXT=3, AUDIO=7),
                cacheTokensDetails=details(AUDIO=4),
            ),
            Tokens(input=3, cache_read=4, audio_input=3, output=5),
        ),
        (
            usage(10, 5, 15, candidatesTokensDetails=details(TEXT=1, AUDIO=4)),
            Tokens(input=10, output=1, audio_output=4),
        ),
        (usage(10, 5, 15, trafficType="ON_DEMAND_FLEX"), Tokens(input=10, output=5, service_tier="flex")),
        (usage(10, 5, 15, trafficType="ON_DEMAND"), Tokens(input=10, output=5)),
        (usage(10, 5, 15, serviceTier="standard"), Tokens(input=10, output=5)),
        (usage(10, 5, 9), Tokens(input=10, output=5, sound=False)),
        (usage(10, 5, 40, thoughtsTokenCount=20), Tokens(input=10, output=5, reasoning=20, sound=False)),
        (usage(10, -5, 10), Tokens(input=10, sound=False)),
        (usage(10, 5, 15, cachedContentTokenCount=11), Tokens(cache_read=10, output=5, sound=False)),
        (
            usage(10, 5, 15, promptTokensDetails=details(AUDIO=8, IMAGE=8)),
            Tokens(audio_input=8, image_input=2, output=5, sound=False),
        ),
        (usage(10, 5, 15, promptTokensDetails=["odd", {"modality": "AUDIO"}]), Tokens(input=10, output=5)),
    ],
)
def test_the_parts_are_disjoint(told: Any, tokens: Tokens) -> None:
    assert tokens_of(told) == tokens


@pytest.mark.parametrize("told", [None, [], {}, {"promptTokenCount": -1}, {"promptTokenCount": "many"}])
def test_what_was_not_counted_is_no_usage(told: Any) -> None:
    assert tokens_of(told) is None


def test_searches_are_bounded() -> None:
    found = tokens_of(usage(1, 1, 2), 10**6)
    assert found is not None
    assert found.web_searches == 32_767


@pytest.mark.parametrize(
    "tokens",
    [
        Tokens(),
        Tokens(input=3, cache_read=4, output=5, reasoning=6),
        Tokens(input=3, audio_input=4, image_input=5, output=1, audio_output=2, service_tier="flex"),
    ],
)
def test_what_is_told_to_a_caller_reads_the_same(tokens: Tokens) -> None:
    assert tokens_of(metadata_of(tokens)) == tokens


def test_what_was_written_to_a_cache_is_part_of_the_prompt() -> None:
    told = metadata_of(Tokens(input=1, cache_write_5m=2, cache_write_1h=4, cache_read=8, output=16))
    assert told == {
        "promptTokenCount": 15,
        "candidatesTokenCount": 16,
        "cachedContentTokenCount": 8,
        "totalTokenCount": 31,
    }
