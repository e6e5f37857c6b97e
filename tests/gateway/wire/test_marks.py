"""Signatures and ids on their way through another vendor's conversation come back as they were, whatever they hold."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import marks

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["", "__aps_", "x__aps_", "a__aps_YQ_YQ", "x__aps", "apx_", "apx_YQ", "0x-", "0x-zz", "aperture1.", "a.b", "??>>~~"]
)
ORIGINS = st.sampled_from(["openai_chat", "openai_responses", "anthropic_messages", "gemini_generate_content"])


@given(TEXTS, ORIGINS, TEXTS)
def test_a_marked_signature_comes_back_with_its_origin_and_id(signature: str, origin: str, id: str) -> None:
    assert marks.unmark(marks.mark(signature, origin, id), "openai_chat") == (signature, origin, id)


@pytest.mark.parametrize("own", ["EqQBCgIYAhIM+/==", "", "c2lnbmF0dXJl"])
def test_a_signature_without_a_mark_is_the_callers_dialect_s_own(own: str) -> None:
    assert marks.unmark(own, "anthropic_messages") == (own, "anthropic_messages", "")


@pytest.mark.parametrize(
    "spoilt", ["aperture1.", "aperture1.x", "aperture1.x.y", "aperture1.x.é.é", "aperture1.x.0x-zz.A"]
)
def test_a_spoilt_mark_holds_no_signature(spoilt: str) -> None:
    assert marks.unmark(spoilt, "openai_chat")[0] == ""


def test_half_a_surrogate_which_no_json_can_carry_is_nothing() -> None:
    assert marks.unmark("aperture1.x..7aCA", "openai_chat") == ("", "x", "")
    assert marks.unmark("aperture1.x..0x-eda080", "openai_chat") == ("", "x", "")


@given(TEXTS, TEXTS, ORIGINS)
def test_a_call_s_id_carries_its_signature_and_stays_the_same_without_one(id: str, signature: str, origin: str) -> None:
    assert marks.unsigned_id(marks.signed_id(id, signature, origin)) == (
        id,
        signature,
        origin if signature or marks.ID_MARK in id else "",
    )
    if marks.ID_MARK not in id:
        assert marks.signed_id(id, "", "") == id


@given(TEXTS)
def test_an_id_without_a_signature_comes_back_as_it_is(id: str) -> None:
    assert marks.unsigned_id(marks.signed_id(id, "", "")) == (id, "", "")


@pytest.mark.parametrize(
    "looks_so", ["call__aps_", "call__aps_YQ", "call__aps_é_YQ", "call__aps_0x-6_YQ", "a__aps_YQ=_YQ"]
)
def test_an_id_that_only_looks_marked_is_an_id(looks_so: str) -> None:
    assert marks.unsigned_id(looks_so) == (looks_so, "", "")


@given(TEXTS)
def test_a_safe_id_has_letters_that_everybody_takes_and_can_be_reversed(id: str) -> None:
    safe = marks.safe_id(id)
    assert re.fullmatch("[A-Za-z0-9_-]+", safe)
    assert marks.original_id(safe) == id


@pytest.mark.parametrize("id", ["call_1", "toolu_01AbC-d", "x" * 64])
def test_an_id_that_is_safe_already_is_kept(id: str) -> None:
    assert marks.safe_id(id) == id


@pytest.mark.parametrize("id", ["apx_!", "apx_é", "apx_A", "apx_0x-6", "apx_YQ="])
def test_an_id_of_somebody_else_that_looks_escaped_is_kept(id: str) -> None:
    assert marks.original_id(id) == id


def test_an_id_that_is_made_is_of_its_request_and_place_and_fits_everywhere() -> None:
    made = marks.made_id("01a1faab-2d39-78a4-9bb9-82f33565e7c5", 0, 127)
    assert made == "call_2d3978a49bb982f33565e7c5_0_127"
    assert len(made) <= 40


@given(TEXTS.filter(lambda id: len(id) <= 40))
def test_an_id_that_fits_is_kept(id: str) -> None:
    assert marks.fitting_id(id, 40) == id


@given(TEXTS.map(lambda id: id + "x" * 41))
def test_for_an_id_that_does_not_fit_the_same_stands_each_time(id: str) -> None:
    assert re.fullmatch(r"call_[0-9a-f]{32}", marks.fitting_id(id, 40))
    assert marks.fitting_id(id, 40) == marks.fitting_id(id, 37) != marks.fitting_id(id + "x", 40)


@given(TEXTS, TEXTS)
def test_a_signed_id_of_safe_letters_has_safe_letters(signature: str, origin: str) -> None:
    assert re.fullmatch("[A-Za-z0-9_-]+", marks.signed_id("call_1", signature, origin))


def test_marks_are_found_in_a_body() -> None:
    assert marks.has_marks(b'{"signature":"aperture1.x.y.z"}')
    assert marks.has_marks(marks.signed_id("call_1", "s", "openai_chat").encode())
    assert marks.has_marks(base64.b64encode(marks.mark("s", "openai_chat").encode()))
    assert not marks.has_marks(b'{"signature":"EqQBCgIYAhIM","id":"call_1"}')
