"""A request is held for at the price of its size, its service tier and what it asks for."""

import json
from typing import Any

import msgspec
import pytest

from gateway import admission, estimate
from gateway.admission import Quote
from gateway.errors import Fault
from gateway.wire import openai_chat
from tests.billing.scenery import a_row
from tests.gateway.scenery import RATES, a_caller, a_model, a_target

WRITES = msgspec.structs.replace(RATES, cache_write_1h=9_000_000)
LONG = msgspec.structs.replace(WRITES, price_id=2, above_context_tokens=1_000, input=7_000_000)
PRIORITY = msgspec.structs.replace(WRITES, price_id=3, service_tier="priority", input=8_000_000)
TARGET = a_target("m", prices=(LONG, PRIORITY, WRITES))


def quoted(**fields: Any) -> Quote:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields).encode()
    found = admission.quote(openai_chat.parse_request(body), a_model("m", TARGET), (TARGET,), a_caller(), body)
    assert found.rates is not None
    assert found.input_tokens == estimate.input_tokens(body)
    return found


def test_a_plain_request_is_held_for_at_the_plain_price() -> None:
    plain = quoted().rates
    assert plain is not None
    # Reasoning is dearer than the rest of an answer, and nobody knows how much of it there will be.
    assert (plain.price_id, plain.input, plain.output) == (1, 2_000_000, 5_000_000)


def test_a_long_request_is_held_for_at_its_tier() -> None:
    long = quoted(messages=[{"role": "user", "content": "word " * 1_000}]).rates
    assert long is not None and (long.price_id, long.input) == (2, 7_000_000)


@pytest.mark.parametrize(("text", "dearest"), [("Hi", 4), ("word " * 1_000, 5)])
def test_of_several_targets_the_one_that_is_dearest_for_this_request_is_held_for(text: str, dearest: int) -> None:
    talkative = msgspec.structs.replace(RATES, price_id=4, input=1_000_000, output=6_000_000, reasoning=6_000_000)
    studious = msgspec.structs.replace(RATES, price_id=5, input=90_000_000, output=5_000_000, reasoning=5_000_000)
    targets = tuple(a_target("m", prices=(rates,)) for rates in (talkative, studious))
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 5_000}).encode()
    found = admission.quote(openai_chat.parse_request(body), a_model("m", *targets), targets, a_caller(), body)
    assert found.rates is not None and found.rates.price_id == dearest


def test_a_service_tier_that_is_asked_for_is_held_for() -> None:
    asked = [quoted(service_tier=tier).rates for tier in ("priority", "flex", "auto", None)]
    assert [rates and rates.price_id for rates in asked] == [3, 1, 1, 1]


def test_cache_writes_and_sound_are_held_for_where_they_are_asked_for() -> None:
    cached = quoted(messages=[{"role": "user", "content": "Hi", "cache_control": {"type": "ephemeral"}}]).rates
    assert cached is not None and cached.input == 9_000_000
    spoken = quoted(modalities=["text", "audio"], audio={"voice": "ash"}).rates
    assert spoken is not None and (spoken.input, spoken.output) == (3_000_000, 6_000_000)


def test_a_price_that_no_column_holds_is_refused_before_anything_is_called() -> None:
    absurd = msgspec.structs.replace(RATES, output=9 * 10**18)
    target = a_target("m", prices=(absurd,))
    body = b'{"model":"m"}'
    found = admission.quote(openai_chat.parse_request(body), a_model("m", target), (target,), a_caller(), body)
    with pytest.raises(Fault) as refused:
        admission.ask(found, a_row(), None, body)
    assert (refused.value.code, refused.value.status) == ("invalid_parameter", 400)
    assert "operator" in refused.value.message


def test_a_typical_answer_of_nothing_is_held_for_all_the_same() -> None:
    """With nothing held, nothing to extend by, a stream of any length would pass."""
    model = a_model("m", TARGET, output_tokens_typical=0)
    body = b'{"model":"m"}'
    found = admission.quote(openai_chat.parse_request(body), model, (TARGET,), a_caller(), body)
    assert found.expected_tokens == admission.LEAST_OUTPUT_TOKENS


def test_what_answers_in_tokens_is_held_for_them_whatever_kind_its_model_is_said_to_be() -> None:
    image = a_model("m", TARGET, kind="image")
    body = b'{"model":"m","max_tokens":50}'
    asked = (openai_chat.parse_request(body), image, (TARGET,), a_caller(), body)
    assert admission.quote(*asked).expected_tokens == 50
    assert admission.quote(*asked, answers=False).expected_tokens == 0
