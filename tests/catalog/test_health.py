"""How a subject does: the decision, when to look again, what the operator is told, and uptimes."""

from datetime import UTC, datetime, timedelta

import pytest

from catalog import health
from catalog.health import ALIVE, DOWN, FAILED, FAILING, OK, REFUSED, UNKNOWN, UP, Condition, Signal, Span, Thresholds

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def after(*outcomes: str, thresholds: Thresholds = health.USUAL) -> Condition:
    """Return the condition after signals of these outcomes, a minute apart."""
    before = Condition()
    for number, outcome in enumerate(outcomes):
        before = health.decide(before, Signal(outcome, NOON + number * MINUTE, f"{outcome} {number}"), thresholds)
    return before


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ((), UNKNOWN),
        ((OK,), UP),
        ((FAILED,), FAILING),
        ((OK, FAILED), FAILING),
        ((OK, FAILED, OK), UP),
        ((OK, FAILED, FAILED), DOWN),
        ((FAILED, OK, FAILED), FAILING),
        ((FAILED, FAILED, FAILED, OK), UP),
        ((OK, REFUSED), REFUSED),
        ((REFUSED, OK), UP),
        ((ALIVE,), UNKNOWN),
        ((OK, FAILED, ALIVE, FAILED), DOWN),
        ((FAILED, FAILED, ALIVE), DOWN),
        # A connection that fails says nothing of a credential that was refused.
        ((REFUSED, FAILED, FAILED), REFUSED),
    ],
)
def test_two_failures_in_a_row_are_down_one_success_is_up_and_a_refusal_counts_at_once(
    outcomes: tuple[str, ...], state: str
) -> None:
    assert after(*outcomes).state == state


def test_traffic_may_ask_for_more_failures_than_checks_do() -> None:
    assert after(FAILED, FAILED, thresholds=Thresholds(down_after=3)).state == FAILING
    assert after(FAILED, FAILED, FAILED, thresholds=Thresholds(down_after=3)).state == DOWN


def test_a_state_lasts_since_it_began_and_its_reason_is_the_latest() -> None:
    down = after(FAILED, FAILED, FAILED)
    assert (down.since_at, down.reason, down.failures) == (NOON + MINUTE, "failed 2", 3)
    assert after(OK, OK).since_at == NOON


def test_a_reason_is_cut_to_what_is_kept() -> None:
    assert len(health.decide(Condition(), Signal(FAILED, NOON, "x" * 5000)).reason) == health.REASON_CHARS_MAX


def test_who_is_down_or_refused_is_out_of_the_plan() -> None:
    assert [state for state in health.STATES if Condition(state).is_out] == [DOWN, REFUSED]


def test_one_good_credential_is_enough_for_a_provider() -> None:
    def verdict(*outcomes: str) -> str:
        found = health.together(Signal(outcome, NOON) for outcome in outcomes)
        return found.outcome if found else ""

    assert verdict(REFUSED, OK, FAILED) == OK
    assert verdict(REFUSED, REFUSED) == REFUSED
    assert verdict(REFUSED, FAILED) == FAILED
    assert verdict(FAILED, ALIVE) == ALIVE
    assert verdict() == ""


def test_what_failed_is_looked_at_sooner_then_ever_later_and_never_after_the_interval() -> None:
    pauses = [health.pause_s(after(*[FAILED] * count), 60) for count in range(1, 8)]
    assert pauses == [5, 10, 20, 40, 60, 60, 60]
    assert health.pause_s(after(OK), 60) == 60
    assert health.pause_s(after(REFUSED), 60) == 60
    assert health.pause_s(after(*[FAILED] * 500), 86_400) == 86_400
    assert health.pause_s(after(FAILED), 2) == 2


def test_a_bad_state_is_told_at_once_and_once() -> None:
    assert health.to_tell(after(FAILED), "", 0, NOON) == ""
    assert health.to_tell(after(FAILED, FAILED), "", 1, NOON + MINUTE) == DOWN
    assert health.to_tell(after(FAILED, FAILED), DOWN, 1, NOON + 50 * MINUTE) == ""
    assert health.to_tell(after(REFUSED), "", 1, NOON) == REFUSED
    assert health.to_tell(after(REFUSED), DOWN, 1, NOON) == ""


def test_a_recovery_is_told_once_it_has_lasted() -> None:
    back = after(OK)
    assert health.to_tell(back, DOWN, 1, NOON + MINUTE) == ""
    assert health.to_tell(back, DOWN, 1, NOON + 2 * MINUTE) == UP
    assert health.to_tell(back, UP, 1, NOON + 2 * MINUTE) == ""
    assert health.to_tell(back, "", 0, NOON + 2 * MINUTE) == ""
    assert health.to_tell(after(FAILED), DOWN, 1, NOON + 9 * MINUTE) == ""


def test_who_flaps_must_stay_up_ever_longer_until_it_is_told() -> None:
    assert [health.steady(falls) // MINUTE for falls in (0, 1, 2, 3, 4, 5, 6, 100)] == [2, 2, 4, 8, 16, 32, 60, 60]
    assert health.to_tell(after(OK), DOWN, 4, NOON + 15 * MINUTE) == ""
    assert health.to_tell(after(OK), DOWN, 4, NOON + 16 * MINUTE) == UP


def test_uptime_is_the_share_of_the_known_time() -> None:
    spans = [Span(NOON, UP), Span(NOON + 6 * MINUTE, DOWN), Span(NOON + 7 * MINUTE, FAILING)]
    assert health.uptime(spans, NOON, NOON + 10 * MINUTE) == pytest.approx(0.9)
    assert health.uptime(spans, NOON + 6 * MINUTE, NOON + 8 * MINUTE) == pytest.approx(0.5)
    assert health.uptime(spans, NOON - 100 * MINUTE, NOON + 10 * MINUTE) == pytest.approx(0.9)
    assert health.uptime([Span(NOON, UNKNOWN)], NOON, NOON + MINUTE) is None
    assert health.uptime([], NOON, NOON + MINUTE) is None
    assert health.uptime([Span(NOON, REFUSED)], NOON, NOON + MINUTE) == 0


def test_states_are_read_out_of_the_changes_that_are_kept() -> None:
    now = NOON + timedelta(days=1)
    changes = [(NOON, UP, FAILING), (NOON + 2 * MINUTE, FAILING, DOWN)]
    found = health.spans(changes, Condition(DOWN), now)
    assert [(span.at, span.state) for span in found] == [
        (now - health.CHANGES_KEPT, UP),
        (NOON, FAILING),
        (NOON + 2 * MINUTE, DOWN),
    ]
    assert health.spans([], Condition(UP, NOON), now) == [Span(NOON, UP)]
    assert health.spans([], Condition(), now) == []
    shares = health.uptimes(found, now)
    assert shares["24 h"] == pytest.approx(2 / (24 * 60), abs=1e-4)
    assert shares["30 d"] == pytest.approx(29 / 30, abs=1e-3)
