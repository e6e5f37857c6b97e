"""Which model an upstream id is."""

import pytest

from gateway.configuration.image import Image, blank
from gateway.configuration.naming import Naming


def naming(
    *targets: tuple[str, str, str], aliases: tuple[tuple[str, str], ...] = (), models: tuple[str, ...] = ()
) -> Naming:
    image = Image()
    for public_id in (*(target[0] for target in targets), *models):
        image["model"][(public_id,)] = blank("model")
    for target in targets:
        image["target"][target] = blank("target")
    for name, public_id in aliases:
        image["alias"][(name,)] = {"model": public_id}
    return Naming(image)


def test_an_id_that_nothing_bears_is_a_model_of_its_own() -> None:
    assert naming().model_of("openai", "gpt-5") == "gpt-5"


@pytest.mark.parametrize("public_id", ["gpt-5", "openai/gpt-5"])
def test_a_model_of_the_same_name_is_taken(public_id: str) -> None:
    assert naming(models=(public_id,)).model_of("openai", "gpt-5") == public_id


def test_an_alias_is_a_name_too() -> None:
    assert naming(models=("fast",), aliases=(("gpt-5", "fast"),)).model_of("openai", "gpt-5") == "fast"


def test_a_catalogued_model_is_found_under_the_vendors_own_id() -> None:
    names = naming(models=("anthropic/claude-sonnet-4.6",))
    assert names.model_of("anthropic", "claude-sonnet-4-6") == "anthropic/claude-sonnet-4.6"
    assert naming().model_of("anthropic", "claude-sonnet-4-6") == "claude-sonnet-4-6"


def test_the_same_id_at_two_providers_is_one_model() -> None:
    assert naming(("openai/gpt-5", "openai", "gpt-5")).model_of("azure", "gpt-5") == "openai/gpt-5"


def test_a_resellers_id_names_the_vendors_model() -> None:
    assert naming(("gpt-5", "openai", "gpt-5")).model_of("openrouter", "openai/gpt-5") == "gpt-5"
    assert naming(("openai/gpt-5", "openrouter", "openai/gpt-5")).model_of("openai", "gpt-5") == "openai/gpt-5"


def test_a_composite_is_not_taken_for_one_of_its_targets() -> None:
    composite = [("best", "openai", "gpt-5"), ("best", "anthropic", "claude-opus-5")]
    assert naming(*composite).model_of("openai", "gpt-5") == "gpt-5"
