"""Checking a document field by field: every problem is listed with its place, and no secret is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.configuration import document, outcome, statement
from gateway.configuration.fields import Fields
from gateway.configuration.grants import CAPABILITY, PLAIN_KEYS
from gateway.configuration.image import Image
from gateway.configuration.problem import Problem, location
from gateway.configuration.statement import MODEL_KEYS, PROVIDER_KEYS, SECTIONS, TARGET_KEYS, Statement

PROVIDER = {"baseurl": "https://api.example.com/v1", "apikey": "sk-1", "models": ["m"]}


def stated(data: dict[str, Any], environment: dict[str, str] | None = None) -> Statement:
    return statement.of(document.Document(data), environment or {})


def provider(**fields: Any) -> dict[str, Any]:
    return {"providers": {"p": PROVIDER | fields}}


def columns(**fields: Any) -> dict[str, Any]:
    wanted = stated(provider(**fields))
    assert not [problem for problem in wanted.problems if problem.fatal]
    assert wanted.providers is not None
    return wanted.providers["p"].columns


def problems(data: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(problem.severity, problem.location, problem.message) for problem in stated(data).problems]


def test_without_a_compatibility_block_only_openai_chat_is_on() -> None:
    assert columns()["flags"] == ["openai_chat"]


def test_a_compatibility_block_says_exactly_what_is_on() -> None:
    assert columns(compatibility={"openai_responses": True})["flags"] == ["openai_responses"]
    assert columns(compatibility={"openai_chat": True, "openai_responses": False})["flags"] == ["openai_chat"]
    assert columns(compatibility={})["flags"] == []


def test_all_nine_flags_are_known() -> None:
    names = [
        "openai_chat", "openai_responses", "anthropic_messages", "gemini_generate_content", "google_generate_content",
        "google_raw_predict", "bedrock_model_invoke", "bedrock_converse", "experimental_gemini_cli_vertex_compat",
    ]  # fmt: skip
    assert columns(compatibility=dict.fromkeys(names, True))["flags"] == names


@pytest.mark.parametrize("address", ["https://api.openai.com/", "https://api.openai.com/v1", "http://127.0.0.1:9/v1/"])
def test_a_base_url_is_kept_as_given(address: str) -> None:
    assert columns(baseurl=address)["base_url"] == address


def test_headers_become_a_mapping() -> None:
    assert columns(add_headers=["X-Team: search", "x-empty:"])["add_headers"] == {"X-Team": "search", "x-empty": ""}


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"baseurl": ""}, "providers.p"),
        ({"baseurl": "api.openai.com"}, "providers.p.baseurl"),
        ({"baseurl": "ftp://x"}, "providers.p.baseurl"),
        ({"baseurl": "http://[x"}, "providers.p.baseurl"),
        ({"baseurl": "https://u:p@x"}, "providers.p.baseurl"),
        ({"baseurl": "https://x/?k=1"}, "providers.p.baseurl"),
        ({"apikey": 5}, "providers.p.apikey"),
        ({"apikey": "sk-\n1"}, "providers.p.apikey"),
        ({"authorization": "barer"}, "providers.p.authorization"),
        ({"auth_mode": "both"}, "providers.p.auth_mode"),
        ({"timeout_s": 0}, "providers.p.timeout_s"),
        ({"timeout_s": "30"}, "providers.p.timeout_s"),
        ({"timeout_s": float("inf")}, "providers.p.timeout_s"),
        ({"models": "gpt-5"}, "providers.p.models"),
        ({"models": ["a", 4]}, "providers.p.models[1]"),
        ({"models": [""]}, "providers.p.models[0]"),
        ({"models": ["x" * 257]}, "providers.p.models[0]"),
        ({"compatibility": {"openai_chat": "yes"}}, "providers.p.compatibility.openai_chat"),
        ({"preference": True}, "providers.p.preference"),
        ({"preference": 2**31}, "providers.p.preference"),
        ({"disabled": "no"}, "providers.p.disabled"),
        ({"add_headers": ["no colon"]}, "providers.p.add_headers[0]"),
        ({"add_headers": ["A: 1", "a: 2"]}, "providers.p.add_headers[1]"),
        ({"add_headers": ["A: b\r\nX: c"]}, "providers.p.add_headers[0]"),
        ({"add_headers": ["X: 1", "Transfer-Encoding: chunked"]}, "providers.p.add_headers[1]"),
        ({"model_cost_map": [{"match": "gpt-*"}]}, "providers.p.model_cost_map[0]"),
        ({"name": "a\0b"}, "providers.p.name"),
        ({"name": "\ud800"}, "providers.p.name"),
    ],
)
def test_a_wrong_field_is_an_error_at_its_place(fields: dict[str, Any], where: str) -> None:
    assert [place for severity, place, _ in problems(provider(**fields)) if severity == "error"] == [where]


@pytest.mark.parametrize(
    ("data", "where", "message"),
    [
        (provider(modls=["x"]), "providers.p.modls", 'unknown config key "modls"; did you mean models?'),
        (provider(compatibility={"openai_chat": True, "openai_chats": True}), "providers.p.compatibility.openai_chats",
         'unknown config key "openai_chats"; did you mean openai_chat?'),
        ({"provders": {}, "grants": []}, "provders", 'unknown config key "provders"; did you mean providers?'),
        ({"grants": [], "quotas": {"x": {}}}, "quotas", "is not supported by this version; left alone"),
        ({"grants": [], "hooks": {}}, "hooks", "is not supported by this version; left alone"),
        ({"grants": [], "exporters": {}}, "exporters", "is not supported by this version; left alone"),
        (provider(apikey="<your-openai-key>"), "providers.p.apikey",
         "looks like an example's placeholder; put the provider's real key here"),
        (provider(apikey="YOUR_API_KEY"), "providers.p.apikey",
         "looks like an example's placeholder; put the provider's real key here"),
        (provider(models=["a", "a"]), "providers.p.models[1]", "is listed twice"),
        (provider(cost_basis="opneai"), "providers.p.cost_basis", "is no known price list; did you mean openai?"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_a_warning_with_the_nearest_word(data: dict[str, Any], where: str, message: str) -> None:
    assert ("warning", where, message) in problems(data)
    assert not [found for found in problems(data) if found[0] == "error"]


@pytest.mark.parametrize("data", [{}, {"quotas": {}}, {"temp_grants": [], "providers": {}}])
def test_an_empty_document_and_the_old_form_of_grants_are_errors(data: dict[str, Any]) -> None:
    assert "error" in [severity for severity, _, _ in problems(data)]


def test_all_problems_are_listed_at_once() -> None:
    data = {"providers": {"a b": {"models": 1}, "c": 5}, "grants": [{"src": ["?"], "role": "king"}], "models": []}
    assert {place for severity, place, _ in problems(data) if severity == "error"} == {
        'providers["a b"]', 'providers["a b"].models', "providers.c", "models", "grants[0].src[0]", "grants[0].role",
    }  # fmt: skip


def test_a_problem_carries_line_and_column_of_the_text() -> None:
    text = '{"providers": {"p": {\n  "baseurl": "https://x",\n  "models": ["a", 4]}}}'
    (problem,) = [p for p in statement.of(document.read(text), {}).problems if p.fatal]
    assert (problem.location, problem.line, problem.column, problem.value) == ("providers.p.models[1]", 3, 19, "4")


WORDS = st.sampled_from([*SECTIONS, *PROVIDER_KEYS, *MODEL_KEYS, *TARGET_KEYS, *PLAIN_KEYS, "app", CAPABILITY, "p", ""])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["*", "p", "m", "https://x", "http://[", "a: b", "REDACTED:", "${X}", "1e999999999999", "p/*"])
    | st.integers(0, 1).map(lambda odd: 2**20_000 + odd)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=30,
)
ENTRIES = st.dictionaries(WORDS, st.dictionaries(WORDS, ANYTHING, max_size=8) | ANYTHING, max_size=3)


@given(
    st.fixed_dictionaries({"providers": ENTRIES, "models": ENTRIES, "grants": st.lists(ENTRIES, max_size=3)}) | ANYTHING
)
def test_no_data_whatever_breaks_the_checks(data: Any) -> None:
    wanted = statement.of(document.Document(data), {"X": "x"})
    image = outcome.after(Image(), wanted, Fields({}, {}, wanted.problems))
    assert all(isinstance(problem, Problem) for problem in wanted.problems)
    assert wanted.problems or image.rows


# --- Macros and secrets -----------------------------------------------------------------------------------------------
def test_macros_are_replaced_from_the_environment() -> None:
    wanted = stated(provider(apikey="${OPENAI_KEY}", name="$${literal} $5"), {"OPENAI_KEY": "sk-9"})
    assert wanted.providers is not None
    assert wanted.providers["p"].secrets == {"default": "sk-9"}
    assert wanted.providers["p"].columns["name"] == "${literal} $5"


def test_an_unresolved_macro_is_fatal_and_says_where() -> None:
    found = problems(provider(baseurl="https://${REGION}.example.com/${PART}"))
    assert [(severity, place) for severity, place, _ in found] == [("error", "providers.p.baseurl")]
    assert found[0][2].startswith("unsubstituted macros: [REGION, PART]")


CANARY = "canary-5f3a"


@pytest.mark.parametrize(
    "fields",
    [
        {"apikey": f"{CANARY}\n"},
        {"apikey": [CANARY]},
        {"apikey": f"<{CANARY}>"},
        {"apikey": f"keyfile::{CANARY}"},
        {"apikey": CANARY * 3000},
        {"apikeys": {"second": f"{CANARY}é"}},
        {"add_headers": [f"Authorization {CANARY}"]},
        {"add_headers": [f"Authorization: {CANARY}", f"authorization: {CANARY}2"]},
        {"baseurl": f"https://user:{CANARY}@example.com"},
        {"name": "${KEY} " * 100},
        {"models": ["${KEY}", "${KEY}"]},
        {"authorization": "${KEY}"},
    ],
)
def test_no_problem_ever_shows_a_secret(fields: dict[str, Any]) -> None:
    found = stated(provider(**fields), {"KEY": CANARY}).problems
    assert found
    assert not [problem for problem in found if CANARY in repr(problem) or CANARY in str(problem)]


# --- Grants -----------------------------------------------------------------------------------------------------------
def grants(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    wanted = stated({"grants": list(entries)})
    assert not [problem for problem in wanted.problems if problem.fatal], wanted.problems
    assert wanted.grants is not None
    return [grant.columns for grant in wanted.grants]


def test_the_pages_shape_gives_one_grant_for_each_capability() -> None:
    entry = {
        "src": ["*", "Ann@Example.com", "group:ops", "tag:ci", "key:7"],
        "app": {"tailscale.com/cap/aperture": [{"role": "admin"}, {"models": "openai/**"}, {"models": ["a", "b"]}]},
    }
    found = grants(entry)
    assert [(grant["role"], grant["model_globs"]) for grant in found] == [
        ("admin", []),
        ("", ["openai/**"]),
        ("", ["a", "b"]),
    ]
    assert found[0]["subjects"] == ["everyone", "group:ops", "key:7", "tag:ci", "user:ann@example.com"]


def test_the_plain_shape_gives_one_grant() -> None:
    (grant,) = grants({"subjects": ["everyone"], "role": "user", "models": "**", "name": "all", "quotas": ["daily"]})
    assert grant == {
        "subjects": ["everyone"], "role": "user", "model_globs": ["**"], "name": "all", "quotas": ["daily"],
        "hooks": [], "add_headers": {}, "enabled": True,
    }  # fmt: skip


def test_names_of_a_network_are_left_out_with_a_warning() -> None:
    assert ("warning", "grants[0].src[0]") in [p[:2] for p in problems({"grants": [{"src": ["(loopback)", "*"]}]})]
    assert grants({"src": ["(loopback)", "*"], "role": "user"})[0]["subjects"] == ["everyone"]


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"src": ["nobody in particular"]}, "grants[0].src[0]"),
        ({"role": "user"}, "grants[0]"),
        ({"src": ["*"], "role": "root"}, "grants[0].role"),
        ({"src": ["*"], "dst": ["tag:aperture"]}, "grants[0].dst"),
        ({"src": ["*"], "models": {"a": 1}}, "grants[0].models"),
        ({"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "x"}]}},
         'grants[0].app["tailscale.com/cap/aperture"][0].role'),
    ],
)  # fmt: skip
def test_a_wrong_grant_is_an_error_at_its_place(entry: dict[str, Any], where: str) -> None:
    assert [place for severity, place, _ in problems({"grants": [entry]}) if severity == "error"] == [where]


# --- Models -----------------------------------------------------------------------------------------------------------
def test_a_models_entry_states_only_what_it_names() -> None:
    wanted = stated({"models": {"openai/gpt-5": {"context_tokens": 10, "capabilities": {"vision": True}}}})
    assert wanted.models is not None
    model = wanted.models["openai/gpt-5"]
    assert model.columns == {"context_tokens": 10, "supports_vision": True, "enabled": True}
    assert (model.aliases, model.targets, model.price) == (None, None, None)


@pytest.mark.parametrize(
    ("dollars", "nanos"), [("1.25", 1_250_000_000), (0.1, 100_000_000), ("$3", 3_000_000_000), (0, 0)]
)
def test_prices_are_read_exactly(dollars: Any, nanos: int) -> None:
    wanted = stated({"models": {"m": {"price": {"input": dollars, "output": "2"}}}})
    assert wanted.models is not None
    price = wanted.models["m"].price
    assert price is not None
    assert (price["input"], price["output"], price["cache_read"]) == (nanos, 2_000_000_000, None)


@pytest.mark.parametrize("dollars", ["-1", "NaN", "1e40", "free", True, [1], "0.0000000001"])
def test_what_is_no_price_is_an_error(dollars: Any) -> None:
    found = problems({"models": {"m": {"price": {"input": dollars, "output": "2"}}}})
    assert ("error", "models.m.price.input") in [problem[:2] for problem in found]


def test_a_price_s_tiers_are_read_in_one_order() -> None:
    tiers = [
        {"service_tier": "flex", "input": 1, "output": 2},
        {"above_context_tokens": 200_000, "input": "2.5", "output": 15, "cache_read": "0.25"},
    ]
    wanted = stated({"models": {"m": {"price": {"input": "1.25", "output": 10, "tiers": tiers}}}})
    assert wanted.models is not None
    price = wanted.models["m"].price
    assert price is not None
    long, flex = price["tiers"]
    assert (long["service_tier"], long["above_context_tokens"], long["input"]) == ("", 200_000, 2_500_000_000)
    assert (flex["service_tier"], flex["above_context_tokens"], flex["output"]) == ("flex", None, 2_000_000_000)


@pytest.mark.parametrize(
    ("tier", "place", "message"),
    [
        ({"input": 1, "output": 1}, "", "needs above_context_tokens, service_tier, or both: it would be the price"),
        ({"service_tier": "Flex!", "input": 1, "output": 1}, ".service_tier", "has small letters, digits"),
        ({"above_context_tokens": -1, "input": 1, "output": 1}, ".above_context_tokens", "must be from 0"),
        ({"above_context_tokens": 5, "input": 1}, "", "lacks output"),
    ],
)
def test_what_is_no_tier_is_an_error(tier: dict[str, Any], place: str, message: str) -> None:
    found = problems({"models": {"m": {"price": {"input": 1, "output": 1, "tiers": [tier]}}}})
    assert [each for each in found if each[1] == f"models.m.price.tiers[0]{place}" and message in each[2]]


def test_a_tier_stands_in_a_price_once() -> None:
    tier = {"above_context_tokens": 5, "input": 1, "output": 1}
    found = problems({"models": {"m": {"price": {"input": 1, "output": 1, "tiers": [tier, tier]}}}})
    assert ("error", "models.m.price.tiers[1]", "is a tier that stands here already") in found


def test_a_location_reads_like_the_document() -> None:
    assert location(("models", "openai/gpt-5", "targets", 2, "id")) == 'models["openai/gpt-5"].targets[2].id'
    assert str(Problem("a.b", "is wrong", "x", line=3, column=4)) == "error: a.b, line 3, column 4: is wrong (found x)"
