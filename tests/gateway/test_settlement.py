"""A finished request becomes one row: what it used, what it cost, and nothing that a column cannot take."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from billing import money
from billing.pricing import Parts
from billing.usage import UsageRow
from gateway import settlement
from gateway.settlement import Asked, Charge, Ending
from gateway.wire.usage import Tokens
from tests.gateway.scenery import RATES, a_caller, a_target

TARGET = a_target("m")
ESTIMATE = Parts(input=5, output=6)
MARKUP = 1_200_000


def a_row(charged: Charge, *, error_code: str = "", **texts: str) -> UsageRow:
    """The row of a request that ended with this charge."""
    plain = Asked("r", "m", "openai_chat", True, "s", "curl/8")
    opened = settlement.opened(msgspec.structs.replace(plain, **texts), a_caller(), TARGET)
    return settlement.ended(opened, charged, Ending(200, error_code, 3, 9))


def test_a_request_that_is_lost_leaves_a_row_that_says_so_and_costs_nothing() -> None:
    row = settlement.opened(Asked("r", "m", "openai_chat", True, "s", "curl/8"), a_caller(), TARGET)
    assert (row.status, row.error_code, row.usage_source, row.charge_nanos) == (500, "gateway_lost", "none", 0)


def test_the_upstream_s_own_numbers_are_charged_at_the_rates_in_force() -> None:
    tokens = Tokens(input=1, cache_read=1, audio_input=1, output=1, reasoning=1, audio_output=1)
    charged = settlement.charge(TARGET, tokens, ESTIMATE, 1.0, MARKUP)
    assert (charged.source, charged.price_id, charged.cost_nanos) == ("provider", 1, 2 + 1 + 3 + 4 + 5 + 6)


def test_without_numbers_an_estimate_is_charged_and_called_so() -> None:
    charged = settlement.charge(TARGET, None, ESTIMATE, 1.0, MARKUP)
    assert (charged.source, charged.parts, charged.cost_nanos) == ("estimate", ESTIMATE, 5 * 2 + 6 * 4)
    doubtful = settlement.charge(TARGET, Tokens(input=1, sound=False), ESTIMATE, 1.0, MARKUP)
    assert (doubtful.source, doubtful.parts.input) == ("estimate", 1)


def test_the_price_is_the_one_that_has_begun() -> None:
    dear = msgspec.structs.replace(RATES, price_id=2, effective_at=100.0, input=7_000_000)
    target = msgspec.structs.replace(TARGET, prices=(dear, RATES))
    charged = [settlement.charge(target, Tokens(input=1), ESTIMATE, now, MARKUP) for now in (99.9, 100.0)]
    assert [(each.price_id, each.cost_nanos) for each in charged] == [(1, 2), (2, 7)]


def test_the_size_of_the_request_and_the_answer_s_service_tier_decide_the_price() -> None:
    long = msgspec.structs.replace(RATES, price_id=2, above_context_tokens=10, input=7_000_000)
    flex = msgspec.structs.replace(RATES, price_id=3, service_tier="flex", input=1_000_000)
    target = msgspec.structs.replace(TARGET, prices=(long, flex, RATES))
    usages = (Tokens(input=4, cache_read=6), Tokens(input=5, cache_read=6), Tokens(input=4, service_tier="flex"))
    charged = [settlement.charge(target, tokens, ESTIMATE, 1.0, MARKUP) for tokens in usages]
    assert [(each.price_id, each.cost_nanos) for each in charged] == [(1, 8 + 6), (2, 35 + 6), (3, 4)]
    row = a_row(charged[2])
    assert (row.service_tier, row.price_id) == ("flex", 3)


def test_a_target_without_a_price_costs_nothing() -> None:
    free = msgspec.structs.replace(TARGET, prices=())
    charged = settlement.charge(free, Tokens(input=10**9), ESTIMATE, 1.0, MARKUP)
    assert (charged.price_id, charged.cost_nanos, charged.charge_nanos) == (None, 0, 0)


def test_the_caller_pays_the_cost_times_the_markup_rounded_up_once() -> None:
    charged = settlement.charge(TARGET, Tokens(input=3), ESTIMATE, 1.0, MARKUP)
    assert (charged.cost_nanos, charged.charge_nanos, charged.markup_ppm) == (6, 8, MARKUP)


def test_a_free_model_costs_its_caller_nothing_whatever_it_costs_the_house() -> None:
    charged = settlement.charge(TARGET, Tokens(input=3), ESTIMATE, 1.0, 0)
    assert (charged.cost_nanos, charged.charge_nanos) == (6, 0)


def test_the_row_says_who_asked_for_what_and_where_it_went() -> None:
    tokens = Tokens(input=1, cache_read=2, audio_input=3, output=4, reasoning=5, audio_output=6)
    row = a_row(settlement.charge(TARGET, tokens, ESTIMATE, 1.0, MARKUP))
    assert (row.key_id, row.user_id, row.organization_id) == (1, 2, 3)
    assert (row.provider_id, row.target_id) == (TARGET.provider.id, TARGET.id)
    assert (row.input_tokens, row.cache_read_tokens, row.output_tokens, row.reasoning_tokens) == (1, 2, 4, 5)
    assert row.audio_tokens == 9
    assert (row.usage_source, row.price_id, row.first_byte_ms, row.duration_ms) == ("provider", 1, 3, 9)
    rest = Tokens(image_input=7, cache_write_5m=8, cache_write_1h=9, web_searches=2)
    row = a_row(settlement.charge(TARGET, rest, ESTIMATE, 1.0, MARKUP))
    assert (row.input_tokens, row.cache_write_tokens, row.searches) == (7, 17, 2)


@given(st.text(st.characters(), max_size=400))
def test_no_text_breaks_a_column(text: str) -> None:
    row = a_row(settlement.NOTHING, model=text, session_id=text, client=text, error_code=text)
    for column, chars_max in (("model", 256), ("session_id", 64), ("client", 64), ("error_code", 64)):
        value = getattr(row, column)
        assert len(value) <= chars_max
        assert value.isprintable()
        value.encode()


def test_plain_text_stays_as_it_is() -> None:
    assert settlement.clean("vendor/Modèle 1.5 ✓", 64) == "vendor/Modèle 1.5 ✓"
    assert settlement.clean("a\x00b\nc\u2028d\ud800", 64) == "abcd"


def test_no_request_costs_more_than_a_column_holds() -> None:
    absurd = a_target("m", prices=(msgspec.structs.replace(RATES, output=9 * 10**18),))
    found = settlement.charge(absurd, Tokens(input=1, output=10**9), Parts(), 1.0, 1_200_000)
    assert (found.cost_nanos, found.charge_nanos) == (money.REQUEST_NANOS_MAX, money.REQUEST_NANOS_MAX)
    assert found.source == "estimate"


def test_what_a_caller_is_shown_of_a_free_model_is_nothing_though_its_wallet_only_records() -> None:
    tokens = Tokens(input=10, output=10)
    free = settlement.charge(TARGET, tokens, ESTIMATE, 1.0, 0)
    paid = settlement.charge(TARGET, tokens, ESTIMATE, 1.0, 1_000_000)
    assert [settlement.shown_nanos(each, metered=False) for each in (free, paid)] == [0, paid.cost_nanos]
    assert settlement.shown_nanos(paid, metered=True) == paid.charge_nanos


def test_tokens_of_every_kind_count_in_limits() -> None:
    parts = Parts(1, 10, 100, 1_000, 10_000, 100_000, 10**6, 10**7, 10**8, web_searches=5)
    assert settlement.tokens(settlement.priced(TARGET, parts, "provider", 1.0, MARKUP)) == 111_111_111
