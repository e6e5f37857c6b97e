"""A list of models reads as the vendors' own does."""

import msgspec
import pytest

from gateway import listing
from tests.gateway.scenery import a_model

FULL = a_model("gpt-5", name="GPT-5", owner="OpenAI", created_at=1_700_000_000, context_tokens=400_000)
BARE = a_model("bare", kind="embedding")


def test_openai_s_shape() -> None:
    assert listing.openai_list([FULL, BARE])["object"] == "list"
    full, bare = listing.openai_list([FULL, BARE])["data"]
    assert full == {
        "id": "gpt-5",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "OpenAI",
        "name": "GPT-5",
        "context_length": 400_000,
        "max_output_tokens": None,
        "type": "chat",
    }
    assert (bare["owned_by"], bare["name"], bare["type"]) == ("openai", "bare", "embedding")
    assert listing.openai_list([]) == {"object": "list", "data": []}


def test_anthropic_s_shape() -> None:
    found = listing.anthropic_list([FULL, BARE])
    assert (found["has_more"], found["first_id"], found["last_id"]) == (False, "gpt-5", "bare")
    assert found["data"][0] == {
        "type": "model",
        "id": "gpt-5",
        "display_name": "GPT-5",
        "created_at": "2023-11-14T22:13:20Z",
    }
    empty = listing.anthropic_list([])
    assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)


@pytest.mark.parametrize("shape", [listing.openai_model, listing.anthropic_model])
def test_one_model_is_shown_under_the_name_that_was_asked_for_and_never_with_a_secret(shape: object) -> None:
    assert callable(shape)
    shown = shape(FULL, "nick")
    assert shown["id"] == "nick"
    assert b"127.0.0.1" not in msgspec.json.encode(shown)
