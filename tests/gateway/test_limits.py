"""Which windows a request counts in, how windows count, and what a caller is told."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import limits
from gateway.limits import DAY_MS, MINUTE_MS, NEVER, STEPS, Bound, Limits, Namer, Rule, Rules, State, Window
from gateway.snapshot import Caller, Terms
from tests.gateway.scenery import a_caller, a_grant, a_snapshot

NAME = Namer("a secret")
SANDBOX = [Rule(90, "sandbox", None, "requests_per_minute", 20), Rule(91, "sandbox", None, "requests_per_day", 200)]
PENNILESS = Terms(plan="free", plan_id=1, prepaid=True, funded=False)
STEP_MS = MINUTE_MS // STEPS

# --- The window --------------------------------------------------------------------------------------------------

arrivals = st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 6)), max_size=60)


@given(amount=st.integers(1, 12), arrivals=arrivals)
def test_no_span_of_a_window_s_length_ever_holds_more_than_the_limit(
    amount: int, arrivals: list[tuple[int, int]]
) -> None:
    window, now_ms = Window(), 1_000_000
    admitted: list[tuple[int, int]] = []
    for pause_ms, need in arrivals:
        now_ms += pause_ms
        if window.take(need, need, amount, MINUTE_MS, now_ms).retry_ms == 0:
            admitted.append((now_ms, need))
            assert sum(count for at_ms, count in admitted if now_ms - MINUTE_MS < at_ms) <= amount


@given(amount=st.integers(1, 12), arrivals=arrivals, need=st.integers(1, 12))
def test_the_time_to_wait_is_exact_to_the_millisecond(amount: int, arrivals: list[tuple[int, int]], need: int) -> None:
    window, now_ms = Window(), 1_000_000
    for pause_ms, taken in arrivals:
        now_ms += pause_ms
        window.take(taken, taken, amount, MINUTE_MS, now_ms)
    retry_ms = window.look(need, amount, MINUTE_MS, now_ms).retry_ms

    assert (retry_ms == NEVER) == (need > amount)
    if retry_ms > 0:
        assert retry_ms <= MINUTE_MS + STEP_MS
        assert window.look(need, amount, MINUTE_MS, now_ms + retry_ms - 1).retry_ms == 1
        assert window.take(need, need, amount, MINUTE_MS, now_ms + retry_ms).retry_ms == 0


@given(arrivals=arrivals)
def test_the_reset_is_the_moment_at_which_nothing_counts_any_more(arrivals: list[tuple[int, int]]) -> None:
    window, now_ms = Window(), 1_000_000
    for pause_ms, need in arrivals:
        now_ms += pause_ms
        state = window.take(need, need, 1000, MINUTE_MS, now_ms)
    if arrivals:
        assert window.look(0, 1000, MINUTE_MS, now_ms + state.reset_ms - 1).counted > 0
        assert window.look(0, 1000, MINUTE_MS, now_ms + state.reset_ms).counted == 0


@given(arrivals=arrivals, given_back=st.sets(st.integers(0, 59)))
def test_what_is_given_back_never_counted(arrivals: list[tuple[int, int]], given_back: set[int]) -> None:
    window, without = Window(), Window()
    now_ms = 1_000_000
    taken = []
    for index, (pause_ms, need) in enumerate(arrivals):
        now_ms += pause_ms
        window.take(need, need, 1000, MINUTE_MS, now_ms)
        taken.append((now_ms // STEP_MS, need))
        if index not in given_back:
            without.take(need, need, 1000, MINUTE_MS, now_ms)
    for index in given_back & set(range(len(taken))):
        window.change(-taken[index][1], taken[index][0], MINUTE_MS, now_ms)
    assert window.look(1, 1, MINUTE_MS, now_ms).counted == without.look(1, 1, MINUTE_MS, now_ms).counted
    assert window.look(1, 5, MINUTE_MS, now_ms).retry_ms == without.look(1, 5, MINUTE_MS, now_ms).retry_ms


def test_giving_back_twice_or_too_late_takes_nothing_from_others() -> None:
    window = Window()
    window.take(3, 3, 10, MINUTE_MS, 0)
    window.take(4, 4, 10, MINUTE_MS, STEP_MS)
    window.change(-3, 0, MINUTE_MS, STEP_MS)
    window.change(-3, 0, MINUTE_MS, STEP_MS)
    assert window.counted == 4
    window.change(-4, 1, MINUTE_MS, 10 * MINUTE_MS)
    assert window.look(0, 10, MINUTE_MS, 10 * MINUTE_MS) == State(0, 0, 0)


def test_more_than_was_reserved_counts_from_the_end_on() -> None:
    window = Window()
    window.take(10, 10, 100, MINUTE_MS, 0)
    window.change(50, 0, MINUTE_MS, 30_000)
    assert window.look(0, 100, MINUTE_MS, 60_250).counted == 50
    assert window.look(0, 100, MINUTE_MS, 90_250).counted == 0


def test_twenty_a_minute_are_twenty_and_the_next_one_comes_when_the_first_has_left() -> None:
    window = Window()
    waits = [window.take(1, 1, 20, MINUTE_MS, index * 1000).retry_ms for index in range(21)]
    assert waits == [0] * 20 + [MINUTE_MS + STEP_MS - 20_000]
    day = Window()
    assert [day.take(1, 1, 1, DAY_MS, 0).retry_ms for _ in range(2)] == [0, DAY_MS + DAY_MS // STEPS]


# --- What binds whom ---------------------------------------------------------------------------------------------


def bounds_of(rules: list[Rule], caller: Caller, model: str = "m", address: str = "", factor: int = 5) -> list[Bound]:
    """Return what a request of CALLER counts in."""
    found = Limits(Rules(rules, NAME, factor), caller)
    return list(found.of(model, lambda: ip_address(address) if address else None))


def test_a_caller_is_bound_by_its_key_user_organization_and_plan_and_by_the_model() -> None:
    caller = a_caller(key_id=1, user_id=2, organization_id=3, terms=Terms("pro", 4, True, True))
    scopes: list[tuple[str, Any]] = [("key", 1), ("user", 2), ("organization", 3), ("plan", 4), ("model", "openai/*")]
    rules = [Rule(index, *scope, "requests_per_minute", index + 1) for index, scope in enumerate(scopes)]
    others = [Rule(9, scope, target + 1, "requests_per_minute", 99) for scope, target in scopes[:4]]

    assert [bound.amount for bound in bounds_of(rules + others, caller, "openai/gpt")] == [1, 2, 3, 4, 5]
    assert [bound.amount for bound in bounds_of(rules + others, caller, "other/gpt")] == [1, 2, 3, 4]
    assert bounds_of(others, caller) == []
    assert not Limits(Rules(others, NAME, 5), caller)
    assert Limits(Rules(rules, NAME, 5), caller)


@pytest.mark.parametrize(
    ("terms", "limited"),
    [
        (PENNILESS, True),
        (Terms("free", 1, True, True), False),
        (Terms("free", 1, False, False), False),
        (Terms("pro", 2, True, False), False),
    ],
    ids=["no credit", "credit", "unmetered", "plan"],
)
def test_the_sandbox_is_for_prepaid_wallets_without_credit_or_plan(terms: Terms, limited: bool) -> None:
    caller = a_caller(terms=terms)
    found = bounds_of(SANDBOX, caller, "meta/llama:free", "192.0.2.1")
    assert [(bound.amount, bound.whom) for bound in found] == (
        [(20, "your user"), (200, "your user"), (100, "your address"), (1000, "your address")] if limited else []
    )
    assert bounds_of(SANDBOX, caller, "meta/llama", "192.0.2.1") == []
    assert bool(Limits(Rules(SANDBOX, NAME, 5), caller)) is limited


def test_an_installation_may_leave_addresses_unlimited() -> None:
    found = bounds_of(SANDBOX, a_caller(terms=PENNILESS), "m:free", "192.0.2.1", factor=0)
    assert [bound.amount for bound in found] == [20, 200]


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("", "", True),
        ("", "192.0.2.1", False),
    ],
)
def test_an_address_is_one_of_ipv4_and_a_64_of_ipv6(one: str, other: str, together: bool) -> None:
    def name(address: str) -> bytes:
        return bounds_of(SANDBOX, a_caller(terms=PENNILESS), "m:free", address)[2].name

    assert (name(one) == name(other)) is together


def test_counters_are_apart_for_each_subject_and_kind_and_stay_when_the_amount_changes() -> None:
    kinds = ["requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day", "concurrency"]
    scopes: list[tuple[str, Any]] = [("key", 7), ("user", 7), ("organization", 7), ("plan", 7), ("model", "**")]

    def names(amount: int) -> list[bytes]:
        rules = [Rule(1, *scope, kind, amount) for scope in scopes for kind in kinds]
        caller = a_caller(key_id=7, user_id=7, organization_id=7, terms=Terms("pro", 7, True, True))
        return [bound.name for bound in bounds_of(rules, caller)]

    assert len(set(names(1))) == 25
    assert names(1) == names(2)


def test_a_plan_s_limit_counts_for_each_organization_and_a_model_s_for_all() -> None:
    rules = [Rule(1, "plan", 4, "concurrency", 1), Rule(2, "model", "m", "concurrency", 1)]
    plan, model = zip(
        *(bounds_of(rules, a_caller(organization_id=each, terms=Terms("pro", 4, True, True))) for each in (1, 2)),
        strict=True,
    )
    assert plan[0].name != plan[1].name
    assert model[0].name == model[1].name


def test_names_say_nothing_of_whom_they_count() -> None:
    name = NAME("sandbox", "address", "192.0.2.1", "requests_per_day")
    assert name.startswith(b"aperture:limit:")
    assert b"192.0.2.1" not in name
    assert name != Namer("another secret")("sandbox", "address", "192.0.2.1", "requests_per_day")


def test_what_binds_a_caller_is_worked_out_once_for_each_snapshot() -> None:
    view, caller = a_snapshot(grants=(a_grant("**"),)), a_caller()
    assert view.access(caller).limits is view.access(caller).limits
    found = Limits(Rules([Rule(1, "model", "**", "concurrency", 1)], NAME, 5), caller)
    assert found.of("m", lambda: None) is found.of("m", lambda: None)


@pytest.mark.parametrize(
    ("kind", "need"), [("requests_per_day", (1, 1)), ("concurrency", (1, 1)), ("tokens_per_minute", (5000, 70))]
)
def test_a_request_counts_one_or_its_tokens(kind: str, need: tuple[int, int]) -> None:
    assert limits.needed(Bound(b"", kind, 100, "", False), 5000, 70) == need


def test_tokens_that_are_only_assumed_take_the_room_that_there_is() -> None:
    window = Window()
    assert window.take(60, 10, 100, MINUTE_MS, 0).taken == 60
    assert window.take(60, 10, 100, MINUTE_MS, 0).taken == 40
    assert window.take(60, 10, 100, MINUTE_MS, 0) == State(100, MINUTE_MS + STEP_MS, MINUTE_MS + STEP_MS, 0)
    assert window.take(200, 101, 100, MINUTE_MS, 0).retry_ms == NEVER


# --- What a caller is told ---------------------------------------------------------------------------------------


def a_bound(kind: str, amount: int, *, sandbox: bool = False) -> Bound:
    return Bound(b"", kind, amount, "this key", sandbox)


def test_headers_show_the_tightest_window_of_requests_and_of_tokens() -> None:
    bounds = [
        a_bound("requests_per_minute", 20),
        a_bound("requests_per_day", 200),
        a_bound("tokens_per_minute", 1000),
        a_bound("concurrency", 1),
    ]
    states = [State(5, 60_250, 0), State(195, 86_000_000, 0), State(1200, 12_500, 0), State(1, 0, 0)]
    assert dict(limits.headers(bounds, states)) == {
        b"x-ratelimit-limit-requests": b"200",
        b"x-ratelimit-remaining-requests": b"5",
        b"x-ratelimit-reset-requests": b"23h53m20s",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"0",
        b"x-ratelimit-reset-tokens": b"12.5s",
    }
    assert limits.headers(bounds[3:], states[3:]) == []
    later = [State(19, 1000, 0), State(199, 2000, 0)]
    assert dict(limits.headers(bounds[:2], later))[b"x-ratelimit-reset-requests"] == b"2s"


@pytest.mark.parametrize(
    ("span_ms", "text"),
    [(0, b"0ms"), (20, b"20ms"), (1000, b"1s"), (12_250, b"12.25s"), (360_000, b"6m0s"), (3_600_000, b"1h0m0s")],
)
def test_spans_are_written_as_openai_does(span_ms: int, text: bytes) -> None:
    assert limits.duration(span_ms) == text


def test_of_several_full_windows_the_one_to_wait_for_longest_is_named() -> None:
    bounds = [a_bound("requests_per_minute", 20), a_bound("tokens_per_day", 1000), a_bound("concurrency", 3)]
    fault = limits.refusal(bounds, [State(20, 0, 2001), State(990, 0, 59_000), State(0, 0, 0)], "")
    assert fault is not None
    assert (fault.status, fault.code, fault.row.type, fault.retry_after_s) == (
        429, "tokens_per_day", "rate_limit_exceeded", 59,
    )  # fmt: skip
    assert "1,000 tokens a day for this key" in fault.message
    alone = limits.refusal(bounds[:1], [State(20, 0, 2001)], "")
    assert alone is not None
    assert alone.retry_after_s == 3
    assert limits.refusal(bounds, [State(0, 0, 0)] * 3, "") is None


def test_what_waiting_cannot_make_possible_has_no_time_to_wait() -> None:
    bounds = [a_bound("requests_per_minute", 20), a_bound("tokens_per_minute", 1000)]
    fault = limits.refusal(bounds, [State(20, 0, 60_000), State(0, 0, NEVER)], "")
    assert fault is not None
    assert (fault.code, fault.retry_after_s) == ("tokens_per_minute", None)
    assert "alone" in fault.message


def test_the_sandbox_s_refusal_says_where_to_add_credit() -> None:
    bound = a_bound("requests_per_minute", 20, sandbox=True)
    fault = limits.refusal([bound], [State(20, 0, 1)], "https://ai.example.com/account")
    assert fault is not None
    assert (fault.code, fault.retry_after_s) == ("sandbox_limit", 1)
    assert "https://ai.example.com/account" in fault.message


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["key", "user", "organization", "plan"]), unique=True))
def test_rows_become_rules_by_the_column_of_their_scope(scopes: list[str]) -> None:
    empty = {"key_id": None, "user_id": None, "organization_id": None, "plan_id": None, "model_glob": ""}
    rows = [{"id": 1, "scope": each, **empty, f"{each}_id": 8, "kind": "concurrency", "amount": 3} for each in scopes]
    assert limits.rules_of(rows) == [Rule(1, each, 8, "concurrency", 3) for each in scopes]
    model, sandbox = ({"id": 2, "scope": each, **empty, "kind": "x", "amount": 1} for each in ("model", "sandbox"))
    found = limits.rules_of([model | {"model_glob": "a/*"}, sandbox])
    assert [rule.target for rule in found] == ["a/*", None]
